"""A team's server, whose callers say who they are: the conformance suite, a client with OAuth, a host with a token."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from queue import Queue
from threading import Thread
from urllib.parse import urlsplit

from hosts import CLAUDE_CODE, ask_claude, conversation
from libraries import TYPESCRIPT_2, script_in
from model import scripted_model
from protocol import ERAS, scenarios_passed
from workshop import SERVER, Failed, Report, Workshop, free_port, report_from

SUPPORT = Path(__file__).parents[1] / "support"


def conformance_with_tokens(shop: Workshop) -> Report:
    """Every scenario that is run without authentication, behind a proxy that adds a token to each request."""
    with (
        _serving(shop, {"SORA_AUTH": "tokens"}) as address,
        _adding(f"Authorization: Bearer {_token(shop)}", address) as proxy,
    ):
        return ERAS, scenarios_passed(shop, proxy)


def typescript_2_oauth(shop: Workshop) -> Report:
    """The TypeScript client of 2026-07-28 on both eras, which knows the server's address and nothing else."""
    npm = shop.npm(TYPESCRIPT_2)
    script = script_in(npm, "typescript_2_oauth.mjs")
    eras: tuple[str, ...] = ()
    with shop.listening(sys.executable, SUPPORT / "issuer.py") as issuer:
        for era in ("legacy", "2026-07-28"):
            port = free_port()
            address = f"http://127.0.0.1:{port}/mcp"
            settings = {"SORA_AUTH": "oauth", "SORA_OAUTH_ISSUER": issuer, "SORA_OAUTH_AUDIENCE": address}
            with _serving(shop, settings | {"SORA_HOME": str(shop.scratch / era)}, port):
                spoken, shown = report_from(shop.do("node", script, address, era, npm=npm))
            eras += spoken
    return eras, shown


def claude_code_with_a_token(shop: Workshop) -> Report:
    """`claude mcp add` with a static token, and a whole conversation with a scripted model."""
    npm = shop.npm(CLAUDE_CODE)
    with _serving(shop, {"SORA_AUTH": "tokens"}) as address, scripted_model() as model:
        header = f"Authorization: Bearer {_token(shop)}"
        shop.do("claude", "mcp", "add", "--transport", "http", "sora", address, "--header", header, npm=npm)
        if "✔ Connected" not in (listed := shop.do("claude", "mcp", "list", npm=npm)):
            raise Failed(f"claude lists:\n{listed}")
        ask_claude(shop, npm, model)
    return (), f"mcp add --header, mcp list: Connected; {conversation(model)}"


def _token(shop: Workshop) -> str:
    added = json.loads(shop.do(SERVER, "token", "add", "alice", "--json"))
    return str(added["token"])


@contextmanager
def _serving(shop: Workshop, settings: dict[str, str], port: int = 0) -> Iterator[str]:
    shop.settings |= settings
    with shop.listening(SERVER, "serve", "--transport", "streamable-http", "--port", str(port)) as address:
        yield address


@contextmanager
def _adding(header: str, address: str) -> Iterator[str]:
    """A proxy that adds a header to each request, as a company's own does; its address."""
    parts = urlsplit(address)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            first, _, rest = (await reader.readuntil(b"\r\n\r\n")).partition(b"\r\n")
            others = re.sub(rb"(?im)^connection:.*\r\n", b"", rest)  # one request for each connection
            beyond, out = await asyncio.open_connection(parts.hostname, parts.port)
            out.write(b"\r\n".join([first, header.encode(), b"Connection: close", others]))
            sending = asyncio.create_task(_pipe(reader, out))
            await _pipe(beyond, writer)
            sending.cancel()

    async def serve() -> None:
        ended = asyncio.Event()
        async with await asyncio.start_server(forward, "127.0.0.1", 0) as server:
            end = partial(asyncio.get_running_loop().call_soon_threadsafe, ended.set)
            listening.put((server.sockets[0].getsockname()[1], end))
            await ended.wait()

    listening: Queue[tuple[int, Callable[[], object]]] = Queue()
    Thread(target=asyncio.run, args=(serve(),), daemon=True).start()
    port, end = listening.get(timeout=10)
    try:
        yield f"http://127.0.0.1:{port}{parts.path}"
    finally:
        end()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
        writer.close()
