"""The sums of videos in the table `video_counts`, so that a page of ten does not count a million rows.

Each engine maintains the table with its own triggers, so that it is right whichever release writes a row. There is a
sum for each account, state and currency.
"""

from __future__ import annotations

from collections.abc import Iterable

from sora_mcp.core.accounts import Account
from sora_mcp.core.cost import Cost, total
from sora_mcp.core.records import Totals
from sora_mcp.core.tasks import State
from sora_mcp.ledger.sql.database import Database, Row
from sora_mcp.ledger.sql.listing import relative_sum
from sora_mcp.ledger.sql.rows import gateway_key

GROUP = "gateway, address, key_fingerprint, owner, state, currency"
"""The columns of a group; `currency` is empty for relative costs, and for none."""
SUMS = "sum(videos), sum(relative), sum(billionths), sum(unpriced)"
"""Videos, the sum of relative costs, the sum in the currency in billionths, and videos without a cost."""
_OWNER_COUNTS = (
    f"SELECT {GROUP}, {SUMS} FROM video_counts WHERE owner = ?"  # noqa: S608 - our own names
    f" GROUP BY {GROUP} HAVING sum(videos) != 0 ORDER BY {GROUP}"
)
_STATE_COUNTS = "SELECT state, sum(videos) FROM video_counts GROUP BY state HAVING sum(videos) != 0 ORDER BY state"


def totals(db: Database, account: Account) -> Totals:
    """Return the sums of an account's rows. See Ledger.totals."""
    own, other_accounts = list[Row](), dict[Account, int]()
    for gateway, address, key_fingerprint, owner, *sums in db.execute(_OWNER_COUNTS, [account.owner]):
        if gateway == gateway_key(account):
            own.append(sums)
        else:
            other = Account(address, key_fingerprint, owner)
            other_accounts[other] = other_accounts.get(other, 0) + int(sums[2])
    return _totals(own, other_accounts)


def states(db: Database) -> dict[State, int]:
    """Return how many rows are in each state. See Ledger.states."""
    return {state: int(videos) for state, videos in db.execute(_STATE_COUNTS)}


def _totals(sums: Iterable[Row], other_accounts: dict[Account, int]) -> Totals:
    counts, costs, unpriced = dict[State, int](), dict[State, list[Cost]](), 0
    for state, currency, videos, relative, billionths, without_cost in sums:
        counts[state] = counts.get(state, 0) + int(videos)
        costs.setdefault(state, []).append(relative_sum(float(relative)))
        if currency:
            costs[state].append(Cost(int(billionths), currency))
        unpriced += 0 if state == "rejected" else int(without_cost)
    uncertain = total(costs.pop("unknown", ()))
    spent = total(cost for state, each in costs.items() if state != "rejected" for cost in each)
    return Totals(counts, spent, uncertain, unpriced, other_accounts)
