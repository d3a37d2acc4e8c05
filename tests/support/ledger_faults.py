"""Every failure of a ledger, at every moment of a create: what was paid, and what the agent got.

`python tests/support/ledger_faults.py` measures all of them and writes `tests/faults/LEDGER_FAULTS.md`; a test
compares that page with measurements. Each case has its own gateway, server and ledger.
"""

from __future__ import annotations

import resource
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import damage
import faults
from bench import ACCEPTED_NEXT, COMMAND, KEY, environment, task_reply
from database_failures import DATABASE_FAILURES, DatabaseFailure
from fault_gateway import CREATE, FaultGateway, Hold, fault_gateway, says
from ledgers import Store, in_file
from mcp import Client, StdioServerParameters
from postgres import running_cluster

from sora_mcp.config.settings import load
from sora_mcp.ledger.sql.transactions import BUSY_TIMEOUT_S
from sora_mcp.server import build

PAGE = Path(__file__).parents[1] / "faults" / "LEDGER_FAULTS.md"
BUSY = says({"error": {"message": "busy", "type": "new_api_error"}}, 429, Retry_After="0")

WAITS_S = 2 * BUSY_TIMEOUT_S
"""Seconds after which a call still waits for the outcome of the first one, and would for much longer."""

BEFORE = "before the POST"
DURING = "after the POST, before its answer"
AGAIN = "before it is sent again"
AT_REST = "before a start"

Failure = Callable[[Path], AbstractContextManager[object]]
"""Takes the ledger's path; the failure ends with the context."""


def moved(*names: str) -> Failure:
    """Move files away, and back at the end."""

    @contextmanager
    def failure(path: Path) -> Iterator[None]:
        parts = [each for each in (damage.part(path, name) for name in names) if each.exists()]
        for each in parts:
            each.rename(each.with_name(f"elsewhere{each.suffix}"))
        yield
        for each in parts:
            each.with_name(f"elsewhere{each.suffix}").rename(each)

    return failure


def damaged(apply_damage: damage.Damage) -> Failure:
    """Damage files in place, and restore them in place at the end."""

    @contextmanager
    def failure(path: Path) -> Iterator[None]:
        parts = [each for each in (damage.part(path, name) for name in ("", "-wal", "-shm")) if each.exists()]
        contents = {each: damage.read(each) for each in parts}
        apply_damage(path)
        yield
        for each, data in contents.items():
            damage.restore(each, data)

    return failure


@contextmanager
def replaced(path: Path) -> Iterator[None]:
    """Replace the file by a copy without the contents of the log."""
    path.rename(path.with_name("elsewhere"))
    damage.restore(path, damage.read(path.with_name("elsewhere")))
    yield
    path.with_name("elsewhere").rename(path)


@contextmanager
def older(path: Path) -> Iterator[None]:
    """Restore an older copy into the same file, by SQLite."""
    with (
        closing(sqlite3.connect(path, isolation_level=None)) as ledger,
        closing(sqlite3.connect(":memory:")) as newer,
        closing(sqlite3.connect(":memory:")) as copy,
    ):
        ledger.backup(newer)
        ledger.backup(copy)
        for table in ("videos", "history", "generations"):
            copy.execute(f"DELETE FROM {table}")  # noqa: S608 - our own names
        copy.commit()
        copy.backup(ledger)
        yield
        newer.backup(ledger)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another connection is in the middle of a write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def newer(path: Path) -> Iterator[None]:
    """A later release has changed the schema."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        before = other.execute("PRAGMA user_version").fetchone()[0]
        other.execute("PRAGMA user_version = 99")
        yield
        other.execute(f"PRAGMA user_version = {before}")


def limited(kind: int, to: Callable[[int], int]) -> Failure:
    """Limit a resource of the server's process; `to` maps its id to the limit."""

    @contextmanager
    def failure(path: Path) -> Iterator[None]:
        pid = int(path.with_name("pid").read_text())
        before = resource.prlimit(pid, kind)
        resource.prlimit(pid, kind, (to(pid), before[1]))
        yield
        resource.prlimit(pid, kind, before)

    return failure


def _open_files(pid: int) -> int:
    return max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()) + 1


