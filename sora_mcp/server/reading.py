"""Serve resources: the lists, reading one, and links to them in results."""

from __future__ import annotations

import base64
import logging
from collections.abc import Mapping
from typing import Any

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from sora_mcp.core.errors import InvalidInput, NotFound, SoraError
from sora_mcp.core.results import ListedVideo
from sora_mcp.core.tables import FPS
from sora_mcp.server.addresses import video_uri
from sora_mcp.server.resources import FILE, RESOURCES, VIDEO, find, not_found, wording_for
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Studio]

MAX_LISTED = 10
"""Newest videos that are listed; older ones are read through the templates."""

_STATIC = [
    types.Resource(
        uri=each.uri, name=each.name, title=each.title, description=each.description, mime_type=each.mime_type
    )
    for each in RESOURCES
    if not each.variables
]
_TEMPLATES = [
    types.ResourceTemplate(
        uri_template=each.uri, name=each.name, title=each.title, description=each.description, mime_type=each.mime_type
    )
    for each in RESOURCES
    if each.variables
]


async def list_resources(ctx: Context, _: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    """Serve `resources/list`: the static resources, and the newest videos."""
    try:
        videos = (await ctx.lifespan_context.recent(limit=MAX_LISTED)).videos
    except SoraError as error:
        logger.info("no videos can be listed now: %s", error.message)
        videos = []
    return types.ListResourcesResult(resources=[*_STATIC, *map(_video_resource, videos)])


async def list_templates(_: Context, __: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
    """Serve `resources/templates/list`."""
    return types.ListResourceTemplatesResult(resource_templates=_TEMPLATES)


async def read(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    """Serve `resources/read`. Raise MCPError: -32602 if there is no such resource, otherwise -32603 with the reason."""
    uri = params.uri
    resource, values = find(uri)
    studio = ctx.lifespan_context
    try:
        content = await resource.read(studio, values)
    except NotFound:
        raise not_found(uri) from None
    except InvalidInput as error:
        if "?" not in uri:
            raise not_found(uri) from None
        raise MCPError(types.INVALID_PARAMS, wording_for(studio).message(error.parts), {"uri": uri}) from None
    except SoraError as error:
        message = f"{wording_for(studio).message(error.parts)} {wording_for(studio).next_step(error)}".strip()
        raise MCPError(types.INTERNAL_ERROR, message, {"uri": uri, "kind": error.kind}) from None
    return types.ReadResourceResult(contents=[_contents(uri, resource.mime_type, content)])


def _contents(
    uri: str, mime_type: str, content: str | bytes
) -> types.TextResourceContents | types.BlobResourceContents:
    if isinstance(content, str):
        return types.TextResourceContents(uri=uri, mime_type=mime_type, text=content)
    return types.BlobResourceContents(uri=uri, mime_type=mime_type, blob=base64.b64encode(content).decode("ascii"))


def _video_resource(video: ListedVideo) -> types.Resource:
    video_id = video.task_id or video.request_id
    size = f", {video.width}x{video.height}" if video.width and video.height else ""
    length = f", {round(video.n_frames / (video.fps or FPS), 2):g} s" if video.n_frames else ""
    return types.Resource(
        uri=video_uri(video_id),
        name=video_id,
        title=f'"{video.prompt}"' if video.prompt else None,
        description=f"A video, {video.state}{size}{length}.",
        mime_type=VIDEO.mime_type,
    )


def file_link(download: Mapping[str, Any], name: str) -> types.ResourceLink:
    """Return a link to a downloaded video, from the structured result and the file's name."""
    uri = f"{video_uri(download['task_id'])}/{download['variant']}.mp4"
    return types.ResourceLink(name=name, uri=uri, mime_type=FILE.mime_type, size=download["bytes"])
