"""Finished videos are saved, by themselves or when asked: each once, whoever else saves, whatever else fails."""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import ACCEPTED_NEXT, MP4, RUNNING, Connect, finished
from fault_gateway import CREATE, Answer, FaultGateway, Hold
from mcp import Client

from sora_mcp.studio.watcher import MAX_CONCURRENT_SAVES

pytestmark = pytest.mark.anyio

VIDEO = Answer(200, MP4, {"Content-Type": "video/mp4"})
GONE = Answer(404, b"")


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("GET", "/media", VIDEO)
    gateway.on("GET", CREATE, finished(f"{gateway.address}/media/one.mp4"))
    return gateway


@pytest.fixture
def folder(tmp_path: Path) -> anyio.Path:
    return anyio.Path(tmp_path / "videos")


async def create(client: Client, prompt: str = "fly man") -> None:
    await client.call_tool("create_video", {"prompt": prompt})


async def states(client: Client) -> list[str]:
    listed = await client.call_tool("list_videos", {})
    return [video["state"] for video in listed.structured_content["videos"]]


async def succeed(client: Client) -> None:
    await create(client)
    await client.call_tool("get_video", {"task_id": "task_new", "wait_seconds": 20})


async def download(client: Client) -> dict[str, Any]:
    called = await client.call_tool("download_video", {"task_id": "task_new"})
    told: dict[str, Any] = called.structured_content
    return told


async def names(folder: anyio.Path) -> list[str]:
    return sorted([path.name async for path in folder.glob("*.mp4")])


async def test_finished_videos_are_saved_by_themselves_where_that_is_asked_for(
    connect: Connect, folder: anyio.Path
) -> None:
    with anyio.fail_after(20):
        async with connect(save_finished=True) as client:
            await create(client)
            files: list[str] = []
            while not files:
                got = await client.call_tool("get_video", {"task_id": "task_new"})
                files = got.structured_content["files"]
    assert files == [str(folder / "task_new.v1.mp4")]
    assert await anyio.Path(files[0]).read_bytes() == MP4


async def test_they_are_not_saved_unless_it_is(connect: Connect, folder: anyio.Path) -> None:
    async with connect() as client:
        await create(client)
        while await states(client) != ["succeeded"]:
            pass
    assert await names(folder) == []


async def test_dead_addresses_keep_no_other_video_from_being_saved(
    connect: Connect, gateway: FaultGateway, folder: anyio.Path
) -> None:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", "/dead", GONE)
    with anyio.fail_after(60):
        async with connect() as client:
            for number in range(10):
                await create(client, f"kite {number}")
                while set(await states(client)) != {"succeeded"}:
                    pass
                gateway.on("GET", CREATE, finished(f"{gateway.address}/dead/one.mp4"))
        gateway.on("GET", CREATE, GONE)
        async with connect(save_finished=True):
            while await names(folder) != ["task_1.v1.mp4"]:
                await anyio.lowlevel.checkpoint()


async def test_a_variant_that_is_gone_keeps_no_other_from_being_saved(
    connect: Connect, gateway: FaultGateway, folder: anyio.Path
) -> None:
    gateway.on("GET", "/dead", GONE)
    gateway.on("GET", CREATE, finished(f"{gateway.address}/dead/one.mp4", f"{gateway.address}/media/two.mp4"))
    with anyio.fail_after(30):
        async with connect(save_finished=True) as client:
            await create(client)
            while await names(folder) != ["task_new.v2.mp4"]:
                await anyio.lowlevel.checkpoint()


async def test_an_address_that_does_not_do_is_tried_ever_more_rarely(connect: Connect, gateway: FaultGateway) -> None:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, finished(f"{gateway.address}/dead/one.mp4"))
    gateway.on("GET", "/dead", GONE)
    running = f"{CREATE}/task_2"
    gateway.on("GET", running, RUNNING)
    with anyio.fail_after(30):
        async with connect(save_finished=True) as client:
            await create(client, "kite")
            while not (tried := len(gateway.requests("GET", "/dead/one.mp4"))):
                await anyio.lowlevel.checkpoint()
            await create(client, "boat")
            while len(gateway.requests("GET", running)) < 8:  # about as many rounds have passed
                await anyio.lowlevel.checkpoint()
    assert len(gateway.requests("GET", "/dead/one.mp4")) - tried <= 4


async def test_no_more_than_a_few_are_saved_at_once(
    connect: Connect, gateway: FaultGateway, folder: anyio.Path
) -> None:
    many, hold = MAX_CONCURRENT_SAVES + 2, Hold()
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", "/media", replace(VIDEO, hold=hold))
    running = f"{CREATE}/task_{many + 1}"
    gateway.on("GET", running, RUNNING)
    with anyio.fail_after(30):
        async with connect(save_finished=True) as client:
            for number in range(many + 1):
                await create(client, f"kite {number}")
            await hold.reached.wait()
            looks = len(gateway.requests("GET", running))
            while len(gateway.requests("GET", running)) < looks + 4:  # each is a round in which saves could begin
                await anyio.lowlevel.checkpoint()
            assert len(gateway.requests("GET", "/media/one.mp4")) == MAX_CONCURRENT_SAVES
            hold.release.set()
            while len(await names(folder)) < many:
                await anyio.lowlevel.checkpoint()


async def test_a_second_request_that_was_given_the_task_of_the_first_is_unknown(connect: Connect) -> None:
    async with connect() as client:
        first, second = [await client.call_tool("create_video", {"prompt": prompt}) for prompt in ("kite", "boat")]
    assert first.structured_content["task_id"] == "task_new"
    assert second.structured_content["outcome"] == "unknown"
    assert "task_new" in second.structured_content["error"]["message"]


