"""Results for a person: on stdout what was asked for, on stderr what went wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sora_mcp.tables import FPS

if TYPE_CHECKING:
    from sora_mcp.tools import Result

_COMMANDS = {
    "get_video with wait_seconds 50": "sora-mcp get --wait",
    "wait_seconds": "--wait",
    "get_video": "sora-mcp get",
    "list_videos": "sora-mcp list",
    "view_video": "sora-mcp view",
    "download_video": "sora-mcp download",
    "Ask the user to check": "Check",
    "ask the user to check": "check",
    "Ask the user to": "Please",
    "ask the user to": "please",
    "Ask the user for": "You need",
    "tell the user": "mind this",
    "Tell the user": "Mind this",
}
"""Advice to an agent → advice to a person at a shell."""


def result(told: Result, arguments: dict[str, Any], *, as_json: bool, picture: Path | None) -> None:
    """Print a result: as one JSON object, or in words."""
    if as_json:
        path = {"path": str(picture)} if picture is not None and not told.is_error else {}
        _json(told.structured | path)
        return
    if told.is_error:
        click.echo(f"sora-mcp: {for_shell(told.text)}", err=True)
        message = told.structured["error"].get("gateway_message")
        if message:
            click.echo(f"The gateway's words: {message!r}", err=True)
        return
    if "videos" in told.structured:
        listing(told.structured, as_json=False)
        return
    click.echo(for_shell(told.text))
    if arguments.get("dry_run"):
        _json(told.structured["body"])
    if told.structured.get("failure_reason"):
        click.echo(f"The gateway's words: {told.structured['failure_reason']!r}")
    for generation in told.structured.get("generations", []):
        if generation.get("url"):
            click.echo(f"{generation['variant']}: {generation['url']}")
    if picture is not None:
        click.echo(f"The contact sheet is {picture}")


def interrupted(task_id: str | None, *, paid: bool) -> None:
    """What a person should know who pressed Ctrl-C."""
    if task_id:
        click.echo(f"\nStopped waiting; {task_id} goes on. Come back with: sora-mcp get {task_id} --wait", err=True)
    elif paid:
        click.echo("\nInterrupted. If it was already being sent it may have been charged: see sora-mcp list", err=True)
    else:
        click.echo("\nInterrupted.", err=True)


def for_shell(text: str) -> str:
    """Advice that was written for an agent, for a person."""
    for agent, person in _COMMANDS.items():
        text = text.replace(agent, person)
    return text


def _json(data: dict[str, Any]) -> None:
    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def listing(structured: dict[str, Any], *, as_json: bool) -> None:
    """Print the answer of list_videos."""
    if as_json:
        _json(structured)
        return
    videos = structured["videos"]
    if not videos:
        click.echo(f"No videos at {structured['gateway']} yet.", err=True)
    width = _columns() if sys.stdout.isatty() else None
    for video in videos:
        size = f"{video['width']}x{video['height']}" if "width" in video else ""
        length = f"{video['n_frames'] / FPS:g}s" if "n_frames" in video else ""
        cost = f"{video['cost']:g}" if "cost" in video else ""
        name = video.get("task_id") or video["request_id"]
        columns = f"{name:31} {video['state']:9} {size:8} {length:3} {cost:4} {video['created_at']}"
        line = f"{columns} {video.get('prompt', '')}"
        click.echo(line[:width].rstrip())
    if "next_cursor" in structured:
        click.echo(f"There are more: sora-mcp list --cursor {structured['next_cursor']}", err=True)


def _columns() -> int:
    import shutil  # noqa: PLC0415 - for a terminal only; it loads the compressors

    return shutil.get_terminal_size().columns
