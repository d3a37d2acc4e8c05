"""`sora-mcp doctor`: check the installation and say what is wrong and what to do about it. Costs nothing."""

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
from sora_mcp.cli.doctor_auth import check_hosts, check_oauth, check_tokens
from sora_mcp.cli.doctor_ledger import check_ledger
from sora_mcp.cli.logs import set_up
from sora_mcp.cli.output import format_json
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
from sora_mcp.core.tasks import counted
from sora_mcp.dialects.protocol import Catalogued, Dialect
from sora_mcp.dialects.recognition import PROBE_CALLS, recognize
from sora_mcp.studio.costs import spending_policy
from sora_mcp.studio.upstream import connect

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway

MAX_SKEW_S = 60
"""Seconds by which the clocks may differ: signed addresses are valid for minutes."""

Verdict = Literal["ok", "note", "wrong"]
_MARKS: dict[Verdict, tuple[str, str]] = {"ok": ("✓", "green"), "note": ("·", "yellow"), "wrong": ("✗", "red")}


class Check(Struct, frozen=True):
    """The result of one check; `next_step` is empty if nothing needs to be done."""

    name: str
    verdict: Verdict
    message: str
    next_step: str = ""


def show(*, as_json: bool) -> int:
    """Print all checks; return the exit code: 0, or 3 if something is wrong."""
    settings, unusable = load_valid()
    set_up(settings)
    checks = [_failed_check("settings", error) for error in unusable]
    is_ledger_known = not any(variable_of("ledger_url") in error.parts for error in unusable)
    checks += anyio.run(partial(run_checks, settings, is_ledger_known=is_ledger_known))
    has_problem = any(check.verdict == "wrong" for check in checks)
    if as_json:
        report = {
            "ok": not has_problem,
            "checks": [asdict(check) for check in checks],
            "settings": _describe_settings(settings),
        }
        text = format_json(report)
    else:
        title = f"Settings from the environment{' and the login' if settings.login else ''}"
        text = "\n".join([*_render_checks(checks), "", title, *_render_settings(settings)])
    key = settings.key_to_redact
    click.echo(text.replace(key, "[key]") if len(key) >= MIN_KEY_LENGTH else text)  # in whichever setting it is
    return 3 if has_problem else 0


def _failed_check(name: str, error: SoraError) -> Check:
    """Return the check for an error."""
    return Check(name, "wrong", FOR_SHELL.message(error.parts), FOR_SHELL.next_step(error))


def _render_checks(checks: list[Check]) -> Iterator[str]:
    for check in checks:
        mark, colour = _MARKS[check.verdict]
        yield f"{click.style(mark, fg=colour)} {click.style(check.name, bold=True)}: {check.message}"
        if check.next_step:
            yield f"    → {check.next_step}"


def _render_settings(settings: Settings) -> Iterator[str]:
    """Render only the settings that are set, so that the checks fit on a terminal, too; --json has all."""
    rows = _describe_settings(settings)
    own_values = {
        name: row["value"] if row["from"] == "environment" else f"{row['value']} (from: {row['from']})"
        for name, row in rows.items()
        if row["from"] not in {"default", "base address"}
    }
    yield from (f"    {name} = {value}" for name, value in own_values.items())
    yield f"    The other {len(rows) - len(own_values)} have their defaults, which docs/settings.md and --json show."


async def run_checks(settings: Settings, *, is_ledger_known: bool = True) -> list[Check]:
    """Run all checks, the most basic first. `is_ledger_known`: the settings that locate the ledger are usable."""
    home = _check_folder("home folder", settings.home, "SORA_HOME")
    checks = [*_check_unknown_settings(settings), _check_versions(), *_check_extras(), home]
    checks += [_check_folder("output folder", settings.output_dir, "SORA_OUTPUT_DIR"), *_check_image_folders(settings)]
    if is_ledger_known and (home.verdict == "ok" or settings.ledger_url is not None):
        checks += [Check(*finding) for finding in await check_ledger(settings)]
    if home.verdict == "ok":
        checks += [Check(*finding) for finding in check_tokens(settings)]
    checks += [Check(*finding) for finding in (*await check_oauth(settings), *check_hosts(settings))]
    return checks + await _check_gateway(settings)


