"""Running a tool for a person at a shell: with a bar while it takes, and an exit code at its end."""

from __future__ import annotations

import json
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import partial
from os import replace as move
from pathlib import Path
from typing import Any

import anyio
import click

from sora_mcp import dialects, tools
from sora_mcp.cli import show, storyboard_files
from sora_mcp.cli.ending import DONE, FAILED, INTERRUPTED, UNKNOWN, USAGE, interrupted
from sora_mcp.cli.progress import Bar
from sora_mcp.cli.wording import FOR_SHELL
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem, Outcome, SoraError
from sora_mcp.core.pictures import PictureFormat
from sora_mcp.core.results import Video
from sora_mcp.core.tasks import FINAL, clean
from sora_mcp.dialects.protocol import ListedTask
from sora_mcp.ledger import Entry
from sora_mcp.runtime.signals import cancel_on
from sora_mcp.studio import Studio
from sora_mcp.tools.sentences import say_video


def run(settings: Settings, tool: str, options: dict[str, Any], *, as_json: bool) -> int:
    """Call a tool with what was given at the shell and show what came of it; returns the exit code."""
    wait, out = bool(options.pop("wait", False)), options.pop("out", None)
    if out is not None and tools.TABLE[tool].board is not None and not options.get("dry_run"):
        raise click.UsageError("--board goes with --dry-run: it draws a plan. Nothing was submitted.")
    files = [
        storyboard_files.read_file(options[key], key)
        for key in ("actions", "inpaint_items")
        if options.get(key) is not None
    ]
    options |= {file.name: file.items for file in files}
    settings = _collect(options, settings)
    arguments = {key: value for key, value in options.items() if value is not None}
    studios: list[Studio] = []
    picture_format: PictureFormat = "jpeg" if out is not None and out.suffix.lower() in {".jpg", ".jpeg"} else "png"
    person = tools.Caller(
        wording=FOR_SHELL, picture_format=picture_format, board_format=None if out is None else picture_format
    )
    call = partial(_call, settings, tool, arguments, studios, person, wait=wait, quiet=as_json)
    result: tools.Result | None = None
    with suppress(KeyboardInterrupt):
        result = _placed(anyio.run(call), files)
    if result is None:
        sent = studios[0].sent if studios else None
        _tell_interrupted(tool, arguments.get("task_id"), sent, as_json=as_json)
        return INTERRUPTED
    if out is not None and result.picture is not None:
        _write_picture(out, result.picture)
    show.result(result, arguments, as_json=as_json, picture=out if result.picture is not None else None)
    return exit_code(result)


def _tell_interrupted(tool: str, task_id: str | None, sent: Entry | None, *, as_json: bool) -> None:
    """Say what became of a call that was ended; the answer to a POST that was under way was waited for."""
    if not tools.TABLE[tool].paid:
        interrupted(task_id if tool == "get_video" else None, as_json=as_json)
    elif sent is None:
        interrupted(None, as_json=as_json, outcome="not_submitted")
    elif sent.task_id is not None:
        interrupted(sent.task_id, as_json=as_json, outcome="accepted")
    else:
        outcome: Outcome = "rejected" if sent.state == "rejected" else "unknown"
        interrupted(sent.request_id, as_json=as_json, outcome=outcome)


def _placed(result: tools.Result | None, files: list[storyboard_files.FromFile]) -> tools.Result | None:
    """The result, saying on which line of which file an argument stands that is wrong."""
    if result is None or not result.is_error:
        return result
    text, error = result.text, result.structured["error"]
    for file in files:
        text, error = file.place(text), error | {"message": file.place(error["message"])}
    return replace(result, text=text, structured=result.structured | {"error": error})


def settle(settings: Settings, request_id: str, task_id: str | None, *, as_json: bool) -> None:
    """Settle an unknown outcome and show what became of it."""

    async def work() -> Video | SoraError:
        async with Studio.open(settings) as studio:
            try:
                return await studio.settle(request_id, task_id)
            except SoraError as error:
                return error

    outcome = anyio.run(work)
    if isinstance(outcome, SoraError):
        raise outcome
    result = tools.Result(say_video(outcome, FOR_SHELL), FOR_SHELL.structured(outcome))
    show.result(result, {}, as_json=as_json, picture=None)


def offer_tasks(settings: Settings, request_id: str, *, as_json: bool) -> None:
    """Show the tasks that may have come of an unknown request. Raises UsageError where the gateway lists none."""

    async def work() -> list[ListedTask] | SoraError:
        async with Studio.open(settings) as studio:
            try:
                return await studio.candidates(request_id)
            except SoraError as error:
                return error

    if not dialects.configured(settings).capabilities.can_list:
        raise click.UsageError("Give either --task TASK_ID or --none.")
    listed = anyio.run(work)
    if isinstance(listed, SoraError):
        raise listed
    if as_json:
        click.echo(json.dumps({"request_id": request_id, "tasks": [asdict(task) for task in listed]}))
        return
    if not listed:
        click.echo(f"The gateway lists no other task of that time: sora-mcp settle {request_id} --none")
    for task in listed:
        when = datetime.fromtimestamp(task.created_at, UTC).isoformat(timespec="seconds")
        click.echo(f'{task.task_id}  {when}  {task.state}  "{clean(task.prompt, 60)}"')
    if listed:
        click.echo(f"If it is one of these: sora-mcp settle {request_id} --task ID")


