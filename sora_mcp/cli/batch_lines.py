"""Output for the lines of a batch: JSON, or at a terminal text that fits its width."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from sora_mcp.cli.tables import INDENT, render_table
from sora_mcp.cli.terminal import terminal_width, wrap_text
from sora_mcp.core.cost import RELATIVE, Cost


def render_line(line: Mapping[str, Any]) -> str:
    """Render the result of a line: as JSON, or as text at a terminal."""
    if not sys.stdout.isatty():
        return json.dumps(line)
    return "\n".join(_render_for_terminal(line, terminal_width()))


def _render_for_terminal(line: Mapping[str, Any], width: int) -> Iterator[str]:
    video_id = line.get("task_id") or line.get("request_id") or ""
    cost = str(Cost.of(line["cost"], line.get("unit", RELATIVE))) if "cost" in line else ""
    row = [f"line {line['line']}", line["state"], video_id, cost, line.get("name", "")]
    lines = list(render_table([""] * len(row), [row], width))
    yield from filter(None, lines[len(lines) // 2 :])  # without the headers
    error = line.get("error", {})
    explanations = [line.get("reason", ""), error.get("message", ""), error.get("next_step", "")]
    if any(explanations):
        yield wrap_text(INDENT + " ".join(filter(None, explanations)), sys.stdout)
    yield from (f"{INDENT}{path}" for path in line.get("paths", [line["path"]] if "path" in line else []))
