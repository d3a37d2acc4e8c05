"""A scripted model for hosts: it makes a mistake, creates, waits, views, and remixes the video by its task id."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from faces import FACES, Call, Face, blocks

STEPS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("create_video", {"prompt": "a boat", "width": 481, "height": 480}),
    ("create_video", {"prompt": "a paper boat", "width": 480, "height": 480}),
    ("get_video", {"task_id": "", "wait_seconds": 30}),
    ("view_video", {"task_id": "", "frames": 4}),
    ("remix_video", {"source_generation_id": "", "prompt": "at night"}),
)
"""The calls in order; an empty id is that of the created video."""


class Model:
    """What the model received: our tools, their results, and the pictures among them."""

    def __init__(self) -> None:
        self.address = ""
        self.tools: list[str] = []
        self.tool_results: list[str] = []
        self.pictures: list[bytes] = []

    def answer(self, face: Face, request: dict[str, Any]) -> Call | str:
        """The next call or answer; hosts ask for a title without offering tools."""
        tools = [tool for tool in face.tools(request) if "sora" in tool]
        if not tools:
            return "A title"
        self.tools, self.tool_results = tools, face.tool_results(request)
        self.pictures = list(_pictures(request))
        if len(self.tool_results) == len(STEPS):
            return "That is all."
        name, arguments = STEPS[len(self.tool_results)]
        ids = re.findall(r"task_(?!id\b)\w+", "".join(self.tool_results))
        if "" in arguments.values() and not ids:
            return "There is no id."
        tool = next(each for each in tools if each.endswith(name))
        return Call(f"call_{len(self.tool_results)}", tool, {key: value or ids[0] for key, value in arguments.items()})


def _pictures(request: dict[str, Any]) -> Iterator[bytes]:
    """Pictures that the model can see; base64 in a text does not count."""
    for block in blocks(request):
        match block:
            case {"type": "image_url", "image_url": {"url": str(address)}}:
                yield b64decode(address.partition(",")[2])
            case {"type": "input_image", "image_url": str(address)}:
                yield b64decode(address.partition(",")[2])
            case {"type": "image", "source": {"data": str(data)}}:
                yield b64decode(data)


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
            face = FACES.get(self.path.partition("?")[0].rpartition("/")[2])
            if face is None:
                self.send_error(404)
                return
            content_type = "text/event-stream" if request.get("stream") else "application/json"
            self._send(face.reply(request, model.answer(face, request)), content_type)

        def _send(self, body: str, content_type: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", content_type)
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
