"""Lines that a host may send over stdio and that the protocol cannot read: every request gets an answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.streams.buffered import BufferedByteReceiveStream

pytestmark = pytest.mark.anyio

HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}


class Wire:
    """Raw lines to and from a server process."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._stdin = process.stdin
        self._stdout = BufferedByteReceiveStream(process.stdout)

    async def ask(self, line: bytes) -> dict[str, Any]:
        await self._stdin.send(line + b"\n")
        with anyio.fail_after(20):
            return dict(json.loads(await self._stdout.receive_until(b"\n", 1_000_000)))


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncIterator[Wire]:
    environment = {**os.environ, "SORA_BASE_URL": "sandbox", "SORA_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "sora_mcp"]
    async with await anyio.open_process(command, env=environment, stderr=subprocess.DEVNULL) as process:
        wire = Wire(process)
        assert (await wire.ask(json.dumps(HELLO).encode()))["result"]["serverInfo"]["name"] == "sora"
        yield wire
        process.terminate()


def call(prompt: bytes) -> bytes:
    """A dry run whose prompt is written as these bytes inside the JSON text."""
    arguments = b'{"prompt":"' + prompt + b'","dry_run":true}'
    return (
        b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"create_video","arguments":'
        + arguments
        + b"}}"
    )


@pytest.mark.parametrize("prompt", [b"a \\ud83d", b"\\ude00 b", b"a \xff b", b"\\ud83d\\ud83d\\ude00"], ids=repr)
async def test_half_a_character_is_refused_in_words(tmp_path: Path, prompt: bytes) -> None:
    async with served(tmp_path) as wire:
        answer = await wire.ask(call(prompt))
    assert answer["id"] == 7
    assert answer["result"]["isError"]
    assert "half a character" in answer["result"]["content"][0]["text"]
    assert answer["result"]["structuredContent"]["outcome"] == "not_submitted"


@pytest.mark.parametrize("prompt", [b"a \\ud83d\\ude00", "a 😀".encode(), b"\\\\ud83d", "日本".encode()], ids=repr)
async def test_whole_characters_pass_however_they_are_written(tmp_path: Path, prompt: bytes) -> None:
    async with served(tmp_path) as wire:
        answer = await wire.ask(call(prompt))
    assert answer["result"]["structuredContent"]["body"]["prompt"] == json.loads(b'"' + prompt + b'"')


@pytest.mark.parametrize(
    "value", [b"9" * 5000, b"[" * 5000 + b"]" * 5000, b"{broken"], ids=["digits", "nesting", "broken"]
)
async def test_a_request_that_cannot_be_read_is_answered_with_its_id(tmp_path: Path, value: bytes) -> None:
    async with served(tmp_path) as wire:
        line = (
            b'{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"get_video","arguments":' + value + b"}}"
        )
        answer = await wire.ask(line)
        assert answer["id"] == 9
        assert "error" in answer or answer["result"]["isError"]
        alive = await wire.ask(b'{"jsonrpc":"2.0","id":10,"method":"ping"}')
    assert alive["id"] == 10
