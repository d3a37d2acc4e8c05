"""HTTP as some clients speak it: a byte order mark before a body, a stream that is to be resumed, a session of before
a restart."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import bench
import httpx
import pytest
from bench import over_http
from fault_gateway import CREATE, FaultGateway
from mcp import Client

pytestmark = pytest.mark.anyio

MARK = b"\xef\xbb\xbf"
ACCEPT = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
ABOUT = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}


def message(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


OLD = (ACCEPT, message("initialize", **ABOUT))
NEW = (
    ACCEPT | {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"},
    message("tools/list", _meta=META),
)


@pytest.fixture
async def address(environment: dict[str, str]) -> AsyncIterator[str]:
    async with over_http(environment) as (address, _):
        yield address


async def post(address: str, headers: dict[str, str], content: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        return await http.post(address, headers=headers, content=content)


async def byte_by_byte(body: bytes) -> AsyncIterator[bytes]:
    for i in range(len(body)):
        yield body[i : i + 1]


@pytest.mark.parametrize("request_", [OLD, NEW], ids=["old era", "new era"])
@pytest.mark.parametrize("in_parts", [False, True])
async def test_a_byte_order_mark_before_a_body_is_no_error(
    address: str, request_: tuple[dict[str, str], bytes], in_parts: bool
) -> None:
    headers, body = request_
    body = MARK + body
    answer = await post(address, headers, byte_by_byte(body) if in_parts else body)
    assert answer.status_code == 200, answer.text
    assert '"result"' in answer.text


@pytest.mark.parametrize("body", [b"", MARK, MARK[:2], MARK + MARK + OLD[1], b"\xef\xbb{}"], ids=repr)
async def test_what_is_no_json_is_still_refused(address: str, body: bytes) -> None:
    assert (await post(address, ACCEPT, body)).status_code == 400


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
        (b"[]", -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":"x"}', -32600),
        (b'{"id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":', -32700),
    ],
    ids=repr,
)
async def test_what_is_no_message_is_refused_in_plain_words(address: str, body: bytes, code: int) -> None:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        session = (await http.post(address, headers=OLD[0], content=OLD[1])).headers["mcp-session-id"]
        answer = await http.post(address, headers=ACCEPT | {"Mcp-Session-Id": session}, content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == code
    told = answer.json()["error"]["message"]
    assert told.startswith("This is not ")
    assert told.endswith("Nothing was submitted.")


def asked(session: str) -> Iterator[tuple[str, dict[str, str], bytes]]:
    for version in ({}, {"MCP-Protocol-Version": "2025-06-18"}):
        for method, body in (("POST", message("tools/list")), ("GET", b""), ("DELETE", b"")):
            yield method, ACCEPT | version | {"Mcp-Session-Id": session}, body


async def test_a_session_of_before_a_restart_is_not_found_and_is_to_be_initialized_anew(
    environment: dict[str, str], address: str
) -> None:
    """The specification: 404, upon which a client MUST send a new initialize request without a session id."""
    session = (await post(address, *OLD)).headers["mcp-session-id"]
    async with over_http(environment) as (later, _), httpx.AsyncClient(timeout=20, trust_env=False) as http:
        for method, headers, body in asked(session):
            answer = await http.request(method, later, headers=headers, content=body)
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/json"
            told = answer.json()
            assert (told["jsonrpc"], told["id"]) == ("2.0", None)
            assert "Initialize again" in told["error"]["message"]
            assert session not in answer.text
        assert (await post(later, *OLD)).status_code == 200


async def test_a_session_that_was_ended_is_told_so_too(address: str) -> None:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        session = (await http.post(address, headers=OLD[0], content=OLD[1])).headers["mcp-session-id"]
        headers = ACCEPT | {"Mcp-Session-Id": session}
        assert (await http.delete(address, headers=headers)).status_code == 200
        answer = await http.post(address, headers=headers, content=message("tools/list"))
    assert answer.status_code == 404
    assert "Initialize again" in answer.json()["error"]["message"]


async def test_a_client_that_wants_to_resume_a_stream_gets_a_new_one(address: str) -> None:
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        session = (await http.post(address, headers=OLD[0], content=OLD[1])).headers["mcp-session-id"]
        headers = {"Accept": "text/event-stream", "Mcp-Session-Id": session, "Last-Event-ID": "7"}
        async with http.stream("GET", address, headers=headers) as stream:
            assert stream.status_code == 200
            assert stream.headers["content-type"].startswith("text/event-stream")


async def test_a_client_that_lost_its_stream_opens_another_though_the_first_seems_open(
    gateway: FaultGateway, tmp_path: Path
) -> None:
    """As after a change of network, of which the server hears nothing for a quarter of an hour."""

    async def ask(method: str, **params: Any) -> httpx.Response:
        return await http.post(address, headers=ACCEPT, content=message(method, **params))

    with anyio.fail_after(30):
        async with (
            over_http(bench.environment(tmp_path, gateway)) as (address, _),
            httpx.AsyncClient(timeout=20, trust_env=False) as http,
        ):
            http.headers["Mcp-Session-Id"] = (await ask("initialize", **ABOUT)).headers["mcp-session-id"]
            await http.post(address, headers=ACCEPT, json={"jsonrpc": "2.0", "method": "notifications/initialized"})
            await ask("tools/call", name="create_video", arguments={"prompt": "fly man"})
            await ask("resources/subscribe", uri="sora://videos/task_new")
            listen = {"Accept": "text/event-stream"}
            async with (
                http.stream("GET", address, headers=listen) as lost,
                http.stream("GET", address, headers=listen) as stream,
            ):
                assert stream.status_code == 200
                await lost.aread()
                gateway.on("GET", CREATE, bench.task_reply("FAILURE"))
                await ask("tools/call", name="get_video", arguments={"task_id": "task_new", "wait_seconds": 20})
                assert await anext(line async for line in stream.aiter_lines() if "resources/updated" in line)


async def test_what_is_not_there_in_the_new_era_is_told_as_it_was(address: str) -> None:
    headers, body = NEW[0] | {"Mcp-Session-Id": "of-old", "Mcp-Method": "no/such"}, message("no/such", _meta=META)
    with_one = await post(address, headers, body)
    del headers["Mcp-Session-Id"]
    without = await post(address, headers, body)
    assert (with_one.status_code, with_one.text) == (without.status_code, without.text)
    assert "Initialize again" not in without.text


async def test_a_client_works_as_before(address: str) -> None:
    with anyio.fail_after(30):
        for era in ("auto", "legacy"):
            async with Client(address, mode=era) as client:
                made = await client.call_tool("create_video", {"prompt": "größer 日本"})
                assert made.structured_content["outcome"] == "accepted"
