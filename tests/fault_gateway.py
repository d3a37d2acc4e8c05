"""A gateway that misbehaves on demand: real sockets on 127.0.0.1, for what no transport in memory can show.

Answers are scripted by method and path prefix; every request is recorded as far as it came. Sockets
are used bare, because a stream's polite close would turn a reset into an end of file.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup

CREATE = "/sora/v1/videos"

CONNECTION_SECONDS = 30.0
"""No connection lives longer, whatever its fault: a test that waits for nothing ends."""
MAX_REQUEST_BYTES = 32 * 1024 * 1024
_CHUNK = 64 * 1024

Fault = Literal[
    "reset_in_request",  # a TCP reset when half of the request's body was read
    "reset_after_request",
    "reset_in_reply",  # a TCP reset after half of the reply's body
    "close",  # an orderly close, no answer
    "stall",  # never answers
    "drip",  # the head, then one byte every few milliseconds without end
    "truncate",  # an orderly close before the announced length is reached
    "no_length",  # no length is announced: the body ends with an orderly close
]


class Hold:
    """Where an answer waits: `reached` is set once the request has arrived, and `release` lets it be answered."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.release = anyio.Event()


@dataclass(frozen=True, slots=True)
class Answer:
    """One scripted answer. `padding` is a number of blanks after `body` (blanks keep JSON valid)."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    padding: int = 0
    hold: Hold | None = None

    def head(self) -> bytes:
        """The status line and the headers."""
        missing = 100 if self.fault == "truncate" else 0
        length = {"Content-Length": str(len(self.body) + self.padding + missing)}
        if self.fault in {"drip", "no_length"}:
            length = {}
        headers = {"Content-Type": "application/json"} | length | dict(self.headers)
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def says(value: object, status: int = 200, **headers: str) -> Answer:
    """An answer in JSON; underscores in header names stand for hyphens."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, json.dumps(value).encode(), named)


@dataclass(slots=True)
class Received:
    """One request as far as it came; header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    complete: bool = False

    def json(self) -> Any:
        return json.loads(self.body)


class FaultGateway:
    """Made by `fault_gateway`. With `hang_up` every connection is reset before anything is read from it."""

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self.received: list[Received] = []
        self.connections = 0
        self.hang_up = False
        self._script: dict[tuple[str, str], list[Answer]] = {}

    def on(self, method: str, prefix: str, *answers: Answer) -> None:
        """Answer such requests so, one after the other; the last answer is repeated, the longest prefix wins."""
        self._script[method, prefix] = list(answers)

    def requests(self, method: str, path: str = "") -> list[Received]:
        """What came with this method; with a path, only what came to exactly that."""
        return [r for r in self.received if r.method == method and path in {"", r.path}]

    def creates(self) -> list[Received]:
        """Every create that reached this gateway, whole or not."""
        return self.requests("POST", CREATE)

    async def accept(self, listener: socket.socket, connections: TaskGroup) -> None:
        """Take connections until cancelled."""
        while True:
            await anyio.wait_readable(listener)
            with suppress(BlockingIOError, ConnectionError):
                connection, _ = listener.accept()
                self.connections += 1
                connections.start_soon(self._serve, connection)

    async def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionError), anyio.move_on_after(CONNECTION_SECONDS):
            connection.setblocking(False)
            if self.hang_up:
                _reset_on_close(connection)
                return
            while await self._exchange(connection):
                pass

    async def _exchange(self, connection: socket.socket) -> bool:
        """Read one request and play its answer. Whether the connection may be used again."""
        head, body = await _read_head(connection)
        if not head:
            return False
        request = _parse(head)
        self.received.append(request)
        answer = self._answer(request)
        expected = int(request.headers.get("content-length", "0"))
        wanted = expected // 2 if answer.fault == "reset_in_request" else expected
        request.body = await _read_body(connection, body, min(wanted, MAX_REQUEST_BYTES))
        request.complete = len(request.body) == expected
        if answer.hold is not None:
            answer.hold.reached.set()
            await answer.hold.release.wait()
        return await _play(connection, answer)

    def _answer(self, request: Received) -> Answer:
        matching = [key for key in self._script if key[0] == request.method and request.path.startswith(key[1])]
        if not matching:
            return says({"error": {"message": "not in the script", "type": "new_api_error"}}, 404)
        answers = self._script[max(matching, key=lambda key: len(key[1]))]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@asynccontextmanager
async def fault_gateway() -> AsyncIterator[FaultGateway]:
    """A gateway on a free port of 127.0.0.1, inside the task that asks for it; on leaving, all sockets are closed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        gateway = FaultGateway(listener.getsockname()[1])
        async with anyio.create_task_group() as connections:
            connections.start_soon(gateway.accept, listener, connections)
            yield gateway
            connections.cancel_scope.cancel()


def closed_address() -> str:
    """An address of this machine where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


async def _play(connection: socket.socket, answer: Answer) -> bool:
    match answer.fault:
        case None:
            await _send(connection, answer.head() + answer.body)
            await _pad(connection, answer.padding)
            return True
        case "reset_in_request" | "reset_after_request":
            _reset_on_close(connection)
        case "reset_in_reply":
            await _send(connection, answer.head() + answer.body[: len(answer.body) // 2])
            _reset_on_close(connection)
        case "truncate" | "no_length":
            await _send(connection, answer.head() + answer.body)
        case "drip":
            await _send(connection, answer.head() + answer.body)
            await _drip(connection)
        case "stall":
            await _until_gone(connection)
        case "close":
            pass
    return False


async def _pad(connection: socket.socket, size: int) -> None:
    blanks = b" " * _CHUNK
    for start in range(0, size, _CHUNK):
        await _send(connection, blanks[: size - start])


async def _drip(connection: socket.socket) -> None:
    while True:
        await _send(connection, b" ")
        await anyio.sleep(0.005)


async def _until_gone(connection: socket.socket) -> None:
    while await _receive(connection):
        pass


def _reset_on_close(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def _receive(connection: socket.socket, limit: int = _CHUNK) -> bytes:
    while True:
        await anyio.wait_readable(connection)
        with suppress(BlockingIOError):
            return connection.recv(limit)


async def _send(connection: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        await anyio.wait_writable(connection)
        with suppress(BlockingIOError):
            rest = rest[connection.send(rest) :]


async def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    """The request line and headers, and what came of the body with them; empty where the client went away."""
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = await _receive(connection, 1024)
        if not chunk or len(data) > _CHUNK:
            return b"", b""
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return head, body


async def _read_body(connection: socket.socket, start: bytes, size: int) -> bytes:
    body = bytearray(start[:size])
    while len(body) < size:
        chunk = await _receive(connection, min(_CHUNK, size - len(body)))
        if not chunk:
            break
        body += chunk
    return bytes(body)


def _parse(head: bytes) -> Received:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ")
    pairs = (line.partition(":") for line in lines)
    return Received(method, path, {name.lower(): value.strip() for name, _, value in pairs})
