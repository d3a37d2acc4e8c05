"""Calls whose parameters or arguments are malformed, over stdio and over HTTP in both eras."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from bench import over_http
from wire import HELLO, wire

pytestmark = pytest.mark.anyio

Call = Callable[..., Awaitable[dict[str, Any]]]

ACCEPT = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


def message(tool: str, arguments: Any, **params: Any) -> dict[str, Any]:
    params = {"name": tool, "arguments": arguments, **params}
    return {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}


def answer_in(text: str) -> dict[str, Any]:
    """The message of an answer, which is JSON or a stream of events."""
    return dict(json.loads(next(line for line in text.splitlines() if "{" in line).removeprefix("data: ")))


@pytest.fixture(params=["stdio", "2025 era", "2026 era"])
async def call(request: pytest.FixtureRequest, environment: dict[str, str]) -> AsyncIterator[Call]:
    if request.param == "stdio":
        async with wire(environment) as server:
            await server.ask(json.dumps(HELLO).encode())
            yield lambda tool, arguments, **params: server.ask(json.dumps(message(tool, arguments, **params)).encode())
        return
    async with over_http(environment) as (address, _), httpx.AsyncClient(timeout=20, trust_env=False) as http:
        headers, meta = dict(ACCEPT), {}
        if request.param == "2025 era":
            hello = await http.post(address, headers=headers, json=HELLO)
            headers["Mcp-Session-Id"] = hello.headers["mcp-session-id"]
        else:
            headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call"}
            meta = META

        async def post(tool: str, arguments: Any, **params: Any) -> dict[str, Any]:
            names = {"Mcp-Name": tool} if meta else {}
            params["_meta"] = meta | params.get("_meta", {})
            answer = await http.post(address, headers=headers | names, json=message(tool, arguments, **params))
            return answer_in(answer.text)

        yield post


async def test_an_empty_array_counts_as_no_arguments(call: Call) -> None:
    answer = await call("list_videos", [])
    assert answer["id"] == 7
    assert answer["result"]["structuredContent"]["videos"] == []
    assert not answer["result"].get("isError")


@pytest.mark.parametrize("arguments", ['{"prompt": "A lighthouse"}', [{"prompt": "A lighthouse"}], 5, "", False])
async def test_what_is_no_object_is_refused_in_words_before_anything_is_submitted(call: Call, arguments: Any) -> None:
    refused = (await call("create_video", arguments))["result"]
    assert refused["isError"]
    assert refused["structuredContent"]["outcome"] == "not_submitted"
    text = refused["content"][0]["text"]
    assert "arguments: are not an object; allowed: named arguments" in text
    assert "Nothing was submitted" in text
    free = (await call("get_video", arguments))["result"]["content"][0]["text"]
    assert "are not an object" in free
    assert "submitted" not in free
    assert (await call("list_videos", {}))["result"]["structuredContent"]["videos"] == []


async def test_parameters_that_are_refused_are_named(call: Call) -> None:
    answer = await call("create_video", {"prompt": "A lighthouse"}, _meta={"progressToken": {}})
    assert answer["id"] == 7
    assert answer["error"]["message"] == (
        "The parameters of tools/call are invalid: params._meta.progressToken is not allowed. Nothing was submitted."
    )
    assert (await call("list_videos", {}))["result"]["structuredContent"]["videos"] == []
