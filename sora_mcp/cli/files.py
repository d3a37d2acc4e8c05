"""Files that a command is to write: what can be known of them is checked before anything is paid."""

from __future__ import annotations

import os
import secrets
from os import replace as move
from pathlib import Path

import click

from sora_mcp.core.advice import Advice
from sora_mcp.core.errors import FileProblem


def check_new(path: Path, nothing_done: str) -> None:
    """Raises click's BadParameter where a new file cannot be written; `nothing_done` ends what it says."""
    if wrong := _wrong_with(path):
        raise click.BadParameter(f"{wrong} {nothing_done}".strip(), param_hint="--out")


def _wrong_with(path: Path) -> str | None:
    if str(path) == "-":
        return "A video is not written to standard output: name a file, such as boat.mp4."
    if os.path.isdir(path):  # noqa: PTH112 - a name that is too long is none, and no error
        return f"{path} is a folder: name a file in it, such as {path / 'boat.mp4'}."
    if os.path.lexists(path):
        return f"{path} already exists, and nothing is overwritten: name another file."
    if not os.path.isdir(path.parent):  # noqa: PTH112 - as above
        return f"There is no folder {path.parent}: make it first, or name another file."
    return _trial(path)


def check_folder(folder: Path, *advice: Advice) -> None:
    """Make the folder for videos if need be. Raises FileProblem, with this advice, where none can be saved."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = _trial(folder / "video.v1.mp4")
    except OSError as error:
        problem = f"The folder {folder} cannot be made: {error.strerror}."
    if problem:
        refused = FileProblem(problem, *advice)
        refused.outcome = "not_submitted"
        raise refused


def _trial(path: Path) -> str | None:
    """Why a file cannot be written beside others, found by writing an empty one of such a name; None where it can."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        part.open("xb").close()
        part.unlink()
    except (OSError, ValueError) as error:
        return f"{path} cannot be written: {getattr(error, 'strerror', None) or 'that is no name for a file'}."
    return None


def write_file(out: Path, content: bytes, advice: Advice) -> None:
    """Write it whole or not at all; what is no file, such as /dev/stdout, is written to as it is.

    Raises FileProblem, with this advice.
    """
    is_file = not out.exists() or out.is_file()
    part = out.with_name(f".{out.name}.part") if is_file else out
    try:
        try:
            part.write_bytes(content)
            if is_file:
                move(part, out.resolve())  # noqa: PTH105 - a test takes `.replace` for that of a text
        except OSError:
            if is_file:
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileProblem(f"{out} cannot be written: {error.strerror}.", advice) from None
