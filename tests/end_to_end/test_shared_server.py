"""Several people share a server: their money, their questions, what they are told of, their keys and their folders."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from typing import Any

import anyio
import httpx
import mcp_types as types
import pytest
from bench import ACCEPTED_NEXT, KEY, MP4, Era, finished
from calls import ask
from fault_gateway import CREATE, Answer, FaultGateway, Hold, says
from mcp import Client, MCPError
from mcp.client._transport import TransportStreams
from mcp.client.context import ClientRequestContext
from mcp.client.session import MessageHandlerFnT
from mcp.client.streamable_http import streamable_http_client
from mcp.client.subscriptions import ResourceUpdated
from mcp.shared._httpx_utils import create_mcp_http_client
from resources import create, text
from shared_server import Team, build_app, team

from sora_mcp.config.converters import Secret
from sora_mcp.config.settings import Settings
from sora_mcp.config.sharing import endpoint_without_key
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import NotConfigured, NotFound, OutcomeUnknown
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.owners import owner_folder
from sora_mcp.identity.upstream_keys import UpstreamKeys
from sora_mcp.ledger import open_documents
from sora_mcp.studio import Studio

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]

ANNS_OWN = "sk-of-ann-9d2f7c1b4e6a"
DEAR = {"prompt": "fly man", "width": 1280, "height": 720}
Make = Callable[..., Settings]


@pytest.fixture
def shared(make_settings: Make, gateway: FaultGateway) -> Make:
    """The settings of a server that people share."""
    gateway.on("POST", CREATE, ACCEPTED_NEXT)

    def make(**values: Any) -> Settings:
        return make_settings(**({"base_url": gateway.address, "api_key": KEY, "auth": "tokens"} | values))

    return make


def owners(made: Team) -> list[str]:
    """Of all rows of the ledger."""
    with closing(sqlite3.connect(made.settings.ledger)) as db:
        return [owner for (owner,) in db.execute("SELECT owner FROM videos")]


# --- money ----------------------------------------------------------------------------------------


async def test_the_same_film_of_two_people_is_two_and_of_one_in_two_sessions_is_one(
    shared: Make, gateway: FaultGateway
) -> None:
    with anyio.fail_after(60):
        async with (
            team(shared()) as made,
            made.client("ann") as ann,
            made.client("ann", "legacy") as ann_at_home,
            made.client("ben") as ben,
        ):
            tasks: dict[str, str] = {}

            async def pay(name: str, client: Client) -> None:
                tasks[name] = await create(client)

            async with anyio.create_task_group() as paying:
                for name, client in (("ann", ann), ("ann at home", ann_at_home), ("ben", ben)):
                    paying.start_soon(pay, name, client)
            assert tasks["ann"] == tasks["ann at home"] != tasks["ben"]
            assert len(gateway.accepted()) == 2
            assert sorted(owners(made)) == ["ann", "ben"]


async def test_each_has_their_cap_and_all_have_one_together(shared: Make, gateway: FaultGateway) -> None:
    settings = shared(max_cost_per_day="4", max_cost_per_owner="2", max_running="9", max_calls_per_day="99")
    with anyio.fail_after(60):
        async with team(settings) as made:
            made.token("ann", Cost.of(3))
            async with made.client("ann") as ann, made.client("ben") as ben, made.client("cid") as cid:
                for client, prompt in ((ann, "one"), (ann, "two"), (ben, "three")):
                    told = await ask(client, "create_video", {"prompt": prompt})
                    assert not told.is_error, told.text
                told = await ask(ann, "create_video", {"prompt": "more"})
                assert "your cap for 24 hours allows 3" in told.text
                told = await ask(ben, "create_video", {"prompt": "more"})
                assert "your cap for 24 hours allows 2" in told.text
                assert "task_" not in told.text.replace("task_3", "")
                told = await ask(cid, "create_video", {"prompt": "more"})
                assert "The team spent 3.75 in the last 24 hours, or may have" in told.text
                assert told.data["outcome"] == "not_submitted"
                assert "task_" not in told.text
                assert len(gateway.creates()) == 3
                described = await ask(cid, "describe_gateway", {})
                assert described.data["spent"]["cost"] == 0
                assert described.data["caps"] == {
                    "per_day": 2,
                    "left_today": 2,
                    "team_per_day": 4,
                    "team_running": 9,
                    "team_calls_per_day": 99,
                }
                assert "4 in 24 hours for the whole team" in described.text
                described = await ask(ann, "describe_gateway", {})
                assert described.data["caps"]["per_day"] == 3
                assert described.data["spent"]["cost"] == 2.5


async def test_a_cap_that_changes_holds_from_the_next_call_on(shared: Make) -> None:
    with anyio.fail_after(60):
        async with team(shared()) as made:
            made.token("ann", Cost.of(1))
            async with made.client("ann") as ann:
                assert (await ask(ann, "create_video", {"prompt": "one"})).is_error
            made.token("ann", Cost.of(9), replace=True)
            async with made.client("ann") as ann:
                assert not (await ask(ann, "create_video", {"prompt": "one"})).is_error


async def test_a_dry_run_tells_of_a_reached_cap_of_the_team_no_more_than_its_sum(shared: Make) -> None:
    with anyio.fail_after(60):
        async with team(shared(max_running="1")) as made, made.client("ann") as ann, made.client("ben") as ben:
            task_id = await create(ann)
            told = await ask(ben, "create_video", {"prompt": "x", "dry_run": True})
            assert "The team has 1 video under way, or may have" in told.text
            assert task_id not in told.text


# --- questions ------------------------------------------------------------------------------------


async def no(context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:  # noqa: ARG001
    return types.ElicitResult(action="decline")


async def answer(client: Client, state: str | None, **arguments: Any) -> Any:
    """A call that answers yes under a state; what it ends with."""
    yes: Any = {"pay": types.ElicitResult(action="accept", content={"pay": True})} if state is not None else None
    return await client.session.call_tool(
        "create_video", DEAR | arguments, input_responses=yes, request_state=state, allow_input_required=True
    )


async def test_an_answer_counts_once_and_after_a_restart_and_at_another_process(
    shared: Make, gateway: FaultGateway
) -> None:
    settings = shared(ask_above_cost="1.25")
    with anyio.fail_after(60):
        async with team(settings) as first, first.client("ann", user=no) as ann:
            asked = await answer(ann, None, allow_duplicate=True)
            assert "fly man" not in asked.request_state
            tokens = first.tokens
        async with team(settings) as second, team(settings) as third:
            second.tokens = third.tokens = tokens
            async with second.client("ann", user=no) as ann, third.client("ann", user=no) as ann_elsewhere:
                done = await answer(ann, asked.request_state, allow_duplicate=True)
                assert done.structured_content["outcome"] == "accepted"
                for client in (ann, ann_elsewhere):
                    again = await answer(client, asked.request_state, allow_duplicate=True)
                    assert isinstance(again, types.InputRequiredResult)
        assert len(gateway.creates()) == 1


@pytest.mark.parametrize("arguments", [{}, {"prompt": "another"}], ids=str)
async def test_an_answer_of_somebody_else_or_for_another_call_is_asked_for_again(
    shared: Make, gateway: FaultGateway, arguments: dict[str, Any]
) -> None:
    with anyio.fail_after(60):
        settings = shared(ask_above_cost="1.25")
        async with team(settings) as made, made.client("ann", user=no) as ann, made.client("ben", user=no) as ben:
            asked = await answer(ann, None)
            stranger = await answer(ben, asked.request_state, **arguments)
            made_up = await answer(ben, "v1.AAAA", **arguments)
            for each in (stranger, made_up):
                assert isinstance(each, types.InputRequiredResult)
                assert each.request_state not in {None, asked.request_state}
            assert gateway.creates() == []


# --- sessions -------------------------------------------------------------------------------------


async def test_a_session_of_somebody_else_is_none(shared: Make) -> None:
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "tests", "version": "1"}}
    accept = {"Accept": "application/json, text/event-stream"}
    with anyio.fail_after(30):
        async with team(shared()) as made, httpx.AsyncClient(trust_env=False) as http:
            body = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
            begun = await http.post(made.address, json=body, headers=made.headers("ann") | accept)
            session = {"Mcp-Session-Id": begun.headers["mcp-session-id"]}
            ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
            for name, status in (("ann", 200), ("ben", 404)):
                reply = await http.post(made.address, json=ping, headers=made.headers(name) | accept | session)
                assert reply.status_code == status


# --- being told -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ears_era", ["auto", "legacy"])
async def test_only_whose_video_it_is_are_told(shared: Make, gateway: FaultGateway, ears_era: Era) -> None:
    """Ben names Ann's video, and hears nothing; his own is told to him all the while."""
    hold = Hold()
    gateway.on("GET", f"{CREATE}/task_1", replace(finished(f"{gateway.address}/media/one.mp4"), hold=hold))
    heard: dict[str, list[str]] = {"ann": [], "ben": []}
    news = anyio.Event()

    def ears(name: str) -> MessageHandlerFnT:
        async def hear(message: object) -> None:
            if isinstance(message, types.ResourceUpdatedNotification):
                heard[name].append(message.params.uri)
                if name == "ann":
                    news.set()

        return hear

    async def listen(name: str, client: Client, uris: list[str], ready: anyio.Event) -> None:
        async with client.listen(resource_subscriptions=uris) as events:
            ready.set()
            async for event in events:
                assert isinstance(event, ResourceUpdated)
                heard[name].append(event.uri)
                if name == "ann":
                    news.set()

    with anyio.fail_after(60):
        async with (
            team(shared()) as made,
            made.client("ann", ears_era, message_handler=ears("ann")) as ann,
            made.client("ben", ears_era, message_handler=ears("ben")) as ben,
            anyio.create_task_group() as listening,
        ):
            assert await create(ann) == "task_1"
            uri = "sora://videos/task_1"
            for name, client in (("ann", ann), ("ben", ben)):
                if ears_era == "legacy":
                    await client.subscribe_resource(uri)
                else:
                    ready = anyio.Event()
                    listening.start_soon(listen, name, client, [uri], ready)
                    await ready.wait()
            hold.release.set()
            while "succeeded" not in (await ask(ann, "get_video", {"task_id": "task_1"})).text:
                pass
            await news.wait()
            await ask(ben, "list_videos", {})
            assert set(heard["ann"]) == {uri}
            assert heard["ben"] == []
            listening.cancel_scope.cancel()


# --- keys, folders, the watcher --------------------------------------------------------------------


async def test_a_persons_own_key_goes_upstream_for_them_and_for_nobody_else(
    shared: Make, gateway: FaultGateway
) -> None:
    settings = shared()
    keys = UpstreamKeys(open_documents(settings))
    keys.store("ann", settings.endpoint().base_url, Secret(ANNS_OWN))
    with anyio.fail_after(60):
        async with team(settings) as made, made.client("ann") as ann, made.client("ben") as ben:
            used = []
            for client, prompt in ((ann, "one"), (ben, "two"), (ann, "three")):
                await ask(client, "create_video", {"prompt": prompt})
                used.append(gateway.creates()[-1].headers["authorization"])
            assert used == [f"Bearer {ANNS_OWN}", f"Bearer {KEY}", f"Bearer {ANNS_OWN}"]
            await ask(ann, "get_video", {"task_id": "task_1"})
            asked = {each.path: each.headers.get("authorization") for each in gateway.requests("GET")}
            assert asked[f"{CREATE}/task_1"] == f"Bearer {ANNS_OWN}"
            keys.remove("ann")
            await ask(ann, "create_video", {"prompt": "four"})
            assert gateway.creates()[-1].headers["authorization"] == f"Bearer {KEY}"


async def test_a_cookie_goes_back_only_with_the_key_that_it_came_with(shared: Make, gateway: FaultGateway) -> None:
    """A balancer's cookie leads queries to where the create went; one that names an account is the key's."""
    settings = shared()
    UpstreamKeys(open_documents(settings)).store("ann", settings.endpoint().base_url, Secret(ANNS_OWN))
    with_cookies = [replace(ACCEPTED_NEXT, headers={"Set-Cookie": f"seen={name}; Path=/"}) for name in ("ann", "ben")]
    gateway.on("POST", CREATE, *with_cookies, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, says({"code": "success", "data": {"status": "IN_PROGRESS"}}))
    with anyio.fail_after(60):
        async with team(settings) as made, made.client("ann") as ann, made.client("ben") as ben:
            for client, prompt in ((ann, "one"), (ben, "two"), (ann, "three")):
                await ask(client, "create_video", {"prompt": prompt})
            for client, task_id in ((ann, "task_1"), (ben, "task_2")):
                await ask(client, "get_video", {"task_id": task_id})
            assert [each.headers.get("cookie") for each in gateway.creates()] == [None, None, "seen=ann"]
            asked = {each.path: each.headers.get("cookie") for each in gateway.requests("GET")}
            assert asked == {f"{CREATE}/task_1": "seen=ann", f"{CREATE}/task_2": "seen=ben"}


