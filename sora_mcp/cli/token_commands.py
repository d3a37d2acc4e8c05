"""`sora-mcp token`: who may use a team's server with a static token, and with which key of the gateway's."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING

import click

from sora_mcp.cli.group import SubGroup
from sora_mcp.cli.loading import load_settings
from sora_mcp.cli.pasting import command

if TYPE_CHECKING:
    from sora_mcp.core.cost import Cost
    from sora_mcp.identity.tokens import Grant, TokenFile

LONGEST_KEY = 4096
_as_json = click.option("--json", "as_json", is_flag=True, help="One JSON object on stdout, nothing else.")


@click.group(cls=SubGroup, epilog="Example: sora-mcp token add alice")
def token() -> None:
    """The people who share this server over HTTP, with SORA_AUTH=tokens: one token for each name."""


def _scopes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    from sora_mcp.identity.scopes import SCOPES  # noqa: PLC0415

    if value is None:
        return None
    words = [word for word in re.split(r"[,\s]+", value) if word]
    if not words or not set(words) <= set(SCOPES):
        raise click.BadParameter(f"{value!r} is none; there are {' and '.join(SCOPES)}, separated by a comma.")
    return tuple(scope for scope in SCOPES if scope in words)


def _cap(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Cost | None:
    from sora_mcp.config.converters import cost  # noqa: PLC0415

    kind = cost(above_0=True)
    try:
        return None if value is None else kind.read(value)
    except (ValueError, TypeError):
        raise click.BadParameter(f"{value!r} is none; allowed: {kind.allowed}.") from None


@token.command(epilog='Example: sora-mcp token add alice --scopes videos:read,videos:create --cap "5 USD"')
@click.argument("name")
@click.option("--scopes", callback=_scopes, help="videos:read, videos:create or both (the default), with a comma.")
@click.option("--cap", callback=_cap, help='The most that 24 hours of this person may cost, such as 3 or "5 USD".')
@click.option("--replace", is_flag=True, help="A new token in place of the old one; scopes and cap stay, if not named.")
@_as_json
def add(name: str, scopes: tuple[str, ...] | None, cap: Cost | None, replace: bool, as_json: bool) -> None:
    """Make a token for NAME and show it, this once; only its hash is kept.

    NAME is whose videos are made with it. A running server takes it within seconds.
    """
    file = _file()
    secret = file.add(name, scopes, cap, replace=replace)
    grant = next(each for each in file.grants() if each.name == name)
    if as_json:
        click.echo(json.dumps({"token": secret} | _shown(grant)))
        return
    click.echo(secret)
    click.echo(f"This is the token of {_in_words(grant)}.", err=True)
    click.echo("It is not shown again. Send it as the header Authorization: Bearer TOKEN.", err=True)


@token.command("list", epilog="Example: sora-mcp token list")
@_as_json
def show(as_json: bool) -> None:
    """Show whose tokens there are, and what each allows."""
    grants = _file().grants()
    if as_json:
        click.echo(json.dumps({"tokens": [_shown(each) for each in grants]}))
        return
    for grant in grants:
        click.echo(f"{_in_words(grant)}, since {grant.created_at[:10]}")
    if not grants:
        click.echo(f"There are no tokens. Add one with: {command('token', 'add')} NAME")


@token.command(epilog="Example: sora-mcp token revoke bob")
@click.argument("name")
@_as_json
def revoke(name: str, as_json: bool) -> None:
    """Take the token of NAME back. A running server refuses it, and ends its streams, within seconds."""
    _file().revoke(name)
    if as_json:
        click.echo(json.dumps({"revoked": name}))
        return
    click.echo(f"The token of {name} is revoked. The videos of {name} stay in the ledger.")


@token.command(epilog="Example: sora-mcp token key alice --remove")
@click.argument("name")
@click.option("--remove", is_flag=True, help="Forget it; the server's own key is used again.")
@_as_json
def key(name: str, remove: bool, as_json: bool) -> None:
    """Keep the gateway's key of NAME: what they make is paid with it. It is asked for, or read from standard input.

    NAME is a token's, or ISSUER#SUBJECT of somebody who comes by OAuth. The key is kept for the gateway that
    SORA_BASE_URL names, and is sent to no other.
    """
    settings = load_settings()
    from sora_mcp.config.converters import Secret  # noqa: PLC0415
    from sora_mcp.identity.upstream_keys import UpstreamKeys  # noqa: PLC0415

    keys = UpstreamKeys(settings.home)
    if remove:
        was_there = keys.remove(name)
        done = f"The key of {name} is forgotten." if was_there else f"There is no key of {name}."
    else:
        _check_known(name)
        endpoint = settings.endpoint()
        keys.store(name, endpoint.base_url, Secret(_read_key(name, endpoint.label)))
        done = f"The key of {name} is kept for {endpoint.label}."
    click.echo(json.dumps({"name": name, "has_key": not remove}) if as_json else done)


def _check_known(name: str) -> None:
    """Raise a usage error for a name that nobody has: a key would be kept for nobody."""
    is_oauth = "://" in name and "#" in name
    if not is_oauth and name not in {each.name for each in _file().grants()}:
        raise click.UsageError(f"There is no token of {name!r}. Add it first: {command('token', 'add', name)}")


def _read_key(name: str, gateway: str) -> str:
    if sys.stdin is not None and sys.stdin.isatty():
        text: str = click.prompt(f"Key of {name} at {gateway}", hide_input=True)
    else:
        text = sys.stdin.read(LONGEST_KEY + 1) if sys.stdin is not None else ""
    text = text.strip()
    if not text or len(text) > LONGEST_KEY or not text.isascii() or not text.isprintable() or " " in text:
        raise click.UsageError("That is no key: one line of letters, digits and signs. Nothing was kept.")
    return text


def _file() -> TokenFile:
    settings = load_settings()
    from sora_mcp.identity.tokens import TokenFile  # noqa: PLC0415

    return TokenFile(settings.home)


def _shown(grant: Grant) -> dict[str, object]:
    cap = grant.max_cost_per_day
    return {
        "name": grant.name,
        "scopes": list(grant.scopes),
        "max_cost_per_day": None if cap is None else str(cap),
        "created_at": grant.created_at,
    }


def _in_words(grant: Grant) -> str:
    cap = "" if grant.max_cost_per_day is None else f", at most {grant.max_cost_per_day} a day"
    return f"{grant.name}: {', '.join(grant.scopes)}{cap}"
