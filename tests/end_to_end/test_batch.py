"""`sora-mcp batch` as a person meets it: tried as a whole, sent once, gone on with after whatever happened."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import ACCEPTED_NEXT, COMMAND, PNG, environment, task_reply
from fault_gateway import CREATE, FaultGateway, Hold, says
from terminals import CTRL_C, read_terminal
from warm import warm_command

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

Batch = Callable[..., Awaitable[subprocess.CompletedProcess[bytes]]]
DONE = task_reply("SUCCESS", task_id="task_1")
SMALL = {"width": 480, "height": 480}


@pytest.fixture
def batch(gateway: FaultGateway, tmp_path: Path) -> Batch:
    """Runs `sora-mcp batch films.jsonl` against the gateway, which finishes each video at once."""
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, DONE)

    async def run(*arguments: str, stdin: bytes = b"", file: str = "films.jsonl", **settings: str) -> Any:
        command, environ = [*warm_command(), "batch", file, *arguments], environment(tmp_path, gateway, **settings)
        with anyio.fail_after(100):
            return await anyio.run_process(command, input=stdin, check=False, env=environ, cwd=tmp_path)

    return run


def write(folder: Path, *requests: dict[str, Any], name: str = "films.jsonl") -> None:
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in requests))


def told(done: subprocess.CompletedProcess[bytes]) -> dict[int, dict[str, Any]]:
    """What was told of each line, by its number."""
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len({line["line"] for line in lines}) == len(lines)
    return {line["line"]: line for line in lines}


def states(done: subprocess.CompletedProcess[bytes]) -> list[str]:
    return [line["state"] for _, line in sorted(told(done).items())]


def prompts(gateway: FaultGateway) -> Counter[str]:
    return Counter(request.json()["prompt"] for request in gateway.creates() if request.complete)


def rows(folder: Path) -> list[tuple[str, str]]:
    """The prompt and state of each request in the ledger."""
    ledger = folder / "home" / "ledger.sqlite3"
    with suppress(sqlite3.OperationalError), closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True)) as db:
        return [(json.loads(body)["prompt"], state) for body, state in db.execute("SELECT body, state FROM videos")]
    return []


FOX, BOAT, CAT = ({"prompt": word} | SMALL for word in ("fox", "boat", "cat"))


async def test_lines_are_sent_once_however_often_it_is_run(batch: Batch, gateway: FaultGateway, tmp_path: Path) -> None:
    write(tmp_path, FOX, BOAT | {"name": "a boat"}, FOX)
    first = await batch()
    assert (first.returncode, states(first)) == (0, ["succeeded"] * 3)
    assert b"3 lines for 127.0.0.1" in first.stderr
    assert b"3 to send for a relative cost of 3" in first.stderr
    assert [told(first)[2][key] for key in ("name", "cost")] == ["a boat", 1.0]
    again = await batch("--retry-failed", "--out", "results.jsonl", DUPLICATE_WINDOW="0")
    assert again.returncode == 0
    assert b"3 sent before; 0 to send" in again.stderr
    written = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert [line["task_id"] for line in written] == [line["task_id"] for _, line in sorted(told(first).items())]
    assert prompts(gateway) == {"fox": 2, "boat": 1}


async def test_a_bad_line_keeps_the_whole_file_from_being_sent(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    write(
        tmp_path,
        FOX,
        BOAT | {"inpaint_items": [{"url": "missing.png"}]},
        {"operation": "remix", "prompt": "x", "source_generation_id": "task_none"},
    )
    gateway.on("GET", CREATE, says({"code": "task_not_exist", "message": "task_not_exist"}, 404))
    done = await batch()
    assert (done.returncode, done.stdout) == (2, b"")
    said = done.stderr.decode()
    assert "line 2: " in said
    assert 'there is no file "missing.png"' in said
    assert "line 3: " in said
    assert "line 1: " not in said
    assert "Nothing was submitted and nothing was charged" in said
    assert gateway.creates() == []
    assert rows(tmp_path) == []


async def test_an_image_beside_the_file_is_sent_along(batch: Batch, gateway: FaultGateway, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "fox.png").write_bytes(PNG)
    write(folder, FOX | {"inpaint_items": [{"url": "fox.png"}]})
    done = await batch("--dry-run", file="pictures/films.jsonl")
    assert (done.returncode, states(done)) == (0, ["not_submitted"]), done.stderr
    assert gateway.creates() == []


async def test_what_came_to_nothing_is_sent_again_only_where_that_is_asked_for(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    gateway.on("POST", CREATE, says({"code": "bad", "message": "no"}, 400), ACCEPTED_NEXT)
    write(tmp_path, FOX, BOAT)
    first = await batch("--at-once", "1")
    assert (first.returncode, states(first)) == (3, ["rejected", "succeeded"])
    assert b"--retry-failed" in first.stderr
    assert states(await batch()) == ["rejected", "succeeded"]
    assert len(gateway.creates()) == 2
    again = await batch("--retry-failed")
    assert (again.returncode, states(again)) == (0, ["succeeded", "succeeded"])
    assert prompts(gateway) == {"fox": 2, "boat": 1}


@pytest.mark.parametrize("name", ["-films.jsonl", "our $1 'films'.jsonl"])
async def test_the_command_that_sends_it_again_runs_as_it_stands_whatever_the_file_is_called(
    batch: Batch, gateway: FaultGateway, tmp_path: Path, name: str
) -> None:
    gateway.on("POST", CREATE, says({"code": "bad", "message": "no"}, 400), ACCEPTED_NEXT)
    write(tmp_path, FOX, name=name)
    first = await batch("--", name, file="--out=r s.jsonl")
    again = shlex.split(first.stderr.decode().partition("that failed, run: sora-mcp batch ")[2])
    assert (await batch(*again[1:], file=again[0])).returncode == 0
    assert json.loads((tmp_path / "r s.jsonl").read_text())["state"] == "succeeded"


async def test_an_unknown_outcome_is_never_sent_again(batch: Batch, gateway: FaultGateway, tmp_path: Path) -> None:
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, fault="reset_after_request"), ACCEPTED_NEXT)
    write(tmp_path, FOX, BOAT)
    first = await batch("--at-once", "1")
    assert (first.returncode, states(first)) == (4, ["unknown", "succeeded"])
    again = await batch("--retry-failed", DUPLICATE_WINDOW="0")
    assert (again.returncode, states(again)) == (4, ["unknown", "succeeded"])
    assert prompts(gateway) == {"fox": 1, "boat": 1}


async def test_a_changed_line_under_the_same_name_is_told_and_not_sent(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    write(tmp_path, FOX | {"name": "one"})
    await batch()
    write(tmp_path, BOAT | {"name": "one"}, CAT)
    done = await batch()
    assert (done.returncode, states(done)) == (3, ["succeeded", "succeeded"])
    assert "changed after it was sent" in told(done)[1]["error"]["message"]
    assert b"2 lines: 2 succeeded (1 with an error)." in done.stderr
    assert prompts(gateway) == {"fox": 1, "cat": 1}


async def test_what_was_made_outside_for_the_same_request_is_taken_and_stays_so(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    create = [*COMMAND, "create", "fox", "--width", "480", "--height", "480"]
    await anyio.run_process(create, env=environment(tmp_path, gateway))
    write(tmp_path, FOX, FOX)
    done = await batch()
    assert b"1 already made by the same request" in done.stderr
    assert states(done) == ["succeeded", "succeeded"]
    assert [told(done)[number]["task_id"] for number in (1, 2)] == ["task_1", "task_2"]
    assert states(await batch(DUPLICATE_WINDOW="0")) == ["succeeded", "succeeded"]
    await anyio.run_process(create, env=environment(tmp_path, gateway))
    assert prompts(gateway) == {"fox": 2}


async def test_a_line_that_was_given_a_name_or_a_space_is_no_other_video(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    write(tmp_path, FOX, BOAT, CAT)
    await batch()
    write(tmp_path, FOX | {"name": "fox"}, {"prompt": "boat "} | SMALL, CAT, CAT)
    tried = await batch("--dry-run")
    assert b"2 already made by the same request" in tried.stderr
    assert [line.get("duplicate") for _, line in sorted(told(await batch()).items())] == [True, True, None, None]
    assert prompts(gateway) == {"fox": 1, "boat": 1, "cat": 2}
    write(tmp_path, FOX | {"name": "vixen"}, BOAT | {"name": "raft", "allow_duplicate": True})
    await batch()
    assert prompts(gateway) == {"fox": 1, "boat": 2, "cat": 2}


async def test_two_processes_on_the_same_file_send_each_line_once(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    write(tmp_path, *({"prompt": f"film {number // 2}"} for number in range(20)))
    outcomes: list[list[str]] = []

    async def one() -> None:
        outcomes.append(states(await batch()))

    async with anyio.create_task_group() as processes:
        for _ in range(3):
            processes.start_soon(one)
    assert outcomes == [["succeeded"] * 20] * 3
    assert prompts(gateway) == {f"film {number}": 2 for number in range(10)}


async def test_no_more_than_so_many_are_under_way_and_a_full_cap_is_waited_for(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    write(tmp_path, *({"prompt": f"film {number}"} for number in range(6)))
    done = await batch("--at-once", "3", MAX_RUNNING="1")
    assert states(done) == ["succeeded"] * 6
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as db:
        changes = db.execute("SELECT request_id, state FROM history ORDER BY number").fetchall()
    running: set[str] = set()
    for request_id, state in changes:
        running = running - {request_id} if state == "succeeded" else running | {request_id}
        assert len(running) <= 1
    assert len(gateway.creates()) == 6


async def test_what_the_day_does_not_allow_together_is_refused_before_anything_is_sent(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    write(tmp_path, FOX, BOAT, CAT)
    for caps in ({"MAX_COST_PER_DAY": "2.5"}, {"MAX_CALLS_PER_DAY": "2"}):
        done = await batch(**caps)
        assert done.returncode == 3
        assert b"3" in done.stderr
        assert next(iter(caps)).encode() in done.stderr
    done = await batch(MAX_COST_PER_CALL="0.5")
    assert done.returncode == 2
    assert b"line 1: " in done.stderr
    assert gateway.creates() == []


async def test_where_the_sum_is_to_be_asked_about_and_nobody_is_there_it_is_refused_without_yes(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    write(tmp_path, FOX, BOAT)
    refused = await batch(ASK_ABOVE_COST="1.5")
    assert refused.returncode == 3
    assert b"--yes" in refused.stderr
    assert gateway.creates() == []
    assert states(await batch("--yes", ASK_ABOVE_COST="1.5")) == ["succeeded", "succeeded"]


@pytest.mark.parametrize(("answer", "sent"), [(b"y\n", 2), (b"n\n", 0), (CTRL_C, 0)])
async def test_at_a_terminal_it_is_asked_once_for_all(
    batch: Batch, gateway: FaultGateway, tmp_path: Path, answer: bytes, sent: int
) -> None:
    write(tmp_path, FOX, BOAT)
    terminal, end = pty.openpty()
    environ = environment(tmp_path, gateway, ASK_ABOVE_COST="1.5")

    with anyio.fail_after(60):
        command = ["setsid", "--ctty", *COMMAND, "batch", "films.jsonl"]
        process = await anyio.open_process(command, stdin=end, stdout=end, stderr=end, env=environ, cwd=tmp_path)
        os.close(end)
        shown = await anyio.to_thread.run_sync(read_terminal, terminal, b"[y/N]: ")
        assert b"Make 2 videos at 127.0.0.1" in shown
        assert b"a relative cost of 2" in shown
        os.write(terminal, answer)
        shown += await anyio.to_thread.run_sync(partial(read_terminal, terminal, typed=answer))
        status = await process.wait()
    os.close(terminal)
    assert (status == 0) == bool(sent)
    assert len(gateway.creates()) == sent
    assert states(await batch("--dry-run")) == (["succeeded"] * 2 if sent else ["not_submitted"] * 2)
    if sent:
        assert re.search(rb"line 2  succeeded  task_[12]  1\r", shown)
    if not sent:
        assert b"Nothing was submitted" in shown
    assert b"Traceback" not in shown


async def test_ctrl_c_says_how_to_go_on_and_what_was_sent_is_known(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, ACCEPTED_NEXT, replace(ACCEPTED_NEXT, hold=hold), ACCEPTED_NEXT)
    write(tmp_path, FOX, BOAT, CAT)
    with anyio.fail_after(60):
        command = [*COMMAND, "batch", "films.jsonl", "--at-once", "1"]
        process = await anyio.open_process(command, env=environment(tmp_path, gateway), cwd=tmp_path)
        await hold.reached.wait()
        process.send_signal(signal.SIGINT)
        hold.release.set()
        assert process.stderr is not None
        said = b"".join([chunk async for chunk in process.stderr]).decode()
        assert await process.wait() == 130
    assert "1 of 3 lines ended" in said
    assert "To continue, run: sora-mcp batch films.jsonl --at-once 1" in said
    assert "Traceback" not in said
    assert sorted(rows(tmp_path)) == [("boat", "submitted"), ("fox", "succeeded")]
    assert states(await batch()) == ["succeeded"] * 3
    assert prompts(gateway) == {"fox": 1, "boat": 1, "cat": 1}


async def test_a_refused_key_ends_it_at_the_first_lines(batch: Batch, gateway: FaultGateway, tmp_path: Path) -> None:
    gateway.on("POST", CREATE, says({"error": {"message": "bad key"}}, 401))
    write(tmp_path, *({"prompt": f"film {number}"} for number in range(20)))
    done = await batch("--at-once", "1")
    assert done.returncode == 3
    assert states(done) == ["rejected"] + ["not_submitted"] * 19
    assert b"Nothing more was sent" in done.stderr
    assert len(gateway.creates()) == 1


async def test_what_is_refused_for_now_is_tried_again(batch: Batch, gateway: FaultGateway, tmp_path: Path) -> None:
    busy = says({"error": {"message": "slow down"}}, 429, Retry_After="1")
    gateway.on("POST", CREATE, *[busy] * 4, ACCEPTED_NEXT)
    write(tmp_path, FOX)
    done = await batch()
    assert (done.returncode, states(done)) == (0, ["succeeded"])
    assert len(gateway.accepted()) == 1


async def test_results_never_replace_what_is_no_result(batch: Batch, gateway: FaultGateway, tmp_path: Path) -> None:
    write(tmp_path, FOX)
    before = (tmp_path / "films.jsonl").read_bytes()
    for out in ("films.jsonl", ".", "none/results.jsonl"):
        done = await batch("--out", out)
        assert done.returncode in {2, 3}
        assert b"--out" in done.stderr
        assert b"Nothing was submitted and nothing was charged." in done.stderr
        assert b"Traceback" not in done.stderr
    assert (tmp_path / "films.jsonl").read_bytes() == before
    assert gateway.creates() == []


async def test_from_standard_input_names_are_asked_for(batch: Batch, gateway: FaultGateway) -> None:
    line = json.dumps(FOX).encode()
    refused = await batch(file="-", stdin=line)
    assert refused.returncode == 2
    assert b"name" in refused.stderr
    named = json.dumps(FOX | {"name": "fox"}).encode()
    for _ in range(2):
        assert states(await batch(file="-", stdin=named)) == ["succeeded"]
    assert len(gateway.creates()) == 1


async def test_a_reader_that_has_enough_ends_it_and_nothing_is_sent_twice(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    write(tmp_path, *({"prompt": f"film {number}"} for number in range(10)))
    words = " ".join([*COMMAND, "batch", "films.jsonl", "--at-once", "1"])
    with anyio.fail_after(60):
        done = await anyio.run_process(
            f"{words} | head -n 1", check=False, env=environment(tmp_path, gateway), cwd=tmp_path
        )
    assert b"Traceback" not in done.stderr
    assert len(gateway.creates()) < 10
    assert states(await batch()) == ["succeeded"] * 10
    assert set(prompts(gateway).values()) == {1}


async def test_where_the_videos_cannot_be_saved_nothing_is_paid(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    write(tmp_path, FOX)
    done = await batch("--download", "films.jsonl/videos")
    assert done.returncode == 3
    assert b"Nothing was submitted" in done.stderr
    assert b"--download" in done.stderr
    assert gateway.creates() == []


def test_videos_are_saved_where_that_is_asked_for(run: Any, tmp_path: Path) -> None:
    write(tmp_path, FOX | {"n_variants": 2})
    done = run("batch", "films.jsonl", "--download", "films")
    assert done.returncode == 0, done.stderr
    line = json.loads(done.stdout)
    assert [Path(path).parent for path in line["paths"]] == [tmp_path / "films"] * 2
    assert len(list((tmp_path / "films").iterdir())) == 2


async def test_200_lines_that_are_killed_in_the_middle_become_200_rows_and_no_second_post(
    batch: Batch, gateway: FaultGateway, tmp_path: Path
) -> None:
    write(tmp_path, *({"prompt": f"film {number % 190}"} for number in range(200)))  # ten stand there twice
    for kill_at in (50, 120):
        command = [*COMMAND, "batch", "films.jsonl", "--at-once", "20"]
        process = await anyio.open_process(command, env=environment(tmp_path, gateway), cwd=tmp_path)
        with anyio.fail_after(60):
            while len(gateway.creates()) < kill_at:  # noqa: ASYNC110 - another process sends them
                await anyio.sleep(0.002)
        process.kill()
        await process.aclose()
    done = await batch("--at-once", "20", "--retry-failed")
    unknown = [line for line in told(done).values() if line["state"] == "unknown"]
    assert done.returncode == (4 if unknown else 0)
    assert set(states(done)) <= {"succeeded", "unknown"}
    assert len(unknown) <= 40
    assert Counter(prompt for prompt, _ in rows(tmp_path)) == {f"film {n}": 2 if n < 10 else 1 for n in range(190)}
    never_sent = Counter(prompt for prompt, _ in rows(tmp_path)) - prompts(gateway)
    assert prompts(gateway) <= Counter(prompt for prompt, _ in rows(tmp_path))
    assert never_sent.total() <= len(unknown)  # killed between the record and its POST
    assert len(told(done)) == 200
