"""A line of a batch as it is shown: as JSON, and at a terminal in words that fit."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from sora_mcp.cli.tables import INDENT, table
from sora_mcp.cli.terminal import columns, fitted
from sora_mcp.core.cost import RELATIVE, Cost


def shown(line: Mapping[str, Any]) -> str:
    """What is told of a line."""
    if not sys.stdout.isatty():
        return json.dumps(line)
    return "\n".join(_words(line, columns()))


def _words(line: Mapping[str, Any], width: int) -> Iterator[str]:
    video_id = line.get("task_id") or line.get("request_id") or ""
    cost = str(Cost.of(line["cost"], line.get("unit", RELATIVE))) if "cost" in line else ""
    row = [f"line {line['line']}", line["state"], video_id, cost, line.get("name", "")]
    lines = list(table([""] * len(row), [row], width))
    yield from filter(None, lines[len(lines) // 2 :])  # without the headers
    error = line.get("error", {})
    why = [line.get("reason", ""), error.get("message", ""), error.get("next_step", "")]
    if any(why):
        yield fitted(INDENT + " ".join(filter(None, why)), sys.stdout)
    yield from (f"{INDENT}{path}" for path in line.get("paths", [line["path"]] if "path" in line else []))
