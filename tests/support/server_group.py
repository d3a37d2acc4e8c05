"""Several servers that share a ledger in PostgreSQL, as processes, behind a balancer without sticky sessions."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import anyio
import httpx
import uvicorn
from anyio.abc import Process
from bench import Era, environment, over_http
from fault_gateway import FaultGateway
from mcp import Client
from mcp.client._transport import TransportStreams
from mcp.client.session import ElicitationFnT, MessageHandlerFnT
from mcp.client.streamable_http import streamable_http_client
from mcp.shared._httpx_utils import create_mcp_http_client
from shared_server import Running
from starlette.types import Receive, Scope, Send
from warm import warm_command

HOP_BY_HOP = {"connection", "transfer-encoding", "host", "content-length", "keep-alive"}


@dataclass
class Server:
    """One of them: the address of its MCP endpoint, its process, and its environment."""

    address: str
    process: Process
    environment: dict[str, str]


@dataclass
class Balancer:
    """Round-robin balancer; `served` has the methods of the requests of each server."""

    servers: list[Server]
    address: str = ""
    only: int | None = None
    """The only server that gets requests, if set."""
    served: dict[int, list[str]] = field(default_factory=dict)
    _turn: count[int] = field(default_factory=count)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        number = next(self._turn) % len(self.servers) if self.only is None else self.only
        self.served.setdefault(number, []).append(scope["method"])
        body, has_more = b"", True
        while has_more:
            message = await receive()
            body += message.get("body", b"")
            has_more = message.get("more_body", False)
        headers = [(n.decode(), v.decode()) for n, v in scope["headers"] if n.decode() not in HOP_BY_HOP]
        base = self.servers[number].address.rpartition("/mcp")[0]
        url = f"{base}{scope['path']}" + (f"?{scope['query_string'].decode()}" if scope["query_string"] else "")

        async def cancel_on_disconnect(scope: anyio.CancelScope) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_on_disconnect, tasks.cancel_scope)
            try:
                async with (
                    httpx.AsyncClient(timeout=None, trust_env=False) as client,  # noqa: S113 - streams are long-lived
                    client.stream(scope["method"], url, headers=headers, content=body) as answer,
                ):
                    response_headers = [(n, v) for n, v in answer.headers.raw if n.decode().lower() not in HOP_BY_HOP]
                    await send(
                        {"type": "http.response.start", "status": answer.status_code, "headers": response_headers}
                    )
                    async for chunk in answer.aiter_raw():
                        await send({"type": "http.response.body", "body": chunk, "more_body": True})
                    await send({"type": "http.response.body", "body": b""})
            except httpx.HTTPError:  # the server is down
                with suppress(RuntimeError):
                    await send({"type": "http.response.start", "status": 502, "headers": []})
                    await send({"type": "http.response.body", "body": b""})
            tasks.cancel_scope.cancel()


@dataclass
class ServerGroup:
    """The servers, and the balancer before them. People are let in by their names."""

    servers: list[Server]
    balancer: Balancer
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, name: str) -> str:
        """A person's token, made at the first use."""
        if name not in self.tokens:
            first, *others = (each.environment for each in self.servers)
            command = [*warm_command(), "token", "add", name]
            result = subprocess.run(command, check=True, capture_output=True, text=True, env=first, timeout=60)  # noqa: S603
            self.tokens[name] = next(word for word in result.stdout.split() if word.startswith("sora_mcp_"))
            for each in others:  # if tokens are in files, each server has its own
                if (file := Path(first["SORA_HOME"]) / "tokens.json").exists():
                    shutil.copy(file, Path(each["SORA_HOME"]) / "tokens.json")
        return self.tokens[name]

    def client(
        self,
        name: str = "",
        era: Era = "auto",
        *,
        at: int | None = None,
        user: ElicitationFnT | None = None,
        message_handler: MessageHandlerFnT | None = None,
    ) -> Client:
        """A client of the balancer, or of one server (`at`); with the token of a person."""
        address = self.balancer.address if at is None else self.servers[at].address
        return Client(
            self._transport(address, name), mode=era, elicitation_callback=user, message_handler=message_handler
        )

    @asynccontextmanager
    async def _transport(self, address: str, name: str) -> AsyncIterator[TransportStreams]:
        headers = {"Authorization": f"Bearer {self.token(name)}"} if name else {}
        http = create_mcp_http_client(headers=headers)
        async with http, streamable_http_client(address, http_client=http) as streams:
            yield streams


@asynccontextmanager
async def server_group(
    folder: Path, ledger_url: str, gateway: FaultGateway | None = None, *, number: int = 2, **settings: str
) -> AsyncIterator[ServerGroup]:
    """Servers with a home of their own each, one folder for videos, and one ledger. `settings` without SORA_; a `{n}`
    in them is the server's number."""
    async with AsyncExitStack() as stack:
        servers = []
        for each in range(number):
            home = folder / f"home_{each}"
            home.mkdir(parents=True)
            own = {"HOME": str(home), "LEDGER_URL": ledger_url} | {
                k: v.replace("{n}", str(each)) for k, v in settings.items()
            }
            environ = environment(folder, gateway, **own)
            address, process = await stack.enter_async_context(over_http(environ))
            servers.append(Server(address, process, environ))
        balancer = Balancer(servers)
        config = uvicorn.Config(balancer, host="127.0.0.1", port=0, log_level="error", lifespan="off")
        running = Running(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(running.run_to_its_end)
            with anyio.fail_after(20):
                await running.is_ready.wait()
            balancer.address = f"http://127.0.0.1:{running.port}/mcp"
            try:
                yield ServerGroup(servers, balancer)
            finally:
                running.should_exit = running.force_exit = True
                with anyio.CancelScope(shield=True), anyio.move_on_after(10):
                    await running.has_ended.wait()
                tasks.cancel_scope.cancel()
