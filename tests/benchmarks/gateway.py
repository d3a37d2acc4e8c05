"""A gateway that costs nothing to ask: every create is accepted, every query has succeeded, both answered at once.
With `--answer-after SECONDS` the answer to a create takes so long, so that it may find its server gone.

Bare asyncio, one `data_received` a request, in a process of its own: what is measured is the server's work.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys

_ANSWER_DELAY_S = float(sys.argv[-1]) if "--answer-after" in sys.argv else 0.0
_NUMBERS = itertools.count(1)
_ACCEPTED: dict[str, list[str]] = {}
"""The tasks of each prompt; GET /accepted tells them."""


def _answer(method: str, path: str, body: bytes) -> object:
    if method == "POST":
        task_id = f"task_{next(_NUMBERS):08d}"
        _ACCEPTED.setdefault(str(json.loads(body).get("prompt")), []).append(task_id)
        return {"code": "success", "message": "", "data": task_id}
    if path == "/accepted":
        return _ACCEPTED
    generation = {"id": "gen_1", "url": "https://videos.example/1.mp4", "width": 854, "height": 480, "n_frames": 150}
    raw = {"generations": [generation]}
    task = {"task_id": path.rpartition("/")[2], "status": "SUCCESS", "progress": "100%", "data": raw}
    return {"code": "success", "message": "", "data": task}


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        if not blank or len(body) < _length(head) or self._transport is None:
            return
        body, self._received = body[: _length(head)], body[_length(head) :]
        method, path, _ = head.partition(b"\r\n")[0].decode().split(" ")
        answer = json.dumps(_answer(method, path, body)).encode()
        status = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
        if method == "POST" and _ANSWER_DELAY_S:
            asyncio.get_running_loop().call_later(_ANSWER_DELAY_S, self._transport.write, status.encode() + answer)
        else:
            self._transport.write(status.encode() + answer)


def _length(head: bytes) -> int:
    lines = (line.partition(b":") for line in head.lower().split(b"\r\n"))
    return next((int(value) for name, _, value in lines if name == b"content-length"), 0)


async def _serve() -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", 0)
    sys.stderr.write(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
    sys.stderr.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve())
