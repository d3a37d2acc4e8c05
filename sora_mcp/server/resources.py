"""Videos, unsettled calls and the guide as resources, at `sora://…`."""

from __future__ import annotations

import base64
import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError

from sora_mcp.core.errors import InvalidInput, NotFound, SoraError
from sora_mcp.core.ids import is_id, quoted
from sora_mcp.core.results import ListedVideo
from sora_mcp.core.tables import FPS
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

Context = ServerRequestContext[Studio]

NEWEST = 10
"""Videos that are listed; older ones are read through the templates."""
UNSETTLED_MOST = 50
"""Unknown outcomes that are told."""
LARGEST_BYTES = 8_000_000
"""Largest video that is sent as a resource: in base64, inside one message."""

GUIDE, UNSETTLED = "sora://guide", "sora://ledger/unsettled"
VIDEO = "sora://videos/{task_id}"
FILE = VIDEO + "/{variant}.mp4"
SHEET = VIDEO + "/contact-sheet.png"

_GUIDE_FILE = Path(__file__).with_name("guide.md")
_SHOWN = re.compile(
    r"sora://videos/(?P<id>[^/?#\s]+)(?:/(?:(?P<variant>[1-9][0-9]{0,2})\.mp4|(?P<sheet>contact-sheet\.png)))?"
)

_FIXED = [
    types.Resource(
        uri=GUIDE,
        name="guide",
        title="How to ask for a video",
        description="What a prompt, a storyboard, a remix and a blend need, and what they cost.",
        mime_type="text/markdown",
    ),
    types.Resource(
        uri=UNSETTLED,
        name="unsettled",
        title="Calls with an unknown outcome",
        description="Paid calls of which it is not known whether a video exists; a person settles them.",
        mime_type="application/json",
    ),
]
_TEMPLATES = [
    types.ResourceTemplate(
        uri_template=VIDEO,
        name="video",
        title="A video",
        description="The state of a video, its prompt and the addresses of its variants, as get_video tells them.",
        mime_type="application/json",
    ),
    types.ResourceTemplate(
        uri_template=FILE,
        name="video_file",
        title="A video's file",
        description=f"One variant (1 is the first) of a finished video, up to {LARGEST_BYTES // 1_000_000} MB.",
        mime_type="video/mp4",
    ),
    types.ResourceTemplate(
        uri_template=SHEET,
        name="contact_sheet",
        title="A video's contact sheet",
        description="Six evenly spaced stills of the first variant of a finished video, in one picture.",
        mime_type="image/png",
    ),
]


def video_uri(video_id: str) -> str:
    """Where the state of a video stands; its id is percent-encoded, as a variable of a URI template is (RFC 6570)."""
    return f"sora://videos/{quoted(video_id)}"


def video_of(uri: str) -> str | None:
    """The id of the video that stands at an address, None where none can."""
    match = _SHOWN.fullmatch(uri)
    video_id = unquote(match["id"], errors="replace") if match else ""
    return video_id if is_id(video_id) else None


def is_state(uri: str) -> bool:
    """Whether an address is that of a video's state, and not of one of its files."""
    match = _SHOWN.fullmatch(uri)
    return match is not None and not (match["variant"] or match["sheet"])


def video_link(video_id: str) -> types.ResourceLink:
    """A link to the state of a video."""
    return types.ResourceLink(name=video_id, uri=video_uri(video_id), mime_type="application/json")


def file_link(download: Mapping[str, Any]) -> types.ResourceLink:
    """A link to a video that was downloaded, from the structured result."""
    uri = f"{video_uri(download['task_id'])}/{download['variant']}.mp4"
    name = Path(download["path"]).name
    return types.ResourceLink(name=name, uri=uri, mime_type="video/mp4", size=download["bytes"])


