"""What can be done with a ledger in PostgreSQL beside using it. Loads what speaks to it only then."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sora_mcp.config.converters import Secret
from sora_mcp.core.advice import AskUser, Setting
from sora_mcp.core.errors import FileProblem

if TYPE_CHECKING:
    from sora_mcp.ledger.postgres.copying import Copy
    from sora_mcp.ledger.postgres.looking import Look


@contextmanager
def extra_needed() -> Iterator[None]:
    """Raise FileProblem where what is imported inside is not installed."""
    try:
        yield
    except ImportError:
        message = ("The ledger is in PostgreSQL (", Setting("ledger_url"), "), and what speaks to it is not installed.")
        raise FileProblem(message, AskUser("install this server with its extra `postgres`")) from None


def place_of(url: Secret) -> str:
    """Where the database is, without user and password. Raises FileProblem where the address cannot be read."""
    with extra_needed():
        from sora_mcp.ledger.postgres import place  # noqa: PLC0415
    return place.place_of(url.get_secret_value())


def look_at(url: Secret) -> Look:
    """What the database is, without a change to it. Raises FileProblem where it cannot be reached or is not suited."""
    with extra_needed():
        from sora_mcp.ledger.postgres import looking  # noqa: PLC0415
    return looking.look_at(url.get_secret_value())


def copy_ledger(path: Path, url: Secret, *, is_dry_run: bool = False, again: bool = False) -> Copy:
    """Copy the ledger in the file at `path` into the database at `url`. See `postgres.copying.copy_ledger`."""
    with extra_needed():
        from sora_mcp.ledger.postgres import copying  # noqa: PLC0415
    return copying.copy_ledger(path, url.get_secret_value(), is_dry_run=is_dry_run, again=again)