async def test_people_with_keys_of_their_own_need_none_of_the_team(shared: Make, gateway: FaultGateway) -> None:
    settings = shared(api_key=None)
    UpstreamKeys(open_documents(settings)).store("ann", endpoint_without_key(settings).base_url, Secret(ANNS_OWN))
    with anyio.fail_after(60):
        async with team(settings) as made, made.client("ann") as ann, made.client("ben") as ben:
            assert not (await ask(ann, "create_video", {"prompt": "one"})).is_error
            async with httpx.AsyncClient(trust_env=False) as http:
                assert (await http.get(made.address.replace("/mcp", "/readyz"))).json()["ready"]
            told = await ask(ben, "create_video", {"prompt": "two"})
            assert told.is_error
            assert told.data["outcome"] == "not_submitted"
            assert [each.headers["authorization"] for each in gateway.creates()] == [f"Bearer {ANNS_OWN}"]


async def test_what_everybody_made_is_followed_and_saved_in_folders_of_their_own(
    shared: Make, gateway: FaultGateway
) -> None:
    settings = shared(save_finished=True)
    UpstreamKeys(open_documents(settings)).store("ann", settings.endpoint().base_url, Secret(ANNS_OWN))
    gateway.on("GET", CREATE, finished(f"{gateway.address}/media/one.mp4"))
    gateway.on("GET", "/media", Answer(200, MP4))
    with anyio.fail_after(60):
        async with team(settings) as made, made.client("ann") as ann, made.client("ben") as ben:
            await create(ann)
            await create(ben)
            files = [
                settings.output_dir / owner_folder(owner) / f"{task_id}.v1.mp4"
                for owner, task_id in (("ann", "task_1"), ("ben", "task_2"))
            ]
            while not all(file.is_file() for file in files):
                await ask(ann, "describe_gateway", {})
            asked = {each.path: each.headers.get("authorization") for each in gateway.requests("GET")}
            assert asked[f"{CREATE}/task_1"] == f"Bearer {ANNS_OWN}"
            assert asked[f"{CREATE}/task_2"] == f"Bearer {KEY}"


