"""The tools as shell commands: options are derived from the published surface, never defined twice."""

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

from sora_mcp.cli.command import Command, SourceType, require_picture_name
from sora_mcp.cli.command_lines import command, option
from sora_mcp.cli.loading import load_settings, loading

SURFACE = Path(__file__).parents[1] / "tools" / "surface.json"
"""The published surface that `sora-mcp manifests` writes; loading the tools themselves would take long."""


class _CommandSpec(Struct, frozen=True):
    """How a tool becomes a command: `positional` arguments, an example, `extra` parameters and `hidden` arguments.

    `substitutes` maps an argument to the parameter that replaces its own option.
    """

    tool: str
    positional: tuple[str, ...]
    example: str
    extra: tuple[click.Parameter, ...] = field(default_factory=tuple)
    hidden: tuple[str, ...] = ()
    substitutes: Mapping[str, str] = field(default_factory=dict)


_IMAGE = click.Option(
    ["--image", "images"],
    multiple=True,
    type=SourceType(),
    metavar="PATH|URL",
    help="An image to build on. May be repeated.",
)


def _require_two_sources(_ctx: click.Context, _param: click.Parameter, sources: tuple[str, ...]) -> tuple[str, ...]:
    if len(sources) != 2:
        raise click.UsageError(f"It takes two sources, and you named {len(sources) or 'none'}.")
    return sources


_SOURCES = click.Argument(
    ["sources"], nargs=-1, type=SourceType(), metavar="SOURCE SOURCE", callback=_require_two_sources
)
_WAIT = click.Option(["--wait"], is_flag=True, help="Wait until it has finished. Ctrl-C leaves it running.")
_OUT = click.Option(
    ["--out"],
    type=click.Path(path_type=Path),
    metavar="FILE.mp4",
    help="Save the video as this file, which must not exist yet.",
)
_OPEN = click.Option(["--open", "open_it"], is_flag=True, help="Open the file with the desktop's default program.")
_SIZE_OPTIONS = (
    click.Option(["--size"], metavar="WxH", help="Width and height together, such as 720x720."),
    click.Option(["--seconds"], metavar="NUMBER", help="The length in seconds, instead of --n-frames."),
)
_PAID_OPTIONS = (
    click.Option(["--yes"], is_flag=True, help="Do not ask before a video that costs more than SORA_ASK_ABOVE_COST."),
    _WAIT,
    click.Option(
        ["--download"], is_flag=True, help="Wait, then save every variant (in SORA_OUTPUT_DIR, unless --out is given)."
    ),
    _OUT,
    _OPEN,
)
"""What a paid command can do with its video; --open and --out save it, and saving waits for it."""
_COMMAND_SPECS = {
    "create": _CommandSpec(
        "create_video",
        ("prompt",),
        'sora-mcp create "a paper boat in the rain" --size 480x854 --wait --download',
        (_IMAGE, *_SIZE_OPTIONS, *_PAID_OPTIONS),
        substitutes={"inpaint_items": "--image"},
    ),
    "storyboard": _CommandSpec(
        "storyboard_video",
        ("prompt",),
        'sora-mcp storyboard --action 0s="a door" --action 2.5s="it opens"',
        (
            click.Option(
                ["--action", "beats"],
                multiple=True,
                metavar="TIME=TEXT",
                help="A beat: a frame, or seconds such as 2.5s, and what is seen from then on. May be repeated.",
            ),
            _IMAGE,
            *_SIZE_OPTIONS,
            *_PAID_OPTIONS,
            click.Option(
                ["--board"],
                type=click.Path(dir_okay=False, path_type=Path),
                callback=require_picture_name,
                metavar="FILE.png",
                help="With --dry-run: draw the plan to this PNG file, or to a JPEG if the name ends in .jpg.",
            ),
        ),
        substitutes={
            "actions": "--action",
            "inpaint_items": "--image",
            "inpaint_items.generation_id": "--inpaint-items",
        },
    ),
    "remix": _CommandSpec(
        "remix_video",
        ("source_generation_id", "prompt"),
        'sora-mcp remix last "now at night" --amount 6',
        (*_SIZE_OPTIONS, *_PAID_OPTIONS),
    ),
    "blend": _CommandSpec(
        "blend_videos",
        (),
        "sora-mcp blend task_… task_…",
        (_SOURCES, *_SIZE_OPTIONS, *_PAID_OPTIONS),
        hidden=("inpaint_items",),
        substitutes={"inpaint_items": "SOURCE"},
    ),
    "get": _CommandSpec(
        "get_video",
        ("task_id",),
        "sora-mcp get last --wait",
        (_WAIT,),
    ),
    "list": _CommandSpec(
        "list_videos",
        (),
        "sora-mcp list --query fox --wait",
        (click.Option(["--wait"], is_flag=True, help="Wait until all have finished. Ctrl-C leaves them running."),),
    ),
    "view": _CommandSpec(
        "view_video",
        ("task_id",),
        "sora-mcp view last --out sheet.png",
        (
            click.Option(
                ["--out"],
                type=click.Path(dir_okay=False, path_type=Path),
                callback=require_picture_name,
                default=Path("contact-sheet.png"),
                show_default=True,
                help="Where to write the PNG, or a JPEG if the name ends in .jpg. An existing file is replaced.",
            ),
            _OPEN,
        ),
    ),
    "download": _CommandSpec(
        "download_video", ("task_id",), "sora-mcp download last --wait --out boat.mp4", (_WAIT, _OUT, _OPEN)
    ),
    "gateway": _CommandSpec("describe_gateway", (), "sora-mcp gateway"),
}
_JSON = click.Option(["--json", "as_json"], is_flag=True, help="Print one JSON object on stdout, and nothing else.")


