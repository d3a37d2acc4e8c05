"""Servers that are killed, at every point of a create and at any time: nothing is paid twice or forgotten.

`pytest tests/faults/test_kills.py --kills 1000` kills as often as it is told to, with the ledger in SQLite and then in
PostgreSQL (`-k postgres`: there alone); `--seed N` draws the same choices again.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import ACCEPTED_NEXT, COMMAND, environment, task_reply
from fault_gateway import CREATE, FaultGateway, Hold, Moment, fault_gateway
from ledgers import Store
from wire import Host, host

pytestmark = pytest.mark.anyio

DONE = task_reply("SUCCESS", task_id="task_1")
HELD: tuple[Moment, ...] = ("connected", "in_body", "requested", "in_reply_head", "in_reply_body", "replied")
POINTS = (*HELD, "recorded", "answered", "soon after the call", "at any time")
"""Where a server is killed: while the gateway holds the exchange at a moment, and at others."""
AT_ONCE = 4
LATER = {"submitted", "queued", "running", "succeeded"}
POLL_S = 0.002


@dataclass
class Line:
    """One gateway, and the servers that are started for it one after the other, each killed."""

    gateway: FaultGateway
    environment: dict[str, str]
    store: Store
    choose: random.Random
    name: str
    last: list[str] = field(default_factory=list)
    told: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    async def kill_one(self, number: int, point: str) -> None:
        """Start a server, let it pay for new videos and for those of the round before again, and kill it."""
        hold = Hold()
        answer = replace(ACCEPTED_NEXT, hold=hold, at=point if point in HELD else None)
        self.gateway.on("POST", CREATE, answer if point in HELD[1:] else ACCEPTED_NEXT)
        self.gateway.greeting = answer if point == "connected" else None
        new = [f"{self.name} {number} {i}" for i in range(self.choose.randint(1, 3))]
        prompts, self.last = new + self.last, new
        asked: dict[int, str] = {}
        async with host(self.environment) as server:
            if point == "at any time":
                with anyio.move_on_after(self.choose.uniform(0, 2)):
                    await self._ask(server, prompts, asked)
                    await anyio.sleep_forever()
            else:
                with anyio.fail_after(60):
                    await self._ask(server, prompts, asked)
                    await self._wait_for(point, server, hold, new[0])
            await server.kill()
        hold.release.set()
        self.told += [(prompt, server.answers[i]["result"]) for i, prompt in asked.items() if i in server.answers]

    async def _ask(self, server: Host, prompts: list[str], asked: dict[int, str]) -> None:
        await server.start()
        for prompt in prompts:
            asked[await server.call("create_video", {"prompt": prompt})] = prompt

    async def _wait_for(self, point: str, server: Host, hold: Hold, prompt: str) -> None:
        if point in HELD:
            await hold.reached.wait()
        elif point == "answered":
            await server.answered.wait()
        elif point == "recorded":
            while not _rows(self.store, prompt):  # noqa: ASYNC110 - another process writes it
                await anyio.sleep(POLL_S)
        else:
            await anyio.sleep(self.choose.uniform(0, 0.3))


def _rows(store: Store, prompt: str | None = None) -> list[dict[str, Any]]:
    names = ("request_id", "gateway", "task_id", "state", "body")
    stored = store.rows("SELECT request_id, gateway, task_id, state, body FROM videos ORDER BY number")
    rows = [dict(zip(names, row, strict=True)) for row in stored]
    rows = [row | {"prompt": json.loads(row["body"])["prompt"]} for row in rows]
    return [row for row in rows if prompt in {None, row["prompt"]}]


@asynccontextmanager
async def lines(folder: Path, store: Store, seed: int) -> AsyncIterator[list[Line]]:
    """Gateways that share one ledger."""
    async with AsyncExitStack() as stack:
        made = []
        for i in range(AT_ONCE):
            gateway = await stack.enter_async_context(fault_gateway())
            gateway.on("GET", CREATE, DONE)
            choose = random.Random(f"{seed} {i}")  # noqa: S311 - no secret
            environ = environment(folder, gateway, **store.environ)
            made.append(Line(gateway, environ, store, choose, f"line {i}"))
        yield made


async def kill_all(kills: int, made: list[Line]) -> None:
    """Every point equally often, shared out among the lines."""

    async def work(line: Line, numbers: range) -> None:
        for number in numbers:
            await line.kill_one(number, POINTS[number % len(POINTS)])

    async with anyio.create_task_group() as group:
        for i, line in enumerate(made):
            group.start_soon(work, line, range(i, kills, AT_ONCE))


def check(line: Line, rows: list[dict[str, Any]]) -> None:
    """The ledger tells the story that the gateway and the answers tell."""
    by_prompt = {row["prompt"]: row for row in rows}
    assert len(by_prompt) == len(rows), "two rows for one intent"
    posts = Counter(request.json()["prompt"] for request in line.gateway.creates() if request.complete)
    assert set(posts.values()) <= {1}, "a second POST"
    assert len(line.gateway.creates()) <= len(rows), "a second POST, cut off or not"
    assert posts.keys() <= by_prompt.keys(), "a POST without a row"
    assert {row["state"] for row in rows} <= LATER | {"unknown"}, "sending or rejected"
    for request in line.gateway.accepted():
        row = by_prompt[request.json()["prompt"]]
        assert (row["state"], row["task_id"]) == ("unknown", None) or (
            row["state"] in LATER and row["task_id"] == request.task_id
        )
    for prompt, result in line.told:
        told, row = result["structuredContent"], by_prompt[prompt]
        assert told["outcome"] in {"accepted", "unknown"}
        assert told["request_id"] == row["request_id"]
        if told["outcome"] == "accepted":
            assert told["task_id"] == row["task_id"]


async def test_whenever_a_server_is_killed_nothing_is_paid_twice_and_nothing_paid_is_forgotten(
    tmp_path: Path, store: Store, pytestconfig: pytest.Config, record_property: Callable[[str, object], None]
) -> None:
    kills, seed = pytestconfig.getoption("--kills"), pytestconfig.getoption("--seed")
    seed = random.randrange(10**9) if seed is None else seed  # noqa: S311 - no secret
    record_property("seed", seed)
    print(f"--kills {kills} --seed {seed}")  # noqa: T201 - shown where it fails, and with -s
    async with lines(tmp_path, store, seed) as made:
        await kill_all(kills, made)
        look = [*COMMAND, "list", "--json"]
        for line in made:
            line.gateway.greeting = None
            await anyio.run_process(look, env=line.environment)
        rows = _rows(store)
        for line in made:
            check(line, [row for row in rows if row["gateway"].startswith(line.gateway.address)])
        accepted = sum(len(line.gateway.accepted()) for line in made)
    states = Counter(row["state"] for row in rows)
    print(f"{len(rows)} rows, {accepted} accepted POSTs, {dict(states)}")  # noqa: T201
    assert accepted >= kills // 2
    assert states["unknown"] >= kills // 5
    ledger = store.open(time.time)
    try:
        assert await ledger.check() == states, "damaged"
    finally:
        ledger.close()
