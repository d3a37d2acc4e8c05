"""A client's JSON file: read, backed up, written whole or not at all, and put back as it was.

Everything is checked before anything is written; a file that changes meanwhile is left alone.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from sora_mcp.errors import FileProblem
from sora_mcp.install.entries import EMPTY, NotPlain, entry, with_entry, without_entry, without_items
from sora_mcp.manifests.product import KEY, NAME, Document


def is_ours(held: Document) -> bool:
    """Whether an entry starts this server: our script, our module, or the published form. A name alone says nothing."""
    program = PureWindowsPath(str(held.get("command"))).name.removesuffix(".exe")
    args = held["args"] if isinstance(held.get("args"), list) else []
    return (
        program == NAME
        or args[:2] == ["-m", NAME.replace("-", "_")]
        or (program == "uvx" and args[:1] == ["--from"] and args[2:3] == [NAME])
    )


def merged(value: Document, held: Document | None) -> Document:
    """Our entry as it is to stand now, with what somebody added to the one that is there: a key, a time-out.

    A reference to a variable never takes the place of a value.
    """
    if held is None:
        return value
    theirs = held["env"] if isinstance(held.get("env"), dict) else {}
    ours = {name: told for name, told in value.get("env", {}).items() if name not in theirs or "${" not in told}
    return {**held, **value, "env": {**theirs, **ours}}


@dataclass(frozen=True, slots=True)
class ClientFile:
    """The file in which a client keeps its servers, and the key under which they stand."""

    path: Path
    container: str

    @property
    def backup(self) -> Path:
        return self.path.with_name(f"{self.path.name}.before-sora-mcp")

    def held(self) -> Document | None:
        """Our entry, if it is there. Raises FileProblem where the file is not understood, or another has its name."""
        return self._held(self._read(self.path))

    def add(self, value: Document, *, backup: bool = True) -> str:
        """Put our entry in; says what was done. Raises FileProblem, with the file untouched, where it cannot."""
        before = self._read(self.path)
        held, text = self._held(before), before if before and before.strip() else EMPTY
        try:
            after = with_entry(text, self.container, KEY, merged(value, held))
            fresh = held is not None and text == with_entry(EMPTY, self.container, KEY, held)
        except NotPlain as reason:
            raise self._refusal(str(reason)) from None
        if after == before:
            return f"It stands in {self.path} already."
        if backup and before is not None and (held is None or not (fresh or self.backup.exists())):
            self._write(self.backup, before)
        self._write(self.path, after, instead_of=before)
        kept = f" The file as it was is kept beside it as {self.backup.name}." if self.backup.exists() else ""
        return f"Added to {self.path}.{kept}"

    def remove(self, inputs: list[str] | None = None) -> str:
        """Put the file back as it was if nobody touched it since, else take our entry out; says what was done.

        `inputs` are the ids of what else is ours in it.
        """
        text = self._read(self.path)
        held = self._held(text)
        if text is None or held is None:
            return f"It does not stand in {self.path}."
        try:
            return self._put_back(text, held) or self._take_out(text, inputs or [])
        except NotPlain as reason:
            raise self._refusal(str(reason)) from None

    def _put_back(self, text: str, held: Document) -> str:
        """Undo `add` exactly, if the file is still what it made of the backup, or of nothing. Says so, or nothing."""
        original = self._read(self.backup)
        if original is not None and _becomes(original, text, self.container, held):
            self._write(self.path, original, instead_of=text)
            self.backup.unlink()
            return f"{self.path} is as it was before."
        if text == with_entry(EMPTY, self.container, KEY, held):
            self._refuse_read_only()
            self.path.resolve().unlink()
            return f"Removed {self.path}, which held nothing else."
        return ""

    def _take_out(self, text: str, inputs: list[str]) -> str:
        original = self._read(self.backup)
        kept = original is not None and f'"{self.container}"' in original
        left = without_entry(text, self.container, KEY, keep_container=kept)
        self._write(self.path, without_items(left, "inputs", inputs), instead_of=text)
        return f"Removed from {self.path}; the rest of it is as you left it."

    def _held(self, text: str | None) -> Document | None:
        try:
            held = entry(text, self.container, KEY) if text and text.strip() else None
        except NotPlain as reason:
            raise self._refusal(str(reason)) from None
        if held is not None and not is_ours(held):
            raise self._refusal(f'another server is called "{KEY}" in it')
        return held

    def _read(self, path: Path) -> str | None:
        """The text; None where there is no file."""
        try:
            if path.exists() and not path.is_file():
                raise self._refusal("it cannot be read: it is no ordinary file")
            return path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            raise self._refusal("it is not UTF-8 text") from None
        except OSError as error:
            raise self._refusal(f"it cannot be read ({error.strerror})") from None

    def _write(self, path: Path, text: str, *, instead_of: str | None = None) -> None:
        """Write a file whole or not at all, with the permissions of the client's own; through a link, to its target."""
        self._refuse_read_only()
        if path == self.path and self._read(path) != instead_of:
            raise self._refusal("it was changed in the same moment; try again")
        try:
            write_whole(path.resolve(), text, like=self.path)
        except UnicodeEncodeError:
            raise self._refusal("a setting that would stand in it is not UTF-8 text") from None
        except OSError as error:
            raise self._refusal(f"it cannot be written ({error.strerror})") from None

    def _refuse_read_only(self) -> None:
        """By the file's mode: replacing a file asks only for the rights of its folder."""
        if self.path.exists() and not self.path.stat().st_mode & 0o222:
            raise self._refusal("it is read-only")

    def _refusal(self, reason: str) -> FileProblem:
        return FileProblem(f"{self.path} was left untouched: {reason}.")


def _becomes(original: str, text: str, container: str, held: Document) -> bool:
    """Whether a file that did not hold our entry becomes `text` by it alone."""
    base = original if original.strip() else EMPTY
    try:
        return entry(base, container, KEY) is None and with_entry(base, container, KEY, held) == text
    except NotPlain:
        return False


def write_whole(path: Path, text: str, *, like: Path) -> None:
    """Write a file so that no reader ever sees half of it; permissions as `like` has them, else for the owner alone."""
    data = text.encode("utf-8")
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if like.exists():
            shutil.copymode(like, name)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
