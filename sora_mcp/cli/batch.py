"""`sora-mcp batch`: dry-run a file of requests as a whole, then send each line once, however often it is run."""

from __future__ import annotations

import dataclasses
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import anyio
import click
from msgspec import Struct, field
from msgspec.structs import replace

from sora_mcp import dialects, tools
from sora_mcp.cli.batch_files import BadLine, Request, read
from sora_mcp.cli.batch_lines import render_line
from sora_mcp.cli.batch_run import BatchRun, LineResult, PlannedLine, plan_lines
from sora_mcp.cli.command_lines import command
from sora_mcp.cli.confirmation import ask_yes_no, can_ask
from sora_mcp.cli.files import check_folder, write_file
from sora_mcp.cli.output import DONE, FAILED, INTERRUPTED, UNKNOWN, USAGE, print_error
from sora_mcp.cli.progress import Bar
from sora_mcp.cli.terminal import wrap_text
from sora_mcp.cli.wording import FOR_SHELL
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Do, SeeLog, Setting, WouldBeRefused
from sora_mcp.core.caps import OverCap
from sora_mcp.core.cost import Cost, describe_cost, total
from sora_mcp.core.errors import (
    OUTCOME_SENTENCES,
    FileProblem,
    InternalError,
    InvalidInput,
    Problem,
    SoraError,
)
from sora_mcp.core.results import Submission
from sora_mcp.core.tasks import quoted
from sora_mcp.runtime import signals
from sora_mcp.studio import Studio
from sora_mcp.studio.images import is_address

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_REPORTED_LINES = 20
"""Lines whose errors are printed; the others are only counted."""


class Options(Struct, frozen=True):
    """The options of `sora-mcp batch`."""

    file: str
    at_once: int
    dry_run: bool
    retry_failed: bool
    yes: bool
    out: Path | None
    download: Path | None

    def resume_command(self) -> str:
        """Return the command that continues the batch."""
        is_like_option = self.file.startswith("-") and self.file != "-"
        arguments = ["batch", f"./{self.file}" if is_like_option else self.file, "--at-once", str(self.at_once)]
        arguments += ["--retry-failed"] if self.retry_failed else []
        arguments += ["--out", str(self.out)] if self.out else []
        arguments += ["--download", str(self.download)] if self.download else []
        return command(*arguments)


class _Report(Struct):
    """The results of lines: printed at once, one a line, or written to a file at the end, in order."""

    out: Path | None
    bar: Bar
    total_lines: int
    lines: list[LineResult] = field(default_factory=list)

    def add(self, line: LineResult) -> None:
        self.lines.append(line)
        if self.out is None:
            click.echo(render_line(line))
        self.bar.update(len(self.lines) / self.total_lines, f"{len(self.lines)} of {self.total_lines} lines")

    def write(self) -> None:
        """Write the file atomically, if there is one. Raise FileProblem."""
        if self.out is not None:
            ordered = sorted(self.lines, key=lambda line: line["line"])
            text = "".join(f"{json.dumps(line)}\n" for line in ordered)
            write_file(self.out, text.encode(), Do("Run the same command again: nothing is sent twice."))


def run(settings: Settings, options: Options) -> int:
    """Run a batch and report the results of its lines; return the exit code. Raise SoraError."""
    _check_out(options)
    requests, bad_lines = read(options.file, dialects.configured(settings).capabilities)
    folder = Path.cwd() if options.file == "-" else Path(options.file).absolute().parent
    settings = dataclasses.replace(settings, image_dirs=(folder, Path.cwd(), *settings.image_dirs))
    if options.download is not None:
        if not options.dry_run:
            check_folder(options.download, Do("Name another folder with --download."))
        settings = dataclasses.replace(
            settings, output_dir=options.download.absolute(), videos_root=settings.output_dir
        )
    return _Batch(settings, options, requests, bad_lines).run()


