"""The HTTP server by itself: what it does with connections."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
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


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks at its own descriptors by Linux's /proc")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_small_parts_of_an_answer_are_sent_at_once(host: str) -> None:
    """Else each answer of several parts takes 40 ms longer: the sender waits for an acknowledgement that the receiver
    holds back (Nagle's algorithm and delayed acknowledgements, RFC 1122, 4.2.3)."""
    if host == "::1" and not _has_ipv6():
        pytest.skip("this machine has no ::1")
    server = subprocess.Popen([sys.executable, "-c", SERVER, host], stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    assert server.stdout is not None
    with server:
        try:
            options = httpx.get(server.stdout.readline().strip(), timeout=30).json()
        finally:
            os.kill(server.pid, signal.SIGTERM)
    assert options == [1]


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
