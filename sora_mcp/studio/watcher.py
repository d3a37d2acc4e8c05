"""Following tasks in the background until they finish, so that their states and short-lived addresses are caught."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import TaskGroup

from sora_mcp.errors import SoraError
from sora_mcp.ledger import Entry, Ledger
from sora_mcp.studio.desk import TICK, Desk
from sora_mcp.studio.finder import Finder

logger = logging.getLogger(__name__)

AT_ONCE = 8
"""Queries that run at once, and that are begun in one round; whoever was looked at longest ago comes first."""
MOST = 100
"""Rows that are followed at once, the newest; more are looked at by whoever asks for them."""
IDLE_S = 30.0
"""Seconds between two looks at the ledger while nothing is under way: another process may have left something."""

OpenDesk = Callable[[], Awaitable[Desk]]
Told = Callable[[Entry], Awaitable[None]]
"""Told a row whose state or progress changed, whichever process found out."""
Save = Callable[[Entry], Awaitable[None]]
"""Download every variant of a finished video."""


class Watcher:
    """Asks about everything under way when its time has come, and tells (`told`) what changed."""

    def __init__(self, ledger: Ledger, finder: Finder) -> None:
        self._ledger = ledger
        self._finder = finder
        self._at_once = anyio.CapacityLimiter(AT_ONCE)
        self._woken = anyio.Event()
        self._seen: dict[str, tuple[str, int | None]] = {}
        self._at_work: set[str] = set()
        self.told: list[Told] = []

    def wake(self) -> None:
        """Something new is under way."""
        self._woken.set()

    async def run(self, open_desk: OpenDesk, save: Save | None) -> None:
        """Follow everything that is under way at the gateway, and save what has finished (`save`), until cancelled.

        A task is asked about every `desk.pace` seconds at first and ever more rarely later, and given up after a day.
        """
        await anyio.sleep(TICK)  # whoever starts a server waits for its first answer, not for this
        async with anyio.create_task_group() as work:
            while True:
                self._woken = anyio.Event()
                try:
                    desk = await open_desk() if self._ledger.exists() else None
                    while desk is not None and await self._round(desk, save, work):  # noqa: ASYNC110 - gateways tell nobody
                        await anyio.sleep(desk.tick)
                except SoraError as error:
                    logger.info("nothing can be followed now: %s", error.message)
                except Exception:
                    logger.exception("following failed in an unforeseen way")  # and the server goes on
                with anyio.move_on_after(IDLE_S):
                    await self._woken.wait()

    async def _round(self, desk: Desk, save: Save | None, work: TaskGroup) -> bool:
        """Whether anything is under way."""
        now = self._ledger.now()
        open_rows = await self._ledger.under_way(desk.name, MOST)
        await self._tell_changes(desk, open_rows)
        due = sorted((e for e in open_rows if e.is_due(now, desk.pace)), key=lambda e: e.looked_at or 0)
        for entry in due[:AT_ONCE]:
            self._start(work, entry, self._ask_quietly, desk)
        unsaved = await self._ledger.unsaved(desk.name, AT_ONCE) if save is not None else []
        for entry in unsaved:
            if entry.is_due(now, desk.pace) or (entry.misses == 0 and entry.may_be_asked(now)):
                self._start(work, entry, self._save_once, desk, save)
        return bool(open_rows or unsaved)

    def _start(self, work: TaskGroup, entry: Entry, job: Callable[..., Awaitable[None]], *parts: object) -> None:
        if entry.request_id in self._at_work:
            return
        self._at_work.add(entry.request_id)

        async def run() -> None:
            try:
                async with self._at_once:
                    await job(entry, *parts)
            except SoraError as error:
                logger.info("following %s: %s", entry.id, error.message)
            except Exception:
                logger.exception("following %s failed in an unforeseen way", entry.id)
            finally:
                self._at_work.discard(entry.request_id)

        work.start_soon(run)

    async def _ask_quietly(self, entry: Entry, desk: Desk) -> None:
        await self._finder.ask(desk, entry)

    async def _save_once(self, entry: Entry, desk: Desk, save: Save) -> None:
        if not await self._ledger.claim(entry.request_id, desk.save_lease_s):
            return
        try:
            await save(entry)
        except Exception:
            await self._ledger.missed(entry.request_id)
            raise
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._ledger.unclaim(entry.request_id)
            raise

    async def _tell_changes(self, desk: Desk, open_rows: list[Entry]) -> None:
        now_open = {entry.request_id: (entry.state, entry.progress) for entry in open_rows}
        changed = [entry for entry in open_rows if self._seen.get(entry.request_id) != now_open[entry.request_id]]
        for request_id in self._seen.keys() - now_open.keys():
            ended = await self._ledger.find(desk.name, request_id)
            changed += [ended] if ended is not None else []
        self._seen = dict(now_open)
        for entry in changed:
            for told in self.told:
                await told(entry)
