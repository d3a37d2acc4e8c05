"""What the log says and what it never says: a real process at the shell and over MCP, against real sockets."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from bench import COMMAND, KEY, environment, over_stdio
from fault_gateway import CREATE, Answer, FaultGateway, fault_gateway, says
from mcp import Client, stdio_client
from warm import warm_command

from sora_mcp.cli.logs import KeyValueFormatter

pytestmark = pytest.mark.anyio

PROMPT = "lighthouse-canary"
SIGNATURE = "signature-canary"
MP4 = b"\0\0\0\x10ftypisom\0\0\2\0" + b"\0\0\0\x0cmoov1234" + b"\0\0\0\x0cmdat1234"


@pytest.fixture
async def gateway() -> AsyncIterator[FaultGateway]:
    """It repeats the key and the prompt in all that it says, and signs its addresses."""
    async with fault_gateway() as opened:
        url = f"{opened.address}/v.mp4?Expires=9&Signature={SIGNATURE}"
        done: dict[str, object] = {"status": "SUCCESS", "fail_reason": f"{KEY} {PROMPT}"}
        done |= {"data": {"url": url, "prompt": PROMPT, "generations": [{"id": "gen_1", "url": url}]}}
        opened.on("POST", CREATE, says({"code": "success", "message": f"{KEY} {PROMPT}", "data": "task_1"}, X_Key=KEY))
        opened.on("GET", CREATE, says({"error": f"{KEY} {PROMPT} {url}"}, 502), says({"code": "success", "data": done}))
        moved = {"Location": f"/moved?Signature={SIGNATURE}"}
        opened.on("GET", "/v.mp4", Answer(302, b"", moved))
        opened.on("GET", "/moved", Answer(200, MP4, {"Content-Type": "video/mp4", "X-Key": KEY}))
        yield opened


def logging_at(level: str, folder: Path, gateway: FaultGateway) -> dict[str, str]:
    return environment(folder, gateway, API_KEY=f"Bearer {KEY}", LOG_LEVEL=level)


async def logged_by_the_shell(gateway: FaultGateway, folder: Path, level: str) -> str:
    """What a create, a look and a download at the shell leave on stderr."""
    log = ""
    for arguments in (["create", PROMPT], ["get", "task_1"], ["download", "task_1"]):
        command = [*warm_command(), *arguments, "--json"]
        done = await anyio.run_process(command, env=logging_at(level, folder, gateway), check=False)
        assert done.returncode == 0, done
        log += done.stderr.decode()
    return log


async def logged_by_the_server(gateway: FaultGateway, folder: Path, level: str) -> str:
    """What the same leaves on the stderr of a server over stdio."""
    path = folder / "stderr"
    with path.open("w") as stderr:
        server = over_stdio(logging_at(level, folder, gateway))
        async with Client(stdio_client(server, errlog=stderr)) as client:
            for tool, arguments in (
                ("create_video", {"prompt": PROMPT}),
                ("get_video", {"task_id": "task_1", "wait_seconds": 50}),
                ("download_video", {"task_id": "task_1"}),
            ):
                result = await client.call_tool(tool, arguments)
                assert not result.is_error, result
    return path.read_text()


def parsed(log: str) -> list[dict[str, str]]:
    """Every line as its pairs."""
    return [dict(pair.split("=", 1) for pair in shlex.split(line)) for line in log.splitlines()]


WAYS = {"shell": logged_by_the_shell, "server": logged_by_the_server}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("level", ["DEBUG", "INFO"])
async def test_neither_the_key_nor_a_signature_nor_a_prompt_is_logged(
    level: str, way: Callable[[FaultGateway, Path, str], Awaitable[str]], gateway: FaultGateway, tmp_path: Path
) -> None:
    log = await way(gateway, tmp_path, level)
    assert KEY not in log
    assert SIGNATURE not in log
    assert level == "DEBUG" or PROMPT not in log
    lines = parsed(log)
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    paid = [line for line in lines if line["message"] == "paid call"]
    assert len(paid) == 1
    assert paid[0].pop("request_id").startswith("req_")
    assert float(paid[0].pop("seconds")) >= 0
    del paid[0]["time"]
    assert paid[0] == {
        "level": "info",
        "logger": "sora_mcp.studio.submitter",
        "message": "paid call",
        "operation": "simple_compose",
        "task_id": "task_1",
        "cost": "1.25",
        "outcome": "accepted",
        "gateway": gateway.address,
    }
    requests = [(line["method"], line["path"], line["status"]) for line in lines if line["message"] == "request"]
    seen = [(request.method, request.path.partition("?")[0]) for request in gateway.received]
    assert sorted((method, path) for method, path, _ in requests) == sorted(seen)
    assert ("GET", f"{CREATE}/task_1", "502") in requests
    assert all(float(line["seconds"]) >= 0 for line in lines if line["message"] == "request")


async def test_a_request_without_an_answer_says_how_it_ended(gateway: FaultGateway, tmp_path: Path) -> None:
    gateway.on("POST", CREATE, replace(says({}), fault="close"))
    command = [*COMMAND, "create", PROMPT, "--json"]
    done = await anyio.run_process(command, env=logging_at("INFO", tmp_path, gateway), check=False)
    lines = parsed(done.stderr.decode())
    request = next(line for line in lines if line["message"] == "request")
    paid = next(line for line in lines if line["message"] == "paid call")
    assert (request["error"], "status" in request) == ("RemoteProtocolError", False)
    assert (paid["outcome"], "task_id" in paid) == ("unknown", False)


async def test_at_the_default_level_nothing_is_logged(gateway: FaultGateway, tmp_path: Path) -> None:
    assert await logged_by_the_shell(gateway, tmp_path, "") == ""


def line(message: str, *values: object, key: str = KEY) -> str:
    """How one record is written, without its time."""
    record = logging.LogRecord("library", logging.WARNING, "", 0, message, values, None)
    return KeyValueFormatter(lambda: key).format(record).partition(" ")[2]


def test_a_record_is_one_line_whatever_stands_in_it() -> None:
    written = line("two\nlines %s", '"quoted" \x1b[31m é')
    assert written == 'level=warning logger=library message="two\\nlines \\"quoted\\" \\u001b[31m \\u00e9"'


def test_a_traceback_stays_on_the_line_and_loses_key_and_signature() -> None:
    def fail() -> None:
        raise ValueError(f"{KEY} https://cdn.example/v.mp4?Signature={SIGNATURE}\nmore")

    try:
        fail()
    except ValueError:
        record = logging.LogRecord("library", logging.ERROR, "", 0, "failed", (), sys.exc_info())
    written = KeyValueFormatter(lambda: KEY).format(record)
    assert "\n" not in written
    assert "ValueError: [key] https://cdn.example/v.mp4\\nmore" in written
    assert KEY not in written
    assert SIGNATURE not in written


def test_a_key_as_short_as_a_word_is_not_looked_for() -> None:
    assert "message=none" in line("none", key="no")
