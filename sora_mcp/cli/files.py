"""Output files of commands: whether they can be written is checked before anything is paid for."""

from __future__ import annotations

import os
import secrets
from os import replace as move
from pathlib import Path

import click

from sora_mcp.cli.command import PICTURE_ENDINGS
from sora_mcp.core.advice import Advice
from sora_mcp.core.errors import FileProblem


def check_new(path: Path, not_done: str) -> None:
    """Raise click's BadParameter if a new file cannot be written; its message ends with `not_done`."""
    if problem := _problem_with(path):
        raise click.BadParameter(f"{problem} {not_done}".strip(), param_hint="--out")


def _problem_with(path: Path) -> str | None:
    if str(path) == "-":
        return "A video is not written to standard output: name a file, such as boat.mp4."
    if os.path.isdir(path):  # noqa: PTH112 - False for a name that is too long, not an error
        return f"{path} is a folder: name a file in it, such as {path / 'boat.mp4'}."
    if path.suffix.lower() in {*PICTURE_ENDINGS, ".gif", ".webp"}:
        return f"A video is not a picture, and {path.name} ends in {path.suffix}: end it in .mp4."
    if os.path.lexists(path):
        return f"{path} already exists, and nothing is overwritten: name another file."
    if not os.path.isdir(path.parent):  # noqa: PTH112 - as above
        return f"There is no folder {path.parent}: make it first, or name another file."
    return _try_write(path)


def check_folder(folder: Path, *advice: Advice) -> None:
    """Create the folder for videos if necessary. Raise FileProblem with this advice if no video can be saved there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        problem = _try_write(folder / "video.v1.mp4")
    except OSError as error:
        problem = f"The folder {folder} cannot be made: {error.strerror}."
    if problem:
        raise FileProblem(problem, *advice, outcome="not_submitted")


def _try_write(path: Path) -> str | None:
    """Write and remove an empty file with a similar name. Return why that failed, or None."""
    part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.part")
    try:
        part.open("xb").close()
        part.unlink()
    except (OSError, ValueError) as error:
        return f"{path} cannot be written: {getattr(error, 'strerror', None) or 'it is not a valid file name'}."
    return None


def write_file(out: Path, content: bytes, advice: Advice) -> None:
    """Write a file atomically; a device such as /dev/stdout is written to directly.

    Raise FileProblem with this advice.
    """
    is_file = not out.exists() or out.is_file()
    part = out.with_name(f".{out.name}.part") if is_file else out
    try:
        try:
            part.write_bytes(content)
            if is_file:
                move(part, out.resolve())  # noqa: PTH105 - a test mistakes `.replace` for str.replace
        except OSError:
            if is_file:
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise FileProblem(f"{out} cannot be written: {error.strerror}.", advice) from None
