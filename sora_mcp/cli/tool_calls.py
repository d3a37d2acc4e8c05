"""Running a tool for a person at a shell: with a bar while it takes, and an exit code at its end."""

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
from sora_mcp.cli.asking import Asker, can_ask
from sora_mcp.cli.files import check_folder, check_new, write_file
from sora_mcp.cli.following import Following, follow, opened, until_finished
from sora_mcp.cli.opening import open_file
from sora_mcp.cli.output import DONE, FAILED, INTERRUPTED, UNKNOWN, USAGE, interrupted
from sora_mcp.cli.paid_options import replace_shorthands
from sora_mcp.cli.pasting import command, same_list
from sora_mcp.cli.progress import Bar
from sora_mcp.cli.studios import in_studio
from sora_mcp.cli.terminal import has_surrogates
from sora_mcp.cli.videos import typed_names
from sora_mcp.cli.wording import FOR_SHELL, ForShell, ForWhoeverWaits
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import AskUser, Do, Setting
from sora_mcp.core.errors import InvalidInput, Outcome, Problem, SoraError
from sora_mcp.core.pictures import PictureFormat
from sora_mcp.core.tasks import clean, quoted
from sora_mcp.runtime import signals
from sora_mcp.studio import Studio
from sora_mcp.studio.short_ids import LAST, NoVideoYet
from sora_mcp.tools.arguments import blank_items, is_blank
from sora_mcp.tools.sentences import say_video


def run(settings: Settings, tool: str, options: dict[str, Any], *, as_json: bool) -> int:
    """Call a tool with what was given at the shell and show what came of it; returns the exit code."""
    asked = _Asked(tool, as_json=as_json)
    result: tools.Result | None = None
    with suppress(KeyboardInterrupt):
        settings = asked.read(options, settings)
        result = signals.run(_call, settings, asked)
        while result is not None and asked.asker is not None and asked.asker.ask():
            result = signals.run(_call, settings, asked)
        result = _placed(result, asked.files)
    if result is None:
        _tell_interrupted(asked)
        return INTERRUPTED
    if asked.picture is not None and result.picture is not None:
        write_file(asked.picture, result.picture, Do("Name another file with --out."))
        if asked.following.open_it and (problem := open_file(asked.picture)):
            result = dataclasses.replace(result, text=f"{result.text}\n{problem}")
    picture = asked.picture if result.picture is not None else None
    show.result(result, asked.arguments, as_json=as_json, picture=picture)
    return exit_code(result)


class _Asked(Struct):
    """What was asked for at the shell: the call of a tool, and what is to follow. `wait` is for a tool that waits.

    `picture`: where the picture goes that the call gives; `studios`: where it is under way, and was; `asker`: None
    where nobody is to be asked before it is paid; `shorthands`: what was typed in the place of arguments.
    """

    tool: str
    as_json: bool
    arguments: dict[str, Any] = field(default_factory=dict)
    following: Following = field(default_factory=Following)
    wait: bool = False
    picture: Path | None = None
    files: list[storyboard_files.FromFile] = field(default_factory=list)
    studios: list[Studio] = field(default_factory=list)
    asker: Asker | None = None
    shorthands: dict[str, str] = field(default_factory=dict)

    @property
    def paid(self) -> bool:
        return tools.TABLE[self.tool].paid

    @property
    def typed_names(self) -> dict[str, str]:
        """What was typed for the arguments; in a file, and for a program, they have their own names."""
        own = {file.name for file in self.files}
        names = typed_names(self.tool) | self.shorthands
        return {} if self.as_json else {key: name for key, name in names.items() if key not in own}

    def read(self, options: dict[str, Any], settings: Settings) -> Settings:
        """Take everything from the options; returns the settings of this call. Raises click.UsageError."""
        self._take_what_follows(options)
        if self.picture is not None and tools.TABLE[self.tool].board is not None and not options.get("dry_run"):
            raise click.UsageError("--board goes with --dry-run: it draws a plan. Nothing was submitted.")
        if self.paid:
            self.shorthands = replace_shorthands(options, settings)
        for key in ("actions", "inpaint_items"):
            if options.get(key) is not None:
                self.files.append(storyboard_files.read_file(options[key], key))
                options[key] = self.files[-1].items
        settings = _collect(options, settings)
        self.arguments = {key: value for key, value in options.items() if value is not None}
        self._check_files(settings)
        return settings

    def _take_what_follows(self, options: dict[str, Any]) -> None:
        wait, out = bool(options.pop("wait", False)), options.pop("out", None)
        download, open_it = bool(options.pop("download", False)), bool(options.pop("open_it", False))
        self.picture = options.pop("board", None)
        if not options.pop("yes", False) and self.paid and not self.as_json and can_ask():
            self.asker = Asker()
        match self.tool:
            case "view_video":
                self.picture, self.following = out, Following(open_it=open_it)
            case "download_video":
                self.following = Following(wait=wait, download=True, out=out, open_it=open_it)
            case _ if self.paid:
                download = download or open_it or out is not None
                self.following = Following(wait=wait or download, download=download, out=out, open_it=open_it)
            case _:
                self.wait = wait
                if wait and options.get("wait_seconds") is not None:
                    raise click.UsageError("Give either --wait or --wait-seconds, not both.")

    def _check_files(self, settings: Settings) -> None:
        """What can be known beforehand: a video that was paid for should not fail for the name of its file."""
        if not self.following.download:
            return
        variants = str(self.arguments.get("n_variants", 1))
        of = int(variants) if self.paid and variants.isdecimal() and len(variants) < 4 else 1
        for variant in range(1, of + 1):
            if path := self.following.file_of(variant, of):
                check_new(path, "Nothing was submitted and nothing was charged." if self.paid else "Nothing was saved.")
        if self.paid and self.following.out is None and not self.arguments.get("dry_run"):
            check_folder(
                settings.output_dir, AskUser(("check ", Setting("output_dir"))), Do("Or name a file with --out.")
            )


