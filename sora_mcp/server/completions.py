"""Completions for the variables of resource templates and the arguments of prompts."""

from __future__ import annotations

import logging
from collections.abc import Iterable

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from sora_mcp.core.errors import SoraError
from sora_mcp.core.tables import FPS
from sora_mcp.server import prompts, resources
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Studio]

MOST = 100
"""Values in one answer; the protocol allows no more."""
LOOKED_AT = 500
"""How many of the newest videos are looked at for ids."""

_VARIABLES = {resources.VIDEO: {"task_id"}, resources.FILE: {"task_id", "variant"}, resources.SHEET: {"task_id"}}


async def complete(ctx: Context, params: types.CompleteRequestParams) -> types.CompleteResult:
    """Serve `completion/complete`. Raises MCPError (-32602) for an unknown prompt or template."""
    argument = params.argument
    known = argument.name in _arguments(params.ref)
    values = await _values(ctx.lifespan_context, argument.name) if known else []
    return types.CompleteResult(completion=_beginning_with(argument.value, values))


def _arguments(ref: types.ResourceTemplateReference | types.PromptReference) -> Iterable[str]:
    if isinstance(ref, types.PromptReference):
        return prompts.find(ref.name).arguments
    if ref.uri not in _VARIABLES:
        raise MCPError(types.INVALID_PARAMS, "Unknown resource template", {"uri": ref.uri})
    return _VARIABLES[ref.uri]


async def _values(studio: Studio, name: str) -> list[str]:
    """Everything that could stand there; nothing for what people write themselves."""
    capabilities = studio.dialect.capabilities
    match name:
        case "task_id":
            return await _ids(studio)
        case "variant":
            return [str(number + 1) for number in range(capabilities.max_variants)]
        case "size":
            return [f"{width}x{height}" for width, height in sorted(capabilities.sizes)]
        case "seconds":
            return [f"{frames / FPS:g}" for frames in sorted(capabilities.lengths)]
        case _:
            return []


async def _ids(studio: Studio) -> list[str]:
    """The ids of the newest videos, newest first."""
    try:
        videos = (await studio.recent(limit=LOOKED_AT)).videos
    except SoraError as error:
        logger.info("no ids can be completed now: %s", error.message)
        return []
    return [video.task_id or video.request_id for video in videos]


def _beginning_with(begin: str, values: list[str]) -> types.Completion:
    found = [value for value in values if value.startswith(begin.strip())]
    return types.Completion(values=found[:MOST], total=len(found), has_more=len(found) > MOST)
