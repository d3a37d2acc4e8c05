"""The set-up around a server: the gateway's usual answers, settings for a process, and ways to connect."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal

import anyio
from anyio.abc import Process
from fault_gateway import NEXT_ID, Answer, FaultGateway, says
from mcp import Client, StdioServerParameters
from warm import warm_command

Era = Literal["auto", "legacy"]
ERAS: list[Era] = ["auto", "legacy"]
"""The protocol's two eras, as the client's modes."""
Connect = Callable[..., Client]

Run = Callable[..., subprocess.CompletedProcess[str]]
"""Runs one of our commands; settings are named without SORA_."""

COMMAND = [sys.executable, "-m", "sora_mcp"]
KEY = "sk-canary-7f3d1c9b2e5a"
"""Tests for leaks search for this."""
MP4 = b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov\0\0\0\x0cmdatdata"
"""The smallest content that passes for a video."""
PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)) + b"\0\0\0\0IEND\xaeB`\x82"

# --- answers --------------------------------------------------------------------------------------


def create_accepted(task_id: str = "task_new") -> Answer:
    """A create was accepted."""
    return says({"code": "success", "message": "", "data": task_id})


def task_reply(status: str, **task: Any) -> Answer:
    """The answer to a query; `task` are further fields of the documented envelope."""
    return says({"code": "success", "data": {"task_id": "task_new", "status": status} | task})


def finished(*urls: str) -> Answer:
    """A finished task with one video for each address."""
    generations = [{"id": f"gen_{number}", "url": url} for number, url in enumerate(urls, 1)]
    return task_reply("SUCCESS", data={"generations": generations})


ACCEPTED = create_accepted()
ACCEPTED_NEXT = create_accepted(NEXT_ID.decode())
"""Every create gets its own id: task_1, task_2, ..."""
RUNNING = task_reply("IN_PROGRESS", progress="40%")

# --- processes ------------------------------------------------------------------------------------


def environment(folder: Path, gateway: FaultGateway | None = None, **settings: str) -> dict[str, str]:
    """Our environment plus settings, named without SORA_: all files are in `folder`; without a gateway, the sandbox."""
    values = {"BASE_URL": "sandbox", "SANDBOX_SECONDS": "0.2"}
    if gateway is not None:
        values = {"BASE_URL": gateway.address, "API_KEY": KEY}
    values |= {"HOME": str(folder / "home"), "OUTPUT_DIR": str(folder / "videos")} | settings
    return os.environ | {f"SORA_{name}": value for name, value in values.items()}


def over_stdio(environment: dict[str, str]) -> StdioServerParameters:
    """Parameters that make a client start its own server."""
    command, *arguments = warm_command()
    return StdioServerParameters(command=command, args=arguments, env=environment)


@contextmanager
def killed_on_failure(process: subprocess.Popen[Any]) -> Iterator[None]:
    """Kill the process if the body fails: `Popen` waits for its exit, which may never come."""
    try:
        yield
    except BaseException:
        process.kill()
        raise


@asynccontextmanager
async def over_http(
    environment: dict[str, str], program: Sequence[str] | None = None
) -> AsyncIterator[tuple[str, Process]]:
    """A running server: the address of its MCP endpoint, and its process."""
    command = [*(program or warm_command()), "serve", "--transport", "streamable-http", "--port", "0"]
    async with await anyio.open_process(command, env=environment) as process:
        try:
            yield await address_of(process), process
        finally:
            if process.returncode is None:
                process.terminate()


async def address_of(process: Process) -> str:
    """The address that a starting server prints on stderr, after any other output."""
    assert process.stderr is not None
    output = ""
    with anyio.fail_after(30):
        while "\n" not in (line := output.partition("Serving MCP at ")[2]):
            output += (await process.stderr.receive()).decode()
    return line.split()[0]


@asynccontextmanager
async def served(environment: dict[str, str], transport: str) -> AsyncIterator[StdioServerParameters | str]:
    """What a client connects to over `stdio` or `http`: a command, or the address of a running server."""
    if transport == "stdio":
        yield over_stdio(environment)
        return
    async with over_http(environment) as (address, _):
        yield address
