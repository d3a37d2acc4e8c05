"""Two servers, each with a SORA_HOME of its own, that share a database and a folder: they know the same people, take
each other's links, and go on alike where the database is gone."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import mcp_types as types
import pytest
from bench import ACCEPTED_NEXT, COMMAND, ERAS, KEY, PNG, Era, Run, create_accepted, environment, finished, over_http
from callers import ACCEPT, META, authorized_client, bearer, begin_session, message
from calls import ask, assert_accepted, assert_refused, create, item
from fault_gateway import CREATE, Answer, FaultGateway, says
from mcp.client.context import ClientRequestContext
from postgres import Cluster, running_cluster
from warm import warm_command

from sora_mcp.config.converters import Secret
from sora_mcp.config.settings import Settings, load
from sora_mcp.identity.tokens import Tokens, TokenStore
from sora_mcp.identity.upstream_keys import UpstreamKeys
from sora_mcp.ledger import open_documents

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

FILES = "/v1/files"


@dataclass
class Two:
    """Two servers that run, their addresses, and the shell of another machine that reaches the database."""

    addresses: list[str]
    shell: dict[str, str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - our own command
            [*warm_command(), *arguments], check=False, capture_output=True, text=True, env=self.shell, timeout=60
        )

    async def token(self, *arguments: str) -> dict[str, Any]:
        done = await anyio.to_thread.run_sync(lambda: self.run("token", *arguments, "--json"))
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    async def add(self, name: str) -> str:
        return str((await self.token("add", name))["token"])


def environment_of(folder: Path, name: str, url: str, gateway: FaultGateway | None = None) -> dict[str, str]:
    shared = {"LEDGER_URL": url, "OUTPUT_DIR": str(folder / "shared"), "AUTH": "tokens"}
    return environment(folder / name, gateway, **shared)


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., Any]:
    """Starts two servers on a database."""

    async def begin(stack: AsyncExitStack, url: str, gateway: FaultGateway | None = None) -> Two:
        addresses = [
            (await stack.enter_async_context(over_http(environment_of(tmp_path, name, url, gateway))))[0]
            for name in ("first", "second")
        ]
        return Two(addresses, environment_of(tmp_path, "shell", url, gateway))

    return begin


@pytest.fixture
async def two(start: Callable[..., Any], cluster: Cluster, gateway: FaultGateway) -> AsyncIterator[Two]:
    gateway.on("POST", CREATE, create_accepted())
    async with AsyncExitStack() as stack:
        yield await start(stack, cluster.database(), gateway)


async def until(holds: Callable[[], Awaitable[bool]], within_s: float) -> None:
    """Ask until it holds."""
    with anyio.fail_after(within_s):
        while not await holds():
            pass


async def status(address: str, era: Era, token: str) -> int:
    return (await begin_session(address, era, token)).status_code


async def test_a_token_is_added_once_and_revoked_once_for_all(two: Two) -> None:
    token, bobs = await two.add("alice"), await two.add("bob")
    for era in ERAS:
        assert [await status(each, era, token) for each in two.addresses] == [200, 200]
    listen = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    body = message("subscriptions/listen", notifications={"resourcesListChanged": True}, _meta=META)
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(timeout=20, trust_env=False))
        streams = []
        for address in two.addresses:
            session = (await begin_session(address, "legacy", token)).headers["mcp-session-id"]
            old = {"Accept": "text/event-stream", "Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}
            streams += [
                http.stream("POST", address, headers=ACCEPT | listen | bearer(token), content=body),
                http.stream("GET", address, headers=old | bearer(token)),
            ]
        answers = [await stack.enter_async_context(stream) for stream in streams]
        assert [answer.status_code for answer in answers] == [200] * 4
        await two.token("revoke", "alice")
        with anyio.fail_after(6):
            for answer in answers:
                async for _ in answer.aiter_raw():
                    pass
    for era in ERAS:
        assert [await status(each, era, token) for each in two.addresses] == [401, 401]
        assert [await status(each, era, bobs) for each in two.addresses] == [200, 200]
    assert (await two.token("list"))["tokens"][0]["name"] == "bob"


async def test_links_of_one_server_are_served_by_the_other(two: Two, gateway: FaultGateway) -> None:
    """An image goes to one by a link of the other, and stands in a create at the first; a video comes back alike."""
    first, second = two.addresses
    token = await two.add("alice")
    gateway.on("POST", FILES, says({"id": "file-1", "object": "file", "url": "https://files.example/image.png"}))
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:

        def at(server: str, link: str) -> str:
            return server.removesuffix("/mcp") + httpx.URL(link).raw_path.decode()

        async with (
            authorized_client(first, token, "auto") as client,
            authorized_client(second, token, "legacy") as other,
        ):
            refused = await assert_refused(client, *item(url="cat.png"))
            link = re.findall(r"https?://\S+/images/[\w.-]+", refused.text)[0]
            sent = await http.put(at(second, link), content=PNG)
            assert sent.status_code == 201, sent.text
            told = await assert_accepted(client, *item(url=sent.json()["url"]))
            assert PNG in next(each.body for each in gateway.received if each.path == FILES)
            video = b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov\0\0\0\x0cmdatdata"
            gateway.on("GET", "/video.mp4", Answer(200, video, {"Content-Type": "video/mp4"}))
            gateway.on("GET", CREATE, finished(f"{gateway.address}/video.mp4"))
            await ask(other, "get_video", {"task_id": told.data["task_id"], "wait_seconds": 20})
            download = await ask(other, "download_video", {"task_id": told.data["task_id"]})
            assert not download.is_error, download.text
            answers = [await http.get(at(each, download.data["url"])) for each in two.addresses]
            assert [(each.status_code, each.content) for each in answers] == [(200, video)] * 2
            await two.token("revoke", "alice")

            async def is_refused() -> bool:
                return [(await http.head(at(each, download.data["url"]))).status_code for each in two.addresses] == [
                    403,
                    403,
                ]

            await until(is_refused, 6)


@pytest.mark.parametrize("apart", ["-10m", "+10m"])
async def test_a_question_of_one_is_answered_at_another_whose_clock_is_ten_minutes_off(
    apart: str, cluster: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    url = cluster.database()
    first, second = (environment_of(tmp_path, name, url, gateway) for name in ("first", "second"))
    second |= clock(apart)
    made = TokenStore(open_documents(load({}, ledger_url=url, home=tmp_path))).add("alice", None, None)
    yes: Any = {"pay": types.ElicitResult(action="accept", content={"pay": True})}
    async with AsyncExitStack() as stack:
        clients = []
        for each in (first, second):
            address, _ = await stack.enter_async_context(over_http(each | {"SORA_ASK_ABOVE_COST": "1"}, COMMAND))
            clients.append(await stack.enter_async_context(authorized_client(address, made, "auto", user=nobody)))
        for asks, hears in (clients, reversed(clients)):
            call = partial(asks.session.call_tool, *create(allow_duplicate=True), allow_input_required=True)
            asked = await call()
            assert isinstance(asked, types.InputRequiredResult)
            answer = partial(
                hears.session.call_tool, *call.args, input_responses=yes, request_state=asked.request_state
            )
            told = await answer(allow_input_required=True)
            assert isinstance(told, types.CallToolResult)
            assert (told.structured_content or {})["outcome"] == "accepted"
            assert isinstance(await answer(allow_input_required=True), types.InputRequiredResult)
    assert len(gateway.creates()) == 2


def clock(apart: str) -> dict[str, str]:
    """What makes a process read a clock that is so far off."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed (Debian: faketime)")
    return {"LD_PRELOAD": str(library), "FAKETIME": apart, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


async def nobody(context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:  # noqa: ARG001
    raise AssertionError


async def test_a_persons_own_key_is_sent_by_every_server(two: Two, gateway: FaultGateway) -> None:
    token = await two.add("alice")
    done = subprocess.run(  # noqa: S603, ASYNC221 - our own command
        [*warm_command(), "token", "key", "alice"],
        env=two.shell,
        input="sk-alices-own",
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sk-alices-own" not in done.stdout + done.stderr
    for number, address in enumerate(two.addresses):
        gateway.on("POST", CREATE, create_accepted(f"task_{number}"))
        async with authorized_client(address, token, "auto") as client:
            await assert_accepted(client, *create(prompt=f"boat {number}"))
    assert [each.headers["authorization"] for each in gateway.creates()] == ["Bearer sk-alices-own"] * 2
    shown = await anyio.to_thread.run_sync(lambda: two.run("doctor"))
    assert "with their own gateway key: alice" in shown.stdout
    assert "sk-alices-own" not in shown.stdout + shown.stderr


async def test_where_the_database_is_gone_those_who_are_known_are_told_so_and_no_stranger_gets_in(
    start: Callable[..., Any], gateway: FaultGateway, tmp_path: Path
) -> None:
    gateway.on("POST", CREATE, create_accepted())
    async with AsyncExitStack() as stack:
        cluster = stack.enter_context(running_cluster())
        url = cluster.database()
        two = await start(stack, url, gateway)
        token = await two.add("alice")
        assert [await status(each, "auto", token) for each in two.addresses] == [200, 200]
        cluster.stop("immediate")
        with anyio.fail_after(35):
            async with authorized_client(two.addresses[0], token, "auto") as client:
                told = await ask(client, *create())
        assert told.data["outcome"] == "not_submitted"
        assert "The ledger in PostgreSQL cannot be used" in told.text
        stranger = "sora_mcp_" + "0" * 64

        async def nobody_can_tell() -> bool:
            return [await status(each, "auto", stranger) for each in two.addresses] == [503, 503]

        await until(nobody_can_tell, 10)
        async with over_http(environment_of(tmp_path, "third", url, gateway)) as (late, _):
            assert await status(late, "auto", token) == 503
            listed = await anyio.to_thread.run_sync(lambda: two.run("token", "list"))
            assert listed.returncode != 0
            assert "The ledger in PostgreSQL cannot be used" in listed.stderr
            assert "Traceback" not in listed.stderr
            cluster.start()

            async def are_back() -> bool:
                everyone = [*two.addresses, late]
                return [await status(each, "auto", token) for each in everyone] == [200] * 3

            await until(are_back, 20)
            await two.token("revoke", "alice")

            async def are_refused() -> bool:
                return [await status(each, "auto", token) for each in (*two.addresses, late)] == [401] * 3

            await until(are_refused, 6)
    assert gateway.creates() == []


def test_tokens_in_files_are_named_and_can_be_taken_over(
    cluster: Cluster, make_settings: Callable[..., Settings], run: Run
) -> None:
    alone, url = make_settings(), cluster.database()
    shared = make_settings(ledger_url=url)
    here, there = (TokenStore(open_documents(each)) for each in (alone, shared))
    token = here.add("alice", None, None)
    here.add("bob", None, None)
    UpstreamKeys(open_documents(alone)).store("bob", "http://sandbox", Secret(KEY))
    there.add("Bob", None, None)
    listed = run("token", "list", LEDGER_URL=url)
    assert "alice" not in listed.stdout
    assert "tokens.json and " in listed.stderr
    assert "are not used: tokens and keys are in the ledger's database" in listed.stderr
    checks = json.loads(run("doctor", "--json", LEDGER_URL=url, AUTH="tokens").stdout)["checks"]
    about = {each["name"]: (each["verdict"], each["message"], each["next_step"]) for each in checks}
    assert about["tokens"] == ("ok", "Bob (in the ledger's database)", "")
    assert about["token files"][::2] == ("note", "Run: sora-mcp token import")
    assert "AUTH = tokens\n" in run("doctor", LEDGER_URL=url, AUTH="tokens").stdout
    done = run("token", "import", LEDGER_URL=url).stdout.splitlines()
    assert done[:3] == [
        "Imported tokens: alice.",
        "Tokens not imported, because the name already has one: bob.",
        "Imported keys: bob.",
    ]
    assert [line.partition(": ")[0] for line in done[3:]] == ["Renamed", "Renamed"]
    assert [each.name for each in there.grants()] == ["Bob", "alice"]
    assert Tokens(there).grant(token) is not None
    assert UpstreamKeys(open_documents(shared)).get("bob", "http://sandbox") == Secret(KEY)
    assert here.grants() == ()
    again = run("token", "import", LEDGER_URL=url)
    assert (again.stdout, again.stderr) == ("Imported tokens: none.\n", "")
    assert not any(json.loads(run("token", "import", "--json", LEDGER_URL=url).stdout).values())
    assert "SORA_LEDGER_URL is not set" in run("token", "import").stderr
