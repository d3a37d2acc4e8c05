"""Videos, unsettled calls and the guide as resources, and being told of changes, on both protocol eras."""

from __future__ import annotations

import base64
import gc
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from bench import KEY, MP4, Era, about, finished, over_http, served, taken
from fault_gateway import CREATE, Answer, FaultGateway, Hold
from mcp import Client, MCPError
from mcp.client.subscriptions import ResourcesListChanged, ResourceUpdated
from mcp.server.connection import Connection
from wire import wire

from sora_mcp import media
from sora_mcp.server import build
from sora_mcp.settings import Settings
from sora_mcp.studio import Studio
from sora_mcp.tables import SIZES

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]


def running(progress: int) -> Answer:
    return about("IN_PROGRESS", progress=f"{progress}%")


async def create(client: Client, **arguments: Any) -> str:
    made = await client.call_tool("create_video", {"prompt": "fly man", "width": 480, "height": 480} | arguments)
    return str(made.structured_content["task_id"])


async def finish(client: Client, **arguments: Any) -> str:
    task_id = await create(client, **arguments)
    await client.call_tool("get_video", {"task_id": task_id, "wait_seconds": 50})
    return task_id


async def text(client: Client, uri: str) -> Any:
    (found,) = (await client.read_resource(uri)).contents
    assert isinstance(found, types.TextResourceContents)
    assert found.uri == uri
    return json.loads(found.text) if found.mime_type == "application/json" else found.text


async def blob(client: Client, uri: str, mime_type: str) -> bytes:
    (found,) = (await client.read_resource(uri)).contents
    assert isinstance(found, types.BlobResourceContents)
    assert (found.uri, found.mime_type) == (uri, mime_type)
    return base64.b64decode(found.blob)


async def test_the_guide_the_unsettled_calls_and_the_newest_videos_are_listed(
    era: Era, remote: Callable[..., Any], gateway: FaultGateway
) -> None:
    gateway.on("POST", CREATE, *(taken(f"task_{number}") for number in range(12)))
    async with Client(remote(), mode=era) as client:
        listed = (await client.list_resources()).resources
        assert [each.uri for each in listed] == ["sora://guide", "sora://ledger/unsettled"]
        made = [await create(client, prompt=f"kite {number}") for number in range(12)]
        listed = (await client.list_resources()).resources
    assert [each.uri for each in listed[2:]] == [f"sora://videos/{task_id}" for task_id in made[:1:-1]]
    assert [each.title for each in listed[2:4]] == ['"kite 11"', '"kite 10"']
    assert all(each.name and each.description and each.mime_type for each in listed)


async def test_listing_asks_no_gateway(era: Era, remote: Callable[..., Any], gateway: FaultGateway) -> None:
    hold = Hold()
    gateway.on("GET", CREATE, Answer(hold=hold))
    with anyio.fail_after(20):
        async with Client(remote(), mode=era) as client:
            await create(client)
            await hold.reached.wait()
            assert len((await client.list_resources()).resources) == 3
            hold.release.set()


async def test_without_a_gateway_the_guide_can_still_be_read(
    era: Era, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    async with Client(build(make_settings(base_url=None)), mode=era) as client:
        assert len((await client.list_resources()).resources) == 2
        assert "480x854" in await text(client, "sora://guide")
        assert (await text(client, "sora://ledger/unsettled"))["videos"] == []
        with pytest.raises(MCPError, match="SORA_BASE_URL"):
            await client.read_resource("sora://videos/task_x")
    assert not (tmp_path / "home" / "ledger.sqlite3").exists()


async def test_the_guide_is_short_and_says_what_the_tables_say(client: Client) -> None:
    guide = await text(client, "sora://guide")
    assert len(guide.split()) < 600
    assert all(f"| {w}x{h} | {size.aspect} | {size.cost:g} |" in guide for (w, h), size in SIZES.items())
    names = {tool.name for tool in (await client.list_tools()).tools}
    assert set(re.findall(r"\w+_videos?\b", guide)) <= names


async def test_the_templates_are_listed(client: Client) -> None:
    listed = (await client.list_resource_templates()).resource_templates
    assert {each.uri_template: each.mime_type for each in listed} == {
        "sora://videos/{task_id}": "application/json",
        "sora://videos/{task_id}/{variant}.mp4": "video/mp4",
        "sora://videos/{task_id}/contact-sheet.png": "image/png",
    }
    assert all(each.name and each.title and each.description for each in listed)


async def test_a_video_is_told_as_get_video_tells_it(client: Client) -> None:
    task_id = await finish(client)
    told = (await client.call_tool("get_video", {"task_id": task_id})).structured_content
    assert told["state"] == "succeeded"
    assert await text(client, f"sora://videos/{task_id}") == told
    assert await text(client, f"sora://videos/{told['request_id']}") == told


async def test_the_file_and_the_contact_sheet_of_a_video_can_be_read(client: Client, tmp_path: Path) -> None:
    task_id = await finish(client, n_variants=2)
    fetched = await blob(client, f"sora://videos/{task_id}/2.mp4", "video/mp4")
    assert not (tmp_path / "videos").exists()
    saved = await client.call_tool("download_video", {"task_id": task_id, "variant": 2})
    assert await anyio.Path(saved.structured_content["path"]).read_bytes() == fetched
    assert await blob(client, f"sora://videos/{task_id}/2.mp4", "video/mp4") == fetched
    about = media.probe(Path(saved.structured_content["path"]))
    assert (about.width, about.height, about.n_frames) == (480, 480, 150)
    sheet = await blob(client, f"sora://videos/{task_id}/contact-sheet.png", "image/png")
    assert sheet.startswith(b"\x89PNG")


async def test_results_link_to_the_resources(client: Client) -> None:
    made = await client.call_tool("create_video", {"prompt": "fly man", "width": 480, "height": 480})
    task_id = made.structured_content["task_id"]
    got = await client.call_tool("get_video", {"task_id": task_id, "wait_seconds": 50})
    saved = await client.call_tool("download_video", {"task_id": task_id})
    dry = await client.call_tool("create_video", {"prompt": "fly man", "dry_run": True})
    links = [[each for each in result.content if isinstance(each, types.ResourceLink)] for result in (made, got, saved)]
    state, file = f"sora://videos/{task_id}", f"sora://videos/{task_id}/1.mp4"
    assert [[each.uri for each in found] for found in links] == [[state], [state], [file]]
    assert links[2][0].size == saved.structured_content["bytes"] == len(await blob(client, file, "video/mp4"))
    assert not any(isinstance(each, types.ResourceLink) for each in dry.content)
    assert "file://" not in str([each for each in saved.content if isinstance(each, types.ResourceLink)])


@pytest.mark.parametrize(
    "uri",
    [
        "sora://nothing",
        "sora://guide/",
        "sora://videos/",
        "sora://videos/task_nobody_made",
        "sora://videos/req_nobody_made",
        "sora://videos/task_nobody_made/1.mp4",
        "sora://videos/task_nobody_made/contact-sheet.png",
        "sora://videos/../guide",
        "sora://videos/x/1.mp4\n",
        "sora://videos/x/poster.png",
        "file:///etc/passwd",
        "",
    ],
)
async def test_what_is_not_there_is_not_found(client: Client, uri: str) -> None:
    with pytest.raises(MCPError) as told:
        await client.read_resource(uri)
    assert (told.value.error.code, told.value.error.data) == (types.INVALID_PARAMS, {"uri": uri})


async def test_a_variant_that_is_not_there_is_not_found(client: Client) -> None:
    task_id = await finish(client)
    for name in ("0", "01", "2", "999", "9999", "one"):
        uri = f"sora://videos/{task_id}/{name}.mp4"
        with pytest.raises(MCPError) as told:
            await client.read_resource(uri)
        assert (told.value.error.code, told.value.error.data) == (types.INVALID_PARAMS, {"uri": uri})


async def test_a_video_that_is_not_finished_says_so(era: Era, remote: Callable[..., Any]) -> None:
    async with Client(remote(), mode=era) as client:
        uri = f"sora://videos/{await create(client)}/1.mp4"
        with pytest.raises(MCPError, match="not finished") as told:
            await client.read_resource(uri)
    assert told.value.error.code == types.INTERNAL_ERROR
    assert told.value.error.data == {"uri": uri, "kind": "not_ready"}


@pytest.mark.parametrize("says_its_length", [True, False])
async def test_a_video_that_is_too_large_names_the_tool_that_saves_it(
    era: Era, remote: Callable[..., Any], gateway: FaultGateway, says_its_length: bool
) -> None:
    large = MP4 + b"\0" * 9_000_000
    gateway.on("GET", "/media", Answer(200, large, fault=None if says_its_length else "no_length"))
    gateway.on("GET", CREATE, finished(f"{gateway.address}/media/one.mp4"))
    async with Client(remote(), mode=era) as client:
        uri = f"sora://videos/{await finish(client)}/1.mp4"
        with pytest.raises(MCPError, match=r"larger than 8 MB.*download_video") as told:
            await client.read_resource(uri)
    assert told.value.error.data == {"uri": uri, "kind": "file_problem"}


async def test_an_address_that_is_gone_says_so(era: Era, remote: Callable[..., Any], gateway: FaultGateway) -> None:
    gateway.on("GET", "/media", Answer(404))
    gateway.on("GET", CREATE, finished(f"{gateway.address}/media/one.mp4"))
    async with Client(remote(), mode=era) as client:
        uri = f"sora://videos/{await finish(client)}/1.mp4"
        with pytest.raises(MCPError, match="status 404"):
            await client.read_resource(uri)


async def test_calls_with_an_unknown_outcome_are_told_until_they_are_settled(
    era: Era, remote: Callable[..., Any], make_settings: Callable[..., Settings], gateway: FaultGateway
) -> None:
    gateway.on("POST", CREATE, Answer(502, b"<html>"))
    async with Client(remote(), mode=era) as client:
        made = await client.call_tool("create_video", {"prompt": "fly man"})
        request_id = made.structured_content["request_id"]
        told = await text(client, "sora://ledger/unsettled")
        assert [(each["request_id"], each["state"]) for each in told["videos"]] == [(request_id, "unknown")]
        assert "sora-mcp settle" in told["next_step"]
        async with Studio.open(make_settings(base_url=gateway.address, api_key=KEY)) as studio:
            await studio.settle(request_id, None)
        assert (await text(client, "sora://ledger/unsettled"))["videos"] == []


# --- being told of changes ------------------------------------------------------------------------


class Ears:
    """Hears of changes at a client, in the way of its era."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._news = anyio.Event()

    async def __call__(self, message: object) -> None:
        """A message of the handshake era."""
        if isinstance(message, types.ResourceUpdatedNotification):
            self.hear(message.params.uri)

    def hear(self, what: str) -> None:
        self.heard.append(what)
        self._news.set()

    async def hears(self, what: str, times: int = 1) -> None:
        """Wait until it was heard so often."""
        while self.heard.count(what) < times:
            self._news = anyio.Event()
            await self._news.wait()

    async def until_succeeded(self, client: Client, uri: str) -> None:
        """Read the video again whenever it is told to have changed, until it has succeeded."""
        while True:
            heard = self.heard.count(uri)
            if (await text(client, uri))["state"] == "succeeded":
                return
            await self.hears(uri, heard + 1)

    @asynccontextmanager
    async def on(self, client: Client, uri: str) -> AsyncIterator[None]:
        """Be told about one resource."""
        if client.protocol_version < "2026":
            await client.subscribe_resource(uri)
            yield
            await client.unsubscribe_resource(uri)
            return
        async with client.listen(resource_subscriptions=[uri]) as events, anyio.create_task_group() as listening:

            async def listen() -> None:
                async for event in events:
                    assert isinstance(event, ResourceUpdated)
                    self.hear(event.uri)

            listening.start_soon(listen)
            yield
            listening.cancel_scope.cancel()


async def test_a_subscriber_is_told_when_state_or_progress_change(
    era: Era, remote: Callable[..., Any], gateway: FaultGateway
) -> None:
    ears, holds = Ears(), [Hold(), Hold(), Hold()]
    answers = running(10), running(60), finished(f"{gateway.address}/media/one.mp4")
    gateway.on("GET", CREATE, *(replace(answer, hold=hold) for answer, hold in zip(answers, holds, strict=True)))
    with anyio.fail_after(20):
        async with Client(remote(), mode=era, message_handler=ears) as client:
            uri = f"sora://videos/{await create(client)}"
            async with ears.on(client, uri):
                for hold in holds:
                    await hold.reached.wait()
                    heard = len(ears.heard)
                    hold.release.set()
                    await ears.hears(uri, heard + 1)
                await ears.until_succeeded(client, uri)


async def test_a_subscriber_is_told_what_another_process_found_out(
    era: Era, remote: Callable[..., Any], make_settings: Callable[..., Settings], gateway: FaultGateway
) -> None:
    ears = Ears()
    gateway.on("POST", CREATE, Answer(502, b"<html>"))
    with anyio.fail_after(20):
        async with Client(remote(), mode=era, message_handler=ears) as client:
            made = await client.call_tool("create_video", {"prompt": "fly man"})
            request_id = made.structured_content["request_id"]
            uri = f"sora://videos/{request_id}"
            async with ears.on(client, uri):
                async with Studio.open(make_settings(base_url=gateway.address, api_key=KEY)) as other:
                    await other.settle(request_id, "task_late")
                await client.call_tool("create_video", {"prompt": "another"})  # wakes whoever watches
                await ears.hears(uri)


async def test_only_what_was_subscribed_to_is_told_and_only_as_long(
    era: Era, remote: Callable[..., Any], gateway: FaultGateway
) -> None:
    one, two, hold, server = Ears(), Ears(), Hold(), remote()
    last = finished(f"{gateway.address}/media/one.mp4")
    gateway.on("GET", CREATE, replace(running(10), hold=hold), running(60), last)
    with anyio.fail_after(20):
        async with (
            Client(server, mode=era, message_handler=one) as first,
            Client(server, mode=era, message_handler=two) as second,
        ):
            uri = f"sora://videos/{await create(first)}"
            async with two.on(second, uri), one.on(first, "sora://videos/task_other"):
                async with one.on(first, uri):
                    await hold.reached.wait()
                before = len(one.heard)
                hold.release.set()
                await two.until_succeeded(second, uri)
    assert len(one.heard) == before
    assert set(two.heard) == {uri}


async def test_a_subscriber_is_told_of_an_unknown_outcome(
    era: Era, remote: Callable[..., Any], gateway: FaultGateway
) -> None:
    ears = Ears()
    gateway.on("POST", CREATE, Answer(502, b"<html>"))
    with anyio.fail_after(20):
        async with (
            Client(remote(), mode=era, message_handler=ears) as client,
            ears.on(client, "sora://ledger/unsettled"),
        ):
            await client.call_tool("create_video", {"prompt": "fly man"})
            await ears.hears("sora://ledger/unsettled")


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


async def test_a_session_that_has_gone_is_forgotten(make_settings: Callable[..., Settings]) -> None:
    server = build(make_settings())
    gc.collect()
    before = {id(each) for each in gc.get_objects() if isinstance(each, Connection)}
    async with Client(server, mode="legacy") as client:
        await client.subscribe_resource("sora://videos/task_1")
    gc.collect()
    assert {id(each) for each in gc.get_objects() if isinstance(each, Connection)} <= before
    assert server.name == "sora"


@pytest.mark.parametrize(("era", "list_changed"), [("auto", True), ("legacy", False)], indirect=["era"])
async def test_what_is_offered_is_said(client: Client, list_changed: bool) -> None:
    offered = client.server_capabilities
    assert offered.resources == types.ResourcesCapability(subscribe=True, list_changed=list_changed)
    assert offered.prompts == types.PromptsCapability()
    assert offered.tools == types.ToolsCapability()
    assert offered.completions is not None


# --- over the wire --------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_resources_are_read_and_changes_told_over_the_wire(
    environment: dict[str, str], era: Era, transport: str
) -> None:
    ears = Ears()
    async with served(environment, transport) as server, Client(server, mode=era, message_handler=ears) as client:
        with anyio.fail_after(60):
            task_id = await create(client)
            uri = f"sora://videos/{task_id}"
            async with ears.on(client, uri):
                await ears.until_succeeded(client, uri)
            assert len(await blob(client, f"{uri}/1.mp4", "video/mp4")) > 1000
            with pytest.raises(MCPError) as told:
                await client.read_resource("sora://nothing")
    assert (told.value.error.code, told.value.error.data) == (types.INVALID_PARAMS, {"uri": "sora://nothing"})


async def test_a_server_that_ends_tells_its_listeners(environment: dict[str, str]) -> None:
    async with over_http(environment) as (address, process):
        with anyio.fail_after(30):
            async with Client(address) as client, client.listen(resources_list_changed=True) as events:
                process.terminate()
                assert [event async for event in events] == []  # raises where the stream just breaks
            await process.wait()
        assert process.stderr is not None
        with pytest.raises(anyio.EndOfStream):
            await process.stderr.receive()


@pytest.mark.parametrize(
    ("revision", "kinds"),
    [
        ("2024-11-05", ["text", "text"]),
        ("2025-03-26", ["text", "text"]),
        ("2025-06-18", ["text", "text", "resource_link"]),
    ],
)
async def test_a_client_that_knows_no_links_gets_none(
    environment: dict[str, str], revision: str, kinds: list[str]
) -> None:
    about = {"clientInfo": {"name": "t", "version": "1"}, "capabilities": {}, "protocolVersion": revision}
    call = {"name": "create_video", "arguments": {"prompt": "fly man", "width": 480, "height": 480}}
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": about},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": call},
    ]
    async with wire(environment) as server:
        for message in messages:
            await server.send(message)
        hello, told = await server.read(), await server.read()
    assert hello["result"]["protocolVersion"] == revision
    assert [each["type"] for each in told["result"]["content"]] == kinds
    assert "task_id" in told["result"]["content"][1]["text"]
