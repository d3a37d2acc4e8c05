"""Addresses that have expired: a new one is asked for once, and where there is none that is said for good."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bench import MP4, Connect, Era, finished, task_reply
from calls import ToolReply, ask
from fault_gateway import CREATE, Answer, FaultGateway, says
from mcp import Client, MCPError

pytestmark = pytest.mark.anyio

VIDEO = Answer(200, MP4, {"Content-Type": "video/mp4"})
EXPIRED = [400, 401, 403, 404, 410, 451]
PASSING: dict[str, Answer] = {
    "429": Answer(429),
    "500": Answer(500),
    "503": Answer(503),
    "408": Answer(408),
    "closed": replace(VIDEO, fault="close"),
    "a page of its own": Answer(200, b"<html>" * 100, {"Content-Type": "text/html"}),
}


async def finish(client: Client) -> None:
    await client.call_tool("create_video", {"prompt": "fly man"})
    await client.call_tool("get_video", {"task_id": "task_new", "wait_seconds": 20})


async def use(client: Client, tool: str) -> ToolReply:
    return await ask(client, tool, {"task_id": "task_new"})


def assert_gone(error: dict[str, Any], status: int) -> None:
    assert (error["kind"], error["retryable"], error["http_status"]) == ("gone", False, status)
    assert "is gone" in error["message"]
    assert "Asking again does not help" in error["next_step"]
    assert "costs again" in error["next_step"]


@pytest.mark.parametrize("tool", ["download_video", "view_video"])
@pytest.mark.parametrize("status", EXPIRED)
async def test_an_address_that_has_expired_without_another_is_said_to_be_gone(
    status: int, tool: str, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, finished(f"{gateway.address}/v.mp4"))
    gateway.on("GET", "/v.mp4", Answer(status))
    async with connect() as client:
        await finish(client)
        asked = len(gateway.requests("GET", f"{CREATE}/task_new"))
        told = await use(client, tool)
    assert told.is_error
    assert_gone(told.data["error"], status)
    assert told.data["error"]["next_step"] in told.text
    assert len(gateway.requests("GET", "/v.mp4")) == 1
    assert len(gateway.requests("GET", f"{CREATE}/task_new")) == asked + 1
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("status", [403, 404, 410])
async def test_a_new_address_is_taken(status: int, era: Era, gateway: FaultGateway, connect: Connect) -> None:
    old, new = (finished(f"{gateway.address}/{name}.mp4") for name in ("old", "new"))
    gateway.on("GET", CREATE, old, new)
    gateway.on("GET", "/old.mp4", Answer(status))
    gateway.on("GET", "/new.mp4", VIDEO)
    async with connect(era) as client:
        await finish(client)
        told = await use(client, "download_video")
    assert not told.is_error, told.text
    assert told.data["outcome"] == "saved"


async def test_a_new_address_that_is_refused_too_is_said_to_be_gone(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("GET", CREATE, *(finished(f"{gateway.address}/v.mp4?signature={number}") for number in range(3)))
    gateway.on("GET", "/v.mp4", Answer(403))
    async with connect() as client:
        await finish(client)
        told = await use(client, "download_video")
    assert_gone(told.data["error"], 403)
    assert len([r for r in gateway.received if r.path.startswith("/v.mp4")]) == 2


async def test_a_change_of_something_else_is_no_new_address(gateway: FaultGateway, connect: Connect) -> None:
    first = {"id": "gen_1", "url": f"{gateway.address}/v.mp4"}
    states = [{"generations": [first | {"width": width}]} for width in (480, 854)]
    gateway.on("GET", CREATE, *(task_reply("SUCCESS", data=state) for state in states))
    gateway.on("GET", "/v.mp4", Answer(404))
    async with connect() as client:
        await finish(client)
        assert_gone((await use(client, "download_video")).data["error"], 404)
    assert len(gateway.requests("GET", "/v.mp4")) == 1


async def test_a_task_that_the_gateway_has_forgotten_meanwhile_may_be_asked_for_again_while_it_is_young(
    gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, finished(f"{gateway.address}/v.mp4"), says({"code": "task_not_exist"}, 400))
    gateway.on("GET", "/v.mp4", Answer(404))
    async with connect() as client:
        await finish(client)
        told = await use(client, "download_video")
    assert told.is_error
    assert told.data["error"]["retryable"] is True


async def test_whether_there_is_another_address_is_left_open_where_the_gateway_does_not_answer(
    gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, finished(f"{gateway.address}/v.mp4"), Answer(503))
    gateway.on("GET", "/v.mp4", Answer(403))
    async with connect() as client:
        await finish(client)
        told = await use(client, "download_video")
    assert (told.data["error"]["retryable"], told.data["error"]["http_status"]) == (True, 403)
    assert "gone" not in told.text


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
async def test_passing_trouble_at_the_address_stays_worth_another_call(
    answer: Answer, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, finished(f"{gateway.address}/v.mp4"))
    gateway.on("GET", "/v.mp4", answer)
    async with connect() as client:
        await finish(client)
        told = await use(client, "download_video")
        assert told.is_error
        assert told.data["error"]["retryable"] is True
        gateway.on("GET", "/v.mp4", VIDEO)
        assert not (await use(client, "download_video")).is_error


async def test_a_resource_whose_address_has_expired_says_so(era: Era, gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("GET", CREATE, finished(f"{gateway.address}/v.mp4"))
    gateway.on("GET", "/v.mp4", Answer(410))
    async with connect(era) as client:
        await finish(client)
        for what in ("1.mp4", "contact-sheet.jpg", "contact-sheet.png"):
            with pytest.raises(MCPError, match=r"is gone.*costs again"):
                await client.read_resource(f"sora://videos/task_new/{what}")
