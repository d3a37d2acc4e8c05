"""Clocks that jump, slow TLS and a full disk: `pytest -m chaos`. What a machine cannot do is skipped and says why."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import mcp_types as types
import pytest
from bench import ACCEPTED_NEXT, KEY, environment, over_stdio, task_reply
from fault_gateway import CREATE, FaultGateway, Hold, fault_gateway, says
from mcp import Client
from mcp.client.context import ClientRequestContext
from tls_front import Authority, tls_front
from wire import host

from sora_mcp.config.settings import Settings
from sora_mcp.server import build

pytestmark = [pytest.mark.anyio, pytest.mark.chaos]


@pytest.fixture
async def gateway() -> AsyncIterator[FaultGateway]:
    async with fault_gateway() as opened:
        opened.on("POST", CREATE, ACCEPTED_NEXT)
        opened.on("GET", CREATE, task_reply("SUCCESS", task_id="task_1"))
        yield opened


# --- clocks ---------------------------------------------------------------------------------------


Clock = tuple[dict[str, str], Callable[[str], object]]
"""What makes a process read a clock of its own, and what moves that clock, such as `-2d`."""


@pytest.fixture
def every_clock(tmp_path: Path) -> Clock:
    """The time of day, and the time by which a process waits."""
    library = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)
    if library is None:
        pytest.skip("libfaketime is not installed (Debian: faketime)")
    file = tmp_path / "clock"
    file.write_text("+0")
    settings = {"LD_PRELOAD": str(library), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}
    return settings, file.write_text


@pytest.fixture
def clock(every_clock: Clock) -> Clock:
    """The time of day."""
    settings, move = every_clock
    return settings | {"FAKETIME_DONT_FAKE_MONOTONIC": "1"}, move


@pytest.mark.parametrize("jump", ["-2d", "+2d"])
async def test_a_clock_that_jumps_while_it_pays_changes_nothing_but_the_time_of_the_guard(
    jump: str, gateway: FaultGateway, clock: Clock, tmp_path: Path
) -> None:
    settings, move = clock
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    async with host(environment(tmp_path, gateway) | settings) as server:
        with anyio.fail_after(60):
            await server.start()
            call = await server.call("create_video", {"prompt": "fly man"})
            await hold.reached.wait()
            move(jump)
            hold.release.set()
            told = [await server.answer(call), await server.use("create_video", prompt="fly man")]
            assert len(gateway.creates()) == 1  # it is open, whatever the time
            assert (await server.use("get_video", task_id="task_1"))["state"] == "succeeded"
            move("+4d")
            told.append(await server.use("create_video", prompt="fly man"))
            listed = await server.use("list_videos")
    assert [each["outcome"] for each in told] == ["accepted"] * 3
    assert [each["task_id"] for each in told] == ["task_1", "task_1", "task_2"]
    assert len(gateway.creates()) == 2
    assert {video["task_id"] for video in listed["videos"]} == {request.task_id for request in gateway.accepted()}


@pytest.mark.parametrize("jump", ["-5s", "-5m", "-9m"])
async def test_a_clock_set_back_a_little_keeps_nobody_from_asking_how_it_goes(
    jump: str, gateway: FaultGateway, clock: Clock, tmp_path: Path
) -> None:
    settings, move = clock
    gateway.on("GET", CREATE, task_reply("IN_PROGRESS", task_id="task_1"))
    async with host(environment(tmp_path, gateway) | settings) as server:
        with anyio.fail_after(60):
            await server.start()
            await server.use("create_video", prompt="fly man")
            while (await server.use("get_video", task_id="task_1"))["state"] != "running":
                pass
            move(jump)
            gateway.on("GET", CREATE, task_reply("SUCCESS", task_id="task_1"))
            found = await server.use("get_video", task_id="task_1", wait_seconds=3)
    assert found["state"] == "succeeded"


async def test_a_yes_that_comes_after_ten_minutes_is_asked_for_again(
    gateway: FaultGateway, every_clock: Clock, tmp_path: Path
) -> None:
    settings, move = every_clock
    yes: types.InputResponses = {"pay": types.ElicitResult(action="accept", content={"pay": True})}
    dear = {"prompt": "fly man"}
    environ = environment(tmp_path, gateway, ASK_ABOVE_COST="0.5") | settings

    async def user(context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:  # noqa: ARG001 - the callback names them
        raise AssertionError("the answers are given by hand")

    async with Client(over_stdio(environ), mode="auto", elicitation_callback=user) as client:

        async def call(**answered: Any) -> Any:
            return await client.session.call_tool("create_video", dear, allow_input_required=True, **answered)

        with anyio.fail_after(60):
            asked = await call()
            move("+9m")
            told = await call(input_responses=yes, request_state=asked.request_state)
            assert told.structured_content["outcome"] == "accepted"
            dear["prompt"] = "fly woman"
            asked = await call()
            move("+20m")
            late = await call(input_responses=yes, request_state=asked.request_state)
    assert isinstance(late, types.InputRequiredResult)
    assert len(gateway.creates()) == 1


async def test_a_create_is_not_sent_again_by_a_process_that_slept_until_its_time_was_over(
    gateway: FaultGateway, every_clock: Clock, tmp_path: Path
) -> None:
    settings, move = every_clock
    busy = says({"error": {"message": "busy", "type": "new_api_error"}}, 429, Retry_After="5")
    gateway.on("POST", CREATE, busy, ACCEPTED_NEXT)
    async with host(environment(tmp_path, gateway) | settings) as server:
        with anyio.fail_after(60):
            await server.start()
            call = await server.call("create_video", {"prompt": "fly man"})
            while not gateway.creates():
                await anyio.lowlevel.checkpoint()
            await server.use("list_videos")
            move("+32s")
            told = await server.answer(call)
    assert told["outcome"] == "rejected"
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize(("jump", "posts"), [("+20s", 3), ("+26s", 1)])
async def test_a_create_that_was_refused_is_not_sent_again_when_its_time_is_over(
    jump: str, posts: int, gateway: FaultGateway, every_clock: Clock, tmp_path: Path
) -> None:
    settings, move = every_clock
    hold = Hold()
    busy = says({"error": {"message": "busy", "type": "new_api_error"}}, 429)
    gateway.on("POST", CREATE, replace(busy, hold=hold), busy)
    async with host(environment(tmp_path, gateway) | settings) as server:
        with anyio.fail_after(60):
            await server.start()
            call = await server.call("create_video", {"prompt": "fly man"})
            await hold.reached.wait()
            move(jump)
            hold.release.set()
            told = await server.answer(call)
    assert told["outcome"] == "rejected"
    assert len(gateway.creates()) == posts


async def test_an_acceptance_is_recorded_however_long_the_ledger_was_away(
    gateway: FaultGateway, every_clock: Clock, tmp_path: Path
) -> None:
    settings, move = every_clock
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    ledger, elsewhere = tmp_path / "home" / "ledger.sqlite3", tmp_path / "elsewhere"
    listed: dict[str, Any] = {}
    async with host(environment(tmp_path, gateway) | settings) as server:
        with anyio.fail_after(60):
            await server.start()
            call = await server.call("create_video", {"prompt": "fly man"})
            await hold.reached.wait()
            ledger.rename(elsewhere)
            hold.release.set()
            await server.answer(call)
            for minutes in range(1, 30):  # each is longer than any pause between two attempts
                move(f"+{minutes}m")
                assert "error" in await server.use("list_videos")
            elsewhere.rename(ledger)
            while listed.get("state") in {None, "sending"}:
                minutes += 1
                move(f"+{minutes}m")
                [listed] = (await server.use("list_videos"))["videos"]
    assert listed["task_id"] == "task_1"
    assert len(gateway.creates()) == 1


# --- TLS ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("handshake_after", "patience", "outcome", "posts"),
    [(1.0, 20.0, "accepted", 1), (30.0, 0.3, "not_submitted", 0)],
    ids=["slow", "too slow"],
)
async def test_a_slow_handshake_is_waited_for_and_one_that_never_ends_submitted_nothing(  # noqa: PLR0917 - fixtures
    handshake_after: float,
    patience: float,
    outcome: str,
    posts: int,
    gateway: FaultGateway,
    make_settings: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    authority = Authority()
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    async with tls_front(gateway.address, authority.server(), handshake_delay_s=handshake_after) as address:
        settings = make_settings(base_url=address, api_key=KEY, connect_timeout=patience)
        async with Client(build(settings)) as client:
            told = await client.call_tool("create_video", {"prompt": "fly man"})
    assert told.structured_content["outcome"] == outcome
    assert len(gateway.creates()) == len(gateway.accepted()) == posts


# --- the disk -------------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of two megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)]
    with suppress(FileNotFoundError):
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:  # noqa: S603 - ours
            yield folder
            subprocess.run(["umount", str(folder)], check=True)  # noqa: S603, S607 - ours
            return
    pytest.skip("no small disk can be mounted here (needs root)")


def fill(disk: Path) -> Path:
    """Write until nothing more fits; the file that is in the way."""
    file = disk / "filling"
    with file.open("wb", buffering=0) as written, suppress(OSError):
        while written.write(b"x" * 512):
            pass
    return file


async def test_a_disk_that_was_full_before_submits_nothing(gateway: FaultGateway, disk: Path) -> None:
    filling = fill(disk)
    async with host(environment(disk, gateway)) as server:
        with anyio.fail_after(60):
            await server.start()
            told = await server.use("create_video", prompt="fly man")
            assert (told["outcome"], gateway.creates()) == ("not_submitted", [])
            filling.unlink()
            assert (await server.use("create_video", prompt="fly man"))["outcome"] == "accepted"
    assert len(gateway.creates()) == 1


async def test_a_disk_that_fills_up_while_it_pays_loses_nothing(gateway: FaultGateway, disk: Path) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    async with host(environment(disk, gateway)) as server:
        with anyio.fail_after(60):
            await server.start()
            call = await server.call("create_video", {"prompt": "fly man"})
            await hold.reached.wait()
            filling = fill(disk)
            hold.release.set()
            told = await server.answer(call)
            assert told["outcome"] == "unknown"
            assert "task_1" in told["error"]["message"]
            filling.unlink()
            found = await server.use("get_video", task_id=told["request_id"], wait_seconds=20)
            assert found["task_id"] == "task_1"
            await server.use("create_video", prompt="fly man")
    assert len(gateway.creates()) == 1
