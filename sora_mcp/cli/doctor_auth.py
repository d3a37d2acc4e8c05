"""The checks of `doctor` for authentication over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from sora_mcp.cli.command_lines import command
from sora_mcp.cli.token_commands import describe_unused, unused_files
from sora_mcp.cli.wording import FOR_SHELL
from sora_mcp.config.settings import Settings
from sora_mcp.config.spelling import variable_of
from sora_mcp.core.errors import SoraError
from sora_mcp.core.tasks import counted
from sora_mcp.identity.tokens import TokenStore
from sora_mcp.identity.upstream_keys import UpstreamKeys
from sora_mcp.ledger import open_documents

MAX_NAMES = 5
Finding = tuple[str, Literal["ok", "note", "wrong"], str, str]
"""A check's name, verdict, message and next step."""


def check_tokens(settings: Settings) -> Iterator[Finding]:
    """Check who has a static token; yields nothing on a single-user server."""
    is_enabled = "tokens" in settings.auth
    try:
        documents = open_documents(settings)
        names = [each.name for each in TokenStore(documents).grants()]
        keys = UpstreamKeys(documents).owners()
    except SoraError as error:
        yield ("tokens", "wrong", FOR_SHELL.message(error.parts), FOR_SHELL.next_step(error))
        return
    people = ", ".join(names[:MAX_NAMES]) + (f" and {len(names) - MAX_NAMES} more" if names[MAX_NAMES:] else "")
    if names and not is_enabled:
        advice = f"Set {variable_of('auth')}=tokens, or both kinds."
        message = f"{people}: there are tokens, but {variable_of('auth')} does not include tokens"
        yield ("tokens", "note", message, advice)
    elif names:
        own_keys = f"; with their own gateway key: {', '.join(keys[:MAX_NAMES])}" if keys else ""
        location = " (in the ledger's database)" if settings.ledger_url else ""
        yield ("tokens", "ok", f"{people}{location}{own_keys}", "")
    elif is_enabled:
        yield ("tokens", "note", "nobody has one yet", f"Add one with: {command('token', 'add')} NAME")
    if unused := unused_files(settings):
        yield ("token files", "note", describe_unused(unused).partition(". ")[0], f"Run: {command('token', 'import')}")


def check_hosts(settings: Settings) -> Iterator[Finding]:
    """Check for a server that answers to names on a network without authentication."""
    if settings.allowed_hosts and not settings.auth:
        names = ", ".join(settings.allowed_hosts[:MAX_NAMES])
        advice = f"Set {variable_of('auth')}, unless the proxy in front of it authenticates callers."
        yield ("callers", "note", f"over HTTP it answers to {names}, and authenticates nobody", advice)


async def check_oauth(settings: Settings) -> list[Finding]:
    """Check the OAuth issuer, if one is configured."""
    if "oauth" not in settings.auth:
        if not (settings.oauth_issuer or settings.oauth_audience):
            return []
        message = f"an issuer is set, but {variable_of('auth')} does not include oauth"
        return [("oauth", "note", message, f"Set {variable_of('auth')}=oauth to accept its tokens.")]
    missing = [name for name in ("oauth_issuer", "oauth_audience") if getattr(settings, name) is None]
    if missing:
        names = " and ".join(map(variable_of, missing))
        verb, them = ("are", "them") if len(missing) > 1 else ("is", "it")
        return [("oauth", "wrong", f"{names} {verb} not set", f"Set {them}.")]
    from sora_mcp.identity.issuer import Issuer, IssuerDown  # noqa: PLC0415 - loads the HTTP client only if needed
    from sora_mcp.identity.oauth import LEEWAY_S  # noqa: PLC0415

    issuer = Issuer(settings.oauth_issuer or "")
    try:
        keys = await issuer.fetch_keys()
    except IssuerDown as down:
        advice = f"Check {variable_of('oauth_issuer')}, and that this machine can reach it."
        return [("oauth", "wrong", f"the issuer {issuer.address} cannot be used: {down}", advice)]
    message = f"{issuer.address} has {counted(len(keys), 'key')}; tokens are for {settings.oauth_audience}"
    findings: list[Finding] = [("oauth", "ok", message, "")]
    if issuer.skew_s is not None and abs(issuer.skew_s) > LEEWAY_S:
        message = f"{abs(issuer.skew_s):.0f} s {'ahead of' if issuer.skew_s > 0 else 'behind'} the issuer's"
        findings.append(("clock", "wrong", f"this machine's clock is {message}", "Set the clock: tokens are refused."))
    return findings
