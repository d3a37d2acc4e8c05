"""Run a tool for a user at a shell: with a progress bar, and an exit code at the end."""

from __future__ import annotations

import dataclasses
import json
import mimetypes
import signal
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click
from msgspec import Struct, field
from msgspec.structs import asdict, replace

from sora_mcp import dialects, tools
from sora_mcp.cli import show, storyboard_files
from sora_mcp.cli.command_lines import command, list_arguments
from sora_mcp.cli.confirmation import Asker, can_ask
from sora_mcp.cli.desktop import open_file
from sora_mcp.cli.files import check_folder, check_new, write_file
from sora_mcp.cli.follow_up import FollowUp, follow, open_result, wait_until_finished
from sora_mcp.cli.output import DONE, FAILED, INTERRUPTED, UNKNOWN, USAGE, report_interrupted
from sora_mcp.cli.paid_options import replace_shorthands
from sora_mcp.cli.progress import Bar
from sora_mcp.cli.studios import run_in_studio
from sora_mcp.cli.terminal import has_surrogates
from sora_mcp.cli.videos import typed_names
from sora_mcp.cli.wording import FOR_SHELL, ForShell, ForWaitingShell
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import AskUser, Do, Setting
from sora_mcp.core.errors import InvalidInput, Outcome, Problem, SoraError
from sora_mcp.core.pictures import PictureFormat
from sora_mcp.core.tasks import clean, quoted
from sora_mcp.runtime import signals
from sora_mcp.studio import Studio
from sora_mcp.studio.short_ids import LAST, NoVideoYet
from sora_mcp.tools.arguments import blank_items, is_blank
from sora_mcp.tools.sentences import render_video


def run(settings: Settings, tool: str, options: dict[str, Any], *, as_json: bool) -> int:
    """Call a tool with the options from the shell and print its result; return the exit code."""
    invocation = _Invocation(tool, as_json=as_json)
    result: tools.Result | None = None
    with suppress(KeyboardInterrupt):
        settings = invocation.read(options, settings)
        result = signals.run(_call, settings, invocation)
        while result is not None and invocation.asker is not None and invocation.asker.ask():
            result = signals.run(_call, settings, invocation)
        result = _with_locations(result, invocation.files)
    if result is None:
        _report_interrupted(invocation)
        return INTERRUPTED
    if invocation.picture is not None and result.picture is not None:
        write_file(invocation.picture, result.picture, Do("Name another file with --out."))
        if invocation.follow_up.open_it and (problem := open_file(invocation.picture)):
            result = dataclasses.replace(result, text=f"{result.text}\n{problem}")
    picture = invocation.picture if result.picture is not None else None
    show.print_result(result, invocation.arguments, as_json=as_json, picture=picture)
    return exit_code(result)


