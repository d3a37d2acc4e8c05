"""`sora-mcp login` and `logout`: check a gateway's key for free and store it where only this user can read it."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Any, Literal

import anyio
import click
from msgspec import Struct

from sora_mcp import dialects
from sora_mcp.cli.confirmation import can_ask
from sora_mcp.cli.loading import load_settings
from sora_mcp.cli.logs import set_up
from sora_mcp.cli.output import print_json
from sora_mcp.cli.terminal import is_terminal
from sora_mcp.config.addresses import normalize_address
from sora_mcp.config.converters import Secret
from sora_mcp.config.endpoint import UPSTREAMS, gateway_address, is_sandbox, needs_key, normalize_key, upstream_at
from sora_mcp.config.key_store import (
    DESCRIPTIONS,
    SERVICE,
    TIMEOUT_S,
    UNLOCK_TIMEOUT_S,
    KeyStoreProblem,
    delete_key,
    store_key,
)
from sora_mcp.config.logins import KEY_STORE, Login, LoginFile
from sora_mcp.config.settings import Settings
from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import Advice, Do
from sora_mcp.core.errors import FileProblem, NotConfigured, Refused, SoraError, Unreachable
from sora_mcp.core.tasks import counted
from sora_mcp.dialects.recognition import PROBE_CALLS, recognize
from sora_mcp.studio.upstream import connect

Store = Literal["key-store", "file"]

_MAX_KEY_BYTES = 10_000
_INSTALL_KEYRING = f"{sys.executable} -m pip install keyring"
_NOT_SAVED = "No login was saved."
_UNREADABLE_PROMPTS = (
    "The prompts would be invisible: stderr is not a terminal. Do not redirect stderr, or name the gateway with "
    f"--base-url and pipe the key in. {_NOT_SAVED}"
)


class LoginRequest(Struct, frozen=True):
    """The options of `login`; missing ones are prompted for at a terminal."""

    base_url: str | None
    dialect: str | None
    store: Store | None
    check: bool


def log_in(request: LoginRequest, *, as_json: bool) -> None:
    """Check a key and store it. Raise NotConfigured, Refused, FileProblem and click's UsageError."""
    settings = load_settings()
    file = LoginFile(settings.home)
    logins = {login.address: login for login in file.read()}
    trial = _collect_settings(settings, request, logins)
    set_up(trial)
    endpoint = trial.endpoint()
    notes = anyio.run(_probe, trial) if request.check else ["Neither the address nor the key was checked."]
    key = endpoint.api_key.get_secret_value()
    in_key_store = bool(key) and _store_key(endpoint.base_url, key, request.store)
    file.add(endpoint.base_url, trial.dialect, key, in_key_store=in_key_store)
    previous = logins.get(endpoint.base_url)
    if previous is not None and previous.key_location == KEY_STORE and not in_key_store:
        notes += _delete_stored_key(endpoint.base_url)
    key_location = KEY_STORE if in_key_store else str(file.path) if key else None
    if as_json:
        print_json({"base_url": endpoint.base_url, "dialect": trial.dialect, "key_in": key_location, "notes": notes})
        return
    click.echo(f"Logged in to {endpoint.base_url} ({trial.dialect}).")
    for note in [*notes, *_describe_key_location(key_location, request.store), *_describe_overrides(settings)]:
        click.echo(note)


def _collect_settings(settings: Settings, request: LoginRequest, logins: Mapping[str, Login]) -> Settings:
    """Return the settings of the login. Missing values are prompted for at a terminal; else the key is on stdin."""
    is_interactive = is_terminal(sys.stdin)
    if is_interactive and not can_ask():
        raise click.UsageError(_UNREADABLE_PROMPTS)
    base_url = request.base_url or (None if is_sandbox(settings.base_url) else settings.base_url)
    if request.base_url is None and is_interactive:
        base_url = click.prompt("The gateway's address", default=base_url, value_proc=_valid_base_url, err=True)
    elif request.base_url is None and "base_url" not in settings.explicit:
        raise click.UsageError("Name the gateway with --base-url; the key is read from standard input.")
    base_url = _valid_base_url(base_url or "sandbox")
    dialect = request.dialect or (settings.dialect if "dialect" in settings.explicit else None) or upstream_at(base_url)
    if dialect is None:
        dialect = next((login.dialect for login in logins.values() if login.matches(base_url, None)), UPSTREAMS[0])
        if is_interactive:
            choices = click.Choice(UPSTREAMS, case_sensitive=False)
            dialect = click.prompt("What it speaks", default=dialect, type=choices, err=True)
    address = gateway_address(base_url, dialect)
    is_needed = needs_key(dialect, is_local=normalize_address(address)[1])
    key = _prompt_key(is_needed=is_needed) if is_interactive else _read_key(is_needed=is_needed)
    return replace(
        settings,
        base_url=address,
        dialect=dialect,
        api_key=key or None,
        explicit=settings.explicit | {"base_url", "dialect", "api_key"},
        stored=None,
    )


