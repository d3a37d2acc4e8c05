# ruff: noqa: ARG002 - the methods are keyring's
"""Key stores as machines have them, for keyring: one that works, and some that do not."""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import KeyringLocked, PasswordDeleteError


class Keeping(KeyringBackend):
    """Stores keys in a file of the user, and prints to stdout, as some do."""

    priority = 1

    @property
    def _file(self) -> Path:
        return Path.home() / "key-store.json"

    def _keys(self) -> dict[str, str]:
        sys.stdout.write("unlocked for you\n")
        sys.stdout.flush()
        keys: dict[str, str] = json.loads(self._file.read_text()) if self._file.exists() else {}
        return keys

    def get_password(self, service: str, username: str) -> str | None:
        return self._keys().get(f"{service} {username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._file.write_text(json.dumps(self._keys() | {f"{service} {username}": password}))

    def delete_password(self, service: str, username: str) -> None:
        keys = self._keys()
        if keys.pop(f"{service} {username}", None) is None:
            raise PasswordDeleteError("there is none")
        self._file.write_text(json.dumps(keys))


class Forgetting(Keeping):
    """Stores keys until its process exits."""

    keys: dict[str, str] = {}

    def _keys(self) -> dict[str, str]:
        return self.keys

    def set_password(self, service: str, username: str, password: str) -> None:
        self.keys[f"{service} {username}"] = password


class Locked(KeyringBackend):
    """Fails at once because it is locked."""

    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        raise KeyringLocked("locked, dear user")

    def set_password(self, service: str, username: str, password: str) -> None:
        raise KeyringLocked(f"locked, dear user of {password}")

    def delete_password(self, service: str, username: str) -> None:
        raise KeyringLocked("locked, dear user")


class Broken(KeyringBackend):
    """Fails with an unexpected exception."""

    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        raise ZeroDivisionError(service)

    def set_password(self, service: str, username: str, password: str) -> None:
        raise ZeroDivisionError(password)

    def delete_password(self, service: str, username: str) -> None:
        raise ZeroDivisionError(service)


class Hanging(KeyringBackend):
    """Waits forever to be unlocked, and so does a child process whose id is in a file."""

    priority = 1

    def _hang(self) -> None:
        if child := os.fork():
            (Path.home() / "key-store.json.child").write_text(str(child), encoding="ascii")
        threading.Event().wait()

    def get_password(self, service: str, username: str) -> str | None:
        self._hang()
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        self._hang()

    def delete_password(self, service: str, username: str) -> None:
        self._hang()
