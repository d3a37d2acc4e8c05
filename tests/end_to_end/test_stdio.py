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
    assert "error" in answer or answer["result"]["isError"]
    alive = await server.ask(b'{"jsonrpc":"2.0","id":10,"method":"ping"}')

    assert alive["id"] == 10


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
