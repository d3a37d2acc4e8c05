"""A row of the ledger, and how it is read. Loads nothing heavy."""

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
from sora_mcp.ledger.protocol import SEARCHED, RowGone
from sora_mcp.ledger.sql.database import Database, Row


def name_of(account: Account) -> str:
    """An account as one text, the column `gateway`: earlier releases and the indexes look for it. It is written and
    compared, and never cut apart again."""
    key = f"#{account.key_fingerprint}" if account.key_fingerprint else ""
    return f"{account.address}{key}" + (f"@{account.owner}" if account.owner else "")


def rows_of(whose: Account | Person | Team) -> tuple[str, list[str]]:
    """A condition for the rows of an account, a person or a team, and its values. The indexes begin with `gateway`."""
    if isinstance(whose, Account):
        return "gateway = ?", [name_of(whose)]
    beyond = f"{whose.address}\U0010ffff"
    theirs, values = f"gateway IN ({_NAMES}) AND address = ?", [whose.address, beyond, whose.address]
    return (f"{theirs} AND owner = ?", [*values, whose.owner]) if isinstance(whose, Person) else (theirs, values)


def directly(whose: Account | Person | Team) -> tuple[str, list[str]]:
    """The same where the rows are few: no index is to be walked for it."""
    match whose:
        case Account():
            return "gateway || '' = ?", [name_of(whose)]
        case Person():
            return SIBLING, [whose.address, whose.owner]
        case Team():
            return "address = ?", [whose.address]


_NAMES = (
    "WITH RECURSIVE names (name) AS ("
    "SELECT min(gateway) FROM videos WHERE gateway >= ?"
    " UNION ALL SELECT (SELECT min(gateway) FROM videos WHERE gateway > name) FROM names WHERE name < ?"
    ") SELECT name FROM names WHERE name IS NOT NULL"
)
"""The names of all accounts from one address on: each is one look at an index, however many rows it has."""


def words_of(intent: Intent | Entry) -> dict[str, str | None]:
    """In which words an intent is sent, and what was adjusted for that, as columns."""
    adjusted = [{name: value for name, value in asdict(each).items() if value is not None} for each in intent.adjusted]
    return {"dialect": intent.dialect, "adjusted": json.dumps(adjusted) if adjusted else None}


def cost_of(cost: Cost | None) -> dict[str, str | float | None]:
    """An estimate as columns. What earlier releases read is relative: a currency stands in columns of its own."""
    if cost is None or cost.is_relative:
        return {"cost": None if cost is None else cost.amount}
    return {"estimate": cost.billionths, "currency": cost.unit}


def columns_of(account: Account) -> dict[str, str]:
    """An account as columns."""
    return {"gateway": name_of(account), **{name: getattr(account, name) for name in _ACCOUNT}}


def salt_of(db: Database) -> bytes | None:
    """The salt of a ledger, None where it has none yet."""
    row = db.execute("SELECT value FROM salt").fetchone()
    return None if row is None else bytes(row[0])


def sending(db: Database) -> list[tuple[str, str | None, float]]:
    """The rows that are being sent, as request id, writer, and the unix second in which they were begun."""
    sql = "SELECT request_id, writer, updated_at FROM videos WHERE state = 'sending'"
    return [(row[0], row[1], row[2]) for row in db.execute(sql)]


def newest_change(db: Database) -> int:
    """The number of the newest change of a state; 0 where nothing was recorded yet. It never falls."""
    return int(db.execute("SELECT coalesce(max(number), 0) FROM history").fetchone()[0])


def of_request(db: Database, request_id: str) -> Entry:
    """The row of a `req_…` id, or the one it was merged into; nobody else changes it meanwhile. Raises RowGone."""
    answer = db.execute(_sql(db, "request_id = ?", 1), [request_id])
    variants = variants_of(db, "?", [request_id])
    if (row := answer.fetchone()) is None:
        raise RowGone(request_id)
    entry = entry_of(row, variants(), db.folder)
    return of_request(db, entry.merged_into) if entry.merged_into else entry


