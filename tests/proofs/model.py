"""A scripted model that a host talks to as to OpenAI's (Chat Completions): it errs once, creates, waits and looks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("create_video", {"prompt": "a boat", "width": 481, "height": 480}),
    ("create_video", {"prompt": "a paper boat", "width": 480, "height": 480}),
    ("get_video", {"wait_seconds": 30}),
    ("view_video", {"frames": 4}),
)
"""What is called, one after the other; what comes after the creates is about the video that was made."""


class Model:
    """What the model saw: the answers of the tools, and the pictures among them (as data addresses)."""

    def __init__(self) -> None:
        self.address = ""
        self.told: list[str] = []
        self.pictures: list[str] = []

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """The next message; hosts call a tool `sora_create_video` or the like, and ask for a title without any."""
        names = [tool["function"]["name"] for tool in request.get("tools", ())]
        if not names:
            return {"role": "assistant", "content": "A title"}
        messages = request["messages"]
        self.told = [_text(message["content"]) for message in messages if message["role"] == "tool"]
        self.pictures = re.findall(r"data:image/\w+;base64,[A-Za-z0-9+/=]{99,}", json.dumps(messages))
        if len(self.told) == len(STEPS):
            return {"role": "assistant", "content": "That is all."}
        name, arguments = STEPS[len(self.told)]
        if name != "create_video":
            arguments = arguments | {"task_id": re.findall(r"task_\w+", "".join(self.told))[0]}
        function = {"name": next(each for each in names if each.endswith(name)), "arguments": json.dumps(arguments)}
        made = {"index": 0, "id": f"call_{len(self.told)}", "type": "function", "function": function}
        return {"role": "assistant", "content": "", "tool_calls": [made]}


def _text(content: object) -> str:
    return content if isinstance(content, str) else json.dumps(content)


@contextmanager
def scripted_model() -> Iterator[Model]:
    """A model on a free loopback port, at `address`."""
    model = Model()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self._send(
                json.dumps({"object": "list", "data": [{"id": "scripted", "object": "model"}]}), "application/json"
            )

        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            message = model.answer(request)
            about = {"id": "chat_1", "created": 1, "model": "scripted"}
            choice = {"index": 0, "finish_reason": "tool_calls" if "tool_calls" in message else "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            if not request.get("stream"):
                whole = {
                    **about,
                    "object": "chat.completion",
                    "choices": [{**choice, "message": message}],
                    "usage": usage,
                }
                return self._send(json.dumps(whole), "application/json")
            part = {**about, "object": "chat.completion.chunk"}
            parts = [
                {**part, "choices": [{"index": 0, "finish_reason": None, "delta": message}]},
                {**part, "choices": [{**choice, "delta": {}}]},
                {**part, "choices": [], "usage": usage},
            ]
            events = "".join(f"data: {json.dumps(each)}\n\n" for each in parts)
            return self._send(events + "data: [DONE]\n\n", "text/event-stream")

        def _send(self, body: str, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(body.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, daemon=True).start()
    model.address = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield model
    finally:
        server.shutdown()
