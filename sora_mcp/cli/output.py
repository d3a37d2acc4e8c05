"""How every command ends: errors are reported once, as text or as one JSON object, and in the exit code."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from sora_mcp.cli.command_lines import command
from sora_mcp.cli.confirmation import ask_yes_no, can_ask
from sora_mcp.cli.terminal import can_encode_json, wrap_text
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import OUTCOME_SENTENCES, FileProblem, InvalidInput, NotConfigured, Outcome, SoraError

DONE, USAGE, FAILED, UNKNOWN, INTERRUPTED = 0, 2, 3, 4, 130
_CLICK_BROKEN_PIPE_STATUS = 1
"""click exits with this status if the reader of stdout has closed it; none of our commands uses it."""


def confirm(question: str, *, non_interactive_hint: str, not_done: str, as_json: bool) -> None:
    """Ask for confirmation at the terminal. Unless the user agrees, print `not_done` and end the command.

    Raise UsageError if the user cannot be asked.
    """
    if as_json or not can_ask():
        raise click.UsageError(f"There is nobody to ask here: {non_interactive_hint} {not_done}")
    if not ask_yes_no(question):
        click.echo(not_done, err=True)
        raise SystemExit(INTERRUPTED)


def run_command(command: Callable[[], object], *, as_json: bool, paid: bool, dry_run: bool) -> int:
    """Run a command and return its exit code; report what it raises without a traceback.

    `dry_run`: of a paid command, which then submits nothing.
    """
    may_have_submitted = paid and not dry_run
    try:
        try:
            return _run_to_end(command)
        except click.ClickException as error:
            report_error(_usage_error(error), as_json=as_json, paid=paid, show=error.show)
            return USAGE if isinstance(error, click.UsageError) else FAILED
        except SoraError as error:
            report_error(error, as_json=as_json, paid=paid)
            return USAGE if isinstance(error, InvalidInput | NotConfigured) else FAILED
        except (click.Abort, KeyboardInterrupt):
            outcome: Outcome = "unknown" if may_have_submitted else "not_submitted"
            report_interrupted(None, as_json=as_json, outcome=outcome if paid else None)
            return INTERRUPTED
    except OSError as error:
        if error.filename is not None:
            report_error(FileProblem(f"{error.filename}: {error.strerror}."), as_json=as_json, paid=paid)
        else:
            _report_lost_output(error, paid=may_have_submitted)
        return UNKNOWN if may_have_submitted else FAILED


def _run_to_end(command: Callable[[], object]) -> int:
    try:
        status = command()
    except SystemExit as error:
        status = error.code
        if status == _CLICK_BROKEN_PIPE_STATUS:
            raise BrokenPipeError from None
    if sys.stdout is not None:
        sys.stdout.flush()
    return status if isinstance(status, int) else DONE


def report_error(error: SoraError, *, as_json: bool, paid: bool, show: Callable[[], None] | None = None) -> None:
    """Report an error: as one JSON object on stdout, or as text on stderr (by `show`, if there is one)."""
    if as_json:
        from sora_mcp.cli.wording import FOR_SHELL  # noqa: PLC0415 - it loads everything
        from sora_mcp.tools import error_result  # noqa: PLC0415

        print_json(error_result(error, paid=paid, wording=FOR_SHELL).structured)
    elif show is not None:
        show()
        if paid:
            click.echo(OUTCOME_SENTENCES["not_submitted"], err=True)
    else:
        from sora_mcp.cli.wording import FOR_SHELL  # noqa: PLC0415

        submitted = OUTCOME_SENTENCES[error.outcome] if paid and error.outcome else ""
        print_error(" ".join(filter(None, [FOR_SHELL.message(error.parts), submitted, FOR_SHELL.next_step(error)])))


def _usage_error(error: click.ClickException) -> SoraError:
    usage_error = InvalidInput([])
    names = _command_path(error) if isinstance(error, click.UsageError) else []
    usage_error.parts, usage_error.advice = (error.format_message(),), (Do(f"See `{command(*names, '--help')}`."),)
    return usage_error


def _command_path(error: click.UsageError) -> list[str]:
    """Return the names of the command that was misused; empty for the program itself."""
    names: list[str] = []
    context = error.ctx
    while context is not None and context.parent is not None:
        names.insert(0, context.info_name or "")
        context = context.parent
    return names


_INTERRUPTED: dict[Outcome | None, str] = {
    None: "Interrupted.",
    "not_submitted": "Interrupted. Nothing was submitted and nothing was charged.",
    "rejected": "Interrupted. The gateway refused it; no video was created.",
    "unknown": "Interrupted. If it was already being sent it may have been charged.",
}


def report_interrupted(
    video_id: str | None, *, as_json: bool, outcome: Outcome | None = None, resume: Sequence[str] | None = None
) -> None:
    """Report what became of a command that was interrupted by Ctrl-C or a signal.

    `outcome` is that of a paid call, `video_id` the video of the call or the wait, `resume` the command that continues
    with it, if that is not `get ID --wait`.
    """
    if (video_id or resume) and outcome in {None, "accepted"}:
        subject = f"{video_id} goes on" if video_id else "they go on"
        message = f"Stopped waiting; {subject}."
        next_step = f"Come back with: {command(*(resume or ('get', video_id or '', '--wait')))}"
    else:
        message, next_step = _INTERRUPTED[outcome], _inspection_step(video_id, outcome)
    if not as_json:
        click.echo(f"\n{wrap_text(f'{message} {next_step}'.rstrip(), sys.stderr)}", err=True)
        return
    fields: dict[str, Any] = {"outcome": outcome} if outcome else {}
    ids = {"request_id" if video_id.startswith("req_") else "task_id": video_id} if video_id else {}
    error = {"kind": "interrupted", "message": message, "next_step": next_step}
    print_json(fields | ids | {"error": error | {"retryable": outcome in {None, "not_submitted"}}})


def _inspection_step(video_id: str | None, outcome: Outcome | None) -> str:
    """Return the sentence with the command that shows what became of a request that was or may have been sent."""
    if outcome not in {"unknown", "rejected"}:
        return ""
    if video_id is None:
        return f"See whether it is there: {command('list')}"
    return f"See what became of {video_id}: {command('get', video_id, '--wait')}"


def _report_lost_output(error: OSError, *, paid: bool) -> None:
    """Report that stdout cannot be written to, and redirect it so that Python does not write to it at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if isinstance(error, BrokenPipeError):  # the reader has stopped reading, as `head` does
        return
    advice = " See what was submitted: sora-mcp list" if paid else ""
    click.echo(f"sora-mcp: not all of it could be written: {error.strerror}.{advice}", err=True)


def print_error(message: str) -> None:
    """Print an error on stderr."""
    click.echo(wrap_text(f"sora-mcp: {message}", sys.stderr), err=True)


def print_json(data: dict[str, Any]) -> None:
    """Print one JSON object on stdout."""
    click.echo(format_json(data))


def format_json(data: dict[str, Any]) -> str:
    """Format JSON for stdout: in ASCII if its encoding cannot hold the text."""
    text = json.dumps(data, indent=2, ensure_ascii=False)
    return text if can_encode_json(text) else json.dumps(data, indent=2)