def of_request_if_free(db: Database, request_id: str) -> Entry | None:
    """The same, but None while somebody else changes it."""
    answer = db.execute(_sql(db, "request_id = ?", 1, lock=db.if_free), [request_id])
    variants = variants_of(db, "?", [request_id])
    rows = answer.fetchall()
    if not rows:
        return None
    entry = entry_of(rows[0], variants(), db.folder)
    return of_request_if_free(db, entry.merged_into) if entry.merged_into else entry


OF_TASK = "task_id = ? AND gateway || '' = ?"
"""A condition for the row of a task at the gateway of an account, by the names of both."""


def of_task(db: Database, account: Account, task_id: str) -> Entry | None:
    """The row of a `task_…` id at this gateway, whatever key it was made with."""
    entries = select(db, OF_TASK, [task_id, name_of(account)])
    entries = entries or select(db, f"task_id = ? AND {SIBLING}", [task_id, account.address, account.owner])
    return entries[0] if entries else None


def find(db: Database, account: Account, video_id: str) -> Entry | None:
    """The row of a `task_…` or `req_…` id at this gateway, whatever key it was made with."""
    if not video_id.startswith("req_"):
        return of_task(db, account, video_id)
    sql = "SELECT address, key_fingerprint, owner FROM videos WHERE request_id = ?"
    owner = db.execute(sql, [video_id]).fetchone()
    if owner is not None and Account(*owner).shares_requests_with(account):  # of another's not even its damage is told
        return of_request(db, video_id)
    return of_task(db, account, video_id)  # some gateways name their tasks so, too


MOST_IDS = 50
"""Ids with the same beginning that are put in order; of more, it is the newest of these. Of whoever's ids, SEARCHED are
looked at."""


def ids_beginning_with(db: Database, account: Account, text: str, limit: int) -> list[str]:
    """The ids of tasks (or of requests, where `text` begins as those do) that begin with `text`. See Ledger."""
    column = "request_id" if text.startswith("req_") else "task_id"
    sql = (
        "SELECT id FROM (SELECT id, number FROM"  # noqa: S608 - our own names
        f" (SELECT {column} AS id, number, address, owner, merged_into FROM videos"
        f" WHERE {column} >= ? AND {column} < ? ORDER BY {column} LIMIT {SEARCHED}) AS alike"
        f" WHERE {SIBLING} AND merged_into IS NULL LIMIT ?) AS ids ORDER BY number DESC LIMIT ?"
    )
    values = [text, f"{text}\U0010ffff", account.address, account.owner, MOST_IDS, limit]
    return [str(row[0]) for row in db.execute(sql, values)]


def of_generation(db: Database, account: Account, generation_id: str) -> Entry | None:
    """The row of a `gen_…` id of this account."""
    entries = select(db, f"gateway || '' = ? AND {_OF_GENERATION}", [name_of(account), generation_id])
    return entries[0] if entries else None


def is_of_another_owner(db: Database, account: Account, shown_id: str) -> bool:
    """Whether a `task_…` or `gen_…` id stands here under the same gateway and key, but another owner.

    Whoever asked about a task has not made it: such rows do not count.
    """
    sql = (
        "SELECT 1 FROM videos WHERE address = ? AND key_fingerprint = ? AND owner != ? AND fingerprint IS NOT NULL"  # noqa: S608
        " AND number IN (SELECT number FROM videos WHERE task_id = ?"
        f" UNION SELECT number FROM videos WHERE {_OF_GENERATION}) LIMIT 1"
    )
    values = [account.address, account.key_fingerprint, account.owner, shown_id, shown_id]
    return db.execute(sql, values).fetchone() is not None


_OF_GENERATION = "request_id IN (SELECT request_id FROM generations WHERE generation_id = ?)"
SIBLING = "address = ? AND owner = ?"
"""Rows of the same gateway and owner, whatever key."""


def page(
    db: Database, account: Account, *, limit: int, before: str | None = None, states: Sequence[State] = ()
) -> list[Entry]:
    """Rows, newest first. See Ledger.page. One that cannot be read is there as damaged."""
    older = older_than(db, account, before)
    if not states:
        return list(listed(db, f"gateway = ?{older}", [name_of(account)], limit))
    where, values = newest_in(account, states, limit, older)
    return list(listed(db, where, values, limit))


