"""A gateway that misbehaves on demand: real sockets on 127.0.0.1, for what no transport in memory can show.

Answers are scripted by method and path prefix; every request is recorded as far as it came. Sockets
are used bare, because a stream's polite close would turn a reset into an end of file.
"""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from itertools import chain, repeat
from typing import Any, Literal

import anyio
from anyio.abc import TaskGroup
from ports import free_port

CREATE = "/sora/v1/videos"

MAX_CONNECTION_S = 30.0
"""Seconds after which any connection is closed, so that a test that waits for nothing ends."""
DRIP_INTERVAL_S = 0.005
MAX_REQUEST_BYTES = 32 * 1024 * 1024
_CHUNK = 64 * 1024

Moment = Literal[
    "connected",  # the connection was taken, nothing is read yet
    "in_head",  # a part of the request's head was read
    "in_body",  # the head and half of the body were read
    "requested",  # the whole request was read
    "in_reply_head",  # half of the reply's head was sent
    "in_reply_body",  # the reply's head and half of its body were sent
    "replied",  # the whole reply was sent
]
"""A point in an exchange. At the first two, nothing is known of the request: see `greeting`."""

Fault = Literal[
    "reset",  # a TCP reset
    "reset_in_request",
    "reset_after_request",
    "reset_in_reply",
    "close",  # an orderly close, no answer
    "stall",  # never goes on
    "drip",  # one byte every few milliseconds without end: read while the request comes, sent afterwards
    "garbage",  # bytes that are no HTTP and no JSON
    "answer",  # the whole answer, however little of the request was read
    "truncate",  # an orderly close before the announced length is reached
    "no_length",  # a body whose end only the close of the connection shows
]

_DEFAULT_MOMENTS: dict[Fault | None, Moment] = {
    "reset_in_request": "in_body",
    "reset_in_reply": "in_reply_body",
    "drip": "replied",
    "truncate": "replied",
    "no_length": "replied",
}
GARBAGE = bytes(range(255, -1, -1))
NEXT_ID = b"task_next"
"""Placeholder in a body for an id that is unique among the creates of a gateway."""


class Hold:
    """Delays an answer: `reached` is set once the request has arrived, and setting `release` answers it."""

    def __init__(self) -> None:
        self.reached = anyio.Event()
        self.release = anyio.Event()


@dataclass(frozen=True, slots=True)
class Answer:
    """One scripted answer. `padding` is a number of blanks after `body` (blanks keep JSON valid).

    `hold` and then `fault` apply `at` a moment, by default the fault's usual one. `missing` bytes are announced and
    not sent, or (if negative) sent and not announced. `accepts`: whether a complete create makes a task, whatever the
    client sees; None: if the status is 2xx.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: Fault | None = None
    padding: int = 0
    hold: Hold | None = None
    at: Moment | None = None
    missing: int = 0
    accepts: bool | None = None

    @property
    def moment(self) -> Moment:
        return self.at or _DEFAULT_MOMENTS.get(self.fault, "requested")

    def head(self) -> bytes:
        """The status line and the headers; a drip announces no length."""
        missing = 100 if self.fault == "truncate" else self.missing
        length = {"Content-Length": str(len(self.body) + self.padding + missing)}
        none = self.fault in {"drip", "no_length"}
        headers = {"Content-Type": "application/json"} | ({} if none else length) | dict(self.headers)
        lines = [f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def bytes_before_moment(self) -> int:
        """The number of bytes of head and body to send before the moment."""
        head, body = len(self.head()), len(self.body)
        match self.moment:
            case "in_reply_head":
                return head // 2
            case "in_reply_body":
                return head + body // 2
            case "replied":
                return head + body
            case _:
                return 0


def says(value: object, status: int = 200, **headers: str) -> Answer:
    """An answer in JSON; underscores in header names stand for hyphens."""
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, json.dumps(value).encode(), named)


@dataclass(slots=True)
class Received:
    """One request as far as it arrived; header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""
    complete: bool = False
    task_id: str | None = None
    """The task that the gateway made of it, whether or not the client knows."""

    def json(self) -> Any:
        return json.loads(self.body)


