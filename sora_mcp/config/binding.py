"""Where a server over HTTP may listen: on this machine, or elsewhere where it asks callers who they are."""

from __future__ import annotations

import ipaddress

from sora_mcp.config.settings import Settings
from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import Do, Setting
from sora_mcp.core.errors import NotConfigured

_NEEDED = ("auth", "allowed_hosts", "allowed_origins")


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches what listens at a host: an address, or the name localhost."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def check_host(settings: Settings, host: str) -> None:
    """Raise NotConfigured where the server may not listen at `host`: others would reach it, and nobody would be asked
    who they are, or web pages of strangers could use it (DNS rebinding). Nor where a variable is set that may be meant
    as SORA_AUTH, but is none: a proxy in front would let everybody in."""
    _check_spelling(settings)
    missing = [field for field in _NEEDED if not getattr(settings, field)]
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
    meant = variable_of("auth")
    misspelt = [] if settings.auth else [each for each in settings.unknown if each.meant == meant]
    if misspelt:
        raise NotConfigured(
            f"{misspelt[0]} Nothing is served over HTTP while {meant} may be misspelt: callers would not be asked who "
            "they are.",
            Do("Correct its name, or remove it."),
        )