def _check_versions() -> Check:
    names = ("mcp", "httpx", "pydantic", "anyio")
    parts = [f"{name} {metadata.version(name)}" for name in names]
    message = f"sora-mcp {__version__}, Python {platform.python_version()}, {', '.join(parts)}"
    return Check("versions", "ok", f"{message}, SQLite {sqlite3.sqlite_version}")


def _check_extras() -> Iterator[Check]:
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


def _check_folder(name: str, folder: Path, setting: str) -> Check:
    """Check whether files can be written in a folder; a missing folder is not created."""
    try:
        existing = next(parent for parent in (folder, *folder.parents) if parent.exists() or parent.is_symlink())
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        advice = f"Make it writable, or name another one in {setting}."
        return Check(name, "wrong", f"{folder} cannot be written ({error.strerror})", advice)
    return Check(name, "ok", str(folder) if existing == folder else f"{folder} (made when it is needed)")


def _check_unknown_settings(settings: Settings) -> Iterator[Check]:
    """Check for variables that look like settings but are not."""
    for variable in settings.unknown:
        advice = "Correct its name, or remove it."
        if variable.may_be_guard:
            advice += " Until then nothing that costs money is submitted: it may be meant as a guard against costs."
        yield Check("settings", "wrong" if variable.may_be_guard else "note", str(variable), advice)


def _check_image_folders(settings: Settings) -> Iterator[Check]:
    """Check for folders in SORA_IMAGE_DIRS whose images cannot be uploaded."""
    for folder in settings.image_dirs:
        try:
            problem = "" if folder.is_dir() else "is not a folder" if folder.exists() else "does not exist"
            if not problem and not os.access(folder, os.R_OK | os.X_OK):
                problem = "cannot be read"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        if problem:
            yield Check("image folder", "wrong", f"{folder} {problem}", "Make it, or correct SORA_IMAGE_DIRS.")


async def _check_gateway(settings: Settings) -> list[Check]:
    try:
        endpoint = settings.endpoint()
    except SoraError as error:
        return [_failed_check("gateway", error)]
    try:
        endpoint.api_key.get_secret_value()
    except SoraError as error:
        return [_failed_check("key", error)]
    dialect = dialects.configured(settings)
    try:
        gateway = connect(settings, endpoint, dialect)
    except SoraError as error:
        return [_failed_check("gateway", error)]
    try:
        return await _probe_gateway(settings, endpoint, gateway, dialect)
    finally:
        await gateway.aclose()


async def _probe_gateway(settings: Settings, endpoint: Endpoint, gateway: Gateway, dialect: Dialect) -> list[Check]:
    """Check a gateway with free requests."""
    try:
        probe = await gateway.probe()
    except SoraError as error:
        looks_like = recognize(await gateway.try_calls(PROBE_CALLS)) if error.http_status else None
        is_key_refused = error.http_status in {401, 403}
        checks = [Check("gateway", "ok", endpoint.description)] if is_key_refused else []
        return [
            *checks,
            _failed_check("key" if is_key_refused else "gateway", error),
            *_check_upstream(settings, dialect.capabilities, looks_like, []),
        ]
    await _learn(gateway, dialect)
    number = counted(len(probe.models), "model")
    accepted = f"accepted; {number}" if endpoint.api_key else f"none is needed here, and none is sent; {number}"
    is_open = bool(endpoint.api_key) and not endpoint.local and dialect.capabilities.lists_models
    unproven = f"sent; the list of models is open to all, so only a video shows whether it is accepted; {number}"
    checks = [
        Check("gateway", "ok", endpoint.description),
        Check(
            "key", "note" if is_open else "ok", f"{unproven if is_open else accepted}{_describe_key_source(settings)}"
        ),
        *_check_upstream(settings, dialect.capabilities, recognize(await gateway.try_calls(PROBE_CALLS)), probe.models),
    ]
    if probe.clock_skew_s is not None and abs(probe.clock_skew_s) > MAX_SKEW_S:
        message = f"{abs(probe.clock_skew_s):.0f} s {'ahead of' if probe.clock_skew_s > 0 else 'behind'} the gateway's"
        checks.append(
            Check("clock", "wrong", f"this machine's clock is {message}", "Set the clock: signed addresses expire.")
        )
    return checks


