"""Queries beyond single rows: the search in prompts, sums, durations, the work of the background tasks, and what a
policy needs to know before an intent is recorded."""

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
    SAME_OWNER,
    gateway_key,
    list_rows,
    newest_in_states,
    older_than,
    parse_body,
    placeholders,
    scope_condition,
    select,
    unindexed_scope_condition,
)

CURRENCY = "CASE WHEN stated IS NOT NULL THEN stated_currency WHEN estimate IS NOT NULL THEN currency END"
"""The currency of a row's cost, from the gateway's own figure if there is one; NULL if it is relative or unknown."""


MONEY = "sum(CASE WHEN coalesce(stated, estimate) > 0 THEN coalesce(stated, estimate) ELSE 0 END)"
"""The sum of costs in a currency, in billionths; grouped by `CURRENCY`."""


RELATIVE = "coalesce(sum(cost), 0.0)"
"""The sum of relative costs."""


def relative_sum(amount: float) -> Cost:
    """Return a sum of relative costs, rounded to the few decimals that they have."""
    return Cost.of(round(max(amount, 0), 6))


def search(
    db: Database,
    account: Account,
    mentions: Callable[[plans.Body], bool],
    *,
    limit: int,
    before: str | None = None,
    states: Sequence[State] = (),
    max_searched: int,
    deadline: float,
) -> tuple[list[Entry], int, str | None]:
    """Return rows that `mentions` accepts, how many were examined, and the request before which none was.

    It ends with `limit` rows, `max_searched` examined, or at the `deadline` (of the monotonic clock), but examines at
    least one.
    """
    older = older_than(db, account, before)
    in_states = f" AND state IN ({placeholders(states)})" if states else ""
    sql = (
        "SELECT number, request_id, body FROM videos"  # noqa: S608 - our own names
        f" WHERE gateway = ?{in_states}{older} AND merged_into IS NULL ORDER BY number DESC LIMIT {max_searched + 1:d}"
    )
    numbers: list[int] = []
    last: str | None = None
    searched = 0
    for number, request_id, body in db.execute(sql, [gateway_key(account), *states]):
        if searched and (searched == max_searched or len(numbers) == limit or monotonic() >= deadline):
            break
        searched += 1
        last = request_id
        if (request := parse_body(body)) is None or mentions(request):  # an unreadable body may contain it
            numbers.append(number)
    else:
        last = None  # there are no more
    entries = list(list_rows(db, f"number IN ({placeholders(numbers)})", numbers, len(numbers))) if numbers else []
    return entries, searched, last


def usage(db: Database, owner: str | None, by: Sequence[UsageKey], since: float) -> list[Usage]:
    """Return the sums of an owner's rows, or of all rows, in groups. See Ledger.usage."""
    keys = ", ".join(db.day_of("created_at") if key == "day" else key for key in by)
    condition, values = ("TRUE", []) if owner is None else ("owner = ?", [owner])
    sql = (
        f"SELECT {keys}, state = 'unknown', {CURRENCY}, count(*), {RELATIVE}, {MONEY},"  # noqa: S608 - ours
        f" sum(CASE WHEN cost IS NULL AND {CURRENCY} IS NULL THEN 1 ELSE 0 END)"
        f" FROM videos WHERE gateway IN (SELECT gateway FROM video_counts WHERE {condition}) AND {condition}"
        " AND created_at >= ? AND state || '' != 'rejected' AND merged_into IS NULL"
        f" GROUP BY {', '.join(str(number + 1) for number in range(len(by) + 2))}"
    )
    groups: dict[tuple[str | None, ...], list[Row]] = {}
    for row in db.execute(sql, [*values, *values, since]):
        groups.setdefault(tuple(row[: len(by)]), []).append(row[len(by) :])
    return [_usage(key, parts) for key, parts in groups.items()]


def _usage(key: tuple[str | None, ...], parts: Sequence[Sequence[Any]]) -> Usage:
    """Return one group. Each of its rows says whether the outcome is unknown, the currency, a count, sums, and a count
    without a cost."""
    videos, costs, unpriced = {False: 0, True: 0}, {False: list[Cost](), True: list[Cost]()}, 0
    for is_unknown, currency, count, relative, money, without_cost in parts:
        videos[bool(is_unknown)] += count
        costs[bool(is_unknown)].append(relative_sum(relative) if currency is None else Cost(int(money), currency))
        unpriced += 0 if is_unknown else without_cost
    spent, uncertain = ([cost for cost in total(costs[each]) if cost.billionths] for each in (False, True))
    return Usage(key, videos[False], tuple(spent), unpriced, videos[True], tuple(uncertain))


