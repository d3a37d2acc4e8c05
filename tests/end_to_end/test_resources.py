"""Videos, unsettled calls and the guide as resources, on both protocol eras."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from bench import KEY, MP4, Era, create_accepted, finished
from fault_gateway import CREATE, Answer, FaultGateway, Hold
from mcp import Client, MCPError
from resources import blob, create, text
from wire import wire

from sora_mcp import media
from sora_mcp.config.settings import Settings
from sora_mcp.dialects.sora import SIZES
from sora_mcp.server import build
from sora_mcp.studio import Studio

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]


async def finish(client: Client, **arguments: Any) -> str:
    task_id = await create(client, **arguments)
    await client.call_tool("get_video", {"task_id": task_id, "wait_seconds": 50})
    return task_id


async def test_the_guide_the_unsettled_calls_and_the_newest_videos_are_listed(
    era: Era, remote: Callable[..., Any], gateway: FaultGateway
) -> None:
    gateway.on("POST", CREATE, *(create_accepted(f"task_{number}") for number in range(12)))
    async with Client(remote(), mode=era) as client:
        listed = (await client.list_resources()).resources
        assert [each.uri for each in listed] == ["sora://guide", "sora://gateway", "sora://ledger/unsettled"]
        made = [await create(client, prompt=f"kite {number}") for number in range(12)]
        listed = (await client.list_resources()).resources
    assert [each.uri for each in listed[3:]] == [f"sora://videos/{task_id}" for task_id in made[:1:-1]]
    assert [each.title for each in listed[3:5]] == ['"kite 11"', '"kite 10"']
    assert all(each.name and each.description and each.mime_type for each in listed)


@pytest.mark.parametrize("what", ["tools", "resources", "resource_templates", "prompts"])
async def test_each_list_is_one_page_and_a_cursor_for_another_is_refused(
    era: Era, remote: Callable[..., Any], what: str
) -> None:
    async with Client(remote(), mode=era) as client:
        listing = getattr(client, f"list_{what}")
        assert (await listing()).next_cursor is None
        with pytest.raises(MCPError, match="cursor") as refused:
            await listing(cursor="made up")
    assert refused.value.error.code == types.INVALID_PARAMS


async def test_listing_asks_no_gateway(era: Era, remote: Callable[..., Any], gateway: FaultGateway) -> None:
    hold = Hold()
    gateway.on("GET", CREATE, Answer(hold=hold))
    with anyio.fail_after(20):
        async with Client(remote(), mode=era) as client:
            await create(client)
            await hold.reached.wait()
            assert len((await client.list_resources()).resources) == 4
            hold.release.set()


async def test_without_a_gateway_the_guide_can_still_be_read(
    era: Era, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    async with Client(build(make_settings(base_url=None)), mode=era) as client:
        assert len((await client.list_resources()).resources) == 3
        assert (await text(client, "sora://gateway"))["status"] == "not_configured"
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
        "sora://videos/{task_id}/contact-sheet.jpg{?variant,frames,at,all_variants,beside}": "image/jpeg",
        "sora://videos/{task_id}/contact-sheet.png{?variant,frames,at,all_variants,beside}": "image/png",
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
    sheet = await blob(client, f"sora://videos/{task_id}/contact-sheet.jpg", "image/jpeg")
    assert sheet.startswith(b"\xff\xd8\xff")
    assert len(sheet) <= 60_000
    exact = await blob(client, f"sora://videos/{task_id}/contact-sheet.png", "image/png")
    assert exact.startswith(b"\x89PNG")


async def test_only_a_file_that_was_saved_is_linked_to(client: Client) -> None:
    """Some hosts drop an answer with a link: of a paid call they would lose the task's id, of a look its state."""
    made = await client.call_tool("create_video", {"prompt": "fly man", "width": 480, "height": 480})
    task_id = made.structured_content["task_id"]
    got = await client.call_tool("get_video", {"task_id": task_id, "wait_seconds": 50})
    saved = await client.call_tool("download_video", {"task_id": task_id})
    again = await client.call_tool("create_video", {"prompt": "fly man", "width": 480, "height": 480})
    assert again.structured_content["duplicate"]
    dry = await client.call_tool("create_video", {"prompt": "fly man", "dry_run": True})
    remixed = await client.call_tool("remix_video", {"source_generation_id": task_id, "prompt": "at night"})
    told = (made, again, dry, remixed, got, saved)
    links = [[each for each in result.content if isinstance(each, types.ResourceLink)] for result in told]
    file = f"sora://videos/{task_id}/1.mp4"
    assert [[each.uri for each in found] for found in links] == [[], [], [], [], [], [file]]
    assert links[-1][0].size == saved.structured_content["bytes"] == len(await blob(client, file, "video/mp4"))
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
        assert [each.type for each in made.content] == ["text", "text"]
        request_id = made.structured_content["request_id"]
        told = await text(client, "sora://ledger/unsettled")
        assert [(each["request_id"], each["state"]) for each in told["videos"]] == [(request_id, "unknown")]
        assert "sora-mcp settle" in told["next_step"]
        async with Studio.open(make_settings(base_url=gateway.address, api_key=KEY)) as studio:
            await studio.settle(request_id, None)
        assert (await text(client, "sora://ledger/unsettled"))["videos"] == []


@pytest.mark.parametrize(("era", "list_changed"), [("auto", True), ("legacy", False)], indirect=["era"])
async def test_what_is_offered_is_said(client: Client, list_changed: bool) -> None:
    offered = client.server_capabilities
    assert offered.resources == types.ResourcesCapability(subscribe=True, list_changed=list_changed)
    assert offered.prompts == types.PromptsCapability()
    assert offered.tools == types.ToolsCapability()
    assert offered.completions is not None


# --- over the wire --------------------------------------------------------------------------------


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
    create = {"name": "create_video", "arguments": {"prompt": "fly man", "width": 480, "height": 480}}
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": about},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": create},
    ]
    async with wire(environment) as server:
        for message in messages:
            await server.send(message)
        hello, made = await server.read(), await server.read()
        task_id = made["result"]["structuredContent"]["task_id"]
        wait = {"name": "get_video", "arguments": {"task_id": task_id, "wait_seconds": 30}}
        save = {"name": "download_video", "arguments": {"task_id": task_id}}
        await server.send({"id": 3, "method": "tools/call", "params": wait})
        await server.read()
        await server.send({"id": 4, "method": "tools/call", "params": save})
        told = await server.read()
    assert [each["type"] for each in made["result"]["content"]] == ["text", "text"]
    assert hello["result"]["protocolVersion"] == revision
    assert [each["type"] for each in told["result"]["content"]] == kinds
    assert "task_id" in told["result"]["content"][1]["text"]
