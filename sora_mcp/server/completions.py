"""Completions for variables of resource templates and arguments of prompts."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from sora_mcp.core.errors import SoraError
from sora_mcp.core.tables import FPS
from sora_mcp.server import prompts
from sora_mcp.server.resources import RESOURCES
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Studio]

MAX_VALUES = 100
"""Values in one answer, the protocol's limit."""
MAX_VIDEOS = 500
"""Newest videos whose ids are completed."""


async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    """Serve `completion/complete`. Raise MCPError (-32602) for an unknown prompt or template."""
    argument = params.argument
    is_known = argument.name in _arguments(params.ref)
    complete_argument = _COMPLETERS.get(argument.name) if is_known else None
    values = await complete_argument(ctx.lifespan_context) if complete_argument else []
    return types.CompleteResult(completion=_matching(argument.value, values))


def _arguments(ref: types.ResourceTemplateReference | types.PromptReference) -> Iterable[str]:
    if isinstance(ref, types.PromptReference):
        return prompts.find(ref.name).arguments
    variables = next((each.variables for each in RESOURCES if each.uri == ref.uri), [])
    if not variables:
        raise MCPError(types.INVALID_PARAMS, "Unknown resource template", {"uri": ref.uri})
    return variables


async def _ids(studio: Studio) -> list[str]:
    """Return the ids of the newest videos, newest first."""
    try:
        videos = (await studio.recent(limit=MAX_VIDEOS)).videos
    except SoraError as error:
        logger.info("no ids can be completed now: %s", error.message)
        return []
    return [video.task_id or video.request_id for video in videos]


async def _variants(studio: Studio) -> list[str]:
    return [str(number + 1) for number in range(studio.capabilities.max_variants)]


async def _sizes(studio: Studio) -> list[str]:
    return [f"{width}x{height}" for width, height in sorted(studio.capabilities.sizes)]


async def _seconds(studio: Studio) -> list[str]:
    return [f"{frames / FPS:g}" for frames in sorted(studio.capabilities.lengths)]


_COMPLETERS: Mapping[str, Callable[[Studio], Awaitable[list[str]]]] = {
    "task_id": _ids,
    "variant": _variants,
    "size": _sizes,
    "seconds": _seconds,
}
"""The possible values of a variable or an argument; free text has no entry."""


def _matching(prefix: str, values: list[str]) -> types.Completion:
    matching = [value for value in values if value.startswith(prefix.strip())]
    return types.Completion(values=matching[:MAX_VALUES], total=len(matching), has_more=len(matching) > MAX_VALUES)
