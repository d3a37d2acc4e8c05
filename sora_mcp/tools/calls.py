"""Call a tool by the name and arguments that a client sent. Errors become results here."""

from __future__ import annotations

import logging
from typing import Any

from msgspec.structs import replace

from sora_mcp.core.advice import SeeList, SeeLog
from sora_mcp.core.errors import OutcomeUnknown, SoraError, unexpected
from sora_mcp.studio import Studio
from sora_mcp.tools.arguments import parse
from sora_mcp.tools.caller import SILENT_CALLER, Caller, monotonic_progress
from sora_mcp.tools.failures import Result, error_result
from sora_mcp.tools.table import TABLE
from sora_mcp.tools.tool import Tool
from sora_mcp.tools.unknown_tool import UnknownTool

logger = logging.getLogger(__name__)


async def call(studio: Studio, name: str, arguments: object, caller: Caller = SILENT_CALLER) -> Result:
    """Run a tool. Never raises for a reason that an agent could encounter: errors are returned as results."""
    tool = TABLE.get(name)
    if tool is None:
        unknown = UnknownTool(name, TABLE, studio.capabilities)
        might_pay = not unknown.impossible and (unknown.instead is None or TABLE[unknown.instead].paid)
        return error_result(unknown, paid=might_pay, wording=caller.wording)
    caller = replace(caller, progress=monotonic_progress(caller.progress))
    try:
        result = await tool.run(studio, parse(tool.arguments, arguments, studio.capabilities), caller)
    except SoraError as error:
        answer = error_result(error, paid=tool.paid, wording=caller.wording)
        is_sent = answer.structured.get("outcome") in {"rejected", "unknown"}
        return answer.with_notice(studio.notice) if is_sent else answer
    except Exception as error:
        logger.exception("%s failed unexpectedly", name)
        return error_result(_unexpected_error(tool, error), paid=tool.paid, wording=caller.wording)
    answer = Result(
        tool.render(result, caller.wording),
        caller.wording.structured(result),
        picture=picture_from(result) if (picture_from := tool.picture or tool.board) else None,
        file=tool.file(result) if tool.file else None,
    )
    return answer.with_notice(studio.notice) if tool.paid or tool.picture else answer


def _unexpected_error(tool: Tool[Any, Any], error: Exception) -> SoraError:
    if tool.paid:
        return OutcomeUnknown("Something failed unexpectedly.", SeeList(), SeeLog())
    return unexpected(error)
