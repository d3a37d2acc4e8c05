"""The durable record of what was asked for, what became of it, and where the files are.

`Ledger` is the protocol of every engine; `open_ledger` opens the configured one, `open_documents` the documents that
servers share beside it.
"""

from sora_mcp.core.accounts import Account
from sora_mcp.core.records import AbandonedTask, Entry, Intent, Totals
from sora_mcp.core.spending import Spending, SpendingPolicy
from sora_mcp.ledger.opening import open_documents, open_ledger
from sora_mcp.ledger.protocol import Ledger, Listener, RowMissing, Servers

__all__ = [
    "AbandonedTask",
    "Account",
    "Entry",
    "Intent",
    "Ledger",
    "Listener",
    "RowMissing",
    "Servers",
    "Spending",
    "SpendingPolicy",
    "Totals",
    "open_documents",
    "open_ledger",
]