def exit_code(result: tools.Result) -> int:
    """What a script is told: see `sora-mcp --help`."""
    if result.structured.get("outcome") == "unknown" or result.structured.get("state") == "unknown":
        return UNKNOWN
    if result.is_error:
        return USAGE if result.structured["error"]["kind"] in {"invalid_input", "not_configured"} else FAILED
    return FAILED if result.structured.get("state") in {"failed", "blocked", "lost", "rejected"} else DONE


def _collect(options: dict[str, Any], settings: Settings) -> Settings:
    """Turn what only the shell has (files, beats, images, sources) into the tool's arguments, in place.

    A person who names an image at the shell allows it: its folder joins the allowed ones, for this call.
    """
    if options.get("beats"):
        if options.get("actions") is not None:
            raise click.UsageError("Give either --action or --actions, not both. Nothing was submitted.")
        options["actions"] = [storyboard_files.parse(beat) for beat in options["beats"]]
    images, sources = options.pop("images", ()), options.pop("sources", ())
    options.pop("beats", None)
    for image in images:
        if "://" not in image and not _is_path(image):
            raise click.BadParameter(f"There is no file {image[:80]!r}. Nothing was submitted.", param_hint="--image")
    if images:
        options["inpaint_items"] = [
            *(options.get("inpaint_items") or []),
            *({"url": _whole(image)} for image in images),
        ]
    if sources:
        options["inpaint_items"] = [_source(source) for source in sources]
    paths = [Path(each).absolute() for each in (*images, *sources) if _is_path(each)]
    allowed = (*settings.image_dirs, *(path.parent for path in paths))
    return replace(settings, image_dirs=allowed)


def _source(text: str) -> dict[str, str]:
    if text.startswith("media_"):
        return {"upload_media_id": text}
    return {"url": _whole(text)} if "://" in text or _is_path(text) else {"generation_id": text}


def _whole(text: str) -> str:
    """A path as a person means it, from the folder where they stand; an address as it is."""
    return str(Path(text).absolute()) if _is_path(text) else text


def _is_path(text: str) -> bool:
    try:
        return "://" not in text and Path(text).is_file()
    except (OSError, ValueError):  # too long, or in a folder that is not theirs
        return False


async def _call(
    settings: Settings,
    tool: str,
    arguments: dict[str, Any],
    studios: list[Studio],
    person: tools.Caller,
    *,
    wait: bool,
    quiet: bool,
) -> tools.Result | None:
    """What the tool answers; None where SIGTERM ended the wait for it, as Ctrl-C would: what is being sent is sent."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_on, tasks.cancel_scope, signal.SIGTERM)
        async with Studio.open(settings) as studio:
            studios.append(studio)
            with Bar(hidden=quiet) as bar:
                if not wait:
                    result = await tools.call(studio, tool, arguments, replace(person, progress=bar.tell))
                else:
                    result = await _until_finished(partial(tools.call, studio, tool), arguments, bar)
        tasks.cancel_scope.cancel()
        return result
    return None


async def _until_finished(
    call: Callable[..., Awaitable[tools.Result]], arguments: dict[str, Any], bar: Bar
) -> tools.Result:
    while True:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bar.tick)
            result = await call(arguments | {"wait_seconds": 50}, tools.Caller(bar.tell, wording=FOR_SHELL))
            tasks.cancel_scope.cancel()
        if result.is_error or _is_settled(result.structured):
            return result


def _is_settled(structured: dict[str, Any]) -> bool:
    """Whether there is nothing left to wait for: a video has finished, or all of a list have."""
    if "waited_for" in structured:
        return bool(structured["finished"] == structured["waited_for"])
    state = structured.get("state")
    return state in FINAL or state in {"unknown", "sending"}


def _write_picture(out: Path, picture: bytes) -> None:
    """Write it whole or not at all; what is no file, such as /dev/stdout, is written to as it is."""
    is_file = not out.exists() or out.is_file()
    part = out.with_name(f".{out.name}.part") if is_file else out
    try:
        try:
            part.write_bytes(picture)
            if is_file:
                move(part, out.resolve())  # noqa: PTH105 - a test takes `.replace` for that of a text
        except OSError:
            if is_file:
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileProblem(f"{out} cannot be written: {error.strerror}.", Do("Name another file with --out.")) from None
