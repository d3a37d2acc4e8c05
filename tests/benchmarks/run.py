"""The benchmark: `python tests/benchmarks/run.py [--quick] [--json FILE]`. It asserts nothing.

Everything is measured beside what it is compared with, in the same run: read the ratios, the times are this
machine's. "target" bounds the ratio, or the figure itself where there is nothing beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from growth import growing
from looking import looking
from measures import (
    Effort,
    Row,
    creating,
    gateway,
    importing,
    loading,
    recording,
    recording_in_postgres,
    starting,
    surface,
)

FULL = Effort(starts=11, creates=500, load_rounds=5, load_calls=1000, ledger_pairs=300, ledger_rows=(1_000, 100_000))
QUICK = Effort(starts=5, creates=100, load_rounds=3, load_calls=300, ledger_pairs=100, ledger_rows=(1_000, 100_000))


def measure(effort: Effort, folder: Path) -> Iterator[Row]:
    """All rows. What this process itself loads comes last: on Linux a child's peak memory is at least its parent's."""
    yield from starting(effort, folder / "starting")
    with gateway(folder / "calling") as env:
        yield from creating(effort, folder / "calling", env)
    with gateway(folder / "loading") as env:  # a ledger of its own: the creates above are still being followed
        yield from loading(effort, folder / "loading", env)
    yield from importing(effort, folder / "importing")
    yield from looking(folder / "looking")
    yield from recording(effort, folder / "recording")
    yield from growing("SQLite", {count: folder / "growing" / str(count) / "ledger" for count in effort.ledger_rows})
    yield from recording_in_postgres(effort)
    yield from surface()


def table(rows: list[Row]) -> str:
    """One line a row, aligned."""
    lines = [("", "ours", "against", "ratio", "target", "")]
    lines += [
        (
            row.name,
            f"{_number(row.ours)} {row.unit}",
            "" if row.against is None else f"{_number(row.against)} {row.unit}",
            "" if row.ratio is None else f"{row.ratio:.2f}",
            _target(row),
            "MISSED" if row.missed else "",
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ([line[0].ljust(widths[0]), *map(str.rjust, line[1:5], widths[1:5]), line[5]] for line in lines)
    return "\n".join("  ".join(cells).rstrip() for cells in padded)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 or value == int(value) else f"{value:.3g}"


def _target(row: Row) -> str:
    if row.at_most is not None:
        return f"<= {row.at_most:g}"
    return "" if row.at_least is None else f">= {row.at_least:g}"


def main() -> None:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions: about half a minute")
    parser.add_argument("--million", action="store_true", help="also a ledger of 1,000,000 rows")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as JSON")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else FULL
    if arguments.million:
        effort = replace(effort, ledger_rows=(*effort.ledger_rows, 1_000_000))
    began = time.perf_counter()
    rows = []
    with TemporaryDirectory() as folder:
        for row in measure(effort, Path(folder)):
            rows.append(row)
            sys.stderr.write(".")
            sys.stderr.flush()
    sys.stderr.write(f" {time.perf_counter() - began:.0f} s\n")
    sys.stdout.write(table(rows) + "\n")
    if arguments.json:
        environment = {
            "python": platform.python_version(),
            "system": platform.platform(),
            "cpus": os.cpu_count(),
            "mcp": version("mcp"),
            "sora_mcp": version("sora-mcp"),
        }
        text = json.dumps(
            {"where": environment, "rows": [asdict(row) | {"missed": row.missed} for row in rows]}, indent=2
        )
        arguments.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
