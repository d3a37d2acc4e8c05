"""Results for a person: on stdout what was asked for, on stderr what went wrong."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sora_mcp.cli.ending import print_json, say_wrong
from sora_mcp.cli.pasting import next_page
from sora_mcp.cli.terminal import fitted
from sora_mcp.core.cost import RELATIVE, Cost
from sora_mcp.core.tables import FPS

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
            click.echo(f"The gateway's words: {message!r}", err=True)
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
    width = _columns() if sys.stdout.isatty() else None
    videos = answer.structured["videos"]
    cost_width = max((len(_cost(video)) for video in videos), default=0)
    for video in videos:
        click.echo(_lines(video, width, cost_width))
    click.echo(answer.text, err=True)
    if "next_cursor" in answer.structured:
        filters = {name: value for name, value in arguments.items() if name not in {"cursor", "wait_seconds"}}
        click.echo(f"There are more: {next_page(answer.structured['next_cursor'], filters)}", err=True)


_PROMPT_AT = 82
"""Columns that everything before the prompt takes."""


def _cost(video: Mapping[str, Any]) -> str:
    return str(Cost.of(video["cost"], video.get("unit", RELATIVE))) if "cost" in video else ""


def _lines(video: dict[str, Any], width: int | None, cost_width: int) -> str:
    """One video on a line; where the terminal is too narrow for that, its id, which is never cut, on one of its own."""
    name, state, prompt = video.get("task_id") or video["request_id"], video["state"], video.get("prompt", "")
    if width is not None and width < _PROMPT_AT:
        return f"{name}\n{_cut(f'  {state} {prompt}'.rstrip(), width)}"
    size = f"{video['width']}x{video['height']}" if "width" in video else ""
    length = f"{round(video['n_frames'] / video.get('fps', FPS), 2):g}s" if "n_frames" in video else ""
    cost = _cost(video).ljust(max(4, cost_width))
    line = f"{name:31} {state:9} {size:8} {length:3} {cost} {video['created_at']} {prompt}".rstrip()
    return line if width is None else _cut(line, width)


def _cut(text: str, width: int) -> str:
    """As much of a text as fits in `width` columns; East Asian characters and emoji take two, marks none."""
    if text.isascii():
        return text[:width]
    import unicodedata  # noqa: PLC0415 - for a terminal only

    taken = 0
    for at, character in enumerate(text):
        taken += 0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        if taken > width:
            return text[:at]
    return text


def _columns() -> int:
    import shutil  # noqa: PLC0415 - for a terminal only; it loads the compressors

    return shutil.get_terminal_size().columns
