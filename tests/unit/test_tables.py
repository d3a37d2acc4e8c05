"""Tables at terminals of every width: ids are never cut, and nothing but an id is wider than the terminal."""

from __future__ import annotations

import pytest

from sora_mcp.cli.tables import render_table

HEADERS = ("ID", "STATE", "SIZE", "PROMPT")
LONG = "task_" + "x" * 60
ROWS = [["task_1", "succeeded", "480x854", "a paper boat in the rain"], [LONG, "queued", "", "船" * 60]]


def width_of(line: str) -> int:
    return len(line) + line.count("船")


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 100, 200])
def test_ids_are_whole_and_lines_fit(width: int) -> None:
    lines = list(render_table(HEADERS, ROWS, width))
    words = " ".join(lines).split()
    assert {"task_1", LONG, "succeeded", "480x854", *HEADERS} <= set(words)
    assert len(lines) % 3 == 0
    assert all(width_of(line) <= max(width, len(LONG)) for line in lines)


def test_a_wide_terminal_has_one_line_for_each_and_cells_stand_below_each_other() -> None:
    header, first, second = render_table(HEADERS, ROWS, 120)
    assert [
        line.index(word) for line, word in zip((header, first, second), ("STATE", "succeeded", "queued"), strict=True)
    ] == [67] * 3
    assert width_of(second) <= 120
    assert list(render_table(HEADERS, [["task_1", "queued", "", "x"]], 80)) == [
        "ID      STATE   PROMPT",
        "task_1  queued  x",
    ]
