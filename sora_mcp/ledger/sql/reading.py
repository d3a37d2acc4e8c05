"""What is read of the ledger. See `Ledger` for what each method promises."""

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
from sora_mcp.ledger.protocol import SEARCH_WITHIN_S, SEARCHED
from sora_mcp.ledger.sql import counting, lines, listing, rows
from sora_mcp.ledger.sql.database import Database
from sora_mcp.ledger.sql.transactions import Transactions

CHECKED = 1000
"""Rows that a check reads, the newest."""
PART = 500
"""Rows that a search looks at in one transaction."""
PART_S = 0.25
"""Seconds that this takes at most: whoever wants to pay waits for it."""


class Reading(Transactions):
    """Entries, pages of them, and what they add up to."""

    async def account(self, base_url: str, api_key: str, owner: str = "") -> Account:
        salt = await self._read(rows.salt_of)
        if salt is None:
            salt = await self._write(_salt)
        return Account.for_key(salt, base_url, api_key, owner)

    async def find(self, account: Account, video_id: str) -> Entry | None:
        read = partial(rows.find, account=account, video_id=video_id)
        return await self._glance(read, key=(account, video_id))

    async def find_generation(self, account: Account, generation_id: str) -> tuple[Entry, Generation] | None:
        entry = await self._glance(lambda db: rows.of_generation(db, account, generation_id))
        if entry is None:
            return None
        return entry, next(g for g in entry.generations if g.generation_id == generation_id)

    async def ids_beginning_with(self, account: Account, text: str, limit: int) -> list[str]:
        return await self._glance(lambda db: rows.ids_beginning_with(db, account, text, limit))

    async def is_of_another_owner(self, account: Account, shown_id: str) -> bool:
        return await self._read(lambda db: rows.is_of_another_owner(db, account, shown_id))

    async def page(
        self, account: Account, *, limit: int, before: str | None = None, states: tuple[State, ...] = ()
    ) -> list[Entry]:
        return await self._glance(lambda db: rows.page(db, account, limit=limit, before=before, states=states))

    async def search(
        self,
        account: Account,
        text: str,
        *,
        limit: int,
        before: str | None = None,
        states: tuple[State, ...] = (),
        most: int = SEARCHED,
        within_s: float = SEARCH_WITHIN_S,
    ) -> tuple[list[Entry], str | None]:
        ends_at, mentions = monotonic() + within_s, plans.prompt_matcher(text)
        entries: list[Entry] = []
        while True:
            part = partial(
                listing.search,
                account=account,
                mentions=mentions,
                limit=limit + 1 - len(entries),
                before=before,
                states=states,
                most=min(most, PART),
                ends_at=min(ends_at, monotonic() + PART_S),
            )
            more, looked_at, before = await self._read(part)
            entries += more
            most -= looked_at
            if len(entries) > limit:
                return entries[:limit], entries[limit - 1].request_id
            if before is None or most <= 0 or monotonic() >= ends_at:
                return entries, before

    async def lines(self, account: Account, keys: Sequence[str]) -> dict[str, RecordedLine]:
        return await self._read(lambda db: lines.known(db, account, keys))

    async def usage(self, owner: str | None, by: Sequence[UsageKey], since: float) -> list[Usage]:
        return await self._read(lambda db: listing.usage(db, owner, by, since))

    async def totals(self, account: Account) -> Totals:
        return await self._glance(lambda db: counting.totals(db, account))

    async def durations(self, account: Account, limit: int) -> list[float]:
        return await self._glance(lambda db: listing.durations(db, account, limit), key=("durations", account, limit))

    async def under_way(self, whose: Account | Team, limit: int) -> list[Entry]:
        read = partial(listing.under_way, whose=whose, now=self._clock(), limit=limit)
        entries = await self._glance(read, key=("under way", whose, limit))
        since = self._clock() - DAY_S  # what was read may be kept from earlier
        return [entry for entry in entries if entry.created_at > since]

    async def without_address(self, whose: Account | Team, limit: int) -> list[Entry]:
        return await self._glance(lambda db: listing.without_address(db, whose, self._clock(), limit))

    async def unsaved(self, whose: Account | Team, limit: int) -> list[Entry]:
        return await self._glance(lambda db: listing.unsaved(db, whose, self._clock(), limit))

    async def spending(self, whose: Account | Person | Team) -> Spending:
        return await self._read(lambda db: listing.spending_of(db, whose, self._clock() - WINDOW_S)())

    async def history(self, request_id: str) -> list[tuple[State, float]]:
        sql = "SELECT state, at FROM history WHERE request_id = ? ORDER BY number"
        return await self._glance(lambda db: [(row[0], row[1]) for row in db.execute(sql, [request_id])])

    async def states(self) -> dict[State, int]:
        return await self._read(counting.states)

    async def check(self) -> dict[State, int]:
        def work(db: Database) -> dict[State, int]:
            self._check_structure(db)
            for entry in rows.select(db, "TRUE", [], CHECKED):
                summary(entry)
            counts = counting.states(db)
            if counts and rows.salt_of(db) is None:
                raise _without_salt()
            return counts

        return await self._read(work)

    def now(self) -> float:
        return self._clock()

    def age(self, entry: Entry) -> float:
        age = self._clock() - entry.updated_at
        return age if age >= 0 else float("inf")


def _salt(db: Database) -> bytes:
    """The salt, made with the first row: with another, nothing that was paid for would be found again."""
    db.lock("salt")
    salt = rows.salt_of(db)
    if salt is None:
        if db.execute("SELECT 1 FROM videos LIMIT 1").fetchone():
            raise _without_salt()
        salt = secrets.token_bytes(16)
        db.execute("INSERT INTO salt VALUES (?)", (salt,))
    return salt


def _without_salt() -> FileProblem:
    """Of a ledger with entries, whose accounts nobody can tell any more."""
    return FileProblem(
        "The ledger cannot be used (it is damaged).",
        AskUser(("restore it from a backup, then ", Restart())),
    )
