"""Converters for the values of settings: each parses a value, and describes what it allows."""

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
"""The name of the format in hosts' configurations."""


MIN_KEY_LENGTH = 8
"""A shorter key is not redacted in replies and logs: it would match ordinary words."""


class Secret:
    """A text that is never shown: only `get_secret_value` returns it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def get_secret_value(self) -> str:
        return self._text

    @property
    def known(self) -> str:
        """The text, or empty if it has not been read yet: what has to be redacted in logs."""
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
    """The key of a stored login: read at first use, and cached."""

    __slots__ = ("_read",)

    def __init__(self, read: Callable[[], str]) -> None:
        super().__init__("")
        self._read = read

    def get_secret_value(self) -> str:
        """Return the key. Raises what `read` raises."""
        if not self._text:
            self._text = self._read()
        return self._text


_QUOTES = ('""', "''", "“”", "\u2018\u2019", "„“", "””", "\u2019\u2019")


def strip_quotes(raw: str) -> str:
    """Return the text without quotes around it, which people and hosts leave there; an unpaired quote stays."""
    inner = raw.strip()
    if len(inner) < 2 or inner[0] + inner[-1] not in _QUOTES or not {inner[0], inner[-1]}.isdisjoint(inner[1:-1]):
        return raw
    return strip_quotes(inner[1:-1].strip())


class Converter(Struct, frozen=True):
    """`read` takes the text of a variable, or the value itself. It raises ValueError or TypeError for anything else."""

    read: Callable[[Any], Any]
    allowed: str
    format: Format = "string"
    choices: tuple[str, ...] = ()
    secret: bool = False


def text(pattern: str = ".*", allowed: str = "a text") -> Converter:
    """A text that matches `pattern` from end to end."""

    def read(raw: Any) -> str:
        if not re.fullmatch(pattern, raw, re.DOTALL):
            raise ValueError
        return str(raw)

    return Converter(read, allowed)


def secret() -> Converter:
    """A text that is never shown."""
    plain = text()
    return Converter(lambda raw: raw if isinstance(raw, Secret) else Secret(plain.read(raw)), "a text", secret=True)


def database() -> Converter:
    """The address of a PostgreSQL database; never shown, because it holds a password.

    It is parsed as by libpq, except for what is more likely a password with special characters than a host:
    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS
    """

    def read(raw: Any) -> Secret:
        if isinstance(raw, Secret):
            return raw
        address = raw.strip()
        parts = _DATABASE.fullmatch(address)
        if parts is None or not all(
            0 < int(port) <= _MAX_PORT for port in re.findall(r":(\d+)(?=,|$)", parts["hosts"])
        ):
            raise ValueError
        return Secret(address)

    allowed = (
        "an address such as postgresql://user:password@host:5432/database, in which signs of a password such as "
        "@ : / ? # % stand as %40 %3A %2F %3F %23 %25"
    )
    return Converter(read, allowed, secret=True)


_MAX_PORT = 65535
_PERCENT_ENCODED = "%(?!00)[0-9A-Fa-f]{2}"
"""A percent-encoded character, except NUL."""
_NAME = rf"[!-$&-.0-9;-?A-Z\[-~]|{_PERCENT_ENCODED}"
"""A character of a user, a password or a database: any except `%`, `/`, `:` and `@`."""
_VALUE = rf"[!-$'-~]|{_PERCENT_ENCODED}"
"""A character of an option's value: any except `%` and `&`."""
_DB_HOST = r"(?:\[[0-9A-Fa-f:.]+(?:%25[0-9A-Za-z._-]+)?\]|(?:[0-9A-Za-z._~-]|%(?!00)[0-9A-Fa-f]{2})*)(?::\d{1,5})?"
_DATABASE = re.compile(
    rf"postgres(?:ql)?://(?:(?:{_NAME})*(?::(?:{_NAME}|:)*)?@)?(?P<hosts>{_DB_HOST}(?:,{_DB_HOST})*)"
    rf"(?:/(?:(?!\?)(?:{_NAME}|[:@]))*)?(?:\?(?:[a-z_]+=(?:{_VALUE})*(?:&|$))*)?"
)


def number(*, gt: float | None = None, ge: float | None = None, le: float | None = None) -> Converter:
    """A finite number: greater than `gt`, at least `ge`, at most `le`."""

    def read(raw: Any) -> float:
        value = float(raw)
        if not math.isfinite(value) or (gt is not None and value <= gt):
            raise ValueError
        if (ge is not None and value < ge) or (le is not None and value > le):
            raise ValueError
        return value

    bounds = {"above": gt, "at least": ge, "at most": le}
    conditions = [f"{name} {bound:g}" for name, bound in bounds.items() if bound is not None]
    return Converter(read, ", ".join(["a number", *conditions]), "number")


def cost(*, positive: bool = False) -> Converter:
    """A cost: a bare number is relative; a currency's three letters may stand before or after it."""
    allowed = "a number, above 0" if positive else "a number, at least 0"

    def read(raw: Any) -> Cost:
        value = raw if isinstance(raw, Cost) else _cost(str(raw).strip())
        if positive and not value.billionths:
            raise ValueError
        return value

    return Converter(read, f'{allowed}: a relative cost, or money with its currency, such as "5 USD"')


def _cost(text: str) -> Cost:
    match = re.fullmatch(r"(?P<before>[A-Za-z]{3}\s+)?(?P<amount>[+0-9._e-]+?)(?P<after>\s*[A-Za-z]{3})?", text)
    if match is None or (match["before"] and match["after"]):
        raise ValueError
    currency = (match["before"] or match["after"] or "").strip().upper()
    return Cost.of(match["amount"], currency or RELATIVE)


def integer(*, gt: int | None = None, ge: int | None = None) -> Converter:
    """A whole number: greater than `gt`, at least `ge`."""
    plain = number(gt=gt, ge=ge)

    def read(raw: Any) -> int:
        value: float = plain.read(raw)
        if not value.is_integer():
            raise ValueError
        return int(value)

    return Converter(read, plain.allowed.replace("a number", "a whole number"), "number")


def boolean() -> Converter:
    """`true` or `false`, also as 1, 0, yes and no."""
    values = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

    def read(raw: Any) -> bool:
        if (value := values.get(str(raw).strip().lower())) is None:
            raise ValueError
        return value

    return Converter(read, "true or false", "boolean")


def choice(*options: str) -> Converter:
    """One of `options`, in any case."""
    by_lower_case = {option.lower(): option for option in options}

    def read(raw: Any) -> str:
        if (option := by_lower_case.get(raw.strip().lower())) is None:
            raise ValueError
        return option

    return Converter(read, f"{', '.join(options[:-1])} or {options[-1]}", choices=options)


def choices(*options: str) -> Converter:
    """One or more of `options`, in any case, separated by commas; returned without repetition, in declared order."""
    one = choice(*options)

    def read(raw: Any) -> tuple[str, ...]:
        chosen = set(_list(",", one.read).read(raw))
        if not chosen:
            raise ValueError
        return tuple(option for option in options if option in chosen)

    return Converter(read, f"{one.allowed}, or several of them separated by commas")


def https_address() -> Converter:
    """An https address without a query or quotes, unchanged; plain http only for a private host."""

    def read(raw: Any) -> str:
        address = raw.strip()
        parts = urlsplit(address)
        is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_local_host(parts.hostname or ""))
        is_bare = not (parts.query or parts.fragment or "@" in parts.netloc) and re.fullmatch(
            r"[!#-;=?-\[\]-~]+", address
        )
        if not (is_safe and is_bare and parts.hostname and parts.port != 0) or len(address) > _MAX_ADDRESS_LENGTH:
            raise ValueError
        return str(address)

    return Converter(read, "an https address without a user, a query or a fragment (http on this machine or network)")


_MAX_ADDRESS_LENGTH = 500


def folder() -> Converter:
    """A folder, as an absolute path; `~` is the user's home."""
    return Converter(lambda raw: _expand_user(raw).absolute(), "a folder", "filepath")


def folders() -> Converter:
    """Folders, separated by the platform's path separator."""
    return _list(os.pathsep, _expand_user)


def sizes() -> Converter:
    """Frame sizes in pixels, such as `1080x1080,1920x1080`."""

    def read(raw: Any) -> tuple[int, int]:
        if isinstance(raw, str):
            raw = re.fullmatch(r"([1-9]\d{1,4})x([1-9]\d{1,4})", raw.strip(), re.ASCII)
            raw = raw.groups() if raw else ()
        width, height = raw
        return int(width), int(height)

    return _list(",", read)


def frames() -> Converter:
    """Lengths in frames, such as `450,600`."""
    return _list(",", integer(ge=1).read)


_HOST = r"[a-z0-9_](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\]"
_PORT = r"(?::[1-9]\d{0,4})?"


def hosts() -> Converter:
    """Host names as in a Host header, in lower case, each with or without a port."""
    return _names(rf"(?:{_HOST}){_PORT}", "names of hosts, such as videos.example.org, with a port or without")


def origins() -> Converter:
    """Origins of web pages as in an Origin header, in lower case."""
    return _names(rf"https?://(?:{_HOST}){_PORT}", "origins, such as https://chat.example.org, with nothing after them")


def public_address() -> Converter:
    """An http(s) address that links begin with; a trailing slash is removed."""

    def read(raw: Any) -> str:
        address = raw.strip().rstrip("/")
        if not re.fullmatch(rf"https?://(?:{_HOST}){_PORT}(?:/[\w.~-]+)*", address, re.ASCII | re.IGNORECASE):
            raise ValueError
        return str(address)

    return Converter(read, "an http(s) address without a query, such as https://videos.example.org")


def _names(pattern: str, allowed: str) -> Converter:
    def read(raw: Any) -> str:
        name = raw.strip().lower()
        if not re.fullmatch(pattern, name, re.ASCII):
            raise ValueError
        return str(name)

    return Converter(_list(",", read).read, f"{allowed}, separated by commas")


def _list(separator: str, read_one: Callable[[Any], Any]) -> Converter:
    def read(raw: str | Iterable[Any]) -> tuple[Any, ...]:
        parts = [part for part in raw.split(separator) if part.strip()] if isinstance(raw, str) else raw
        return tuple(read_one(strip_quotes(part) if isinstance(part, str) else part) for part in parts)

    return Converter(read, "a list as described")


def holds_variable(text: str) -> bool:
    """Whether a text holds `${NAME}` or `%NAME%`, or begins with `$NAME`, and nobody expanded it."""
    return re.search(r"\$\{|^\$[A-Za-z_]|%[A-Za-z_]+%", text) is not None


def _expand_user(raw: str | Path) -> Path:
    if holds_variable(str(raw)):
        raise ValueError("a variable in it was not expanded")
    try:
        return Path(raw).expanduser()
    except RuntimeError:
        raise ValueError("no such user") from None
