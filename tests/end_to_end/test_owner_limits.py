"""One greedy or careless person of a team: what they hold open is bounded, and nobody else's suffers."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urljoin

import anyio
import httpx
import pytest
from bench import ACCEPTED_NEXT, KEY
from callers import ACCEPT, INITIALIZE_PARAMS, META, authorized_client, bearer, first_request, message, team_server
from fault_gateway import CREATE, FaultGateway, Hold
from mcp import Client
from postgres import Cluster

from sora_mcp.config.converters import Secret
from sora_mcp.config.settings import Settings
from sora_mcp.gateway.client import MAX_CREATE_CONNECTIONS
from sora_mcp.identity.tokens import TokenStore
from sora_mcp.ledger import open_documents
from sora_mcp.runtime.listening import max_connections
from sora_mcp.server.owner_limits import MAX_SESSIONS
from sora_mcp.studio.submitter import MAX_CONCURRENT_CREATES

pytestmark = pytest.mark.anyio

MORE_SESSIONS = MAX_SESSIONS + 1
MORE_REQUESTS = max_connections() // 2 + 1


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(base_url="sandbox", auth="tokens")


@pytest.fixture
async def address(settings: Settings) -> AsyncIterator[str]:
    async with team_server(settings) as address:
        yield address


@asynccontextmanager
async def person(settings: Settings, address: str, name: str) -> AsyncIterator[httpx.AsyncClient]:
    token = TokenStore(open_documents(settings)).add(name, None, None)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=urljoin(address, "/"), headers=bearer(token), timeout=30, trust_env=False, limits=limits
    ) as http:
        yield http


async def open_session(http: httpx.AsyncClient) -> dict[str, str]:
    """Open a session; the headers of a request in it."""
    headers, body = first_request("legacy")
    answer = await http.post("/mcp", headers=headers, content=body)
    assert answer.status_code == 200
    return headers | {"Mcp-Session-Id": answer.headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}


async def status_in(http: httpx.AsyncClient, session: dict[str, str]) -> int:
    return (await http.post("/mcp", headers=session, content=message("ping"))).status_code


async def test_whoever_opens_too_many_sessions_loses_their_own_idlest(settings: Settings, address: str) -> None:
    with anyio.fail_after(60):
        async with person(settings, address, "ann") as ann, person(settings, address, "ben") as ben:
            bens = await open_session(ben)
            listening, idle, used = [await open_session(ann) for _ in range(3)]
            async with ann.stream("GET", "/mcp", headers=listening | {"Accept": "text/event-stream"}) as stream:
                assert stream.status_code == 200
                for number in range(MORE_SESSIONS):
                    newest = await open_session(ann)
                    if number % 100 == 0:
                        assert await status_in(ann, used) == 200
                gone = await ann.post("/mcp", headers=idle, content=message("ping"))
                assert gone.status_code == 404
                assert "Initialize again" in gone.text
                assert [await status_in(ann, each) for each in (listening, newest)] == [200, 200]
            assert await status_in(ben, bens) == 200


@pytest.mark.slow
async def test_where_servers_share_a_ledger_a_session_that_made_room_is_opened_again(
    settings: Settings, cluster: Cluster
) -> None:
    settings = replace(settings, ledger_url=Secret(cluster.database()))
    with anyio.fail_after(60):
        async with team_server(settings) as address, person(settings, address, "ann") as ann:
            idle, listening = await open_session(ann), await open_session(ann)
            async with ann.stream("GET", "/mcp", headers=listening | {"Accept": "text/event-stream"}) as stream:
                for _ in range(MORE_SESSIONS):
                    await open_session(ann)
                assert await status_in(ann, idle) == 200
                assert stream.status_code == 200
                async with ann.stream("GET", "/mcp", headers=listening | {"Accept": "text/event-stream"}) as later:
                    assert later.status_code == 200
                    await stream.aread()  # it is still the session with that stream, which ends


async def test_whoever_has_too_many_requests_open_is_told_to_end_some(settings: Settings, address: str) -> None:
    listen = ACCEPT | {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    body = message("subscriptions/listen", notifications={"resourcesListChanged": True}, _meta=META)
    with anyio.fail_after(60):
        async with person(settings, address, "ann") as ann, person(settings, address, "ben") as ben:
            async with AsyncExitStack() as streams:
                for _ in range(MORE_REQUESTS):
                    answer = await streams.enter_async_context(ann.stream("POST", "/mcp", headers=listen, content=body))
                    if answer.status_code != 200:
                        break
                assert answer.status_code == 429
                assert int(answer.headers["retry-after"]) > 0
                assert "the most that one person may have" in (await answer.aread()).decode()
                assert await status_in(ben, await open_session(ben)) == 200
                assert (await ann.get("/healthz")).status_code == 200
            assert await status_in(ann, await open_session(ann)) == 200


async def link_to_a_large_video(address: str, http: httpx.AsyncClient, folder: Path) -> str:
    """A link to one of whoever uses `http`, of which no client can have all at once that doesn't read."""
    token = http.headers["authorization"].removeprefix("Bearer ")
    async with authorized_client(address, token, "auto") as client:
        task = await finished_video(client)
        await client.call_tool("download_video", task)
        [saved] = (folder / "videos").rglob("*.mp4")
        with saved.open("ab") as file:
            file.truncate(50_000_000)
        return str(((await client.call_tool("download_video", task)).structured_content or {})["url"])


