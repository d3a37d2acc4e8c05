"""The schema in PostgreSQL, as the steps that lead to it, and how a database is migrated.

Servers of two releases may share a database for a while: one is restarted after the other. A step that is compatible
with the release before it (another column or table) is applied at once. For any other, the newer server waits until
nothing is being sent, and from then on the older ones begin nothing: the table `ledger_schema` holds the oldest version
that may.
"""

from __future__ import annotations

from msgspec import Struct

from sora_mcp.core.advice import AskUser, Restart
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.postgres.connection import Connection, Transaction
from sora_mcp.ledger.postgres.counting import TABLES as COUNTS
from sora_mcp.ledger.postgres.errors import Unsuitable
from sora_mcp.ledger.sql.transactions import OlderRelease

MIGRATION_LOCK = 0x534F_5241_0001
"""An advisory lock: shared by transactions that write, exclusive for a migration."""
_STEP_TIMEOUT = "30min"
"""How long one statement of a step may take, on however many rows."""


_VERSIONS = "CREATE TABLE IF NOT EXISTS ledger_schema (version BIGINT NOT NULL, oldest BIGINT NOT NULL)"
_HIDDEN_SCHEMA = (
    "SELECT quote_ident(nspname) FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace"
    " WHERE relname = 'ledger_schema' AND relkind IN ('r', 'p') AND nspname NOT LIKE 'pg\\_%'"
    " AND to_regclass('ledger_schema') IS NULL LIMIT 1"
)


class Step(Struct, frozen=True):
    """One change of the schema. `is_compatible`: the release before it works with it."""

    script: str
    is_compatible: bool = True


STEPS = (
    Step(
        """
    CREATE TABLE videos (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        request_id TEXT COLLATE "C" NOT NULL UNIQUE,
        gateway TEXT COLLATE "C" NOT NULL,
        address TEXT COLLATE "C" NOT NULL,
        key_fingerprint TEXT COLLATE "C" NOT NULL,
        owner TEXT COLLATE "C" NOT NULL,
        task_id TEXT COLLATE "C",
        operation TEXT,
        state TEXT COLLATE "C" NOT NULL,
        body TEXT NOT NULL,
        sources TEXT NOT NULL,
        cost DOUBLE PRECISION,
        estimate BIGINT,
        currency TEXT,
        stated BIGINT,
        stated_currency TEXT,
        progress BIGINT,
        enhanced_prompt TEXT,
        failure_reason TEXT,
        failure_code TEXT,
        gateway_state TEXT,
        gateway_message TEXT,
        answer TEXT,
        other_ids TEXT,
        withheld BIGINT,
        merged_into TEXT COLLATE "C",
        dialect TEXT,
        adjusted TEXT,
        writer TEXT COLLATE "C",
        fingerprint TEXT COLLATE "C",
        sent_fingerprint TEXT COLLATE "C",
        created_at DOUBLE PRECISION NOT NULL,
        updated_at DOUBLE PRECISION NOT NULL,
        looked_at DOUBLE PRECISION,
        not_before DOUBLE PRECISION,
        missed_since DOUBLE PRECISION,
        settled_at DOUBLE PRECISION,
        misses BIGINT NOT NULL DEFAULT 0
    );
    CREATE INDEX videos_newest ON videos (gateway, number);
    CREATE INDEX videos_by_state ON videos (gateway, state, number);
    CREATE INDEX videos_day ON videos (gateway, created_at);
    CREATE INDEX videos_intent ON videos (fingerprint, number) WHERE fingerprint IS NOT NULL;
    CREATE INDEX videos_sent ON videos (sent_fingerprint) WHERE sent_fingerprint IS NOT NULL;
    CREATE INDEX videos_task_id ON videos (task_id) WHERE task_id IS NOT NULL;
    CREATE INDEX videos_sending ON videos (number) WHERE state = 'sending';
    CREATE TABLE generations (
        request_id TEXT COLLATE "C" NOT NULL,
        variant BIGINT NOT NULL,
        generation_id TEXT COLLATE "C",
        url TEXT,
        width BIGINT,
        height BIGINT,
        n_frames BIGINT,
        fps DOUBLE PRECISION,
        file TEXT COLLATE "C",
        PRIMARY KEY (request_id, variant)
    );
    CREATE INDEX generations_id ON generations (generation_id);
    CREATE INDEX generations_file ON generations (file) WHERE file IS NOT NULL;
    CREATE TABLE history (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        request_id TEXT COLLATE "C" NOT NULL,
        at DOUBLE PRECISION NOT NULL,
        state TEXT COLLATE "C" NOT NULL,
        task_id TEXT,
        reason TEXT
    );
    CREATE INDEX history_of ON history (request_id, number);
    CREATE TABLE batch_lines (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        address TEXT COLLATE "C" NOT NULL,
        owner TEXT COLLATE "C" NOT NULL,
        file TEXT NOT NULL,
        key TEXT COLLATE "C" NOT NULL,
        digest TEXT NOT NULL,
        request_id TEXT COLLATE "C" NOT NULL
    );
    CREATE INDEX batch_lines_key ON batch_lines (address, owner, key, number);
    CREATE INDEX batch_lines_request ON batch_lines (request_id);
    CREATE TABLE seal_keys (
        number BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        key BYTEA NOT NULL,
        made_at DOUBLE PRECISION NOT NULL
    );
    CREATE TABLE used_answers (answer_id TEXT COLLATE "C" PRIMARY KEY, kept_until DOUBLE PRECISION NOT NULL);
    CREATE INDEX used_answers_old ON used_answers (kept_until);
    CREATE TABLE salt (value BYTEA NOT NULL);
    CREATE TABLE documents (name TEXT COLLATE "C" PRIMARY KEY, content TEXT NOT NULL);
    """
        + COUNTS
    ),
)
"""Each is applied once, in order; `ledger_schema.version` counts those that were applied to a database."""


