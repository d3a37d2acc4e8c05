"""Stand-ins for the model APIs: a scripted agent behind HTTP on 127.0.0.1, in the format of each vendor.

The script decides by the results so far, as a model would: the next call, or the final answer.
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
    lambda results: ("get_video", {"task_id": results[1]["task_id"], "wait_seconds": 50}),
    lambda results: ("view_video", {"task_id": results[1]["task_id"], "frames": 4}),
    lambda results: ("remix_video", {"source_generation_id": results[1]["task_id"], "prompt": "at night", "amount": 6}),
    lambda results: ("get_video", {"task_id": results[4]["task_id"], "wait_seconds": 50}),
    lambda _: ("storyboard_video", {"actions": BEATS, "width": 480, "height": 480}),
    lambda results: ("get_video", {"task_id": results[6]["task_id"], "wait_seconds": 50}),
    lambda results: ("blend_videos", {"inpaint_items": [{"generation_id": results[i]["task_id"]} for i in (4, 6)]}),
    lambda results: ("get_video", {"task_id": results[8]["task_id"], "wait_seconds": 50}),
    lambda results: ("download_video", {"task_id": results[8]["task_id"]}),
)
"""A mistake and its correction, then: create, wait, view, remix, storyboard, blend, download."""


def final_answer(results: Results) -> str:
    """The agent's final answer: the path of the video."""
    return f"Saved as {results[-1]['path']}"


class Model:
    """The requests and results of a stand-in; each answer depends on its request alone."""

    def __init__(self, reply: Callable[[Model, dict[str, Any]], dict[str, Any]]) -> None:
        self.url = ""
        self.requests: list[dict[str, Any]] = []
        self.pictures: list[bytes] = []
        self.results: Results = []
        self._reply = reply

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(request)
        self.pictures = []
        return self._reply(self, request)

    def next(self, results: Results) -> Call | None:
        self.results = results
        return SCRIPT[len(results)](results) if len(results) < len(SCRIPT) else None

    def see(self, picture: str) -> None:
        self.pictures.append(urlsafe_b64decode(picture.translate({ord("+"): "-", ord("/"): "_"})))


def openai_responses(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    """`POST /responses`. As in strict mode, every argument is sent, null if it has no value."""
    results: Results = []
    for item in request["input"]:
        if item.get("type") == "function_call_output":
            words, *pictures = item["output"]
            results.append(_structured(words["text"]))
            for picture in pictures:
                model.see(picture["image_url"].removeprefix("data:image/jpeg;base64,"))
    output: dict[str, Any] = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed"}
    if call := model.next(results):
        schemas = {tool["name"]: tool["parameters"] for tool in request["tools"]}
        output = {
            "type": "function_call",
            "id": f"fc_{len(results)}",
            "call_id": f"call_{len(results)}",
            "name": call[0],
        }
        output["arguments"] = json.dumps(with_nulls(schemas[call[0]], call[1]))
    else:
        output["content"] = [{"type": "output_text", "text": final_answer(results), "annotations": []}]
    about = {"id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": request["model"]}
    return {**about, "output": [output], "tools": [], "tool_choice": "auto", "parallel_tool_calls": True}


def openai_chat(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    """`POST /chat/completions`; strict as well."""
    results = [_structured(each["content"]) for each in request["messages"] if each["role"] == "tool"]
    message: dict[str, Any] = {"role": "assistant", "content": None}
    if call := model.next(results):
        schemas = {tool["function"]["name"]: tool["function"]["parameters"] for tool in request["tools"]}
        function = {"name": call[0], "arguments": json.dumps(with_nulls(schemas[call[0]], call[1]))}
        message["tool_calls"] = [{"id": f"call_{len(results)}", "type": "function", "function": function}]
    else:
        message["content"] = final_answer(results)
    choice = {"index": 0, "finish_reason": "tool_calls" if call else "stop", "message": message, "logprobs": None}
    about = {"id": "chat_1", "object": "chat.completion", "created": 1, "model": request["model"]}
    return {**about, "choices": [choice]}


def anthropic(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    """`POST /v1/messages`."""
    results: Results = []
    answers = [
        b for m in request["messages"] if m["role"] == "user" and isinstance(m["content"], list) for b in m["content"]
    ]
    for block in answers:
        words, *pictures = block["content"]
        results.append(_structured(words["text"]))
        assert block["is_error"] is ("error" in results[-1])
        for picture in pictures:
            model.see(picture["source"]["data"])
    if call := model.next(results):
        content = {"type": "tool_use", "id": f"toolu_{len(results)}", "name": call[0], "input": call[1]}
    else:
        content = {"type": "text", "text": final_answer(results)}
    usage = {"input_tokens": 1, "output_tokens": 1}
    about = {"id": "msg_1", "type": "message", "role": "assistant", "model": request["model"], "usage": usage}
    return {**about, "stop_reason": "tool_use" if call else "end_turn", "stop_sequence": None, "content": [content]}


def gemini(model: Model, request: dict[str, Any]) -> dict[str, Any]:
    """`POST …:generateContent`; the vendor's library spells the fields of a part with underscores."""
    results: Results = []
    for part in (part for content in request["contents"] for part in content["parts"]):
        if answer := part.get("functionResponse"):
            assert answer["id"] == f"call_{len(results)}"
            results.append(answer["response"].get("output") or answer["response"]["error"])
            for picture in answer.get("parts", []):
                model.see(picture["inline_data"]["data"])
    reply: dict[str, Any] = {}
    if call := model.next(results):
        reply["functionCall"] = {"id": f"call_{len(results)}", "name": call[0], "args": call[1]}
    else:
        reply["text"] = final_answer(results)
    return {"candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [reply]}}]}


def with_nulls(schema: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments as in strict mode: every property, null if it has no value."""
    full = {name: arguments.get(name) for name in schema["properties"]}
    for name, value in full.items():
        if isinstance(value, list):
            full[name] = [with_nulls(schema["properties"][name]["items"], each) for each in value]
    return full


def _structured(text: str) -> dict[str, Any]:
    """The structured result after the sentence of an answer."""
    result: dict[str, Any] = json.loads(text.partition("\n")[2])
    return result


@contextmanager
def served(reply: Callable[[Model, dict[str, Any]], dict[str, Any]]) -> Iterator[Model]:
    """The stand-in at `url`, in a thread; a request that it cannot answer gets a 400 with the reason."""
    model = Model(reply)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                status, results = 200, model.answer(json.loads(body))
            except Exception as error:  # noqa: BLE001 - the client then raises it in the test
                status, results = 400, {"error": {"type": "invalid_request_error", "message": repr(error)}}
            data = json.dumps(results).encode()
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
