"""Inspects a database for its administrator, without changing anything in it."""

from __future__ import annotations

from contextlib import closing

import psycopg
from msgspec import Struct

from sora_mcp.ledger.postgres import migrations
from sora_mcp.ledger.postgres.connection import Connection
from sora_mcp.ledger.postgres.connections import Connections
from sora_mcp.ledger.postgres.errors import Unsuitable, problem_from

_QUERY = (
    "SELECT current_setting('server_version'),"
    " current_setting('transaction_read_only') = 'on', pg_is_in_recovery(),"
    " to_regclass('ledger_schema') IS NOT NULL, to_regclass('videos') IS NOT NULL,"
    " has_schema_privilege(current_schema(), 'CREATE'),"
    " current_setting('synchronous_standby_names') != ''"
)
_MAY_WRITE = (
    "SELECT has_table_privilege('videos', 'SELECT') AND has_table_privilege('videos', 'INSERT')"
    " AND has_table_privilege('videos', 'UPDATE') AND has_table_privilege('history', 'INSERT')"
)


class Inspection(Struct, frozen=True):
    """A database that is suitable for the ledger."""

    version: str
    """PostgreSQL's version, such as `15.14`."""
    schema: int | None
    """How many steps were applied to its schema; None before the first video."""
    is_copied: bool
    """Every commit waits for another copy."""


def inspect(url: str) -> Inspection:
    """Inspect the database at `url`. Raises FileProblem if it cannot be reached or is unsuitable."""
    try:
        with closing(Connections(url, lambda _: None).connect()) as connection:
            return _inspect(connection)
    except psycopg.Error as error:
        raise problem_from(error) from None


def _inspect(connection: Connection) -> Inspection:
    ((version, is_read_only, is_follower, has_schema, has_videos, may_create, is_copied),) = connection.run(_QUERY)
    if is_follower:
        raise Unsuitable("it is a standby", "give the address of the primary")
    if is_read_only:
        raise Unsuitable("it is read-only", "let its user write (default_transaction_read_only)")
    versions = connection.run("SELECT version FROM ledger_schema") if has_schema else []
    if has_videos and not has_schema:
        raise Unsuitable("it holds a table videos of something else", "make a database of its own")
    if has_videos and not versions:
        raise Unsuitable("its table ledger_schema is empty", "restore the database from a backup")
    migrations.check_schema_is_visible(connection)
    if not (connection.run(_MAY_WRITE)[0][0] if has_schema else may_create):
        raise Unsuitable("its user may not write there", "let that user own the database")
    return Inspection(version.split()[0], versions[0][0] if versions else None, is_copied)
