"""Results for a person: on stdout what was asked for, on stderr what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sora_mcp.cli.output import print_json, say_wrong
from sora_mcp.cli.pasting import command, same_list
from sora_mcp.cli.tables import table
from sora_mcp.cli.terminal import columns, fitted
from sora_mcp.core.capabilities import verb_of
from sora_mcp.core.cost import RELATIVE, Cost
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import quoted

if TYPE_CHECKING:
    from sora_mcp.tools import Result


def result(answer: Result, arguments: dict[str, Any], *, as_json: bool, picture: Path | None) -> None:
    """Print a result: as one JSON object, or in words."""
    if as_json:
        path = {"path": str(picture)} if picture is not None and not answer.is_error else {}
        print_json(answer.structured | path)
        return
    if answer.is_error:
        say_wrong(answer.text)
        if message := answer.structured["error"].get("gateway_message"):
            click.echo(f"The gateway's words: {quoted(message, 500)}", err=True)
        return
    if "videos" in answer.structured:
        _listing(answer, arguments)
        return
    click.echo(fitted(answer.text, sys.stdout))
    if arguments.get("dry_run"):
        print_json(answer.structured["body"])
    for generation in answer.structured.get("generations", []):
        if generation.get("url") and answer.file is None:
            click.echo(f"{generation['variant']}: {generation['url']}")
    if picture is not None:
        click.echo(f"The {'plan' if arguments.get('dry_run') else 'picture'} is {picture}")


def _listing(answer: Result, arguments: Mapping[str, Any]) -> None:
    """Print the answer of list_videos to a call with these `arguments`: the videos on stdout, what is said of them on
    stderr."""
    videos = answer.structured["videos"]
    if sys.stdout.isatty() and videos:
        click.echo("\n".join(table(_HEADERS, list(map(_row, videos)), columns())))
    else:
        cost_width = max((len(_cost(video)) for video in videos), default=0)
        for video in videos:
            click.echo(_plain_line(video, cost_width))
    click.echo(fitted(answer.text, sys.stderr), err=True)
    if "next_cursor" in answer.structured:
        next_page = command(*same_list(arguments), "--cursor", answer.structured["next_cursor"])
        click.echo(f"There are more: {next_page}", err=True)


_HEADERS = ("ID", "STATE", "CREATED", "OPERATION", "SIZE", "LEN", "COST", "PROMPT")


def _row(video: Mapping[str, Any]) -> list[str]:
    """A video as cells of a table."""
    cells = [_name(video), video["state"], _local_time(video["created_at"]), verb_of(video.get("operation", ""))]
    return [*cells, _size(video), _length(video), _cost(video), video.get("prompt", "")]


def _local_time(created_at: str) -> str:
    """A time in the time zone of this machine, as short as it can be told: today's without the day."""
    from datetime import datetime  # noqa: PLC0415 - for a terminal only

    time, now = datetime.fromisoformat(created_at).astimezone(), datetime.now().astimezone()
    if time.date() == now.date():
        return f"{time:%H:%M}"
    return f"{time:%m-%d %H:%M}" if time.year == now.year else f"{time:%Y-%m-%d}"


def _plain_line(video: Mapping[str, Any], cost_width: int) -> str:
    """A video on a line, for a program or a file: the prompt is the end of it."""
    name, state, prompt, cost = _name(video), video["state"], video.get("prompt", ""), _cost(video)
    before = f"{name:31} {state:9} {_size(video):8} {_length(video):3} {cost.ljust(max(4, cost_width))}"
    return f"{before} {video['created_at']} {prompt}".rstrip()


def _name(video: Mapping[str, Any]) -> str:
    return str(video.get("task_id") or video["request_id"])


def _cost(video: Mapping[str, Any]) -> str:
    return str(Cost.of(video["cost"], video.get("unit", RELATIVE))) if "cost" in video else ""


def _size(video: Mapping[str, Any]) -> str:
    return f"{video['width']}x{video['height']}" if "width" in video else ""


def _length(video: Mapping[str, Any]) -> str:
    return f"{round(video['n_frames'] / video.get('fps', FPS), 2):g}s" if "n_frames" in video else ""