class _Batch:
    """One call of `sora-mcp batch`: its lines are dry-run, the user is asked, and then they are sent."""

    def __init__(
        self, settings: Settings, options: Options, requests: Sequence[Request], unreadable: Sequence[BadLine]
    ) -> None:
        self._settings = settings
        self._options = options
        self._requests = requests
        self._unreadable = unreadable
        self._error: SoraError | OSError | None = None

    def run(self) -> int:
        """Run the batch and return the exit code. Raise SoraError, and OSError if stdout cannot be written to."""
        try:
            trial = self._run_async(self._dry_run_all)
        except SoraError:
            if self._unreadable:  # the error that stops the dry run is reported once these lines are corrected
                return _refuse(self._unreadable)
            raise
        if trial is None:
            click.echo("\nInterrupted. Nothing was submitted and nothing was charged.", err=True)
            return INTERRUPTED
        plans, bad_lines, costs, label, has_to_ask = trial
        if bad_lines:
            return _refuse(bad_lines)
        if self._options.dry_run:
            for plan in plans:
                click.echo(render_line(_dry_run_result(plan)))
            return DONE
        if has_to_ask and not self._options.yes and not _confirm(costs, label):
            click.echo(OUTCOME_SENTENCES["not_submitted"], err=True)
            return INTERRUPTED
        with Bar(hidden=self._options.out is None and sys.stdout.isatty()) as bar:
            report = _Report(self._options.out, bar, len(plans))
            try:
                batch_run = self._run_async(partial(self._send, plans, report))
            finally:
                report.write()
        if batch_run is None:
            click.echo(f"\n{self._interruption_message(len(report.lines))}", err=True)
            return INTERRUPTED
        return self._print_summary(batch_run, report.lines)

    def _run_async(self, work: Callable[[Studio], Awaitable[T]]) -> T | None:
        """Run `work` in a studio and return its result, or None after Ctrl-C or SIGTERM. Raise its error.

        A request that is being sent when the signal arrives is still sent.
        """
        result: T | None = None
        with suppress(KeyboardInterrupt):
            result = signals.run(self._until_signal, work)
        if self._error is not None:
            raise self._error
        return result

    async def _until_signal(self, work: Callable[[Studio], Awaitable[T]]) -> T | None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(signals.cancel_on, tasks.cancel_scope, signal.SIGTERM)
            result: T | None = None
            async with Studio.open(self._settings) as studio:
                try:
                    result = await work(studio)
                except SoraError as error:
                    self._error = error
            tasks.cancel_scope.cancel()
            return result
        return None

    async def _dry_run_all(self, studio: Studio) -> _Trial:
        """Dry-run all lines, check their total against the caps, and print on stderr what is about to be done."""
        known = await studio.lines([request.line.key for request in self._requests])
        plans = plan_lines(self._requests, known, retry_failed=self._options.retry_failed)
        with Bar(hidden=False) as bar:
            plans, refused = await _dry_run_lines(studio, plans, bar)
        bad_lines = sorted([*self._unreadable, *refused], key=lambda each: each.number)
        costs = [plan.cost for plan in plans if plan.is_pending and plan.duplicate_of is None]
        has_to_ask = not bad_lines and await studio.check_sum(costs)
        if not bad_lines:
            click.echo(wrap_text(_summary(plans, costs, studio.label, studio.notice), sys.stderr), err=True)
        return _Trial(plans, bad_lines, costs, studio.label, has_to_ask)

    async def _send(self, plans: Sequence[PlannedLine], report: _Report, studio: Studio) -> BatchRun | None:
        """Run all lines and return the run, or None if stdout can no longer be written to."""
        with anyio.CancelScope() as scope:

            def report_line(line: LineResult) -> None:
                try:
                    report.add(line)
                except OSError as error:
                    self._error = error
                    scope.cancel()

            batch_run = BatchRun(studio, report_line, download=self._options.download is not None)
            await batch_run.run(plans, self._options.at_once)
            return batch_run
        return None

    def _print_summary(self, batch_run: BatchRun, lines: Sequence[LineResult]) -> int:
        """Print on stderr what became of all lines; return the exit code."""
        states: dict[str, int] = {}
        for line in lines:
            states[line["state"]] = states.get(line["state"], 0) + 1
        counts = ", ".join(f"{n} {state}" for state, n in states.items())
        with_error = sum("error" in line for line in lines if line["state"] == "succeeded")
        counts += f" ({with_error} with an error)" if with_error else ""
        click.echo(f"{_format_count(len(lines))}: {counts}.", err=True)
        if batch_run.stop_reason is not None:
            print_error(f"Nothing more was sent: {batch_run.stop_reason}")
        if not states.keys().isdisjoint({"failed", "blocked", "lost", "rejected"}):
            retry_command = replace(self._options, retry_failed=True).resume_command()
            click.echo(f"To retry the lines that failed, run: {retry_command}", err=True)
        elif "not_submitted" in states:
            click.echo(f"To continue, run: {self._options.resume_command()}", err=True)
        if "unknown" in states:
            list_command = command("list", "--status", "unknown")
            click.echo(f"A video may exist for each unknown line. List them with: {list_command}", err=True)
            return UNKNOWN
        return DONE if states.keys() <= {"succeeded"} and not any("error" in line for line in lines) else FAILED

    def _interruption_message(self, finished: int) -> str:
        """Return the message for a user who pressed Ctrl-C."""
        return (
            f"Interrupted: {finished} of {_format_count(len(self._requests))} ended; what was sent goes on, and nothing"
            f" more is sent. To continue, run: {self._options.resume_command()}"
        )


