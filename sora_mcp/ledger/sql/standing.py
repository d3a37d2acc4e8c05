"""What was asked for and spent before an intent: what the policy looks at. Queries are asked first and read then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sora_mcp.core.accounts import Account, Person, Team
from sora_mcp.core.cost import Cost, Unit, total
from sora_mcp.core.records import Entry, Intent, readable, shown_id
from sora_mcp.core.spending import WINDOW_S, Earlier, OpenVideo, Spending, SpendingPolicy, Standing
from sora_mcp.core.states import OPEN, REFUSED
from sora_mcp.core.tasks import State
from sora_mcp.ledger.sql.database import Database, Row
from sora_mcp.ledger.sql.rows import SIBLING, directly, places, rows_of, select


def standing(db: Database, intent: Intent, policy: SpendingPolicy, now: float) -> Standing:
    """What the policy has to know before an intent is recorded; what it does not ask for is not looked up."""
    same: Callable[[], tuple[Earlier, ...]] = _same(db, intent) if policy.has_duplicates else tuple
    own: Callable[[], Spending] = Spending
    team: Callable[[], Spending] = Spending
    since = now - WINDOW_S
    if policy.has_caps:
        whose = intent.account if policy.team is None else intent.account.person
        own = spending_of(db, whose, since, intent.settles)
    if policy.has_team_caps:
        team = spending_of(db, Team(intent.account.address), since, intent.settles)
    return Standing(now, same(), own(), team())


def _same(db: Database, intent: Intent) -> Callable[[], tuple[Earlier, ...]]:
    states = (*OPEN, "succeeded")
    success = "SELECT max(at) FROM history AS h WHERE h.request_id = videos.request_id AND h.state = 'succeeded'"
    sql = (
        f"SELECT request_id, state, created_at, ({success}) FROM videos"  # noqa: S608 - our own names
        f" WHERE {_SAME} AND state || '' IN ({places(states)}) AND {_not_settled(intent.settles)}"
        " AND merged_into IS NULL ORDER BY number DESC"
    )
    values = [*_same_values(intent), *states, *intent.settles]
    asked = db.execute(sql, values)

    def read() -> tuple[Earlier, ...]:
        same = tuple(_earlier(*row) for row in asked)
        if intent.line is None:
            return same
        keys, of = intent.line.keys, "SELECT key FROM batch_lines WHERE request_id = ?"
        return tuple(each for each in same if keys.isdisjoint(key for (key,) in db.execute(of, [each.request_id])))

    return read


def _not_settled(request_ids: Sequence[str]) -> str:
    """Leaves out those of these requests whose outcome is unknown: somebody says that they did not run."""
    return f"NOT (state || '' = 'unknown' AND request_id IN ({places(request_ids)}))" if request_ids else "TRUE"


def _earlier(request_id: str, state: State, created_at: float, succeeded_at: float | None) -> Earlier:
    with readable(request_id):
        return Earlier(request_id, state, float(created_at), None if succeeded_at is None else float(succeeded_at))


def refused_before(db: Database, intent: Intent, since: float) -> Entry | None:
    """The newest row of after `since` that asks for the same thing and came to nothing."""
    where = f"{_SAME} AND state || '' IN ({places(REFUSED)}) AND created_at + 0 > ?"
    entries = select(db, where, [*_same_values(intent), *REFUSED, since])
    return entries[0] if entries else None


_SAME = f"(fingerprint IN (?, ?) OR sent_fingerprint = ?) AND {SIBLING}"


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
    costs: dict[bool, list[Cost]] = {False: [], True: []}
    calls, priced = 0, dict[Unit, int]()
    for is_unknown, currency, relative, money, submitted, with_figure, number, *shown in groups:
        cost = relative_sum(relative) if currency is None else Cost(int(money), currency)
        costs[bool(is_unknown)].append(cost)
        calls += submitted
        priced[cost.unit] = priced.get(cost.unit, 0) + with_figure
        if number is not None:
            open_rows.append((number, *shown))
    open_videos = (OpenVideo(shown_id(*row[1:3]), row[3]) for row in sorted(open_rows, reverse=True))
    return Spending(total(costs[False]), total(costs[True]), tuple(open_videos), calls, priced)


_IF_OPEN = f"CASE WHEN state || '' IN ({', '.join(map(repr, map(str, OPEN)))}) THEN number END"
"""The number of a row whose task may still run: each is a group of its own; NULL for the others."""


CURRENCY = "CASE WHEN stated IS NOT NULL THEN stated_currency WHEN estimate IS NOT NULL THEN currency END"
"""What a row's cost is in, by the gateway's own figure where there is one; NULL where it is relative, or not known."""


MONEY = "sum(CASE WHEN coalesce(stated, estimate) > 0 THEN coalesce(stated, estimate) ELSE 0 END)"
"""The sum of what is in a currency, in billionths; grouped by `CURRENCY`."""


RELATIVE = "coalesce(sum(cost), 0.0)"
"""The sum of relative costs."""


def relative_sum(amount: float) -> Cost:
    """A sum of relative costs; those have few decimals, so that it is rounded to what it is."""
    return Cost.of(round(max(amount, 0), 6))
