"""Requests of one session that have the same id: of two clients that share it, or of one that gives no others."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from bench import ACCEPTED, ACCEPTED_NEXT, environment, over_http
from callers import ACCEPT, INITIALIZE_PARAMS
from fault_gateway import CREATE, FaultGateway, Hold

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

Messages = list[dict[str, Any]]


class Session:
    """A session, every request of which has the id 1, unless another is given."""

    def __init__(self, http: httpx.AsyncClient, address: str) -> None:
        self._http = http
        self._address = address

    async def call(self, tool: str, request_id: int | str = 1, **arguments: Any) -> Messages:
        """What the server says until the stream of this call ends."""
        params = {"name": tool, "arguments": arguments}
        message = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params}
        answer = await self._http.post(self._address, json=message)
        if answer.headers["content-type"] == "application/json":
            return [answer.json()]
        return [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]


@asynccontextmanager
async def opened_session(address: str) -> AsyncIterator[Session]:
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE_PARAMS}
    async with httpx.AsyncClient(headers=ACCEPT, timeout=30, trust_env=False) as http:
        opened = await http.post(address, json=hello)
        http.headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        await http.post(address, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
        yield Session(http, address)


@pytest.fixture
async def session(gateway: FaultGateway, tmp_path: Path) -> AsyncIterator[Session]:
    async with over_http(environment(tmp_path, gateway)) as (address, _), opened_session(address) as session:
        yield session


def task_of(messages: Messages) -> str:
    return str(messages[-1]["result"]["structuredContent"]["task_id"])


@pytest.mark.parametrize("request_id", [1, "1"])
async def test_a_request_with_the_id_of_another_is_refused_and_the_other_is_answered(
    session: Session, gateway: FaultGateway, request_id: int | str
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))
    answers: list[Messages] = []

    async def create() -> None:
        answers.append(await session.call("create_video", prompt="fly man"))

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(create)
            await hold.reached.wait()
            [refusal] = await session.call("create_video", request_id, prompt="another")
            hold.release.set()
    assert refusal["id"] == request_id
    assert "Nothing was submitted. Send it again with an id" in refusal["error"]["message"]
    assert task_of(answers[0]) == "task_new"
    assert len(gateway.creates()) == 1


async def test_what_a_lost_connection_left_behind_is_not_the_answer_to_something_else(
    session: Session, gateway: FaultGateway
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold), ACCEPTED_NEXT)
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:

            async def lose() -> None:
                await session.call("create_video", prompt="first")

            tasks.start_soon(lose)
            await hold.reached.wait()
            tasks.cancel_scope.cancel()
        [refusal] = await session.call("create_video", prompt="second")
        assert "Nothing was submitted" in refusal["error"]["message"]
        hold.release.set()
        assert task_of(await session.call("create_video", 2, prompt="second")) == "task_2"


async def test_an_id_may_be_used_again_once_it_is_answered(session: Session) -> None:
    """Not as the specification has it, but some clients do."""
    with anyio.fail_after(60):
        for _ in range(50):
            assert "result" in (await session.call("list_videos"))[-1]