def _valid_base_url(base_url: str) -> str:
    """Return the address if it can be a gateway's. Raise click's UsageError."""
    if is_sandbox(base_url):
        raise click.UsageError(f"The sandbox needs no login: set {variable_of('base_url')}=sandbox.")
    try:
        normalize_address(base_url, called="This")
    except NotConfigured as error:
        raise click.UsageError(error.message) from None
    return base_url


def _prompt_key(*, is_needed: bool) -> Secret:
    def read(typed: str) -> Secret:
        try:
            return normalize_key(Secret(typed), is_needed=is_needed)
        except NotConfigured:
            raise click.UsageError(
                "this is not a key: it contains spaces, line breaks or characters that no key has."
            ) from None

    prompt = "The key (not shown)" if is_needed else "The key (not shown; none where the server needs none)"
    default = None if is_needed else ""
    key: Secret = click.prompt(prompt, hide_input=True, default=default, show_default=False, value_proc=read, err=True)
    return key


def _read_key(*, is_needed: bool) -> Secret:
    content = b"" if sys.stdin is None else sys.stdin.buffer.read(_MAX_KEY_BYTES)
    text = content.decode("utf-8-sig", "replace").strip()
    if not text and is_needed:
        raise click.UsageError("Standard input contains no key. Without a terminal, the key is read from there.")
    try:
        return normalize_key(Secret(text), is_needed=is_needed)
    except NotConfigured:
        raise click.UsageError(
            "The text on standard input is not a key: it contains spaces, line breaks or characters that no key has."
        ) from None


async def _probe(settings: Settings) -> list[str]:
    """Ask the gateway for its models, which is free; return sentences about the answer. Raise SoraError if refused."""
    endpoint, dialect = settings.endpoint(), dialects.configured(settings)
    gateway = connect(settings, endpoint, dialect)
    try:
        try:
            probe = await gateway.probe()
        except SoraError as error:
            replies = await gateway.try_calls(PROBE_CALLS) if error.http_status else None
            raise _refusal(error, settings, None if replies is None else recognize(replies)) from None
        looks_like = recognize(await gateway.try_calls(PROBE_CALLS))
    finally:
        await gateway.aclose()
    number = counted(len(probe.models), "model")
    if not endpoint.api_key:
        notes = [f"The gateway answers and lists {number}; no key is sent."]
    elif dialect.capabilities.lists_models and not endpoint.local:
        notes = [f"The gateway answers and lists {number}, to anybody: only a video shows whether it accepts the key."]
    else:
        notes = [f"The gateway accepts the key and lists {number}."]
    if looks_like not in {None, settings.dialect}:
        notes.append(f"It looks like {looks_like}: if that is what it is, log in again with --dialect {looks_like}.")
    return notes


def _refusal(error: SoraError, settings: Settings, looks_like: str | None) -> SoraError:
    """Return the error that stops the login from being stored, with advice."""
    is_key_refused = error.http_status in {401, 403}
    advice: list[Advice]
    if is_key_refused:
        advice = [Do("Run it again with a key of this gateway.")]
    elif looks_like not in {None, settings.dialect}:
        advice = [Do(f"The server looks like {looks_like}: run it again with --dialect {looks_like}.")]
    elif isinstance(error, Unreachable):  # its address comes from the command line, not from a setting
        advice = [Do("Check the address and the network, then run it again.")]
    else:
        advice = list(error.advice)
    if not is_key_refused:
        advice.append(Do("To save the login without a check, run it with --no-check."))
    return Refused((*error.parts, f" {_NOT_SAVED}"), *advice, http_status=error.http_status)