def _tell_interrupted(asked: _Asked) -> None:
    """Say what became of a call that was ended; the answer to a POST that was under way was waited for."""
    following, tell = asked.following, partial(interrupted, as_json=asked.as_json)
    sent = asked.studios[-1].last_sent if asked.studios else None
    if not asked.paid:
        _tell_wait_interrupted(asked)
        return
    if sent is not None:
        following.video_id = sent.task_id or sent.request_id
    come_back = following.words_to_come_back if following.wait else None
    if following.video_id is None:
        tell(None, outcome="not_submitted")
    elif sent is None or sent.task_id is not None:
        tell(following.video_id, outcome="accepted", come_back=come_back)
    else:
        outcome: Outcome = "rejected" if sent.state == "rejected" else "unknown"
        tell(following.video_id, outcome=outcome)


def _tell_wait_interrupted(asked: _Asked) -> None:
    following, tell = asked.following, partial(interrupted, as_json=asked.as_json)
    if asked.tool == "list_videos" and asked.wait:
        tell(None, come_back=[*same_list(asked.arguments), "--wait"])
    elif asked.tool == "get_video" or following.wait:
        following.video_id = following.video_id or asked.arguments.get("task_id")
        tell(following.video_id, come_back=following.words_to_come_back)
    else:
        tell(None)


def _placed(result: tools.Result | None, files: list[storyboard_files.FromFile]) -> tools.Result | None:
    """The result, saying on which line of which file an argument stands that is wrong."""
    if result is None or not result.is_error:
        return result
    text, error = result.text, result.structured["error"]
    for file in files:
        text, error = file.place(text), error | {"message": file.place(error["message"])}
    return dataclasses.replace(result, text=text, structured=result.structured | {"error": error})


def settle(settings: Settings, request_id: str, task_id: str | None, *, as_json: bool) -> None:
    """Settle an unknown outcome and show what became of it."""
    video = in_studio(settings, lambda studio: studio.settle(request_id, task_id))
    result = tools.Result(say_video(video, FOR_SHELL), FOR_SHELL.structured(video))
    show.result(result, {}, as_json=as_json, picture=None)


def offer_tasks(settings: Settings, request_id: str, *, as_json: bool) -> None:
    """Show the tasks that may have come of an unknown request. Raises UsageError where the gateway lists none."""
    if not dialects.configured(settings).capabilities.can_list:
        raise click.UsageError("Give either --task TASK_ID or --none.")
    listed = in_studio(settings, lambda studio: studio.candidates(request_id))
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
    if result.is_error and result.structured["error"]["kind"] == "declined":
        return INTERRUPTED
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
    for path in filter(has_surrogates, (*images, *sources)):
        raise click.UsageError(
            f"The name of {json.dumps(path)} is no text in UTF-8: rename it, or make a link to it (ln -s) with another "
            "name. Nothing was submitted."
        )
    for image in images:
        if "://" not in image and not _is_path(image):
            raise _no_file(image, "--image")
    if images:
        options["inpaint_items"] = [
            *(options.get("inpaint_items") or []),
            *({"url": _whole(image)} for image in images),
        ]
    if sources:
        options["inpaint_items"] = [_source(source) for source in sources]
    paths = [Path(each).absolute() for each in (*images, *sources) if _is_path(each)]
    allowed = (*settings.image_dirs, *(path.parent for path in paths))
    return dataclasses.replace(settings, image_dirs=allowed)


