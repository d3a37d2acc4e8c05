"""Whose rows a query is about: those of one account, or those of everybody at one gateway."""

from __future__ import annotations

from sora_mcp.core.accounts import Account, Team


def name_of(account: Account) -> str:
    """An account as one text, the column `gateway`: earlier releases and the indexes look for it. It is written and
    compared, and never cut apart again."""
    key = f"#{account.key_fingerprint}" if account.key_fingerprint else ""
    return f"{account.address}{key}" + (f"@{account.owner}" if account.owner else "")


def rows_of(whose: Account | Team) -> tuple[str, list[str]]:
    """A condition for the rows of an account or of a team, and its values. The indexes begin with `gateway`."""
    if isinstance(whose, Account):
        return "gateway = ?", [name_of(whose)]
    beyond = f"{whose.address}\U0010ffff"
    return f"gateway IN ({_NAMES}) AND +address = ?", [whose.address, beyond, whose.address]


_NAMES = (
    "WITH RECURSIVE names (name) AS ("
    "SELECT min(gateway) FROM videos WHERE gateway >= ?"
    " UNION ALL SELECT (SELECT min(gateway) FROM videos WHERE gateway > name) FROM names WHERE name < ?"
    ") SELECT name FROM names WHERE name IS NOT NULL"
)
"""The names of all accounts from one address on: each is one look at an index, however many rows it has."""