def _store_key(address: str, key: str, store: Store | None) -> bool:
    """Store the key in the system's key store. Return False if it goes into the file. Raise FileProblem."""
    if store == "file":
        return False
    is_interactive = is_terminal(sys.stdin)
    if is_interactive and not can_ask():
        raise click.UsageError(_UNREADABLE_PROMPTS)
    try:
        if store_key(address, key, timeout_s=UNLOCK_TIMEOUT_S if is_interactive else TIMEOUT_S):
            return True
        problem = "the system's key store keeps nothing"
    except KeyStoreProblem as error:
        if error.problem != "absent":
            raise FileProblem(
                f"The key could not be saved: {DESCRIPTIONS[error.problem]}. {_NOT_SAVED}",
                Do("Unlock the key store and run it again, or add --store file: a file that only you can read."),
            ) from None
        problem = DESCRIPTIONS["absent"]
    if store is None:
        return False
    raise FileProblem(
        f"The key could not be saved: {problem}. {_NOT_SAVED}",
        Do(f"Install keyring ({_INSTALL_KEYRING}), or add --store file: a file that only you can read."),
    )


def _describe_key_location(key_location: str | None, store: Store | None) -> list[str]:
    """Return sentences that say where the key is stored."""
    if key_location is None:
        return []
    usage = f"It is used wherever {variable_of('api_key')} is not set, for this address only."
    if key_location == KEY_STORE:
        return [f"The key is in the system's key store. {usage}"]
    reason = "" if store == "file" else f"\n{_explain_missing_key_store()}"
    return [f"The key is in {key_location}, which only you can read. {usage}{reason}"]


def _explain_missing_key_store() -> str:
    """Return a sentence that says why the key is in a file."""
    if find_spec("keyring") is None:
        return f"To store it in the system's key store, install keyring ({_INSTALL_KEYRING}) and log in again."
    return "This system has no key store that can save it."


def _describe_overrides(settings: Settings) -> list[str]:
    """Return a sentence about the variables of this shell that take precedence over a login, if any."""
    names = [variable_of(name) for name in ("base_url", "api_key") if name in settings.explicit]
    verb, overrides = ("is", "overrides") if len(names) == 1 else ("are", "override")
    return [f"{' and '.join(names)} {verb} set in this shell and {overrides} this login."] if names else []


def log_out(address: str | None, *, as_json: bool) -> None:
    """Remove a login and its key. Raise NotConfigured, FileProblem and click's UsageError."""
    settings = load_settings()
    file = LoginFile(settings.home)
    logins = file.read()
    login = _find_login(address, settings, logins)
    notes = _delete_stored_key(login.address) if login.key_location == KEY_STORE else []
    file.remove(login.address)
    remaining = [each.address for each in logins if each is not login]
    if as_json:
        summary: dict[str, Any] = {
            "base_url": login.address,
            "default": remaining[-1] if remaining else None,
            "notes": notes,
        }
        print_json(summary)
        return
    click.echo(f"Logged out of {login.address}: its key is no longer stored.")
    for note in notes:
        click.echo(note)
    if remaining:
        click.echo(f"Where {variable_of('base_url')} is not set, {remaining[-1]} is used now.")


def _find_login(address: str | None, settings: Settings, logins: tuple[Login, ...]) -> Login:
    """Return the login for an address, or for SORA_BASE_URL, or the only one. Raise click's UsageError."""
    known = f" There are logins for {', '.join(each.address for each in logins)}." if logins else ""
    if address is None and "base_url" in settings.explicit:
        address = settings.base_url
    if address is None:
        if len(logins) == 1:
            return logins[0]
        raise click.UsageError(f"Name the address.{known}" if logins else "There is no login.")
    login = next((each for each in logins if each.matches(address, None)), None)
    if login is None:
        raise click.UsageError(f"There is no login for {address}.{known}")
    return login


def _delete_stored_key(address: str) -> list[str]:
    """Delete a key from the key store. Return a note if it may still be there. Raise FileProblem."""
    try:
        delete_key(address)
    except KeyStoreProblem as error:
        if error.problem != "absent":
            raise FileProblem(
                f"The key could not be deleted: {DESCRIPTIONS[error.problem]}. The login was left as it was.",
                Do("Unlock the key store and run it again."),
            ) from None
        return [f"If the system's key store still holds the key, delete it there: {SERVICE}, {address}."]
    return []
