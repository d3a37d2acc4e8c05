"""A server over HTTP for whoever runs it: where it may listen, whom it answers, its health, its numbers, its log."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest
from anyio.abc import Process
from bench import ACCEPTED, KEY, RUNNING, Run, environment, over_http
from fault_gateway import CREATE, Answer, FaultGateway, closed_address, says
from mcp import Client
from warm import warm_command

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

PROMPT = "lighthouse-canary"
PATHS = ["/mcp", "/healthz", "/readyz", "/metrics", "/", "/media/x", "/uploads/x", "/mcp/"]


@pytest.fixture
async def server(tmp_path: Path, gateway: FaultGateway) -> AsyncIterator[tuple[str, Process]]:
    """A server that knows another name, and logs every request: its base address and its process."""
    gateway.on("POST", CREATE, ACCEPTED)
    gateway.on("GET", CREATE, RUNNING)
    gateway.on("GET", "/v1/models", says({"data": []}))
    settings = {"ALLOWED_HOSTS": "videos.example.org", "ALLOWED_ORIGINS": "https://chat.example.org"}
    async with over_http(environment(tmp_path, gateway, LOG_LEVEL="INFO", **settings)) as (address, process):
        yield address.removesuffix("/mcp"), process


async def until_ended(process: Process) -> str:
    """End a server; what it wrote to stderr."""
    process.terminate()
    assert process.stderr is not None
    written = b"".join([chunk async for chunk in process.stderr])
    await process.wait()
    return written.decode()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "videos.example.org"])  # noqa: S104
def test_another_address_than_this_machines_is_refused_until_callers_are_asked(run: Run, host: str) -> None:
    done = run("serve", "--transport", "streamable-http", "--host", host)
    assert done.returncode == 2
    assert "SORA_AUTH, SORA_ALLOWED_HOSTS, SORA_ALLOWED_ORIGINS are not set" in done.stderr


@pytest.mark.parametrize("missing", ["SORA_AUTH", "SORA_ALLOWED_HOSTS", "SORA_ALLOWED_ORIGINS"])
async def test_what_is_missing_for_another_address_is_named(tmp_path: Path, missing: str) -> None:
    settings = {"AUTH": "tokens", "ALLOWED_HOSTS": "a.example", "ALLOWED_ORIGINS": "https://a.example"}
    environ = environment(tmp_path, None, **settings)
    del environ[missing]
    command = [*warm_command(), "serve", "--transport", "streamable-http", "--host", "0.0.0.0"]  # noqa: S104
    done = await anyio.run_process(command, env=environ, check=False)
    assert done.returncode == 2
    assert f"{missing} is not set" in done.stderr.decode()


@pytest.mark.parametrize("name", ["SORA_AUHT", "SORA_MCP_AUTH", "sora_auth "])
async def test_nothing_is_served_where_it_may_be_misspelt_that_callers_are_asked(tmp_path: Path, name: str) -> None:
    """A proxy in front of this machine would let everybody in."""
    command = [*warm_command(), "serve", "--transport", "streamable-http", "--port", "0"]
    done = await anyio.run_process(command, env=environment(tmp_path) | {name: "tokens"}, check=False)
    assert done.returncode == 2
    assert "SORA_AUTH may be misspelt" in done.stderr.decode()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", "https://videos.example.org"),
        ("ALLOWED_ORIGINS", "*"),
        ("ALLOWED_ORIGINS", "null"),
        ("ALLOWED_ORIGINS", "https://chat.example.org/path"),
    ],
)
async def test_names_that_would_allow_anybody_are_no_names(tmp_path: Path, name: str, value: str) -> None:
    command = [*warm_command(), "serve", "--transport", "streamable-http"]
    done = await anyio.run_process(command, env=environment(tmp_path, None, **{name: value}), check=False)
    assert done.returncode != 0
    assert f"SORA_{name} cannot be used" in done.stderr.decode()


async def test_doctor_says_where_a_name_is_known_and_nobody_is_asked(tmp_path: Path) -> None:
    environ = environment(tmp_path, ALLOWED_HOSTS="videos.example.org")
    done = await anyio.run_process([*warm_command(), "doctor"], env=environ, check=False)
    assert "answers to videos.example.org, and authenticates nobody" in done.stdout.decode()


async def test_a_bad_host_or_origin_is_refused_on_every_path(server: tuple[str, Process]) -> None:
    base, _ = server
    async with httpx.AsyncClient(base_url=base) as client:
        for path in PATHS:
            for method in ("GET", "POST", "HEAD", "DELETE", "OPTIONS"):
                for headers in (
                    {"Host": "evil.example"},
                    {"Host": "videos.example.org.evil.example"},
                    {"Host": "evil.example", "X-Forwarded-Host": "videos.example.org"},
                    {"Origin": "https://evil.example"},
                    {"Origin": "null"},
                    {"Origin": "http://localhost:3000"},  # others are named, so this machine's pages are not meant
                    {"Origin": "https://chat.example.org.evil.example"},
                ):
                    reply = await client.request(method, path, headers=headers)
                    assert reply.status_code == (421 if "Host" in headers else 403), (method, path, headers)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "videos.example.org"},
        {"Host": "Videos.Example.Org:8443"},
        {"Host": "localhost:1"},
        {"Origin": "https://chat.example.org"},
        {"Origin": "https://Chat.Example.Org"},
    ],
    ids=str,
)
async def test_its_own_names_and_the_pages_that_may_use_it_are_served(
    server: tuple[str, Process], headers: dict[str, str]
) -> None:
    async with httpx.AsyncClient(base_url=server[0]) as client:
        assert (await client.get("/healthz", headers=headers)).json() == {"alive": True}


async def test_a_page_that_may_use_it_is_let_by_its_browser(server: tuple[str, Process]) -> None:
    page = {"Origin": "https://chat.example.org"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,mcp-method"}
    async with httpx.AsyncClient(base_url=server[0]) as client:
        allowed = await client.options("/mcp", headers=page | asked)
        reply = await client.post("/mcp", headers=page)
        refused = await client.options("/mcp", headers={"Origin": "https://evil.example"} | asked)
        plain = await client.get("/healthz")
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (200, page["Origin"])
    assert "mcp-method" in allowed.headers["Access-Control-Allow-Headers"]
    assert reply.headers["Access-Control-Allow-Origin"] == page["Origin"]
    assert "Mcp-Session-Id" in reply.headers["Access-Control-Expose-Headers"]
    assert refused.status_code == 403
    assert "Access-Control-Allow-Origin" not in plain.headers


async def test_a_slash_at_the_end_of_the_address_leads_to_the_endpoint(server: tuple[str, Process]) -> None:
    async with httpx.AsyncClient(base_url=server[0]) as client:
        for method in ("GET", "POST", "DELETE"):
            reply = await client.request(method, "/mcp/")
            assert (reply.status_code, reply.headers["Location"]) == (307, "/mcp")


async def test_ready_is_told_of_ledger_and_gateway_without_a_paid_call(
    server: tuple[str, Process], gateway: FaultGateway
) -> None:
    async with httpx.AsyncClient(base_url=server[0]) as client:
        for _ in range(5):
            reply = await client.get("/readyz")
            assert (reply.status_code, reply.json()) == (200, {"ready": True, "ledger": "ok", "gateway": "ok"})
    assert gateway.creates() == []
    assert len(gateway.requests("GET", "/v1/models")) <= 2  # what was seen is told again


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (says({"error": f"bad key {KEY}"}, 401), "refuses the key"),
        (says({"error": KEY}, 500), "does not answer correctly"),
        (Answer(200, fault="stall", at="requested"), "no answer within"),
        (None, "cannot be reached"),
    ],
    ids=["401", "500", "silent", "gone"],
)
async def test_what_is_missing_at_the_gateway_is_said_without_its_words(
    tmp_path: Path, gateway: FaultGateway, answer: Answer | None, words: str
) -> None:
    environ = environment(tmp_path, gateway)
    if answer is None:
        environ["SORA_BASE_URL"] = closed_address()
    else:
        gateway.on("GET", "/v1/models", answer)
    with anyio.fail_after(60):
        async with over_http(environ) as (address, _), httpx.AsyncClient(timeout=20) as client:
            reply = await client.get(address.replace("/mcp", "/readyz"))
            alive = await client.get(address.replace("/mcp", "/healthz"))
    assert (reply.status_code, reply.json()["ready"], reply.json()["ledger"]) == (503, False, "ok")
    assert words in reply.json()["gateway"]
    assert KEY not in reply.text
    assert alive.status_code == 200


async def test_a_gateway_that_is_not_set_and_a_ledger_that_is_damaged_are_named(tmp_path: Path) -> None:
    environ = environment(tmp_path, BASE_URL="")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "ledger.sqlite3").write_bytes(b"no database " * 1000)
    async with over_http(environ) as (address, _), httpx.AsyncClient() as client:
        report = (await client.get(address.replace("/mcp", "/readyz"))).json()
    assert "SORA_BASE_URL" in report["gateway"]
    assert "SORA_HOME cannot be used" in report["ledger"]


async def test_the_numbers_count_calls_rows_and_connections_and_name_nobody(server: tuple[str, Process]) -> None:
    base, _ = server
    async with Client(f"{base}/mcp") as client, httpx.AsyncClient(base_url=base) as scraper:
        await client.call_tool("create_video", {"prompt": PROMPT})
        await client.call_tool("create_video", {"prompt": PROMPT, "size": "huge"})
        await client.call_tool("get_video", {"task_id": "task_new"})
        await client.call_tool(f"made-up-{PROMPT}", {})
        text = (await scraper.get("/metrics")).text
    assert 'sora_tool_calls_total{outcome="accepted",tool="create_video"} 1.0' in text
    assert 'sora_tool_calls_total{outcome="not_submitted",tool="create_video"} 1.0' in text
    assert 'sora_tool_call_seconds_count{tool="get_video"} 1.0' in text
    assert re.search(r'sora_videos\{state="(submitted|running)"\} 1\.0', text)
    assert re.search(r"^sora_connections [1-9]", text, re.MULTILINE)
    assert 'tool="other"' in text
    assert not [word for word in (PROMPT, KEY, "task_new") if word in text]


async def test_the_log_has_a_line_for_each_request_and_no_secret(server: tuple[str, Process]) -> None:
    base, process = server
    secrets = {"Authorization": "Bearer token-canary", "Cookie": "cookie-canary", "Mcp-Session-Id": "session-canary"}
    async with Client(f"{base}/mcp", mode="legacy") as client, httpx.AsyncClient(base_url=base) as http:
        await client.call_tool("create_video", {"prompt": PROMPT})
        for path in ("/healthz?signature=query-canary", "/mcp?token=query-canary", "/path-canary", "/mcp/path-canary"):
            await http.get(path, headers=secrets)
    with anyio.fail_after(30):
        log = await until_ended(process)
    lines = [line for line in log.splitlines() if "logger=sora_mcp.access" in line]
    assert len(lines) >= 6
    assert "method=GET path=/healthz status=200" in log
    assert "path=other status=404" in log
    assert not [word for word in ("canary", KEY, "session") if word in log]


async def test_numbers_that_cannot_be_read_name_no_file(tmp_path: Path, gateway: FaultGateway) -> None:
    with anyio.fail_after(30):
        async with (
            over_http(environment(tmp_path, gateway)) as (address, _),
            Client(address) as client,
            httpx.AsyncClient(base_url=address.removesuffix("/mcp"), trust_env=False) as scraper,
        ):
            await client.call_tool("create_video", {"prompt": "fly man"})
            (tmp_path / "home" / "ledger.sqlite3").rename(tmp_path / "home" / "moved")
            answer = await scraper.get("/metrics")
            assert answer.status_code == 503
            assert "cannot be used" in answer.text
            assert str(tmp_path) not in answer.text