class _Invocation(Struct):
    """One call of a tool from the shell, and what is to follow. `wait` is for a tool that waits.

    `picture`: the file for the picture that the call returns; `studios`: the current studio and earlier ones; `asker`:
    None if the user is not to be asked before paying; `shorthands`: what was typed in place of arguments.
    """

    tool: str
    as_json: bool
    arguments: dict[str, Any] = field(default_factory=dict)
    follow_up: FollowUp = field(default_factory=FollowUp)
    wait: bool = False
    picture: Path | None = None
    files: list[storyboard_files.FileList] = field(default_factory=list)
    studios: list[Studio] = field(default_factory=list)
    asker: Asker | None = None
    shorthands: dict[str, str] = field(default_factory=dict)

    @property
    def paid(self) -> bool:
        return tools.TABLE[self.tool].paid

    @property
    def typed_names(self) -> dict[str, str]:
        """What was typed for the arguments; in a file, and with `as_json`, they have their own names."""
        from_files = {file.name for file in self.files}
        names = typed_names(self.tool) | self.shorthands
        return {} if self.as_json else {key: name for key, name in names.items() if key not in from_files}

    def read(self, options: dict[str, Any], settings: Settings) -> Settings:
        """Read the options into this call; return its settings. Raise click.UsageError."""
        self._read_follow_up(options)
        if self.picture is not None and tools.TABLE[self.tool].board is not None and not options.get("dry_run"):
            raise click.UsageError("--board goes with --dry-run: it draws a plan.")
        if self.paid:
            self.shorthands = replace_shorthands(options, settings)
        for key in ("actions", "inpaint_items"):
            if options.get(key) is not None:
                self.files.append(storyboard_files.read_file(options[key], key))
                options[key] = self.files[-1].items
        settings = _collect_arguments(options, settings)
        self.arguments = {key: value for key, value in options.items() if value is not None}
        self._check_files(settings)
        return settings

    def _read_follow_up(self, options: dict[str, Any]) -> None:
        wait, out = bool(options.pop("wait", False)), options.pop("out", None)
        download, open_it = bool(options.pop("download", False)), bool(options.pop("open_it", False))
        self.picture = options.pop("board", None)
        if not options.pop("yes", False) and self.paid and not self.as_json and can_ask():
            self.asker = Asker()
        match self.tool:
            case "view_video":
                self.picture, self.follow_up = out, FollowUp(open_it=open_it)
            case "download_video":
                self.follow_up = FollowUp(wait=wait, download=True, out=out, open_it=open_it)
            case _ if self.paid:
                download = download or open_it or out is not None
                self.follow_up = FollowUp(wait=wait or download, download=download, out=out, open_it=open_it)
            case _:
                self.wait = wait
                if wait and options.get("wait_seconds") is not None:
                    raise click.UsageError("Give either --wait or --wait-seconds, not both.")

    def _check_files(self, settings: Settings) -> None:
        """Check the output files in advance: a paid video should not be lost because its file cannot be written."""
        if not self.follow_up.download:
            return
        variants = str(self.arguments.get("n_variants", 1))
        variant_count = int(variants) if self.paid and variants.isdecimal() and len(variants) < 4 else 1
        for variant in range(1, variant_count + 1):
            if path := self.follow_up.file_for(variant, variant_count):
                check_new(path, "" if self.paid else "Nothing was saved.")
        if self.paid and self.follow_up.out is None and not self.arguments.get("dry_run"):
            check_folder(
                settings.output_dir, AskUser(("check ", Setting("output_dir"))), Do("Or name a file with --out.")
            )


def _report_interrupted(invocation: _Invocation) -> None:
    """Report what became of an interrupted call; the answer to a POST under way has been waited for."""
    follow_up, report = invocation.follow_up, partial(report_interrupted, as_json=invocation.as_json)
    last_sent = invocation.studios[-1].last_sent if invocation.studios else None
    if not invocation.paid:
        _report_wait_interrupted(invocation)
        return
    if last_sent is not None:
        follow_up.video_id = last_sent.task_id or last_sent.request_id
    resume = follow_up.resume_arguments if follow_up.wait else None
    if follow_up.video_id is None:
        report(None, outcome="not_submitted")
    elif last_sent is None or last_sent.task_id is not None:
        report(follow_up.video_id, outcome="accepted", resume=resume)
    else:
        outcome: Outcome = "rejected" if last_sent.state == "rejected" else "unknown"
        report(follow_up.video_id, outcome=outcome)


def _report_wait_interrupted(invocation: _Invocation) -> None:
    follow_up, report = invocation.follow_up, partial(report_interrupted, as_json=invocation.as_json)
    if invocation.tool == "list_videos" and invocation.wait:
        report(None, resume=[*list_arguments(invocation.arguments), "--wait"])
    elif invocation.tool == "get_video" or follow_up.wait:
        follow_up.video_id = follow_up.video_id or invocation.arguments.get("task_id")
        report(follow_up.video_id, resume=follow_up.resume_arguments)
    else:
        report(None)


def _with_locations(result: tools.Result | None, files: list[storyboard_files.FileList]) -> tools.Result | None:
    """Return the result with the file and line of each invalid argument in its error."""
    if result is None or not result.is_error:
        return result
    text, error = result.text, result.structured["error"]
    for file in files:
        text, error = file.locate(text), error | {"message": file.locate(error["message"])}
    return dataclasses.replace(result, text=text, structured=result.structured | {"error": error})


