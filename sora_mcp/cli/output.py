"""How every command ends: what went wrong is said once, in words or as one JSON object, and in the exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from sora_mcp.cli.asking import agreed, can_ask
from sora_mcp.cli.pasting import command
from sora_mcp.cli.terminal import fitted, holds_json
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import SUBMITTED, FileProblem, InvalidInput, NotConfigured, Outcome, SoraError

DONE, USAGE, FAILED, UNKNOWN, INTERRUPTED = 0, 2, 3, 4, 130
_CLICKS_BROKEN_PIPE = 1
"""With this click itself ends the process where nobody reads any more; no command of ours does."""


def confirm(question: str, *, if_nobody_is_there: str, nothing_done: str, as_json: bool) -> None:
    """Ask the person at the terminal. Unless they agree it says that `nothing_done`, and ends the command.

    Raises UsageError where nobody can be asked.
    """
    if as_json or not can_ask():
        raise click.UsageError(f"There is nobody to ask here: {if_nobody_is_there} {nothing_done}")
    if not agreed(question):
        click.echo(nothing_done, err=True)
        raise SystemExit(INTERRUPTED)


def status_of(command: Callable[[], object], *, as_json: bool, paid: bool) -> int:
    """Run a command to its very end and return its exit code; whatever it raises is said, without a traceback."""
    try:
        try:
            return _finished(command)
        except click.ClickException as error:
            tell(_misused(error), as_json=as_json, paid=paid, words=error.show)
            return USAGE if isinstance(error, click.UsageError) else FAILED
        except SoraError as error:
            tell(error, as_json=as_json, paid=paid)
            return USAGE if isinstance(error, InvalidInput | NotConfigured) else FAILED
        except (click.Abort, KeyboardInterrupt):
            interrupted(None, as_json=as_json, outcome="unknown" if paid else None)
            return INTERRUPTED
    except OSError as error:
        if error.filename is not None:
            tell(FileProblem(f"{error.filename}: {error.strerror}."), as_json=as_json, paid=paid)
        else:
            _say_unshown(error, paid=paid)
        return UNKNOWN if paid else FAILED


def _finished(command: Callable[[], object]) -> int:
    try:
        status = command()
    except SystemExit as ended:
        status = ended.code
        if status == _CLICKS_BROKEN_PIPE:
            raise BrokenPipeError from None
    if sys.stdout is not None:
        sys.stdout.flush()
    return status if isinstance(status, int) else DONE


def tell(error: SoraError, *, as_json: bool, paid: bool, words: Callable[[], None] | None = None) -> None:
    """Say what went wrong: as one object on stdout, or on stderr (in other `words`, perhaps)."""
    if as_json:
        from sora_mcp.cli.wording import FOR_SHELL  # noqa: PLC0415 - it loads everything
        from sora_mcp.tools import failed  # noqa: PLC0415

        print_json(failed(error, paid=paid, wording=FOR_SHELL).structured)
    elif words is not None:
        words()
    else:
        from sora_mcp.cli.wording import FOR_SHELL  # noqa: PLC0415

        submitted = SUBMITTED[error.outcome] if paid and error.outcome else ""
        say_wrong(" ".join(filter(None, [FOR_SHELL.message(error.parts), submitted, FOR_SHELL.next_step(error)])))


def _misused(error: click.ClickException) -> SoraError:
    misused = InvalidInput([])
    names = _command_of(error) if isinstance(error, click.UsageError) else []
    misused.parts, misused.advice = (error.format_message(),), (Do(f"See `{command(*names, '--help')}`."),)
    return misused


def _command_of(error: click.UsageError) -> list[str]:
    """The names of the command that was misused; none where it is the program itself."""
    names: list[str] = []
    context = error.ctx
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name or "")
        context = context.parent
    return names


_ENDED: dict[Outcome | None, str] = {
    None: "Interrupted.",
    "not_submitted": "Interrupted. Nothing was submitted and nothing was charged.",
    "rejected": "Interrupted. The gateway refused it; no video was created.",
    "unknown": "Interrupted. If it was already being sent it may have been charged.",
}


def interrupted(
    video_id: str | None, *, as_json: bool, outcome: Outcome | None = None, come_back: Sequence[str] | None = None
) -> None:
    """Say what a person should know who pressed Ctrl-C, or ended the command otherwise.

    `outcome` is that of a paid call, `video_id` what it or a wait was about, `come_back` the words of the command that
    goes on with it, where that is not `get ID --wait`.
    """
    if (video_id or come_back) and outcome in {None, "accepted"}:
        goes_on = f"{video_id} goes on" if video_id else "they go on"
        message = f"Stopped waiting; {goes_on}."
        next_step = f"Come back with: {command(*(come_back or ('get', video_id or '', '--wait')))}"
    else:
        message, next_step = _ENDED[outcome], _where_to_look(video_id, outcome)
    if not as_json:
        click.echo(f"\n{fitted(f'{message} {next_step}'.rstrip(), sys.stderr)}", err=True)
        return
    fields: dict[str, Any] = {"outcome": outcome} if outcome else {}
    about = {"request_id" if video_id.startswith("req_") else "task_id": video_id} if video_id else {}
    error = {"kind": "interrupted", "message": message, "next_step": next_step}
    print_json(fields | about | {"error": error | {"retryable": outcome in {None, "not_submitted"}}})


def _where_to_look(video_id: str | None, outcome: Outcome | None) -> str:
    """The command that shows what became of what was sent, or was perhaps."""
    if outcome not in {"unknown", "rejected"}:
        return ""
    if video_id is None:
        return f"See whether it is there: {command('list')}"
    return f"See what became of {video_id}: {command('get', video_id, '--wait')}"


def _say_unshown(error: OSError, *, paid: bool) -> None:
    """stdout takes no more: nothing is to be written to it when Python ends either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):  # a reader that has enough, such as head
        return
    advice = " See what was submitted: sora-mcp list" if paid else ""
    click.echo(f"sora-mcp: not all of it could be written: {error.strerror}.{advice}", err=True)


def say_wrong(words: str) -> None:
    """Say on stderr what went wrong."""
    click.echo(fitted(f"sora-mcp: {words}", sys.stderr), err=True)


def print_json(data: dict[str, Any]) -> None:
    """One JSON object on stdout."""
    click.echo(json_text(data))


def json_text(data: dict[str, Any]) -> str:
    """JSON as stdout can hold it: in ASCII where its encoding is not JSON's."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return text if holds_json(text) else json.dumps(data, indent=2)
