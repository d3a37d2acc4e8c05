"""The tools as commands for a person: options are read off the tools' own schemas, never written twice."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click

from sora_mcp import tools
from sora_mcp.cli import beats, load_settings, show
from sora_mcp.cli.progress import Bar
from sora_mcp.errors import SoraError
from sora_mcp.settings import Settings
from sora_mcp.studio import Studio
from sora_mcp.tasks import FINAL

DONE, USAGE, FAILED, UNKNOWN, INTERRUPTED = 0, 2, 3, 4, 130


@dataclass(frozen=True, slots=True)
class _Shape:
    """How a tool looks at the shell: what stands without an option's name, what is added, an example."""

    tool: str
    positional: tuple[str, ...]
    example: str
    extra: tuple[click.Parameter, ...] = field(default_factory=tuple)
    hidden: tuple[str, ...] = ()


_IMAGE = click.Option(
    ["--image", "images"], multiple=True, metavar="PATH|URL", help="An image to build on. May be repeated."
)
_SHAPES = {
    "create": _Shape(
        "create_video",
        ("prompt",),
        'sora-mcp create "a paper boat in the rain" --width 480 --height 854',
        (_IMAGE,),
    ),
    "storyboard": _Shape(
        "storyboard_video",
        ("prompt",),
        'sora-mcp storyboard --action 0s="a door" --action 2.5s="it opens"',
        (
            click.Option(
                ["--action", "beats"],
                multiple=True,
                metavar="TIME=TEXT",
                help="A beat: a frame, or seconds such as 2.5s, and what is seen from there on. May be repeated.",
            ),
            _IMAGE,
        ),
    ),
    "remix": _Shape(
        "remix_video", ("source_generation_id", "prompt"), 'sora-mcp remix task_… "now at night" --amount 6'
    ),
    "blend": _Shape(
        "blend_videos",
        (),
        "sora-mcp blend task_… task_…",
        (click.Argument(["sources"], nargs=2, metavar="SOURCE SOURCE"),),
        hidden=("inpaint_items",),
    ),
    "get": _Shape(
        "get_video",
        ("task_id",),
        "sora-mcp get task_… --wait",
        (click.Option(["--wait"], is_flag=True, help="Wait until it has finished. Ctrl-C leaves it running."),),
    ),
    "list": _Shape("list_videos", (), "sora-mcp list --status succeeded"),
    "view": _Shape(
        "view_video",
        ("task_id",),
        "sora-mcp view task_… --out sheet.png",
        (
            click.Option(
                ["--out"],
                type=click.Path(dir_okay=False, path_type=Path),
                default=Path("contact-sheet.png"),
                show_default=True,
                help="Where to write the PNG; replaced if it is there.",
            ),
        ),
    ),
    "download": _Shape("download_video", ("task_id",), "sora-mcp download task_…"),
}
_JSON = click.Option(["--json", "as_json"], is_flag=True, help="One JSON object on stdout, nothing else.")


def command(name: str, summary: str) -> click.Command:
    """The click command of one tool."""
    shape = _SHAPES[name]
    schema = tools.TABLE[shape.tool].input_schema
    properties = {key: node for key, node in schema["properties"].items() if key not in shape.hidden}
    params = [_argument(key, required=key in schema["required"]) for key in shape.positional]
    params += [_option(key, node) for key, node in properties.items() if key not in shape.positional]
    return click.Command(
        name,
        callback=partial(_run, shape.tool),
        params=[*params, *shape.extra, _JSON],
        help=f"{summary}\n\nExample: {shape.example}",
        short_help=summary,
    )


def _argument(key: str, *, required: bool) -> click.Parameter:
    source = key.startswith("source_")
    name = "SOURCE" if source else key.upper()
    return click.Argument([key], required=required or source, metavar=name if required or source else f"[{name}]")


def _option(key: str, node: dict[str, Any]) -> click.Parameter:
    words = node.get("description", "")
    name = "--" + key.replace("_", "-")
    if node["type"] == "boolean":
        return click.Option([name, key], is_flag=True, default=None, help=words)
    if node["type"] == "array":
        return click.Option(
            [name, key], type=click.Path(allow_dash=True), metavar="FILE.json", help=f"{words} A file, or - for stdin."
        )
    default = f" Default: {node['default']}." if "default" in node else ""
    kind = click.Choice(node["enum"]) if "enum" in node else click.STRING
    metavar = None if "enum" in node else node["type"].upper()
    return click.Option([name, key], type=kind, metavar=metavar, help=words + default)