def settle(settings: Settings, request_id: str, task_id: str | None, *, as_json: bool) -> None:
    """Settle an unknown outcome and print the video."""
    video = run_in_studio(settings, lambda studio: studio.settle(request_id, task_id))
    result = tools.Result(render_video(video, FOR_SHELL), FOR_SHELL.structured(video))
    show.print_result(result, {}, as_json=as_json, picture=None)


def offer_tasks(settings: Settings, request_id: str, *, as_json: bool) -> None:
    """Print the tasks that an unknown request may have created. Raise UsageError if the gateway cannot list tasks."""
    if not dialects.configured(settings).capabilities.can_list:
        raise click.UsageError("Give either --task TASK_ID or --none.")
    candidates = run_in_studio(settings, lambda studio: studio.candidates(request_id))
    if as_json:
        click.echo(json.dumps({"request_id": request_id, "tasks": [asdict(task) for task in candidates]}))
        return
    if not candidates:
        click.echo(f"The gateway lists no other task from that time: sora-mcp settle {request_id} --none")
    for task in candidates:
        when = datetime.fromtimestamp(task.created_at, UTC).isoformat(timespec="seconds")
        click.echo(f'{task.task_id}  {when}  {task.state}  "{clean(task.prompt, 60)}"')
    if candidates:
        click.echo(f"If it is one of these: sora-mcp settle {request_id} --task ID")


def exit_code(result: tools.Result) -> int:
    """Return the exit code for a result: see `sora-mcp --help`."""
    if result.structured.get("outcome") == "unknown" or result.structured.get("state") == "unknown":
        return UNKNOWN
    if result.is_error and result.structured["error"]["kind"] == "declined":
        return INTERRUPTED
    if result.is_error:
        return USAGE if result.structured["error"]["kind"] in {"invalid_input", "not_configured"} else FAILED
    return FAILED if result.structured.get("state") in {"failed", "blocked", "lost", "rejected"} else DONE


def _collect_arguments(options: dict[str, Any], settings: Settings) -> Settings:
    """Convert shell-only options (beats, images, sources) to the tool's arguments, in place; return the settings.

    Naming an image at the shell allows it: its folder is added to the allowed ones for this call.
    """
    if options.get("beats"):
        if options.get("actions") is not None:
            raise click.UsageError("Give either --action or --actions, not both.")
        options["actions"] = [storyboard_files.parse_beat(beat) for beat in options["beats"]]
    images, sources = options.pop("images", ()), options.pop("sources", ())
    options.pop("beats", None)
    for path in filter(has_surrogates, (*images, *sources)):
        raise click.UsageError(
            f"The name of {json.dumps(path)} is no text in UTF-8: rename it, or make a link to it (ln -s) with another "
            "name."
        )
    for image in images:
        if "://" not in image and not _is_path(image):
            raise _missing_file_error(image, "--image")
    if images:
        options["inpaint_items"] = [
            *(options.get("inpaint_items") or []),
            *({"url": _absolute(image)} for image in images),
        ]
    if sources:
        options["inpaint_items"] = [_parse_source(source) for source in sources]
    paths = [Path(each).absolute() for each in (*images, *sources) if _is_path(each)]
    allowed = (*settings.image_dirs, *(path.parent for path in paths))
    return dataclasses.replace(settings, image_dirs=allowed)


def _parse_source(text: str) -> dict[str, str]:
    if text.startswith("media_"):
        return {"upload_media_id": text}
    if text.partition("#")[0] == LAST:
        return {"generation_id": text}
    if "://" in text or _is_path(text):
        return {"url": _absolute(text)}
    if text.startswith((".", "/", "~")) or (mimetypes.guess_type(text)[0] or "").startswith(("image/", "video/")):
        raise _missing_file_error(text, "SOURCE")
    return {"generation_id": text}


def _missing_file_error(path: str, name: str) -> click.BadParameter:
    return click.BadParameter(f"There is no file {quoted(path, 80)}.", param_hint=name)


def _absolute(text: str) -> str:
    """Resolve a path against the current folder; return an address unchanged."""
    return str(Path(text).absolute()) if _is_path(text) else text


def _is_path(text: str) -> bool:
    try:
        return "://" not in text and Path(text).is_file()
    except (OSError, ValueError):  # too long, or in a folder without access
        return False


