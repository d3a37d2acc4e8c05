"""A storyboard as a picture before it is submitted: its beats and cards in order, with the images that are available.

Videos that it uses are fetched if that is quick. Images at web addresses are not: only the gateway, once it is paid,
may be sent to an address that a caller wrote.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from string import ascii_uppercase
from typing import Any
from urllib.parse import urlsplit

import anyio

from sora_mcp.core import plans
from sora_mcp.core.errors import SoraError
from sora_mcp.core.records import sent_frames, sent_size
from sora_mcp.core.tasks import clean
from sora_mcp.ledger import Entry
from sora_mcp.media.board import MAX_CARDS, Board, BoardCard
from sora_mcp.studio.files import Files, temporary_folder
from sora_mcp.studio.ids import variant_of, without_variant
from sora_mcp.studio.sources import PLACEHOLDER, Resolved

FETCH_TIMEOUT_S = 3.0
"""Seconds for everything that is fetched for one board; what takes longer is shown as text only."""
_MAX_TEXT_LENGTH = 200
"""Characters that are drawn of a beat, and of an image's name."""

Find = Callable[[str], Awaitable[Entry | None]]
"""Return the row of a video by its id, or None."""


@asynccontextmanager
async def open_board(ready: Resolved, find: Find, files: Files | None) -> AsyncIterator[Board]:
    """Open the board of a request, and the files that it shows; `files`: None if there is no gateway."""
    request = ready.request
    async with AsyncExitStack() as stack:
        paths = await _videos(ready, find, files, stack) if files is not None else {}
        paths |= await _images(ready, stack)
        cards = [
            BoardCard(str(number), clean(action.description, _MAX_TEXT_LENGTH), action.time, is_beat=True)
            for number, action in enumerate(request.actions or [], 1)
        ]
        body = ready.request.body()
        for index, item in enumerate(plans.items(body, ready.sources)):
            mark = ascii_uppercase[index % len(ascii_uppercase)]
            text = _describe_item(item, ready.paths.get(index))
            cards.append(BoardCard(mark, text, item.frame_index, paths.get(index), still=item.start or 0))
        cards.sort(key=lambda card: -1 if card.frame is None else card.frame)
        yield Board(clean(request.prompt or "", _MAX_TEXT_LENGTH), **_shape(ready), cards=tuple(cards))


def _shape(ready: Resolved) -> dict[str, Any]:
    """Return size and length as they are sent; no length if the upstream chooses it."""
    request, plan = ready.request, ready.plan
    requested = None if "n_frames" in plan.left_open else request.n_frames
    size = {"width": request.width, "height": request.height} | sent_size(plan.adjusted)
    return size | {"n_frames": sent_frames(plan.adjusted) or requested}


def _describe_item(item: plans.Item, path: str | None) -> str:
    """Describe an item."""
    if item.source is None:
        if path is not None:
            return clean(Path(path).name, _MAX_TEXT_LENGTH)
        host = urlsplit(item.url or "").hostname if not (item.url or "").startswith(PLACEHOLDER) else None
        return f"an image from {host}" if host else "an image"
    if item.start is None and item.end is None:
        return clean(item.source, _MAX_TEXT_LENGTH)
    end = "its end" if item.end is None else item.end
    return f"{clean(item.source, _MAX_TEXT_LENGTH)}, frames {item.start or 0} to {end}"


async def _images(ready: Resolved, stack: AsyncExitStack) -> dict[int, str]:
    """Write the local images, as they would be uploaded, to temporary files."""
    if not ready.images:
        return {}
    folder = stack.enter_context(temporary_folder())
    paths = {}
    for index, image in list(ready.images.items())[:MAX_CARDS]:
        await anyio.Path(folder / str(index)).write_bytes(image.content)
        paths[index] = str(folder / str(index))
    return paths


async def _videos(ready: Resolved, find: Find, files: Files, stack: AsyncExitStack) -> dict[int, str]:
    """Open the videos whose parts are used, as far as they can be fetched in time."""
    paths: dict[int, str] = {}
    with anyio.move_on_after(FETCH_TIMEOUT_S):
        for index, item in enumerate(plans.items(ready.request.body(), ready.sources)[:MAX_CARDS]):
            if item.source is None:
                continue
            with suppress(SoraError):
                entry = await find(item.source) or await find(without_variant(item.source))
                if entry is not None:
                    variant = variant_of(item.source, "inpaint_items", entry) or 1
                    paths[index] = str(await stack.enter_async_context(files.local_file(entry, variant)))
    return paths
