"""What is kept of questions to users: the keys their states are sealed with, and which answers were used. See `Ledger`
for what each method promises."""

from __future__ import annotations

import secrets
import sqlite3

from sora_mcp.ledger.sqlite.transactions import Transactions

_KEY_BYTES = 32


class Answers(Transactions):
    """Keys and used answers."""

    async def seal_keys(self) -> list[bytes]:
        def work(db: sqlite3.Connection) -> list[bytes]:
            if not (keys := _keys(db)):
                made = (secrets.token_bytes(_KEY_BYTES), self._clock())
                db.execute("INSERT INTO seal_keys (key, made_at) VALUES (?, ?)", made)
                keys = _keys(db)
            return keys

        return await self._write(work)

    async def use_answer(self, answer_id: str, forget_after_s: float) -> bool:
        def work(db: sqlite3.Connection) -> bool:
            now = self._clock()
            db.execute("DELETE FROM used_answers WHERE kept_until < ?", [now])
            sql = "INSERT INTO used_answers (answer_id, kept_until) VALUES (?, ?) ON CONFLICT DO NOTHING"
            return db.execute(sql, [answer_id, now + forget_after_s]).rowcount == 1

        return await self._write(work)


def _keys(db: sqlite3.Connection) -> list[bytes]:
    return [bytes(row[0]) for row in db.execute("SELECT key FROM seal_keys ORDER BY number DESC")]
