"""What a terminal or a pipe can show: characters that its encoding lacks, colours, and sentences that fit its width."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from typing import TextIO

_INSTEAD = dict(zip("✓✗·→←…–█░", ("+", "x", "-", "->", "<-", "...", "-", "#", "."), strict=True))
"""Our own signs, and what comes close to them in ASCII."""
_HANDLER = "sora_mcp.nearest"
_ASCII = "sora_mcp_ascii"


def prepare() -> None:
    """Nothing that is written from now on fails for its characters: what stdout or stderr lacks becomes what is close
    to it, or `?`; the bytes of a file name that is text in no encoding stay as they are."""
    codecs.register_error(_HANDLER, _nearest)
    codecs.register(_own_ascii)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # click writes UTF-8 where a stream says "ascii": it takes that for a mistake of the locale
            stream.reconfigure(encoding=_ASCII if _name_of(stream) == "ascii" else None, errors=_HANDLER)


def _nearest(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff" and os.name != "nt":  # PEP 383: a byte of a file's name
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return _INSTEAD.get(character, "?"), error.start + 1


def _own_ascii(name: str) -> codecs.CodecInfo | None:
    if name != _ASCII:
        return None
    codec = codecs.lookup("ascii")
    return codecs.CodecInfo(
        codec.encode,
        codec.decode,
        incrementalencoder=codec.incrementalencoder,
        incrementaldecoder=codec.incrementaldecoder,
        name=_ASCII,
    )


def _name_of(stream: TextIO) -> str:
    return codecs.lookup(stream.encoding or "utf-8").name


def holds_json(text: str) -> bool:
    """Whether stdout takes a JSON text as it is: JSON is UTF-8, and has no half characters (RFC 8259 §8)."""
    return text.isascii() or (_name_of(sys.stdout) == "utf-8" and not has_surrogates(text))


def has_surrogates(text: str) -> bool:
    """Whether a text holds what is no character: a byte that the locale's encoding does not know, as a rule."""
    return re.search("[\ud800-\udfff]", text) is not None


def without_colour() -> bool:
    """Whether a person wants no colours (https://no-color.org), or the terminal has none."""
    return bool(os.environ.get("NO_COLOR")) or is_dumb()


def is_dumb() -> bool:
    """Whether the terminal only prints one line after the other."""
    return os.environ.get("TERM") == "dumb"


def columns() -> int:
    """How many the terminal has."""
    import shutil  # noqa: PLC0415 - for a terminal only; it loads the compressors

    return shutil.get_terminal_size().columns


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person types there, or reads it; a stream that was closed from the start is None."""
    return stream is not None and stream.isatty()


def fitted(text: str, stream: TextIO | None) -> str:
    """A text broken into lines that fit, where `stream` is a terminal: not within an id, an address or a command (in
    backticks, or behind a colon at the end), which can then be copied. Lines that are short enough, and tables, stay as
    they are."""
    if not is_terminal(stream):
        return text
    width = columns()
    return "\n".join(_folded(line, width) if width_of(line) > width else line for line in text.split("\n"))


def _folded(line: str, width: int) -> str:
    if "  " in line.strip():
        return line
    indent = line[: len(line) - len(line.lstrip())]
    lines: list[str] = []
    for word in re.findall(r"(?<=: )sora-mcp .*|[^\s`]*`[^`]*`[^\s`]*|\S+", line):
        if lines and width_of(lines[-1]) + 1 + width_of(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"{indent}{word}")
    return "\n".join(lines)


def width_of(text: str) -> int:
    """The columns that a text takes: East Asian characters and emoji take two, marks none."""
    if text.isascii():
        return len(text)
    import unicodedata  # noqa: PLC0415 - for other scripts only

    return sum(0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF") for each in text)
