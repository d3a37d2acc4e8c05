"""The whole conversation through the real client, on both protocol eras and over every transport."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from bench import COMMAND, ERAS, Era, over_http, over_stdio
from documented import PAGE_BODY
from mcp import Client

from sora_mcp import media
from sora_mcp.config.settings import Settings
from sora_mcp.server import build

pytestmark = pytest.mark.anyio

WAIT = 50


async def use(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """The structured result of a call that must succeed and whose text mirrors it."""
    result = await client.call_tool(tool, arguments)
    words = [block.text for block in result.content if isinstance(block, types.TextContent)]
    assert not result.is_error, words
    assert json.loads(words[1]) == result.structured_content
    return dict(result.structured_content)


async def finished(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    submitted = await use(client, tool, **arguments)
    assert submitted["outcome"] == "accepted"
    video = await use(client, "get_video", task_id=submitted["task_id"], wait_seconds=WAIT)
    assert video["state"] == "succeeded"
    return video


async def converse(client: Client) -> None:
    """Create, wait, look, remix, storyboard, blend, download, list."""
    first = await finished(client, "create_video", prompt="fly man", width=480, height=480)
    look = await client.call_tool("view_video", {"task_id": first["task_id"], "frames": 4})
    pictures = [block for block in look.content if isinstance(block, types.ImageContent)]
    assert [picture.mime_type for picture in pictures] == ["image/jpeg"]
    assert len(base64.b64decode(pictures[0].data)) <= 60_000
    assert look.structured_content is None  # some hosts would show nothing else

    remix = await finished(
        client, "remix_video", source_generation_id=first["task_id"], prompt="now at night", amount=6
    )
    assert (remix["width"], remix["height"], remix["n_frames"]) == (480, 480, 150)
    assert remix["sources"] == [first["task_id"]]

    beats = [{"time": 0, "description": "a door"}, {"time": 75, "description": "it opens"}]
    story = await finished(client, "storyboard_video", actions=beats, width=480, height=480)
    sources = [{"generation_id": first["task_id"]}, {"generation_id": story["generations"][0]["generation_id"]}]
    blend = await finished(client, "blend_videos", inpaint_items=sources)
    assert blend["sources"] == [first["task_id"], story["task_id"]]

    saved = await use(client, "download_video", task_id=blend["task_id"])
    about = media.probe(Path(saved["path"]))
    assert (about.codec, about.width, about.height, about.n_frames) == ("h264", 480, 480, 150)
    again = await use(client, "download_video", task_id=blend["task_id"])
    assert (again["outcome"], again["path"]) == ("already_saved", saved["path"])

    listed = await use(client, "list_videos")
    assert [video["operation"] for video in listed["videos"]] == ["blend", "storyboard", "remix", "simple_compose"]
    assert listed["gateway"] == "sandbox"


async def test_the_conversation_in_memory(client: Client) -> None:
    await converse(client)


async def test_the_conversation_over_stdio(environment: dict[str, str]) -> None:
    for era in ERAS:  # the second one is told of the videos that the first one made
        async with Client(over_stdio(environment), mode=era) as client:
            await converse(client)


async def test_the_conversation_over_http(environment: dict[str, str]) -> None:
    async with over_http(environment) as (url, _):
        for era in ERAS:
            async with Client(url, mode=era) as client:
                await converse(client)


async def test_a_second_process_sees_what_the_first_made(environment: dict[str, str]) -> None:
    command = over_stdio(environment)
    async with Client(command) as first:
        made = await use(first, "create_video", prompt="a paper boat")
    async with Client(command) as second:
        video = await use(second, "get_video", task_id=made["request_id"], wait_seconds=WAIT)
        listed = await use(second, "list_videos", status="succeeded")
    assert video["state"] == "succeeded"
    assert [each["task_id"] for each in listed["videos"]] == [made["task_id"]]


async def test_waiting_reports_progress(era: Era, make_settings: Callable[..., Settings]) -> None:
    told: list[str | None] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
        told.append(message)

    async with Client(build(make_settings(sandbox_seconds=60)), mode=era) as client:
        made = await use(client, "create_video", prompt="a paper boat")
        await client.call_tool("get_video", {"task_id": made["task_id"], "wait_seconds": 1}, progress_callback=tell)
    assert told
    assert all(message is not None and message.startswith(made["task_id"]) for message in told)


async def test_variants_are_told_viewed_and_saved_one_by_one(client: Client) -> None:
    video = await finished(client, "create_video", prompt="a kite", n_variants=2, width=480, height=480)
    assert [each["variant"] for each in video["generations"]] == [1, 2]
    second = f"{video['task_id']}#2"
    remix = await finished(client, "remix_video", source_generation_id=second, prompt="red")
    assert remix["sources"] == [second]
    saved = await use(client, "download_video", task_id=video["task_id"], variant=2)
    assert await anyio.Path(saved["path"]).is_file()
    none = await client.call_tool("download_video", {"task_id": video["task_id"], "variant": 3})
    assert none.is_error


@pytest.mark.parametrize(("prompt", "state"), [("[fail] a kite", "failed"), ("[blocked] a kite", "blocked")])
async def test_a_video_that_ends_badly_says_so_and_cannot_be_built_on(client: Client, prompt: str, state: str) -> None:
    made = await use(client, "create_video", prompt=prompt)
    video = await use(client, "get_video", task_id=made["task_id"], wait_seconds=WAIT)
    assert video["state"] == state
    remix = await client.call_tool("remix_video", {"source_generation_id": made["task_id"], "prompt": "again"})
    assert remix.is_error
    assert remix.structured_content["outcome"] == "not_submitted"
    assert state in remix.structured_content["error"]["message"]


async def test_a_dry_run_shows_the_documented_body_and_sends_nothing(client: Client) -> None:
    told = await use(client, "create_video", prompt="fly man", dry_run=True)
    assert told["outcome"] == "not_submitted"
    assert told["cost"] == 1.25
    assert told["body"] == PAGE_BODY
    assert (await use(client, "list_videos"))["videos"] == []


async def test_an_ordinary_result_is_short(client: Client) -> None:
    video = await finished(client, "create_video", prompt="fly man", width=480, height=480)
    result = await client.call_tool("get_video", {"task_id": video["task_id"]})
    text = " ".join(block.text for block in result.content if isinstance(block, types.TextContent))
    url = video["generations"][0]["url"]
    assert text.count(url) == 1
    import bpe_openai  # noqa: PLC0415

    assert len(bpe_openai.get_encoding("o200k_base").encode(text.replace(url, ""))) <= 500


async def test_the_server_ends_when_its_client_is_gone_or_asks_it_to(environment: dict[str, str]) -> None:
    for stop in ("end of input", "SIGTERM"):
        process = await anyio.open_process(COMMAND, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        async with process:
            assert process.stdin is not None
            assert process.stdout is not None
            await process.stdin.send(_INITIALIZE)
            await process.stdout.receive()
            if stop == "SIGTERM":
                process.terminate()
            else:
                await process.stdin.aclose()
            with anyio.fail_after(10):
                assert await process.wait() == 0, stop


_INITIALIZE = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},'
    b'"clientInfo":{"name":"test","version":"1"}}}\n'
)
