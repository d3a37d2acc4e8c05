"""README and the pages beside it, as tests read them: their fenced blocks, links and anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = (
    README,
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "CHANGELOG.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
"""Every page for readers."""


def blocks(language: str, *pages: Path) -> list[str]:
    """The fenced blocks in one language (a pattern), of these pages or of all pages."""
    results: list[str] = []
    for page in pages or PAGES:
        text = page.read_text(encoding="utf-8")
        results += map(dedent, re.findall(rf"^ *```{language}\n(.*?)^ *```$", text, re.DOTALL | re.MULTILINE))
    return results


def block(language: str) -> str:
    """The first such block."""
    return blocks(language)[0]


def links(page: Path) -> Iterator[str]:
    """The targets of a page's links and pictures within this project."""
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not target.startswith(("https:", "http:")):
            yield target


def anchors(page: Path) -> set[str]:
    """The fragments of a page: its headings as GitHub writes them, with a number if repeated."""
    results: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        anchor = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        number = 0
        while (name := f"{anchor}-{number}" if number else anchor) in results:
            number += 1
        results.add(name)
    return results


def prose(page: Path) -> str:
    """The page without its fenced blocks, where a hash is a comment and a bracket is code."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
