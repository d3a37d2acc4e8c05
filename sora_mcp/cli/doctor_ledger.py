"""What `doctor` says of the ledger, wherever it is kept, and of what was spent."""

from __future__ import annotations

from contextlib import closing, suppress

from sora_mcp import dialects
from sora_mcp.cli.doctor_callers import Finding
from sora_mcp.cli.pasting import command
from sora_mcp.cli.wording import FOR_SHELL
from sora_mcp.config.converters import Secret
from sora_mcp.config.settings import Settings
from sora_mcp.config.spelling import variable_of
from sora_mcp.core.accounts import Team
from sora_mcp.core.cost import RELATIVE, Cost, of_unit, total
from sora_mcp.core.errors import SoraError
from sora_mcp.ledger import Ledger, open_ledger
from sora_mcp.ledger.opening import inspect, place_of
from sora_mcp.ledger.sqlite.integrity import look_before_opening
from sora_mcp.studio.costs import spending_policy


async def ledger(settings: Settings) -> list[Finding]:
    """Where the ledger is, whether it can be used, how much it holds, and what was spent."""
    try:
        if settings.ledger_url is not None:
            return [*await _in_postgres(settings, settings.ledger_url), *await _left_behind(settings)]
        return await _in_file(settings)
    except SoraError as error:
        return [("ledger", "wrong", FOR_SHELL.message(error.parts), FOR_SHELL.next_step(error))]


async def _in_file(settings: Settings) -> list[Finding]:
    path = settings.ledger
    try:
        look_before_opening(path)
        path.stat()
    except FileNotFoundError:
        return [("ledger", "ok", f"{path} (made at the first video)", "")]
    except OSError as error:
        return [("ledger", "wrong", f"{path} cannot be opened ({error.strerror})", "Look at SORA_HOME.")]
    return await _opened(settings, f"{path} is intact and")


async def _in_postgres(settings: Settings, url: Secret) -> list[Finding]:
    place = place_of(url)
    try:
        seen = inspect(url)
    except SoraError as error:
        wrong = f"PostgreSQL, {place}: {FOR_SHELL.message(error.parts)}"
        return [("ledger", "wrong", wrong, FOR_SHELL.next_step(error))]
    copies = ", each commit on another copy too" if seen.is_copied else ""
    where = f"PostgreSQL {seen.version}{copies}, {place}"
    if seen.schema is None:
        return [("ledger", "ok", f"{where} (its tables are made at the first video)", "")]
    return await _opened(settings, f"{where}; its schema has version {seen.schema}, and it")


async def _left_behind(settings: Settings) -> list[Finding]:
    """Whether a ledger that nobody copied lies in SORA_HOME, though another is used."""
    with suppress(SoraError, OSError):  # that one was copied, or is none
        if settings.ledger.stat().st_size:
            with closing(open_ledger(settings.ledger)) as left:
                await left.check_place()
                number = sum((await left.states()).values())
            if number:
                words = f"{settings.ledger} holds {_requests(number)} and is not used: the ledger is in PostgreSQL"
                return [("ledger in SORA_HOME", "note", words, f"Move them with: {command('ledger', 'copy')}")]
    return []


async def _opened(settings: Settings, what: str) -> list[Finding]:
    with closing(open_ledger(settings.ledger, url=settings.ledger_url)) as opened:
        counts = await opened.check()
        await opened.check_place()
        spending = await _spending(settings, opened) if counts else []
    checks: list[Finding] = [("ledger", "ok", f"{what} holds {_requests(sum(counts.values()))}", "")]
    unsettled = {state: counts[state] for state in ("unknown", "sending") if counts.get(state)}
    if unsettled:
        words = ", ".join(f"{count} {state}" for state, count in unsettled.items())
        advice = (
            "A video may exist for each. Look at the gateway's own log; list them with: sora-mcp list --status unknown"
        )
        checks.append(("unsettled outcomes", "note", words, advice))
    return checks + spending


def _requests(number: int) -> str:
    return f"{number} request{'s' * (number != 1)}"


def _videos(number: int) -> str:
    return f"{number} video{'s' * (number != 1)}"


async def _spending(settings: Settings, opened: Ledger) -> list[Finding]:
    """What was spent at the gateway, beside the caps; nothing where none is configured."""
    try:
        endpoint = settings.endpoint()
        key, owner = endpoint.api_key.get_secret_value(), settings.owner or ""
    except SoraError:
        return []
    account = await opened.account(endpoint.base_url, key, owner)
    is_of_everybody = bool(settings.auth) and not owner  # the caps are those of all who share the server
    spending = await opened.spending(Team(account.address) if is_of_everybody else account)
    capabilities = dialects.configured(settings).capabilities
    unit = capabilities.unit
    uncertain = of_unit(spending.uncertain, unit)
    maybe = f", perhaps {uncertain} more (unknown outcomes)" if uncertain.billionths else ""
    words = "everybody: " if is_of_everybody else ""
    words += f"{_sum(of_unit(spending.spent, unit))} in the last 24 hours{maybe}{_at_most(settings.max_cost_per_day)}"
    others = [each for each in total((*spending.spent, *spending.uncertain)) if each.unit != unit and each.billionths]
    words += "".join(f", apart from that {_sum(each)} at most" for each in others)
    if (unpriced := spending.calls - spending.priced.get(unit, 0)) and unit != RELATIVE:
        words += f", {unpriced} without a known cost"
    words += f", {_videos(len(spending.running))} under way or unknown{_at_most(settings.max_running)}"
    if settings.max_calls_per_day is not None:
        words += f", {spending.calls} submitted{_at_most(settings.max_calls_per_day)}"
    reached = list(map(variable_of, spending_policy(settings, capabilities).reached(spending)))
    advice = f"Nothing more is submitted while {' and '.join(reached)} {'is' if len(reached) == 1 else 'are'} reached."
    return [("spending", "note" if reached else "ok", words, advice if reached else "")]


def _sum(cost: Cost) -> str:
    return f"relative cost {cost}" if cost.is_relative else str(cost)


def _at_most(cap: Cost | int | None) -> str:
    return "" if cap is None else f" (at most {cap})"
