"""The ledger through its own interface, with real files and real processes."""

from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from sora_mcp.errors import FileProblem
from sora_mcp.ledger import COUNTS_AS_SENT, GONE, TRANSITIONS, Intent, Ledger, Rules
from sora_mcp.tasks import Generation, State, Task

pytestmark = pytest.mark.anyio

BODY = {"prompt": "fly man", "width": 854, "height": 480, "n_frames": 150}


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "home" / "ledger.sqlite3")


async def begin(ledger: Ledger, gateway: str = "g") -> str:
    entry, is_new = await ledger.begin(Intent(gateway, "simple_compose", BODY, "same", [], 1.25))
    assert is_new
    return entry.request_id


async def test_an_intent_is_on_disk_before_anything_is_sent(tmp_path: Path, ledger: Ledger) -> None:
    request_id = await begin(ledger)
    with sqlite3.connect(tmp_path / "home" / "ledger.sqlite3") as other:
        row = other.execute("SELECT request_id, state FROM videos").fetchone()
    other.close()
    assert row == (request_id, "sending")
    ledger.close()


async def test_only_the_owner_can_read_the_file(tmp_path: Path, ledger: Ledger) -> None:
    await begin(ledger)
    assert stat.S_IMODE((tmp_path / "home" / "ledger.sqlite3").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    ledger.close()


async def test_an_outcome_is_decided_once(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    await ledger.accepted(request_id, "task_1")
    entry = await ledger.not_accepted(request_id, "rejected", "too late")
    assert (entry.state, entry.task_id, entry.failure_reason) == ("submitted", "task_1", None)
    ledger.close()


async def test_a_final_state_stays_but_addresses_are_renewed(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    await ledger.accepted(request_id, "task_1")
    for url in ("https://a/1", "https://a/2"):
        done = Task("succeeded", generations=(Generation(variant=1, generation_id="gen_1", url=url),))
        await ledger.record(request_id, done)
    entry = await ledger.record(request_id, Task("running", progress=40))
    assert entry.state == "succeeded"
    assert [g.url for g in entry.generations] == ["https://a/2"]
    found = await ledger.find_generation("g", "gen_1")
    assert found is not None
    assert found[0].task_id == "task_1"
    ledger.close()


async def test_a_row_is_never_seen_from_another_gateway(ledger: Ledger) -> None:
    request_id = await begin(ledger, "one")
    await ledger.accepted(request_id, "task_1")
    assert await ledger.find("two", "task_1") is None
    assert await ledger.find("two", request_id) is None
    assert await ledger.page("two", limit=10) == []
    ledger.close()


async def test_the_name_of_a_gateway_tells_keys_apart_and_never_holds_one(tmp_path: Path, ledger: Ledger) -> None:
    first = await ledger.gateway_name("https://g", "sk-canary-1")
    assert first != await ledger.gateway_name("https://g", "sk-canary-2")
    other = Ledger(tmp_path / "home" / "ledger.sqlite3")
    assert first == await other.gateway_name("https://g", "sk-canary-1")
    assert "canary" not in first
    ledger.close()
    other.close()


async def test_pages_go_back_in_time_without_gaps(ledger: Ledger) -> None:
    made = [await begin(ledger) for _ in range(5)]
    seen: list[str] = []
    before: int | None = None
    while page := await ledger.page("g", limit=2, before=before):
        seen += [entry.request_id for entry in page]
        before = page[-1].number
    assert seen == made[::-1]
    ledger.close()


async def test_a_task_adopted_twice_stands_once(ledger: Ledger) -> None:
    async def adopt() -> None:
        await ledger.adopt("g", "task_elsewhere", Task("running", progress=10, body={"prompt": "x"}))

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(adopt)
    assert len(await ledger.page("g", limit=10)) == 1
    ledger.close()


_WRITE = """
import anyio, sys
from pathlib import Path
from sora_mcp.ledger import Intent, Ledger

async def main():
    ledger = Ledger(Path(sys.argv[1]))
    for _ in range(10):
        await ledger.begin(Intent("g", "simple_compose", {"prompt": "x"}, "same", [], None))
    ledger.close()

anyio.run(main)
"""


async def test_new_processes_that_start_at_once_share_one_file(tmp_path: Path, ledger: Ledger) -> None:
    command = [sys.executable, "-c", _WRITE, str(tmp_path / "home" / "ledger.sqlite3")]
    writers = [subprocess.Popen(command) for _ in range(4)]  # noqa: ASYNC220, S603
    for writer in writers:
        assert await anyio.to_thread.run_sync(writer.wait) == 0
    assert len(await ledger.page("g", limit=100)) == 40
    ledger.close()


_SEND = """
import anyio, sys
from pathlib import Path
from sora_mcp.ledger import Intent, Ledger

async def main():
    entry, _ = await Ledger(Path(sys.argv[1])).begin(Intent("g", "simple_compose", {"prompt": "x"}, "same", [], None))
    print(entry.request_id, flush=True)
    await anyio.sleep_forever()

anyio.run(main)
"""


async def test_what_a_killed_process_was_sending_is_unknown_and_nothing_else_is(tmp_path: Path, ledger: Ledger) -> None:
    mine = await begin(ledger)
    command = [sys.executable, "-c", _SEND, str(tmp_path / "home" / "ledger.sqlite3")]
    async with await anyio.open_process(command) as sender:
        assert sender.stdout is not None
        theirs = (await sender.stdout.receive()).decode().strip()
        assert [entry.state for entry in await ledger.page("g", limit=2)] == ["sending", "sending"]
        sender.kill()
        await sender.wait()
    found = await ledger.find("g", theirs)
    assert found is not None
    assert (found.state, found.failure_reason) == ("unknown", GONE)
    assert [state for state, _ in await ledger.history(theirs)] == ["sending", "unknown"]
    still = await ledger.find("g", mine)
    assert still is not None
    assert still.state == "sending"
    ledger.close()


@pytest.mark.parametrize(("task_id", "state"), [("task_1", "submitted"), (None, "rejected")])
async def test_an_unknown_outcome_can_be_settled_once(ledger: Ledger, task_id: str | None, state: str) -> None:
    request_id = await begin(ledger)
    assert await ledger.settle("g", request_id, task_id) is None
    await ledger.not_accepted(request_id, "unknown", "a time-out")
    entry = await ledger.settle("g", request_id, task_id)
    assert entry is not None
    assert (entry.state, entry.task_id) == (state, task_id)
    assert await ledger.settle("g", request_id, "task_2") is None
    assert [each for each, _ in await ledger.history(request_id)] == ["sending", "unknown", state]
    ledger.close()


async def put(ledger: Ledger, request_id: str, state: State) -> None:
    """Bring a row that is being sent to `state`."""
    if state in {"rejected", "unknown"}:
        await ledger.not_accepted(request_id, state, "x")
    elif state != "sending":
        await ledger.accepted(request_id, "task_1")
        await ledger.record(request_id, Task(state))


@pytest.mark.parametrize("state", TRANSITIONS)
async def test_the_same_again_is_a_duplicate_unless_the_first_came_to_nothing(ledger: Ledger, state: State) -> None:
    first = await begin(ledger)
    await put(ledger, first, state)
    again, is_new = await ledger.begin(Intent("g", "simple_compose", BODY, "same", [], 1.25), Rules(guard_s=600))
    assert is_new == (state not in COUNTS_AS_SENT)
    assert (again.request_id == first) != is_new
    ledger.close()


@pytest.mark.parametrize(("gateway", "fingerprint"), [("other", "same"), ("g", "other")])
async def test_another_request_or_another_gateway_is_no_duplicate(
    ledger: Ledger, gateway: str, fingerprint: str
) -> None:
    await begin(ledger)
    intent = Intent(gateway, "simple_compose", BODY, fingerprint, [], 1.25)
    assert (await ledger.begin(intent, Rules(guard_s=600)))[1]
    ledger.close()


async def again(ledger: Ledger, guard_s: float = 600) -> bool:
    """Whether the same request counts as new."""
    return (await ledger.begin(Intent("g", "simple_compose", BODY, "same", [], 1.25), Rules(guard_s=guard_s)))[1]


async def test_the_window_ends(tmp_path: Path) -> None:
    now = [1000.0]
    ledger = Ledger(tmp_path / "ledger.sqlite3", clock=lambda: now[0])
    await ledger.accepted(await begin(ledger), "task_1")
    now[0] = 1599.0
    assert not await again(ledger)
    now[0] = 1601.0
    assert await again(ledger)
    ledger.close()


@pytest.mark.parametrize(("state", "is_new"), [("sending", False), ("unknown", False), ("submitted", True)])
async def test_what_is_still_open_is_a_duplicate_however_long_it_takes(
    tmp_path: Path, state: State, is_new: bool
) -> None:
    now = [1000.0]
    ledger = Ledger(tmp_path / "ledger.sqlite3", clock=lambda: now[0])
    request_id = await begin(ledger)
    now[0] += 5000
    await put(ledger, request_id, state)
    assert await again(ledger) == is_new
    ledger.close()


async def test_a_task_id_that_came_late_beats_what_a_person_said(ledger: Ledger) -> None:
    request_id = await begin(ledger)
    await ledger.not_accepted(request_id, "unknown", "x")
    await ledger.settle("g", request_id, None)
    assert (await ledger.accepted(request_id, "task_1")).state == "submitted"
    ledger.close()


async def test_a_task_of_another_request_settles_nothing(ledger: Ledger) -> None:
    await ledger.accepted(await begin(ledger), "task_1")
    lost = await begin(ledger)
    await ledger.not_accepted(lost, "unknown", "x")
    assert await ledger.settle("g", lost, "task_1") is None
    ledger.close()


async def test_a_row_is_old_where_the_clock_went_back(tmp_path: Path) -> None:
    now = [1000.0]
    ledger = Ledger(tmp_path / "ledger.sqlite3", clock=lambda: now[0])
    entry = await ledger.find("g", await begin(ledger))
    assert entry is not None
    assert ledger.age(entry) == 0
    now[0] -= 3600
    assert ledger.age(entry) == float("inf")
    ledger.close()


_TO: list[State] = [
    "submitted",
    "rejected",
    "unknown",
    "sending",
    "queued",
    "running",
    "succeeded",
    "failed",
    "blocked",
]


@pytest.mark.parametrize("start", TRANSITIONS)
@pytest.mark.parametrize("end", _TO)
async def test_a_row_moves_only_where_it_may(ledger: Ledger, start: State, end: State) -> None:
    request_id = await begin(ledger)
    await put(ledger, request_id, start)
    moved = await ledger.not_accepted(request_id, end, "later")
    assert moved.state == (end if end in TRANSITIONS[start] else start)
    ledger.close()


@pytest.mark.parametrize("content", [b"this is not a database" * 100, b"SQLite format 3\x00" + b"\xff" * 4096])
async def test_a_damaged_ledger_is_refused_in_our_own_words(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.sqlite3"
    path.write_bytes(content)
    with pytest.raises(FileProblem, match="cannot be used") as caught:
        await begin(Ledger(path))
    assert "SORA_HOME" in caught.value.next_step
    assert path.read_bytes() == content


async def test_a_ledger_of_a_newer_version_is_left_alone(tmp_path: Path, ledger: Ledger) -> None:
    await begin(ledger)
    ledger.close()
    with sqlite3.connect(tmp_path / "home" / "ledger.sqlite3") as other:
        other.execute("PRAGMA user_version = 99")
    other.close()
    with pytest.raises(FileProblem, match="newer version"):
        await begin(ledger)


async def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(FileProblem, match="cannot be used"):
        await begin(Ledger(tmp_path / "file" / "ledger.sqlite3"))