async def test_a_file_of_keys_that_cannot_be_read_lets_nobody_pay_with_anothers(
    shared: Make, gateway: FaultGateway
) -> None:
    settings = shared()
    UpstreamKeys(open_documents(settings)).store("ann", settings.endpoint().base_url, Secret(ANNS_OWN))
    (settings.home / "upstream-keys.json").write_text("{")
    with anyio.fail_after(30):
        async with team(settings) as made:
            with pytest.raises(BaseException) as refused:  # noqa: PT011 - a group of one
                async with made.client("ann", "legacy") as ann:
                    await ask(ann, "create_video", {"prompt": "one"})
            assert refused.group_contains(MCPError, match="upstream keys cannot be used") or isinstance(
                refused.value, MCPError
            )
            assert gateway.creates() == []


async def test_one_owner_of_the_settings_and_people_who_say_who_they_are_exclude_each_other(shared: Make) -> None:
    with pytest.raises(NotConfigured, match="SORA_OWNER cannot be set with SORA_AUTH"):
        build_app(shared(owner="ann"))


async def test_what_was_made_at_the_shell_without_an_owner_is_nobodys(shared: Make) -> None:
    settings = shared()
    async with Studio.open(settings) as studio:
        await studio.submit(VideoRequest(operation="simple_compose", prompt="x"))
    with anyio.fail_after(30):
        async with team(settings) as made, made.client("ann") as ann:
            assert (await ask(ann, "list_videos", {})).data["videos"] == []
            assert (await ask(ann, "get_video", {"task_id": "task_1"})).is_error


# --- without a client -------------------------------------------------------------------------------


async def test_an_unknown_outcome_is_settled_by_whoever_runs_the_server(shared: Make, gateway: FaultGateway) -> None:
    gateway.on("POST", CREATE, Answer(fault="reset", at="replied", accepts=True))
    with anyio.fail_after(30):
        async with team(shared()) as made, made.client("ann") as ann:
            told = [(await ask(ann, "create_video", {"prompt": "one"})).text for _ in range(2)]
            request_id = re.findall("req_[0-9a-f]+", told[0])[0]
            told.append((await ask(ann, "get_video", {"task_id": request_id})).text)
            told.append(await text(ann, "sora://ledger/unsettled"))
            for words in map(str, told):
                command = f"`SORA_OWNER=NAME sora-mcp settle {request_id} --none`"
                assert "whoever runs this server settles it at its shell with" in words
                assert command in words