# --- running --------------------------------------------------------------------------------------


def _run(tool: str, *, as_json: bool, **given: Any) -> None:
    settings = load_settings()
    wait, out = bool(given.pop("wait", False)), given.pop("out", None)
    settings = _collect(given, settings)
    arguments = {key: value for key, value in given.items() if value is not None}
    call = partial(_call, settings, tool, arguments, wait=wait, quiet=as_json)
    try:
        result = anyio.run(call)
    except KeyboardInterrupt:
        show.interrupted(arguments.get("task_id"), paid=tools.TABLE[tool].paid)
        sys.exit(INTERRUPTED)
    if out is not None and result.png is not None:
        _write_picture(out, result.png)
    show.result(result, arguments, as_json=as_json, picture=out)
    sys.exit(exit_code(result))


def settle(settings: Settings, request_id: str, task_id: str | None, *, as_json: bool) -> None:
    """Settle an unknown outcome and show what became of it."""

    async def work() -> tools.Result:
        async with Studio.open(settings) as studio:
            try:
                video = await studio.settle(request_id, task_id)
            except SoraError as error:
                return tools.failed(error)
        return tools.Result(tools.words.say_video(video), video.model_dump(mode="json", exclude_none=True))

    told = anyio.run(work)
    show.result(told, {}, as_json=as_json, picture=None)
    sys.exit(FAILED if told.is_error else DONE)


def exit_code(result: tools.Result) -> int:
    """What a script is told: see `sora-mcp --help`."""
    if result.structured.get("outcome") == "unknown" or result.structured.get("state") == "unknown":
        return UNKNOWN
    if result.is_error:
        return USAGE if result.structured["error"]["kind"] in {"invalid_input", "not_configured"} else FAILED
    return FAILED if result.structured.get("state") in {"failed", "blocked", "rejected"} else DONE


def _collect(given: dict[str, Any], settings: Settings) -> Settings:
    """Turn what only the shell has (files, beats, images, sources) into the tool's arguments, in place.

    A person who names an image at the shell allows it: its folder joins the allowed ones, for this call.
    """
    for key in ("actions", "inpaint_items"):
        if given.get(key) is not None:
            given[key] = beats.read_file(given[key], key)
    if given.get("beats"):
        given["actions"] = [beats.parse(beat) for beat in given["beats"]]
    images, sources = given.pop("images", ()), given.pop("sources", ())
    given.pop("beats", None)
    if images:
        given["inpaint_items"] = [*(given.get("inpaint_items") or []), *({"url": _whole(image)} for image in images)]
    if sources:
        given["inpaint_items"] = [_source(source) for source in sources]
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
    return "://" not in text and Path(text).is_file()


async def _call(settings: Settings, tool: str, arguments: dict[str, Any], *, wait: bool, quiet: bool) -> tools.Result:
    async with Studio.open(settings) as studio:
        with Bar(hidden=quiet) as bar:
            if not wait:
                return await tools.call(studio, tool, arguments, tools.Caller(bar.tell))
            return await _until_finished(partial(tools.call, studio, tool), arguments, bar)


async def _until_finished(
    call: Callable[..., Awaitable[tools.Result]], arguments: dict[str, Any], bar: Bar
) -> tools.Result:
    while True:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bar.tick)
            result = await call(arguments | {"wait_seconds": 50}, tools.Caller(bar.tell))
            tasks.cancel_scope.cancel()
        state = result.structured.get("state")
        if result.is_error or state in FINAL or state in {"unknown", "sending"}:
            return result


def _write_picture(out: Path, png: bytes) -> None:
    try:
        out.write_bytes(png)
    except OSError as error:
        click.echo(f"sora-mcp: {out} cannot be written: {error.strerror}. Name another file with --out.", err=True)
        sys.exit(FAILED)


__all__ = ["command", "exit_code"]