async def test_whoever_has_too_many_downloads_under_way_waits_for_some(
    settings: Settings, address: str, tmp_path: Path
) -> None:
    with anyio.fail_after(60):
        async with person(settings, address, "ann") as ann, httpx.AsyncClient(timeout=30, trust_env=False) as http:
            link = await link_to_a_large_video(address, ann, tmp_path)
            async with AsyncExitStack() as downloads:
                for _ in range(40):
                    answer = await downloads.enter_async_context(http.stream("GET", link))
                    if answer.status_code != 200:
                        break
                assert answer.status_code == 429
                assert int(answer.headers["retry-after"]) > 0
                assert await status_in(ann, await open_session(ann)) == 200
            while (again := await http.get(link, headers={"Range": "bytes=0-3"})).status_code == 429:  # noqa: ASYNC110 - nobody tells
                await anyio.sleep(0.01)
            assert again.status_code == 206


async def test_what_one_person_has_in_memory_is_bounded(settings: Settings, address: str) -> None:
    """Bodies of requests that stay open, and what a client says of itself when it opens a session."""
    listen = ACCEPT | {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    wanted = {"resourcesListChanged": True, "x": "x" * 7_000_000}
    body = message("subscriptions/listen", notifications=wanted, _meta=META)
    with anyio.fail_after(60):
        async with person(settings, address, "ann") as ann, AsyncExitStack() as streams:
            for _ in range(10):
                answer = await streams.enter_async_context(ann.stream("POST", "/mcp", headers=listen, content=body))
                if answer.status_code != 200:
                    break
            assert answer.status_code == 429
            assert "requests of 32 MB" in (await answer.aread()).decode()
            headers, _ = first_request("legacy")
            about = INITIALIZE_PARAMS | {"clientInfo": {"name": "t" * 100_000, "version": "1"}}
            answer = await ann.post("/mcp", headers=headers, content=message("initialize", **about))
            assert answer.status_code == 413
            assert "longer than 64 KB" in answer.text
            assert await status_in(ann, await open_session(ann)) == 200


async def test_refused_images_that_never_come_hold_few_connections(settings: Settings, address: str) -> None:
    """The rest of a body is taken in for ten seconds, so that its sender reads why it is refused."""
    answered = 0

    async def send(link: httpx.URL) -> None:
        nonlocal answered
        async with await anyio.connect_tcp(link.host, link.port or 80) as connection:
            head = (
                f"PUT {link.path} HTTP/1.1\r\nHost: {link.host}\r\nContent-Type: text/plain\r\nContent-Length: 9999\r\n"
            )
            await connection.send(f"{head}\r\nx".encode())
            assert (await connection.receive()).startswith(b"HTTP/1.1 415")
        answered += 1
        if answered == 16:
            sending.cancel_scope.cancel()

    async with person(settings, address, "ann") as ann:
        link = httpx.URL(await link_for_an_image(address, ann))
        with anyio.fail_after(8):
            async with anyio.create_task_group() as sending:
                for _ in range(20):
                    sending.start_soon(send, link)


async def link_for_an_image(address: str, http: httpx.AsyncClient) -> str:
    token = http.headers["authorization"].removeprefix("Bearer ")
    async with authorized_client(address, token, "auto") as client:
        refused = await client.call_tool("create_video", {"prompt": "fly man", "inpaint_items": [{"url": "cat.png"}]})
    return str(re.findall(r"https?://[^\s\"]+/images/[\w.-]+", refused.model_dump_json())[0])


@pytest.mark.slow
async def test_nobody_waits_behind_all_that_somebody_else_looks_at(settings: Settings, address: str) -> None:
    many, seen = 8, 0
    anns_token, bens_token = (TokenStore(open_documents(settings)).add(name, None, None) for name in ("ann", "ben"))
    first = anyio.Event()

    async def look(client: Client, task: dict[str, str]) -> None:
        nonlocal seen
        await client.call_tool("view_video", task)  # on a slow machine the last ones are told that the server is busy
        seen += 1
        first.set()

    with anyio.fail_after(120):
        async with (
            authorized_client(address, anns_token, "auto") as ann,
            authorized_client(address, bens_token, "auto") as ben,
        ):
            anns, bens = await finished_video(ann), await finished_video(ben)
            async with anyio.create_task_group() as looking:
                for _ in range(many):
                    looking.start_soon(look, ann, anns)
                await first.wait()
                assert not (await ben.call_tool("view_video", bens)).is_error
                assert seen < many - 2


async def finished_video(client: Client) -> dict[str, str]:
    made = (await client.call_tool("create_video", {"prompt": "fly man"})).structured_content or {}
    task = {"task_id": str(made["task_id"])}
    await client.call_tool("get_video", task | {"wait_seconds": 30})
    return task


async def test_nobody_waits_behind_all_the_creates_that_somebody_else_sends(
    make_settings: Callable[..., Settings], gateway: FaultGateway
) -> None:
    settings = make_settings(base_url=gateway.address, api_key=KEY, auth="tokens")
    anns_token, bens_token = (TokenStore(open_documents(settings)).add(name, None, None) for name in ("ann", "ben"))
    hold, many, told = Hold(), MAX_CONCURRENT_CREATES + 5, list[bool | None]()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))

    async def create(client: Client, prompt: str) -> None:
        told.append((await client.call_tool("create_video", {"prompt": prompt})).is_error)

    with anyio.fail_after(60):
        async with (
            team_server(settings) as address,
            authorized_client(address, anns_token, "auto") as ann,
            authorized_client(address, bens_token, "auto") as ben,
            anyio.create_task_group() as creating,
        ):
            for number in range(many):
                creating.start_soon(create, ann, f"film {number}")
            while len(gateway.creates()) < MAX_CONCURRENT_CREATES:  # noqa: ASYNC110 - the gateway tells nobody
                await anyio.sleep(0.01)
            gateway.on("POST", CREATE, ACCEPTED_NEXT)
            await create(ben, "a boat")
            assert len(gateway.creates()) == MAX_CONCURRENT_CREATES + 1
            hold.release.set()
    assert told == [False] * (many + 1)
    assert len(gateway.creates()) == many + 1
    assert MAX_CONCURRENT_CREATES <= MAX_CREATE_CONNECTIONS // 2