def durations(db: Database, account: Account, limit: int) -> list[float]:
    """Return the seconds from submission to success of the newest videos. See Ledger.durations."""
    success = "SELECT min(at) FROM history AS h WHERE h.request_id = videos.request_id AND h.state = 'succeeded'"
    sql = (
        f"SELECT ({success}) - created_at FROM videos WHERE gateway = ? AND state = 'succeeded'"  # noqa: S608 - ours
        f" AND merged_into IS NULL ORDER BY number DESC LIMIT {limit:d}"
    )
    return [float(row[0]) for row in db.execute(sql, [gateway_key(account)]) if isinstance(row[0], int | float)]


# --- for the background tasks ---

_SUCCEEDED = "created_at > ? AND state || '' = 'succeeded'"
_HAS_ADDRESS = "EXISTS (SELECT 1 FROM generations AS g WHERE g.request_id = videos.request_id AND g.url IS NOT NULL"
_SUCCEEDED_SINCE = (
    "EXISTS (SELECT 1 FROM history AS h WHERE h.request_id = videos.request_id AND h.state = 'succeeded' AND at > ?)"
)


def unsaved(db: Database, scope: Account | Team, now: float, limit: int) -> list[Entry]:
    """Return rows of the last 24 hours that succeeded and have a variant with an address but without a file."""
    condition, values = scope_condition(scope)
    where = f"{condition} AND {_SUCCEEDED} AND {_HAS_ADDRESS} AND g.file IS NULL)"
    return _select_readable(db, lambda _: (where, [*values, now - DAY_S]), limit)


def without_address(db: Database, scope: Account | Team, now: float, limit: int) -> list[Entry]:
    """Return rows that succeeded within the last hour, after a day at most, and have no variant with an address."""
    condition, values = scope_condition(scope)
    where = f"{condition} AND {_SUCCEEDED} AND NOT {_HAS_ADDRESS}) AND {_SUCCEEDED_SINCE}"
    return _select_readable(db, lambda _: (where, [*values, now - DAY_S - HOUR_S, now - HOUR_S]), limit)


def under_way(db: Database, scope: Account | Team, now: float, limit: int) -> list[Entry]:
    """Return rows whose task the gateway has not finished, newest first; for a team the newest of each account of the
    last 24 hours, then the second of each, so that one account with many rows keeps no other from being followed."""
    if isinstance(scope, Account):
        return _select_readable(db, lambda count: newest_in_states(scope, UNDER_WAY, count), limit)
    condition, values = scope_condition(scope)
    where = f"{condition} AND state || '' IN ({placeholders(UNDER_WAY)}) AND created_at > ?"
    return _select_readable(db, lambda _: (where, [*values, *UNDER_WAY, now - DAY_S]), limit, order=_ROUND_ROBIN)


_ROUND_ROBIN = "row_number() OVER (PARTITION BY gateway ORDER BY number DESC), number DESC"


def _select_readable(
    db: Database, condition_for: Callable[[int], tuple[str, Sequence[object]]], limit: int, order: str = NEWEST
) -> list[Entry]:
    """Return rows as `select` does, except those that cannot be read. `condition_for`: returns a condition for the
    first so many rows, or for all, and its values."""
    readable: list[Entry] = []
    offset = 0
    while len(readable) < limit:
        where, values = condition_for(offset + limit)
        more = list(list_rows(db, where, values, limit, order=order, offset=offset))
        readable += (entry for entry in more if not entry.is_damaged)
        offset += len(more)
        if len(more) < limit:
            break
    return readable[:limit]


# --- for a policy: all queries are sent first, and read then ---


def query_standing(db: Database, intent: Intent, policy: SpendingPolicy, now: float) -> Callable[[], SpendingContext]:
    """Query now what the policy has to know before an intent is recorded, and nothing that it does not need; return a
    function that reads it."""
    same: Callable[[], tuple[EarlierRequest, ...]] = _query_same(db, intent) if policy.has_duplicates else tuple
    own: Callable[[], Spending] = Spending
    team: Callable[[], Spending] = Spending
    since = now - WINDOW_S
    if policy.has_caps:
        scope = intent.account if policy.team is None else intent.account.person
        own = query_spending(db, scope, since, intent.settles)
    if policy.has_team_caps:
        team = query_spending(db, Team(intent.account.address), since, intent.settles)
    return lambda: SpendingContext(now, same(), own(), team())


