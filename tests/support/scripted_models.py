"""Stand-ins for the model APIs: a scripted agent behind HTTP on 127.0.0.1, in the words of each vendor.

The script decides from the results it was given, as a model would: the next call, or the last words.
"""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Results = list[dict[str, Any]]
"""The structured results so far."""
Call = tuple[str, dict[str, Any]]
BEATS = [{"time": 0, "description": "a door"}, {"time": 75, "description": "it opens"}]
SCRIPT: tuple[Callable[[Results], Call], ...] = (
    lambda _: ("create_video", {"prompt": "a lighthouse", "width": 481, "height": 480}),
    lambda _: ("create_video", {"prompt": "a lighthouse", "width": 480, "height": 480}),
    lambda told: ("get_video", {"task_id": told[1]["task_id"], "wait_seconds": 50}),
    lambda told: ("view_video", {"task_id": told[1]["task_id"], "frames": 4}),
    lambda told: ("remix_video", {"source_generation_id": told[1]["task_id"], "prompt": "at night", "amount": 6}),
    lambda told: ("get_video", {"task_id": told[4]["task_id"], "wait_seconds": 50}),
    lambda _: ("storyboard_video", {"actions": BEATS, "width": 480, "height": 480}),
    lambda told: ("get_video", {"task_id": told[6]["task_id"], "wait_seconds": 50}),
    lambda told: ("blend_videos", {"inpaint_items": [{"generation_id": told[i]["task_id"]} for i in (4, 6)]}),
    lambda told: ("get_video", {"task_id": told[8]["task_id"], "wait_seconds": 50}),
    lambda told: ("download_video", {"task_id": told[8]["task_id"]}),
)
"""A mistake and its correction, then: create, wait, view, remix, storyboard, blend, download."""


def final_answer(told: Results) -> str:
    """What the agent says in the end: where the video is."""
    return f"Saved as {told[-1]['path']}"


class Model:
    """What a stand-in was asked and told; each request's answer follows from the request alone."""

    def __init__(self, reply: Callable[[Model, dict[str, Any]], dict[str, Any]]) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.pictures: list[bytes] = []
        self.told: Results = []
        self._reply = reply

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        self.pictures = []
        return self._reply(self, request)

    def next(self, told: Results) -> Call | None:
        self.told = told
        return SCRIPT[len(told)](told) if len(told) < len(SCRIPT) else None

    def see(self, picture: str) -> None:
        self.pictures.append(urlsafe_b64decode(picture.translate({ord("+"): "-", ord("/"): "_"})))


def openai_responses(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    """`POST /responses`. As strict mode has it, every argument is sent, null where it means nothing."""
    told: Results = []
    for item in request["input"]:
        if item.get("type") == "function_call_output":
            words, *pictures = item["output"]
            told.append(_structured(words["text"]))
            for picture in pictures:
                model.see(picture["image_url"].removeprefix("data:image/jpeg;base64,"))
    output: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    if call := model.next(told):
        schemas = {tool["name"]: tool["parameters"] for tool in request["tools"]}
        output = {"type": "function_call", "id": f"fc_{len(told)}", "call_id": f"call_{len(told)}", "name": call[0]}
        output["arguments"] = json.dumps(with_nulls(schemas[call[0]], call[1]))
    else:
        output["content"] = [{"type": "output_text", "text": final_answer(told), "annotations": []}]
    about = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": request["model"]}
    return {**about, "output": [output], "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}


def openai_chat(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    """`POST /chat/completions`; strict as well."""
    told = [_structured(each["content"]) for each in request["messages"] if each["role"] == "tool"]
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if call := model.next(told):
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in request["tools"]}
        function = {"name": call[0], "arguments": json.dumps(with_nulls(schemas[call[0]], call[1]))}
        message["tool_calls"] = [{"id": f"call_{len(told)}", "type": "function", "function": function}]
    else:
        message["content"] = final_answer(told)
    choice = {"index": 0, "finish_reason": "tool_calls" if call else "stop", "message": message, "logprobs": None}
    about = {"id": "chat_1", "object": "chat.completion", "created": 1, "model": request["model"]}
    return {**about, "choices": [choice]}


def anthropic(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    """`POST /v1/messages`."""
    told: Results = []
    answers = [
        b for m in request["messages"] if m["role"] == "user" and isinstance(m["content"], list) for b in m["content"]
    ]
    for block in answers:
        words, *pictures = block["content"]
        told.append(_structured(words["text"]))
        assert block["is_error"] is ("error" in told[-1])
        for picture in pictures:
            model.see(picture["source"]["data"])
    if call := model.next(told):
        content = {"type": "tool_use", "id": f"toolu_{len(told)}", "name": call[0], "input": call[1]}
    else:
        content = {"type": "text", "text": final_answer(told)}
    usage = {"input_tokens": 1, "output_tokens": 1}
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": request["model"], "usage": usage}
    return {**about, "stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None, "content": [content]}


def gemini(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    """`POST …:generateContent`; the vendor's library spells what stands inside a part with underscores."""
    told: Results = []
    for part in (part for content in request["contents"] for part in content["parts"]):
        if answer := part.get("functionResponse"):
            assert answer["id"] == f"call_{len(told)}"
            told.append(answer["response"].get("output") or answer["response"]["error"])
            for picture in answer.get("parts", []):
                model.see(picture["inline_data"]["data"])
    reply: dict[str, Any] = {}
    if call := model.next(told):
        reply["functionCall"] = {"id": f"call_{len(told)}", "name": call[0], "args": call[1]}
    else:
        reply["text"] = final_answer(told)
    return {"candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [reply]}}]}


def with_nulls(schema: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """The arguments as strict mode makes a model send them: every property, null where it means nothing."""
    full = {name: given.get(name) for name in schema["properties"]}
    for name, value in full.items():
        if isinstance(value, list):
            full[name] = [with_nulls(schema["properties"][name]["items"], each) for each in value]
    return full


def _structured(text: str) -> dict[str, Any]:
    """What stands after the sentence of an answer."""
    found: dict[str, Any] = json.loads(text.partition("\n")[2])
    return found


@contextmanager
def served(reply: Callable[[Model, dict[str, Any]], dict[str, Any]]) -> Iterator[Model]:
    """The stand-in at `url`, in a thread of its own; what it cannot answer is a 400 with the reason."""
    model = Model(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                status, told = 200, model.answer(json.loads(body))
            except Exception as error:  # noqa: BLE001 - the client then raises it in the test
                status, told = 400, {"error": {"type": "invalid_request_error", "message": repr(error)}}
            data = json.dumps(told).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        model.url = f"http://127.0.0.1:{server.server_port}"
        try:
            yield model
        finally:
            server.shutdown()
            thread.join()
