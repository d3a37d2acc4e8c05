"""Every kind of ledger that there is, and what tests put into one; a second store is one more entry in STORES."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sora_mcp.core.cost import Cost
from sora_mcp.ledger import Account, Entry, Intent, Ledger, SpendingPolicy, open_ledger

G = Account("g")
"""The account of most tests."""

GUARDED = SpendingPolicy(duplicate_window_s=600)
"""A policy with nothing but a duplicate window."""

BODY = {"prompt": "fly man", "width": 854, "height": 480, "n_frames": 150}

Clock = Callable[[], float]
OpenLedger = Callable[..., Ledger]

STORES: dict[str, Callable[[Path, Clock], Ledger]] = {
    "sqlite": lambda folder, clock: open_ledger(folder / "home" / "ledger.sqlite3", clock)
}
"""Every kind of ledger, opened for a folder and a clock; all of them keep the same contract."""


async def begin(ledger: Ledger, account: Account = G) -> str:
    entry, is_new = await ledger.begin(Intent(account, "simple_compose", BODY, "same", [], Cost.of(1.25)))
    assert is_new
    return entry.request_id


async def row(ledger: Ledger, request_id: str) -> Entry:
    found = await ledger.find(G, request_id)
    assert found is not None
    return found
