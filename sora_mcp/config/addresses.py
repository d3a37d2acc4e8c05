"""Validating and normalizing gateway addresses, and which hosts are local."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from urllib.parse import urlsplit

from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import AskUser, Configure
from sora_mcp.core.errors import NotConfigured

_DEFAULT_PORTS = {"http": 80, "https": 443}
_DOCUMENTATION_HOSTS = ("apifox.cn", "apifox.com")


def normalize_address(raw: str, *, called: str = variable_of("base_url")) -> tuple[str, bool]:
    """Return the base URL in canonical form, and whether it is local. Raises NotConfigured.

    Canonical, because videos are recorded under it: host in lower case, no default port, no pasted path of an endpoint.
    """
    text = raw.strip()
    prefix = (called, " is not an address that can be used: ")
    if "${" in text:
        raise NotConfigured((*prefix, "it holds ${…}, a variable that was not expanded."), Configure())
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
    except ValueError:
        raise NotConfigured((*prefix, "it cannot be read."), Configure()) from None
    if parts.scheme not in {"http", "https"} or not host:
        raise NotConfigured((*prefix, "it must begin with https:// and name a host."), Configure())
    if not text.isprintable() or " " in text:
        raise NotConfigured((*prefix, "it must not hold spaces, line breaks or invisible characters."), Configure())
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise NotConfigured((*prefix, "it must not hold a user, a password, a query or a fragment."), Configure())
    if any(host == each or host.endswith(f".{each}") for each in _DOCUMENTATION_HOSTS):
        raise NotConfigured(
            (*prefix, "this is the host of the API's documentation, not of the API."),
            AskUser("name the address of the gateway that issued the key"),
        )
    local = is_local_host(host)
    if parts.scheme == "http" and not local:
        raise NotConfigured(
            (
                *prefix,
                "plain http would send the key unencrypted; it is allowed only to this machine and private hosts.",
            ),
            AskUser("use https://"),
        )
    if not {".", ".."}.isdisjoint(parts.path.split("/")):
        raise NotConfigured((*prefix, "its path must not hold . or .. as a part."), Configure())
    with suppress(ValueError):
        host = ipaddress.ip_address(host).compressed
    path = re.sub(r"(/+sora)?(/+v1(/+videos)?)?$", "", parts.path.rstrip("/")).rstrip("/")
    netloc = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        netloc += f":{port}"
    return f"{parts.scheme}://{netloc}{path}", local


def is_local_host(host: str) -> bool:
    """Whether a host is this machine or in a private network, judged by its name or address alone."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        last = host.rsplit(".", 1)[-1].lower()
        if re.fullmatch(r"\d+|0x[0-9a-f]*", last):  # an IPv4 address in one of its old notations: 134744072, 0x08080808
            return False
        return "." not in host or last in {"localhost", "local", "internal", "lan", "home"}
    return not address.is_global
