"""Messages of any length: what is too long is refused in words, is never held whole, and the server goes on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from bench import COMMAND, ERAS, Run, environment, over_http
from calls import NOTHING_SENT
from mcp import Client
from mcp.shared.exceptions import MCPError
from wire import HELLO, Wire

from sora_mcp import Toolkit
from sora_mcp.config.settings import Settings

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

MB = 1_000_000
MOST_MEMORY = 200 * MB


def memory_at_most(pid: int) -> int:
    """Bytes that a process has held at once in all its life."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s*(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@asynccontextmanager
async def server(environ: dict[str, str]) -> AsyncIterator[tuple[Wire, int]]:
    """A server over stdio that has shaken hands, and the id of its process."""
    async with await anyio.open_process(COMMAND, env=environ, stderr=subprocess.DEVNULL) as process:
        try:
            opened = Wire(process)
            assert "result" in await opened.ask(json.dumps(HELLO).encode())
            yield opened, process.pid
        finally:
            if process.returncode is None:
                process.terminate()


def call(prompt: bytes, before: bytes = b'"id":7,', after: bytes = b"") -> bytes:
    """A call of create_video; its id stands before or after its arguments."""
    arguments = b'{"name":"create_video","arguments":{"prompt":"' + prompt + b'"}}'
    return b'{"jsonrpc":"2.0",' + before + b'"method":"tools/call","params":' + arguments + after + b"}"


ORDERS = {
    "the id first": (b'"id":7,', b""),
    "the id last": (b"", b',"id":7'),
    "the id last, with blanks": (b"", b' , "id" : 7 '),
    "a text, last but one": (b"", b',"id":"7","x":null'),
}
PIECES = [b'\\"id\\":8,', "é".encode(), b"x", b"x"]
"""What a prompt is made of: what looks like another id, and characters of two bytes, of which fewer are too many."""


async def test_a_line_that_is_too_long_is_refused_in_words_by_its_id_and_the_server_goes_on(
    environment: dict[str, str],
) -> None:
    async with server(environment) as (wire, _):
        for (order, (before, after)), piece in zip(ORDERS.items(), PIECES, strict=True):
            answer = await wire.ask(call(piece * (9 * MB // len(piece)), before, after))
            assert str(answer["id"]) == "7", order
            assert answer["result"]["isError"]
            assert answer["result"]["structuredContent"]["outcome"] == "not_submitted"
            words = answer["result"]["content"][0]["text"]
            assert "8 MB" in words
            assert NOTHING_SENT in words
            alive = await wire.ask(b'{"jsonrpc":"2.0","id":10,"method":"ping"}')
            assert alive["id"] == 10, order
        listed = await wire.ask(
            b'{"jsonrpc":"2.0","id":11,"method":"tools/call","params":{"name":"list_videos","arguments":{}}}'
        )
        assert listed["result"]["structuredContent"]["videos"] == []


async def test_an_id_inside_of_the_arguments_is_not_the_calls(environment: dict[str, str]) -> None:
    nested = b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x","id":3,"a":"' + b"x" * 9 * MB
    async with server(environment) as (wire, _):
        answer = await wire.ask(nested + b'","id":4},"id":7}')
        assert answer["id"] == 7
        await wire._stdin.send(nested + b'","id":4}}\n')  # noqa: SLF001 - a line that nobody waits for
        assert (await wire.ask(b'{"jsonrpc":"2.0","id":10,"method":"ping"}'))["id"] == 10


async def test_another_request_that_is_too_long_is_an_error_of_the_protocol(environment: dict[str, str]) -> None:
    line = b'{"jsonrpc":"2.0","id":"a","method":"resources/read","params":{"uri":"' + b"x" * 9 * MB + b'"}}'
    async with server(environment) as (wire, _):
        answer = await wire.ask(line)
        assert answer["id"] == "a"
        assert answer["error"]["code"] == -32600
        assert "8 MB" in answer["error"]["message"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process held")
@pytest.mark.parametrize("count", [100 * MB, 7 * MB])
async def test_a_long_line_is_not_held_twice(environment: dict[str, str], count: int) -> None:
    async with server(environment) as (wire, pid):
        answer = await wire.ask(call(b"x" * count))
        assert answer["id"] == 7
        assert answer["result"]["isError"]
        assert memory_at_most(pid) < MOST_MEMORY


async def test_what_is_as_long_as_may_be_is_read(environment: dict[str, str]) -> None:
    line = call(b"x" * (8 * MB - len(call(b""))))
    assert len(line) == 8 * MB
    async with server(environment) as (wire, _):
        words = (await wire.ask(line))["result"]["content"][0]["text"]
        assert "characters long" in words
        assert "8 MB" in (await wire.ask(line + b" "))["result"]["content"][0]["text"]


# --- HTTP -----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process held")
async def test_a_body_that_is_too_long_is_refused_in_words_and_the_server_goes_on(tmp_path: Path) -> None:
    async with over_http(environment(tmp_path), COMMAND) as (address, process):
        for era in ERAS:
            async with Client(address, mode=era) as client:
                with pytest.raises(MCPError, match="longer than 8 MB"):
                    await client.call_tool("create_video", {"prompt": "x" * 40 * MB})
                told = await client.call_tool("list_videos", {})
                assert told.structured_content["videos"] == []
        assert memory_at_most(process.pid) < MOST_MEMORY


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells what a process held")
async def test_a_body_whose_length_was_not_told_is_bounded_as_well(tmp_path: Path) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * MB

    async with over_http(environment(tmp_path), COMMAND) as (address, process), httpx.AsyncClient() as client:
        headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        answer = await client.post(address, content=pieces(), headers=headers)
        assert answer.status_code == 413
        assert "8 MB" in answer.json()["error"]["message"]
        assert memory_at_most(process.pid) < MOST_MEMORY


# --- without MCP ----------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["arguments", "actions"])
async def test_json_text_that_is_too_long_is_not_read(make_settings: Callable[..., Settings], field: str) -> None:
    text = json.dumps([{"time": 0, "description": "x" * 9 * MB}])
    arguments: Any = {"actions": text} if field == "actions" else f'{{"actions": {text}}}'
    async with Toolkit(make_settings()) as toolkit:
        result = await toolkit.call("storyboard_video", arguments)
    assert result.is_error
    assert f"{field}: " in result.text
    assert "8000000" in result.text
    assert NOTHING_SENT in result.text


def test_a_file_that_is_too_long_is_not_read(run: Run, tmp_path: Path) -> None:
    (tmp_path / "beats.json").write_text(json.dumps([{"time": 0, "description": "x" * 9 * MB}]))
    done = run("storyboard", "--actions", "beats.json")
    assert done.returncode == 2
    assert "beats.json is longer than 8000000 characters" in done.stderr


def test_stdin_that_is_too_long_is_not_read(environment: dict[str, str]) -> None:
    command = [*COMMAND, "storyboard", "--actions", "-"]
    text = json.dumps([{"time": 0, "description": "x" * 9 * MB}])
    done = subprocess.run(command, check=False, input=text, capture_output=True, text=True, env=environment)  # noqa: S603
    assert done.returncode == 2
    assert "longer than 8000000 characters" in done.stderr
