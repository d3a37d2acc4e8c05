"""Shorthands for documented arguments: `--size`, `--seconds`, and `-` for the prompt."""

from __future__ import annotations

import re
import sys
from decimal import Decimal
from typing import Any

import click

from sora_mcp import dialects
from sora_mcp.cli.terminal import is_terminal
from sora_mcp.config.settings import Settings
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import quoted
from sora_mcp.tools.argument_aliases import Argument, translate
from sora_mcp.tools.arguments import MAX_CHARACTERS


def replace_shorthands(options: dict[str, Any], settings: Settings) -> dict[str, str]:
    """Replace shorthands in `options` by the documented arguments; return the option typed for each argument.

    Raise click.UsageError.
    """
    size, seconds = options.pop("size", None), options.pop("seconds", None)
    if size is not None:
        _check_exclusive("--size", "--width and --height", options, "width", "height")
        options["width"], options["height"] = _parse_size(size, settings)
    if seconds is not None:
        _check_exclusive("--seconds", "--n-frames", options, "n_frames")
        options["n_frames"] = _parse_seconds(seconds, settings)
    if options.get("prompt") == "-":
        if "-" in {options.get("actions"), options.get("inpaint_items")}:
            raise click.UsageError("Standard input can be either the prompt or a file, not both.")
        options["prompt"] = _read_prompt()
    size_options = {} if size is None else {"width": "--size", "height": "--size"}
    return size_options | ({} if seconds is None else {"n_frames": "--seconds"})


def _check_exclusive(name: str, alternatives: str, options: dict[str, Any], *fields: str) -> None:
    if any(options.get(field) is not None for field in fields):
        raise click.UsageError(f"Give either {name} or {alternatives}, not both.")


def _parse_size(text: str, settings: Settings) -> tuple[int, int]:
    if pair := re.fullmatch(r"\s*(\d{1,5})\s*[xX*\u00d7]\s*(\d{1,5})\s*", text):
        return int(pair[1]), int(pair[2])
    limits = dialects.configured(settings).capabilities
    meaning = translate(Argument("size", text, limits), {"width"})
    hint = f"; {meaning.text}" if meaning else ""
    allowed = f"; allowed: {meaning.allowed}" if meaning and meaning.allowed else ""
    message = f"{quoted(text, 40)} is not of the form 720x720{hint}{allowed}."
    raise click.BadParameter(message, param_hint="--size")


def _parse_seconds(text: str, settings: Settings) -> int:
    """Convert seconds to frames. Raise BadParameter unless they are whole frames of a length the upstream accepts."""
    if not re.fullmatch(r"\s*(\d{1,6}(\.\d{1,6})?|\.\d{1,6})\s*s?\s*", text):
        raise click.BadParameter(
            f"{quoted(text, 40)} is not a number of seconds, such as 5 or 2.5.", param_hint="--seconds"
        )
    seconds = Decimal(text.strip().rstrip("s").strip())
    frames = seconds * FPS
    limits = dialects.configured(settings).capabilities
    if not limits.any_length and frames not in limits.lengths:
        lengths = ", ".join(f"{each / FPS:g}" for each in sorted(limits.lengths))
        message = f"no video here is {seconds} s long; allowed: {lengths}."
        raise click.BadParameter(message, param_hint="--seconds")
    if frames != int(frames) or not frames:
        below, above = max(1, int(frames)), int(frames) + 1
        neighbours = f"{below / FPS:.4g} s is {below} and {above / FPS:.4g} s is {above}"
        message = f"{seconds} s is not a whole number of frames ({FPS} a second); {neighbours} (--n-frames)."
        raise click.BadParameter(message, param_hint="--seconds")
    return int(frames)


def _read_prompt() -> str:
    """Read the prompt from stdin. Raise UsageError if it is empty or not text."""
    if sys.stdin is None or sys.stdin.closed:
        raise click.UsageError("Standard input is closed: there is no prompt to read.")
    if is_terminal(sys.stdin):
        click.echo("Type the prompt, then Ctrl-D on a line of its own (Ctrl-Z on Windows).", err=True)
    data = sys.stdin.buffer.read(MAX_CHARACTERS + 1)
    if len(data) > MAX_CHARACTERS:
        raise click.UsageError(f"Standard input is longer than {MAX_CHARACTERS} bytes.")
    prompt = _decode(data).replace("\r\n", "\n").strip()
    if not prompt:
        raise click.UsageError("Standard input is empty: there is no prompt to read.")
    return prompt


def _decode(data: bytes) -> str:
    """Decode UTF-8 with or without a byte order mark, UTF-16 with one, or the locale's encoding."""
    is_utf16 = data.startswith((b"\xff\xfe", b"\xfe\xff"))
    encodings = ["utf-16"] if is_utf16 else ["utf-8-sig", sys.stdin.encoding]
    for encoding in encodings:
        try:
            return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    raise click.UsageError("Standard input is not UTF-8 text.")
