"""Eight processes, five hundred identical creates at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import anyio
import crowd
import priced
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from bench import ACCEPTED_NEXT, environment
from fault_gateway import CREATE, fault_gateway
from ledgers import Store

pytestmark = pytest.mark.anyio

CROWD = Path(crowd.__file__)
PRICED = Path(priced.__file__)
SHARES = (63, 63, 63, 63, 62, 62, 62, 62)


async def pay_all(environment: dict[str, str], program: Path = CROWD, shares: Sequence[int] = SHARES) -> Counter[str]:
    """Start the processes, let them begin together, and add up what they were told."""
    told: Counter[str] = Counter()
    ready = anyio.Semaphore(0)
    begin = anyio.Event()

    async def run(creates: int) -> None:
        command = [sys.executable, str(program), str(creates)]
        process: Process = await anyio.open_process(command, env=environment, stderr=subprocess.DEVNULL)
        async with process:
            assert process.stdin is not None
            assert process.stdout is not None
            lines = BufferedByteReceiveStream(process.stdout)
            assert await lines.receive_until(b"\n", 100) == b"ready"
            ready.release()
            await begin.wait()
            await process.stdin.send(b"\n")
            told.update(json.loads(await lines.receive_until(b"\n", 100_000)))

    async with anyio.create_task_group() as group:
        for creates in shares:
            group.start_soon(run, creates)
        for _ in shares:
            await ready.acquire()
        begin.set()
    return told


@pytest.mark.parametrize(
    ("window", "expected"),
    [("10", {"accepted": 1, "duplicate": 499}), ("0", {"accepted": 500})],
    ids=["guard on", "guard off"],
)
async def test_five_hundred_identical_creates_in_eight_processes_pay_once_or_as_often_as_they_are_told_to(
    window: str, expected: dict[str, int], tmp_path: Path, store: Store
) -> None:
    async with fault_gateway() as gateway:
        gateway.on("POST", CREATE, ACCEPTED_NEXT)
        told = await pay_all(environment(tmp_path, gateway, DUPLICATE_WINDOW=window, **store.environ))
    paid = expected["accepted"]
    assert dict(told) == expected
    assert len(gateway.creates()) == len(gateway.accepted()) == paid
    rows = store.query("SELECT task_id, state FROM videos")
    assert {task_id for task_id, _ in rows} == {request.task_id for request in gateway.accepted()}
    assert [state for _, state in rows] == ["submitted"] * paid


@pytest.mark.parametrize(
    ("program", "cap", "spent"),
    [(CROWD, "6.25", "6.25 was spent"), (PRICED, "2.50 USD", "2.50 USD was spent")],
    ids=["relative", "USD"],
)
async def test_eight_processes_at_once_never_pass_a_days_cap_together(
    program: Path, cap: str, spent: str, tmp_path: Path, store: Store
) -> None:
    async with fault_gateway() as gateway:
        gateway.on("POST", CREATE, ACCEPTED_NEXT)
        environ = environment(tmp_path, gateway, DUPLICATE_WINDOW="0", MAX_COST_PER_DAY=cap, **store.environ)
        told = await pay_all(environ, program, (4,) * 8)
    assert len(gateway.creates()) == len(gateway.accepted()) == told.pop("accepted") == 5
    assert sum(told.values()) == 27
    assert all(outcome.startswith(f"not_submitted: {spent}") for outcome in told)
