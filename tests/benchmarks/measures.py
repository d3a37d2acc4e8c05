"""The measurements. Compared values are measured alternately in one run: ratios are stable, absolute times are not."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import TYPE_CHECKING

import anyio
import httpx
from processes import BARE, GATEWAY, LOAD, SORA, Env, Process, run, serving

if TYPE_CHECKING:
    from sora_mcp.ledger import Ledger

CREATE = {"prompt": "A fox runs through fresh snow at dawn, seen from a low drone", "width": 854, "height": 480}
"""A call; where it is repeated, its prompt is numbered, else it would be the same request and not be sent again."""
ERAS = ("2025-11-25", "2026-07-28")


@dataclass(frozen=True, slots=True)
class Effort:
    """How much to measure."""

    starts: int
    creates: int
    load_rounds: int
    load_calls: int
    ledger_pairs: int
    ledger_rows: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. The target bounds `ratio` where there is an `against`, else `ours`."""

    name: str
    ours: float
    unit: str
    against: float | None = None
    ratio: float | None = None
    at_most: float | None = None
    at_least: float | None = None

    @property
    def missed(self) -> bool:
        """Whether there is a target, and it is not met."""
        value = self.ours if self.ratio is None else self.ratio
        too_much = self.at_most is not None and value > self.at_most
        return too_much or (self.at_least is not None and value < self.at_least)


def _compared(name: str, unit: str, ours: list[float], against: list[float], **target: float) -> Row:
    first, second = median(ours), median(against)
    return Row(name, first, unit, second, first / second, **target)


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]


# --- starting -------------------------------------------------------------------------------------


def starting(effort: Effort, folder: Path) -> Iterator[Row]:
    """Spawn → initialize → tools/list → kill: shutdown is not measured."""
    env = {"SORA_BASE_URL": "sandbox", "SORA_HOME": str(folder)}
    cpu: dict[tuple[str, ...], list[float]] = {SORA: [], BARE: []}
    wall: dict[tuple[str, ...], list[float]] = {SORA: [], BARE: []}
    for turn in range(effort.starts):
        for command in (SORA, BARE) if turn % 2 else (BARE, SORA):
            with Process(command, env) as server:
                server.initialize()
                server.ask("tools/list", {})
                used = server.end()
            cpu[command].append(used.cpu_s * 1e3)
            wall[command].append(used.wall_s * 1e3)
    yield _compared("cold start, CPU", "ms", cpu[SORA], cpu[BARE], at_most=1.05)
    yield _compared("cold start, wall", "ms", wall[SORA], wall[BARE], at_most=1.05)


_SILENT = {"SORA_BASE_URL": "http://127.0.0.1:9", "SORA_API_KEY": "sk-benchmark"}
"""A gateway that must not be used."""
_COUNT = "import sys; before = len(sys.modules); {}; print(len(sys.modules) - before)"


def importing(effort: Effort, folder: Path) -> Iterator[Row]:
    """Modules, and what a command costs that does not serve."""
    sdk = "import mcp, mcp.server.lowlevel, mcp.server.stdio"
    _, beyond = run((sys.executable, "-c", f"{sdk}; " + _COUNT.format("import sora_mcp.server")))
    yield Row("modules of the server beyond mcp", int(beyond), "")
    show = "from sora_mcp.cli import main; main(['--help'], standalone_mode=False)"
    _, written = run((sys.executable, "-c", _COUNT.format(show)))
    yield Row("modules of sora-mcp --help", int(written.split()[-1]), "")
    env = _SILENT | {"SORA_HOME": str(folder)}
    anyio.run(_fill, folder, 1_000)
    yardstick = (sys.executable, "-c", "import click, sqlite3, pydantic")
    commands = {yardstick: yardstick, "--help": (*SORA, "--help"), "list": (*SORA, "list")}
    cpu: dict[object, list[float]] = {name: [] for name in commands}
    for _ in range(effort.starts):
        for name, command in commands.items():
            cpu[name].append(run(command, env)[0].cpu_s * 1e3)
    yield _compared("sora-mcp --help, CPU (import click, sqlite3, pydantic)", "ms", cpu["--help"], cpu[yardstick])
    yield _compared("sora-mcp list, 10 of 1,000 rows, CPU (the same)", "ms", cpu["list"], cpu[yardstick], at_most=5)