async def test_settling_what_is_somebody_elses_is_as_settling_what_was_never_made(
    shared: Make, gateway: FaultGateway
) -> None:
    gateway.on("POST", CREATE, Answer(502, b"<html>"))
    async with Studio.open(shared(), find_key=lambda *_: None) as studio:
        ann, ben = studio.for_owner("ann"), studio.for_owner("ben")
        with pytest.raises(OutcomeUnknown) as unknown:
            await ann.submit(VideoRequest(operation="simple_compose", prompt="x"))
        request_id, never_made = unknown.value.request_id or "", "req_" + "0" * 24
        gateway.received.clear()
        for task_id in (None, "task_1"):
            told = []
            for each in (request_id, never_made):
                with pytest.raises(NotFound) as refused:
                    await ben.settle(each, task_id)
                told.append(refused.value.message.replace(each, ""))
            assert told[0] == told[1]
        assert (await ann.settle(request_id, None)).state == "rejected"
        assert gateway.received == []


async def test_owners_share_one_studio_for_as_long_as_nothing_of_theirs_changes(shared: Make) -> None:
    async with Studio.open(shared(), find_key=lambda *_: None) as studio:
        ann = studio.for_owner("ann", Cost.of(1))
        assert studio.for_owner("ann", Cost.of(1)) is ann
        assert studio.for_owner("ann", Cost.of(2)) is not ann
        assert studio.for_owner("ben") is not studio.for_owner("Ben")


async def test_the_gateways_patience_is_shared_by_whoever_has_the_same_key(shared: Make) -> None:
    """Nobody asks a gateway that has asked one of them to be left alone; another key is another matter."""
    keys = {"cid": Secret(ANNS_OWN)}
    async with Studio.open(shared(), find_key=lambda owner, _: keys.get(owner)) as studio:
        ann, ben, cid = [
            await studio.for_owner(owner)._connector.connect()  # noqa: SLF001 - shown by no call in less than minutes
            for owner in ("ann", "ben", "cid")
        ]
        ann.pause(60)
        assert [each.may_be_asked() for each in (ann, ben, cid)] == [False, False, True]
        assert [each.account.owner for each in (ann, ben, cid)] == ["ann", "ben", "cid"]
        assert ann.account.key_fingerprint == ben.account.key_fingerprint != cid.account.key_fingerprint


async def test_a_yes_pays_nothing_once_the_token_of_the_call_is_replaced(shared: Make, gateway: FaultGateway) -> None:
    with anyio.fail_after(60):
        async with team(shared(ask_above_cost="1.25")) as made:
            http = create_mcp_http_client(headers=made.headers("ann"))

            async def agree(context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:  # noqa: ARG001 - the callback names them
                made.token("ann", Cost.of(1), replace=True)
                http.headers.update(made.headers("ann"))
                return types.ElicitResult(action="accept", content={"pay": True})

            @asynccontextmanager
            async def transport() -> AsyncIterator[TransportStreams]:
                async with http, streamable_http_client(made.address, http_client=http) as streams:
                    yield streams

            async with Client(transport(), mode="legacy", elicitation_callback=agree) as ann:
                told = await ask(ann, "create_video", DEAR)
            assert told.data["outcome"] == "not_submitted"
            assert "no longer valid, so nothing was submitted" in told.text
            assert gateway.creates() == []


async def test_a_cursor_tells_nothing_of_what_others_make_and_is_ones_own(shared: Make) -> None:
    async def cursor_of(client: Client, **filters: str) -> str:
        return str((await ask(client, "list_videos", {"limit": 1, **filters})).data["next_cursor"])

    with anyio.fail_after(60):
        async with team(shared()) as made, made.client("ann") as ann, made.client("ben") as ben:
            for client, prompt in ((ann, "one"), (ben, "one"), (ben, "two"), (ann, "two")):
                await create(client, prompt=prompt)
            for filters in ({}, {"query": "o"}):
                bens, anns = await cursor_of(ben, **filters), await cursor_of(ann, **filters)
                assert not anns.isdecimal()
                older = await ask(ann, "list_videos", {"cursor": anns, **filters})
                assert [each["prompt"] for each in older.data["videos"]] == ["one"]
                for cursor in (bens, "3", "req_made_up"):
                    told = await ask(ann, "list_videos", {"cursor": cursor, **filters})
                    assert told.is_error
                    assert "cursor: is not a cursor" in told.text
