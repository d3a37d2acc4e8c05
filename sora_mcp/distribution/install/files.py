"""A client's configuration file: read, backed up, written atomically, and restored."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem
from sora_mcp.distribution.install import entries, toml_entries
from sora_mcp.distribution.install.entries import EMPTY, NotEditable
from sora_mcp.distribution.install.own_entry import is_own
from sora_mcp.distribution.manifests.product import KEY, Document

Renew = Callable[[Document | None], Document]
"""Builds our entry from the existing one, if any."""

Result = TypeVar("Result")

_MAX_BYTES = 50_000_000
"""A larger file is no configuration."""

_ATTEMPTS = 5
"""How often to start over if another program writes the file in between."""


class OtherServer(FileProblem):
    """Another server has our name in a client's file."""


class _ConcurrentChange(Exception):
    """Another program wrote the file after it was read."""


class ClientFile(Struct, frozen=True):
    """The file in which a client stores its servers. `container`: the key that holds them.

    `questions`: what the client asks the person on our behalf; added and removed with our entry.
    """

    path: Path
    container: str = "mcpServers"
    questions: Sequence[Document] = ()

    @property
    def backup(self) -> Path:
        return self.path.with_name(f"{self.path.name}.before-sora-mcp")

    def own_entry(self) -> Document | None:
        """Return our entry, or None. Raises FileProblem if another server has its name, or the file is unreadable."""
        return self._retry(lambda: self._own_entry(self._read(self.path)))

    def add(self, renew: Renew) -> str:
        """Add our entry; return what was done. Raises FileProblem, with the file unchanged, if that is impossible."""
        return self._retry(lambda: self._add(renew))

    def change(self, renew: Renew) -> str:
        """Change the entry that the client itself added, and nothing else, so without a backup. Raises FileProblem."""
        return self._retry(lambda: self._change(renew))

    def check(self, renew: Renew) -> None:
        """Raise FileProblem if the entry could not be added or changed."""
        self._retry(lambda: self._with_entry(self._read(self.path) or EMPTY, renew(self.own_entry())))

    def remove(self) -> str:
        """Restore the file if it was not changed since, else remove our entry; return what was done."""
        return self._retry(self._remove)

    def check_writable(self) -> None:
        """Raise FileProblem if the file's mode is read-only: replacing it only requires permissions on its folder."""
        if self.path.exists() and not self.path.stat().st_mode & 0o222:
            raise self._problem("it is read-only")

    def _entry(self, text: str) -> Document | None:
        return entries.entry(text, self.container, KEY)

    def _with_entry(self, text: str, value: Document) -> str:
        return entries.with_items(entries.with_entry(text, self.container, KEY, value), "inputs", self.questions)

    def _add(self, renew: Renew) -> str:
        before = self._read(self.path)
        text = before if before and before.strip() else EMPTY
        current = self._own_entry(before)
        after = self._with_entry(text, renew(current))
        if after == before:
            return f"It is already in {self.path}."
        if before is not None and (current is None or not (self.backup.exists() or self._holds_only(text, current))):
            self._save(before)
        self._replace(before, after)
        backup_note = f" The previous version is beside it as {self.backup.name}." if self.backup.exists() else ""
        return f"{'Changed in' if current else 'Added to'} {self.path}.{backup_note}"

    def _change(self, renew: Renew) -> str:
        text = self._read(self.path)
        current = self._own_entry(text)
        if text is None or current is None:
            raise NotEditable("the entry is not in it")
        after = self._with_entry(text, renew(current))
        if after == text:
            return f"It is already in {self.path}."
        self._replace(text, after)
        return f"Changed in {self.path}."

    def _remove(self) -> str:
        text = self._read(self.path)
        current = self._own_entry(text)
        if text is None or current is None:
            return f"It is not in {self.path}."
        return self._restore(text, current) or self._remove_entry(text)

    def _restore(self, text: str, current: Document) -> str:
        """Undo `add` exactly, if the file is unchanged since. Return what was done, empty if nothing was."""
        original = self._original()
        if original is not None and self._yields(original, text, current):
            self._replace(text, original)
            self.backup.unlink()
            return f"{self.path} is as it was before."
        if self._holds_only(text, current):
            self.check_writable()
            self._check_unchanged(text)
            self.path.resolve().unlink()
            return f"Removed {self.path}, which contained nothing else."
        return ""

    def _remove_entry(self, text: str) -> str:
        original = self._original()
        keep_container = original is not None and f'"{self.container}"' in original
        remaining = entries.without_entry(text, self.container, KEY, keep_container=keep_container)
        unused = [each["id"] for each in self.questions if f"${{input:{each['id']}}}" not in remaining]
        self._replace(text, entries.without_items(remaining, "inputs", unused))
        return f"Removed from {self.path}; the rest of it is as you left it."

    def _original(self) -> str | None:
        """Return the backup's text, or None if there is no usable one."""
        try:
            return self._read(self.backup)
        except FileProblem:
            return None

    def _yields(self, original: str, text: str, current: Document) -> bool:
        """Whether `original` has no entry of ours, and adding it yields exactly `text`."""
        base = original if original.strip() else EMPTY
        try:
            return self._entry(base) is None and self._with_entry(base, current) == text
        except NotEditable:
            return False

    def _holds_only(self, text: str, current: Document) -> bool:
        """Whether the file is what `add` creates if there is no file."""
        return self._yields(EMPTY, text, current)

    def _own_entry(self, text: str | None) -> Document | None:
        current = self._entry(text) if text and text.strip() else None
        if current is not None and not is_own(current):
            raise OtherServer(
                f'{self.path} was not changed: another server is called "{KEY}" in it.',
                Do("Rename or remove that entry there, and run this again."),
            )
        return current

    def _read(self, path: Path) -> str | None:
        """Return the text, or None if there is no file."""
        try:
            if not path.is_file():  # opening a pipe would wait for its writer
                path.stat()
                raise self._problem("it cannot be read: it is not a regular file")
            if path.stat().st_size > _MAX_BYTES:
                raise self._problem(f"it is larger than {_MAX_BYTES // 1_000_000} MB")
            return path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise self._problem("it is not UTF-8 text") from None
        except OSError as error:
            raise self._problem(f"it cannot be read ({error.strerror})") from None

    def _replace(self, before: str | None, after: str) -> None:
        """Write the file atomically; through a link, its target. Raises _ConcurrentChange."""
        self.check_writable()
        with self._temporary_file(self.path.resolve(), after) as new:
            self._check_unchanged(before)
            new.replace(self.path.resolve())

    def _save(self, text: str) -> None:
        self.check_writable()
        with self._temporary_file(self.backup, text) as new:
            new.replace(self.backup)

    def _check_unchanged(self, text: str | None) -> None:
        if self._read(self.path) != text:
            raise _ConcurrentChange

    @contextmanager
    def _temporary_file(self, path: Path, text: str) -> Iterator[Path]:
        """Write the text to a temporary file beside `path`, with the mode of the client's file, else 0600."""
        data = text.encode("utf-8")
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if self.path.exists():
                shutil.copymode(self.path, name)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)

    def _retry(self, act: Callable[[], Result]) -> Result:
        """Run `act`, and again if another program wrote the file in between. Raises FileProblem."""
        for _ in range(_ATTEMPTS):
            try:
                return act()
            except _ConcurrentChange:
                continue
            except NotEditable as reason:
                raise self._problem(str(reason)) from None
            except UnicodeEncodeError:
                raise self._problem("a setting that would be written to it is not UTF-8 text") from None
            except OSError as error:
                raise self._problem(f"it cannot be written ({error.strerror})") from None
        raise self._problem("another program keeps writing it")

    def _problem(self, reason: str) -> FileProblem:
        return FileProblem(f"{self.path} was not changed: {reason}.")


class CodexFile(ClientFile, frozen=True):
    """Codex's file, in TOML."""

    container: str = "mcp_servers"

    def _entry(self, text: str) -> Document | None:
        return toml_entries.entry(text, self.container, KEY)

    def _with_entry(self, text: str, value: Document) -> str:
        return toml_entries.with_entry(text, self.container, KEY, value)
