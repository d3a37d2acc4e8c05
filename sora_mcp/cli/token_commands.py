"""`sora-mcp token`: static tokens for the users of a team's server, and their own gateway keys."""

from __future__ import annotations

import json
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from sora_mcp.cli.command_lines import command
from sora_mcp.cli.group import SubGroup
from sora_mcp.cli.loading import load_settings
from sora_mcp.cli.terminal import is_terminal
from sora_mcp.core.tasks import quoted

if TYPE_CHECKING:
    from sora_mcp.config.private_file import PrivateFile
    from sora_mcp.config.settings import Settings
    from sora_mcp.core.cost import Cost
    from sora_mcp.identity.tokens import Grant, TokenStore

MAX_KEY_LENGTH = 4096
_json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else."
)


@click.group(cls=SubGroup, epilog="Example: sora-mcp token add alice")
def token() -> None:
    """Manage the tokens of the people who share this server over HTTP (SORA_AUTH=tokens): one token per name."""


def _parse_scopes(_ctx: click.Context, _param: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    from sora_mcp.identity.scopes import SCOPES  # noqa: PLC0415

    if value is None:
        return None
    names = [name for name in re.split(r"[,\s]+", value) if name]
    if not names or not set(names) <= set(SCOPES):
        raise click.BadParameter(f"{quoted(value)} is not a scope; allowed: {', '.join(SCOPES)}, separated by a comma.")
    return tuple(scope for scope in SCOPES if scope in names)


def _parse_cap(_ctx: click.Context, _param: click.Parameter, value: str | None) -> Cost | None:
    from sora_mcp.config.converters import cost  # noqa: PLC0415

    converter = cost(positive=True)
    if value is None:
        return None
    try:
        cap: Cost = converter.read(value)
    except (ValueError, TypeError):
        raise click.BadParameter(f"{quoted(value)} is not a cap; allowed: {converter.allowed}.") from None
    return cap


@token.command(epilog='Example: sora-mcp token add alice --scopes videos:read,videos:create --cap "5 USD"')
@click.argument("name")
@click.option(
    "--scopes", callback=_parse_scopes, help="videos:read, videos:create or both (the default), separated by a comma."
)
@click.option(
    "--cap", callback=_parse_cap, help='The most that this person may spend in 24 hours, such as 3 or "5 USD".'
)
@click.option(
    "--replace", is_flag=True, help="Replace the old token; its scopes and cap stay unless you give new ones."
)
@_json_option
def add(name: str, scopes: tuple[str, ...] | None, cap: Cost | None, replace: bool, as_json: bool) -> None:
    """Make a token for NAME and show it once; only its hash is kept.

    Videos that are made with it are NAME's. A running server accepts it within seconds.
    """
    store = _token_store(load_settings())
    secret = store.add(name, scopes, cap, replace=replace)
    if not as_json:
        _echo_secret(name, secret)  # first, so that no later error can lose it
    grant = next((each for each in store.grants() if each.name == name), None)
    if grant is None:
        raise click.ClickException(f"The token of {name} was made, but has been revoked since.")
    if as_json:
        _echo_secret(name, json.dumps({"token": secret} | _grant_fields(grant)))
        return
    click.echo(f"This is the token of {_describe_grant(grant)}.", err=True)
    click.echo("It is not shown again. Send it as the header Authorization: Bearer TOKEN.", err=True)


def _echo_secret(name: str, text: str) -> None:
    """Print text that is shown only once. Raise OSError if that fails, after printing on stderr what to do."""
    try:
        click.echo(text)
    except OSError:
        retry_command = command("token", "add", name, "--replace")
        click.echo(f"The token of {name} was made, but could not be shown. Make another: {retry_command}", err=True)
        raise


@token.command("list", epilog="Example: sora-mcp token list")
@_json_option
def show(as_json: bool) -> None:
    """List the tokens, with their owners and what each allows."""
    settings = load_settings()
    grants = _token_store(settings).grants()
    if unused := unused_files(settings):
        click.echo(f"{describe_unused(unused)} {command('token', 'import')}", err=True)
    if as_json:
        click.echo(json.dumps({"tokens": [_grant_fields(each) for each in grants]}))
        return
    for grant in grants:
        click.echo(f"{_describe_grant(grant)}, since {grant.created_at[:10]}")
    if not grants:
        location = " in the ledger's database" if settings.ledger_url else ""
        click.echo(f"There are no tokens{location}. Add one with: {command('token', 'add')} NAME")


@token.command(epilog="Example: sora-mcp token revoke bob")
@click.argument("name")
@_json_option
def revoke(name: str, as_json: bool) -> None:
    """Revoke NAME's token. A running server refuses it, and ends its streams, within seconds."""
    settings = load_settings()
    from sora_mcp.core.errors import FileProblem  # noqa: PLC0415
    from sora_mcp.identity.upstream_keys import UpstreamKeys  # noqa: PLC0415
    from sora_mcp.ledger import open_documents  # noqa: PLC0415

    _token_store(settings).revoke(name)
    has_key = False
    with suppress(FileProblem):  # the token is revoked already
        has_key = UpstreamKeys(open_documents(settings)).has(name)
    if as_json:
        click.echo(json.dumps({"revoked": name, "has_key": has_key}))
        return
    click.echo(f"The token of {name} is revoked. The videos of {name} stay in the ledger.")
    if has_key:
        delete = command("token", "key", name, "--remove")
        click.echo(
            "Their own key for the gateway is still stored, and will be used by whoever gets this name next. "
            f"To delete it: {delete}"
        )


@token.command(epilog="Example: sora-mcp token key alice --remove")
@click.argument("name")
@click.option("--remove", is_flag=True, help="Delete the key; the server's own key is used again.")
@_json_option
def key(name: str, remove: bool, as_json: bool) -> None:
    """Save NAME's own gateway key: it pays for what they make.

    The key is asked for, or read from standard input. NAME is the name of a token, or ISSUER#SUBJECT for somebody who
    signs in by OAuth. The key is kept for the gateway that SORA_BASE_URL names, and is sent to no other.
    """
    settings = load_settings()
    from sora_mcp.config.converters import Secret  # noqa: PLC0415
    from sora_mcp.identity.upstream_keys import UpstreamKeys  # noqa: PLC0415
    from sora_mcp.ledger import open_documents  # noqa: PLC0415

    keys = UpstreamKeys(open_documents(settings))
    if remove:
        is_removed = keys.remove(name)
        message = f"The key of {name} was deleted." if is_removed else f"There is no key for {name}."
    else:
        _check_known(settings, name)
        endpoint = settings.endpoint()
        keys.store(name, endpoint.base_url, Secret(_read_key(name, endpoint.label)))
        message = f"The key of {name} for {endpoint.label} was saved."
    click.echo(json.dumps({"name": name, "has_key": not remove}) if as_json else message)


@token.command("import", epilog="Example: sora-mcp token import")
@_json_option
def import_tokens(as_json: bool) -> None:
    """Move tokens and keys from the files in SORA_HOME to the database in SORA_LEDGER_URL.

    A name that already has a token there keeps that one. The files are renamed, to show that they are no longer used.
    """
    settings = load_settings()
    from sora_mcp.config.private_file import PrivateFiles  # noqa: PLC0415
    from sora_mcp.identity.tokens import TokenStore  # noqa: PLC0415
    from sora_mcp.identity.upstream_keys import UpstreamKeys  # noqa: PLC0415
    from sora_mcp.ledger import open_documents  # noqa: PLC0415

    if settings.ledger_url is None:
        raise click.UsageError("SORA_LEDGER_URL is not set: the files in SORA_HOME are in use. Nothing was done.")
    files, documents = PrivateFiles(settings.home), open_documents(settings)
    grants = TokenStore(files).grants()
    skipped = TokenStore(documents).import_grants(grants)
    imported_keys, skipped_keys = UpstreamKeys(documents).import_from(UpstreamKeys(files))
    renamed = [str(path) for file in unused_files(settings) if (path := file.set_aside())]
    if as_json:
        names = {"tokens": [each.name for each in grants], "left_out": skipped, "keys_left_out": skipped_keys}
        click.echo(json.dumps(names | {"set_aside": renamed}))
        return
    imported = [each.name for each in grants if each.name not in skipped]
    click.echo(f"Imported tokens: {', '.join(imported) or 'none'}.")
    if skipped:
        click.echo(f"Tokens not imported, because the name already has one: {', '.join(skipped)}.")
    if imported_keys:
        click.echo(f"Imported keys: {', '.join(imported_keys)}.")
    if skipped_keys:
        click.echo(f"Keys not imported, because the name already has one: {', '.join(skipped_keys)}.")
    for name in renamed:
        click.echo(f"Renamed: {name}")


def _check_known(settings: Settings, name: str) -> None:
    """Raise UsageError for a name without a token: its key could never be used."""
    is_oauth = "://" in name and "#" in name
    if not is_oauth and name not in {each.name for each in _token_store(settings).grants()}:
        raise click.UsageError(f"There is no token for {quoted(name)}. Add it first: {command('token', 'add', name)}")


def _read_key(name: str, gateway: str) -> str:
    if is_terminal(sys.stdin):
        text: str = click.prompt(f"Key of {name} at {gateway}", hide_input=True)
    else:
        text = sys.stdin.read(MAX_KEY_LENGTH + 1) if sys.stdin is not None else ""
    text = text.strip()
    if not text or len(text) > MAX_KEY_LENGTH or not text.isascii() or not text.isprintable() or " " in text:
        raise click.UsageError("That is not a key: a key is one line of letters, digits and signs. Nothing was saved.")
    return text


def _token_store(settings: Settings) -> TokenStore:
    from sora_mcp.identity.tokens import TokenStore  # noqa: PLC0415
    from sora_mcp.ledger import open_documents  # noqa: PLC0415

    return TokenStore(open_documents(settings))


def unused_files(settings: Settings) -> list[PrivateFile]:
    """Return the files of tokens and keys in SORA_HOME that are unused because the ledger's database is used."""
    from sora_mcp.config.private_file import PrivateFiles  # noqa: PLC0415

    if settings.ledger_url is None:
        return []
    files = PrivateFiles(settings.home)
    return [file for name in ("tokens", "upstream-keys") if (file := files.named(name)).path.exists()]


def describe_unused(unused: list[PrivateFile]) -> str:
    """Return the sentence about unused files that precedes the command to import them."""
    paths, verb, them = " and ".join(str(file.path) for file in unused), "are", "them"
    if len(unused) == 1:
        verb, them = "is", "it"
    return f"{paths} {verb} not used: tokens and keys are in the ledger's database. Import {them} with:"


def _grant_fields(grant: Grant) -> dict[str, object]:
    cap = grant.max_cost_per_day
    return {
        "name": grant.name,
        "scopes": list(grant.scopes),
        "max_cost_per_day": None if cap is None else str(cap),
        "created_at": grant.created_at,
    }


def _describe_grant(grant: Grant) -> str:
    cap = "" if grant.max_cost_per_day is None else f", at most {grant.max_cost_per_day} a day"
    return f"{grant.name}: {', '.join(grant.scopes)}{cap}"