async def _call(settings: Settings, invocation: _Invocation) -> tools.Result | None:
    """Call the tool; return None if SIGTERM ended the wait for it. A request that is being sent is still sent."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(signals.cancel_on, tasks.cancel_scope, signal.SIGTERM)
        async with Studio.open(settings) as studio:
            invocation.studios.append(studio)
            with Bar(hidden=invocation.as_json) as bar:
                result = await _run_tool(studio, invocation, bar)
        tasks.cancel_scope.cancel()
        return result
    return None


async def _run_tool(studio: Studio, invocation: _Invocation, bar: Bar) -> tools.Result:
    try:
        _check_not_blank(invocation.arguments)
        arguments = invocation.arguments = await _resolve_ids(
            studio,
            invocation.arguments,
            has_sources=invocation.tool == "blend_videos",
            is_verbose=invocation.paid and not invocation.as_json,
        )
    except SoraError as error:
        error.outcome = "not_submitted"  # nothing was sent, whatever outcome the error has after a call
        if isinstance(error, NoVideoYet):
            error.advice = (
                Do(f"Make one, which costs money, with `{command('create', 'a paper boat in the rain')}`."),
            )
        return tools.error_result(error, paid=invocation.paid, wording=ForShell(invocation.typed_names))
    picture_format: PictureFormat = "png"
    if invocation.picture is not None and invocation.picture.suffix.lower() in {".jpg", ".jpeg"}:
        picture_format = "jpeg"
    follow_up = invocation.follow_up
    is_waiting = follow_up.wait and invocation.paid and not arguments.get("dry_run")
    wording = (ForWaitingShell if is_waiting else ForShell)(invocation.typed_names)
    board_format = None if invocation.picture is None else picture_format
    caller = tools.Caller(
        bar.report,
        confirm=None if invocation.asker is None else invocation.asker.confirm,
        answers=invocation.asker is not None and invocation.asker.has_agreed,
        wording=wording,
        picture_format=picture_format,
        board_format=board_format,
    )
    if invocation.wait:
        return await wait_until_finished(studio, invocation.tool, arguments, bar, caller)
    if invocation.tool == "download_video":
        follow_up.video_id, follow_up.variant = arguments["task_id"], arguments.get("variant", 1)
    if not follow_up.wait:
        result = await tools.call(studio, invocation.tool, arguments, replace(caller, save_as=follow_up.out))
        return open_result(result, follow_up) if follow_up.download else result
    submitted = await tools.call(studio, invocation.tool, arguments, caller) if invocation.paid else None
    typed_names = invocation.typed_names
    return await follow(studio, submitted, follow_up, bar, typed_names=typed_names, as_json=invocation.as_json)


def _check_not_blank(arguments: Mapping[str, Any]) -> None:
    """Raise InvalidInput for arguments that are blank, for example from a shell variable that is not set."""
    problems = [
        Problem(name, f'"{value}" is not accepted' if value.strip() else "is blank")
        for name, value in arguments.items()
        if isinstance(value, str) and is_blank(value, name)
    ]
    if problems := problems + blank_items(arguments):
        raise InvalidInput(problems)


async def _resolve_ids(
    studio: Studio, arguments: dict[str, Any], *, has_sources: bool, is_verbose: bool
) -> dict[str, Any]:
    """Return the arguments with `last` and prefixes of ids replaced by full ids. Raise SoraError.

    `has_sources`: the items are sources from the command line. `is_verbose`: print each replacement on stderr.
    """

    async def resolve(text: str, field: str) -> str:
        resolved = await studio.full_id(text, field)
        if is_verbose and resolved != text:
            click.echo(f"{text} is {resolved}.", err=True)
        return resolved

    full_ids: dict[str, Any] = {
        name: await resolve(value, name)
        for name in ("task_id", "source_generation_id", "beside")
        if isinstance(value := arguments.get(name), str)
    }
    if has_sources:
        items = [
            item | {"generation_id": await resolve(item["generation_id"], "source")}
            if "generation_id" in item
            else item
            for item in arguments["inpaint_items"]
        ]
        full_ids["inpaint_items"] = items
    return arguments | full_ids
