"""What a terminal or a pipe can show: characters missing from its encoding, colours, and text wrapped to its width."""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from typing import TextIO

_ASCII_FALLBACKS = dict(zip("✓✗·→←…–█░", ("+", "x", "-", "->", "<-", "...", "-", "#", "."), strict=True))
"""Symbols that we print, and their closest equivalents in ASCII."""
_ERROR_HANDLER = "sora_mcp.nearest"
_ASCII_CODEC = "sora_mcp_ascii"


def prepare() -> None:
    """Make every later write to stdout and stderr encodable.

    A character that the encoding lacks becomes its ASCII equivalent, or `?`; undecodable bytes of a file name stay as
    they are.
    """
    codecs.register_error(_ERROR_HANDLER, _replace_unencodable)
    codecs.register(_find_ascii_codec)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # click writes UTF-8 if a stream says "ascii": it considers that a misconfigured locale
            stream.reconfigure(
                encoding=_ASCII_CODEC if _encoding_name(stream) == "ascii" else None, errors=_ERROR_HANDLER
            )


def _replace_unencodable(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    character = error.object[error.start]
    if "\udc80" <= character <= "\udcff" and os.name != "nt":  # PEP 383: a byte of a file's name
        return bytes([ord(character) - 0xDC00]), error.start + 1
    return _ASCII_FALLBACKS.get(character, "?"), error.start + 1


def _find_ascii_codec(name: str) -> codecs.CodecInfo | None:
    if name != _ASCII_CODEC:
        return None
    codec = codecs.lookup("ascii")
    return codecs.CodecInfo(
        codec.encode,
        codec.decode,
        incrementalencoder=codec.incrementalencoder,
        incrementaldecoder=codec.incrementaldecoder,
        name=_ASCII_CODEC,
    )


def _encoding_name(stream: TextIO) -> str:
    return codecs.lookup(stream.encoding or "utf-8").name


def can_encode_json(text: str) -> bool:
    """Whether stdout can encode a JSON text unchanged: JSON is UTF-8, without lone surrogates (RFC 8259 §8)."""
    return text.isascii() or (_encoding_name(sys.stdout) == "utf-8" and not has_surrogates(text))


def has_surrogates(text: str) -> bool:
    """Whether a text contains lone surrogates: usually bytes that the locale's encoding cannot decode."""
    return re.search("[\ud800-\udfff]", text) is not None


def is_colour_disabled() -> bool:
    """Whether the user disabled colours (https://no-color.org), or the terminal has none."""
    return bool(os.environ.get("NO_COLOR")) or is_dumb()


def is_dumb() -> bool:
    """Whether the terminal cannot move the cursor, only print lines."""
    return os.environ.get("TERM") == "dumb"


def terminal_width() -> int:
    """Return the number of columns of the terminal."""
    import shutil  # noqa: PLC0415 - for a terminal only; it loads the compressors

    return shutil.get_terminal_size().columns


def is_terminal(stream: TextIO | None) -> bool:
    """Whether the stream is a terminal; a stream that was closed when the process started is None."""
    return stream is not None and stream.isatty()


def wrap_text(text: str, stream: TextIO | None) -> str:
    """Wrap a text to the terminal's width if `stream` is a terminal.

    Ids, addresses and commands (in backticks, or after a colon at the end) are never split, so that they can be
    copied. Short lines and tables stay as they are.
    """
    if not is_terminal(stream):
        return text
    width = terminal_width()
    return "\n".join(_wrap_line(line, width) if display_width(line) > width else line for line in text.split("\n"))


def _wrap_line(line: str, width: int) -> str:
    if "  " in line.strip():
        return line
    indent = line[: len(line) - len(line.lstrip())]
    lines: list[str] = []
    for word in re.findall(r"(?<=: )sora-mcp .*|[^\s`]*`[^`]*`[^\s`]*|\S+", line):
        if lines and display_width(lines[-1]) + 1 + display_width(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"{indent}{word}")
    return "\n".join(lines)


def display_width(text: str) -> int:
    """Return the number of columns a text takes: East Asian characters and emoji take two, combining marks none."""
    if text.isascii():
        return len(text)
    import unicodedata  # noqa: PLC0415 - for other scripts only

    return sum(0 if unicodedata.combining(each) else 1 + (unicodedata.east_asian_width(each) in "WF") for each in text)
