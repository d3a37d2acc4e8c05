"""The table of resources, at `sora://…`: their addresses, descriptions, completions and readers all come from it.

To add a resource, write its reader and its entry in RESOURCES.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import anyio
import mcp_types as types
from mcp.shared.exceptions import MCPError
from msgspec import Struct

from sora_mcp.core.advice import Do, Settle
from sora_mcp.core.errors import MAX_NAMED
from sora_mcp.server import addresses
from sora_mcp.server.addresses import VIDEOS
from sora_mcp.studio import Studio
from sora_mcp.tools.agent_wording import FOR_AGENTS, ForAgents
from sora_mcp.tools.arguments import parse
from sora_mcp.tools.caller import Caller
from sora_mcp.tools.view_video import ViewVideo, view_video

MAX_UNSETTLED = 50
"""Unknown outcomes in one answer."""
MAX_FILE_BYTES = 8_000_000
"""Bytes of the largest video sent as a resource: in base64, inside one message."""

Values = Mapping[str, str]
"""The values of a template's variables by name."""


class Resource(Struct, frozen=True):
    """One resource, or a template of them if `uri` is one. `read` returns text, or bytes for binary content."""

    uri: str
    name: str
    title: str
    description: str
    mime_type: str
    read: Callable[[Studio, Values], Awaitable[str | bytes]]

    @property
    def variables(self) -> list[str]:
        """The names of its template's variables."""
        return addresses.variables(self.uri)


async def _guide(_: Studio, __: Values) -> str:
    return await anyio.Path(_GUIDE_FILE).read_text(encoding="utf-8")


_GUIDE_FILE = Path(__file__).with_name("guide.md")


def wording_for(studio: Studio) -> ForAgents:
    """Return the wording for the caller of the request."""
    if not studio.settings.is_shared:
        return FOR_AGENTS
    from sora_mcp.tools.remote import FOR_REMOTE_AGENTS  # noqa: PLC0415 - most callers are on this machine

    return FOR_REMOTE_AGENTS


async def _gateway(studio: Studio, _: Values) -> str:
    return _json(wording_for(studio).structured(await studio.describe()))


async def _unsettled(studio: Studio, _: Values) -> str:
    wording, unsettled = wording_for(studio), await studio.recent(limit=MAX_UNSETTLED, states=("unknown",))
    advice = Settle(tuple(video.request_id for video in unsettled.videos[:MAX_NAMED]))
    next_step = (
        wording.advise(advice, Do("Do not submit it again blindly.")) if unsettled.videos else "Nothing is unsettled."
    )
    return _json({**wording.structured(unsettled), "next_step": next_step})


async def _video(studio: Studio, values: Values) -> str:
    return _json(wording_for(studio).structured(await studio.get(values["task_id"])))


async def _file(studio: Studio, values: Values) -> bytes:
    return await studio.read(values["task_id"], variant=int(values["variant"]), max_bytes=MAX_FILE_BYTES)


async def _contact_sheet(studio: Studio, values: Values) -> bytes:
    return (await view_video(studio, parse(ViewVideo, dict(values)), Caller())).picture


async def _exact_contact_sheet(studio: Studio, values: Values) -> bytes:
    return (await view_video(studio, parse(ViewVideo, dict(values)), Caller(picture_format="png"))).picture


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


GUIDE = Resource(
    "sora://guide",
    "guide",
    "How to ask for a video",
    "What a prompt, a storyboard, a remix and a blend need, and what they cost.",
    "text/markdown",
    _guide,
)
GATEWAY = Resource(
    "sora://gateway",
    "gateway",
    "The gateway",
    "Which gateway this is, how each operation is sent there, sizes, lengths, caps and what was spent.",
    "application/json",
    _gateway,
)
UNSETTLED = Resource(
    "sora://ledger/unsettled",
    "unsettled",
    "Calls with an unknown outcome",
    "Paid calls that may or may not have made a video; a person settles them.",
    "application/json",
    _unsettled,
)
VIDEO = Resource(
    VIDEOS + "{task_id}",
    "video",
    "A video",
    "The state of a video, its prompt and the addresses of its variants, as get_video returns them.",
    "application/json",
    _video,
)
FILE = Resource(
    VIDEOS + "{task_id}/{variant}.mp4",
    "video_file",
    "A video's file",
    f"One variant (1 is the first) of a finished video, up to {MAX_FILE_BYTES // 1_000_000} MB.",
    "video/mp4",
    _file,
)
_OPTIONS = f"{{?{','.join(name for name in ViewVideo.model_fields if name != 'task_id')}}}"
"""The arguments of view_video."""
CONTACT_SHEET = Resource(
    VIDEOS + "{task_id}/contact-sheet.jpg" + _OPTIONS,
    "contact_sheet",
    "A video's contact sheet",
    "Six evenly spaced stills of the first variant of a finished video, in one picture of at most 60 KB; or what the "
    "arguments of view_video choose (one large frame: 120 KB).",
    "image/jpeg",
    _contact_sheet,
)
EXACT_CONTACT_SHEET = Resource(
    VIDEOS + "{task_id}/contact-sheet.png" + _OPTIONS,
    "contact_sheet_png",
    "A video's contact sheet as a PNG",
    "The same without loss: several times as large.",
    "image/png",
    _exact_contact_sheet,
)

RESOURCES = (GUIDE, GATEWAY, UNSETTLED, VIDEO, FILE, CONTACT_SHEET, EXACT_CONTACT_SHEET)


def find(uri: str) -> tuple[Resource, Values]:
    """Return the resource at an address, and the values of its variables. Raise MCPError (-32602) if none matches."""
    for resource in RESOURCES:
        if (values := addresses.match(resource.uri, uri)) is not None:
            return resource, values
    raise not_found(uri)


def not_found(uri: str) -> MCPError:
    """Return the error for an address without a resource."""
    return MCPError(types.INVALID_PARAMS, "Resource not found", {"uri": uri})


def video_id_from(uri: str) -> str | None:
    """Return the id of the video that an address belongs to, or None."""
    try:
        return find(uri)[1].get("task_id")
    except MCPError:
        return None


def is_state(uri: str) -> bool:
    """Return whether an address is that of a video's state, not of one of its files."""
    return addresses.match(VIDEO.uri, uri) is not None
