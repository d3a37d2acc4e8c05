"""Print results for a user: the answer on stdout, errors on stderr."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sora_mcp.cli.command_lines import command, list_arguments
from sora_mcp.cli.output import print_error, print_json
from sora_mcp.cli.tables import render_table
from sora_mcp.cli.terminal import terminal_width, wrap_text
from sora_mcp.core.capabilities import verb_of
from sora_mcp.core.cost import RELATIVE, Cost
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import quoted

if TYPE_CHECKING:
    from sora_mcp.tools import Result


def print_result(result: Result, arguments: dict[str, Any], *, as_json: bool, picture: Path | None) -> None:
    """Print a result: as one JSON object, or as text."""
    if as_json:
        path = {"path": str(picture)} if picture is not None and not result.is_error else {}
        print_json(result.structured | path)
        return
    if result.is_error:
        print_error(result.text)
        if message := result.structured["error"].get("gateway_message"):
            click.echo(f"The gateway's words: {quoted(message, 500)}", err=True)
        return
    if "videos" in result.structured:
        _print_list(result, arguments)
        return
    click.echo(wrap_text(result.text, sys.stdout))
    if arguments.get("dry_run"):
        print_json(result.structured["body"])
    for generation in result.structured.get("generations", []):
        if generation.get("url") and result.file is None:
            click.echo(f"{generation['variant']}: {generation['url']}")
    if picture is not None:
        click.echo(f"The {'plan' if arguments.get('dry_run') else 'picture'} is {picture}")


def _print_list(result: Result, arguments: Mapping[str, Any]) -> None:
    """Print the result of list_videos for these `arguments`: the videos on stdout, the text about them on stderr."""
    videos = result.structured["videos"]
    if sys.stdout.isatty() and videos:
        click.echo("\n".join(render_table(_HEADERS, list(map(_table_row, videos)), terminal_width())))
    else:
        cost_width = max((len(_format_cost(video)) for video in videos), default=0)
        for video in videos:
            click.echo(_plain_line(video, cost_width))
    click.echo(wrap_text(result.text, sys.stderr), err=True)
    if "next_cursor" in result.structured:
        next_page = command(*list_arguments(arguments), "--cursor", result.structured["next_cursor"])
        click.echo(f"There are more: {next_page}", err=True)


_HEADERS = ("ID", "STATE", "CREATED", "OPERATION", "SIZE", "LEN", "COST", "PROMPT")


def _table_row(video: Mapping[str, Any]) -> list[str]:
    """Return the table cells for a video."""
    cells = [_video_id(video), video["state"], _format_time(video["created_at"]), verb_of(video.get("operation", ""))]
    return [*cells, _format_size(video), _format_length(video), _format_cost(video), video.get("prompt", "")]


def _format_time(created_at: str) -> str:
    """Format a time in this machine's time zone, as short as possible: without the date if it is today."""
    from datetime import datetime  # noqa: PLC0415 - for a terminal only

    time, now = datetime.fromisoformat(created_at).astimezone(), datetime.now().astimezone()
    if time.date() == now.date():
        return f"{time:%H:%M}"
    return f"{time:%m-%d %H:%M}" if time.year == now.year else f"{time:%Y-%m-%d}"


def _plain_line(video: Mapping[str, Any], cost_width: int) -> str:
    """Return one line for a video, for a program or a file; it ends with the prompt."""
    name, state, prompt, cost = _video_id(video), video["state"], video.get("prompt", ""), _format_cost(video)
    prefix = f"{name:31} {state:9} {_format_size(video):8} {_format_length(video):3} {cost.ljust(max(4, cost_width))}"
    return f"{prefix} {video['created_at']} {prompt}".rstrip()


def _video_id(video: Mapping[str, Any]) -> str:
    return str(video.get("task_id") or video["request_id"])


def _format_cost(video: Mapping[str, Any]) -> str:
    return str(Cost.of(video["cost"], video.get("unit", RELATIVE))) if "cost" in video else ""


def _format_size(video: Mapping[str, Any]) -> str:
    return f"{video['width']}x{video['height']}" if "width" in video else ""


def _format_length(video: Mapping[str, Any]) -> str:
    return f"{round(video['n_frames'] / video.get('fps', FPS), 2):g}s" if "n_frames" in video else ""