IN_FILES: dict[str, Failure] = {
    "removed": moved(""),
    "removed with all beside it": moved("", "-wal", "-shm"),
    "emptied": damaged(damage.cut("", 0)),
    "log removed": moved("-wal"),
    "log emptied": damaged(damage.cut("-wal", 0)),
    "log cut in half": damaged(damage.cut("-wal", 0.5)),
    "log overwritten": damaged(damage.overwrite("-wal", 0, 9000)),
}
"""Failures that a server can also meet at its start."""
IN_USE: dict[str, Failure] = IN_FILES | {
    "replaced": replaced,
    "an older copy in the same file": older,
    "index cut": damaged(damage.cut("-shm", 0)),
    "held by another process": locked,
    "migrated by a newer release": newer,
}
IN_PROCESS: dict[str, Failure] = {
    "full": limited(resource.RLIMIT_FSIZE, lambda _: 1),
    "out of descriptors": limited(resource.RLIMIT_NOFILE, _open_files),
}
"""Failures of a whole process: the server runs in one of its own."""


@dataclass(frozen=True, slots=True)
class Case:
    """One line. `database_failure` is a failure of PostgreSQL."""

    moment: str
    name: str
    database_failure: DatabaseFailure | None = None

    def failure(self, store: Store, folder: Path) -> AbstractContextManager[object]:
        """The failure, which ends with the context."""
        if self.database_failure is not None:
            return self.database_failure(store)
        return (IN_USE | IN_PROCESS)[self.name](folder / "home" / "ledger.sqlite3")


IN_POSTGRES = [
    Case(moment, name, failure) for moment in (BEFORE, DURING, AGAIN) for name, failure in DATABASE_FAILURES.items()
]
CASES = [Case(moment, name) for moment in (BEFORE, DURING, AGAIN) for name in (*IN_USE, *IN_PROCESS)]
CASES += [Case(AT_REST, name) for name in IN_FILES]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a case: of the create that met the failure, of a repetition meanwhile, and of another one after
    the failure and a restart of the server."""

    posts: int
    accepted: int
    outcome: str
    meanwhile: str
    afterwards: str
    recorded: str


async def measure(case: Case, folder: Path, store: Store) -> Outcome:
    """Run the same create three times, through the real client, server, ledger and sockets."""
    async with fault_gateway() as gateway:
        gateway.on("POST", CREATE, ACCEPTED_NEXT)
        gateway.on("GET", CREATE, task_reply("SUBMITTED", task_id="task_1"))
        run_case = _at_rest if case.moment == AT_REST else _in_use
        outcome, meanwhile = await run_case(case, gateway, folder, store)
        async with _server(gateway, folder, store) as client:
            afterwards = await _create(client, "fly man")
        creates = [each for each in gateway.creates() if b"fly man" in each.body]
        recorded = await anyio.to_thread.run_sync(states, store)
        accepted = len([each for each in gateway.accepted() if b"fly man" in each.body])
        return Outcome(len(creates), accepted, outcome, meanwhile, afterwards, ", ".join(recorded) or "no row")


async def _in_use(case: Case, gateway: FaultGateway, folder: Path, store: Store) -> tuple[str, str]:
    """A running server meets the failure."""
    async with _server(
        gateway, folder, store, alone=case.database_failure is None and case.name in IN_PROCESS
    ) as client:
        await _create(client, "kite")
        if case.moment == BEFORE:
            with case.failure(store, folder):
                return await _create(client, "fly man"), await _create(client, "fly man")
        hold = Hold()
        gateway.on("POST", CREATE, replace(ACCEPTED_NEXT if case.moment == DURING else BUSY, hold=hold), ACCEPTED_NEXT)
        outcomes: list[str] = []

        async def create() -> None:
            outcomes.append(await _create(client, "fly man"))

        async with anyio.create_task_group() as calls:
            calls.start_soon(create)
            await hold.reached.wait()
            failure = case.failure(store, folder)
            failure.__enter__()
            hold.release.set()
        meanwhile = "still waiting"
        with anyio.move_on_after(WAITS_S):
            meanwhile = await _create(client, "fly man")
        failure.__exit__(None, None, None)
        await _wait_until_recorded(store)
    return outcomes[0], meanwhile


async def _wait_until_recorded(store: Store) -> None:
    """Wait until the server has recorded the outcome of the create, which it retries by itself."""
    with anyio.fail_after(60):
        while "sending" in await anyio.to_thread.run_sync(states, store):  # noqa: ASYNC110 - it has to be polled
            await anyio.sleep(0.1)


async def _at_rest(case: Case, gateway: FaultGateway, folder: Path, store: Store) -> tuple[str, str]:
    """A server was killed after the create; the next one meets the failure at its start."""
    before = folder.with_name(f"{folder.name}-before")
    async with _server(gateway, before, in_file(before)) as client:
        outcome = await _create(client, "fly man")
        damage.as_after_a_kill(before, folder)
    with case.failure(store, folder):
        async with _server(gateway, folder, store) as client:
            return outcome, await _create(client, "fly man")


@asynccontextmanager
async def _server(gateway: FaultGateway, folder: Path, store: Store, *, alone: bool = False) -> AsyncIterator[Client]:
    """A client of a server, which runs in its own process if `alone`."""
    if not alone:
        values: dict[str, Any] = {"base_url": gateway.address, "api_key": KEY, "home": folder / "home"}
        settings = load({}, duplicate_window=60, **values | store.values)
        async with Client(build(settings)) as client:
            yield client
        return
    (folder / "home").mkdir(parents=True)
    start = ["-c", 'echo $$ > "$0"; exec "$@"', str(folder / "home" / "pid"), *COMMAND]
    server = StdioServerParameters(command="sh", args=start, env=environment(folder, gateway))
    async with Client(server) as client:
        yield client


async def _create(client: Client, prompt: str) -> str:
    """The outcome of a create, marked if it is that of an earlier call."""
    result: dict[str, Any] = (await client.call_tool("create_video", {"prompt": prompt})).structured_content
    return f"{result['outcome']}{', the first' if result.get('duplicate') else ''}"


def states(store: Store) -> list[str]:
    """The state of every row of the create."""
    return faults.states(store, "body LIKE '%fly man%'")


async def measure_all(cases: Sequence[Case], make_store: faults.MakeStore = in_file) -> dict[Case, Outcome]:
    """These cases, a few at a time."""
    measured: dict[int, Outcome] = {}
    limiter = anyio.CapacityLimiter(8)

    async def run(number: int, case: Case, folder: Path) -> None:
        async with limiter:
            measured[number] = await measure(case, folder, make_store(folder))

    with tempfile.TemporaryDirectory() as home:
        async with anyio.create_task_group() as group:
            for number, case in enumerate(cases):
                group.start_soon(run, number, case, Path(home) / str(number))
    return {case: measured[number] for number, case in enumerate(cases)}


def table(measured: dict[Case, Outcome]) -> str:
    """The lines of a table."""
    rows = [
        [c.moment, c.name, s.posts, s.accepted, s.outcome, s.meanwhile, s.afterwards, s.recorded]
        for c, s in measured.items()
    ]
    lines = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return "\n".join([*lines, ""])


_HEAD = """\
# Every trouble of the ledger at every moment of a create

