"""The logins that were kept: which gateways, what is spoken there, and where each key is.

They stand in one file of mode 0600. A key stands in it only where the system has no key store; else it is read from
there when it is first needed. Each key belongs to one address and is sent to no other.
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
from sora_mcp.config.endpoint import UPSTREAMS, address_of
from sora_mcp.core.advice import Advice, Do, LogIn, TryAgain, UnlockKeyStore
from sora_mcp.core.errors import FileProblem, NotConfigured

KEY_STORE = "key store"

_MOST_BYTES = 1_000_000


class Login(Struct, frozen=True):
    """One gateway: its address in its one spelling, what is spoken there, and its key, if it needs one.

    `place`: where the key is: `key store`, the path of the file, or nothing without a key.
    """

    address: str
    dialect: str
    key: Secret | None
    place: str

    def fits(self, base_url: str, dialect: str | None) -> bool:
        """Whether an address as somebody wrote it, spoken to in this dialect, is the one that the key belongs to."""
        try:
            return address_of(base_url, dialect or self.dialect) == self.address
        except NotConfigured:
            return False


class LoginFile:
    """The file below SORA_HOME that holds the logins, the last one last."""

    def __init__(self, home: Path) -> None:
        self.path = home / "login" / "logins.json"

    def read(self) -> tuple[Login, ...]:
        """The logins, oldest first. Raises NotConfigured where the file cannot be used."""
        return tuple(map(self._login, self._entries()))

    def add(self, address: str, dialect: str, key: str | None, *, in_key_store: bool) -> None:
        """Make this the last login; `key` is written only where it is not in the key store.

        Raises NotConfigured or FileProblem.
        """
        entry: dict[str, Any] = {"address": address, "dialect": dialect}
        if key:
            entry |= {"in_key_store": True} if in_key_store else {"key": key}
        with self._alone():
            self._write([*(each for each in self._entries() if each["address"] != address), entry])

    def remove(self, address: str) -> None:
        """Forget a login. Raises NotConfigured or FileProblem."""
        with self._alone():
            self._write([each for each in self._entries() if each["address"] != address])

    def _login(self, entry: dict[str, Any]) -> Login:
        address, dialect = entry["address"], entry["dialect"]
        if entry.get("in_key_store"):
            return Login(address, dialect, StoredKey(lambda: _key_in_store(address)), KEY_STORE)
        key = entry.get("key")
        return Login(address, dialect, Secret(key) if key else None, str(self.path) if key else "")

    def _entries(self) -> list[dict[str, Any]]:
        try:
            text = self._text()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, UnicodeDecodeError):
            raise self._unusable("cannot be read", f"Delete {self.path}, and log in again.") from None
        try:
            return _entries_in(text)
        except (ValueError, TypeError, KeyError, RecursionError):
            raise self._unusable(
                "holds something that this release does not know", f"Delete {self.path}, and log in again."
            ) from None

    def _text(self) -> str:
        """What the file holds. Raises OSError, and NotConfigured where others could read or change it."""
        handle = os.open(self.path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # opening a pipe would wait
        with os.fdopen(handle, "rb") as file:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode) or about.st_size > _MOST_BYTES:
                raise OSError
            if os.name == "posix":
                self._check(about, self.path, 0o077, "600")
                for folder in {self.path.parent, self.path.resolve().parent}:
                    self._check(folder.stat(), folder, 0o022, "700")
            return file.read(_MOST_BYTES).decode()

    def _check(self, about: os.stat_result, path: Path, forbidden: int, mode: str) -> None:
        """Raise NotConfigured where others may do with this what only its owner should."""
        if about.st_uid != os.geteuid():
            raise self._unusable("belongs to another user", f"Delete {self.path}, and log in again.")
        if about.st_mode & forbidden:
            raise self._unusable(
                "is open to other users of this machine",
                f"If nobody else could have read or changed it: chmod {mode} {path}. Else delete {self.path}, replace "
                "the keys at the gateway, and log in again.",
            )

    def _unusable(self, why: str, then: str) -> NotConfigured:
        return NotConfigured(f"The file of the logins, {self.path}, {why}; no key was taken from it.", Do(then))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Make the folder, and hold its lock: what two write at once would lose a login. Raises FileProblem."""
        from sora_mcp.config.private_file import Locked, locked  # noqa: PLC0415 - only where something is written

        folder = self.path.parent
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            folder.chmod(0o700)
            with locked(folder / "lock"):
                yield
        except OSError as error:
            raise self._unwritable(error.strerror or "the disk refuses") from None
        except Locked:
            raise self._unwritable("another command holds it", TryAgain()) from None

    def _unwritable(self, why: str, *advice: Advice) -> FileProblem:
        return FileProblem(f"{self.path} cannot be written ({why}).", *advice)

    def _write(self, entries: Sequence[dict[str, Any]]) -> None:
        """Write the file whole or not at all. Raises OSError."""
        from sora_mcp.config.private_file import replace  # noqa: PLC0415 - likewise

        replace(self.path, json.dumps({"logins": entries}, indent=2))


def _entries_in(text: str) -> list[dict[str, Any]]:
    """The logins as they were written. Raises ValueError, TypeError or KeyError for anything else."""
    entries = json.loads(text)["logins"]
    if not isinstance(entries, list) or not all(map(_is_login, entries)):
        raise ValueError
    return entries


def _is_login(entry: object) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("address"), str):
        return False
    return entry.get("dialect") in UPSTREAMS and isinstance(entry.get("key", ""), str)


def _key_in_store(address: str) -> str:
    from sora_mcp.config import key_store  # noqa: PLC0415 - only where a key is there, and needed

    try:
        key = key_store.stored_key(address)
    except key_store.KeyStoreProblem as error:
        raise NotConfigured(
            f"The key for {address} could not be read: {key_store.WORDS[error.problem]}.", UnlockKeyStore()
        ) from None
    if key is None:
        raise NotConfigured(f"The system's key store holds no key for {address} any more.", LogIn())
    return key


class Stored(Struct, frozen=True):
    """What the logins say where the environment says nothing.

    `login`: the one for the gateway that is chosen. `others`: the addresses of all others. `trouble`: why the logins
    cannot be read.
    """

    login: Login | None = None
    others: tuple[str, ...] = ()
    trouble: NotConfigured | None = None


def chosen(home: Path, base_url: str | None, dialect: str | None) -> Stored:
    """The login for the address that is set, or without one the last login; raises nothing.

    One whose address would be another in the dialect that is set does not count: its key would go elsewhere.
    """
    try:
        logins = LoginFile(home).read()
    except NotConfigured as trouble:
        return Stored(trouble=trouble)
    candidates = logins[-1:] if base_url is None else logins
    login = next((each for each in candidates if each.fits(base_url or each.address, dialect)), None)
    return Stored(login, tuple(each.address for each in logins if each is not login))