class _Trial(NamedTuple):
    """The result of the dry run: the plans, the lines with errors, and the costs."""

    plans: list[PlannedLine]
    bad_lines: list[BadLine]
    costs: list[Cost | None]
    label: str
    has_to_ask: bool


async def _dry_run_lines(
    studio: Studio, plans: Iterable[PlannedLine], bar: Bar
) -> tuple[list[PlannedLine], list[BadLine]]:
    """Return the plans with the costs of their lines, and the lines that would be refused. Nothing is sent."""
    tried, bad_lines, plans = list[PlannedLine](), list[BadLine](), list(plans)
    claimed: set[str | None] = set()
    for number, plan in enumerate(plans):
        bar.update(number / len(plans), f"trying line {plan.request.number}")
        if not plan.is_pending:
            tried.append(plan)
            continue
        try:
            submission = await _dry_run(studio, plan.request)
        except SoraError as error:
            bad_lines.append(BadLine(plan.request.number, error))
        else:
            amount, unit = submission.cost, submission.unit
            cost = None if amount is None else Cost.of(amount, unit) if unit else Cost.of(amount)
            duplicate_of = None if submission.duplicate_of in claimed else submission.duplicate_of  # for one line each
            claimed.add(duplicate_of)
            tried.append(replace(plan, cost=cost, duplicate_of=duplicate_of))
    return tried, bad_lines


async def _dry_run(studio: Studio, request: Request) -> Submission:
    """Dry-run a line. Raise SoraError if it would be refused for any reason but other videos that are under way."""
    _check_files(request, studio.settings.image_dirs)
    caller = tools.Caller(wording=FOR_SHELL, board_format=None, line=request.line)
    arguments = request.arguments.model_copy(update={"dry_run": True})
    try:
        submission: Submission = await tools.TABLE[request.tool].run(studio, arguments, caller)
    except SoraError:
        raise
    except Exception:
        logger.exception("line %d failed unexpectedly", request.number)
        raise InternalError("Something failed unexpectedly.", SeeLog()) from None
    for note in submission.notes:
        if isinstance(note, WouldBeRefused) and not note.is_temporary:
            raise SoraError(note.message, *note.advice)
    return submission


def _check_files(request: Request, folders: Sequence[Path]) -> None:
    """Raise InvalidInput for an image that does not exist."""
    for number, item in enumerate(getattr(request.arguments, "inpaint_items", [])):
        path = item.url
        if path is not None and not is_address(path) and not any(_exists(folder / path) for folder in folders):
            name = quoted(path, 80)
            raise InvalidInput([Problem(f"inpaint_items[{number}].url", f"there is no file {name}")])


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _summary(plans: Sequence[PlannedLine], costs: Sequence[Cost | None], gateway: str, notice: str | None) -> str:
    """Return a sentence that says what is about to be done and what it costs, by unit."""
    sent_before = sum(not plan.is_pending for plan in plans)
    duplicates = sum(plan.duplicate_of is not None for plan in plans)
    parts = [f"{_format_count(len(plans))} for {gateway}", f"{sent_before} sent before" if sent_before else ""]
    hint = '(add "allow_duplicate": true to the line to pay for another)'
    parts += [f"{duplicates} already made by the same request {hint}" if duplicates else ""]
    parts += [f"{len(costs)} to send" + (f" for {_format_total(costs)}" if costs else "")]
    return f"{'; '.join(part for part in parts if part)}." + (f" {notice}" if notice and costs else "")


