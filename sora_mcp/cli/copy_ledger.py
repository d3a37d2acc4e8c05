"""`sora-mcp ledger copy`: the ledger of SORA_HOME, moved into a PostgreSQL database."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sora_mcp.cli.output import confirm, print_json
from sora_mcp.config.settings import Settings
from sora_mcp.config.spelling import variable_of
from sora_mcp.ledger.opening import copy_ledger, place_of

if TYPE_CHECKING:
    from sora_mcp.ledger.postgres.copying import Copy


def copy(settings: Settings, *, dry_run: bool, yes: bool, again: bool, as_json: bool) -> None:
    """Ask, unless `yes` or `dry_run`, and say what was done. Raises FileProblem, and nothing is copied then."""
    if settings.ledger_url is None:
        name = variable_of("ledger_url")
        raise click.UsageError(f"Set {name} to the database: postgresql://USER:PASSWORD@HOST:PORT/DATABASE.")
    place = place_of(settings.ledger_url)
    if not yes and not dry_run:
        confirm(
            f"This copies {settings.ledger} to PostgreSQL ({place}). The file stays as it is and can be read, but"
            " nothing more is submitted from it. Go on?",
            if_nobody_is_there="add --yes, or try it with --dry-run.",
            nothing_done="Nothing was copied.",
            as_json=as_json,
        )
    done = copy_ledger(settings.ledger, settings.ledger_url, is_dry_run=dry_run, again=again)
    if as_json:
        print_json({"outcome": done.outcome, "ledger": str(settings.ledger), "database": place, "rows": done.rows})
    else:
        click.echo(_words(settings, place, done))


def _words(settings: Settings, place: str, done: Copy) -> str:
    number = done.rows["videos"]
    what = f"{number:,} video{'s' * (number != 1)} and {sum(done.rows.values()) - number:,} other rows"
    match done.outcome:
        case "could_be_copied":
            return f"{what} were written to PostgreSQL ({place}), compared and taken back: they can be copied."
        case "copied_before":
            return f"PostgreSQL ({place}) holds all of {settings.ledger} already: {what}. Nothing was copied."
    return (
        f"{what} of {settings.ledger} were copied to PostgreSQL ({place}) and compared, one by one.\n"
        f"Start every server with this {variable_of('ledger_url')}: nothing more is submitted from the file."
    )
