"""Tasks are followed until they finish: politely, by one process at a time, and without anybody asking."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from bench import ACCEPTED_NEXT, RUNNING, Connect, finished, task_reply
from fault_gateway import CREATE, Answer, FaultGateway, Hold, says
from mcp import Client

from sora_mcp.core.schedule import LEASE_S
from sora_mcp.studio.upstream import LOCAL_PACE

pytestmark = pytest.mark.anyio


async def create(client: Client) -> None:
    await client.call_tool("create_video", {"prompt": "fly man"})


async def states(client: Client) -> list[str]:
    listed = await client.call_tool("list_videos", {})
    return [video["state"] for video in listed.structured_content["videos"]]


async def test_a_task_is_followed_without_anybody_asking(connect: Connect, gateway: FaultGateway) -> None:
    hold = Hold()
    gateway.on("GET", CREATE, RUNNING, RUNNING, replace(finished(f"{gateway.address}/media/one.mp4"), hold=hold))
    with anyio.fail_after(20):
        async with connect() as client:
            await create(client)
            await hold.reached.wait()
            hold.release.set()
            while await states(client) != ["succeeded"]:
                pass
    assert len(gateway.requests("GET")) == 3


async def test_what_an_earlier_process_left_is_followed(connect: Connect, gateway: FaultGateway) -> None:
    async with connect() as client:
        await create(client)
    hold = Hold()
    gateway.on("GET", CREATE, replace(finished(f"{gateway.address}/media/one.mp4"), hold=hold))
    with anyio.fail_after(20):
        async with connect():
            await hold.reached.wait()
            hold.release.set()


async def test_however_many_wait_in_however_many_processes_one_query_is_made(
    connect: Connect, gateway: FaultGateway
) -> None:
    hold = Hold()
    gateway.on("GET", CREATE, replace(finished(f"{gateway.address}/media/one.mp4"), hold=hold))
    told: list[str] = []

    async def wait_for_it(client: Client) -> None:
        got = await client.call_tool("get_video", {"task_id": "task_new", "wait_seconds": 20})
        told.append(got.structured_content["state"])

    with anyio.fail_after(20):
        async with connect() as one, connect() as other:
            await create(one)
            async with anyio.create_task_group() as waiting:
                for _ in range(5):
                    waiting.start_soon(wait_for_it, one)
                    waiting.start_soon(wait_for_it, other)
                await hold.reached.wait()
                hold.release.set()
    assert told == ["succeeded"] * 10
    assert len(gateway.requests("GET")) == 1


async def test_a_gateway_that_asks_for_patience_gets_it(connect: Connect, gateway: FaultGateway) -> None:
    busy = says({"error": {"message": "busy", "type": "new_api_error"}}, 429, Retry_After="100")
    gateway.on("GET", CREATE, busy)
    async with connect() as client:
        await create(client)
        refused = await client.call_tool("get_video", {"task_id": "task_new"})
        assert refused.structured_content["error"]["retry_after_s"] == 100
        asked = len(gateway.requests("GET"))
        waited = await client.call_tool("get_video", {"task_id": "task_new", "wait_seconds": 1})
    assert waited.structured_content["state"] == "submitted"
    assert len(gateway.requests("GET")) == asked


async def test_a_query_that_is_cut_short_leaves_nobody_waiting_for_it(connect: Connect, gateway: FaultGateway) -> None:
    hold = Hold()
    gateway.on("GET", CREATE, replace(RUNNING, hold=hold), finished(f"{gateway.address}/media/one.mp4"))
    async with connect() as client:
        await create(client)
        with anyio.move_on_after(30) as scope:
            async with anyio.create_task_group() as calls:
                calls.start_soon(client.call_tool, "get_video", {"task_id": "task_new"})
                await hold.reached.wait()
                calls.cancel_scope.cancel()
        assert not scope.cancelled_caught
        got = await client.call_tool("get_video", {"task_id": "task_new", "wait_seconds": 2})
    assert got.structured_content["state"] == "succeeded"


async def test_patience_is_had_with_the_gateway_and_not_only_with_one_task(
    connect: Connect, gateway: FaultGateway
) -> None:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, says({"error": {"message": "busy", "type": "new_api_error"}}, 429, Retry_After="100"))
    async with connect() as client:
        for number in range(3):
            await client.call_tool("create_video", {"prompt": f"kite {number}"})
        assert (await client.call_tool("get_video", {"task_id": "task_1"})).is_error
        asked = len(gateway.requests("GET"))
        for number in (1, 2, 3):
            told = await client.call_tool("get_video", {"task_id": f"task_{number}", "wait_seconds": 1})
            assert told.structured_content["state"] == "submitted"
        assert await states(client) == ["submitted"] * 3
    assert len(gateway.requests("GET")) == asked


async def test_a_gateway_that_fails_is_not_asked_by_every_call(connect: Connect, gateway: FaultGateway) -> None:
    gateway.on("GET", CREATE, Answer(500, b""))
    async with connect() as client:
        await create(client)
        assert (await client.call_tool("get_video", {"task_id": "task_new"})).is_error
        asked, begun = len(gateway.requests("GET")), anyio.current_time()
        for _ in range(20):
            await client.call_tool("get_video", {"task_id": "task_new"})
        periods = (anyio.current_time() - begun) / LOCAL_PACE + 1
    assert len(gateway.requests("GET")) <= asked * (1 + periods)


async def test_an_address_that_comes_after_the_success_is_caught(connect: Connect, gateway: FaultGateway) -> None:
    gateway.on("GET", CREATE, task_reply("SUCCESS"), finished(f"{gateway.address}/media/one.mp4"))
    with anyio.fail_after(20):
        async with connect() as client:
            await create(client)
            while len(gateway.requests("GET")) < 2:
                await states(client)


async def test_a_slow_answer_is_waited_for_by_one_process_alone(connect: Connect, gateway: FaultGateway) -> None:
    hold = Hold()
    gateway.on("GET", CREATE, replace(RUNNING, hold=hold))
    with anyio.fail_after(30):
        async with connect() as one, connect() as other:
            await create(one)
            async with anyio.create_task_group() as calls:
                calls.start_soon(one.call_tool, "get_video", {"task_id": "task_new"})
                await hold.reached.wait()
                until = anyio.current_time() + LEASE_S * 1.5
                while anyio.current_time() < until:
                    await other.call_tool("get_video", {"task_id": "task_new", "wait_seconds": 1})
                assert len(gateway.requests("GET")) == 1
                hold.release.set()


async def test_each_owner_sees_only_their_own(connect: Connect, gateway: FaultGateway) -> None:
    async with connect(owner="ann") as ann, connect(owner="ben") as ben:
        await create(ann)
        assert len(await states(ann)) == 1
        assert await states(ben) == []
        await create(ben)
        assert len(await states(ben)) == 1
    assert len(gateway.creates()) == 2


@pytest.mark.parametrize("other", [None, "ben"])
async def test_to_know_an_id_is_no_permission(connect: Connect, gateway: FaultGateway, other: str | None) -> None:
    gateway.on("GET", CREATE, finished(f"{gateway.address}/media/one.mp4"))
    async with connect(owner="ann") as ann, connect(owner=other) as stranger:
        await create(ann)
        shown = await ann.call_tool("get_video", {"task_id": "task_new"})
        [generation] = shown.structured_content["generations"]
        asked = len(gateway.requests("GET"))
        for tool in ("get_video", "view_video", "download_video"):
            refused = await stranger.call_tool(tool, {"task_id": "task_new"})
            assert refused.structured_content["error"]["kind"] == "not_found"
        for source in ("task_new", generation["generation_id"]):
            remix = {"source_generation_id": source, "prompt": "x", "width": 480, "height": 480, "n_frames": 150}
            refused = await stranger.call_tool("remix_video", remix)
            assert refused.structured_content["error"]["kind"] == "not_found"
        assert await states(stranger) == []
    assert len(gateway.requests("GET")) == asked
    assert len(gateway.creates()) == 1


async def test_a_generation_of_nobody_known_is_no_source_where_there_are_owners(
    connect: Connect, gateway: FaultGateway
) -> None:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, finished(f"{gateway.address}/media/one.mp4"))
    remix = {"source_generation_id": "gen_1", "prompt": "x", "width": 480, "height": 480, "n_frames": 150}
    async with connect(owner="ann") as ann, connect(owner="ben") as ben:
        await create(ann)
        refused = await ben.call_tool("remix_video", remix)  # before anybody has looked, nobody knows whose it is
        assert refused.structured_content["error"]["kind"] == "not_found"
        await ann.call_tool("get_video", {"task_id": "task_1", "wait_seconds": 20})
        assert (await ann.call_tool("remix_video", remix)).structured_content["outcome"] == "accepted"
    async with connect() as alone:
        told = await alone.call_tool("remix_video", remix | {"source_generation_id": "gen_of_elsewhere"})
        assert told.structured_content["outcome"] == "accepted"
    assert len(gateway.creates()) == 3