@pytest.mark.parametrize("tool", ["view_video", "download_video"])
async def test_nobody_is_told_to_wait_for_a_request_that_may_never_have_run(connect: Connect, tool: str) -> None:
    async with connect() as client:
        _, unknown = [await client.call_tool("create_video", {"prompt": prompt}) for prompt in ("kite", "boat")]
        request_id = unknown.structured_content["request_id"]
        told = (await client.call_tool(tool, {"task_id": request_id})).structured_content["error"]
    assert told["kind"] == "not_ready"
    assert told["retryable"] is False
    assert "the outcome of" in told["message"]
    assert "sora-mcp settle" in told["next_step"]
    assert "until it has finished" not in told["next_step"]


async def test_two_that_download_one_video_at_once_have_one_file(
    connect: Connect, gateway: FaultGateway, folder: anyio.Path
) -> None:
    one_hold, other_hold = Hold(), Hold()
    gateway.on("GET", "/media", replace(VIDEO, hold=one_hold), replace(VIDEO, hold=other_hold))
    told: list[dict[str, Any]] = []

    async def save(client: Client) -> None:
        told.append(await download(client))

    with anyio.fail_after(30):
        async with connect() as one, connect() as other:
            await succeed(one)
            async with anyio.create_task_group() as calls:
                calls.start_soon(save, one)
                calls.start_soon(save, other)
                await one_hold.reached.wait()
                await other_hold.reached.wait()
                one_hold.release.set()
                other_hold.release.set()
    assert sorted(each["outcome"] for each in told) == ["already_saved", "saved"]
    assert {each["path"] for each in told} == {str(folder / "task_new.v1.mp4")}
    assert await names(folder) == ["task_new.v1.mp4"]


async def test_a_download_and_those_that_wait_for_it_take_no_longer_than_one_may(
    connect: Connect, gateway: FaultGateway
) -> None:
    anew = [finished(f"{gateway.address}/media/one.mp4?signature={number}") for number in range(100)]
    gateway.on("GET", CREATE, *anew)
    gateway.on("GET", "/media", Answer(200, MP4, fault="stall", at="in_reply_body"))
    told: list[dict[str, Any]] = []

    async def save(client: Client) -> None:
        told.append(await download(client))

    limit = 2
    async with connect(download_timeout=limit) as client:
        await succeed(client)
        with anyio.fail_after(2 * limit):  # one after the other they would take three times as long
            async with anyio.create_task_group() as calls:
                for _ in range(3):
                    calls.start_soon(save, client)
    assert (
        len([each for each in gateway.requests("GET") if "/media/" in each.path]) <= 3
    )  # no new address is tried then
    assert ["SORA_DOWNLOAD_TIMEOUT" in each["error"]["message"] for each in told] == [True] * 3


async def test_a_file_that_a_killed_process_saved_but_did_not_record_is_taken(
    connect: Connect, gateway: FaultGateway, folder: anyio.Path
) -> None:
    await folder.mkdir()
    await (folder / "task_new.v1.mp4").write_bytes(MP4)
    async with connect() as client:
        await succeed(client)
        asked = len(gateway.requests("GET"))
        assert (await download(client))["outcome"] == "already_saved"
        assert len(gateway.requests("GET")) == asked
    assert await names(folder) == ["task_new.v1.mp4"]


async def test_a_video_whose_folder_has_moved_is_found_there_though_its_address_has_expired(
    connect: Connect, gateway: FaultGateway, folder: anyio.Path, tmp_path: Path
) -> None:
    async with connect() as client:
        await succeed(client)
        await download(client)
    gateway.on("GET", "/media", GONE)
    moved = await folder.rename(tmp_path / "shared")
    async with connect(output_dir=moved) as client:
        content = (await client.read_resource("sora://videos/task_new/1.mp4")).contents[0]
        assert base64.b64decode(content.blob) == MP4  # type: ignore[union-attr]
        told = await client.call_tool("get_video", {"task_id": "task_new"})
        assert told.structured_content["files"] == [str(moved / "task_new.v1.mp4")]
    assert len(gateway.requests("GET", "/media/one.mp4")) == 1


@pytest.mark.parametrize("content", [b"", b"not a video", MP4[:-2]], ids=["empty", "text", "cut"])
async def test_what_is_no_whole_video_is_never_taken_for_one_nor_touched(
    connect: Connect, folder: anyio.Path, content: bytes
) -> None:
    await folder.mkdir()
    await (folder / "task_new.v1.mp4").write_bytes(content)
    async with connect() as client:
        await succeed(client)
        told = await download(client)
    assert (told["outcome"], told["path"]) == ("saved", str(folder / "task_new.v1-2.mp4"))
    assert await (folder / "task_new.v1.mp4").read_bytes() == content


async def test_a_video_of_another_owner_is_not_taken_for_one_of_the_same_name(
    connect: Connect, gateway: FaultGateway, folder: anyio.Path
) -> None:
    async with connect() as one, connect(owner="ann") as other:
        for client in (one, other):
            await succeed(client)
        told = [await download(client) for client in (one, other)]
    assert [each["outcome"] for each in told] == ["saved", "saved"]
    assert await names(folder) == ["task_new.v1-2.mp4", "task_new.v1.mp4"]
    assert len(gateway.requests("GET", "/media/one.mp4")) == 2