# --- calling --------------------------------------------------------------------------------------


@contextmanager
def gateway(folder: Path) -> Iterator[dict[str, str]]:
    """A gateway in a process of its own, and the settings that lead to it."""
    with serving(GATEWAY) as process:
        yield {"SORA_BASE_URL": process.address(), "SORA_API_KEY": "sk-benchmark", "SORA_HOME": str(folder)}


def creating(effort: Effort, folder: Path, env: Env) -> Iterator[Row]:
    """create_video over stdio against its parts: a trivial call, a POST, two synced writes. Then the peak memory."""
    with Process(SORA, env) as sora, Process(BARE) as bare:
        for server in (sora, bare):
            server.initialize()
            server.ask("tools/list", {})
        took = anyio.run(_create_in_turns, effort.creates, folder, env, sora, bare)
        ours, theirs = sora.end().peak_bytes, bare.end().peak_bytes
    whole, parts = took.pop("whole"), took
    sums = [sum(together) for together in zip(*parts.values(), strict=True)]
    yield _compared("create_video over stdio, p50 (sum of its parts)", "ms", whole, sums, at_most=1.35)
    late, parts_late = _p95(whole), _p95(sums)
    yield Row("create_video over stdio, p95 (the same)", late, "ms", parts_late, late / parts_late, at_most=2)
    for name, values in parts.items():
        yield Row(f"  part: {name}, p50", median(values), "ms")
    yield Row("peak memory after these", ours / 2**20, "MiB", theirs / 2**20, ours / theirs, at_most=1.2)


async def _create_in_turns(times: int, folder: Path, env: Env, sora: Process, bare: Process) -> dict[str, list[float]]:
    took: dict[str, list[float]] = {"whole": [], "a trivial call": [], "a bare POST": [], "two synced writes": []}
    body = {"type": "video", "operation": "simple_compose", "n_frames": 150, "n_variants": 1, **CREATE}
    headers = {"Authorization": f"Bearer {env['SORA_API_KEY']}"}
    with closing(_bare_ledger(folder)) as db:
        async with httpx.AsyncClient(base_url=env["SORA_BASE_URL"], headers=headers) as client:
            for number in range(-10, times):  # the first ten warm up
                laps = [time.perf_counter()]
                sora.call("create_video", **CREATE | {"prompt": f"{CREATE['prompt']}, take {number}"})
                laps.append(time.perf_counter())
                bare.call("one", text="x")
                laps.append(time.perf_counter())
                (await client.post("/sora/v1/videos", json=body)).json()
                laps.append(time.perf_counter())
                _synced(db, "INSERT INTO videos VALUES (?, 'sending', ?)", number, json.dumps(body))
                _synced(db, "UPDATE videos SET state = 'submitted' WHERE number = ?", number)
                laps.append(time.perf_counter())
                if number >= 0:
                    for name, began, ended in zip(took, laps, laps[1:], strict=False):
                        took[name].append((ended - began) * 1e3)
    return took


