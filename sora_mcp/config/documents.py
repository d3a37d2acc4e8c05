"""What servers store besides the ledger, such as who may use them: a few small named JSON documents.

A single server stores them in files (`private_file`), servers with a common database store them there
(`sora_mcp.ledger`).
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
    """One JSON object. All methods raise FileProblem if it cannot be read or written."""

    def stamp(self) -> Hashable:
        """Return a value that changes whenever the document does."""

    def check_current(self) -> None:
        """Raise FileProblem if it may have changed since it was last read, and that cannot be checked now."""

    def read(self) -> dict[str, Any]:
        """Return its content, empty if there is none."""

    def change(self) -> AbstractContextManager[dict[str, Any]]:
        """Lock it and yield its content to be changed in place; store that unless an exception is raised."""

    def problem(self, reason: str, advice: str = "") -> FileProblem:
        """Build the error for a problem with this document."""


class Documents(Protocol):
    """All documents of one file folder or database."""

    def named(self, name: str) -> Document:
        """Return the document of this name (lower-case letters and dashes)."""

    def now(self) -> float:
        """Return Unix seconds by the clock common to all servers that share the documents."""

    def close(self) -> None:
        """Release what was opened to read them."""


class Cached(Generic[T]):
    """A document's parsed content, reread at the next use after the document changes."""

    def __init__(self, document: Document, read: Callable[[], T]) -> None:
        self._document = document
        self._read = read
        self._entry: tuple[Hashable, T] | None = None

    def now(self) -> T:
        """Return the current content. Raises what `read` raises, and FileProblem; nothing cached is used then."""
        stamp = self._document.stamp()
        entry = self._entry
        if entry is None or entry[0] != stamp:
            self._entry = None
            self._entry = entry = stamp, self._read()
        return entry[1]

    def check_current(self) -> None:
        """Raise FileProblem if it may have changed since, and that cannot be checked now."""
        self._document.check_current()


class InvalidDocument(Exception):
    """A text is not a valid document; the message gives the reason."""


def parse(text: str) -> dict[str, Any]:
    """Return the object in a document's text, without its `format`. Raises InvalidDocument."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise InvalidDocument("is damaged, or only half written: it is not JSON") from None
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise InvalidDocument("is damaged, or of a newer release")
    return document


def serialize(document: dict[str, Any]) -> str:
    """Return a document's text."""
    return json.dumps({"format": FORMAT} | document, indent=1) + "\n"
