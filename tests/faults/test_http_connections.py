"""Single connections over HTTP that break the rules: what is not read, never comes, or is no HTTP."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import IO
from urllib.parse import urlsplit

import pytest
from bench import killed_on_failure

SERVER = """
import asyncio
from sora_mcp.runtime import listening

class Connections(set):
    def discard(self, connection):
        if connection in self:
            print("lost", flush=True)
        super().discard(connection)

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    if scope["path"] == "/body":
        while (await receive()).get("more_body"):
            pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/much":
        [connection] = connections
        await asyncio.sleep(0)
        while not connection.transport.get_write_buffer_size():  # the system takes some of an answer that nobody reads
            await send({"type": "http.response.body", "body": bytes(16384), "more_body": True})
            await asyncio.sleep(0)
    while scope["path"] == "/endless" and connections:
        await send({"type": "http.response.body", "body": bytes(16384), "more_body": True})
    await send({"type": "http.response.body", "body": b"answered"})

listening.GRACE_S = listening._WRITE_TIMEOUT_S = 0
listening.REQUEST_TIMEOUT_S = listening.UNREAD_TIMEOUT_S = 0.5
connections = Connections()
listening.listen(app, "127.0.0.1", 0, lambda address: print(address, flush=True), connections=connections)
"""


@contextmanager
def connected() -> Iterator[tuple[socket.socket, subprocess.Popen[str]]]:
    """A connection to a server, and the server."""
    command = [sys.executable, "-c", SERVER]
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server,  # noqa: S603
        killed_on_failure(server),
    ):
        address = urlsplit(out(server.stdout).readline().strip())
        with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
            yield connection, server
        server.kill()


def out(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def rest_of(connection: socket.socket) -> bytes:
    """What comes before the server closes the connection."""
    parts: list[bytes] = []
    with suppress(ConnectionError):
        parts.extend(iter(partial(connection.recv, 65536), b""))
    return b"".join(parts)


def test_a_client_that_leaves_the_end_of_its_answer_unread_is_cut_off() -> None:
    """However little of it is left: each such connection would keep a descriptor for ever."""
    with connected() as (connection, server):
        connection.sendall(b"GET /much HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert out(server.stdout).readline() == "lost\n"


def test_a_request_behind_another_one_has_no_longer_to_arrive() -> None:
    with connected() as (connection, _):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        connection.sendall(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
        answers = rest_of(connection)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert b"answered" in answers
    assert b"HTTP/1.1 408 " in answers


@pytest.mark.parametrize("begins", [b"POST /", b"POST /body", b"nothing"])
def test_what_is_no_http_is_refused_and_leaves_no_traceback(begins: bytes) -> None:
    """Anybody could fill the log with them: it needs no token."""
    with connected() as (connection, server):
        connection.sendall(begins + b" HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        if begins == b"POST /":
            assert connection.recv(12) == b"HTTP/1.1 200"
        connection.sendall(b"this is no chunk\r\n")
        rest_of(connection)
        assert out(server.stdout).readline() == "lost\n"
        server.kill()
        log = out(server.stderr).read()
    assert "Traceback" not in log
    assert "Error" not in log


def test_an_upgrade_is_not_made_and_nobody_is_told_to_install_anything() -> None:
    with connected() as (connection, server):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n")
        assert rest_of(connection).startswith(b"HTTP/1.1 200 ")
        server.kill()
        assert not out(server.stderr).read()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM")
def test_a_download_that_takes_longer_than_a_server_takes_to_end_leaves_no_traceback() -> None:
    with connected() as (connection, server):
        connection.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        server.terminate()
        log = out(server.stderr).read()
    assert "cut off" in log
    assert "Traceback" not in log