def _bare_ledger(folder: Path) -> sqlite3.Connection:
    folder.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(folder / "bare.sqlite3", isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE IF NOT EXISTS videos (number INTEGER PRIMARY KEY, state TEXT, body TEXT)")
    return db


def _synced(db: sqlite3.Connection, sql: str, *values: object) -> None:
    db.execute("BEGIN IMMEDIATE")
    db.execute(sql, values)
    db.execute("COMMIT")


# --- over HTTP ------------------------------------------------------------------------------------


def loading(effort: Effort, folder: Path, env: Env) -> Iterator[Row]:
    """Calls per second with 50 at once. Ours is get_video of a finished video: one read of the ledger, no gateway."""
    folder.mkdir(parents=True, exist_ok=True)
    same_tools = folder / "tools.json"
    write = "import json; from sora_mcp import tools; print(json.dumps(tools.listing()))"
    same_tools.write_text(run((sys.executable, "-c", write))[1], encoding="utf-8")
    with Process(SORA, env) as sora:
        sora.initialize()
        task_id = sora.call("create_video", **CREATE)["structuredContent"]["task_id"]
        sora.call("get_video", task_id=task_id)
    serve = (*SORA, "serve", "--transport", "streamable-http", "--port", "0")
    bare, lister = (*BARE, "--http"), (*BARE, "--http", "--tools", str(same_tools))
    with serving(serve, env) as sora, serving(bare) as calling, serving(lister) as listing:
        requests = [
            ("ours tools/call", sora, {"name": "get_video", "arguments": {"task_id": task_id}}),
            ("bare tools/call", calling, {"name": "one", "arguments": {"text": "x"}}),
            ("ours tools/list", sora, {}),
            ("bare tools/list", listing, {}),
        ]
        urls = {server: server.address() for server in (sora, calling, listing)}
        targets = [
            {"label": f"{label} {era}", "urls": [urls[server]], "era": era, "method": label[5:], "params": params}
            for era in ERAS
            for label, server, params in requests
        ]
        plan = {"targets": targets, "rounds": effort.load_rounds, "calls": effort.load_calls}
        found = json.loads(run(LOAD, stdin=json.dumps(plan))[1])
    rate = found["calls_per_s"]
    for era in ERAS:
        ours, theirs = rate[f"ours tools/call {era}"], rate[f"bare tools/call {era}"]
        yield _compared(f"HTTP, 50 at once, {era}: get_video (trivial call)", "/s", ours, theirs, at_least=0.9)
    for era in ERAS:
        ours, theirs = rate[f"ours tools/list {era}"], rate[f"bare tools/list {era}"]
        yield _compared(f"HTTP, 50 at once, {era}: tools/list (bare, the same list)", "/s", ours, theirs, at_least=0.8)
    yield Row("  the load process was busy", found["load_process_busy"] * 100, "%")


# --- the surface ----------------------------------------------------------------------------------


def surface() -> Iterator[Row]:
    """What tools/list weighs in an agent's context."""
    import bpe_openai  # noqa: PLC0415 - late: it would count as peak memory of every process started after it

    from sora_mcp import tools  # noqa: PLC0415

    listed = tools.listing()
    inputs = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in listed]
    whole = json.dumps(listed, ensure_ascii=False, separators=(",", ":"))
    encoding = bpe_openai.get_encoding("o200k_base")
    yield Row("tools/list", len(whole.encode()), "bytes")
    yield Row("tools/list with instructions", len(encoding.encode(whole + tools.INSTRUCTIONS)), "tokens", at_most=5600)
    text = json.dumps(inputs, ensure_ascii=False, separators=(",", ":"))
    yield Row("names, descriptions, input schemas", len(encoding.encode(text)), "tokens", at_most=2900)


# --- the ledger -----------------------------------------------------------------------------------


def recording(effort: Effort, folder: Path) -> Iterator[Row]:
    """The ledger by itself: a paid call's two writes, and a page of a long list."""
    yield from anyio.run(_record, effort, folder)


async def _record(effort: Effort, folder: Path) -> list[Row]:
    from sora_mcp.ledger import open_ledger  # noqa: PLC0415 - late, as above

    with closing(open_ledger(folder / "ledger.sqlite3")) as ledger, closing(_bare_ledger(folder)) as db:

        def write(number: int) -> None:
            _synced(db, "INSERT INTO videos VALUES (?, 'sending', ?)", number, json.dumps(CREATE))

        rows = await _operations("ledger", ledger, write, effort.ledger_pairs)
    small: list[float] = []
    for count in effort.ledger_rows:
        took = await _list(folder / str(count), count)
        small = small or took
        rows.append(
            _compared(f"list_videos, a page of {count:,} rows (of {effort.ledger_rows[0]:,})", "ms", took, small)
        )
    return rows


