"""Which address an HTTP server may listen on: this machine, or any other if callers have to authenticate."""

from __future__ import annotations

import ipaddress

from sora_mcp.config.settings import Settings
from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import Do, Setting
from sora_mcp.core.errors import NotConfigured

_REQUIRED = ("auth", "allowed_hosts", "allowed_origins")


def is_loopback(host: str) -> bool:
    """Whether a host (an address, or the name localhost) is reachable from this machine only."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_host(settings: Settings, host: str) -> None:
    """Raise NotConfigured if the server may not listen at `host`: others could reach it without authentication, or
    foreign web pages could use it (DNS rebinding). Also raised if a variable is set that may be a misspelt SORA_AUTH: a
    proxy in front would let everybody in."""
    _check_spelling(settings)
    missing = [field for field in _REQUIRED if not getattr(settings, field)]
    if is_loopback(host) or not missing:
        return
    names = [part for field in missing for part in (", ", Setting(field))][1:]
    verb = " is not set." if len(missing) == 1 else " are not set."
    raise NotConfigured(
        (f"At {host or 'every address'} others can reach this server, and ", *names, verb),
        Do(
            (
                "Set ",
                Setting("auth"),
                " (who may use it), ",
                Setting("allowed_hosts"),
                " (its own names) and ",
                Setting("allowed_origins"),
                " (the web pages that may use it), or leave --host out: it then serves this machine only.",
            )
        ),
    )


def _check_spelling(settings: Settings) -> None:
    name = variable_of("auth")
    misspelt = [] if settings.auth else [each for each in settings.unknown if each.suggestion == name]
    if misspelt:
        raise NotConfigured(
            f"{misspelt[0]} Nothing is served over HTTP while {name} may be misspelt: callers would not be asked who "
            "they are.",
            Do("Correct its name, or remove it."),
        )
