"""A client that asks with `server/discover` what a server speaks, and then shakes hands on the same pipe."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest
from wire import Wire, wire

pytestmark = pytest.mark.anyio

Message = dict[str, Any]

META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
ABOUT = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
INITIALIZED: Message = {"method": "notifications/initialized"}


def discover(number: int | str) -> Message:
    return {"id": number, "method": "server/discover", "params": {"_meta": META}}


def initialize(number: int = 1) -> Message:
    return {"id": number, "method": "initialize", "params": ABOUT}


def modern(number: int, method: str, **params: Any) -> Message:
    return {"id": number, "method": method, "params": params | {"_meta": META}}


@pytest.fixture
async def server(environment: dict[str, str]) -> AsyncIterator[Wire]:
    async with wire(environment) as opened:
        yield opened


async def ask(server: Wire, message: Message) -> Message:
    await server.send(message)
    return await server.read()


async def work_in_the_old_era(server: Wire) -> None:
    """All that a client of that era does."""
    await server.send(INITIALIZED)
    listed = await ask(server, {"id": 10, "method": "tools/list"})
    assert listed["result"]["tools"][0]["name"] == "create_video"
    call = {"name": "create_video", "arguments": {"prompt": "fly man"}}
    made = await ask(server, {"id": 11, "method": "tools/call", "params": call})
    assert made["result"]["structuredContent"]["outcome"] == "accepted"
    assert (await ask(server, {"id": 12, "method": "ping"})) == {"jsonrpc": "2.0", "id": 12, "result": {}}
    refused = await ask(server, modern(13, "tools/list"))
    assert refused["error"]["code"] == -32600


@pytest.mark.parametrize("times", [1, 3])
async def test_initialize_after_nothing_but_discover_opens_the_stream_in_the_old_era(server: Wire, times: int) -> None:
    for number in range(times):
        answer = await ask(server, discover(f"probe {number}"))
        assert "2026-07-28" in answer["result"]["supportedVersions"]
    hello = await ask(server, initialize())
    assert hello["result"]["protocolVersion"] == "2025-06-18"
    await work_in_the_old_era(server)


@pytest.mark.parametrize("cancelled", [False, True], ids=["", "given up"])
async def test_nor_does_the_client_have_to_wait_for_the_answers(server: Wire, cancelled: bool) -> None:
    """All of it is in the pipe before the server has started; who does not wait for an answer may say so."""
    given_up = {"method": "notifications/cancelled", "params": {"requestId": 7, "reason": "timeout"}}
    for message in [discover(7), discover(8), *([given_up] if cancelled else []), initialize(9)]:
        await server.send(message)
    answers: dict[int, Message] = {}
    while 9 not in answers:
        answer = await server.read()
        answers[answer["id"]] = answer
    assert answers.keys() - {7} == {8, 9}
    assert cancelled or 7 in answers
    assert all("result" in answer for answer in answers.values())
    await work_in_the_old_era(server)


async def test_a_discover_without_the_words_of_the_new_era_locks_nothing_either(server: Wire) -> None:
    assert "error" in await ask(server, {"id": 1, "method": "server/discover"})
    assert "result" in await ask(server, initialize(2))
    await work_in_the_old_era(server)


@pytest.mark.parametrize(
    "before",
    [
        [modern(1, "tools/list")],
        [discover(1), modern(2, "tools/list")],
        [modern(1, "tools/list"), discover(2)],
        [discover(1), modern(2, "nothing/known")],
    ],
    ids=lambda messages: " ".join(message["method"] for message in messages),
)
async def test_after_any_other_request_of_the_new_era_initialize_is_refused(
    server: Wire, before: list[Message]
) -> None:
    for message in before:
        await ask(server, message)
    refused = await ask(server, initialize(5))
    assert refused["error"]["code"] == -32022
    assert "result" in await ask(server, modern(6, "tools/list"))


async def test_whoever_stays_in_the_new_era_does(server: Wire) -> None:
    await ask(server, discover(1))
    call = {"name": "create_video", "arguments": {"prompt": "fly man"}}
    made = await ask(server, modern(2, "tools/call", **call))
    assert made["result"]["structuredContent"]["outcome"] == "accepted"
    assert "result" in await ask(server, discover(3))


async def test_a_second_initialize_changes_nothing(server: Wire) -> None:
    await ask(server, discover(1))
    first, second = await ask(server, initialize(2)), await ask(server, initialize(3))
    assert "result" in first
    assert ("result" in second) or ("error" in second)
    await work_in_the_old_era(server)


async def test_the_input_may_end_at_any_point_of_it(environment: dict[str, str]) -> None:
    for messages in ([discover(1)], [discover(1), initialize(2)], [discover(1), initialize(2), INITIALIZED]):
        async with wire(environment) as server:
            for message in messages:
                await server.send(message)
            with anyio.fail_after(30):
                await server.hang_up()


@pytest.mark.parametrize("first", [initialize(), discover(1)], ids=lambda message: message["method"])
async def test_a_byte_order_mark_before_the_first_message_is_no_error(server: Wire, first: Message) -> None:
    answer = await server.ask(b"\xef\xbb\xbf" + json.dumps({"jsonrpc": "2.0"} | first).encode())
    assert answer["id"] == first["id"]
    assert "result" in answer
