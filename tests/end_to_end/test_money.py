"""Never pay twice: the same request again, at once, from several processes, and after a kill."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from bench import ACCEPTED, ACCEPTED_NEXT, COMMAND, KEY, Connect, create_accepted, environment, task_reply
from fault_gateway import CREATE, FaultGateway, Hold, full_backlog, says
from mcp import Client
from warm import warm_command

from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import NotFound
from sora_mcp.studio import Studio
from sora_mcp.studio.poller import FORGOTTEN_AFTER_S

pytestmark = pytest.mark.anyio

REFUSED = says({"code": "quota_not_enough", "message": "no"}, 403)
LOST = says({"code": "insert_task_failed", "message": "lost"}, 500)


def posts(gateway: FaultGateway) -> int:
    return sum(each.method == "POST" for each in gateway.received)


async def create(client: Client, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool("create_video", {"prompt": "fly man"} | arguments)
    return dict(result.structured_content)


async def test_the_same_request_again_returns_the_first_task_and_says_so(
    connect: Connect, gateway: FaultGateway
) -> None:
    async with connect() as client:
        first = await create(client)
        again = await create(client)
        assert (again["outcome"], again["task_id"], again["duplicate"]) == ("accepted", first["task_id"], True)
        assert again["request_id"] == first["request_id"]
        assert posts(gateway) == 1
        another = await create(client, allow_duplicate=True)
        assert "duplicate" not in another
        assert posts(gateway) == 2


async def test_another_prompt_is_another_request(connect: Connect, gateway: FaultGateway) -> None:
    async with connect() as client:
        await create(client)
        await create(client, prompt="fly woman")
    assert posts(gateway) == 2


async def test_the_guard_can_be_turned_off(connect: Connect, gateway: FaultGateway) -> None:
    async with connect(duplicate_window=0) as client:
        for _ in range(3):
            await create(client)
        listed = await client.call_tool("list_videos", {})
    assert posts(gateway) == 3
    assert len(listed.structured_content["videos"]) == 3


async def test_what_was_refused_may_be_tried_again(connect: Connect, gateway: FaultGateway) -> None:
    gateway.on("POST", CREATE, REFUSED, ACCEPTED)
    async with connect() as client:
        assert (await create(client))["outcome"] == "rejected"
        assert (await create(client))["outcome"] == "accepted"
    assert posts(gateway) == 2


async def test_what_may_have_been_paid_for_is_not_sent_again(connect: Connect, gateway: FaultGateway) -> None:
    gateway.on("POST", CREATE, LOST)
    async with connect() as client:
        first = await create(client)
        again = await create(client)
    assert (first["outcome"], again["outcome"]) == ("unknown", "unknown")
    assert again["request_id"] == first["request_id"]
    assert "not sent again" in again["error"]["message"]
    assert posts(gateway) == 1


async def test_many_identical_calls_at_once_are_one_post_and_one_task(connect: Connect, gateway: FaultGateway) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))
    told: list[dict[str, Any]] = []

    async def call(client: Client) -> None:
        told.append(await create(client))

    async with connect() as one, connect() as other, anyio.create_task_group() as calls:
        for _ in range(10):
            calls.start_soon(call, one)
            calls.start_soon(call, other)
        await hold.reached.wait()
        hold.release.set()
    assert posts(gateway) == 1
    assert {each["task_id"] for each in told} == {"task_new"}
    assert sum("duplicate" not in each for each in told) == 1


async def test_of_identical_calls_at_once_none_is_said_to_be_refused_if_none_was_sent(connect: Connect) -> None:
    told: list[dict[str, Any]] = []

    async def call(client: Client) -> None:
        told.append(await create(client))

    async with (
        full_backlog() as address,
        connect(base_url=address, connect_timeout=0.5) as client,
        anyio.create_task_group() as calls,
    ):
        calls.start_soon(call, client)
        calls.start_soon(call, client)
    assert {each["request_id"] for each in told} == {told[0]["request_id"]}
    assert {each["outcome"] for each in told} == {"not_submitted"}
    assert all(each["error"]["retryable"] for each in told)


@pytest.mark.parametrize(
    ("caps", "arguments", "setting"),
    [
        ({"max_cost_per_call": 1.0}, {}, "SORA_MAX_COST_PER_CALL"),
        ({"max_cost_per_call": 4.0}, {"n_variants": 4}, "SORA_MAX_COST_PER_CALL"),
        ({"max_cost_per_call": 9.0, "extra_frames": "450"}, {"n_frames": 450}, "SORA_MAX_COST_PER_CALL"),
        ({"max_cost_per_day": 1.0}, {}, "SORA_MAX_COST_PER_DAY"),
    ],
    ids=str,
)
async def test_a_call_over_a_cap_is_refused_naming_the_setting(
    connect: Connect, gateway: FaultGateway, caps: dict[str, Any], arguments: dict[str, Any], setting: str
) -> None:
    async with connect(**caps) as client:
        told = await create(client, **arguments)
        assert (told["outcome"], told["error"]["kind"]) == ("not_submitted", "over_cap")
        assert setting in told["error"]["message"]
        assert (await create(client, dry_run=True, **arguments))["outcome"] == "not_submitted"
    assert posts(gateway) == 0


@pytest.mark.parametrize(
    ("caps", "setting"),
    [({"max_cost_per_day": 3.0}, "SORA_MAX_COST_PER_DAY"), ({"max_running": 2}, "SORA_MAX_RUNNING")],
)
async def test_many_calls_at_once_never_pass_a_cap_together(
    connect: Connect, gateway: FaultGateway, caps: dict[str, Any], setting: str
) -> None:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    told: list[dict[str, Any]] = []

    async def call(client: Client, prompt: str) -> None:
        told.append(await create(client, prompt=prompt))

    async with connect(**caps) as one, connect(**caps) as other, anyio.create_task_group() as calls:
        for i in range(6):
            calls.start_soon(call, one, f"kite {i}")
            calls.start_soon(call, other, f"boat {i}")
    assert posts(gateway) == 2
    refused = [each["error"]["message"] for each in told if "error" in each]
    assert len(refused) == 10
    assert all(setting in message for message in refused)


async def test_what_was_refused_by_the_gateway_does_not_count_towards_a_cap(
    connect: Connect, gateway: FaultGateway
) -> None:
    gateway.on("POST", CREATE, REFUSED, ACCEPTED)
    async with connect(max_cost_per_day=1.25, max_running=1) as client:
        assert (await create(client))["outcome"] == "rejected"
        assert (await create(client))["outcome"] == "accepted"


async def test_what_may_be_running_counts_as_running(connect: Connect, gateway: FaultGateway) -> None:
    gateway.on("POST", CREATE, LOST)
    async with connect(max_running=1) as client:
        assert (await create(client))["outcome"] == "unknown"
        told = await create(client, prompt="another")
    assert (told["outcome"], told["error"]["kind"]) == ("not_submitted", "over_cap")
    assert posts(gateway) == 1


async def test_a_task_that_the_gateway_forgot_can_be_given_up_once_it_says_so_and_is_not_new(
    connect: Connect, gateway: FaultGateway, make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    async with connect(max_running=1) as client:
        first = await create(client)
        async with Studio.open(make_settings(base_url=gateway.address, api_key=KEY)) as studio:
            with pytest.raises(NotFound, match="knows the task"):
                await studio.settle(first["request_id"], None)
            gateway.on("GET", CREATE, says({"code": "task_not_exist", "message": "no"}, 404))
            assert (await create(client, prompt="another"))["error"]["kind"] == "over_cap"
            with pytest.raises(NotFound, match="not know its task yet"):
                await studio.settle(first["request_id"], None)
            with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3", isolation_level=None)) as other:
                other.execute("UPDATE videos SET created_at = created_at - ?", [FORGOTTEN_AFTER_S])
            assert (await studio.settle(first["request_id"], None)).state == "failed"
        assert (await create(client, prompt="another"))["outcome"] == "accepted"
    assert posts(gateway) == 2


BUSY = says({"error": {"message": "busy", "type": "new_api_error"}}, 429, **{"Retry-After": "0"})


async def test_what_was_provably_refused_is_sent_again_a_few_times(connect: Connect, gateway: FaultGateway) -> None:
    gateway.on("POST", CREATE, BUSY, BUSY, ACCEPTED)
    async with connect() as client:
        assert (await create(client))["task_id"] == "task_new"
    assert posts(gateway) == 3


async def test_a_gateway_that_stays_busy_is_told_after_three_attempts(connect: Connect, gateway: FaultGateway) -> None:
    gateway.on("POST", CREATE, BUSY)
    async with connect() as client:
        assert (await create(client))["outcome"] == "rejected"
    assert posts(gateway) == 3


async def test_what_never_arrived_is_tried_again(connect: Connect, gateway: FaultGateway) -> None:
    gateway.hang_up = True
    async with connect(base_url=gateway.address.replace("http:", "https:")) as client:
        assert (await create(client))["outcome"] == "not_submitted"
    assert gateway.connections == 3


async def test_a_busy_answer_that_was_cut_off_is_no_proof(connect: Connect, gateway: FaultGateway) -> None:
    gateway.on("POST", CREATE, replace(BUSY, fault="truncate"), ACCEPTED)
    async with connect() as client:
        assert (await create(client))["outcome"] == "rejected"
    assert posts(gateway) == 1


async def test_calls_at_once_that_are_refused_all_say_so(connect: Connect, gateway: FaultGateway) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(REFUSED, hold=hold))
    told: list[dict[str, Any]] = []

    async def call(client: Client) -> None:
        told.append(await create(client))

    async with connect() as client, anyio.create_task_group() as calls:
        for _ in range(6):
            calls.start_soon(call, client)
        await hold.reached.wait()
        hold.release.set()
    assert {each["outcome"] for each in told} == {"rejected"}


async def test_an_outcome_that_cannot_be_recorded_is_told_and_recorded_later(
    connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))
    gateway.on("GET", CREATE, task_reply("FAILURE"))
    told: list[dict[str, Any]] = []
    answered = anyio.Event()

    async def call(client: Client) -> None:
        told.append(await create(client))
        answered.set()

    async with connect() as client:
        async with anyio.create_task_group() as calls:
            calls.start_soon(call, client)
            await hold.reached.wait()
            with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3", isolation_level=None)) as other:
                other.execute("BEGIN IMMEDIATE")
                hold.release.set()
                await answered.wait()
        assert (told[0]["outcome"], "task_new" in told[0]["error"]["message"]) == ("unknown", True)
        found = await client.call_tool("get_video", {"task_id": told[0]["request_id"], "wait_seconds": 20})
    assert found.structured_content["task_id"] == "task_new"
    assert posts(gateway) == 1


@pytest.mark.parametrize("answer", [REFUSED, LOST, says({}, 502), replace(ACCEPTED, fault="reset_in_reply")], ids=repr)
async def test_nothing_else_is_ever_sent_again(connect: Connect, gateway: FaultGateway, answer: Any) -> None:
    gateway.on("POST", CREATE, answer, ACCEPTED)
    async with connect() as client:
        assert (await create(client))["outcome"] in {"rejected", "unknown"}
    assert posts(gateway) == 1


async def shell(environment: dict[str, str], *arguments: str) -> dict[str, Any]:
    command = [*warm_command(), *arguments, "--json"]
    done = await anyio.run_process(command, env=environment, check=False)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize(("window", "expected"), [("10", 1), ("0", 8)])
async def test_eight_processes_at_once_pay_once_or_as_often_as_they_are_told_to(
    gateway: FaultGateway, tmp_path: Path, window: str, expected: int
) -> None:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    told: list[dict[str, Any]] = []

    async def call() -> None:
        told.append(await shell(environment(tmp_path, gateway, DUPLICATE_WINDOW=window), "create", "fly man"))

    async with anyio.create_task_group() as calls:
        for _ in range(8):
            calls.start_soon(call)
    assert posts(gateway) == expected
    assert {each["outcome"] for each in told} == {"accepted"}
    assert len({each["task_id"] for each in told}) == len({each["request_id"] for each in told}) == expected


async def test_a_process_killed_while_it_pays_leaves_an_unknown_outcome_that_is_not_paid_again(
    gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))
    command = [*COMMAND, "create", "fly man"]
    async with await anyio.open_process(command, env=environment(tmp_path, gateway)) as payer:
        await hold.reached.wait()
        payer.kill()
        await payer.wait()
    hold.release.set()
    again = await shell(environment(tmp_path, gateway), "create", "fly man")
    listed = await shell(environment(tmp_path, gateway), "list")
    assert posts(gateway) == 1
    assert (again["outcome"], [video["state"] for video in listed["videos"]]) == ("unknown", ["unknown"])
    assert again["request_id"] == listed["videos"][0]["request_id"]


@pytest.mark.parametrize("told_to_stop", [signal.SIGTERM, signal.SIGINT])
async def test_a_command_that_is_told_to_stop_waits_for_what_it_is_sending(
    gateway: FaultGateway, tmp_path: Path, told_to_stop: signal.Signals
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))
    command = [*COMMAND, "create", "fly man"]
    async with await anyio.open_process(command, env=environment(tmp_path, gateway)) as payer:
        await hold.reached.wait()
        payer.send_signal(told_to_stop)
        [video] = (await shell(environment(tmp_path, gateway), "list"))["videos"]
        assert video["state"] == "sending"
        settled = await shell(environment(tmp_path, gateway), "settle", video["request_id"], "--none")
        assert "still being sent" in settled["error"]["message"]
        hold.release.set()
        assert await payer.wait() == 130
    [video] = (await shell(environment(tmp_path, gateway), "list"))["videos"]
    assert video["task_id"] == "task_new"
    assert posts(gateway) == 1


async def test_a_kill_while_the_answer_arrives_never_loses_or_denies_what_was_accepted(
    gateway: FaultGateway, tmp_path: Path
) -> None:
    settings = environment(tmp_path, gateway, DUPLICATE_WINDOW="0")
    for i in range(8):
        hold = Hold()
        gateway.on("POST", CREATE, replace(create_accepted(f"task_{i}"), hold=hold))
        command = [*COMMAND, "create", "fly man"]
        async with await anyio.open_process(command, env=settings) as payer:
            await hold.reached.wait()
            hold.release.set()
            for _ in range(i):  # a little later each time
                await anyio.lowlevel.checkpoint()
            payer.kill()
            await payer.wait()
    listed = await shell(settings, "list")
    assert posts(gateway) == len(listed["videos"]) == 8
    assert {video["state"] for video in listed["videos"]} <= {"submitted", "queued", "running", "unknown"}
