"""Ports of this machine."""

from __future__ import annotations

import random
import socket
from contextlib import suppress


def free_port() -> int:
    """A port of 127.0.0.1 where nothing listens, and that nobody is given who asks for any: a server may take it later,
    and again when it is restarted, and who tries to reach it meanwhile reaches nobody, not even itself."""
    for port in random.sample(range(10_000, 32_000), 100):
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError
