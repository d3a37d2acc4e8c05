"""The kinds of values that a setting takes: each reads what was given, and says in words what it allows."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from msgspec import Struct

from sora_mcp.config.addresses import is_local_host
from sora_mcp.core.cost import RELATIVE, Cost

Format = Literal["string", "number", "filepath", "boolean"]
"""As hosts' configurations call it."""


MIN_KEY_LENGTH = 8
"""A shorter key is not struck from replies and logs: it would be found in ordinary words."""


class Secret:
    """A text that is shown nowhere: only `get_secret_value` gives it away."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        return self._text

    @property
    def known(self) -> str:
        """The text, as far as it was read already: what has to be struck from logs."""
        return self._text

    def __len__(self) -> int:
        return len(self.get_secret_value())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self.get_secret_value() == other.get_secret_value()

    def __hash__(self) -> int:
        return hash(self.get_secret_value())

    def __repr__(self) -> str:
        return "Secret('**********')"

    def __str__(self) -> str:
        return "**********"


class StoredKey(Secret):
    """A key that a login has kept: read when it is first asked for, and known from then on."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[], str]) -> None:
        super().__init__("")
        self._read = read

    def get_secret_value(self) -> str:
        """The key. Raises what `read` raises."""
        if not self._text:
            self._text = self._read()
        return self._text


_QUOTES = ('""', "''", "“”", "\u2018\u2019", "„“", "””", "\u2019\u2019")


def unquoted(raw: str) -> str:
    """The text without the quotes round it, as people and hosts leave them there; a quote on one side only stays."""
    inner = raw.strip()
    if len(inner) < 2 or inner[0] + inner[-1] not in _QUOTES or not {inner[0], inner[-1]}.isdisjoint(inner[1:-1]):
        return raw
    return unquoted(inner[1:-1].strip())


class Kind(Struct, frozen=True):
    """`read` takes the text of a variable, or the value itself; it raises ValueError or TypeError for anything else."""

    read: Callable[[Any], Any]
    allowed: str
    format: Format = "string"
    choices: tuple[str, ...] = ()
    secret: bool = False


def text(pattern: str = ".*", allowed: str = "a text") -> Kind:
    """A text that matches `pattern` from end to end."""

    def read(raw: Any) -> str:
        if not re.fullmatch(pattern, raw, re.DOTALL):
            raise ValueError
        return str(raw)

    return Kind(read, allowed)


def secret() -> Kind:
    """A text that is shown nowhere."""
    plain = text()
    return Kind(lambda raw: raw if isinstance(raw, Secret) else Secret(plain.read(raw)), "a text", secret=True)


def database() -> Kind:
    """The address of a PostgreSQL database, shown nowhere: it holds a password.

    It is read as libpq does, but for what is more likely a password with signs in it than a host:
    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
    """

    def read(raw: Any) -> Secret:
        if isinstance(raw, Secret):
            return raw
        address = raw.strip()
        parts = _DATABASE.fullmatch(address)
        if parts is None or not all(
            0 < int(port) <= _LAST_PORT for port in re.findall(r":(\d+)(?=,|$)", parts["hosts"])
        ):
            raise ValueError
        return Secret(address)

    allowed = (
        "an address such as postgresql://user:password@host:5432/database, in which signs of a password such as "
        "@ : / ? # % stand as %40 %3A %2F %3F %23 %25"
    )
    return Kind(read, allowed, secret=True)


_LAST_PORT = 65535
_ESCAPED = "%(?!00)[0-9A-Fa-f]{2}"
"""A sign in percents; none stands for NUL."""
_NAME = rf"[!-$&-.0-9;-?A-Z\[-~]|{_ESCAPED}"
"""A sign of a user, a password or a database: any but `%`, `/`, `:` and `@`."""
_VALUE = rf"[!-$'-~]|{_ESCAPED}"
"""A sign of an option's value: any but `%` and `&`."""
_HOST = r"(?:\[[0-9A-Fa-f:.]+(?:%25[0-9A-Za-z._-]+)?\]|(?:[0-9A-Za-z._~-]|%(?!00)[0-9A-Fa-f]{2})*)(?::\d{1,5})?"
_DATABASE = re.compile(
    rf"postgres(?:ql)?://(?:(?:{_NAME})*(?::(?:{_NAME}|:)*)?@)?(?P<hosts>{_HOST}(?:,{_HOST})*)"
    rf"(?:/(?:(?!\?)(?:{_NAME}|[:@]))*)?(?:\?(?:[a-z_]+=(?:{_VALUE})*(?:&|$))*)?"
)


def number(*, above: float | None = None, least: float | None = None, most: float | None = None) -> Kind:
    """A finite number within its bounds; all but `above` are allowed themselves."""

    def read(raw: Any) -> float:
        value = float(raw)
        if not math.isfinite(value) or (above is not None and value <= above):
            raise ValueError
        if (least is not None and value < least) or (most is not None and value > most):
            raise ValueError
        return value

    bounds = {"above": above, "at least": least, "at most": most}
    words = [f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None]
    return Kind(read, ", ".join(["a number", *words]), "number")


def cost(*, above_0: bool = False) -> Kind:
    """A cost: relative as a bare number, in a currency with its three letters, before or after the number."""
    words = "a number, above 0" if above_0 else "a number, at least 0"

    def read(raw: Any) -> Cost:
        value = raw if isinstance(raw, Cost) else _cost(str(raw).strip())
        if above_0 and not value.billionths:
            raise ValueError
        return value

    return Kind(read, f'{words}: a relative cost, or money with its currency, such as "5 USD"')


def _cost(text: str) -> Cost:
    match = re.fullmatch(r"(?P<before>[A-Za-z]{3}\s+)?(?P<amount>[+0-9._e-]+?)(?P<after>\s*[A-Za-z]{3})?", text)
    if match is None or (match["before"] and match["after"]):
        raise ValueError
    currency = (match["before"] or match["after"] or "").strip().upper()
    return Cost.of(match["amount"], currency or RELATIVE)


def whole(*, above: int | None = None, least: int | None = None) -> Kind:
    """A whole number within its bounds."""
    plain = number(above=above, least=least)

    def read(raw: Any) -> int:
        value: float = plain.read(raw)
        if not value.is_integer():
            raise ValueError
        return int(value)

    return Kind(read, plain.allowed.replace("a number", "a whole number"), "number")


def yes_no() -> Kind:
    """`true` or `false`, also as 1, 0, yes and no."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

    def read(raw: Any) -> bool:
        if (value := words.get(str(raw).strip().lower())) is None:
            raise ValueError
        return value

    return Kind(read, "true or false", "boolean")


def choice(*words: str) -> Kind:
    """One of `words`, in capitals or not."""
    by_spelling = {word.lower(): word for word in words}

    def read(raw: Any) -> str:
        if (word := by_spelling.get(raw.strip().lower())) is None:
            raise ValueError
        return word

    return Kind(read, f"{', '.join(words[:-1])} or {words[-1]}", choices=words)


def choices(*words: str) -> Kind:
    """One or several of `words`, in capitals or not, separated by commas; each counts once, in the order of `words`."""
    one = choice(*words)

    def read(raw: Any) -> tuple[str, ...]:
        chosen = set(_list(",", one.read).read(raw))
        if not chosen:
            raise ValueError
        return tuple(word for word in words if word in chosen)

    return Kind(read, f"{one.allowed}, or several of them separated by commas")


def https_address() -> Kind:
    """An https address without a query, as it stands, no quote in it; plain http only for a private host."""

    def read(raw: Any) -> str:
        address = raw.strip()
        parts = urlsplit(address)
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_local_host(parts.hostname or ""))
        is_bare = not (parts.query or parts.fragment or "@" in parts.netloc) and re.fullmatch(
            r"[!#-;=?-\[\]-~]+", address
        )
        if not (is_safe and is_bare and parts.hostname and parts.port != 0) or len(address) > _LONGEST_ADDRESS:
            raise ValueError
        return str(address)

    return Kind(read, "an https address without a user, a query or a fragment (http on this machine or network)")


_LONGEST_ADDRESS = 500


def folder() -> Kind:
    """A folder, by its whole path; `~` stands for the user's home."""
    return Kind(lambda raw: _expanded(raw).absolute(), "a folder", "filepath")


def folders() -> Kind:
    """Folders, separated as the platform does."""
    return _list(os.pathsep, _expanded)


def sizes() -> Kind:
    """Frame sizes in pixels, such as `1080x1080,1920x1080`."""

    def read(raw: Any) -> tuple[int, int]:
        if isinstance(raw, str):
            raw = re.fullmatch(r"([1-9]\d{1,4})x([1-9]\d{1,4})", raw.strip(), re.ASCII)
            raw = raw.groups() if raw else ()
        width, height = raw
        return int(width), int(height)

    return _list(",", read)


def frames() -> Kind:
    """Lengths in frames, such as `450,600`."""
    return _list(",", whole(least=1).read)


_HOST = r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]"
_PORT = r"(?::[1-9]\d{0,4})?"


def hosts() -> Kind:
    """Names of hosts as a Host header has them, in small letters, each with a port or without."""
    return _names(rf"(?:{_HOST}){_PORT}", "names of hosts, such as videos.example.org, with a port or without")


def origins() -> Kind:
    """Origins of web pages as an Origin header has them, in small letters."""
    return _names(rf"https?://(?:{_HOST}){_PORT}", "origins, such as https://chat.example.org, with nothing after them")


def public_address() -> Kind:
    """An http(s) address with which others begin; a slash at its end is taken off."""

    def read(raw: Any) -> str:
        address = raw.strip().rstrip("/")
        if not re.fullmatch(rf"https?://(?:{_HOST}){_PORT}(?:/[\w.~-]+)*", address, re.ASCII | re.IGNORECASE):
            raise ValueError
        return str(address)

    return Kind(read, "an http(s) address without a query, such as https://videos.example.org")


def _names(pattern: str, allowed: str) -> Kind:
    def read(raw: Any) -> str:
        name = raw.strip().lower()
        if not re.fullmatch(pattern, name, re.ASCII):
            raise ValueError
        return str(name)

    return Kind(_list(",", read).read, f"{allowed}, separated by commas")


def _list(separator: str, read_one: Callable[[Any], Any]) -> Kind:
    def read(raw: str | Iterable[Any]) -> tuple[Any, ...]:
        parts = [part for part in raw.split(separator) if part.strip()] if isinstance(raw, str) else raw
        return tuple(read_one(unquoted(part) if isinstance(part, str) else part) for part in parts)

    return Kind(read, "a list as described")


def _expanded(raw: str | Path) -> Path:
    if "${" in str(raw):
        raise ValueError("a variable in it was not expanded")
    try:
        return Path(raw).expanduser()
    except RuntimeError:
        raise ValueError("no such user") from None
