"""The tools as commands for a person: options are read off the published surface, never written twice."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
from msgspec import Struct, field

from sora_mcp.cli.command import Command, SourceType, named_file
from sora_mcp.cli.loading import load_settings, loading
from sora_mcp.cli.pasting import option

SURFACE = Path(__file__).parents[1] / "tools" / "surface.json"
"""The published surface as it is written by `sora-mcp manifests`: the tools themselves take long to load."""


class _Shape(Struct, frozen=True):
    """How a tool looks at the shell: what stands without an option's name, what is added, an example, and by what an
    argument is given `instead` of its own option."""

    tool: str
    positional: tuple[str, ...]
    example: str
    extra: tuple[click.Parameter, ...] = field(default_factory=tuple)
    hidden: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict)


_IMAGE = click.Option(
    ["--image", "images"],
    multiple=True,
    type=SourceType(),
    metavar="PATH|URL",
    help="An image to build on. May be repeated.",
)


def _two(_ctx: click.Context, _param: click.Parameter, sources: tuple[str, ...]) -> tuple[str, ...]:
    if len(sources) != 2:
        raise click.UsageError(f"It takes two sources, and you named {len(sources) or 'none'}. Nothing was submitted.")
    return sources


_SOURCES = click.Argument(["sources"], nargs=-1, type=SourceType(), metavar="SOURCE SOURCE", callback=_two)
_WAIT = click.Option(["--wait"], is_flag=True, help="Wait until it has finished. Ctrl-C leaves it running.")
_OUT = click.Option(
    ["--out"],
    type=click.Path(path_type=Path),
    metavar="FILE.mp4",
    help="Save it as this file, which must not be there yet.",
)
_OPEN = click.Option(["--open", "open_it"], is_flag=True, help="Open the file with this desktop's own program.")
_SHAPE = (
    click.Option(["--size"], metavar="WxH", help="Width and height in one, such as 720x720."),
    click.Option(["--seconds"], metavar="NUMBER", help="The length in seconds, instead of --n-frames."),
)
_AND_THEN = (
    click.Option(["--yes"], is_flag=True, help="Do not ask about what costs more than SORA_ASK_ABOVE_COST."),
    _WAIT,
    click.Option(
        ["--download"], is_flag=True, help="Wait for it, and save every variant (in SORA_OUTPUT_DIR, without --out)."
    ),
    _OUT,
    _OPEN,
)
"""What a command that costs money may do with its video; --open and --out save it, and saving waits for it."""
_SHAPES = {
    "create": _Shape(
        "create_video",
        ("prompt",),
        'sora-mcp create "a paper boat in the rain" --size 480x854 --wait --download',
        (_IMAGE, *_SHAPE, *_AND_THEN),
        instead={"inpaint_items": "--image"},
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
            *_SHAPE,
            *_AND_THEN,
            click.Option(
                ["--board"],
                type=click.Path(dir_okay=False, path_type=Path),
                callback=named_file,
                metavar="FILE.png",
                help="With --dry-run: draw the plan there, a PNG, or a JPEG where the name ends in .jpg.",
            ),
        ),
        instead={"actions": "--action", "inpaint_items": "--image"},
    ),
    "remix": _Shape(
        "remix_video",
        ("source_generation_id", "prompt"),
        'sora-mcp remix last "now at night" --amount 6',
        (*_SHAPE, *_AND_THEN),
    ),
    "blend": _Shape(
        "blend_videos",
        (),
        "sora-mcp blend task_… task_…",
        (_SOURCES, *_SHAPE, *_AND_THEN),
        hidden=("inpaint_items",),
        instead={"inpaint_items": "SOURCE"},
    ),
    "get": _Shape(
        "get_video",
        ("task_id",),
        "sora-mcp get last --wait",
        (_WAIT,),
    ),
    "list": _Shape(
        "list_videos",
        (),
        "sora-mcp list --query fox --wait",
        (click.Option(["--wait"], is_flag=True, help="Wait until all have finished. Ctrl-C leaves them running."),),
    ),
    "view": _Shape(
        "view_video",
        ("task_id",),
        "sora-mcp view last --out sheet.png",
        (
            click.Option(
                ["--out"],
                type=click.Path(dir_okay=False, path_type=Path),
                callback=named_file,
                default=Path("contact-sheet.png"),
                show_default=True,
                help="Where to write the PNG, or a JPEG where the name ends in .jpg; replaced if it is there.",
            ),
            _OPEN,
        ),
    ),
    "download": _Shape(
        "download_video", ("task_id",), "sora-mcp download last --wait --out boat.mp4", (_WAIT, _OUT, _OPEN)
    ),
    "gateway": _Shape("describe_gateway", (), "sora-mcp gateway"),
}
_JSON = click.Option(["--json", "as_json"], is_flag=True, help="One JSON object on stdout, nothing else.")


class _VideoCommand(Command):
    """A tool as a command. An option of another API is answered with ours."""

    def __init__(self, shape: _Shape, *settings: Any, **named: Any) -> None:
        super().__init__(*settings, **named)
        self._shape = shape

    def meant(self, ctx: click.Context, error: click.NoSuchOption, words: list[str]) -> click.UsageError | None:
        if typed := super().meant(ctx, error, words):
            return typed
        if meaning := _in_our_words(self._shape, error.option_name, words):
            return click.UsageError(f"--{meaning} See the options: {ctx.command_path} --help.", ctx)
        return None


def _in_our_words(shape: _Shape, option_name: str, words: list[str]) -> str | None:
    """What an option of another API is here, with its value among the words of the command line."""

    def written(key: str) -> str:
        return _positional(key) if key in shape.positional else option(key)

    with loading():
        from sora_mcp import dialects  # noqa: PLC0415
        from sora_mcp.tools import TABLE  # noqa: PLC0415
        from sora_mcp.tools.arguments import in_our_words  # noqa: PLC0415

    pairs = [*pairwise(words), *((name, value) for word in words for name, is_, value in [word.partition("=")] if is_)]
    value = next((value for name, value in pairs if name == option_name), "")
    name = option_name.lstrip("-")
    limits = dialects.configured(load_settings()).capabilities
    return in_our_words(TABLE[shape.tool].arguments, name, value, limits, written)


def video_command(name: str, summary: str) -> click.Command:
    """The click command of one tool."""
    shape = _SHAPES[name]
    schema = _input_schema(shape.tool)
    properties = {key: node for key, node in schema["properties"].items() if key not in shape.hidden}
    params = [_argument(key, required=key in schema["required"]) for key in shape.positional]
    params += [_option(key, node) for key, node in properties.items() if key not in shape.positional]
    names = {*shape.positional, *(param.name for param in shape.extra)}
    return _VideoCommand(
        shape,
        name,
        callback=partial(_run, shape.tool),
        params=[*params, *shape.extra, _JSON],
        help="\n\n".join([summary, *(words for name, words in _ARGUMENTS.items() if name in names)]),
        epilog=f"Example: {shape.example}",
        short_help=summary,
    )


_IDS = "In place of an id, `last` means the newest video; its beginning will do where only one begins so."
_ARGUMENTS = {
    "prompt": "With - for PROMPT it is read from standard input.",
    "task_id": _IDS,
    "source_generation_id": _IDS,
    "sources": _IDS,
}
"""What is to be known of arguments: in the help of a command there is no other place for it."""


def _input_schema(tool: str) -> dict[str, Any]:
    surface = json.loads(SURFACE.read_text(encoding="utf-8"))
    return next(dict(each["inputSchema"]) for each in surface if each["name"] == tool)


def _argument(key: str, *, required: bool) -> click.Parameter:
    name, is_required = _positional(key), required or key.startswith("source_")
    return click.Argument([key], required=is_required, metavar=name if is_required else f"[{name}]")


def _positional(key: str) -> str:
    return "SOURCE" if key.startswith("source_") else key.upper()


def command_of(tool: str) -> str:
    """The name of the command that is a tool."""
    return next(name for name, shape in _SHAPES.items() if shape.tool == tool)


def typed_names(tool: str) -> dict[str, str]:
    """What is typed at the shell for each argument of a tool."""
    shape = next(each for each in _SHAPES.values() if each.tool == tool)
    keys = _input_schema(tool)["properties"]
    return {key: _positional(key) if key in shape.positional else option(key) for key in keys} | dict(shape.instead)


_HELP = {
    "style": "The style; there is only one.",
    "model": "The model, where there are several. Default: SORA_MODEL, or the gateway's own.",
    "inpaint_items": "Images to begin from, as the API documents them.",
    "wait_seconds": "Wait this long at most; --wait has no limit.",
    "cursor": "Where to go on: an earlier list ends with the command.",
    "limit": "List so many at most.",
    "query": "Only videos with this text in the prompt or a beat.",
    "status": "Only videos in this state; of an unknown one a video may exist.",
    "variant": "Which variant, from 1.",
    "beside": "The id of a second video to compare it with.",
}
"""What options do, where the description is for whoever calls the tool."""


def _option(key: str, node: dict[str, Any]) -> click.Parameter:
    words = _HELP.get(key) or node.get("description", "")
    name = option(key)
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


def _run(tool: str, *, as_json: bool, **options: Any) -> None:
    settings = load_settings()
    with loading():
        from sora_mcp.cli.tool_calls import run  # noqa: PLC0415 - what calls a tool loads everything

    sys.exit(run(settings, tool, options, as_json=as_json))
