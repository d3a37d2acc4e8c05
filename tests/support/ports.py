"""Ports of this machine."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """Return a port of 127.0.0.1 where nothing listens, outside the range of ephemeral ports: a server can bind it
    later, and again after a restart, and a connection in between reaches no process, not even the caller itself."""
    for port in random.sample(range(10_000, 32_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError
