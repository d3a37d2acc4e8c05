"""Serving an ASGI app on a loopback address until a signal ends it."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import uvicorn


class _Server(uvicorn.Server):
    """uvicorn, telling when clients can connect (to which port, where a free one was asked for), and when it ends."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[int], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._ending = ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready(int(self.servers[0].sockets[0].getsockname()[1]))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._ending()
        await super().shutdown(sockets)


def _nothing() -> None: ...


def listen(app: Any, host: str, port: int, ready: Callable[[str], None], ending: Callable[[], None] = _nothing) -> None:
    """Serve `app`; port 0 takes a free one. `ready` is told the base address; `ending` ends what never would.

    Raises OSError where the port cannot be had.
    """

    def tell(taken: int) -> None:
        ready(f"http://{f'[{host}]' if ':' in host else host}:{taken}")

    config = uvicorn.Config(app, host=host, port=port, log_level="warning", timeout_graceful_shutdown=5)
    with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as bound:
        _Server(config, tell, ending).run([bound])
