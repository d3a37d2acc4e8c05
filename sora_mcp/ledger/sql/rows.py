"""The ledger's rows, and how they are read. Imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from msgspec.structs import asdict, fields, replace

from sora_mcp.core import plans
from sora_mcp.core.accounts import Account, Person, Team
from sora_mcp.core.capabilities import Adjustment
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import FileProblem, NotFound
from sora_mcp.core.records import Entry, Intent, detect_damage, summary
from sora_mcp.core.states import TRANSITIONS
from sora_mcp.core.tasks import Generation, State
from sora_mcp.ledger.protocol import MAX_SEARCHED, RowMissing
from sora_mcp.ledger.sql.database import Database, Row


def gateway_key(account: Account) -> str:
    """Return an account as the column `gateway`, for earlier releases and the indexes: compared, but never parsed."""
    key = f"#{account.key_fingerprint}" if account.key_fingerprint else ""
    return f"{account.address}{key}" + (f"@{account.owner}" if account.owner else "")


def scope_condition(scope: Account | Person | Team) -> tuple[str, list[str]]:
    """Return a condition for the rows of `scope`, and its values. The indexes begin with `gateway`."""
    if isinstance(scope, Account):
        return "gateway = ?", [gateway_key(scope)]
    upper_bound = f"{scope.address}\U0010ffff"
    condition, values = f"gateway IN ({_GATEWAY_KEYS}) AND address = ?", [scope.address, upper_bound, scope.address]
    return (f"{condition} AND owner = ?", [*values, scope.owner]) if isinstance(scope, Person) else (condition, values)


def unindexed_scope_condition(scope: Account | Person | Team) -> tuple[str, list[str]]:
    """The same for few rows, written so that no index is walked for it."""
    match scope:
        case Account():
            return "gateway || '' = ?", [gateway_key(scope)]
        case Person():
            return SAME_OWNER, [scope.address, scope.owner]
        case Team():
            return "address = ?", [scope.address]


_GATEWAY_KEYS = (
    "WITH RECURSIVE names (name) AS ("
    "SELECT min(gateway) FROM videos WHERE gateway >= ?"
    " UNION ALL SELECT (SELECT min(gateway) FROM videos WHERE gateway > name) FROM names WHERE name < ?"
    ") SELECT name FROM names WHERE name IS NOT NULL"
)
"""The values of `gateway` of all accounts from one address on: one index lookup for each, however many its rows."""


def dialect_columns(intent: Intent | Entry) -> dict[str, str | None]:
    """Return the dialect in which an intent is sent, and what was adjusted for it, as columns."""
    adjusted = [{name: value for name, value in asdict(each).items() if value is not None} for each in intent.adjusted]
    return {"dialect": intent.dialect, "adjusted": json.dumps(adjusted) if adjusted else None}


def cost_columns(cost: Cost | None) -> dict[str, str | float | None]:
    """Return an estimate as columns. Earlier releases read a relative cost: a currency has columns of its own."""
    if cost is None or cost.is_relative:
        return {"cost": None if cost is None else cost.amount}
    return {"estimate": cost.billionths, "currency": cost.unit}


def account_columns(account: Account) -> dict[str, str]:
    """Return an account as columns."""
    return {"gateway": gateway_key(account), **{name: getattr(account, name) for name in _ACCOUNT_FIELDS}}


def read_salt(db: Database) -> bytes | None:
    """Return the salt of a ledger, or None if it has none yet."""
    row = db.execute("SELECT value FROM salt").fetchone()
    return None if row is None else bytes(row[0])


def find_sending(db: Database) -> list[tuple[str, str | None, float]]:
    """Return the rows that are being sent, as request id, writer, and the unix second in which they were begun."""
    sql = "SELECT request_id, writer, updated_at FROM videos WHERE state = 'sending'"
    return [(row[0], row[1], row[2]) for row in db.execute(sql)]


def newest_change(db: Database) -> int:
    """Return the number of the newest change of a state, 0 if nothing was recorded yet. It never falls."""
    return int(db.execute("SELECT coalesce(max(number), 0) FROM history").fetchone()[0])


def get_by_request(db: Database, request_id: str) -> Entry:
    """Return the row of a `req_…` id, or the one it was merged into, and lock it. Raises RowMissing."""
    answer = db.execute(_sql(db, "request_id = ?", 1), [request_id])
    variants = query_variants(db, "?", [request_id])
    if (row := answer.fetchone()) is None:
        raise RowMissing(request_id)
    entry = entry_from_row(row, variants(), db.folder)
    return get_by_request(db, entry.merged_into) if entry.merged_into else entry


def get_by_request_if_unlocked(db: Database, request_id: str) -> Entry | None:
    """The same, but None if another transaction has locked it."""
    answer = db.execute(_sql(db, "request_id = ?", 1, lock=db.skip_locked), [request_id])
    variants = query_variants(db, "?", [request_id])
    rows = answer.fetchall()
    if not rows:
        return None
    entry = entry_from_row(rows[0], variants(), db.folder)
    return get_by_request_if_unlocked(db, entry.merged_into) if entry.merged_into else entry


BY_TASK = "task_id = ? AND gateway || '' = ?"
"""A condition for the row of a task of an account; its values are the task id and the column `gateway`."""


def find_by_task(db: Database, account: Account, task_id: str) -> Entry | None:
    """Return the row of a `task_…` id at this gateway, made with any key, or None."""
    entries = select(db, BY_TASK, [task_id, gateway_key(account)])
    entries = entries or select(db, f"task_id = ? AND {SAME_OWNER}", [task_id, account.address, account.owner])
    return entries[0] if entries else None


def find(db: Database, account: Account, video_id: str) -> Entry | None:
    """Return the row of a `task_…` or `req_…` id at this gateway, made with any key, or None."""
    if not video_id.startswith("req_"):
        return find_by_task(db, account, video_id)
    sql = "SELECT address, key_fingerprint, owner FROM videos WHERE request_id = ?"
    owner = db.execute(sql, [video_id]).fetchone()
    if owner is not None and Account(*owner).shares_requests_with(account):  # of others not even damage is reported
        return get_by_request(db, video_id)
    return find_by_task(db, account, video_id)  # some gateways name their tasks so, too


MAX_IDS = 50
"""Ids with the same prefix that are put in order; of more, it is the newest of these. Of all owners' ids, MAX_SEARCHED
are examined."""


def find_ids_by_prefix(db: Database, account: Account, prefix: str, limit: int) -> list[str]:
    """Return the ids of tasks that begin with `prefix`, or of requests if it begins with `req_`. See Ledger."""
    column = "request_id" if prefix.startswith("req_") else "task_id"
    sql = (
        "SELECT id FROM (SELECT id, number FROM"  # noqa: S608 - our own names
        f" (SELECT {column} AS id, number, address, owner, merged_into FROM videos"
        f" WHERE {column} >= ? AND {column} < ? ORDER BY {column} LIMIT {MAX_SEARCHED}) AS alike"
        f" WHERE {SAME_OWNER} AND merged_into IS NULL LIMIT ?) AS ids ORDER BY number DESC LIMIT ?"
    )
    values = [prefix, f"{prefix}\U0010ffff", account.address, account.owner, MAX_IDS, limit]
    return [str(row[0]) for row in db.execute(sql, values)]


def find_by_generation(db: Database, account: Account, generation_id: str) -> Entry | None:
    """Return the row of a `gen_…` id of this account, or None."""
    entries = select(db, f"gateway || '' = ? AND {_BY_GENERATION}", [gateway_key(account), generation_id])
    return entries[0] if entries else None


def is_of_another_owner(db: Database, account: Account, shown_id: str) -> bool:
    """Return whether a `task_…` or `gen_…` id is recorded under the same gateway and key, but another owner.

    Rows of owners who only asked about a task, and have not created it, do not count.
    """
    sql = (
        "SELECT 1 FROM videos WHERE address = ? AND key_fingerprint = ? AND owner != ? AND fingerprint IS NOT NULL"  # noqa: S608
        " AND number IN (SELECT number FROM videos WHERE task_id = ?"
        f" UNION SELECT number FROM videos WHERE {_BY_GENERATION}) LIMIT 1"
    )
    values = [account.address, account.key_fingerprint, account.owner, shown_id, shown_id]
    return db.execute(sql, values).fetchone() is not None


_BY_GENERATION = "request_id IN (SELECT request_id FROM generations WHERE generation_id = ?)"
SAME_OWNER = "address = ? AND owner = ?"
"""A condition for rows of the same gateway and owner, made with any key."""


def page(
    db: Database, account: Account, *, limit: int, before: str | None = None, states: Sequence[State] = ()
) -> list[Entry]:
    """Return rows, newest first. See Ledger.page. One that cannot be read is returned as damaged."""
    older = older_than(db, account, before)
    if not states:
        return list(list_rows(db, f"gateway = ?{older}", [gateway_key(account)], limit))
    where, values = newest_in_states(account, states, limit, older)
    return list(list_rows(db, where, values, limit))


def older_than(db: Database, account: Account, request_id: str | None) -> str:
    """Return a further condition for the rows before that of a request, empty for None. Raises NotFound."""
    if request_id is None:
        return ""
    sql = "SELECT number FROM videos WHERE request_id = ? AND gateway = ?"
    row = db.execute(sql, [request_id, gateway_key(account)]).fetchone()
    if row is None:
        raise NotFound("There is no such request.")
    return f" AND number < {row[0]:d}"


def newest_in_states(account: Account, states: Sequence[State], limit: int, older: str = "") -> tuple[str, list[str]]:
    """Return a condition for the newest `limit` rows of an account in each of these states, and its values. An index
    gives those of one state in order, however many rows are in others."""
    state_query = (
        "SELECT number FROM (SELECT number FROM videos"  # noqa: S608 - our own names
        f" WHERE gateway = ? AND state = ?{older} AND merged_into IS NULL ORDER BY {NEWEST} LIMIT {limit:d}) AS newest"
    )
    gateway = gateway_key(account)
    values = [value for state in states for value in (gateway, state)]
    return f"number IN ({' UNION ALL '.join([state_query] * len(states))})", values


def parse_body(text: object) -> plans.Body | None:
    """Parse a column `body`. Returns None if it holds no body."""
    if text in _NO_BODY:
        return {}
    try:
        body = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


_NO_BODY = ("", "null")
"""What earlier releases wrote for a request that is not known."""


def select(db: Database, where: str, values: Sequence[object], limit: int = 1) -> list[Entry]:
    """Return rows, newest first, except those that were merged into another."""
    where = f"({where}) AND merged_into IS NULL"
    answer = db.execute(_sql(db, where, limit), values)
    ids = f"SELECT request_id FROM videos WHERE {where} ORDER BY {NEWEST} LIMIT {limit:d}"  # noqa: S608 - our own names
    variants = query_variants(db, ids, values)
    rows = answer.fetchall()
    known = variants() if rows else {}
    return [entry_from_row(row, known, db.folder) for row in rows]


NEWEST = "number DESC"
"""The default order of rows."""


def list_rows(
    db: Database, where: str, values: Sequence[object], limit: int, *, order: str = NEWEST, offset: int = 0
) -> Iterator[Entry]:
    """Return rows as `select` does, without the first `offset`; one that cannot be read hides no other, and is returned
    as damaged."""
    sql = _sql(db, f"({where}) AND merged_into IS NULL", limit, order=order, offset=offset)
    rows = db.execute(sql, values).fetchall()
    ids = _ids_with_tasks(rows)
    variants = query_variants(db, placeholders(ids), ids)() if ids else {}
    for row in rows:
        yield _cached_entry(db.folder, tuple(tuple(each.items()) for each in variants.get(_request_id(row), ())), *row)


@lru_cache(maxsize=256, typed=True)
def _cached_entry(folder: Path, variants: tuple[tuple[tuple[str, Any], ...], ...], *row: Any) -> Entry:
    """Return the entry of a row of a list. The rows under way are read each second, and most have not changed."""
    try:
        entry = entry_from_row(row, {_request_id(row): list(map(dict, variants))}, folder)
        summary(entry)
    except FileProblem:
        return _damaged_entry(row)
    return entry


def _sql(db: Database, where: str, limit: int, *, order: str = NEWEST, offset: int = 0, lock: str | None = None) -> str:
    query = f"SELECT {COLUMNS} FROM videos WHERE {where} ORDER BY {order}"  # noqa: S608 - our own names
    return f"{query} LIMIT {limit:d} OFFSET {offset:d}{db.for_update if lock is None else lock}"


Variants = tuple[tuple[Generation, ...], Mapping[int, Path]]
"""The variants of an entry, and their files."""
NO_VARIANTS: Variants = ((), {})


def write_row(
    db: Database, sql: str, values: Sequence[object], request_id: str, variants: Variants | None = None
) -> Entry:
    """Insert or update the row of `request_id`, and return its entry. `variants`: None to read them, as they may have
    changed."""
    written = db.execute(f"{sql} RETURNING {COLUMNS}", values)
    read = query_variants(db, "?", [request_id]) if variants is None else dict
    (row,) = written.fetchall()
    entry = entry_from_row(row, read(), db.folder)
    return entry if variants is None else replace(entry, generations=variants[0], files=dict(variants[1]))


def query_is_known(db: Database, task_id: str) -> Callable[[], bool]:
    """Query now whether any row has this task, and return a function that reads the answer."""
    cursor = db.execute("SELECT 1 FROM videos WHERE task_id = ?", [task_id])
    return lambda: cursor.fetchone() is not None


def placeholders(values: Sequence[object]) -> str:
    """Return a `?` for each value."""
    return ", ".join("?" * len(values))


def entry_from_row(row: Row, variants_by_id: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> Entry:
    """Return the entry of a row with the columns `COLUMNS`. Raises FileProblem for one that no release has written."""
    address, key_fingerprint, owner, *rest = row
    values = dict(zip(_FIELDS, rest, strict=True))
    request_id = values["request_id"]
    variants = variants_by_id.get(request_id, []) if values["task_id"] is not None else []
    with detect_damage(request_id):
        if values["state"] not in TRANSITIONS or not _TEXT_TYPES.isdisjoint(map(type, _numeric_values(values))):
            raise ValueError
        lists = {"sources": json.loads(values["sources"]), "other_ids": tuple(json.loads(values["other_ids"] or "[]"))}
        values |= {"cost": _cost_from(values), "stated": _money_from(values["stated"], values["stated_currency"])}
        del values["estimate"], values["currency"], values["stated_currency"]
        lists["adjusted"] = tuple(map(Adjustment.from_record, json.loads(values["adjusted"] or "[]")))
        if values["body"] in _NO_BODY:
            values["body"] = "{}"
        return Entry(
            **values | lists | {"body": json.loads(values["body"])},
            account=Account(address, key_fingerprint, owner),
            generations=tuple(Generation(**{name: v[name] for name in GENERATION_FIELDS}) for v in variants),
            files={v["variant"]: folder / v["file"] for v in variants if v["file"]},
        )


def _cost_from(values: dict[str, Any]) -> Cost | None:
    money = _money_from(values["estimate"], values["currency"])
    return Cost.of(values["cost"]) if money is None and values["cost"] is not None else money


def _money_from(billionths: int | None, currency: str | None) -> Cost | None:
    """Return an amount in a currency. Raises ValueError for what no release has written."""
    if billionths is None:
        return None
    if type(billionths) is not int or billionths < 0 or not isinstance(currency, str) or not currency.isupper():
        raise ValueError
    return Cost(billionths, currency)


def _damaged_entry(row: Row) -> Entry:
    """Return what can be read of a row that another program has changed."""
    address, key_fingerprint, owner, *rest = row
    values = dict(zip(_FIELDS, rest, strict=True))
    nothing: dict[str, Any] = dict.fromkeys(_ENTRY_FIELDS) | {
        "body": {},
        "sources": [],
        "created_at": 0.0,
        "updated_at": 0.0,
    }
    known = {name: values[name] for name in ("number", "request_id")}
    known["task_id"] = values["task_id"] if isinstance(values["task_id"], str) else None
    known["state"] = values["state"] if values["state"] in TRANSITIONS else "unknown"
    nothing |= {"failed_polls": 0, "other_ids": (), "adjusted": ()}
    return Entry(**nothing | known, account=Account(address, key_fingerprint, owner), is_damaged=True)


def query_variants(
    db: Database, request_ids: str, values: Sequence[object]
) -> Callable[[], Mapping[str, list[dict[str, Any]]]]:
    """Query now the variants of rows, and return a function that reads them by request id. `request_ids`: as SQL."""
    names = (*GENERATION_FIELDS, "file")
    sql = (
        f"SELECT request_id, {', '.join(names)} FROM generations"  # noqa: S608 - our own names
        f" WHERE request_id IN ({request_ids}) ORDER BY request_id, variant"
    )
    cursor = db.execute(sql, values)

    def read() -> Mapping[str, list[dict[str, Any]]]:
        variants: dict[str, list[dict[str, Any]]] = {}
        for request_id, *row in cursor:
            variants.setdefault(request_id, []).append(dict(zip(names, row, strict=True)))
        return variants

    return read


def _ids_with_tasks(rows: Sequence[Row]) -> list[str]:
    """Return the request ids of those rows that have a task, and so perhaps variants."""
    return [_request_id(row) for row in rows if _task_id(row) is not None]


_numeric_values = itemgetter(
    *("cost", "progress", "created_at", "updated_at", "polled_at", "not_before", "failed_polls", "withheld"),
    *("missed_since", "settled_at", "estimate", "stated"),
)
_TEXT_TYPES = {str, bytes}
"""Types that SQLite also stores in a column of numbers."""

GENERATION_FIELDS = tuple(each.name for each in fields(Generation))
_ACCOUNT_FIELDS = tuple(each.name for each in fields(Account))
_ENTRY_FIELDS = tuple(
    each.name for each in fields(Entry) if each.name not in {"account", "generations", "files", "is_damaged"}
)
_FIELDS = (*_ENTRY_FIELDS, "estimate", "currency", "stated_currency")
_request_id, _task_id = (itemgetter(len(_ACCOUNT_FIELDS) + _FIELDS.index(name)) for name in ("request_id", "task_id"))
_OLD_NAMES = {"polled_at": "looked_at", "failed_polls": "misses"}
"""Fields whose columns have the name of earlier releases."""
COLUMNS = ", ".join(f"{_OLD_NAMES[n]} AS {n}" if n in _OLD_NAMES else n for n in (*_ACCOUNT_FIELDS, *_FIELDS))
"""The columns by name: a newer release may have added others."""