def older_than(db: Database, account: Account, request_id: str | None) -> str:
    """A further condition for the rows before that of a request; none for None. Raises NotFound."""
    if request_id is None:
        return ""
    sql = "SELECT number FROM videos WHERE request_id = ? AND gateway = ?"
    row = db.execute(sql, [request_id, name_of(account)]).fetchone()
    if row is None:
        raise NotFound("There is no such request.")
    return f" AND number < {row[0]:d}"


def newest_in(account: Account, states: Sequence[State], most: int, older: str = "") -> tuple[str, list[str]]:
    """A condition for the newest rows of an account in each of these states, so many of each at most, and its values.
    An index gives those of one state in order, however many rows stand in others."""
    of_state = (
        "SELECT number FROM (SELECT number FROM videos"  # noqa: S608 - our own names
        f" WHERE gateway = ? AND state = ?{older} AND merged_into IS NULL ORDER BY {NEWEST} LIMIT {most:d}) AS newest"
    )
    gateway = name_of(account)
    values = [value for state in states for value in (gateway, state)]
    return f"number IN ({' UNION ALL '.join([of_state] * len(states))})", values


def body_of(text: object) -> plans.Body | None:
    """A body, whatever stands there; None where that is none."""
    if text in _NO_BODY:
        return {}
    try:
        body = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


_NO_BODY = ("", "null")
"""How earlier releases wrote that a request is not known."""


def select(db: Database, where: str, values: Sequence[object], limit: int = 1) -> list[Entry]:
    """Rows, newest first, but for those that were merged into another."""
    where = f"({where}) AND merged_into IS NULL"
    answer = db.execute(_sql(db, where, limit), values)
    ids = f"SELECT request_id FROM videos WHERE {where} ORDER BY {NEWEST} LIMIT {limit:d}"  # noqa: S608 - our own names
    variants = variants_of(db, ids, values)
    rows = answer.fetchall()
    known = variants() if rows else {}
    return [entry_of(row, known, db.folder) for row in rows]


NEWEST = "number DESC"
"""The order in which rows are given, unless another is asked for."""


def listed(
    db: Database, where: str, values: Sequence[object], limit: int, *, order: str = NEWEST, offset: int = 0
) -> Iterator[Entry]:
    """Rows as `select` gives them, but for the first `offset`; one that cannot be read hides no other, and is there as
    damaged."""
    sql = _sql(db, f"({where}) AND merged_into IS NULL", limit, order=order, offset=offset)
    rows = db.execute(sql, values).fetchall()
    ids = _with_variants(rows)
    variants = variants_of(db, places(ids), ids)() if ids else {}
    for row in rows:
        yield _listed(db.folder, tuple(tuple(each.items()) for each in variants.get(_request_id(row), ())), *row)


@lru_cache(maxsize=256, typed=True)
def _listed(folder: Path, variants: tuple[tuple[tuple[str, Any], ...], ...], *row: Any) -> Entry:
    """A row of a list. The same rows are read each second, of many that are under way: most have not changed."""
    try:
        entry = entry_of(row, {_request_id(row): list(map(dict, variants))}, folder)
        summary(entry)
    except FileProblem:
        return _damaged(row)
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
    """The row of `request_id`, which a statement has inserted or updated, as it stands now. Its `variants` are read
    where they may have changed."""
    written = db.execute(f"{sql} RETURNING {COLUMNS}", values)
    read = variants_of(db, "?", [request_id]) if variants is None else dict
    (row,) = written.fetchall()
    entry = entry_of(row, read(), db.folder)
    return entry if variants is None else replace(entry, generations=variants[0], files=dict(variants[1]))


def is_known(db: Database, task_id: str) -> Callable[[], bool]:
    """What reads whether any row has this task; it is asked for now."""
    asked = db.execute("SELECT 1 FROM videos WHERE task_id = ?", [task_id])
    return lambda: asked.fetchone() is not None


def places(values: Sequence[object]) -> str:
    """A `?` for each value."""
    return ", ".join("?" * len(values))