def _format_total(costs: Sequence[Cost | None]) -> str:
    known = [describe_cost(cost) for cost in total(cost for cost in costs if cost is not None)]
    unknown = sum(cost is None for cost in costs)
    return " and ".join([*known, *([f"an unknown cost of {_format_count(unknown)}"] if unknown else [])])


def _format_count(number: int, noun: str = "line") -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _dry_run_result(plan: PlannedLine) -> dict[str, Any]:
    """Return the result that `--dry-run` prints for a line."""
    line: dict[str, Any] = {"line": plan.request.number}
    line |= {} if plan.request.name is None else {"name": plan.request.name}
    if not plan.is_pending and plan.known is not None:
        entry = plan.known.entry
        return line | {"state": entry.state, "task_id": entry.task_id, "request_id": entry.request_id}
    line |= {"state": "not_submitted"}
    line |= {} if plan.duplicate_of is None else {"duplicate_of": plan.duplicate_of}
    unit = {} if plan.cost is None or plan.cost.is_relative else {"unit": plan.cost.unit}
    return line | ({} if plan.cost is None else {"cost": plan.cost.amount} | unit)


def _refuse(bad_lines: Sequence[BadLine]) -> int:
    for line in bad_lines[:MAX_REPORTED_LINES]:
        step = "" if isinstance(line.error, InvalidInput) else FOR_SHELL.next_step(line.error)
        print_error(f"line {line.number}: {FOR_SHELL.message(line.error.parts)} {step}".rstrip())
    if len(bad_lines) > MAX_REPORTED_LINES:
        print_error(f"{len(bad_lines) - MAX_REPORTED_LINES} more lines are wrong.")
    print_error(f"{OUTCOME_SENTENCES['not_submitted']} Correct that and run the command again.")
    return USAGE


def _confirm(costs: Sequence[Cost | None], gateway: str) -> bool:
    """Ask the user once about the whole batch. Raise OverCap if the user cannot be asked."""
    if not can_ask():
        error = OverCap("ask_above_cost", 0, "")
        error.parts = (
            f"This batch costs {_format_total(costs)}, which needs your confirmation (",
            *_SETTING,
            ").",
        )
        error.advice = (Do("Nobody can be asked here: add --yes."),)
        raise error
    return ask_yes_no(f"Make {_format_count(len(costs), 'video')} at {gateway} for {_format_total(costs)}?")


_SETTING = (Setting("ask_above_cost"),)


def _check_out(options: Options) -> None:
    """Raise InvalidInput or FileProblem if the results cannot be written or would overwrite another kind of file."""
    out = options.out
    if out is None:
        return
    if out.exists() and not out.is_file():
        raise InvalidInput([Problem("--out", f"{out} is not a file", "a file")])
    try:
        if out.exists() and not _is_result(out):
            problem = f"{out} already exists and does not contain batch results"
            raise InvalidInput([Problem("--out", problem, "another file")])
        with tempfile.TemporaryFile(dir=out.absolute().parent):
            pass
    except OSError as error:
        message, advice = f"{out} cannot be written: {error.strerror}.", Do("Name another file with --out.")
        raise FileProblem(message, advice, outcome="not_submitted") from None


def _is_result(path: Path) -> bool:
    """Whether a file is empty or begins with a result of a batch."""
    with path.open("rb") as file:
        first = file.readline(100_000)
    try:
        line = json.loads(first) if first else {"line": 1, "state": ""}
    except ValueError:
        return False
    return isinstance(line, dict) and "line" in line and "state" in line
