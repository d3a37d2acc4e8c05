"""Tables for a terminal: columns below each other, in as many lines a row as the terminal is too narrow for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sora_mcp.cli.terminal import width_of

INDENT = "  "
"""Before the second and further lines of a row, and between two columns."""
LEAST_OF_TEXT = 10
"""Columns that the text at the end of a row has at least; where less is left, it stands on a line of its own."""


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """The lines of a table that has `width` columns for it: the last cell of a row is a text that may be cut, the
    others never are. What every row leaves empty is left out."""
    kept = [i for i in range(len(headers)) if i == len(headers) - 1 or any(row[i] for row in rows)]
    every = [[row[i] for i in kept] for row in (headers, *rows)]
    widths = [max(len(row[i]) for row in every) for i in range(len(kept) - 1)]
    lines = _packed(widths, width)
    for row in every:
        for number, columns in enumerate(lines):
            yield _line(row, columns, widths, INDENT if number else "", width)


def _packed(widths: Sequence[int], width: int) -> list[list[int]]:
    """Which columns stand on which line of a row; the text comes after those that have `widths`."""
    lines: list[list[int]] = [[]]
    used = 0
    for column, needed in enumerate([*widths, LEAST_OF_TEXT]):
        if lines[-1] and used + len(INDENT) + needed > width:
            lines.append([])
            used = 0
        used += len(INDENT) + needed if lines[-1] or len(lines) > 1 else needed
        lines[-1].append(column)
    return lines


def _line(row: Sequence[str], columns: Sequence[int], widths: Sequence[int], indent: str, width: int) -> str:
    cells = [row[column].ljust(widths[column]) for column in columns if column < len(widths)]
    before = indent + INDENT.join(cells)
    if columns[-1] < len(widths):
        return before.rstrip()
    before += INDENT if cells else ""
    return f"{before}{cut(row[-1], width - len(before))}".rstrip()


def cut(text: str, width: int) -> str:
    """As much of a text as fits in `width` columns."""
    if text.isascii():
        return text[: max(0, width)]
    taken = 0
    for at, character in enumerate(text):
        taken += width_of(character)
        if taken > width:
            return text[:at]
    return text
