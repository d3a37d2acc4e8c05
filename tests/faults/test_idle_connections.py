"""A create never meets what an earlier request has left on its connection: a close under way, or an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from bench import ACCEPTED, ACCEPTED_NEXT, Connect, task_reply
from fault_gateway import CREATE, Answer, FaultGateway, says
from mcp import Client

pytestmark = pytest.mark.anyio

BUSY = says({"error": {"message": "busy", "type": "new_api_error"}}, 429)


def sent_twice(answer: Answer, second: Answer) -> Answer:
    """An answer with another one behind it that nobody has asked for."""
    more = second.head() + second.body
    return replace(answer, headers={"Content-Length": str(len(answer.body))}, body=answer.body + more)


async def create(client: Client, prompt: str) -> dict[str, Any]:
    return dict((await client.call_tool("create_video", {"prompt": prompt})).structured_content)


async def test_a_create_is_not_lost_with_an_idle_connection_that_the_gateway_is_closing(
    connect: Connect, gateway: FaultGateway
) -> None:
    gateway.resets_reused_connections = True
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    async with connect() as client:
        told = [await create(client, prompt) for prompt in ("one", "two", "three")]
    assert [each["outcome"] for each in told] == ["accepted"] * 3
    assert len(gateway.accepted()) == 3


async def test_a_busy_answer_to_something_else_does_not_send_a_create_again(
    connect: Connect, gateway: FaultGateway
) -> None:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, sent_twice(task_reply("SUCCESS"), BUSY))
    async with connect() as client:
        first = await create(client, "one")
        await client.call_tool("get_video", {"task_id": first["task_id"]})
        second = await create(client, "two")
    assert (second["outcome"], second["task_id"]) == ("accepted", "task_2")
    assert len(gateway.accepted()) == 2


async def test_an_answer_that_came_with_an_earlier_one_is_not_a_creates(
    connect: Connect, gateway: FaultGateway
) -> None:
    gateway.on("POST", CREATE, sent_twice(ACCEPTED, ACCEPTED), ACCEPTED_NEXT)
    async with connect() as client:
        await create(client, "one")
        assert (await create(client, "two"))["task_id"] == "task_2"