def _source(text: str) -> dict[str, str]:
    if text.startswith("media_"):
        return {"upload_media_id": text}
    if text.partition("#")[0] == LAST:
        return {"generation_id": text}
    if "://" in text or _is_path(text):
        return {"url": _whole(text)}
    if text.startswith((".", "/", "~")) or (mimetypes.guess_type(text)[0] or "").startswith(("image/", "video/")):
        raise _no_file(text, "SOURCE")
    return {"generation_id": text}


def _no_file(path: str, name: str) -> click.BadParameter:
    return click.BadParameter(f"There is no file {quoted(path, 80)}. Nothing was submitted.", param_hint=name)


def _whole(text: str) -> str:
    """A path as a person means it, from the folder where they stand; an address as it is."""
    return str(Path(text).absolute()) if _is_path(text) else text


def _is_path(text: str) -> bool:
    try:
        return "://" not in text and Path(text).is_file()
    except (OSError, ValueError):  # too long, or in a folder that is not theirs
        return False


async def _call(settings: Settings, asked: _Asked) -> tools.Result | None:
    """What the tool answers; None where SIGTERM ended the wait for it, as Ctrl-C would: what is being sent is sent."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(signals.cancel_on, tasks.cancel_scope, signal.SIGTERM)
        async with Studio.open(settings) as studio:
            asked.studios.append(studio)
            with Bar(hidden=asked.as_json) as bar:
                result = await _answer(studio, asked, bar)
        tasks.cancel_scope.cancel()
        return result
    return None


async def _answer(studio: Studio, asked: _Asked, bar: Bar) -> tools.Result:
    try:
        _check_filled_in(asked.arguments)
        arguments = asked.arguments = await _with_full_ids(
            studio, asked.arguments, blended=asked.tool == "blend_videos", is_said=asked.paid and not asked.as_json
        )
    except SoraError as error:
        error.outcome = "not_submitted"  # whatever else it would mean of a call that was made
        if isinstance(error, NoVideoYet):
            error.advice = (
                Do(f"Make one, which costs money, with `{command('create', 'a paper boat in the rain')}`."),
            )
        return tools.failed(error, paid=asked.paid, wording=ForShell(asked.typed_names))
    picture_format: PictureFormat = "png"
    if asked.picture is not None and asked.picture.suffix.lower() in {".jpg", ".jpeg"}:
        picture_format = "jpeg"
    following = asked.following
    is_waiting = following.wait and asked.paid and not arguments.get("dry_run")
    wording = (ForWhoeverWaits if is_waiting else ForShell)(asked.typed_names)
    board_format = None if asked.picture is None else picture_format
    person = tools.Caller(
        bar.tell,
        confirm=None if asked.asker is None else asked.asker.confirm,
        answers=asked.asker is not None and asked.asker.has_agreed,
        wording=wording,
        picture_format=picture_format,
        board_format=board_format,
    )
    if asked.wait:
        return await until_finished(studio, asked.tool, arguments, bar, person)
    if asked.tool == "download_video":
        following.video_id, following.variant = arguments["task_id"], arguments.get("variant", 1)
    if not following.wait:
        result = await tools.call(studio, asked.tool, arguments, replace(person, save_as=following.out))
        return opened(result, following) if following.download else result
    submitted = await tools.call(studio, asked.tool, arguments, person) if asked.paid else None
    typed_names = asked.typed_names
    return await follow(studio, submitted, following, bar, typed_names=typed_names, as_json=asked.as_json)


def _check_filled_in(arguments: Mapping[str, Any]) -> None:
    """Raise InvalidInput for what was given and holds nothing, such as a variable of the shell that is not set."""
    problems = [
        Problem(name, f'"{value}" is not accepted' if value.strip() else "is blank")
        for name, value in arguments.items()
        if isinstance(value, str) and is_blank(value, name)
    ]
    if problems := problems + blank_items(arguments):
        raise InvalidInput(problems)


async def _with_full_ids(studio: Studio, arguments: dict[str, Any], *, blended: bool, is_said: bool) -> dict[str, Any]:
    """The arguments with the whole ids of what `last` and beginnings of ids stand for. Raises SoraError.

    `blended`: the items are sources that stood on the command line. `is_said`: on stderr, what they stand for.
    """

    async def full_id(text: str, field: str) -> str:
        whole = await studio.full_id(text, field)
        if is_said and whole != text:
            click.echo(f"{text} is {whole}.", err=True)
        return whole

    full: dict[str, Any] = {
        name: await full_id(value, name)
        for name in ("task_id", "source_generation_id", "beside")
        if isinstance(value := arguments.get(name), str)
    }
    if blended:
        items = [
            item | {"generation_id": await full_id(item["generation_id"], "source")}
            if "generation_id" in item
            else item
            for item in arguments["inpaint_items"]
        ]
        full["inpaint_items"] = items
    return arguments | full
