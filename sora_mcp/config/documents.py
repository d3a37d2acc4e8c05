"""What servers know beside their ledger, such as who may use them: a few small JSON documents, each with a name.

One server keeps them in files (`private_file`), servers that share a database in that (`sora_mcp.ledger`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar

from sora_mcp.core.errors import FileProblem

FORMAT = 1

T = TypeVar("T")


class Document(Protocol):
    """One JSON object. Everything here raises FileProblem where it cannot be read or written."""

    def stamp(self) -> Hashable:
        """What changes whenever the document does."""

    def check_current(self) -> None:
        """Raise FileProblem where it may have changed since it was last seen here, which cannot be looked at now."""

    def read(self) -> dict[str, Any]:
        """What it holds, empty where there is none."""

    def change(self) -> AbstractContextManager[dict[str, Any]]:
        """What it holds, to be changed in place while nobody else changes it; kept where nothing is raised."""

    def problem(self, wrong: str, advice: str = "") -> FileProblem:
        """What is wrong with it, as an error."""


class Documents(Protocol):
    """All documents of one place."""

    place: str
    """Where they are, for a person."""

    def named(self, name: str) -> Document:
        """The document of a name: small letters and dashes."""

    def now(self) -> float:
        """Unix seconds, by the one clock of all who share the documents."""

    def close(self) -> None:
        """Let go of what was opened to read them."""


class Kept(Generic[T]):
    """What a document holds, as a running server knows it: read again whenever it has changed, at the next use."""

    def __init__(self, document: Document, read: Callable[[], T]) -> None:
        self._document = document
        self._read = read
        self._known: tuple[Hashable, T] | None = None

    def now(self) -> T:
        """What it holds now. Raises what `read` raises, and FileProblem: nothing that was known before counts then."""
        stamp = self._document.stamp()
        known = self._known
        if known is None or known[0] != stamp:
            self._known = None
            self._known = known = stamp, self._read()
        return known[1]

    def check_current(self) -> None:
        """Raise FileProblem where it may have changed since, and nobody can look."""
        self._document.check_current()


class Unreadable(Exception):
    """A text is not that of a document; the message says in which way."""


def parse(text: str) -> dict[str, Any]:
    """The object in a document's text, without its `format`. Raises Unreadable."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable("is damaged, or only half written: it is not JSON") from None
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise Unreadable("is damaged, or of a newer release")
    return document


def text_of(document: dict[str, Any]) -> str:
    """A document as its text."""
    return json.dumps({"format": FORMAT} | document, indent=1) + "\n"
