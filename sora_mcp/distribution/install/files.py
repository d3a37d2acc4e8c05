"""A client's file: read, backed up, written whole or not at all, and put back as it was."""

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
from sora_mcp.distribution.install.entries import EMPTY, NotPlain
from sora_mcp.distribution.install.own_entry import is_ours
from sora_mcp.distribution.manifests.product import KEY, Document

Renew = Callable[[Document | None], Document]
"""What our entry is to be, from the one that is there."""

Done = TypeVar("Done")

_LARGEST = 50_000_000
"""In bytes: what is larger is no configuration."""

_ATTEMPTS = 5
"""So often is begun anew where another program writes the file in between."""


class _ChangedMeanwhile(Exception):
    """Another program wrote the file after it was read here."""


class ClientFile(Struct, frozen=True):
    """The file in which a client keeps its servers, and the key under which they stand.

    `questions` are what the client asks the person on our behalf: they come and go with our entry.
    """

    path: Path
    container: str = "mcpServers"
    questions: Sequence[Document] = ()

    @property
    def backup(self) -> Path:
        return self.path.with_name(f"{self.path.name}.before-sora-mcp")

    def ours(self) -> Document | None:
        """Our entry, if it is there. Raises FileProblem where another server has its name, or nobody can tell."""
        return self._steadily(lambda: self._ours(self._read(self.path)))

    def add(self, renew: Renew) -> str:
        """Put our entry in; says what was done. Raises FileProblem, with the file untouched, where it cannot."""
        return self._steadily(lambda: self._add(renew))

    def change(self, renew: Renew) -> str:
        """Change our entry where the client itself put it, and only that, so without a backup. Raises FileProblem."""
        return self._steadily(lambda: self._change(renew))

    def check(self, renew: Renew) -> None:
        """Raise FileProblem where the entry could not be put in, or changed."""
        self._steadily(lambda: self._with_entry(self._read(self.path) or EMPTY, renew(self.ours())))

    def remove(self) -> str:
        """Put the file back as it was if nobody touched it since, else take our entry out; says what was done."""
        return self._steadily(self._remove)

    def refuse_read_only(self) -> None:
        """By the file's mode: replacing a file asks only for the rights of its folder."""
        if self.path.exists() and not self.path.stat().st_mode & 0o222:
            raise self._refusal("it is read-only")

    def _entry(self, text: str) -> Document | None:
        return entries.entry(text, self.container, KEY)

    def _with_entry(self, text: str, value: Document) -> str:
        return entries.with_items(entries.with_entry(text, self.container, KEY, value), "inputs", self.questions)

    def _add(self, renew: Renew) -> str:
        before = self._read(self.path)
        text = before if before and before.strip() else EMPTY
        held = self._ours(before)
        after = self._with_entry(text, renew(held))
        if after == before:
            return f"It is already in {self.path}."
        if before is not None and (held is None or not (self.backup.exists() or self._is_alone(text, held))):
            self._save(before)
        self._replace(before, after)
        kept = f" The file as it was is kept beside it as {self.backup.name}." if self.backup.exists() else ""
        return f"{'Changed in' if held else 'Added to'} {self.path}.{kept}"

    def _change(self, renew: Renew) -> str:
        text = self._read(self.path)
        held = self._ours(text)
        if text is None or held is None:
            raise NotPlain("the entry is not in it")
        after = self._with_entry(text, renew(held))
        if after == text:
            return f"It is already in {self.path}."
        self._replace(text, after)
        return f"Changed in {self.path}."

    def _remove(self) -> str:
        text = self._read(self.path)
        held = self._ours(text)
        if text is None or held is None:
            return f"It is not in {self.path}."
        return self._put_back(text, held) or self._take_out(text)

    def _put_back(self, text: str, held: Document) -> str:
        """Undo `add` exactly, if the file is still what it made of the backup, or of nothing. Says so, or nothing."""
        original = self._original()
        if original is not None and self._becomes(original, text, held):
            self._replace(text, original)
            self.backup.unlink()
            return f"{self.path} is as it was before."
        if self._is_alone(text, held):
            self.refuse_read_only()
            self._check_unchanged(text)
            self.path.resolve().unlink()
            return f"Removed {self.path}, which held nothing else."
        return ""

    def _take_out(self, text: str) -> str:
        original = self._original()
        kept = original is not None and f'"{self.container}"' in original
        without = entries.without_entry(text, self.container, KEY, keep_container=kept)
        unused = [each["id"] for each in self.questions if f"${{input:{each['id']}}}" not in without]
        self._replace(text, entries.without_items(without, "inputs", unused))
        return f"Removed from {self.path}; the rest of it is as you left it."

    def _original(self) -> str | None:
        """The backup; None where there is none that can be used."""
        try:
            return self._read(self.backup)
        except FileProblem:
            return None

    def _becomes(self, original: str, text: str, held: Document) -> bool:
        """Whether a file that did not hold our entry becomes `text` by it alone."""
        base = original if original.strip() else EMPTY
        try:
            return self._entry(base) is None and self._with_entry(base, held) == text
        except NotPlain:
            return False

    def _is_alone(self, text: str, held: Document) -> bool:
        """Whether the file is what `add` makes of nothing."""
        return self._becomes(EMPTY, text, held)

    def _ours(self, text: str | None) -> Document | None:
        held = self._entry(text) if text and text.strip() else None
        if held is not None and not is_ours(held):
            raise FileProblem(
                f'{self.path} was left untouched: another server is called "{KEY}" in it.',
                Do("Give that one another name there, or take it out, and run this again."),
            )
        return held

    def _read(self, path: Path) -> str | None:
        """The text; None where there is no file."""
        try:
            if not path.is_file():  # opening a pipe would wait for whoever writes to it
                path.stat()
                raise self._refusal("it cannot be read: it is no ordinary file")
            if path.stat().st_size > _LARGEST:
                raise self._refusal(f"it is larger than {_LARGEST // 1_000_000} MB")
            return path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise self._refusal("it is not UTF-8 text") from None
        except OSError as error:
            raise self._refusal(f"it cannot be read ({error.strerror})") from None

    def _replace(self, before: str | None, after: str) -> None:
        """Write the file whole or not at all; through a link, to its target. Raises _ChangedMeanwhile."""
        self.refuse_read_only()
        with self._beside(self.path.resolve(), after) as new:
            self._check_unchanged(before)
            new.replace(self.path.resolve())

    def _save(self, text: str) -> None:
        self.refuse_read_only()
        with self._beside(self.backup, text) as new:
            new.replace(self.backup)

    def _check_unchanged(self, text: str | None) -> None:
        if self._read(self.path) != text:
            raise _ChangedMeanwhile

    @contextmanager
    def _beside(self, path: Path, text: str) -> Iterator[Path]:
        """The text in a new file beside `path`, with the permissions of the client's own, else for the owner alone."""
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

    def _steadily(self, act: Callable[[], Done]) -> Done:
        """Do something with the file as it is now, and again where another program wrote it in between."""
        for _ in range(_ATTEMPTS):
            try:
                return act()
            except _ChangedMeanwhile:
                continue
            except NotPlain as reason:
                raise self._refusal(str(reason)) from None
            except UnicodeEncodeError:
                raise self._refusal("a setting that would be written to it is not UTF-8 text") from None
            except OSError as error:
                raise self._refusal(f"it cannot be written ({error.strerror})") from None
        raise self._refusal("another program keeps writing it")

    def _refusal(self, reason: str) -> FileProblem:
        return FileProblem(f"{self.path} was left untouched: {reason}.")


class CodexFile(ClientFile, frozen=True):
    """Codex's file, in TOML."""

    container: str = "mcp_servers"

    def _entry(self, text: str) -> Document | None:
        return toml_entries.entry(text, self.container, KEY)

    def _with_entry(self, text: str, value: Document) -> str:
        return toml_entries.with_entry(text, self.container, KEY, value)
