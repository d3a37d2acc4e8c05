"""Being told of changes, on both protocol eras: by subscription until 2025-11-25, then by a request kept open."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import anyio
import mcp_types as types
import pytest
from bench import ACCEPTED_NEXT, COMMAND, KEY, Era, finished, over_http, served, task_reply
from fault_gateway import CREATE, Answer, FaultGateway, Hold
from listeners import ChangeListener
from mcp import Client, MCPError
from mcp.client.subscriptions import ResourcesListChanged
from mcp.server.connection import Connection
from resources import blob, create, text

from sora_mcp.config.settings import Settings
from sora_mcp.server import build, subscribers
from sora_mcp.studio import Studio

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]


def running(progress: int) -> Answer:
    return task_reply("IN_PROGRESS", progress=f"{progress}%")


async def test_a_subscriber_is_told_when_state_or_progress_change(
    era: Era, remote: Callable[..., Any], gateway: FaultGateway
) -> None:
    listener, holds = ChangeListener(), [Hold(), Hold(), Hold()]
    answers = running(10), running(60), finished(f"{gateway.address}/media/one.mp4")
    gateway.on("GET", CREATE, *(replace(answer, hold=hold) for answer, hold in zip(answers, holds, strict=True)))
    with anyio.fail_after(20):
        async with Client(remote(), mode=era, message_handler=listener) as client:
            uri = f"sora://videos/{await create(client)}"
            async with listener.subscribed(client, uri):
                for hold in holds:
                    await hold.reached.wait()
                    count = len(listener.received)
                    hold.release.set()
                    await listener.wait_for(uri, count + 1)
                await listener.wait_until_succeeded(client, uri)


async def test_a_subscriber_is_told_what_another_process_found_out(
    era: Era, remote: Callable[..., Any], make_settings: Callable[..., Settings], gateway: FaultGateway
) -> None:
    listener = ChangeListener()
    gateway.on("POST", CREATE, Answer(502, b"<html>"))
    with anyio.fail_after(20):
        async with Client(remote(), mode=era, message_handler=listener) as client:
            made = await client.call_tool("create_video", {"prompt": "fly man"})
            request_id = made.structured_content["request_id"]
            uri = f"sora://videos/{request_id}"
            async with listener.subscribed(client, uri):
                async with Studio.open(make_settings(base_url=gateway.address, api_key=KEY)) as other:
                    await other.settle(request_id, "task_late")
                await listener.wait_for(uri)


@pytest.mark.parametrize("was_used", [True, False])
async def test_a_subscriber_of_an_idle_server_is_told_of_what_another_process_made_and_finished(
    era: Era, remote: Callable[..., Any], gateway: FaultGateway, was_used: bool
) -> None:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, running(10), finished(f"{gateway.address}/media/one.mp4"))
    listener, uri = ChangeListener(), "sora://videos/task_1"
    with anyio.fail_after(20):
        async with Client(remote(), mode=era, message_handler=listener) as client:
            if was_used:
                await client.call_tool("list_videos", {})
            async with listener.subscribed(client, uri), Client(remote(), mode=era) as other:
                assert await create(other) == "task_1"
                while (await text(other, uri))["state"] != "succeeded":
                    pass
                await listener.wait_until_succeeded(client, uri)
                await listener.wait_for(uri)


async def test_only_what_was_subscribed_to_is_told_and_only_as_long(
    era: Era, remote: Callable[..., Any], gateway: FaultGateway
) -> None:
    one, two, hold, server = ChangeListener(), ChangeListener(), Hold(), remote()
    last = finished(f"{gateway.address}/media/one.mp4")
    gateway.on("GET", CREATE, replace(running(10), hold=hold), running(60), last)
    with anyio.fail_after(20):
        async with (
            Client(server, mode=era, message_handler=one) as first,
            Client(server, mode=era, message_handler=two) as second,
        ):
            uri = f"sora://videos/{await create(first)}"
            async with two.subscribed(second, uri), one.subscribed(first, "sora://videos/task_other"):
                async with one.subscribed(first, uri):
                    await hold.reached.wait()
                before = len(one.received)
                hold.release.set()
                await two.wait_until_succeeded(second, uri)
    assert len(one.received) == before
    assert set(two.received) == {uri}


async def test_a_subscriber_is_told_of_an_unknown_outcome(
    era: Era, remote: Callable[..., Any], gateway: FaultGateway
) -> None:
    listener = ChangeListener()
    gateway.on("POST", CREATE, Answer(502, b"<html>"))
    with anyio.fail_after(20):
        async with (
            Client(remote(), mode=era, message_handler=listener) as client,
            listener.subscribed(client, "sora://ledger/unsettled"),
        ):
            await client.call_tool("create_video", {"prompt": "fly man"})
            await listener.wait_for("sora://ledger/unsettled")


async def test_a_listener_is_told_of_new_videos(make_settings: Callable[..., Settings]) -> None:
    with anyio.fail_after(20):
        async with (
            Client(build(make_settings())) as client,
            client.listen(resources_list_changed=True) as events,
        ):
            await create(client)
            assert isinstance(await anext(events), ResourcesListChanged)


async def test_where_nothing_can_stand_nobody_can_subscribe(make_settings: Callable[..., Settings]) -> None:
    async with Client(build(make_settings()), mode="legacy") as client:
        with pytest.raises(MCPError) as told:
            await client.subscribe_resource("sora://nothing")
        assert told.value.error.data == {"uri": "sora://nothing"}
        await client.unsubscribe_resource("sora://nothing")


async def test_a_session_subscribes_to_a_bounded_number_of_resources(make_settings: Callable[..., Settings]) -> None:
    async with Client(build(make_settings()), mode="legacy") as client:
        for number in range(1000):
            await client.subscribe_resource(f"sora://videos/task_{number}")
        with pytest.raises(MCPError, match="1000"):
            await client.subscribe_resource("sora://videos/task_1000")
        await client.subscribe_resource("sora://videos/task_0")
        await client.unsubscribe_resource("sora://videos/task_0")
        await client.subscribe_resource("sora://videos/task_1000")


async def test_the_address_of_what_is_subscribed_to_has_a_bounded_length(
    make_settings: Callable[..., Settings],
) -> None:
    long = f"sora://videos/{quote(chr(0x1F98A) * 300)}"
    async with Client(build(make_settings()), mode="legacy") as client:
        await client.subscribe_resource(long)
        with pytest.raises(MCPError, match="4096 characters"):
            await client.subscribe_resource(f"{long}?{'x' * 5000}")
    async with Client(build(make_settings())) as client:
        with pytest.raises(MCPError, match="4096 characters"):
            async with client.listen(resource_subscriptions=[f"{long}?{'x' * 5000}"]):
                pass


async def test_a_session_that_has_gone_is_forgotten(make_settings: Callable[..., Settings]) -> None:
    server = build(make_settings())
    gc.collect()
    before = {id(each) for each in gc.get_objects() if isinstance(each, Connection)}
    async with Client(server, mode="legacy") as client:
        await client.subscribe_resource("sora://videos/task_1")
    gc.collect()
    assert {id(each) for each in gc.get_objects() if isinstance(each, Connection)} <= before
    assert server.name == "sora"


# --- over the wire --------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_resources_are_read_and_changes_told_over_the_wire(
    environment: dict[str, str], era: Era, transport: str
) -> None:
    listener = ChangeListener()
    async with served(environment, transport) as server, Client(server, mode=era, message_handler=listener) as client:
        with anyio.fail_after(60):
            task_id = await create(client)
            uri = f"sora://videos/{task_id}"
            async with listener.subscribed(client, uri):
                await listener.wait_until_succeeded(client, uri)
            assert len(await blob(client, f"{uri}/1.mp4", "video/mp4")) > 1000
            with pytest.raises(MCPError) as told:
                await client.read_resource("sora://nothing")
    assert (told.value.error.code, told.value.error.data) == (types.INVALID_PARAMS, {"uri": "sora://nothing"})


async def test_a_server_that_ends_tells_its_listeners(environment: dict[str, str]) -> None:
    async with over_http(environment, COMMAND) as (address, process):
        with anyio.fail_after(30):
            async with Client(address) as client, client.listen(resources_list_changed=True) as events:
                process.terminate()
                assert [event async for event in events] == []  # raises where the stream just breaks
            await process.wait()
        assert process.stderr is not None
        with pytest.raises(anyio.EndOfStream):
            await process.stderr.receive()


@pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")
async def test_all_sessions_of_one_person_together_have_a_limit(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these videos is looked for once a second, and others share the server."""
    monkeypatch.setattr(subscribers, "MAX_WATCHED", 3)
    server = build(make_settings())
    with anyio.fail_after(30):
        async with Client(server, mode="legacy") as one, Client(server, mode="legacy") as two:
            for number in (1, 2):
                await one.subscribe_resource(f"sora://videos/task_{number}")
            for number in (2, 3):
                await two.subscribe_resource(f"sora://videos/task_{number}")
            with pytest.raises(MCPError, match="One may subscribe to 3 resources"):
                await one.subscribe_resource("sora://videos/task_4")
