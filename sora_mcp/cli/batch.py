"""`sora-mcp batch`: a file of requests, tried as a whole, then sent, each line once however often it is run."""

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
from sora_mcp.cli.asking import agreed, can_ask
from sora_mcp.cli.batch_files import BadLine, Request, read
from sora_mcp.cli.batch_lines import shown
from sora_mcp.cli.batch_run import Line, Planned, Run, planned
from sora_mcp.cli.files import check_folder, write_file
from sora_mcp.cli.output import DONE, FAILED, INTERRUPTED, UNKNOWN, USAGE, say_wrong
from sora_mcp.cli.pasting import command
from sora_mcp.cli.progress import Bar
from sora_mcp.cli.terminal import fitted
from sora_mcp.cli.wording import FOR_SHELL
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Do, SeeLog, Setting, WouldBeRefused
from sora_mcp.core.caps import OverCap
from sora_mcp.core.cost import Cost, in_words, total
from sora_mcp.core.errors import (
    SUBMITTED,
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

MOST_TOLD = 20
"""Lines whose trouble is told; the others are counted."""


class Options(Struct, frozen=True):
    """What `sora-mcp batch` was called with."""

    file: str
    at_once: int
    dry_run: bool
    retry_failed: bool
    yes: bool
    out: Path | None
    download: Path | None

    def again(self) -> str:
        """The command that goes on with it."""
        is_like_option = self.file.startswith("-") and self.file != "-"
        words = ["batch", f"./{self.file}" if is_like_option else self.file, "--at-once", str(self.at_once)]
        words += ["--retry-failed"] if self.retry_failed else []
        words += ["--out", str(self.out)] if self.out else []
        words += ["--download", str(self.download)] if self.download else []
        return command(*words)


class _Report(Struct):
    """What was told of lines: at once, one JSON object a line; or, in a file, all of them at the end and in order."""

    out: Path | None
    bar: Bar
    in_all: int
    lines: list[Line] = field(default_factory=list)

    def tell(self, line: Line) -> None:
        self.lines.append(line)
        if self.out is None:
            click.echo(shown(line))
        self.bar.show(len(self.lines) / self.in_all, f"{len(self.lines)} of {self.in_all} lines")

    def write(self) -> None:
        """Put the file in place, whole. Raises FileProblem."""
        if self.out is not None:
            ordered = sorted(self.lines, key=lambda line: line["line"])
            text = "".join(f"{json.dumps(line)}\n" for line in ordered)
            write_file(self.out, text.encode(), Do("Run the same command again: nothing is sent twice."))


def run(settings: Settings, options: Options) -> int:
    """Run a batch and tell what came of its lines; returns the exit code. Raises SoraError."""
    _check_out(options)
    requests, bad = read(options.file, dialects.configured(settings).capabilities)
    folder = Path.cwd() if options.file == "-" else Path(options.file).absolute().parent
    settings = dataclasses.replace(settings, image_dirs=(folder, Path.cwd(), *settings.image_dirs))
    if options.download is not None:
        if not options.dry_run:
            check_folder(options.download, Do("Name another folder with --download."))
        settings = dataclasses.replace(
            settings, output_dir=options.download.absolute(), videos_root=settings.output_dir
        )
    return _Batch(settings, options, requests, bad).run()


class _Batch:
    """One call of `sora-mcp batch`: its lines are tried, the person is asked, and then they are sent."""

    def __init__(
        self, settings: Settings, options: Options, requests: Sequence[Request], unreadable: Sequence[BadLine]
    ) -> None:
        self._settings = settings
        self._options = options
        self._requests = requests
        self._unreadable = unreadable
        self._error: SoraError | OSError | None = None

    def run(self) -> int:
        """The exit code. Raises SoraError, and OSError where stdout takes no more."""
        try:
            tried = self._in_loop(self._try)
        except SoraError:
            if self._unreadable:  # what keeps the others from being tried is said once these are mended
                return _refuse(self._unreadable)
            raise
        if tried is None:
            click.echo("\nInterrupted. Nothing was submitted and nothing was charged.", err=True)
            return INTERRUPTED
        plans, bad, costs, label, has_to_ask = tried
        if bad:
            return _refuse(bad)
        if self._options.dry_run:
            for plan in plans:
                click.echo(shown(_tried_line(plan)))
            return DONE
        if has_to_ask and not self._options.yes and not _agreed(costs, label):
            click.echo(SUBMITTED["not_submitted"], err=True)
            return INTERRUPTED
        with Bar(hidden=self._options.out is None and sys.stdout.isatty()) as bar:
            report = _Report(self._options.out, bar, len(plans))
            try:
                work = self._in_loop(partial(self._send, plans, report))
            finally:
                report.write()
        if work is None:
            click.echo(f"\n{self._interrupted(len(report.lines))}", err=True)
            return INTERRUPTED
        return self._end(work, report.lines)

    def _in_loop(self, work: Callable[[Studio], Awaitable[T]]) -> T | None:
        """What `work` returns; None where Ctrl-C or SIGTERM ended it: what was being sent is sent. Raises its error."""
        done: T | None = None
        with suppress(KeyboardInterrupt):
            done = signals.run(self._until_signal, work)
        if self._error is not None:
            raise self._error
        return done

    async def _until_signal(self, work: Callable[[Studio], Awaitable[T]]) -> T | None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(signals.cancel_on, tasks.cancel_scope, signal.SIGTERM)
            done: T | None = None
            async with Studio.open(self._settings) as studio:
                try:
                    done = await work(studio)
                except SoraError as error:
                    self._error = error
            tasks.cancel_scope.cancel()
            return done
        return None

    async def _try(self, studio: Studio) -> _Tried:
        """Try all lines, hold their sum against the caps, and say on stderr what is about to be done."""
        known = await studio.lines([request.line.key for request in self._requests])
        plans = planned(self._requests, known, retry_failed=self._options.retry_failed)
        with Bar(hidden=False) as bar:
            plans, untaken = await _tried(studio, plans, bar)
        bad = sorted([*self._unreadable, *untaken], key=lambda each: each.number)
        costs = [plan.cost for plan in plans if plan.is_sent and plan.duplicate_of is None]
        has_to_ask = not bad and await studio.check_sum(costs)
        if not bad:
            click.echo(fitted(_summary(plans, costs, studio.label, studio.notice), sys.stderr), err=True)
        return _Tried(plans, bad, costs, studio.label, has_to_ask)

    async def _send(self, plans: Sequence[Planned], report: _Report, studio: Studio) -> Run | None:
        """The run once all lines have ended; None where nobody can be told of them any more."""
        with anyio.CancelScope() as scope:

            def tell(line: Line) -> None:
                try:
                    report.tell(line)
                except OSError as error:
                    self._error = error
                    scope.cancel()

            work = Run(studio, tell, download=self._options.download is not None)
            await work.run(plans, self._options.at_once)
            return work
        return None

    def _end(self, work: Run, lines: Sequence[Line]) -> int:
        """Say on stderr what came of all lines; the exit code."""
        states: dict[str, int] = {}
        for line in lines:
            states[line["state"]] = states.get(line["state"], 0) + 1
        counts = ", ".join(f"{n} {state}" for state, n in states.items())
        wrong = sum("error" in line for line in lines if line["state"] == "succeeded")
        counts += f" ({wrong} with an error)" if wrong else ""
        click.echo(f"{_count(len(lines))}: {counts}.", err=True)
        if work.stopped is not None:
            say_wrong(f"Nothing more was sent: {work.stopped}")
        if not states.keys().isdisjoint({"failed", "blocked", "lost", "rejected"}):
            again = replace(self._options, retry_failed=True).again()
            click.echo(f"Make what came to nothing again: {again}", err=True)
        elif "not_submitted" in states:
            click.echo(f"Go on with: {self._options.again()}", err=True)
        if "unknown" in states:
            click.echo(f"Look at what may have been made: {command('list', '--status', 'unknown')}", err=True)
            return UNKNOWN
        return DONE if states.keys() <= {"succeeded"} and not any("error" in line for line in lines) else FAILED

    def _interrupted(self, ended: int) -> str:
        """What a person should know who pressed Ctrl-C."""
        return (
            f"Interrupted: {ended} of {_count(len(self._requests))} ended; what was sent goes on, and nothing more is "
            f"sent. Go on with: {self._options.again()}"
        )


class _Tried(NamedTuple):
    """What came of trying all lines: what is to be done, what is wrong, and what it costs."""

    plans: list[Planned]
    bad: list[BadLine]
    costs: list[Cost | None]
    label: str
    has_to_ask: bool


async def _tried(studio: Studio, plans: Iterable[Planned], bar: Bar) -> tuple[list[Planned], list[BadLine]]:
    """The plans with what their lines would cost, and those that would be refused. Nothing is sent."""
    tried, bad, plans = list[Planned](), list[BadLine](), list(plans)
    taken: set[str | None] = set()
    for number, plan in enumerate(plans):
        bar.show(number / len(plans), f"trying line {plan.request.number}")
        if not plan.is_sent:
            tried.append(plan)
            continue
        try:
            submission = await _dry_run(studio, plan.request)
        except SoraError as error:
            bad.append(BadLine(plan.request.number, error))
        else:
            amount, unit = submission.cost, submission.unit
            cost = None if amount is None else Cost.of(amount, unit) if unit else Cost.of(amount)
            outside = None if submission.duplicate_of in taken else submission.duplicate_of  # for one line each
            taken.add(outside)
            tried.append(replace(plan, cost=cost, duplicate_of=outside))
    return tried, bad


async def _dry_run(studio: Studio, request: Request) -> Submission:
    """What sending a line would do. Raises SoraError where that would be refused, for more than as long as others are
    under way."""
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
        if isinstance(note, WouldBeRefused) and not note.will_pass:
            raise SoraError(note.message, *note.advice)
    return submission


def _check_files(request: Request, folders: Sequence[Path]) -> None:
    """Raise InvalidInput for an image that is not there."""
    for number, item in enumerate(getattr(request.arguments, "inpaint_items", [])):
        path = item.url
        if path is not None and not is_address(path) and not any(_is_there(folder / path) for folder in folders):
            shown = quoted(path, 80)
            raise InvalidInput([Problem(f"inpaint_items[{number}].url", f"there is no file {shown}")])


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _summary(plans: Sequence[Planned], costs: Sequence[Cost | None], gateway: str, notice: str | None) -> str:
    """What is about to be done, and what it costs, each unit apart."""
    before = sum(not plan.is_sent for plan in plans)
    outside = sum(plan.duplicate_of is not None for plan in plans)
    parts = [f"{_count(len(plans))} for {gateway}", f"{before} sent before" if before else ""]
    pays = '("allow_duplicate": true in the line pays for another)'
    parts += [f"{outside} made before for the same request {pays}" if outside else ""]
    parts += [f"{len(costs)} to send" + (f" for {_sum(costs)}" if costs else "")]
    return f"{'; '.join(part for part in parts if part)}." + (f" {notice}" if notice and costs else "")


def _sum(costs: Sequence[Cost | None]) -> str:
    known = [in_words(cost) for cost in total(cost for cost in costs if cost is not None)]
    unknown = sum(cost is None for cost in costs)
    return " and ".join([*known, *([f"an unknown cost of {_count(unknown)}"] if unknown else [])])


def _count(number: int, what: str = "line") -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _tried_line(plan: Planned) -> dict[str, Any]:
    """What a dry run tells of a line."""
    line: dict[str, Any] = {"line": plan.request.number}
    line |= {} if plan.request.name is None else {"name": plan.request.name}
    if not plan.is_sent and plan.known is not None:
        entry = plan.known.entry
        return line | {"state": entry.state, "task_id": entry.task_id, "request_id": entry.request_id}
    line |= {"state": "not_submitted"}
    line |= {} if plan.duplicate_of is None else {"duplicate_of": plan.duplicate_of}
    unit = {} if plan.cost is None or plan.cost.is_relative else {"unit": plan.cost.unit}
    return line | ({} if plan.cost is None else {"cost": plan.cost.amount} | unit)


def _refuse(bad: Sequence[BadLine]) -> int:
    for line in bad[:MOST_TOLD]:
        step = "" if isinstance(line.error, InvalidInput) else FOR_SHELL.next_step(line.error)
        say_wrong(f"line {line.number}: {FOR_SHELL.message(line.error.parts)} {step}".rstrip())
    if len(bad) > MOST_TOLD:
        say_wrong(f"{len(bad) - MOST_TOLD} more lines are wrong.")
    say_wrong(f"{SUBMITTED['not_submitted']} Correct that and run the command again.")
    return USAGE


def _agreed(costs: Sequence[Cost | None], gateway: str) -> bool:
    """Ask the person once about all. Raises OverCap where nobody can be asked."""
    if not can_ask():
        error = OverCap("ask_above_cost", 0, "")
        error.parts = (f"This batch costs {_sum(costs)}, and you want to be asked about that (", *_SETTING, ").")
        error.advice = (Do("Nobody can be asked here: add --yes."),)
        raise error
    return agreed(f"Make {_count(len(costs), 'video')} at {gateway} for {_sum(costs)}?")


_SETTING = (Setting("ask_above_cost"),)


def _check_out(options: Options) -> None:
    """Raise InvalidInput or FileProblem where the results could not be written, or would replace something else."""
    out = options.out
    if out is None:
        return
    if out.exists() and not out.is_file():
        raise InvalidInput([Problem("--out", f"{out} is not a file", "a file")])
    try:
        if out.exists() and not _is_result(out):
            raise InvalidInput([Problem("--out", f"{out} is there and holds no results of a batch", "another file")])
        with tempfile.TemporaryFile(dir=out.absolute().parent):
            pass
    except OSError as error:
        raise FileProblem(f"{out} cannot be written: {error.strerror}.", Do("Name another file with --out.")) from None


def _is_result(path: Path) -> bool:
    """Whether a file is empty, or begins as one that was written here does."""
    with path.open("rb") as file:
        first = file.readline(100_000)
    try:
        line = json.loads(first) if first else {"line": 1, "state": ""}
    except ValueError:
        return False
    return isinstance(line, dict) and "line" in line and "state" in line
