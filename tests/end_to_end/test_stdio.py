"""Lines that a host may send over stdio and that the protocol cannot read: every request gets an answer."""

from __future__ import annotations

import json
import os
import pty
import socket
import subprocess
import sys
import tty
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from bench import COMMAND, killed_on_failure
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
    assert answer["error"]["message"] == "This is not valid JSON. Nothing was submitted."
    alive = await server.ask(b'{"jsonrpc":"2.0","id":10,"method":"ping"}')

    assert alive["id"] == 10


CALL = {"method": "tools/call", "params": {"name": "list_videos"}}


@pytest.mark.parametrize(
    ("line", "ids"),
    [
        ([{"jsonrpc": "2.0", "id": 7, **CALL}, {"jsonrpc": "2.0", "id": "b", "method": "ping"}], [7, "b"]),
        ({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": []}, [7]),
        ({"id": 7, **CALL}, [7]),
        ({"jsonrpc": "1.0", "id": 7, **CALL}, [7]),
        ({"jsonrpc": "2.0", "id": 7}, [7]),
        ({"jsonrpc": "2.0", "id": None, **CALL}, [None]),
        ({"jsonrpc": "2.0", "id": 1.5, **CALL}, [None]),
        ([], [None]),
        (5, [None]),
    ],
    ids=str,
)
async def test_each_request_in_a_line_that_is_no_message_is_refused(server: Wire, line: Any, ids: list[Any]) -> None:
    answers = [await server.ask(json.dumps(line).encode()), *[await server.read() for _ in ids[1:]]]
    assert [answer["id"] for answer in answers] == ids
    for answer in answers:
        assert "This is not a JSON-RPC message. Allowed: a single object" in answer["error"]["message"]
        assert "Nothing was submitted" in answer["error"]["message"]


@pytest.mark.parametrize("line", [{"jsonrpc": "2.0", "id": 7, "result": []}, {"id": 7, "error": 1}, {"method": "x"}])
async def test_a_malformed_response_or_notification_is_not_answered(server: Wire, line: dict[str, Any]) -> None:
    """Its id is one that the server gave: an error with it would be taken for that of the client's own request."""
    answer = await server.ask(json.dumps(line).encode() + b"\n" + b'{"jsonrpc":"2.0","id":8,"method":"ping"}')
    assert answer == {"jsonrpc": "2.0", "id": 8, "result": {}}


@pytest.mark.parametrize(
    ("params", "problems"),
    [
        ({}, "params.name is missing"),
        ({"name": 5}, "params.name must be a string"),
        ({"name": "get_video", "_meta": 5}, "params._meta must be an object"),
        ({"_meta": {"progressToken": []}}, "params._meta.progressToken is not allowed; params.name is missing"),
    ],
)
async def test_a_call_without_what_the_protocol_requires_is_told_what(
    server: Wire, params: dict[str, Any], problems: str
) -> None:
    answer = await server.ask(
        json.dumps({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}).encode()
    )
    message = f"The parameters of tools/call are invalid: {problems}. Nothing was submitted."
    assert answer["error"] == {"code": -32602, "message": message}


async def test_a_call_before_the_session_is_initialized_is_told_to_initialize_it(environment: dict[str, str]) -> None:
    async with wire(environment) as server:
        answer = await server.ask(json.dumps({"jsonrpc": "2.0", "id": 7, **CALL}).encode())
    assert "Send an initialize request first" in answer["error"]["message"]


# --- what a host makes stdin of ---------------------------------------------------------------------

TALK = [
    json.dumps(HELLO).encode(),
    b'{"jsonrpc":"2.0","id":2,"method":"ping"}',
    b'{"jsonrpc":"2.0","id":3,"method":"ping"}',
]


def answered(said: bytes) -> list[int]:
    return [json.loads(line)["id"] for line in said.splitlines()]


def a_pipe(folder: Path) -> tuple[int, int]:  # noqa: ARG001
    return os.pipe()


def a_pipe_that_never_waits(folder: Path) -> tuple[int, int]:  # noqa: ARG001
    ours, theirs = os.pipe()
    os.set_blocking(ours, False)
    return ours, theirs


def a_socket(folder: Path) -> tuple[int, int]:  # noqa: ARG001
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def a_terminal(folder: Path) -> tuple[int, int]:  # noqa: ARG001
    theirs, ours = pty.openpty()
    tty.setraw(ours)
    return ours, theirs


def a_file(folder: Path) -> tuple[int, int]:
    path = folder / "talk"
    return os.open(path, os.O_RDONLY | os.O_CREAT), os.open(path, os.O_WRONLY)


@pytest.mark.skipif(sys.platform == "win32", reason="stdin is a pipe there")
@pytest.mark.parametrize(
    "kind", [a_pipe, a_pipe_that_never_waits, a_socket, a_terminal, a_file], ids=lambda kind: kind.__name__
)
def test_a_server_is_spoken_to_through_whatever_a_host_makes_stdin_of(
    environment: dict[str, str], tmp_path: Path, kind: Callable[[Path], tuple[int, int]]
) -> None:
    ours, theirs = kind(tmp_path)
    if kind is a_file:
        os.write(theirs, b"\r\n".join(TALK))  # the last line without its end
    with (
        subprocess.Popen(COMMAND, env=environment, bufsize=0, stdin=ours, stdout=subprocess.PIPE) as process,  # noqa: S603 - our own command
        killed_on_failure(process),
    ):
        os.close(ours)
        assert process.stdout is not None
        if kind is not a_file:
            for piece in (TALK[0] + b"\n" + TALK[1][:10], TALK[1][10:] + b"\n\n" + TALK[2] + b"\n"):
                os.write(theirs, piece)
                assert process.stdout.readline()
        os.close(theirs)
        rest = process.communicate(timeout=20)[0]
    assert process.returncode == 0
    assert answered(rest) == ([1, 2, 3] if kind is a_file else [3])


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of POSIX closes it")
def test_a_server_whose_stdin_is_closed_ends_at_once_and_quietly(environment: dict[str, str]) -> None:
    ended = subprocess.run(  # noqa: S603 - our own command
        ["/bin/sh", "-c", 'exec "$@" <&-', "sh", *COMMAND],
        env=environment,
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