def _query_same(db: Database, intent: Intent) -> Callable[[], tuple[EarlierRequest, ...]]:
    states = (*OPEN, "succeeded")
    success = "SELECT max(at) FROM history AS h WHERE h.request_id = videos.request_id AND h.state = 'succeeded'"
    sql = (
        f"SELECT request_id, state, created_at, ({success}) FROM videos"  # noqa: S608 - our own names
        f" WHERE {_SAME_REQUEST} AND state || '' IN ({placeholders(states)}) AND {_not_settled(intent.settles)}"
        " AND merged_into IS NULL ORDER BY number DESC"
    )
    values = [*_same_request_values(intent), *states, *intent.settles]
    cursor = db.execute(sql, values)

    def read() -> tuple[EarlierRequest, ...]:
        same = tuple(_earlier(*row) for row in cursor)
        if intent.line is None:
            return same
        keys, sql = intent.line.keys, "SELECT key FROM batch_lines WHERE request_id = ?"
        return tuple(each for each in same if keys.isdisjoint(key for (key,) in db.execute(sql, [each.request_id])))

    return read


def _not_settled(request_ids: Sequence[str]) -> str:
    """Return a condition that leaves out those of these requests whose outcome is unknown: they are being settled."""
    return f"NOT (state || '' = 'unknown' AND request_id IN ({placeholders(request_ids)}))" if request_ids else "TRUE"


def _earlier(request_id: str, state: State, created_at: float, succeeded_at: float | None) -> EarlierRequest:
    with detect_damage(request_id):
        return EarlierRequest(
            request_id, state, float(created_at), None if succeeded_at is None else float(succeeded_at)
        )


def find_refused(db: Database, intent: Intent, since: float) -> Entry | None:
    """Return the newest row after `since` that asked for the same thing and came to nothing, or None."""
    where = f"{_SAME_REQUEST} AND state || '' IN ({placeholders(REFUSED)}) AND created_at + 0 > ?"
    entries = select(db, where, [*_same_request_values(intent), *REFUSED, since])
    return entries[0] if entries else None


_SAME_REQUEST = (
    "number IN (SELECT number FROM videos WHERE fingerprint IN (?, ?)"  # noqa: S608 - our own names
    f" UNION SELECT number FROM videos WHERE sent_fingerprint = ?) AND {SAME_OWNER}"
)
"""A UNION, since PostgreSQL, which makes no bitmaps here, would walk the whole table for an OR over two indexes."""


def _same_request_values(intent: Intent) -> list[str | None]:
    other = intent.other_fingerprint or intent.fingerprint
    return [intent.fingerprint, other, intent.sent_fingerprint, intent.account.address, intent.account.owner]


def query_spending(
    db: Database, scope: Account | Person | Team, since: float, settles: Sequence[str] = ()
) -> Callable[[], Spending]:
    """Query now what was, or may have been, spent after `since`, and return a function that reads it. Requests that are
    being sent count whenever they were begun; unknown ones that are about to be settled (`settles`) do not count.
    """
    (condition, values), others = scope_condition(scope), _not_settled(settles)
    sql = (
        f"SELECT state = 'unknown', {CURRENCY}, {RELATIVE}, {MONEY}, count(fingerprint),"  # noqa: S608
        " sum(CASE WHEN fingerprint IS NOT NULL AND (stated IS NOT NULL OR cost IS NOT NULL OR estimate > 0)"
        f" THEN 1 ELSE 0 END), {_IF_OPEN}, max(request_id), max(task_id), max(state)"
        f" FROM videos WHERE {condition} AND created_at > ? AND state || '' != 'rejected' AND merged_into IS NULL"
        f" AND {others} GROUP BY 1, 2, {_IF_OPEN}"
    )
    groups = db.execute(sql, [*values, since, *settles])
    condition, values = unindexed_scope_condition(scope)
    sql = (
        f"SELECT number, request_id, task_id, state FROM videos WHERE state = 'sending' AND {condition}"  # noqa: S608
        " AND created_at + 0 <= ? AND merged_into IS NULL"
    )
    sending = db.execute(sql, [*values, since])
    return lambda: _spending(groups, sending)


def _spending(groups: Iterable[Row], sending: Iterable[Row]) -> Spending:
    open_rows = [tuple(row) for row in sending]
    amounts, calls, priced = dict[tuple[bool, Unit | None], float](), 0, dict[Unit, int]()
    for is_unknown, currency, relative, money, submitted, with_figure, number, *shown in groups:
        group = bool(is_unknown), currency
        amounts[group] = amounts.get(group, 0) + (relative if currency is None else int(money))
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
"""The number of a row whose task may still run, so that each is a group of its own; NULL for the others."""
