"""What a person may write in place of the documented arguments: `--size`, `--seconds`, and `-` for the prompt."""

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
from sora_mcp.tools.arguments import MOST_CHARACTERS
from sora_mcp.tools.foreign import Argument, translated

_NOTHING_SENT = "Nothing was submitted and nothing was charged."


def replace_shorthands(options: dict[str, Any], settings: Settings) -> dict[str, str]:
    """Put the documented arguments in the place of what is shorter, in `options`; returns what was typed for them.
    Raises click.UsageError."""
    size, seconds = options.pop("size", None), options.pop("seconds", None)
    if size is not None:
        _alone("--size", "--width and --height", options, "width", "height")
        options["width"], options["height"] = _size(size, settings)
    if seconds is not None:
        _alone("--seconds", "--n-frames", options, "n_frames")
        options["n_frames"] = _frames(seconds, settings)
    if options.get("prompt") == "-":
        if "-" in {options.get("actions"), options.get("inpaint_items")}:
            raise click.UsageError(f"Standard input can be only one thing: the prompt or a file. {_NOTHING_SENT}")
        options["prompt"] = _from_stdin()
    of_size = {} if size is None else {"width": "--size", "height": "--size"}
    return of_size | ({} if seconds is None else {"n_frames": "--seconds"})


def _alone(name: str, others: str, options: dict[str, Any], *fields: str) -> None:
    if any(options.get(field) is not None for field in fields):
        raise click.UsageError(f"Give either {name} or {others}, not both. {_NOTHING_SENT}")


def _size(text: str, settings: Settings) -> tuple[int, int]:
    if pair := re.fullmatch(r"\s*(\d{1,5})\s*[xX*\u00d7]\s*(\d{1,5})\s*", text):
        return int(pair[1]), int(pair[2])
    limits = dialects.configured(settings).capabilities
    meaning = translated(Argument("size", text, limits), {"width"})
    hint = f"; {meaning.words}" if meaning else ""
    allowed = f"; allowed: {meaning.allowed}" if meaning and meaning.allowed else ""
    words = f"{quoted(text, 40)} is not of the form 720x720{hint}{allowed}. {_NOTHING_SENT}"
    raise click.BadParameter(words, param_hint="--size")


def _frames(text: str, settings: Settings) -> int:
    """Seconds in frames. Only whole frames can be asked for, and only lengths that the upstream takes."""
    if not re.fullmatch(r"\s*(\d{1,6}(\.\d{1,6})?|\.\d{1,6})\s*s?\s*", text):
        raise click.BadParameter(
            f"{quoted(text, 40)} is no number of seconds, such as 5 or 2.5. {_NOTHING_SENT}", param_hint="--seconds"
        )
    seconds = Decimal(text.strip().rstrip("s").strip())
    frames = seconds * FPS
    limits = dialects.configured(settings).capabilities
    if not limits.any_length and frames not in limits.lengths:
        lengths = ", ".join(f"{each / FPS:g}" for each in sorted(limits.lengths))
        words = f"no video here is {seconds} s long; allowed: {lengths}. {_NOTHING_SENT}"
        raise click.BadParameter(words, param_hint="--seconds")
    if frames != int(frames) or not frames:
        below, above = max(1, int(frames)), int(frames) + 1
        near = f"{below / FPS:.4g} s is {below} and {above / FPS:.4g} s is {above}"
        words = f"{seconds} s is not a whole number of frames ({FPS} a second); {near} (--n-frames). {_NOTHING_SENT}"
        raise click.BadParameter(words, param_hint="--seconds")
    return int(frames)


def _from_stdin() -> str:
    """The prompt. Raises UsageError where there is none, or it is no text."""
    if sys.stdin is None or sys.stdin.closed:
        raise click.UsageError(f"Standard input is closed: there is no prompt to read. {_NOTHING_SENT}")
    if is_terminal(sys.stdin):
        click.echo("Type the prompt, then Ctrl-D on a line of its own (Ctrl-Z on Windows).", err=True)
    written = sys.stdin.buffer.read(MOST_CHARACTERS + 1)
    if len(written) > MOST_CHARACTERS:
        raise click.UsageError(f"Standard input is longer than {MOST_CHARACTERS} bytes. {_NOTHING_SENT}")
    prompt = _text(written).replace("\r\n", "\n").strip()
    if not prompt:
        raise click.UsageError(f"Standard input is empty: there is no prompt to read. {_NOTHING_SENT}")
    return prompt


def _text(written: bytes) -> str:
    """UTF-8, with or without a byte order mark, or UTF-16 with one, or what the locale says."""
    is_utf16 = written.startswith((b"\xff\xfe", b"\xfe\xff"))
    encodings = ["utf-16"] if is_utf16 else ["utf-8-sig", sys.stdin.encoding]
    for encoding in encodings:
        try:
            return written.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    raise click.UsageError(f"Standard input is no text in UTF-8. {_NOTHING_SENT}")
