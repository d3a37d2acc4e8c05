"""The HTTP server by itself: what it does with connections."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

SERVER = """
import json, os, socket, sys
from sora_mcp.runtime.listening import listen

def connections():
    for name in os.listdir("/proc/self/fd"):
        try:
            with socket.socket(fileno=os.dup(int(name))) as each:
                each.getpeername()
                yield each.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        except OSError:  # no socket, or not connected
            continue

async def app(scope, receive, send):
    if scope["type"] == "http":
        body = json.dumps(list(connections())).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

listen(app, sys.argv[1], 0, lambda base_url: print(base_url, flush=True))
"""


IS_LINUX = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks Linux about sockets")


@IS_LINUX
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_small_parts_of_an_answer_are_sent_at_once(host: str) -> None:
    """Else each answer of several parts takes 40 ms longer: the sender waits for an acknowledgement that the receiver
    holds back (Nagle's algorithm and delayed acknowledgements, RFC 1122, 4.2.3)."""
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no ::1")
    with _serving(host) as address:
        assert httpx.get(address, timeout=30).json() == [1]


@IS_LINUX
def test_an_answer_is_one_packet() -> None:
    """Head, body and end: each packet more is a call of the system here, and wakes whoever reads there."""
    with _serving("127.0.0.1") as address:
        host, _, port = address.removeprefix("http://").partition(":")
        with socket.create_connection((host, int(port)), timeout=30) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"0\r\n\r\n"):
                part = client.recv(65536)
                assert part
                answer += part
            packets = struct.unpack_from("I", client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192), DATA_SEGS_IN)
    assert packets == (1,)


DATA_SEGS_IN = 152
"""Where Linux's `struct tcp_info` has the number of packets with data that have come (include/uapi/linux/tcp.h)."""


@contextmanager
def _serving(host: str) -> Iterator[str]:
    """The server's address."""
    server = subprocess.Popen([sys.executable, "-c", SERVER, host], stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    assert server.stdout is not None
    with server:
        try:
            yield server.stdout.readline().strip()
        finally:
            os.kill(server.pid, signal.SIGTERM)


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
