"""Ledger methods that read, documented in `Ledger`."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from functools import partial
from time import monotonic

from sora_mcp.core import plans
from sora_mcp.core.accounts import Account, Person, Team
from sora_mcp.core.advice import AskUser, Restart
from sora_mcp.core.errors import FileProblem
from sora_mcp.core.records import DAY_S, Entry, RecordedLine, Totals, Usage, UsageKey, summary
from sora_mcp.core.spending import WINDOW_S, Spending
from sora_mcp.core.tasks import Generation, State
from sora_mcp.ledger.protocol import MAX_SEARCHED, SEARCH_TIMEOUT_S
from sora_mcp.ledger.sql import counting, lines, listing, rows
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.transactions import Transactions

MAX_CHECKED = 1000
"""The newest rows, which a check reads."""
SEARCH_BATCH_SIZE = 500
"""Rows that a search examines in one transaction."""
SEARCH_BATCH_TIMEOUT_S = 0.25
"""Seconds that this may take: paid calls wait for it."""


class Reading(Transactions):
    """Entries, pages of them, and what they add up to."""

    async def account(self, base_url: str, api_key: str, owner: str = "") -> Account:
        salt = await self._read(rows.read_salt)
        if salt is None:
            salt = await self._write(_get_or_create_salt)
        return Account.for_key(salt, base_url, api_key, owner)

    async def find(self, account: Account, video_id: str) -> Entry | None:
        read = partial(rows.find, account=account, video_id=video_id)
        return await self._quick_read(read, key=(account, video_id))

    async def find_generation(self, account: Account, generation_id: str) -> tuple[Entry, Generation] | None:
        entry = await self._quick_read(lambda db: rows.find_by_generation(db, account, generation_id))
        if entry is None:
            return None
        return entry, next(g for g in entry.generations if g.generation_id == generation_id)

    async def find_ids_by_prefix(self, account: Account, prefix: str, limit: int) -> list[str]:
        return await self._quick_read(lambda db: rows.find_ids_by_prefix(db, account, prefix, limit))

    async def is_of_another_owner(self, account: Account, shown_id: str) -> bool:
        return await self._read(lambda db: rows.is_of_another_owner(db, account, shown_id))

    async def page(
        self, account: Account, *, limit: int, before: str | None = None, states: tuple[State, ...] = ()
    ) -> list[Entry]:
        return await self._quick_read(lambda db: rows.page(db, account, limit=limit, before=before, states=states))

    async def search(
        self,
        account: Account,
        text: str,
        *,
        limit: int,
        before: str | None = None,
        states: tuple[State, ...] = (),
        max_searched: int = MAX_SEARCHED,
        timeout_s: float = SEARCH_TIMEOUT_S,
    ) -> tuple[list[Entry], str | None]:
        deadline, mentions = monotonic() + timeout_s, plans.prompt_matcher(text)
        entries: list[Entry] = []
        while True:
            batch = partial(
                listing.search,
                account=account,
                mentions=mentions,
                limit=limit + 1 - len(entries),
                before=before,
                states=states,
                max_searched=min(max_searched, SEARCH_BATCH_SIZE),
                deadline=min(deadline, monotonic() + SEARCH_BATCH_TIMEOUT_S),
            )
            more, searched, before = await self._read(batch)
            entries += more
            max_searched -= searched
            if len(entries) > limit:
                return entries[:limit], entries[limit - 1].request_id
            if before is None or max_searched <= 0 or monotonic() >= deadline:
                return entries, before

    async def lines(self, account: Account, keys: Sequence[str]) -> dict[str, RecordedLine]:
        return await self._read(lambda db: lines.find_lines(db, account, keys))

    async def usage(self, owner: str | None, by: Sequence[UsageKey], since: float) -> list[Usage]:
        return await self._read(lambda db: listing.usage(db, owner, by, since))

    async def totals(self, account: Account) -> Totals:
        return await self._quick_read(lambda db: counting.totals(db, account))

    async def durations(self, account: Account, limit: int) -> list[float]:
        return await self._quick_read(
            lambda db: listing.durations(db, account, limit), key=("durations", account, limit)
        )

    async def under_way(self, scope: Account | Team, limit: int) -> list[Entry]:
        read = partial(listing.under_way, scope=scope, now=self._clock(), limit=limit)
        entries = await self._quick_read(read, key=("under way", scope, limit))
        since = self._clock() - DAY_S  # the entries may have been cached earlier
        return [entry for entry in entries if entry.created_at > since]

    async def without_address(self, scope: Account | Team, limit: int) -> list[Entry]:
        return await self._quick_read(lambda db: listing.without_address(db, scope, self._clock(), limit))

    async def unsaved(self, scope: Account | Team, limit: int) -> list[Entry]:
        return await self._quick_read(lambda db: listing.unsaved(db, scope, self._clock(), limit))

    async def spending(self, scope: Account | Person | Team) -> Spending:
        return await self._read(lambda db: listing.query_spending(db, scope, self._clock() - WINDOW_S)())

    async def history(self, request_id: str) -> list[tuple[State, float]]:
        sql = "SELECT state, at FROM history WHERE request_id = ? ORDER BY number"
        return await self._quick_read(lambda db: [(row[0], row[1]) for row in db.execute(sql, [request_id])])

    async def states(self) -> dict[State, int]:
        return await self._read(counting.states)

    async def check(self) -> dict[State, int]:
        def work(db: Database) -> dict[State, int]:
            self._check_structure(db)
            for entry in rows.select(db, "TRUE", [], MAX_CHECKED):
                summary(entry)
            counts = counting.states(db)
            if counts and rows.read_salt(db) is None:
                raise _missing_salt()
            return counts

        return await self._read(work)

    def now(self) -> float:
        return self._clock()

    def age(self, entry: Entry) -> float:
        age = self._clock() - entry.updated_at
        return age if age >= 0 else float("inf")


def _get_or_create_salt(db: Database) -> bytes:
    """Return the salt, created before the first row: with another, nothing that was paid for would be found again."""
    db.lock("salt")
    salt = rows.read_salt(db)
    if salt is None:
        if db.execute("SELECT 1 FROM videos LIMIT 1").fetchone():
            raise _missing_salt()
        salt = secrets.token_bytes(16)
        db.execute("INSERT INTO salt VALUES (?)", (salt,))
    return salt


def _missing_salt() -> FileProblem:
    """Return the error for a ledger whose entries' accounts cannot be known any more."""
    return FileProblem(
        "The ledger cannot be used (it is damaged).",
        AskUser(("restore it from a backup, then ", Restart())),
    )
