"""Requests that cost nothing, in passing trouble and in trouble that stays, over real sockets."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest
import stamina
from bench import task_reply
from downloads import Reach
from fault_gateway import CREATE, Answer, FaultGateway, says

from sora_mcp.core.errors import BadReply, SoraError

pytestmark = pytest.mark.anyio

RUNNING = task_reply("IN_PROGRESS", task_id="task_1")
BROKEN = says({"code": "fail_to_fetch_task", "message": "no"}, 502)
PASSING = {
    "500": BROKEN,
    "408": Answer(408),
    "429": says({}, 429),
    "429 with a short wait": says({}, 429, Retry_After="0"),
    "cut": replace(RUNNING, fault="truncate"),
    "reset": replace(RUNNING, fault="reset_after_request"),
    "closed": replace(RUNNING, fault="close"),
}


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
async def test_a_query_in_passing_trouble_is_sent_again(answer: Answer, gateway: FaultGateway, reach: Reach) -> None:
    gateway.on("GET", CREATE, answer, answer, RUNNING)
    async with reach() as client:
        assert (await client.query("task_1")).state == "running"
    assert len(gateway.received) == 3


async def test_a_query_waits_as_long_as_the_gateway_asks(gateway: FaultGateway, reach: Reach) -> None:
    gateway.on("GET", CREATE, says({}, 429, Retry_After="1"), RUNNING)
    began = anyio.current_time()
    async with reach() as client:
        with stamina.set_testing(False):
            await client.query("task_1")
    assert 1 <= anyio.current_time() - began < 3


async def test_trouble_that_stays_is_told_after_three_queries(gateway: FaultGateway, reach: Reach) -> None:
    gateway.on("GET", CREATE, BROKEN)
    async with reach() as client:
        with pytest.raises(BadReply) as caught:
            await client.query("task_1")
    assert (caught.value.http_status, len(gateway.received)) == (502, 3)


SETTLED = {
    "401": says({"error": {"message": "no", "type": "new_api_error"}}, 401),
    "403": says({}, 403),
    "404": says({}, 404),
    "no such task": says({"code": "task_not_exist"}, 400),
    "429 with a long wait": says({}, 429, Retry_After="60"),
    "503 with a long wait": says({}, 503, Retry_After="60"),
}


@pytest.mark.parametrize("answer", SETTLED.values(), ids=SETTLED)
async def test_a_query_that_waiting_does_not_help_is_sent_once(
    answer: Answer, gateway: FaultGateway, reach: Reach
) -> None:
    gateway.on("GET", CREATE, answer)
    async with reach() as client:
        with pytest.raises(SoraError):
            await client.query("task_1")
    assert len(gateway.received) == 1


async def test_a_check_of_the_key_is_sent_again_too(gateway: FaultGateway, reach: Reach) -> None:
    gateway.on("GET", "/v1/models", BROKEN, says({"data": []}))
    async with reach() as client:
        assert (await client.probe()).models == []


@pytest.mark.parametrize("answer", [BROKEN, says({}, 429), replace(RUNNING, fault="reset_after_request")], ids=repr)
async def test_an_upload_is_never_sent_again(answer: Answer, gateway: FaultGateway, reach: Reach) -> None:
    gateway.on("POST", "/v1/files", answer)
    async with reach() as client:
        with pytest.raises(BadReply):
            await client.upload("a.png", b"x")
    assert len(gateway.received) == 1


@pytest.mark.parametrize(
    "second", [replace(RUNNING, fault="stall"), replace(RUNNING, fault="drip")], ids=["stall", "drip"]
)
async def test_all_attempts_of_a_query_together_take_no_longer_than_one_may(
    second: Answer, gateway: FaultGateway, reach: Reach
) -> None:
    gateway.on("GET", CREATE, BROKEN, second)
    async with reach(query_timeout=1) as client:
        began = anyio.current_time()
        with pytest.raises(BadReply):
            await client.query("task_1")
        took = anyio.current_time() - began
    assert took < 1.5
    assert len(gateway.received) == 2
