"""The formats in which a model is called over HTTP: OpenAI's Chat Completions and Responses, Anthropic's Messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool by the model."""

    id: str
    tool: str
    arguments: Json


class Face(Protocol):
    """One format: reading a request, and writing a reply."""

    def tools(self, request: Json) -> list[str]:
        """The names of the offered tools."""

    def tool_results(self, request: Json) -> list[str]:
        """The text of each tool's answer so far."""

    def reply(self, request: Json, answer: Call | str) -> str:
        """The body of a reply: events if a stream is requested."""


class ChatCompletions:
    """https://platform.openai.com/docs/api-reference/chat."""

    def tools(self, request: Json) -> list[str]:
        return [tool["function"]["name"] for tool in request.get("tools", ())]

    def tool_results(self, request: Json) -> list[str]:
        return [_text(message["content"]) for message in request["messages"] if message["role"] == "tool"]

    def reply(self, request: Json, answer: Call | str) -> str:
        message: Json = {"role": "assistant", "content": "" if isinstance(answer, Call) else answer}
        if isinstance(answer, Call):
            function = {"name": answer.tool, "arguments": json.dumps(answer.arguments)}
            message |= {"tool_calls": [{"index": 0, "id": answer.id, "type": "function", "function": function}]}
        about = {"id": "chat_1", "created": 1, "model": "scripted"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        finish = {"index": 0, "finish_reason": "tool_calls" if isinstance(answer, Call) else "stop"}
        if not request.get("stream"):
            choices = [{**finish, "message": message}]
            return json.dumps({**about, "object": "chat.completion", "choices": choices, "usage": usage})
        part = {**about, "object": "chat.completion.chunk"}
        parts = [
            {**part, "choices": [{"index": 0, "finish_reason": None, "delta": message}]},
            {**part, "choices": [{**finish, "delta": {}}]},
            {**part, "choices": [], "usage": usage},
        ]
        return "".join(f"data: {json.dumps(each)}\n\n" for each in parts) + "data: [DONE]\n\n"


class Responses:
    """https://platform.openai.com/docs/api-reference/responses; Codex puts a server's tools into a namespace."""

    def tools(self, request: Json) -> list[str]:
        offered = []
        for tool in request.get("tools", ()):
            match tool:
                case {"type": "function", "name": name}:
                    offered.append(name)
                case {"type": "namespace", "name": name, "tools": inner}:
                    offered += [f"{name}.{each['name']}" for each in inner]
        return offered

    def tool_results(self, request: Json) -> list[str]:
        return [_text(item["output"]) for item in request["input"] if item.get("type") == "function_call_output"]

    def reply(self, request: Json, answer: Call | str) -> str:
        item: Json
        if isinstance(answer, Call):
            space, _, name = answer.tool.rpartition(".")
            item = {"type": "function_call", "id": f"fc_{answer.id}", "call_id": answer.id, "name": name}
            item |= {"arguments": json.dumps(answer.arguments)} | ({"namespace": space} if space else {})
        else:
            item = {"type": "message", "id": "msg_1", "role": "assistant"}
            item |= {"content": [{"type": "output_text", "text": answer, "annotations": []}]}
        item |= {"status": "completed"}
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        whole = {"id": "resp_1", "object": "response", "status": "completed", "output": [item], "usage": usage}
        if not request.get("stream"):
            return json.dumps(whole)
        return _events(
            {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": whole},
        )


class Messages:
    """https://docs.claude.com/en/api/messages."""

    def tools(self, request: Json) -> list[str]:
        return [tool["name"] for tool in request.get("tools", ())]

    def tool_results(self, request: Json) -> list[str]:
        return [_text(block["content"]) for block in blocks(request["messages"]) if block.get("type") == "tool_result"]

    def reply(self, request: Json, answer: Call | str) -> str:
        block: Json
        if isinstance(answer, Call):
            block = {"type": "tool_use", "id": answer.id, "name": answer.tool, "input": answer.arguments}
            start: Json = {**block, "input": {}}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(answer.arguments)}
        else:
            block = {"type": "text", "text": answer}
            start, delta = {"type": "text", "text": ""}, {"type": "text_delta", "text": answer}
        stop = {"stop_reason": "tool_use" if isinstance(answer, Call) else "end_turn", "stop_sequence": None}
        usage = {"input_tokens": 1, "output_tokens": 1}
        about: Json = {"id": "msg_1", "type": "message", "role": "assistant", "model": request["model"], "usage": usage}
        if not request.get("stream"):
            return json.dumps({**about, **stop, "content": [block]})
        return _events(
            {"type": "message_start", "message": {**about, "content": [], "stop_reason": None, "stop_sequence": None}},
            {"type": "content_block_start", "index": 0, "content_block": start},
            {"type": "content_block_delta", "index": 0, "delta": delta},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": usage},
            {"type": "message_stop"},
        )


FACES: dict[str, Face] = {"completions": ChatCompletions(), "responses": Responses(), "messages": Messages()}
"""By the last part of the URL."""


def blocks(part: object) -> Iterator[Json]:
    """Every object in a request, at any depth, in its order."""
    inner: Iterable[object] = ()
    if isinstance(part, dict):
        yield part
        inner = part.values()
    elif isinstance(part, list):
        inner = part
    for each in inner:
        yield from blocks(each)


def _text(content: object) -> str:
    """A content as a string or as blocks; of blocks the texts."""
    return (
        content if isinstance(content, str) else "\n".join(each["text"] for each in blocks(content) if "text" in each)
    )


def _events(*events: Json) -> str:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