async def _learn(gateway: Gateway, dialect: Dialect) -> None:
    """Load what each model accepts, if the gateway lists that."""
    if isinstance(dialect, Catalogued):
        with suppress(SoraError, ValueError):  # then it stays unknown, which the checks report
            dialect.load_catalogue(await gateway.catalogue(dialect))


def _describe_operations(capabilities: Capabilities, model: str | None) -> str:
    """Describe the support for each operation.

    If models differ and this one is unknown, support for remix and blend depends on the model.
    """
    is_known = not capabilities.lists_models or any(offer.id == model for offer in capabilities.offers)
    names = [name for name in OPERATIONS if is_known or name not in {"remix", "blend"}]
    text = ", ".join(f"{verb_of(name)} {capabilities.support(name)}" for name in names)
    return text if is_known else f"{text}; remix and blend depend on the model"


def _check_upstream(
    settings: Settings, capabilities: Capabilities, looks_like: str | None, models: list[str]
) -> Iterator[Check]:
    """Check the dialect and whether the server looks like it, the model, and the caps."""
    setting = variable_of("dialect")
    if looks_like not in {None, settings.dialect}:
        advice = f"Set {setting}={looks_like}, unless you know better: this is a guess from free requests."
        yield Check("dialect", "note", f"{settings.dialect}, and the server looks like {looks_like}", advice)
    else:
        implied = f" (taken from {variable_of('base_url')})" if settings.dialect_is_implied else ""
        operations = _describe_operations(capabilities, settings.model)
        yield Check("dialect", "ok", f"{settings.dialect}{implied}: {operations}")
    model = settings.model
    if capabilities.takes_model and model is not None and models and model not in models:
        advice = f"Set {variable_of('model')} to one of them."
        yield Check("model", "wrong", f"the server has no {model}; it has {', '.join(models[:8])}", advice)
    if capabilities.lists_models and model is None and models:
        message = f"none is set, so each call must name one: {', '.join(models[:8])}"
        yield Check("model", "note", message, f"Set {variable_of('model')} to one of them.")
    if capabilities.is_rule_guessed:
        message = f"no rule is known for {model}: its lengths and sizes are a guess ({capabilities.frame_rule})"
        yield Check("model's rule", "note", message, "Check the size and length of the first video.")
    try:
        spending_policy(settings, capabilities).check_units()
    except OverCap as error:
        yield _failed_check("caps", error)
    if settings.max_cost_per_owner is not None and not settings.auth:
        problem = f"{variable_of('max_cost_per_owner')} has no effect without {variable_of('auth')}"
        yield Check("caps", "note", problem, f"Set {variable_of('max_cost_per_day')} to cap a single user.")
    caps = settings.max_cost_per_call is not None or settings.max_cost_per_day is not None
    if not capabilities.has_prices and caps and settings.max_calls_per_day is None:
        problem = "no price is known here, so a cap on costs cannot be enforced: nothing is submitted"
        yield Check("caps", "wrong", problem, f"Set {variable_of('max_calls_per_day')}, which counts videos.")


def _describe_key_source(settings: Settings) -> str:
    """Describe where the key comes from."""
    login = settings.login
    if settings.api_key is None:
        return ""
    if "api_key" in settings.explicit or login is None:
        return f"; from the environment ({variable_of('api_key')})"
    location = "key store" if login.key_location == KEY_STORE else f"file {login.key_location}"
    return f"; from the {location} (sora-mcp login)"


def _login_sources(login: Login) -> dict[str, str]:
    """Return the sources of the settings that come from the login."""
    return {"base_url": "login", "dialect": "login"} | ({"api_key": login.key_location} if login.key_location else {})


def _describe_settings(settings: Settings) -> dict[str, dict[str, str]]:
    """Return every setting with its value and source; for secrets only whether they are set."""
    by_name = {}
    for variable in variables():
        value = getattr(settings, variable.field)
        if variable.secret:
            value = "absent" if value is None else "present"
        joined = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        text = "not set" if value in {None, ()} else joined
        source = "environment" if variable.field in settings.explicit else "default"
        if variable.field == "dialect" and settings.dialect_is_implied:
            source = "base address"
        elif source == "default" and settings.login is not None:
            source = _login_sources(settings.login).get(variable.field, source)
        by_name[variable.name] = {"value": text, "from": source}
    return by_name
