"""A team's server over HTTP, and clients that take what they can: connections, endless bodies, answers unread."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx
import httpx2
import pytest
from bench import COMMAND, environment, killed_on_failure, over_http
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from postgres import NOT_INSTALLED, programs
from warm import warm_command

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc"),
]

BENCHMARK = Path(__file__).parents[1] / "benchmarks" / "shared.py"
IDLE = 10_000
READS_NOTHING = """
from sora_mcp.runtime import listening
listening.UNREAD_TIMEOUT_S = 0.5
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(10_000):
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
        if not connections:
            print("cut off", flush=True)
            return
connections = set()
listening.listen(app, "127.0.0.1", 0, lambda address: print(address, flush=True), connections=connections)
"""


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many descriptors as this process may have, for the clients of a test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < IDLE + 500:
        pytest.skip(f"only {hard} descriptors may be open here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (IDLE + 500, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return environment(tmp_path, AUTH="tokens")


@pytest.fixture
def secret(environ: dict[str, str]) -> str:
    done = subprocess.run(  # noqa: S603 - our own command
        [*warm_command(), "token", "add", "anna", "--json"], env=environ, capture_output=True, check=True
    )
    return str(json.loads(done.stdout)["token"])


def memory_of(pid: int) -> int:
    """Bytes that a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


def open_idle(stack: ExitStack, address: str, times: int) -> None:
    parts = urlsplit(address)
    for _ in range(times):
        stack.enter_context(socket.create_connection((parts.hostname, parts.port), timeout=30))


@pytest.mark.usefixtures("many_descriptors")
async def test_ten_thousand_idle_connections_lock_nobody_out(environ: dict[str, str], secret: str) -> None:
    with anyio.fail_after(180):
        async with over_http(environ, COMMAND) as (address, process):
            before = memory_of(process.pid)
            with ExitStack() as stack:
                await anyio.to_thread.run_sync(open_idle, stack, address, IDLE)
                headers = {"Authorization": f"Bearer {secret}"}
                async with (
                    httpx2.AsyncClient(headers=headers, timeout=60) as http,
                    Client(streamable_http_client(address, http_client=http)) as client,
                ):
                    made = (await client.call_tool("create_video", {"prompt": "fly man"})).structured_content or {}
                grown = memory_of(process.pid) - before
    assert made["outcome"] == "accepted"
    assert grown < 150_000_000


@pytest.mark.parametrize("known", [True, False], ids=["a token", "no token"])
async def test_a_body_of_100_mb_is_refused_and_not_held(environ: dict[str, str], secret: str, *, known: bool) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(1600):
            yield bytes(65536)

    headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
    if known:
        headers["Authorization"] = f"Bearer {secret}"
    with anyio.fail_after(60):
        async with over_http(environ, COMMAND) as (address, process), httpx.AsyncClient(timeout=30) as client:
            before = memory_of(process.pid)
            for content in (body(), bytes(100_000_000)):
                with suppress(httpx.WriteError):  # it may be cut off: it would have had to send 100 MB
                    reply = await client.post(address, content=content, headers=headers)
                    assert reply.status_code == (413 if known else 401)
            grown = memory_of(process.pid) - before
    assert grown < 60_000_000


def test_a_client_that_reads_nothing_is_cut_off() -> None:
    with (
        subprocess.Popen([sys.executable, "-c", READS_NOTHING], stdout=subprocess.PIPE, text=True) as server,  # noqa: S603
        killed_on_failure(server),
    ):
        try:
            assert server.stdout is not None
            address = urlsplit(server.stdout.readline().strip())
            with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert server.stdout.readline().strip() == "cut off"
        finally:
            server.kill()


async def test_a_crowd_of_a_team_pays_once_for_each_intent_and_nothing_is_lost(tmp_path: Path) -> None:
    """A short version of the benchmark, which prints what it measures."""
    report = tmp_path / "report.json"
    command = [sys.executable, str(BENCHMARK), "--clients", "40", "--seconds", "5", "--rounds", "0"]
    with anyio.fail_after(120):
        await anyio.run_process([*command, "--conversations", "40", "--sessions", "40", "--json", str(report)])
    figures = json.loads(await anyio.Path(report).read_text())
    assert figures["accepted_posts"] > 0
    assert figures["most_posts_of_an_intent"] == 1
    assert figures["accepted_without_a_row"] == 0
    assert figures["error_rate"] < 0.01
    assert figures["mb_after_40_conversations"] < figures["mb_before"] + 30


@pytest.mark.skipif(programs() is None, reason=NOT_INSTALLED)
async def test_two_servers_lose_nothing_while_one_is_killed_and_postgresql_restarts(tmp_path: Path) -> None:
    """A short version of the benchmark, which ends with status 1 where anything was lost, or paid for twice."""
    report = tmp_path / "report.json"
    command = [sys.executable, str(BENCHMARK), "--clients", "20", "--seconds", "10", "--rounds", "0"]
    command += ["--conversations", "0", "--replicas", "2", "--ledger", "postgres", "--disturb"]
    clean = {name: value for name, value in os.environ.items() if name != "SORA_LEDGER_URL"}
    with anyio.fail_after(180):
        await anyio.run_process([*command, "--json", str(report)], env=clean)
    figures = json.loads(await anyio.Path(report).read_text())
    assert figures["accepted_posts"] > 0
    assert figures["most_posts_of_an_intent"] == 1