async def _operations(name: str, ledger: Ledger, write: Callable[[int], None], times: int) -> list[Row]:
    """What a ledger records of a paid call, each beside a bare insert that is committed to disk, in turns."""
    from sora_mcp.core.cost import Cost  # noqa: PLC0415
    from sora_mcp.core.tasks import Generation, Task  # noqa: PLC0415
    from sora_mcp.ledger import Account, Intent, SpendingPolicy  # noqa: PLC0415 - late, as above

    account, policy = Account("g"), SpendingPolicy(duplicate_window_s=600, per_day=Cost.of(1e6))
    took: dict[str, list[float]] = {each: [] for each in ("begin", "accepted", "lease", "record", "find", "write")}
    for number in range(-10, times):  # the first ten warm up
        laps = [time.perf_counter()]
        intent = Intent(account, "simple_compose", dict(CREATE), f"take {number}", [], Cost.of(1.25))
        entry, _ = await ledger.begin(intent, policy)
        laps.append(time.perf_counter())
        entry = await ledger.record_accepted(entry.request_id, f"task_{number}")
        laps.append(time.perf_counter())
        async with ledger.lease(entry.request_id):
            laps.append(time.perf_counter())
            video = Generation(1, f"gen_{number}", "https://videos.example/1.mp4")
            await ledger.record(entry, Task("succeeded", progress=100, generations=(video,)))
            laps.append(time.perf_counter())
        await ledger.find(account, f"task_{number}")
        laps.append(time.perf_counter())
        write(number)
        laps.append(time.perf_counter())
        if number >= 0:
            for values, began, ended in zip(took.values(), laps, laps[1:], strict=False):
                values.append((ended - began) * 1e3)
    writes = took.pop("write")
    return [
        _compared(f"{name}: {each} (a bare insert, committed)", "ms", values, writes, at_most=3)
        for each, values in took.items()
    ]


def recording_in_postgres(effort: Effort) -> Iterator[Row]:
    """The same in PostgreSQL, and what it costs with many rows. Nothing where PostgreSQL is not installed."""
    import psycopg  # noqa: PLC0415 - late, as above
    from growth import growing  # noqa: PLC0415
    from replicas import own_postgres  # noqa: PLC0415

    from sora_mcp.ledger.postgres.engine import PostgresLedger  # noqa: PLC0415

    if (postgres := own_postgres()) is None:
        return
    with postgres as cluster:
        url = cluster.database()
        with closing(PostgresLedger(url)) as ledger, psycopg.connect(url, autocommit=True) as database:
            database.execute("CREATE TABLE bare (number BIGINT PRIMARY KEY, state TEXT, body TEXT)")

            def write(number: int) -> None:
                with database.transaction():
                    database.execute("INSERT INTO bare VALUES (%s, 'sending', %s)", [number, json.dumps(CREATE)])

            yield from anyio.run(_operations, "PostgreSQL", ledger, write, effort.ledger_pairs)
        yield from growing("PostgreSQL", {count: cluster.database() for count in effort.ledger_rows})


async def _list(home: Path, count: int) -> list[float]:
    from sora_mcp.config.settings import load  # noqa: PLC0415
    from sora_mcp.studio import Studio  # noqa: PLC0415

    settings = load(_SILENT, home=home)
    await _fill(home, count)
    took = []
    async with Studio.open(settings) as studio:
        for _ in range(100):
            began = time.perf_counter()
            assert len((await studio.list_videos(limit=10)).videos) == 10
            took.append((time.perf_counter() - began) * 1e3)
    return took


async def _fill(home: Path, count: int) -> None:
    """A ledger of `count` rows at the gateway of _SILENT."""
    from sora_mcp.core.cost import Cost  # noqa: PLC0415
    from sora_mcp.ledger import Intent, open_ledger  # noqa: PLC0415

    with closing(open_ledger(home / "ledger.sqlite3")) as ledger:
        account = await ledger.account(_SILENT["SORA_BASE_URL"], _SILENT["SORA_API_KEY"])
        entry, _ = await ledger.begin(Intent(account, "simple_compose", dict(CREATE), "same", [], Cost.of(1.25)))
        await ledger.record_not_accepted(entry.request_id, "rejected", "measured")
    _multiply(home / "ledger.sqlite3", count)


def _multiply(file: Path, count: int) -> None:
    """Copies of the one row there, whatever columns it has."""
    with closing(sqlite3.connect(file)) as db, db:
        names = [row[1] for row in db.execute("PRAGMA table_info (videos)") if row[1] not in {"number", "request_id"}]
        db.execute(
            "WITH RECURSIVE copies (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM copies WHERE n < ?)"  # noqa: S608 - our own names
            f" INSERT INTO videos (request_id, {', '.join(names)})"
            f" SELECT 'req_' || n, {', '.join(names)} FROM copies, (SELECT * FROM videos)",
            (count - 1,),
        )
