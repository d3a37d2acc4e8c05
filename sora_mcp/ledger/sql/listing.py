"""What lists are made from beside their rows: a search in prompts, what rows add up to, how long videos took, and what
is looked after in the background."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any

from sora_mcp.core import plans
from sora_mcp.core.accounts import Account, Team
from sora_mcp.core.cost import Cost, total
from sora_mcp.core.records import DAY_S, HOUR_S, Entry, Totals, Usage, UsageKey
from sora_mcp.core.tasks import UNDER_WAY, State
from sora_mcp.ledger.sql.database import Database, Row
from sora_mcp.ledger.sql.rows import NEWEST, body_of, listed, name_of, places, rows_of
from sora_mcp.ledger.sql.standing import CURRENCY, MONEY, RELATIVE, relative_sum


def search(
    db: Database,
    account: Account,
    mentions: Callable[[plans.Body], bool],
    *,
    limit: int,
    before: int | None = None,
    states: Sequence[State] = (),
    most: int,
    ends_at: float,
) -> tuple[list[Entry], int, int | None]:
    """Rows that `mentions` finds, how many were looked at, and the number below which none was.

    It ends with `limit` found, `most` looked at, or the time `ends_at` (of the monotonic clock), but looks at one.
    """
    older = f" AND number < {before:d}" if before is not None else ""
    of_state = f" AND state IN ({places(states)})" if states else ""
    sql = (
        "SELECT number, body FROM videos"  # noqa: S608 - our own names
        f" WHERE gateway = ?{of_state}{older} AND merged_into IS NULL ORDER BY number DESC LIMIT {most + 1:d}"
    )
    numbers: list[int] = []
    not_below: int | None = None
    looked_at = 0
    for number, body in db.execute(sql, [name_of(account), *states]):
        if looked_at and (looked_at == most or len(numbers) == limit or monotonic() >= ends_at):
            not_below = number + 1
            break
        looked_at += 1
        if (request := body_of(body)) is None or mentions(request):  # what cannot be read may hold it
            numbers.append(number)
    entries = list(listed(db, f"number IN ({places(numbers)})", numbers, len(numbers))) if numbers else []
    return entries, looked_at, not_below


def totals(db: Database, account: Account) -> Totals:
    """What an account's rows add up to. See Ledger.totals."""
    of_state = db.execute(_OWN_TOTALS, [name_of(account)]).fetchall()
    in_money = db.execute(_OWN_MONEY, [name_of(account)]).fetchall()
    groups: list[Group] = [(state, None, videos, share, 0, unpriced) for state, videos, share, unpriced in of_state]
    for state, currency, billionths, also_relative, not_relative in in_money:
        groups.append((state, currency, 0, -also_relative, int(billionths), -not_relative))
    of_others = db.execute(_TOTALS_ELSEWHERE, [name_of(account), account.owner])
    return totals_of(groups, {Account(*of): videos for *of, videos in of_others if videos})


Group = tuple[State, str | None, int, float, int, int]
"""What some rows add up to: their state, the currency (None: none), how many, the sum of relative costs, that in the
currency in billionths, and how many have no cost."""


def totals_of(groups: Iterable[Group], elsewhere: dict[Account, int]) -> Totals:
    """The totals of an account, from groups of its rows."""
    counts, relative = dict[State, int](), dict[State, float]()
    money, unpriced = dict[State, list[Cost]](), 0
    for state, currency, videos, share, billionths, without_cost in groups:
        counts[state] = counts.get(state, 0) + videos
        relative[state] = relative.get(state, 0.0) + share
        unpriced += 0 if state == "rejected" else without_cost
        if currency is not None:
            money.setdefault(state, []).append(Cost(billionths, currency))
    costs = {state: [relative_sum(share), *money.get(state, ())] for state, share in relative.items()}
    uncertain = total(costs.pop("unknown", ()))
    spent = total(cost for state, each in costs.items() if state != "rejected" for cost in each)
    return Totals(counts, spent, uncertain, unpriced, elsewhere)


_OWN_TOTALS = (
    f"SELECT state, count(*), {RELATIVE}, count(*) - count(cost) FROM videos"  # noqa: S608 - ours
    " WHERE gateway = ? AND merged_into IS NULL GROUP BY state"
)
_OWN_MONEY = (
    f"SELECT state, {CURRENCY}, {MONEY}, {RELATIVE}, count(*) - count(cost)"  # noqa: S608 - ours
    " FROM videos WHERE gateway = ? AND coalesce(stated, estimate) IS NOT NULL AND merged_into IS NULL GROUP BY 1, 2"
)
_TOTALS_ELSEWHERE = (
    "WITH RECURSIVE names (name) AS ("
    "SELECT min(gateway) FROM videos"
    " UNION ALL SELECT (SELECT min(gateway) FROM videos WHERE gateway > name) FROM names WHERE name IS NOT NULL"
    ") SELECT address, key_fingerprint, owner,"
    " (SELECT count(*) FROM videos AS theirs WHERE theirs.gateway = name AND theirs.merged_into IS NULL)"
    " FROM names JOIN videos ON number = (SELECT max(number) FROM videos WHERE gateway = name)"
    " WHERE name != ? AND owner = ?"
)