async def list_resources(ctx: Context, _: types.PaginatedRequestParams | None) -> types.ListResourcesResult:
    """Serve `resources/list`: what is always there, and the newest videos."""
    try:
        videos = (await ctx.lifespan_context.recent(limit=NEWEST)).videos
    except SoraError as error:
        logger.info("no videos can be listed now: %s", error.message)
        videos = []
    return types.ListResourcesResult(resources=[*_FIXED, *map(_listed, videos)])


async def list_templates(_: Context, __: types.PaginatedRequestParams | None) -> types.ListResourceTemplatesResult:
    """Serve `resources/templates/list`."""
    return types.ListResourceTemplatesResult(resource_templates=_TEMPLATES)


async def read(ctx: Context, params: types.ReadResourceRequestParams) -> types.ReadResourceResult:
    """Serve `resources/read`. Raises MCPError: -32602 where there is no such resource, else -32603 saying why."""
    uri = params.uri
    match = check_uri(uri)
    try:
        contents = await _contents(ctx.lifespan_context, uri, match)
    except (NotFound, InvalidInput):
        raise _not_found(uri) from None
    except SoraError as error:
        words = f"{error.message} {error.next_step}".strip()
        raise MCPError(types.INTERNAL_ERROR, words, {"uri": uri, "kind": error.kind}) from None
    return types.ReadResourceResult(contents=[contents])


def check_uri(uri: str) -> re.Match[str] | None:
    """The parts of a video's address, None for the other resources. Raises MCPError where nothing can stand there."""
    if uri in {GUIDE, UNSETTLED}:
        return None
    if (match := _SHOWN.fullmatch(uri)) is None or video_of(uri) is None:
        raise _not_found(uri)
    return match


async def _contents(
    studio: Studio, uri: str, match: re.Match[str] | None
) -> types.TextResourceContents | types.BlobResourceContents:
    if uri == GUIDE:
        text = await anyio.Path(_GUIDE_FILE).read_text(encoding="utf-8")
        return types.TextResourceContents(uri=uri, mime_type="text/markdown", text=text)
    video_id = video_of(uri)
    if match is None or video_id is None:
        return _json(uri, await _unsettled(studio))
    if match["sheet"]:
        return _blob(uri, "image/png", (await studio.view(video_id)).png)
    if match["variant"]:
        content = await studio.read(video_id, variant=int(match["variant"]), max_bytes=LARGEST_BYTES)
        return _blob(uri, "video/mp4", content)
    return _json(uri, (await studio.get(video_id)).model_dump(mode="json", exclude_none=True))


async def _unsettled(studio: Studio) -> dict[str, Any]:
    found = await studio.recent(limit=UNSETTLED_MOST, states=("unknown",))
    next_step = (
        "Each may have made a video and been charged. Do not submit it again: a person looks at the gateway's own log, "
        "then runs sora-mcp settle."
        if found.videos
        else "Nothing is unsettled."
    )
    return {**found.model_dump(mode="json", exclude_none=True), "next_step": next_step}


def _listed(video: ListedVideo) -> types.Resource:
    video_id = video.task_id or video.request_id
    size = f", {video.width}x{video.height}" if video.width and video.height else ""
    length = f", {video.n_frames / FPS:g} s" if video.n_frames else ""
    return types.Resource(
        uri=video_uri(video_id),
        name=video_id,
        title=f'"{video.prompt}"' if video.prompt else None,
        description=f"A video, {video.state}{size}{length}.",
        mime_type="application/json",
    )


def _json(uri: str, value: object) -> types.TextResourceContents:
    return types.TextResourceContents(
        uri=uri, mime_type="application/json", text=json.dumps(value, ensure_ascii=False, indent=2)
    )


def _blob(uri: str, mime_type: str, content: bytes) -> types.BlobResourceContents:
    return types.BlobResourceContents(uri=uri, mime_type=mime_type, blob=base64.b64encode(content).decode("ascii"))


def _not_found(uri: str) -> MCPError:
    return MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})
