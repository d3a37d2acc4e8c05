"""Completions for the variables of resource templates and the arguments of prompts."""

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

MOST = 100
"""Values in one answer; the protocol allows no more."""
LOOKED_AT = 500
"""How many of the newest videos are looked at for ids."""


async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    """Serve `completion/complete`. Raises MCPError (-32602) for an unknown prompt or template."""
    argument = params.argument
    is_known = argument.name in _arguments(params.ref)
    complete_argument = _VALUES.get(argument.name) if is_known else None
    values = await complete_argument(ctx.lifespan_context) if complete_argument else []
    return types.CompleteResult(completion=_beginning_with(argument.value, values))


def _arguments(ref: types.ResourceTemplateReference | types.PromptReference) -> Iterable[str]:
    if isinstance(ref, types.PromptReference):
        return prompts.find(ref.name).arguments
    variables = next((each.variables for each in RESOURCES if each.uri == ref.uri), [])
    if not variables:
        raise MCPError(types.INVALID_PARAMS, "Unknown resource template", {"uri": ref.uri})
    return variables


async def _ids(studio: Studio) -> list[str]:
    """The ids of the newest videos, newest first."""
    try:
        videos = (await studio.recent(limit=LOOKED_AT)).videos
    except SoraError as error:
        logger.info("no ids can be completed now: %s", error.message)
        return []
    return [video.task_id or video.request_id for video in videos]


async def _variants(studio: Studio) -> list[str]:
    return [str(number + 1) for number in range(studio.settings.limits.max_variants)]


async def _sizes(studio: Studio) -> list[str]:
    return [f"{width}x{height}" for width, height in studio.settings.limits.sizes]


async def _seconds(studio: Studio) -> list[str]:
    return [f"{frames / FPS:g}" for frames in studio.settings.limits.frames]


_VALUES: Mapping[str, Callable[[Studio], Awaitable[list[str]]]] = {
    "task_id": _ids,
    "variant": _variants,
    "size": _sizes,
    "seconds": _seconds,
}
"""Everything that could stand in a variable or an argument; nothing for what people write themselves."""


def _beginning_with(begin: str, values: list[str]) -> types.Completion:
    matching = [value for value in values if value.startswith(begin.strip())]
    return types.Completion(values=matching[:MOST], total=len(matching), has_more=len(matching) > MOST)
