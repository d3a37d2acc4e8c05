"""The checks of `doctor` for the ledger, in a file or in PostgreSQL, and for what was spent."""

from __future__ import annotations

from contextlib import closing, suppress

from sora_mcp import dialects
from sora_mcp.cli.command_lines import command
from sora_mcp.cli.doctor_auth import Finding
from sora_mcp.cli.wording import FOR_SHELL
from sora_mcp.config.converters import Secret
from sora_mcp.config.settings import Settings
from sora_mcp.config.spelling import variable_of
from sora_mcp.core.accounts import Team
from sora_mcp.core.cost import RELATIVE, Cost, sum_in_unit, total
from sora_mcp.core.errors import SoraError
from sora_mcp.core.tasks import counted
from sora_mcp.ledger import Ledger, open_ledger
from sora_mcp.ledger.opening import describe_database, inspect
from sora_mcp.ledger.sqlite.integrity import check_before_opening
from sora_mcp.studio.costs import spending_policy


async def check_ledger(settings: Settings) -> list[Finding]:
    """Check where the ledger is, whether it can be used, how much it contains, and what was spent."""
    try:
        if settings.ledger_url is not None:
            return [*await _check_postgres(settings, settings.ledger_url), *await _check_unused_file(settings)]
        return await _check_file(settings)
    except SoraError as error:
        return [("ledger", "wrong", FOR_SHELL.message(error.parts), FOR_SHELL.next_step(error))]


async def _check_file(settings: Settings) -> list[Finding]:
    path = settings.ledger
    try:
        check_before_opening(path)
        path.stat()
    except FileNotFoundError:
        return [("ledger", "ok", f"{path} (made at the first video)", "")]
    except OSError as error:
        return [("ledger", "wrong", f"{path} cannot be opened ({error.strerror})", "Look at SORA_HOME.")]
    return await _check_open_ledger(settings, f"{path} is intact and")


async def _check_postgres(settings: Settings, url: Secret) -> list[Finding]:
    place = describe_database(url)
    try:
        server = inspect(url)
    except SoraError as error:
        problem = f"PostgreSQL, {place}: {FOR_SHELL.message(error.parts)}"
        return [("ledger", "wrong", problem, FOR_SHELL.next_step(error))]
    copies = ", each commit on another copy too" if server.is_copied else ""
    location = f"PostgreSQL {server.version}{copies}, {place}"
    if server.schema is None:
        return [("ledger", "ok", f"{location} (its tables are made at the first video)", "")]
    return await _check_open_ledger(settings, f"{location}; its schema has version {server.schema}, and it")


async def _check_unused_file(settings: Settings) -> list[Finding]:
    """Check for a ledger in SORA_HOME that was not copied, although PostgreSQL is used."""
    with suppress(SoraError, OSError):  # it was copied, or is not a ledger
        if settings.ledger.stat().st_size:
            with closing(open_ledger(settings.ledger)) as old_ledger:
                await old_ledger.check_can_begin()
                number = sum((await old_ledger.states()).values())
            if number:
                contents = f"{settings.ledger} holds {counted(number, 'request')}"
                message = f"{contents} and is not used: the ledger is in PostgreSQL"
                return [("ledger in SORA_HOME", "note", message, f"Move them with: {command('ledger', 'copy')}")]
    return []


async def _check_open_ledger(settings: Settings, location: str) -> list[Finding]:
    with closing(open_ledger(settings.ledger, url=settings.ledger_url)) as ledger:
        counts = await ledger.check()
        await ledger.check_can_begin()
        spending = await _check_spending(settings, ledger) if counts else []
    checks: list[Finding] = [("ledger", "ok", f"{location} holds {counted(sum(counts.values()), 'request')}", "")]
    unsettled = {state: counts[state] for state in ("unknown", "sending") if counts.get(state)}
    if unsettled:
        message = ", ".join(f"{count} {state}" for state, count in unsettled.items())
        advice = (
            "A video may exist for each. Check the gateway's own log; list them with: sora-mcp list --status unknown"
        )
        checks.append(("unsettled outcomes", "note", message, advice))
    return checks + spending


async def _check_spending(settings: Settings, ledger: Ledger) -> list[Finding]:
    """Check what was spent at the gateway against the caps; empty if no gateway is configured."""
    try:
        endpoint = settings.endpoint()
        key, owner = endpoint.api_key.get_secret_value(), settings.owner or ""
    except SoraError:
        return []
    account = await ledger.account(endpoint.base_url, key, owner)
    is_team_wide = bool(settings.auth) and not owner  # the caps apply to all who share the server
    spending = await ledger.spending(Team(account.address) if is_team_wide else account)
    capabilities = dialects.configured(settings).capabilities
    unit = capabilities.unit
    uncertain = sum_in_unit(spending.uncertain, unit)
    uncertain_text = f", perhaps {uncertain} more (unknown outcomes)" if uncertain.billionths else ""
    spent, cap = _format_cost(sum_in_unit(spending.spent, unit)), _format_cap(settings.max_cost_per_day)
    message = "everybody: " if is_team_wide else ""
    message += f"{spent} in the last 24 hours{uncertain_text}{cap}"
    others = [each for each in total((*spending.spent, *spending.uncertain)) if each.unit != unit and each.billionths]
    message += "".join(f", apart from that {_format_cost(each)} at most" for each in others)
    if (unpriced := spending.calls - spending.priced.get(unit, 0)) and unit != RELATIVE:
        message += f", {unpriced} without a known cost"
    message += f", {counted(len(spending.running), 'video')} under way or unknown{_format_cap(settings.max_running)}"
    if settings.max_calls_per_day is not None:
        message += f", {spending.calls} submitted{_format_cap(settings.max_calls_per_day)}"
    reached = list(map(variable_of, spending_policy(settings, capabilities).reached_caps(spending)))
    advice = f"Nothing more is submitted while {' and '.join(reached)} {'is' if len(reached) == 1 else 'are'} reached."
    return [("spending", "note" if reached else "ok", message, advice if reached else "")]


def _format_cost(cost: Cost) -> str:
    return f"relative cost {cost}" if cost.is_relative else str(cost)


def _format_cap(cap: Cost | int | None) -> str:
    return "" if cap is None else f" (at most {cap})"