class _VideoCommand(Command):
    """A tool as a command. For an option of another API it suggests ours."""

    def __init__(self, spec: _CommandSpec, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._spec = spec

    def suggest(self, ctx: click.Context, error: click.NoSuchOption, arguments: list[str]) -> click.UsageError | None:
        if usage_error := super().suggest(ctx, error, arguments):
            return usage_error
        if suggestion := _suggest_option(self._spec, error.option_name, arguments):
            return click.UsageError(f"--{suggestion} See the options: {ctx.command_path} --help.", ctx)
        return None


def _suggest_option(spec: _CommandSpec, option_name: str, arguments: list[str]) -> str | None:
    """Return which of our options an option of another API corresponds to; its value is in `arguments`."""

    def typed_name(key: str) -> str:
        return _typed_name(spec, key)

    def typed_command(tool: str, key: str) -> str:
        name = command_for(tool)
        return f"`{command(name)}` with {_typed_name(_COMMAND_SPECS[name], key)}"

    with loading():
        from sora_mcp import dialects  # noqa: PLC0415
        from sora_mcp.tools import TABLE  # noqa: PLC0415
        from sora_mcp.tools.argument_aliases import Argument  # noqa: PLC0415
        from sora_mcp.tools.arguments import translate_argument  # noqa: PLC0415

    pairs = [
        *pairwise(arguments),
        *((name, value) for argument in arguments for name, separator, value in [argument.partition("=")] if separator),
    ]
    value = next((value for name, value in pairs if name == option_name), "")
    name = option_name.lstrip("-")
    limits = dialects.configured(load_settings()).capabilities
    argument = Argument(name, value, limits, format_name=typed_name, format_tool=typed_command)
    return translate_argument(TABLE[spec.tool].arguments, argument)


def video_command(name: str, summary: str) -> click.Command:
    """Build the click command for one tool."""
    spec = _COMMAND_SPECS[name]
    schema = _input_schema(spec.tool)
    properties = {key: node for key, node in schema["properties"].items() if key not in spec.hidden}
    params = [_build_argument(key, required=key in schema["required"]) for key in spec.positional]
    params += [_build_option(key, node) for key, node in properties.items() if key not in spec.positional]
    names = {*spec.positional, *(param.name for param in spec.extra)}
    return _VideoCommand(
        spec,
        name,
        callback=partial(_run, spec.tool),
        params=[*params, *spec.extra, _JSON],
        help="\n\n".join([summary, *(text for name, text in _ARGUMENT_HELP.items() if name in names)]),
        epilog=f"Example: {spec.example}",
        short_help=summary,
    )


_ID_HELP = "For an id, `last` means the newest video. An id can be shortened if no other id begins the same."
_ARGUMENT_HELP = {
    "prompt": "If PROMPT is -, it is read from standard input.",
    "task_id": _ID_HELP,
    "source_generation_id": _ID_HELP,
    "sources": _ID_HELP,
}
"""Help for positional arguments, which click shows only as part of a command's text."""


def _input_schema(tool: str) -> dict[str, Any]:
    surface = json.loads(SURFACE.read_text(encoding="utf-8"))
    return next(dict(each["inputSchema"]) for each in surface if each["name"] == tool)


def _build_argument(key: str, *, required: bool) -> click.Parameter:
    name, is_required = _metavar(key), required or key.startswith("source_")
    return click.Argument([key], required=is_required, metavar=name if is_required else f"[{name}]")


def _metavar(key: str) -> str:
    return "SOURCE" if key.startswith("source_") else key.upper()


def command_for(tool: str) -> str:
    """Return the name of the command for a tool."""
    return next(name for name, spec in _COMMAND_SPECS.items() if spec.tool == tool)


def typed_names(tool: str) -> dict[str, str]:
    """Return what is typed at the shell for each argument of a tool."""
    spec = next(each for each in _COMMAND_SPECS.values() if each.tool == tool)
    keys = _input_schema(tool)["properties"]
    return {key: _typed_name(spec, key) for key in keys}


def _typed_name(spec: _CommandSpec, key: str) -> str:
    """Return what is typed for an argument, or for a field of its items such as `inpaint_items.url`."""
    name = key.partition(".")[0]
    typed = spec.substitutes.get(key) or spec.substitutes.get(name)
    return typed or (_metavar(name) if name in spec.positional else option(name))


_OPTION_HELP = {
    "style": "The style; there is only one.",
    "model": "The model, if there are several. Default: SORA_MODEL, or the gateway's own.",
    "inpaint_items": "Images to start from, in the API's format.",
    "wait_seconds": "Wait at most this many seconds; --wait has no limit.",
    "cursor": "Where to continue. A list that has more ends with the command to run.",
    "limit": "List at most this many.",
    "query": "Only videos with this text in the prompt or a beat.",
    "status": "Only videos in this state; unknown means that a video may exist.",
    "variant": "Which variant, counting from 1.",
    "beside": "The id of a second video to compare it with.",
}
"""Help for options whose description in the surface is written for agents."""


def _build_option(key: str, node: dict[str, Any]) -> click.Parameter:
    help_text = _OPTION_HELP.get(key) or node.get("description", "")
    name = option(key)
    if node["type"] == "boolean":
        return click.Option([name, key], is_flag=True, default=None, help=help_text)
    if node["type"] == "array":
        return click.Option(
            [name, key],
            type=click.Path(allow_dash=True),
            metavar="FILE.json",
            help=f"{help_text} A file, or - for stdin.",
        )
    default = f" Default: {node['default']}." if "default" in node else ""
    option_type = click.Choice(node["enum"]) if "enum" in node else click.STRING
    metavar = None if "enum" in node else node["type"].upper()
    return click.Option([name, key], type=option_type, metavar=metavar, help=help_text + default)


def _run(tool: str, *, as_json: bool, **options: Any) -> None:
    settings = load_settings()
    with loading():
        from sora_mcp.cli.tool_calls import run  # noqa: PLC0415 - what calls a tool loads everything

    sys.exit(run(settings, tool, options, as_json=as_json))
