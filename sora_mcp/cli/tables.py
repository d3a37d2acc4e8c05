"""Tables for a terminal; a row that is wider than the terminal takes several lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sora_mcp.cli.terminal import display_width

INDENT = "  "
"""Starts the second and further lines of a row, and separates columns."""
MIN_TEXT_WIDTH = 10
"""Minimum width of the text at the end of a row; if less is left, the text gets its own line."""


def render_table(headers: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> Iterator[str]:
    """Yield the lines of a table that is `width` columns wide.

    The last cell of a row is text and may be truncated, the others never are. A column that is empty in every row is
    left out.
    """
    visible = [i for i in range(len(headers)) if i == len(headers) - 1 or any(row[i] for row in rows)]
    all_rows = [[row[i] for i in visible] for row in (headers, *rows)]
    widths = [max(len(row[i]) for row in all_rows) for i in range(len(visible) - 1)]
    lines = _pack_columns(widths, width)
    for row in all_rows:
        for number, columns in enumerate(lines):
            yield _render_line(row, columns, widths, INDENT if number else "", width)


def _pack_columns(widths: Sequence[int], width: int) -> list[list[int]]:
    """Assign the columns to the lines of a row; the text comes after the columns that have `widths`."""
    lines: list[list[int]] = [[]]
    used = 0
    for column, needed in enumerate([*widths, MIN_TEXT_WIDTH]):
        if lines[-1] and used + len(INDENT) + needed > width:
            lines.append([])
            used = 0
        used += len(INDENT) + needed if lines[-1] or len(lines) > 1 else needed
        lines[-1].append(column)
    return lines


def _render_line(row: Sequence[str], columns: Sequence[int], widths: Sequence[int], indent: str, width: int) -> str:
    cells = [row[column].ljust(widths[column]) for column in columns if column < len(widths)]
    prefix = indent + INDENT.join(cells)
    if columns[-1] < len(widths):
        return prefix.rstrip()
    prefix += INDENT if cells else ""
    return f"{prefix}{truncate(row[-1], width - len(prefix))}".rstrip()


def truncate(text: str, width: int) -> str:
    """Return as much of a text as fits in `width` columns."""
    if text.isascii():
        return text[: max(0, width)]
    used = 0
    for index, character in enumerate(text):
        used += display_width(character)
        if used > width:
            return text[:index]
    return text