Measured by `python tests/support/ledger_faults.py`, which writes this page; `tests/faults/test_ledger_faults.py` holds
it to what is measured. Each line is one create that is asked for three times, by the real client through the real
server: when the trouble comes (*told*), again while it lasts (*meanwhile*), and again once everything was put back and
the server restarted (*afterwards*). *POSTs* and *accepted* count all three. *The first* is said where the answer is
that of an earlier call, and nothing was sent. *Still waiting*: for the outcome of the first one, as it may for 50
seconds. Before it is sent again: the gateway was busy at first (429).

## In SQLite

| when | the ledger | POSTs | accepted | told | meanwhile | afterwards | rows |
|---|---|---|---|---|---|---|---|
"""

_POSTGRES = """
## In PostgreSQL

| when | the database | POSTs | accepted | told | meanwhile | afterwards | rows |
|---|---|---|---|---|---|---|---|
"""


def page(in_file: dict[Case, Outcome], in_postgres: dict[Case, Outcome]) -> str:
    """The page."""
    return f"{_HEAD}{table(in_file)}{_POSTGRES}{table(in_postgres)}"


def main() -> None:
    """Measure, and write the page."""
    with running_cluster() as cluster:
        in_postgres = anyio.run(measure_all, IN_POSTGRES, cluster.store)
    PAGE.write_text(page(anyio.run(measure_all, CASES), in_postgres), encoding="utf-8")


if __name__ == "__main__":
    main()
