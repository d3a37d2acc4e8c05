"""The stored logins: each one's gateway, dialect, and where its key is.

They are in one file of mode 0600. It holds a key only if the system has no key store; otherwise the key is read from
the key store when it is first needed. Each key belongs to one address and is sent to no other.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from sora_mcp.config.converters import Secret, StoredKey
from sora_mcp.config.endpoint import UPSTREAMS, gateway_address
from sora_mcp.core.advice import Advice, Do, LogIn, TryAgain, UnlockKeyStore
from sora_mcp.core.errors import FileProblem, NotConfigured

KEY_STORE = "key store"

_MAX_BYTES = 1_000_000


class Login(Struct, frozen=True):
    """One gateway: its canonical address, its dialect, and its key, if it needs one.

    `key_location`: `key store`, the path of the file, or empty without a key.
    """

    address: str
    dialect: str
    key: Secret | None
    key_location: str

    def matches(self, base_url: str, dialect: str | None) -> bool:
        """Whether an address as a user wrote it, with this dialect, is the one that the key belongs to."""
        try:
            return gateway_address(base_url, dialect or self.dialect) == self.address
        except NotConfigured:
            return False


class LoginFile:
    """The file in SORA_HOME that holds the logins, oldest first."""

    def __init__(self, home: Path) -> None:
        self.path = home / "login" / "logins.json"

    def read(self) -> tuple[Login, ...]:
        """Return the logins, oldest first. Raises NotConfigured if the file cannot be used."""
        return tuple(map(self._login, self._entries()))

    def add(self, address: str, dialect: str, key: str | None, *, in_key_store: bool) -> None:
        """Make this the last login; `key` is written only if it is not in the key store.

        Raises NotConfigured or FileProblem.
        """
        entry: dict[str, Any] = {"address": address, "dialect": dialect}
        if key:
            entry |= {"in_key_store": True} if in_key_store else {"key": key}
        with self._lock():
            self._write([*(each for each in self._entries() if each["address"] != address), entry])

    def remove(self, address: str) -> None:
        """Remove a login. Raises NotConfigured or FileProblem."""
        with self._lock():
            self._write([each for each in self._entries() if each["address"] != address])

    def _login(self, entry: dict[str, Any]) -> Login:
        address, dialect = entry["address"], entry["dialect"]
        if entry.get("in_key_store"):
            return Login(address, dialect, StoredKey(lambda: _read_from_key_store(address)), KEY_STORE)
        key = entry.get("key")
        return Login(address, dialect, Secret(key) if key else None, str(self.path) if key else "")

    def _entries(self) -> list[dict[str, Any]]:
        try:
            text = self._read_text()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, UnicodeDecodeError):
            raise self._unusable("cannot be read", f"Delete {self.path}, and log in again.") from None
        try:
            return _parse_entries(text)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise self._unusable(
                "contains an entry that this release does not know", f"Delete {self.path}, and log in again."
            ) from None

    def _read_text(self) -> str:
        """Return the file's text. Raises OSError, and NotConfigured if other users could read or change it."""
        handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would wait
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(handle)
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
                raise OSError
            if os.name == "posix":
                self._check_permissions(status, self.path, 0o077, "600")
                for folder in {self.path.parent, self.path.resolve().parent}:
                    self._check_permissions(folder.stat(), folder, 0o022, "700")
            return file.read(_MAX_BYTES).decode()

    def _check_permissions(self, status: os.stat_result, path: Path, forbidden: int, mode: str) -> None:
        """Raise NotConfigured if others have permissions on this path that only its owner should have."""
        if status.st_uid != os.geteuid():
            raise self._unusable("belongs to another user", f"Delete {self.path}, and log in again.")
        if status.st_mode & forbidden:
            raise self._unusable(
                "is open to other users of this machine",
                f"If nobody else could have read or changed it: chmod {mode} {path}. Otherwise delete {self.path}, "
                "replace the keys at the gateway, and log in again.",
            )

    def _unusable(self, reason: str, advice: str) -> NotConfigured:
        return NotConfigured(f"The login file {self.path} {reason}; no key was read from it.", Do(advice))

    @contextmanager
    def _lock(self) -> Iterator[None]:
        """Create the folder and lock it: two concurrent writers would lose a login. Raises FileProblem."""
        from sora_mcp.config.private_file import LockTimeout, locked  # noqa: PLC0415 - only for writing

        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
            with locked(folder / "lock"):
                yield
        except OSError as error:
            raise self._unwritable(error.strerror or "the disk refuses") from None
        except LockTimeout:
            raise self._unwritable("another command holds it", TryAgain()) from None

    def _unwritable(self, reason: str, *advice: Advice) -> FileProblem:
        return FileProblem(f"{self.path} cannot be written ({reason}).", *advice)

    def _write(self, entries: Sequence[dict[str, Any]]) -> None:
        """Write the file atomically. Raises OSError."""
        from sora_mcp.config.private_file import replace  # noqa: PLC0415 - likewise

        replace(self.path, json.dumps({"logins": entries}, indent=2))


def _parse_entries(text: str) -> list[dict[str, Any]]:
    """Parse the file's entries. Raises ValueError, TypeError or KeyError if they are not logins."""
    entries = json.loads(text)["logins"]
    if not isinstance(entries, list) or not all(map(_is_login, entries)):
        raise ValueError
    return entries


def _is_login(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("address"), str):
        return False
    return entry.get("dialect") in UPSTREAMS and isinstance(entry.get("key", ""), str)


def _read_from_key_store(address: str) -> str:
    from sora_mcp.config import key_store  # noqa: PLC0415 - only if a key is stored and needed

    try:
        key = key_store.get_key(address)
    except key_store.KeyStoreProblem as error:
        raise NotConfigured(
            f"The key for {address} could not be read: {key_store.DESCRIPTIONS[error.problem]}.", UnlockKeyStore()
        ) from None
    if key is None:
        raise NotConfigured(f"The system's key store no longer has a key for {address}.", LogIn())
    return key


class StoredLogins(Struct, frozen=True):
    """The logins that apply if the environment sets nothing.

    `login`: the one for the chosen gateway. `others`: the addresses of all others. `problem`: why the logins cannot be
    read.
    """

    login: Login | None = None
    others: tuple[str, ...] = ()
    problem: NotConfigured | None = None


def choose_login(home: Path, base_url: str | None, dialect: str | None) -> StoredLogins:
    """Choose the login for the given address, or the last login if there is none. Raises nothing.

    A login whose address would differ in the given dialect does not count: its key would go elsewhere.
    """
    try:
        logins = LoginFile(home).read()
    except NotConfigured as problem:
        return StoredLogins(problem=problem)
    candidates = logins[-1:] if base_url is None else logins
    login = next((each for each in candidates if each.matches(base_url or each.address, dialect)), None)
    return StoredLogins(login, tuple(each.address for each in logins if each is not login))