class FaultGateway:
    """Made by `fault_gateway`. `greeting` is played on every connection before its first request is read; with
    `hang_up` that is a reset. `resets_reused_connections`: a second request on a connection meets a reset, as where an
    idle one is just being closed."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.address = f"http://{host}:{port}"
        self.received: list[Received] = []
        self.connections = 0
        self.hang_up = False
        self.resets_reused_connections = False
        self.greeting: Answer | None = None
        self.create_path = CREATE
        self._script: dict[tuple[str, str], list[Answer]] = {}

    def on(self, method: str, prefix: str, *answers: Answer) -> None:
        """Script the answers to such requests, in order; the last one is repeated, the longest prefix wins."""
        self._script[method, prefix] = list(answers)

    def requests(self, method: str, path: str = "") -> list[Received]:
        """The requests with this method, and with exactly this path if one is given."""
        return [r for r in self.received if r.method == method and path in {"", r.path}]

    def creates(self) -> list[Received]:
        """Every create that reached this gateway, complete or not."""
        return self.requests("POST", self.create_path)

    def accepted(self) -> list[Received]:
        """The creates that became a task."""
        return [request for request in self.creates() if request.task_id is not None]

    async def accept(self, listener: socket.socket, connections: TaskGroup) -> None:
        """Accept connections until cancelled."""
        while True:
            await anyio.wait_readable(listener)
            with suppress(BlockingIOError, ConnectionError):
                connection, _ = listener.accept()
                self.connections += 1
                connections.start_soon(self._serve, connection)

    async def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(ConnectionError), anyio.move_on_after(MAX_CONNECTION_S):
            connection.setblocking(False)
            if await self._greet(connection):
                while await self._exchange(connection):
                    if self.resets_reused_connections:
                        await anyio.wait_readable(connection)
                        _reset_on_close(connection)
                        break

    async def _greet(self, connection: socket.socket) -> bool:
        """Play the greeting. Returns whether the connection is still usable."""
        greeting = Answer(fault="reset", at="connected") if self.hang_up else self.greeting
        if greeting is None:
            return True
        if greeting.moment == "in_head" and greeting.fault is None:
            await anyio.wait_readable(connection)  # the request is answered afterwards: nothing is read from it
        elif greeting.moment == "in_head":
            await _receive(connection, 40)
        return await _play_fault(connection, greeting)

    async def _exchange(self, connection: socket.socket) -> bool:
        """Read one request and play its answer. Returns whether the connection can be reused."""
        head, body = await _read_head(connection)
        if not head:
            return False
        request = _parse(head)
        self.received.append(request)
        answer = self._answer(request)
        expected = min(int(request.headers.get("content-length", "0")), MAX_REQUEST_BYTES)
        if answer.moment == "in_body":
            request.body = await _read_body(connection, body, expected // 2)
            if not await _play_fault(connection, answer):
                return False
            body = max(body, request.body, key=len)
        request.body = await _read_body(connection, body, expected)
        request.complete = len(request.body) == expected
        return request.complete and await _reply(connection, self._create_task(request, answer))

    def _create_task(self, request: Received, answer: Answer) -> Answer:
        """Make a task of a complete create if the answer does, whatever then happens to the answer."""
        makes_task = answer.status < 300 if answer.accepts is None else answer.accepts
        if (request.method, request.path) != ("POST", self.create_path) or not makes_task:
            return answer
        request.task_id = f"task_{len(self.accepted()) + 1}"
        return replace(answer, body=answer.body.replace(NEXT_ID, request.task_id.encode()))

    def _answer(self, request: Received) -> Answer:
        matching = [key for key in self._script if key[0] == request.method and request.path.startswith(key[1])]
        if not matching:
            return says({"error": {"message": "not in the script", "type": "new_api_error"}}, 404)
        answers = self._script[max(matching, key=lambda key: len(key[1]))]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@asynccontextmanager
async def fault_gateway(host: str = "127.0.0.1") -> AsyncIterator[FaultGateway]:
    """A gateway on a free port of 127.0.0.1, inside the task that asks for it; on leaving, all sockets are closed."""
    with socket.create_server((host, 0)) as listener:
        listener.setblocking(False)
        gateway = FaultGateway(listener.getsockname()[1], host)
        async with anyio.create_task_group() as connections:
            connections.start_soon(gateway.accept, listener, connections)
            yield gateway
            connections.cancel_scope.cancel()


def closed_address() -> str:
    """An address of this machine where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@asynccontextmanager
async def full_backlog() -> AsyncIterator[str]:
    """An address of this machine that neither accepts nor refuses connections (Linux: the queue is full)."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


async def _reply(connection: socket.socket, answer: Answer) -> bool:
    """Send the answer, with its fault at its moment. Returns whether the connection can be reused."""
    whole = answer.head() + answer.body
    before = answer.bytes_before_moment()
    await _send(connection, whole[:before])
    if answer.moment != "in_body" and not await _play_fault(connection, answer, whole[before:]):
        return False
    await _send(connection, whole[before:])
    await _send_padding(connection, answer.padding)
    return True


async def _play_fault(connection: socket.socket, answer: Answer, rest: bytes = b"") -> bool:
    """Play the hold and the fault of an answer, with `rest` of it to send. Returns whether the exchange continues."""
    if answer.hold is not None:
        answer.hold.reached.set()
        await answer.hold.release.wait()
    match answer.fault:
        case None:
            return True
        case "reset" | "reset_in_request" | "reset_after_request" | "reset_in_reply":
            _reset_on_close(connection)
            return False
        case "stall":
            await anyio.sleep_forever()
        case "drip" if answer.moment in {"connected", "in_head", "in_body"}:
            await _drip_read(connection)
        case "drip":
            await _drip(connection, rest)
        case "garbage":
            await _send(connection, GARBAGE)
        case "answer":
            await _send(connection, answer.head() + answer.body)
        case "close" | "truncate" | "no_length":
            pass
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
    await _wait_until_closed(connection)  # closing with unread bytes would be a reset
    return False


async def _send_padding(connection: socket.socket, size: int) -> None:
    blanks = b" " * _CHUNK
    for start in range(0, size, _CHUNK):
        await _send(connection, blanks[: size - start])


async def _drip(connection: socket.socket, rest: bytes) -> None:
    for byte in chain(rest, repeat(ord(" "))):
        await _send(connection, bytes([byte]))
        await anyio.sleep(DRIP_INTERVAL_S)


async def _drip_read(connection: socket.socket) -> None:
    while await _receive(connection, 1):  # noqa: ASYNC110 - the slowness is the fault
        await anyio.sleep(DRIP_INTERVAL_S)


async def _wait_until_closed(connection: socket.socket) -> None:
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
    """The request line and headers, and the part of the body that came with them; empty if the client disconnected."""
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
