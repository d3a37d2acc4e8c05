"""`sora-mcp ledger new` and `ledger copy`: start a new ledger, or move the one of SORA_HOME into PostgreSQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sora_mcp.cli.output import confirm, print_json
from sora_mcp.config.settings import Settings
from sora_mcp.config.spelling import variable_of
from sora_mcp.ledger.opening import copy_ledger, describe_database
from sora_mcp.ledger.sqlite.renewal import set_aside

if TYPE_CHECKING:
    from sora_mcp.ledger.postgres.copying import Copy


def start_new_ledger(settings: Settings, *, yes: bool, as_json: bool) -> None:
    """Ask (unless `yes`), move the files and print what was done.

    Raise FileProblem if the ledger is in use or cannot be moved.
    """
    path = settings.ledger
    if settings.ledger_url is not None:
        name = variable_of("ledger_url")
        raise click.UsageError(
            f"The ledger is in PostgreSQL ({name}): there is no file to move aside. To start a new one, name an empty"
            f" database in {name}. Nothing was changed."
        )
    if not yes:
        confirm(
            f"This moves the files of {path} aside. Videos made so far are no longer listed, and the same request may"
            " be paid for again. Go on?",
            non_interactive_hint="add --yes.",
            not_done="Nothing was moved.",
            as_json=as_json,
        )
    folder, names = set_aside(path)
    if as_json:
        print_json({"ledger": str(path), "set_aside": None if folder is None else str(folder), "files": names})
    elif folder is None:
        click.echo(f"There is no ledger at {path}: the first video starts one.")
    else:
        click.echo(f"The old ledger is kept in {folder} ({', '.join(names)}). The next video starts a new one.")


def copy(settings: Settings, *, dry_run: bool, yes: bool, again: bool, as_json: bool) -> None:
    """Ask (unless `yes` or `dry_run`), copy and print what was done. Raise FileProblem if nothing was copied."""
    if settings.ledger_url is None:
        name = variable_of("ledger_url")
        raise click.UsageError(f"Set {name} to the database: postgresql://USER:PASSWORD@HOST:PORT/DATABASE.")
    database = describe_database(settings.ledger_url)
    if not yes and not dry_run:
        confirm(
            f"This copies {settings.ledger} to PostgreSQL ({database}). The file stays as it is and can be read, but"
            " nothing more is submitted from it. Go on?",
            non_interactive_hint="add --yes, or try it with --dry-run.",
            not_done="Nothing was copied.",
            as_json=as_json,
        )
    result = copy_ledger(settings.ledger, settings.ledger_url, is_dry_run=dry_run, again=again)
    if as_json:
        print_json(
            {"outcome": result.outcome, "ledger": str(settings.ledger), "database": database, "rows": result.rows}
        )
    else:
        click.echo(_describe(settings, database, result))


def _describe(settings: Settings, database: str, result: Copy) -> str:
    videos = result.rows["videos"]
    rows = f"{videos:,} video{'s' * (videos != 1)} and {sum(result.rows.values()) - videos:,} other rows"
    match result.outcome:
        case "could_be_copied":
            return f"{rows} were written to PostgreSQL ({database}), compared and taken back: they can be copied."
        case "copied_before":
            return f"PostgreSQL ({database}) holds all of {settings.ledger} already: {rows}. Nothing was copied."
    return (
        f"{rows} of {settings.ledger} were copied to PostgreSQL ({database}) and compared, one by one.\n"
        f"Start every server with this {variable_of('ledger_url')}: nothing more is submitted from the file."
    )
