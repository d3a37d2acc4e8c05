"""Calling a tool: its name and arguments as a client sent them, to a result. Errors become results here."""

from __future__ import annotations

import logging
from typing import Any

from msgspec.structs import replace

from sora_mcp.core.advice import SeeList, SeeLog
from sora_mcp.core.errors import InternalError, OutcomeUnknown, SoraError
from sora_mcp.studio import Studio
from sora_mcp.tools.arguments import parse
from sora_mcp.tools.caller import NOBODY, Caller, rising
from sora_mcp.tools.elsewhere import UnknownTool
from sora_mcp.tools.failures import Result, failed
from sora_mcp.tools.table import TABLE
from sora_mcp.tools.tool import Tool

logger = logging.getLogger(__name__)


async def call(studio: Studio, name: str, arguments: object, caller: Caller = NOBODY) -> Result:
    """Run a tool. Never raises for a reason that an agent could meet: errors come back as results, in our words."""
    tool = TABLE.get(name)
    if tool is None:
        unknown = UnknownTool(name, TABLE, studio.capabilities)
        might_pay = not unknown.impossible and (unknown.instead is None or TABLE[unknown.instead].paid)
        return failed(unknown, paid=might_pay, wording=caller.wording)
    caller = replace(caller, progress=rising(caller.progress))
    try:
        result = await tool.run(studio, parse(tool.arguments, arguments, studio.capabilities), caller)
    except SoraError as error:
        answer = failed(error, paid=tool.paid, wording=caller.wording)
        is_sent = answer.structured.get("outcome") in {"rejected", "unknown"}
        return answer.noticing(studio.notice) if is_sent else answer
    except Exception:
        logger.exception("%s failed unexpectedly", name)
        return failed(_unforeseen(tool), paid=tool.paid, wording=caller.wording)
    answer = Result(
        tool.say(result, caller.wording),
        caller.wording.structured(result),
        picture=show(result) if (show := tool.picture or tool.board) else None,
        file=tool.file(result) if tool.file else None,
    )
    return answer.noticing(studio.notice) if tool.paid or tool.picture else answer


def _unforeseen(tool: Tool[Any, Any]) -> SoraError:
    message = "Something failed unexpectedly."
    return OutcomeUnknown(message, SeeList(), SeeLog()) if tool.paid else InternalError(message, SeeLog())
