"""Calls that their client gives up once the request has reached the gateway: its outcome is still recorded."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
from bench import ACCEPTED, Connect, Era, create_accepted, task_reply
from calls import ask, create
from fault_gateway import CREATE, FaultGateway, Hold
from mcp import Client

from sora_mcp.core.tasks import UNDER_WAY

pytestmark = pytest.mark.anyio

VIDEO = {"generations": [{"id": "gen_1", "url": "https://videos.example/1.mp4"}]}


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("GET", f"{CREATE}/task_new", task_reply("NOT_START"))
    gateway.on("GET", f"{CREATE}/task_finished", task_reply("SUCCESS", task_id="task_finished", data=VIDEO))
    return gateway


async def give_up_once_sent(client: Client, hold: Hold) -> None:
    """Call, and cancel the call when its request has reached the gateway, which has not answered yet."""
    with anyio.fail_after(20):
        async with anyio.create_task_group() as calls:
            calls.start_soon(ask, client, *create())
            await hold.reached.wait()
            calls.cancel_scope.cancel()


async def test_a_cancelled_call_is_sent_once_and_its_outcome_recorded(
    era: Era, gateway: FaultGateway, connect: Connect
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(create_accepted("task_finished"), hold=hold))
    async with connect(era) as client:
        await give_up_once_sent(client, hold)
        [video] = (await ask(client, "list_videos", {})).data["videos"]
        assert (video["state"], "task_id" in video) == ("sending", False)
        hold.release.set()
        told = await ask(client, "get_video", {"task_id": video["request_id"], "wait_seconds": 20})
    assert (told.data["task_id"], told.data["state"]) == ("task_finished", "succeeded")
    assert len(gateway.requests("POST")) == 1


async def test_a_client_that_leaves_finds_the_outcome_when_it_is_back(
    era: Era, gateway: FaultGateway, connect: Connect
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))
    async with connect(era) as client:
        await give_up_once_sent(client, hold)
        hold.release.set()
    async with connect(era) as client:
        [video] = (await ask(client, "list_videos", {})).data["videos"]
    assert (video["task_id"], video["state"] in UNDER_WAY) == ("task_new", True)
    assert len(gateway.requests("POST")) == 1


async def test_a_server_that_is_stopped_waits_for_the_request_under_way(
    gateway: FaultGateway, connect: Connect
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))

    async def serve(stop: anyio.CancelScope) -> None:
        with stop:
            async with connect() as client:
                await ask(client, *create())

    with anyio.fail_after(20):
        async with anyio.create_task_group() as serving:
            stop = anyio.CancelScope()
            serving.start_soon(serve, stop)
            await hold.reached.wait()
            stop.cancel()
            await anyio.wait_all_tasks_blocked()
            hold.release.set()
    async with connect() as client:
        [video] = (await ask(client, "list_videos", {})).data["videos"]
    assert (video["task_id"], video["state"] in UNDER_WAY) == ("task_new", True)
    assert len(gateway.requests("POST")) == 1