def usage(db: Database, owner: str | None, by: Sequence[UsageKey], since: float) -> list[Usage]:
    """What an owner's rows, or everybody's, add up to, in groups. See Ledger.usage."""
    keys = ", ".join(db.day_of("created_at") if key == "day" else key for key in by)
    theirs, values = ("TRUE", []) if owner is None else ("owner = ?", [owner])
    sql = (
        f"SELECT {keys}, state = 'unknown', {CURRENCY}, count(*), {RELATIVE}, {MONEY},"  # noqa: S608 - ours
        f" sum(CASE WHEN cost IS NULL AND {CURRENCY} IS NULL THEN 1 ELSE 0 END)"
        f" FROM videos WHERE {theirs} AND created_at >= ? AND state != 'rejected' AND merged_into IS NULL"
        f" GROUP BY {', '.join(str(number + 1) for number in range(len(by) + 2))}"
    )
    groups: dict[tuple[str | None, ...], list[Row]] = {}
    for row in db.execute(sql, [*values, since]):
        groups.setdefault(tuple(row[: len(by)]), []).append(row[len(by) :])
    return [_usage(of, parts) for of, parts in groups.items()]


def _usage(of: tuple[str | None, ...], parts: Sequence[Sequence[Any]]) -> Usage:
    """One group, of rows of whether the outcome is unknown, the currency, a count, sums, and a count without a cost."""
    videos, costs, unpriced = {False: 0, True: 0}, {False: list[Cost](), True: list[Cost]()}, 0
    for is_unknown, currency, count, relative, money, without_cost in parts:
        videos[bool(is_unknown)] += count
        costs[bool(is_unknown)].append(relative_sum(relative) if currency is None else Cost(int(money), currency))
        unpriced += 0 if is_unknown else without_cost
    spent, uncertain = ([cost for cost in total(costs[each]) if cost.billionths] for each in (False, True))
    return Usage(of, videos[False], tuple(spent), unpriced, videos[True], tuple(uncertain))


def durations(db: Database, account: Account, limit: int) -> list[float]:
    """Seconds from the submission to the success of the newest videos. See Ledger.durations."""
    success = "SELECT min(at) FROM history AS h WHERE h.request_id = videos.request_id AND h.state = 'succeeded'"
    sql = (
        f"SELECT ({success}) - created_at FROM videos WHERE gateway = ? AND state = 'succeeded'"  # noqa: S608 - ours
        f" AND merged_into IS NULL ORDER BY number DESC LIMIT {limit:d}"
    )
    return [float(row[0]) for row in db.execute(sql, [name_of(account)]) if isinstance(row[0], int | float)]


# --- what is looked after in the background ---

_SUCCEEDED = "created_at > ? AND state || '' = 'succeeded'"
_ADDRESSES = "EXISTS (SELECT 1 FROM generations AS g WHERE g.request_id = videos.request_id AND g.url IS NOT NULL"
_SINCE = (
    "EXISTS (SELECT 1 FROM history AS h WHERE h.request_id = videos.request_id AND h.state = 'succeeded' AND at > ?)"
)


def unsaved(db: Database, whose: Account | Team, now: float, limit: int) -> list[Entry]:
    """Rows of the last 24 hours that succeeded and have a variant with an address and without a file."""
    theirs, values = rows_of(whose)
    where = f"{theirs} AND {_SUCCEEDED} AND {_ADDRESSES} AND g.file IS NULL)"
    return _readable(db, where, [*values, now - DAY_S], limit)


def without_address(db: Database, whose: Account | Team, now: float, limit: int) -> list[Entry]:
    """Rows that succeeded within the last hour, after a day at most, and have no variant with an address."""
    theirs, values = rows_of(whose)
    where = f"{theirs} AND {_SUCCEEDED} AND NOT {_ADDRESSES}) AND {_SINCE}"
    return _readable(db, where, [*values, now - DAY_S - HOUR_S, now - HOUR_S], limit)


def under_way(db: Database, whose: Account | Team, now: float, limit: int) -> list[Entry]:
    """Rows whose task the gateway has not finished, newest first; of a team's the newest of each account, then the
    second of each, of the last 24 hours: nobody's many keep another's from being followed."""
    theirs, values = rows_of(whose)
    if isinstance(whose, Team):
        where = f"{theirs} AND state || '' IN ({places(UNDER_WAY)}) AND created_at > ?"
        return _readable(db, where, [*values, *UNDER_WAY, now - DAY_S], limit, order=_IN_TURN)
    by_state = [_readable(db, f"{theirs} AND state = ?", [*values, state], limit) for state in UNDER_WAY]
    return sorted((entry for rows in by_state for entry in rows), key=lambda e: -e.number)[:limit]


_IN_TURN = "row_number() OVER (PARTITION BY gateway ORDER BY number DESC), number DESC"


def _readable(db: Database, where: str, values: Sequence[object], limit: int, order: str = NEWEST) -> list[Entry]:
    """Rows as `select` gives them, but for those that cannot be read."""
    readable: list[Entry] = []
    seen = 0
    while len(readable) < limit and (more := list(listed(db, where, values, limit, order=order, offset=seen))):
        readable += (entry for entry in more if not entry.is_damaged)
        seen += len(more)
        if len(more) < limit:
            break
    return readable[:limit]
