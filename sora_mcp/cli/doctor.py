"""`sora-mcp doctor`: what is there, what is wrong, and what to do about it. Nothing here costs anything."""

from __future__ import annotations

import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import click
from msgspec import Struct
from msgspec.structs import asdict

from sora_mcp import __version__, dialects
from sora_mcp.cli.doctor_callers import hosts, oauth, tokens
from sora_mcp.cli.doctor_ledger import ledger
from sora_mcp.cli.logs import set_up
from sora_mcp.cli.output import json_text
from sora_mcp.cli.wording import FOR_SHELL
from sora_mcp.config.converters import MIN_KEY_LENGTH
from sora_mcp.config.endpoint import Endpoint
from sora_mcp.config.logins import KEY_STORE, Login
from sora_mcp.config.settings import Settings, load_valid
from sora_mcp.config.spelling import variable_of
from sora_mcp.config.variables import variables
from sora_mcp.core.capabilities import OPERATIONS, Capabilities, verb_of
from sora_mcp.core.caps import OverCap
from sora_mcp.core.errors import SoraError
from sora_mcp.dialects.protocol import Catalogued, Dialect
from sora_mcp.dialects.recognition import LOOKS, recognized
from sora_mcp.studio.costs import spending_policy
from sora_mcp.studio.upstream import connect

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway

MAX_SKEW_S = 60
"""Seconds by which the clocks may differ: addresses are signed for minutes."""

Verdict = Literal["ok", "note", "wrong"]
_MARKS: dict[Verdict, tuple[str, str]] = {"ok": ("✓", "green"), "note": ("·", "yellow"), "wrong": ("✗", "red")}


class Check(Struct, frozen=True):
    """One thing looked at; `next_step` is there when something should be done."""

    name: str
    verdict: Verdict
    message: str
    next_step: str = ""


def show(*, as_json: bool) -> int:
    """Print the check-up; returns the exit code (0, or 3 where something is wrong)."""
    settings, unusable = load_valid()
    set_up(settings)
    checks = [_wrong("settings", error) for error in unusable]
    knows_ledger = not any(variable_of("ledger_url") in error.parts for error in unusable)
    checks += anyio.run(partial(check_up, settings, knows_ledger=knows_ledger))
    wrong = any(check.verdict == "wrong" for check in checks)
    if as_json:
        report = {"ok": not wrong, "checks": [asdict(check) for check in checks], "settings": _settings(settings)}
        text = json_text(report)
    else:
        title = f"Settings from the environment{' and the login' if settings.login else ''}"
        text = "\n".join([*_lines(checks), "", title, *_setting_lines(settings)])
    key = settings.key_to_redact
    click.echo(text.replace(key, "[key]") if len(key) >= MIN_KEY_LENGTH else text)  # wherever somebody put it
    return 3 if wrong else 0


def _wrong(name: str, error: SoraError) -> Check:
    """What an error says of the thing that was looked at."""
    return Check(name, "wrong", FOR_SHELL.message(error.parts), FOR_SHELL.next_step(error))


def _lines(checks: list[Check]) -> Iterator[str]:
    for check in checks:
        mark, colour = _MARKS[check.verdict]
        yield f"{click.style(mark, fg=colour)} {click.style(check.name, bold=True)}: {check.message}"
        if check.next_step:
            yield f"    → {check.next_step}"


def _setting_lines(settings: Settings) -> Iterator[str]:
    """What is set, so that a terminal holds the checks as well; --json has all."""
    rows = _settings(settings)
    own_values = {
        name: row["value"] if row["from"] == "environment" else f"{row['value']} (from: {row['from']})"
        for name, row in rows.items()
        if row["from"] not in {"default", "base address"}
    }
    yield from (f"    {name} = {value}" for name, value in own_values.items())
    yield f"    The other {len(rows) - len(own_values)} have their defaults, which docs/settings.md and --json show."


async def check_up(settings: Settings, *, knows_ledger: bool = True) -> list[Check]:
    """Everything, in the order in which a person would look; the ledger where it is known which one is meant."""
    home = _folder("home folder", settings.home, "SORA_HOME")
    checks = [*_unknown(settings), _versions(), *_extras(), home]
    checks += [_folder("output folder", settings.output_dir, "SORA_OUTPUT_DIR"), *_image_folders(settings)]
    if knows_ledger and (home.verdict == "ok" or settings.ledger_url is not None):
        checks += [Check(*finding) for finding in await ledger(settings)]
    if home.verdict == "ok":
        checks += [Check(*finding) for finding in tokens(settings)]
    checks += [Check(*finding) for finding in (*await oauth(settings), *hosts(settings))]
    return checks + await _gateway(settings)


