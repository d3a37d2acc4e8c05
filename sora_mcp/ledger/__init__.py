"""The durable record of what was asked for, what became of it, and where the files are.

`Ledger` is what every engine promises; `open_ledger` opens the one that is configured, `open_documents` what
servers know beside it.
"""

from sora_mcp.core.accounts import Account
from sora_mcp.core.records import AbandonedTask, Entry, Intent, Totals
from sora_mcp.core.spending import Spending, SpendingPolicy
from sora_mcp.ledger.opening import open_documents, open_ledger
from sora_mcp.ledger.protocol import Ledger, Listener, RowGone, Servers

__all__ = [
    "AbandonedTask",
    "Account",
    "Entry",
    "Intent",
    "Ledger",
    "Listener",
    "RowGone",
    "Servers",
    "Spending",
    "SpendingPolicy",
    "Totals",
    "open_documents",
    "open_ledger",
]
