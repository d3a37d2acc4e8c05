"""`sora-mcp ledger new`: start a new ledger and move the old one's files aside."""

from __future__ import annotations

import click

from sora_mcp.cli.output import confirm, print_json
from sora_mcp.config.settings import Settings
from sora_mcp.config.spelling import variable_of
from sora_mcp.ledger.sqlite.renewal import set_aside


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