def _versions() -> Check:
    names = ("mcp", "httpx", "pydantic", "anyio")
    parts = [f"{name} {metadata.version(name)}" for name in names]
    words = f"sora-mcp {__version__}, Python {platform.python_version()}, {', '.join(parts)}"
    return Check("versions", "ok", f"{words}, SQLite {sqlite3.sqlite_version}")


def _extras() -> Iterator[Check]:
    try:
        parts = [f"{name} {metadata.version(name)}" for name in ("av", "pillow")]
    except metadata.PackageNotFoundError:
        yield Check(
            "extra media",
            "note",
            "not installed: view and the sandbox do not work",
            f"Install it with: {sys.executable} -m pip install av pillow",
        )
    else:
        yield Check("extra media", "ok", ", ".join(parts))


def _folder(name: str, folder: Path, setting: str) -> Check:
    """Whether files can be written there; a folder that is not there yet is not made."""
    try:
        there = next(parent for parent in (folder, *folder.parents) if parent.exists() or parent.is_symlink())
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        advice = f"Make it writable, or name another one in {setting}."
        return Check(name, "wrong", f"{folder} cannot be written ({error.strerror})", advice)
    return Check(name, "ok", str(folder) if there == folder else f"{folder} (made when it is needed)")


def _unknown(settings: Settings) -> Iterator[Check]:
    """What looks like a setting and is none."""
    for variable in settings.unknown:
        advice = "Correct its name, or remove it."
        if variable.may_be_guard:
            advice += " Until then nothing that costs money is submitted: it may be meant as a guard against costs."
        yield Check("settings", "wrong" if variable.may_be_guard else "note", str(variable), advice)


def _image_folders(settings: Settings) -> Iterator[Check]:
    """The folders of SORA_IMAGE_DIRS whose images cannot be uploaded."""
    for folder in settings.image_dirs:
        try:
            wrong = "" if folder.is_dir() else "is not a folder" if folder.exists() else "does not exist"
            if not wrong and not os.access(folder, os.R_OK | os.X_OK):
                wrong = "cannot be read"
        except OSError as error:
            wrong = f"cannot be looked at ({error.strerror})"
        if wrong:
            yield Check("image folder", "wrong", f"{folder} {wrong}", "Make it, or correct SORA_IMAGE_DIRS.")


async def _gateway(settings: Settings) -> list[Check]:
    try:
        endpoint = settings.endpoint()
    except SoraError as error:
        return [_wrong("gateway", error)]
    try:
        endpoint.api_key.get_secret_value()
    except SoraError as error:
        return [_wrong("key", error)]
    dialect = dialects.configured(settings)
    try:
        gateway = connect(settings, endpoint, dialect)
    except SoraError as error:
        return [_wrong("gateway", error)]
    try:
        return await _probed(settings, endpoint, gateway, dialect)
    finally:
        await gateway.aclose()


async def _probed(settings: Settings, endpoint: Endpoint, gateway: Gateway, dialect: Dialect) -> list[Check]:
    """What a gateway says to free requests."""
    try:
        seen = await gateway.probe()
    except SoraError as error:
        looks_like = recognized(await gateway.replies(LOOKS)) if error.http_status else None
        judged = error.http_status in {401, 403}
        checks = [Check("gateway", "ok", endpoint.description)] if judged else []
        return [
            *checks,
            _wrong("key" if judged else "gateway", error),
            *_upstream(settings, dialect.capabilities, looks_like, []),
        ]
    await _learn(gateway, dialect)
    number = f"{len(seen.models)} model{'s' * (len(seen.models) != 1)}"
    accepted = f"accepted; {number}" if endpoint.api_key else f"none is needed here, and none is sent; {number}"
    is_open = bool(endpoint.api_key) and not endpoint.local and dialect.capabilities.lists_models
    unproven = f"sent; the list of models is open to all, so only a video shows whether it is accepted; {number}"
    checks = [
        Check("gateway", "ok", endpoint.description),
        Check("key", "note" if is_open else "ok", f"{unproven if is_open else accepted}{_key_from(settings)}"),
        *_upstream(settings, dialect.capabilities, recognized(await gateway.replies(LOOKS)), seen.models),
    ]
    if seen.clock_skew_s is not None and abs(seen.clock_skew_s) > MAX_SKEW_S:
        words = f"{abs(seen.clock_skew_s):.0f} s {'ahead of' if seen.clock_skew_s > 0 else 'behind'} the gateway's"
        checks.append(
            Check("clock", "wrong", f"this machine's clock is {words}", "Set the clock: signed addresses expire.")
        )
    return checks


