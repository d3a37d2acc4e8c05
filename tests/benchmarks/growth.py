"""What the ledger costs as it grows: rows of ten people with three keys each, a thousand a day, one in twenty of them
never finished; on SQLite and on PostgreSQL, right after they were put in and with the planner's statistics.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psycopg
from measures import Row
from msgspec.structs import replace

if TYPE_CHECKING:
    from sora_mcp.ledger import Ledger

ADDRESS = "http://127.0.0.1:9"
OWNERS, KEYS = 10, 3
ROW_INTERVAL_S = 86.4
"""A thousand rows a day, so that what looks at one day sees as many rows however many there are."""

_COPIES = "WITH RECURSIVE copies (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < {count})"
_KEY = "'000000000000000' || (n % {keys})"
_OWNER = "'person' || (n % {owners})"
_STATE = "CASE WHEN (n / 30) % 20 > 0 THEN 'succeeded' WHEN (n / 600) % 2 = 0 THEN 'running' ELSE 'unknown' END"
_FILL = (
    (
        "INSERT INTO videos (request_id, gateway, address, key_fingerprint, owner, task_id, operation, state, body,"
        " sources, cost, fingerprint, created_at, updated_at) {copies}"
        " SELECT 'req_' || n, '{address}#' || {key} || '@' || {owner}, '{address}', {key}, {owner},"
        " CASE WHEN {state} != 'unknown' THEN 'task_' || n END, 'simple_compose', {state},"
        """ '{{"prompt": "A fox runs through fresh snow at dawn, take ' || n || '"}}',"""
        " '[]', 1.25, 'same ' || n, {now} - ({count} - n) * {every}, {now} - ({count} - n) * {every} FROM copies"
    ),
    (
        "INSERT INTO generations (request_id, variant, generation_id, url, file) {copies}"
        " SELECT 'req_' || n, 1, 'gen_' || n, 'https://videos.example/' || n, '/videos/' || n || '.mp4' FROM copies"
        " WHERE {state} = 'succeeded'"
    ),
    (
        "INSERT INTO history (request_id, at, state) {copies}"
        " SELECT 'req_' || n, {now} - ({count} - n) * {every} + 60, {state} FROM copies"
    ),
)


def fill(location: Path | str, count: int) -> None:
    """Put so many rows into the ledger in a file, or in the database of an address; it has its tables already."""
    parameters = {"address": ADDRESS, "count": count, "now": time.time(), "every": ROW_INTERVAL_S, "state": _STATE}
    parameters |= {
        "key": _KEY.format(keys=KEYS),
        "owner": _OWNER.format(owners=OWNERS),
        "copies": _COPIES.format(count=count),
    }
    statements = [statement.format(**parameters) for statement in _FILL]
    if isinstance(location, Path):
        with closing(sqlite3.connect(location)) as file, file:
            for statement in statements:
                file.execute(statement)
        return
    with psycopg.connect(location) as database:
        for statement in statements:
            database.execute(statement.encode())


def gather_statistics(url: str) -> None:
    """What PostgreSQL does by itself within a minute or two."""
    with psycopg.connect(url, autocommit=True) as database:
        database.execute("VACUUM ANALYZE")


def methods(ledger: Ledger, count: int) -> dict[str, Callable[[], Awaitable[object]]]:
    """What is to cost about the same however many rows there are."""
    from sora_mcp.core.accounts import Account, Person, Team  # noqa: PLC0415 - late, as in `measures`
    from sora_mcp.core.cost import Cost  # noqa: PLC0415
    from sora_mcp.ledger import Intent, SpendingPolicy  # noqa: PLC0415

    account = Account(ADDRESS, "0000000000000001", "person1")
    person, team = account.person, Team(ADDRESS)
    assert isinstance(person, Person)
    policy = SpendingPolicy(duplicate_window_s=600)
    intent = Intent(account, "simple_compose", {"prompt": "a fox"}, f"same {count - 1}", [], Cost.of(1.25))
    sent = replace(intent, sent_fingerprint=f"same {count - 2}")
    return {
        "a page": lambda: ledger.page(account, limit=10),
        "a page of one state": lambda: ledger.page(account, limit=10, states=("succeeded", "running")),
        "totals": lambda: ledger.totals(account),
        "a search": lambda: ledger.search(account, "snow", limit=10),
        "the guard": lambda: ledger.find_earlier(intent, policy),
        "the guard, as it is sent": lambda: ledger.find_earlier(sent, policy),
        "caps of an account": lambda: ledger.spending(account),
        "caps of a person": lambda: ledger.spending(person),
        "caps of a team": lambda: ledger.spending(team),
        "under way, of an account": lambda: ledger.under_way(account, 20),
        "under way, of a team": lambda: ledger.under_way(team, 20),
        "unsaved, of a team": lambda: ledger.unsaved(team, 20),
        "without an address, of a team": lambda: ledger.without_address(team, 20),
        "the beginning of an id": lambda: ledger.find_ids_by_prefix(account, "task_9", 5),
        "a video": lambda: ledger.find(account, "task_31"),
        "a file": lambda: ledger.is_file_of_another("req_31", Path("/videos/none.mp4")),
        "a video of another": lambda: ledger.is_of_another_owner(account, "task_31"),
        "durations": lambda: ledger.durations(account, 20),
        "counts of states": ledger.states,
    }


async def measure_methods(ledger: Ledger, count: int, times: int) -> dict[str, list[float]]:
    """Milliseconds of each method, so many times in turns."""
    calls = methods(ledger, count)
    laps: dict[str, list[float]] = {name: [] for name in calls}
    for lap in range(-2, times):  # the first two warm up
        for name, call in calls.items():
            began = time.perf_counter()
            await call()
            if lap >= 0:
                laps[name].append((time.perf_counter() - began) * 1e3)
    return laps


def growing(engine: str, locations: dict[int, Path | str], times: int = 20) -> Iterator[Row]:
    """Every method with the most rows, beside the fewest."""
    laps: dict[int, dict[str, list[float]]] = {}
    for count, location in locations.items():
        with closing(_open_ledger(location)) as ledger:
            asyncio.run(_make(ledger))
            fill(location, count)
            if isinstance(location, str):
                fresh = asyncio.run(measure_methods(ledger, count, 3))
                gather_statistics(location)
            else:
                fresh = {}
            laps[count] = asyncio.run(measure_methods(ledger, count, times))
            for name, values in fresh.items():
                laps[count][f"{name}, before ANALYZE"] = values
    few, many = min(locations), max(locations)
    for name, values in laps[many].items():
        ours, against = median(values), median(laps[few][name])
        target = None if name == "counts of states" else 3
        yield Row(f"{engine}, {many:,} rows (of {few:,}): {name}", ours, "ms", against, ours / against, at_most=target)


def _open_ledger(location: Path | str) -> Ledger:
    from sora_mcp.ledger import open_ledger  # noqa: PLC0415 - late, as above

    if isinstance(location, Path):
        location.parent.mkdir(parents=True, exist_ok=True)
        return open_ledger(location)
    from sora_mcp.ledger.postgres.engine import PostgresLedger  # noqa: PLC0415 - not every machine has it

    return PostgresLedger(location)


async def _make(ledger: Ledger) -> None:
    await ledger.account(ADDRESS, "sk-benchmark")
