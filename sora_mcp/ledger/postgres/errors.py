"""PostgreSQL's errors in our words: its own could say anything, and name more than an agent may know.

SQLSTATE codes: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import psycopg

from sora_mcp.core.advice import Advice, AskUser, Setting, TryAgain
from sora_mcp.core.errors import FileProblem
from sora_mcp.ledger.sql.transactions import LedgerBusy

NO_PERMISSION = "its user lacks a privilege: make that user the owner of the database"
_REASONS = {
    "23505": "a sequence is behind the rows of its table, so that it gave a number twice",
    "25006": "it is read-only",
    "3F000": "its user has no schema to create tables in: see search_path",
    "42501": NO_PERMISSION,
    "55000": "it is a standby, and is read-only",
    "53100": "the disk is full",
    "53300": "it has no free connection",
    "55P03": "another process has locked it",
    "57014": "it takes too long to answer",
}
_CLASS_REASONS = {
    "08": "the connection was lost",
    "53": "it has run out of a resource",
    "57": "it is starting up or shutting down",
}
_NOT_REACHED = "it cannot be reached"
_ALTERED_CODES = frozenset(("42P01", "42703", "42883", "42804", "42809", "42P10", "23502", "22001", "21000"))
"""A table, column or function is missing, or was changed."""
_NAME_TAKEN_CODES = frozenset(("42P07", "42710", "42723"))
"""Another table, index or function has that name."""


class Unavailable(LedgerBusy):
    """PostgreSQL cannot be reached now, or refuses; it may work later."""

    def __init__(self, reason: str, *advice: Advice) -> None:
        check = AskUser(("check ", Setting("ledger_url"), " and its database if that does not help"))
        super().__init__(f"The ledger in PostgreSQL cannot be used ({reason}).", *(advice or (TryAgain(30), check)))


class AccessRefused(Unavailable):
    """PostgreSQL refuses until a person changes the address or the database."""

    retryable = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason, AskUser(("correct ", Setting("ledger_url"), ", or what its database allows")))


_CONNECTION_REASONS = (
    (
        (
            " value: ",
            "bad value for",
            "invalid integer value",
            "definition of service",
            "channel binding required",
            "could not match",
            "configuration parameter",
            "command-line argument",
        ),
        "a parameter in its address has an invalid value",
        AccessRefused,
    ),
    (("not in hot standby", "is not read-only"), "it does not match target_session_attrs", AccessRefused),
    (("is read-only", "in hot standby"), "none of its servers accepts writes now", Unavailable),  # while it moves
    (("SSL connection has been closed", "SSL SYSCALL", "terminating connection"), _CLASS_REASONS["08"], Unavailable),
    (("too many", "slots"), "it has no free connection", Unavailable),
    (("password", "authentication", "role "), "it does not accept this user and password", AccessRefused),
    (("does not support SSL",), "it does not offer TLS, which sslmode requires", AccessRefused),
    (("certificate",), "a certificate cannot be verified, or was not accepted: see sslrootcert", AccessRefused),
    (("SSL", "TLS", "encryption", "pg_hba"), "it does not accept this user this way: see sslmode", AccessRefused),
    (("starting up", "shutting down", "not accepting", "recovery"), "it is starting up or shutting down", Unavailable),
    (("permission", "privilege"), "its user may not connect to that database", AccessRefused),
    (("does not exist",), "there is no such database", AccessRefused),
    (("resolve", "translate host"), "its host name cannot be resolved", Unavailable),
    (("timeout",), "it does not answer", Unavailable),
    (("FATAL",), "it refuses the connection: check its user, password, database and connection limit", Unavailable),
)
"""Texts of refused connections, in English since libpq gives no code, our words for them, and the error to raise."""


class Unsuitable(FileProblem):
    """The database, or the connection to it, is not one in which paid requests are safe."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(
            f"The ledger in PostgreSQL cannot be used: {reason}.",
            AskUser((remedy, " (setting ", Setting("ledger_url"), ")")),
        )


class Reverted(FileProblem):
    """The database lacks rows that were in it before."""

    def __init__(self) -> None:
        super().__init__(
            "The ledger in PostgreSQL was taken back to an earlier state: it was restored from a backup, or a copy has "
            "taken over that may lack the last requests.",
            AskUser(
                "compare the gateway's own log with the newest videos in the list, then restart every server; until "
                "then nothing is submitted"
            ),
        )


class Altered(FileProblem):
    """The tables are not those that a release has created."""

    def __init__(self) -> None:
        super().__init__(
            "The ledger in PostgreSQL was changed: a table or a part of one was dropped, renamed or altered, its user "
            "can no longer see it, or an empty database has taken its place.",
            AskUser("put back what is missing, or restore the database from a backup; until then nothing is submitted"),
        )


def problem_from(error: psycopg.Error) -> FileProblem:
    """Return the FileProblem for an error of PostgreSQL's."""
    code = error.sqlstate
    if not code:
        parts_of_error = str(error).partition("FATAL:")
        text = "".join(parts_of_error[1:]) or parts_of_error[0]
        matches = (
            error_type(reason)
            for parts, reason, error_type in _CONNECTION_REASONS
            if any(map(text.__contains__, parts))
        )
        return next(matches, Unavailable(_NOT_REACHED))
    if code in _ALTERED_CODES:
        return Altered()
    if code in _NAME_TAKEN_CODES:
        return AccessRefused("it contains tables of another program, or its table ledger_schema is missing")
    return Unavailable(_REASONS.get(code) or _CLASS_REASONS.get(code[:2]) or "it rejects what is written")


def is_transient(error: psycopg.Error) -> bool:
    """Return whether a transaction failed without effect because of a conflict, so that it may succeed at once."""
    return error.sqlstate in {"40001", "40P01"}


def is_connection_lost(error: psycopg.Error) -> bool:
    """Return whether the connection is lost, and with it, perhaps, the answer."""
    is_ended = error.diag.severity_nonlocalized in {"FATAL", "PANIC"}  # a commit that it met may be in the log
    return not error.sqlstate or error.sqlstate[:2] in {"08", "57"} or is_ended
