"""Proof against programs nobody here wrote: `python tests/proofs/prove.py [NAME …] [--ci] [--list] [--work DIR]`.

Installs pinned programs and libraries from npm and PyPI in a folder of its own, takes each through the real server
against the sandbox, and writes what was shown to `works-with.json` and README's table. `--ci` runs the quick ones and
writes nothing: it fails where something else was shown than is written.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import libraries
import protocol
from workshop import PROJECT, Failed, Missing, Workshop

TABLE = Path(__file__).with_name("works-with.json")
README = PROJECT / "README.md"
BEGIN, END = "<!-- works with: generated -->\n", "<!-- /works with -->"
Told = tuple[tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class Proof:
    """One program or library, pinned, and what takes it through the server."""

    title: str
    package: str
    transport: str
    show: Callable[[Workshop], Told]
    quick: bool = False

    @property
    def name(self) -> str:
        return self.show.__name__.replace("_", "-")

    @property
    def version(self) -> str:
        return re.split("==|@", self.package)[-1]


@dataclass(frozen=True, slots=True)
class Row:
    """What was shown, as it is kept."""

    name: str
    title: str
    version: str
    transport: str
    eras: tuple[str, ...]
    shown: str

    @property
    def cells(self) -> tuple[str, ...]:
        return self.title, self.version, self.transport, ", ".join(self.eras) or "-", self.shown


PROOFS = (
    Proof("Official conformance suite", protocol.CONFORMANCE, "HTTP", protocol.conformance, quick=True),
    Proof("MCP Inspector (CLI)", protocol.INSPECTOR, "stdio", protocol.inspector, quick=True),
    Proof("TypeScript SDK 1.x", libraries.TYPESCRIPT_1, "stdio", libraries.typescript_1, quick=True),
    Proof("TypeScript client 2.x", libraries.TYPESCRIPT_2, "stdio", libraries.typescript_2, quick=True),
    Proof("fastmcp client", libraries.FASTMCP, "stdio", libraries.fastmcp, quick=True),
)


def main() -> int:
    asked = _arguments()
    proofs = [proof for proof in PROOFS if _wanted(proof, asked)]
    if asked.list:
        sys.stdout.writelines(f"{each.name}: {each.title} {each.version}{' (--ci)' * each.quick}\n" for each in proofs)
        return 0
    before = _written()
    now = dict(before)
    bad = 0
    for proof in proofs:
        try:
            now[proof.name] = _prove(proof, asked.work)
        except Missing as missing:
            sys.stdout.write(f"- {proof.title}: not run, {missing}\n")
            bad += not asked.ci
        except Failed as failed:
            sys.stdout.write(f"✗ {proof.title} {proof.version}: {failed}\n")
            bad += 1
    if asked.ci:
        drifted = [name for name, row in now.items() if row != before.get(name)]
        sys.stdout.writelines(f"✗ {name}: {TABLE.name} says {before.get(name)}\n" for name in drifted)
        bad += len(drifted)
    else:
        _write([now[proof.name] for proof in PROOFS if proof.name in now])
    return 1 if bad else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Proof against programs and libraries nobody here wrote.")
    parser.add_argument("names", nargs="*", metavar="NAME", choices=[[], *(proof.name for proof in PROOFS)])
    parser.add_argument("--ci", action="store_true", help="the quick ones; compare with what is written, write nothing")
    parser.add_argument("--list", action="store_true", help="say what there is, run nothing")
    default = Path(tempfile.gettempdir()) / "sora-mcp-proofs"
    parser.add_argument("--work", type=Path, default=default, metavar="DIR", help=f"folder to work in ({default})")
    return parser.parse_args()


def _wanted(proof: Proof, asked: argparse.Namespace) -> bool:
    return proof.name in asked.names if asked.names else proof.quick or not asked.ci


def _prove(proof: Proof, work: Path) -> Row:
    """Run one proof and print its line."""
    began = time.monotonic()
    eras, shown = proof.show(Workshop(work.absolute(), proof.name))
    row = Row(proof.name, proof.title, proof.version, proof.transport, eras, shown)
    sys.stdout.write(f"✓ {' | '.join(row.cells)} ({time.monotonic() - began:.0f} s)\n")
    sys.stdout.flush()
    return row


def _written() -> dict[str, Row]:
    rows = json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else []
    return {row["name"]: Row(**row | {"eras": tuple(row["eras"])}) for row in rows}


def _write(rows: list[Row]) -> None:
    text = json.dumps([asdict(row) for row in rows], indent=2, ensure_ascii=False)
    TABLE.write_text(text + "\n", encoding="utf-8")
    readme = README.read_text(encoding="utf-8")
    before, begun, rest = readme.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if begun and ended:
        README.write_text(before + BEGIN + _markdown(rows) + END + after, encoding="utf-8")


def _markdown(rows: Iterable[Row]) -> str:
    head = ("what", "version", "transport", "protocol", "shown")
    lines = [head, tuple("---" for _ in head), *(row.cells for row in rows)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


if __name__ == "__main__":
    sys.exit(main())