def entry_of(row: Row, variants_by_id: Mapping[str, Sequence[Mapping[str, Any]]], folder: Path) -> Entry:
    """The entry of a row, as `COLUMNS` give it. Raises FileProblem for one that nobody here has written."""
    address, key_fingerprint, owner, *rest = row
    values = dict(zip(_FIELDS, rest, strict=True))
    request_id = values["request_id"]
    variants = variants_by_id.get(request_id, []) if values["task_id"] is not None else []
    with detect_damage(request_id):
        if values["state"] not in TRANSITIONS or not _TEXTS.isdisjoint(map(type, _numbers(values))):
            raise ValueError
        lists = {"sources": json.loads(values["sources"]), "other_ids": tuple(json.loads(values["other_ids"] or "[]"))}
        values |= {"cost": _cost(values), "stated": _money(values["stated"], values["stated_currency"])}
        del values["estimate"], values["currency"], values["stated_currency"]
        lists["adjusted"] = tuple(map(Adjustment.from_record, json.loads(values["adjusted"] or "[]")))
        if values["body"] in _NO_BODY:
            values["body"] = "{}"
        return Entry(
            **values | lists | {"body": json.loads(values["body"])},
            account=Account(address, key_fingerprint, owner),
            generations=tuple(Generation(**{name: v[name] for name in GENERATION}) for v in variants),
            files={v["variant"]: folder / v["file"] for v in variants if v["file"]},
        )


def _cost(values: dict[str, Any]) -> Cost | None:
    money = _money(values["estimate"], values["currency"])
    return Cost.of(values["cost"]) if money is None and values["cost"] is not None else money


def _money(billionths: int | None, currency: str | None) -> Cost | None:
    """An amount in a currency. Raises ValueError for what was not written here."""
    if billionths is None:
        return None
    if type(billionths) is not int or billionths < 0 or not isinstance(currency, str) or not currency.isupper():
        raise ValueError
    return Cost(billionths, currency)


def _damaged(row: Row) -> Entry:
    """What can be told of a row that somebody else has changed."""
    address, key_fingerprint, owner, *rest = row
    values = dict(zip(_FIELDS, rest, strict=True))
    nothing: dict[str, Any] = dict.fromkeys(_OF_ENTRY) | {
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


def variants_of(
    db: Database, request_ids: str, values: Sequence[object]
) -> Callable[[], Mapping[str, list[dict[str, Any]]]]:
    """What reads the variants of rows, by their request ids, which stand in SQL; they are asked for now."""
    names = (*GENERATION, "file")
    sql = (
        f"SELECT request_id, {', '.join(names)} FROM generations"  # noqa: S608 - our own names
        f" WHERE request_id IN ({request_ids}) ORDER BY request_id, variant"
    )
    asked = db.execute(sql, values)

    def read() -> Mapping[str, list[dict[str, Any]]]:
        variants: dict[str, list[dict[str, Any]]] = {}
        for request_id, *row in asked:
            variants.setdefault(request_id, []).append(dict(zip(names, row, strict=True)))
        return variants

    return read


def _with_variants(rows: Sequence[Row]) -> list[str]:
    """The request ids of those rows that have a task, and so perhaps variants."""
    return [_request_id(row) for row in rows if _task_id(row) is not None]


_numbers = itemgetter(
    *("cost", "progress", "created_at", "updated_at", "polled_at", "not_before", "failed_polls", "withheld"),
    *("missed_since", "settled_at", "estimate", "stated"),
)
_TEXTS = {str, bytes}
"""What SQLite would keep in a column of numbers, too."""

GENERATION = tuple(each.name for each in fields(Generation))
_ACCOUNT = tuple(each.name for each in fields(Account))
_OF_ENTRY = tuple(
    each.name for each in fields(Entry) if each.name not in {"account", "generations", "files", "is_damaged"}
)
_FIELDS = (*_OF_ENTRY, "estimate", "currency", "stated_currency")
_request_id, _task_id = (itemgetter(len(_ACCOUNT) + _FIELDS.index(name)) for name in ("request_id", "task_id"))
_OLD_NAMES = {"polled_at": "looked_at", "failed_polls": "misses"}
"""Columns that keep the name of earlier releases."""
COLUMNS = ", ".join(f"{_OLD_NAMES[name]} AS {name}" if name in _OLD_NAMES else name for name in (*_ACCOUNT, *_FIELDS))
"""Columns by their names: a newer release may have added others."""
