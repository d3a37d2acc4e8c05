"""The keys that links are signed with: a file that only this user can read, one key a line, the newest first.

The first signs, all are accepted: a new line on top rotates the key, and the last one can go once the links that it
signed have expired. Servers that share the file, or a copy of it, accept each other's links.
"""

from __future__ import annotations

import os
import re
import secrets
import stat
import sys
from contextlib import suppress
from pathlib import Path

from sora_mcp.core.advice import AskUser
from sora_mcp.core.errors import FileProblem

KEY_BYTES = 32
_MOST_BYTES = 10_000
"""Of the file: more than a hundred keys."""


class LinkKeys:
    """The keys in a file, read anew each time; it is made where there is none. All methods raise FileProblem."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> list[bytes]:
        """The keys, the one that signs first."""
        try:
            return self._read()
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._problem(f"cannot be read: {error.strerror}") from None
        try:
            self._create()
            return self._read()
        except OSError as error:
            raise self._problem(f"cannot be made: {error.strerror}") from None

    def _read(self) -> list[bytes]:
        with self._file.open("rb") as file:
            if sys.platform != "win32" and os.fstat(file.fileno()).st_mode & (stat.S_IRWXO | stat.S_IWGRP):
                raise self._problem("can be read or written by others: chmod 600 it")
            lines = file.read(_MOST_BYTES).split()
        keys = [bytes.fromhex(line.decode()) for line in lines if re.fullmatch(rb"[0-9a-fA-F]{64}", line)]
        if not keys or len(keys) != len(lines):
            raise self._problem("does not hold keys: 64 hexadecimal digits a line")
        return keys

    def _create(self) -> None:
        """Make the file, whole or not at all; of several servers that do so at once, the first one's stays."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        part = self._file.with_name(f"{self._file.name}.{secrets.token_hex(4)}.part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(f"{secrets.token_hex(KEY_BYTES)}\n")
                file.flush()
                os.fsync(file.fileno())
            with suppress(FileExistsError):
                self._file.hardlink_to(part)
        finally:
            part.unlink()

    def _problem(self, what: str) -> FileProblem:
        message = f"No link can be signed: the file of keys, {self._file.name}, {what}."
        return FileProblem(message, AskUser("have whoever runs this server look at it"))
