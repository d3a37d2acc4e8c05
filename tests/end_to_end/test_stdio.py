"""Lines that a host may send over stdio and that the protocol cannot read: every request gets an answer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from wire import HELLO, Wire, wire

pytestmark = pytest.mark.anyio


@pytest.fixture
async def server(environment: dict[str, str]) -> AsyncIterator[Wire]:
    async with wire(environment) as opened:
        assert (await opened.ask(json.dumps(HELLO).encode()))["result"]["serverInfo"]["name"] == "sora"
        yield opened


def call(prompt: bytes) -> bytes:
    """A dry run whose prompt is written as these bytes inside the JSON text."""
    arguments = b'{"prompt":"' + prompt + b'","dry_run":true}'
    return (
        b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"create_video","arguments":'
        + arguments
        + b"}}"
    )


@pytest.mark.parametrize("prompt", [b"a \\ud83d", b"\\ude00 b", b"a \xff b", b"\\ud83d\\ud83d\\ude00"], ids=repr)
async def test_half_a_character_is_refused_in_words(server: Wire, prompt: bytes) -> None:
    answer = await server.ask(call(prompt))
    assert answer["id"] == 7
    assert answer["result"]["isError"]
    assert "half a character" in answer["result"]["content"][0]["text"]
    assert answer["result"]["structuredContent"]["outcome"] == "not_submitted"


@pytest.mark.parametrize("prompt", [b"a \\ud83d\\ude00", "a 😀".encode(), b"\\\\ud83d", "日本".encode()], ids=repr)
async def test_whole_characters_pass_however_they_are_written(server: Wire, prompt: bytes) -> None:
    answer = await server.ask(call(prompt))
    assert answer["result"]["structuredContent"]["body"]["prompt"] == json.loads(b'"' + prompt + b'"')


@pytest.mark.parametrize(
    "value", [b"9" * 5000, b"[" * 5000 + b"]" * 5000, b"{broken"], ids=["digits", "nesting", "broken"]
)
async def test_a_request_that_cannot_be_read_is_answered_with_its_id(server: Wire, value: bytes) -> None:
    line = b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"get_video","arguments":' + value + b"}}"
    answer = await server.ask(line)
    assert answer["id"] == 9
    assert "error" in answer or answer["result"]["isError"]
    alive = await server.ask(b'{"jsonrpc":"2.0","id":10,"method":"ping"}')

    assert alive["id"] == 10
