"""What is read beside rows by themselves: a search in prompts, what rows add up to, how long videos took, what is
looked after in the background, and what a policy looks at before an intent is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any

from sora_mcp.core import plans
from sora_mcp.core.accounts import Account, Person, Team
from sora_mcp.core.cost import RELATIVE as NO_CURRENCY
from sora_mcp.core.cost import Cost, Unit, total
from sora_mcp.core.records import (
    DAY_S,
    HOUR_S,
    Entry,
    Intent,
    Usage,
    UsageKey,
    detect_damage,
)
from sora_mcp.core.spending import WINDOW_S, EarlierRequest, OpenVideo, Spending, SpendingContext, SpendingPolicy
from sora_mcp.core.states import OPEN, REFUSED
from sora_mcp.core.tasks import UNDER_WAY, State
from sora_mcp.ledger.sql.database import Database, Row
from sora_mcp.ledger.sql.rows import (
    NEWEST,
    SIBLING,
    body_of,
    directly,
    listed,
    name_of,
    newest_in,
    older_than,
    places,
    rows_of,
    select,
)

CURRENCY = "CASE WHEN stated IS NOT NULL THEN stated_currency WHEN estimate IS NOT NULL THEN currency END"
"""What a row's cost is in, by the gateway's own figure where there is one; NULL where it is relative, or not known."""


MONEY = "sum(CASE WHEN coalesce(stated, estimate) > 0 THEN coalesce(stated, estimate) ELSE 0 END)"
"""The sum of what is in a currency, in billionths; grouped by `CURRENCY`."""


RELATIVE = "coalesce(sum(cost), 0.0)"
"""The sum of relative costs."""


def relative_sum(amount: float) -> Cost:
    """A sum of relative costs; those have few decimals, so that it is rounded to what it is."""
    return Cost.of(round(max(amount, 0), 6))


def search(
    db: Database,
    account: Account,
    mentions: Callable[[plans.Body], bool],
    *,
    limit: int,
    before: str | None = None,
    states: Sequence[State] = (),
    most: int,
    ends_at: float,
) -> tuple[list[Entry], int, str | None]:
    """Rows that `mentions` finds, how many were looked at, and the request before which none was.

    It ends with `limit` found, `most` looked at, or the time `ends_at` (of the monotonic clock), but looks at one.
    """
    older = older_than(db, account, before)
    of_state = f" AND state IN ({places(states)})" if states else ""
    sql = (
        "SELECT number, request_id, body FROM videos"  # noqa: S608 - our own names
        f" WHERE gateway = ?{of_state}{older} AND merged_into IS NULL ORDER BY number DESC LIMIT {most + 1:d}"
    )
    numbers: list[int] = []
    last: str | None = None
    looked_at = 0
    for number, request_id, body in db.execute(sql, [name_of(account), *states]):
        if looked_at and (looked_at == most or len(numbers) == limit or monotonic() >= ends_at):
            break
        looked_at += 1
        last = request_id
        if (request := body_of(body)) is None or mentions(request):  # what cannot be read may hold it
            numbers.append(number)
    else:
        last = None  # there are no more
    entries = list(listed(db, f"number IN ({places(numbers)})", numbers, len(numbers))) if numbers else []
    return entries, looked_at, last


def usage(db: Database, owner: str | None, by: Sequence[UsageKey], since: float) -> list[Usage]:
    """What an owner's rows, or everybody's, add up to, in groups. See Ledger.usage."""
    keys = ", ".join(db.day_of("created_at") if key == "day" else key for key in by)
    whose, values = ("TRUE", []) if owner is None else ("owner = ?", [owner])
    sql = (
        f"SELECT {keys}, state = 'unknown', {CURRENCY}, count(*), {RELATIVE}, {MONEY},"  # noqa: S608 - ours
        f" sum(CASE WHEN cost IS NULL AND {CURRENCY} IS NULL THEN 1 ELSE 0 END)"
        f" FROM videos WHERE gateway IN (SELECT gateway FROM video_counts WHERE {whose}) AND {whose}"
        " AND created_at >= ? AND state || '' != 'rejected' AND merged_into IS NULL"
        f" GROUP BY {', '.join(str(number + 1) for number in range(len(by) + 2))}"
    )
    groups: dict[tuple[str | None, ...], list[Row]] = {}
    for row in db.execute(sql, [*values, *values, since]):
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
    return _readable(db, lambda _: (where, [*values, now - DAY_S]), limit)


def without_address(db: Database, whose: Account | Team, now: float, limit: int) -> list[Entry]:
    """Rows that succeeded within the last hour, after a day at most, and have no variant with an address."""
    theirs, values = rows_of(whose)
    where = f"{theirs} AND {_SUCCEEDED} AND NOT {_ADDRESSES}) AND {_SINCE}"
    return _readable(db, lambda _: (where, [*values, now - DAY_S - HOUR_S, now - HOUR_S]), limit)


def under_way(db: Database, whose: Account | Team, now: float, limit: int) -> list[Entry]:
    """Rows whose task the gateway has not finished, newest first; of a team's the newest of each account, then the
    second of each, of the last 24 hours: nobody's many keep another's from being followed."""
    if isinstance(whose, Account):
        return _readable(db, lambda most: newest_in(whose, UNDER_WAY, most), limit)
    theirs, values = rows_of(whose)
    where = f"{theirs} AND state || '' IN ({places(UNDER_WAY)}) AND created_at > ?"
    return _readable(db, lambda _: (where, [*values, *UNDER_WAY, now - DAY_S]), limit, order=_IN_TURN)


_IN_TURN = "row_number() OVER (PARTITION BY gateway ORDER BY number DESC), number DESC"


def _readable(
    db: Database, rows_among: Callable[[int], tuple[str, Sequence[object]]], limit: int, order: str = NEWEST
) -> list[Entry]:
    """Rows as `select` gives them, but for those that cannot be read. `rows_among`: a condition for the first so many,
    or for all, and its values."""
    readable: list[Entry] = []
    seen = 0
    while len(readable) < limit:
        where, values = rows_among(seen + limit)
        more = list(listed(db, where, values, limit, order=order, offset=seen))
        readable += (entry for entry in more if not entry.is_damaged)
        seen += len(more)
        if len(more) < limit:
            break
    return readable[:limit]


# --- what a policy looks at: asked for first, and read then ---


def standing(db: Database, intent: Intent, policy: SpendingPolicy, now: float) -> Callable[[], SpendingContext]:
    """What reads what the policy has to know before an intent is recorded; it is asked for now, but for what the policy
    does not need."""
    same: Callable[[], tuple[EarlierRequest, ...]] = _same(db, intent) if policy.has_duplicates else tuple
    own: Callable[[], Spending] = Spending
    team: Callable[[], Spending] = Spending
    since = now - WINDOW_S
    if policy.has_caps:
        whose = intent.account if policy.team is None else intent.account.person
        own = spending_of(db, whose, since, intent.settles)
    if policy.has_team_caps:
        team = spending_of(db, Team(intent.account.address), since, intent.settles)
    return lambda: SpendingContext(now, same(), own(), team())


def _same(db: Database, intent: Intent) -> Callable[[], tuple[EarlierRequest, ...]]:
    states = (*OPEN, "succeeded")
    success = "SELECT max(at) FROM history AS h WHERE h.request_id = videos.request_id AND h.state = 'succeeded'"
    sql = (
        f"SELECT request_id, state, created_at, ({success}) FROM videos"  # noqa: S608 - our own names
        f" WHERE {_SAME} AND state || '' IN ({places(states)}) AND {_not_settled(intent.settles)}"
        " AND merged_into IS NULL ORDER BY number DESC"
    )
    values = [*_same_values(intent), *states, *intent.settles]
    asked = db.execute(sql, values)

    def read() -> tuple[EarlierRequest, ...]:
        same = tuple(_earlier(*row) for row in asked)
        if intent.line is None:
            return same
        keys, of = intent.line.keys, "SELECT key FROM batch_lines WHERE request_id = ?"
        return tuple(each for each in same if keys.isdisjoint(key for (key,) in db.execute(of, [each.request_id])))

    return read


def _not_settled(request_ids: Sequence[str]) -> str:
    """Leaves out those of these requests whose outcome is unknown: somebody says that they did not run."""
    return f"NOT (state || '' = 'unknown' AND request_id IN ({places(request_ids)}))" if request_ids else "TRUE"


def _earlier(request_id: str, state: State, created_at: float, succeeded_at: float | None) -> EarlierRequest:
    with detect_damage(request_id):
        return EarlierRequest(
            request_id, state, float(created_at), None if succeeded_at is None else float(succeeded_at)
        )


def refused_before(db: Database, intent: Intent, since: float) -> Entry | None:
    """The newest row of after `since` that asks for the same thing and came to nothing."""
    where = f"{_SAME} AND state || '' IN ({places(REFUSED)}) AND created_at + 0 > ?"
    entries = select(db, where, [*_same_values(intent), *REFUSED, since])
    return entries[0] if entries else None


_SAME = (
    "number IN (SELECT number FROM videos WHERE fingerprint IN (?, ?)"  # noqa: S608 - our own names
    f" UNION SELECT number FROM videos WHERE sent_fingerprint = ?) AND {SIBLING}"
)
"""Of an OR over two indexes PostgreSQL would walk the whole table, where it makes no bitmaps."""


def _same_values(intent: Intent) -> list[str | None]:
    other = intent.other_fingerprint or intent.fingerprint
    return [intent.fingerprint, other, intent.sent_fingerprint, intent.account.address, intent.account.owner]


def spending_of(
    db: Database, whose: Account | Person | Team, since: float, settles: Sequence[str] = ()
) -> Callable[[], Spending]:
    """What reads what was spent since then, and may have been; it is asked for now. What is being sent counts whenever
    it was begun.

    Unknown ones that are about to be settled (`settles`) do not count.
    """
    (theirs, values), others = rows_of(whose), _not_settled(settles)
    sql = (
        f"SELECT state = 'unknown', {CURRENCY}, {RELATIVE}, {MONEY}, count(fingerprint),"  # noqa: S608
        " sum(CASE WHEN fingerprint IS NOT NULL AND (stated IS NOT NULL OR cost IS NOT NULL OR estimate > 0)"
        f" THEN 1 ELSE 0 END), {_IF_OPEN}, max(request_id), max(task_id), max(state)"
        f" FROM videos WHERE {theirs} AND created_at > ? AND state || '' != 'rejected' AND merged_into IS NULL"
        f" AND {others} GROUP BY 1, 2, {_IF_OPEN}"
    )
    groups = db.execute(sql, [*values, since, *settles])
    theirs, values = directly(whose)
    sql = (
        f"SELECT number, request_id, task_id, state FROM videos WHERE state = 'sending' AND {theirs}"  # noqa: S608
        " AND created_at + 0 <= ? AND merged_into IS NULL"
    )
    sending = db.execute(sql, [*values, since])
    return lambda: _spending(groups, sending)


def _spending(groups: Iterable[Row], sending: Iterable[Row]) -> Spending:
    open_rows = [tuple(row) for row in sending]
    amounts, calls, priced = dict[tuple[bool, Unit | None], float](), 0, dict[Unit, int]()
    for is_unknown, currency, relative, money, submitted, with_figure, number, *shown in groups:
        of = bool(is_unknown), currency
        amounts[of] = amounts.get(of, 0) + (relative if currency is None else int(money))
        calls += submitted
        priced[currency or NO_CURRENCY] = priced.get(currency or NO_CURRENCY, 0) + with_figure
        if number is not None:
            open_rows.append((number, *shown))
    costs: dict[bool, list[Cost]] = {False: [], True: []}
    for (is_unknown, currency), amount in amounts.items():
        costs[is_unknown].append(relative_sum(amount) if currency is None else Cost(int(amount), currency))
    open_rows.sort(reverse=True)
    open_videos = tuple(OpenVideo(request_id, state, task_id) for _, request_id, task_id, state in open_rows)
    return Spending(total(costs[False]), total(costs[True]), open_videos, calls, priced)


_IF_OPEN = f"CASE WHEN state || '' IN ({', '.join(map(repr, map(str, OPEN)))}) THEN number END"
"""The number of a row whose task may still run: each is a group of its own; NULL for the others."""