def migrate(connection: Connection, steps: tuple[Step, ...], living_senders: str) -> None:
    """Migrate the database; of several servers that start at once one does, and the others wait.

    `living_senders`: a query for requests that a living server is sending. Raises FileProblem for a newer ledger, and
    OlderRelease if the migration has to wait: not for long, since the older servers begin nothing more then.
    """
    if (schema := _version(connection)) is not None and schema[0] >= len(steps):
        _check_not_newer(schema, steps)
        return
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [MIGRATION_LOCK])
        connection.execute(f"SET LOCAL statement_timeout = '{_STEP_TIMEOUT}'".encode())
        check_schema_is_visible(connection)
        if _version(connection) is None:  # or a stale cache of this session: it is read again
            connection.execute(_VERSIONS)
        version, oldest = _version(connection) or (0, 0)
        _check_not_newer((version, oldest), steps)
        for step in steps[version:]:
            if not step.is_compatible:
                oldest = version + 1
                if Transaction(connection, to_write=True).execute(living_senders).fetchone():
                    break
            connection.execute(step.script.encode())
            version += 1
        connection.execute("DELETE FROM ledger_schema")
        connection.execute("INSERT INTO ledger_schema VALUES (%s, %s)", [version, oldest])
    if version < len(steps):
        raise OlderRelease("server")


def check_schema_is_visible(connection: Connection) -> None:
    """Raise Unsuitable if the tables are in a schema outside this user's search path: new ones beside them would know
    nothing of what was paid for."""
    if row := connection.execute(_HIDDEN_SCHEMA).fetchone():
        raise Unsuitable(
            f"its tables are in the schema {row[0]}, which the search_path of its user does not name",
            "name that schema there, or make a database of its own",
        )


def _version(connection: Connection) -> tuple[int, int] | None:
    """Return how many steps were applied to a database, and how many a server must know to begin anything in it."""
    row = connection.execute("SELECT to_regclass('ledger_schema') IS NOT NULL").fetchone()
    schema = connection.execute("SELECT version, oldest FROM ledger_schema").fetchone() if row and row[0] else None
    return None if schema is None else (int(schema[0]), int(schema[1]))


def _check_not_newer(schema: tuple[int, int], steps: tuple[Step, ...]) -> None:
    if schema[1] > len(steps):
        raise NewerRelease


class NewerRelease(FileProblem):
    """A newer release has taken over the ledger."""

    def __init__(self) -> None:
        super().__init__(
            "A newer release has taken over the ledger in PostgreSQL.", AskUser((Restart(), " with that release"))
        )