async def _learn(gateway: Gateway, dialect: Dialect) -> None:
    """Learn what each model takes, where the gateway lists that."""
    if isinstance(dialect, Catalogued):
        with suppress(SoraError, ValueError):  # then it stays unknown, and is said to be
            dialect.learn(await gateway.catalogue(dialect))


def _operations(capabilities: Capabilities, model: str | None) -> str:
    """What each operation becomes; what is made from earlier videos depends on the model, where models differ and
    nothing is known of this one."""
    is_known = not capabilities.lists_models or any(offer.id == model for offer in capabilities.offers)
    named = [name for name in OPERATIONS if is_known or name not in {"remix", "blend"}]
    words = ", ".join(f"{verb_of(name)} {capabilities.support(name)}" for name in named)
    return words if is_known else f"{words}; remix and blend depend on the model"


def _upstream(
    settings: Settings, capabilities: Capabilities, looks_like: str | None, models: list[str]
) -> Iterator[Check]:
    """What is spoken there, whether the server looks like that, and what each operation becomes."""
    setting = variable_of("dialect")
    if looks_like not in {None, settings.dialect}:
        advice = f"Set {setting}={looks_like}, unless you know better: only free requests were made to find out."
        yield Check("dialect", "note", f"{settings.dialect}, and the server looks like {looks_like}", advice)
    else:
        implied = f" (taken from {variable_of('base_url')})" if settings.dialect_is_implied else ""
        operations = _operations(capabilities, settings.model)
        yield Check("dialect", "ok", f"{settings.dialect}{implied}: {operations}")
    model = settings.model
    if capabilities.takes_model and model is not None and models and model not in models:
        advice = f"Set {variable_of('model')} to one of them."
        yield Check("model", "wrong", f"the server has no {model}; it has {', '.join(models[:8])}", advice)
    if capabilities.lists_models and model is None and models:
        words = f"none is set, so each call has to name one: {', '.join(models[:8])}"
        yield Check("model", "note", words, f"Set {variable_of('model')} to one of them.")
    if capabilities.is_rule_guessed:
        words = f"no rule is known for {model}: its lengths and sizes are a guess ({capabilities.frame_rule})"
        yield Check("model's rule", "note", words, "Look at size and length of the first video.")
    try:
        spending_policy(settings, capabilities).check_units()
    except OverCap as error:
        yield _wrong("caps", error)
    if settings.max_cost_per_owner is not None and not settings.auth:
        problem = f"{variable_of('max_cost_per_owner')} holds for nobody without {variable_of('auth')}"
        yield Check("caps", "note", problem, f"Set {variable_of('max_cost_per_day')} for one person.")
    caps = settings.max_cost_per_call is not None or settings.max_cost_per_day is not None
    if not capabilities.has_prices and caps and settings.max_calls_per_day is None:
        problem = "no price is known here, so a cap on costs cannot hold: nothing is submitted"
        yield Check("caps", "wrong", problem, f"Set {variable_of('max_calls_per_day')}, which counts videos.")


def _key_from(settings: Settings) -> str:
    """Where the key came from, in words."""
    login = settings.login
    if settings.api_key is None:
        return ""
    if "api_key" in settings.explicit or login is None:
        return f"; from the environment ({variable_of('api_key')})"
    return f"; from the {'key store' if login.place == KEY_STORE else f'file {login.place}'} (sora-mcp login)"


def _from_login(login: Login) -> dict[str, str]:
    """Where the settings came from that are the login's."""
    return {"base_url": "login", "dialect": "login"} | ({"api_key": login.place} if login.place else {})


def _settings(settings: Settings) -> dict[str, dict[str, str]]:
    """Every setting with its value and where it came from; of the key only whether it is there."""
    by_name = {}
    for variable in variables():
        value = getattr(settings, variable.field)
        if variable.secret:
            value = "absent" if value is None else "present"
        words = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        shown = "not set" if value in {None, ()} else words
        origin = "environment" if variable.field in settings.explicit else "default"
        if variable.field == "dialect" and settings.dialect_is_implied:
            origin = "base address"
        elif origin == "default" and settings.login is not None:
            origin = _from_login(settings.login).get(variable.field, origin)
        by_name[variable.name] = {"value": shown, "from": origin}
    return by_name
