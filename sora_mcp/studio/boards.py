"""A storyboard as a picture before it is submitted: its beats and cards in order, with the images that are at hand.

Videos that it uses are fetched where that is quick. An image at a web address is not: nobody but the gateway, once it
is paid, is to be sent to an address that a caller wrote.
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

FETCH_WITHIN = 3.0
"""Seconds for everything that is fetched for one board; what takes longer stands there in words."""
_WORDS = 200
"""Characters of a beat that are drawn, and of what an image is called."""

Find = Callable[[str], Awaitable[Entry | None]]
"""The row of a video, by its id."""


@asynccontextmanager
async def board_of(ready: Resolved, find: Find, files: Files | None) -> AsyncIterator[Board]:
    """The board of a request, while the files that it shows are at hand; `files`: None where there is no gateway."""
    request = ready.request
    async with AsyncExitStack() as at_hand:
        paths = await _videos(ready, find, files, at_hand) if files is not None else {}
        paths |= await _images(ready, at_hand)
        cards = [
            BoardCard(str(number), clean(action.description, _WORDS), action.time, is_beat=True)
            for number, action in enumerate(request.actions or [], 1)
        ]
        body = ready.request.body()
        for at, item in enumerate(plans.items(body, ready.sources)):
            mark = ascii_uppercase[at % len(ascii_uppercase)]
            words = _words(item, ready.paths.get(at))
            cards.append(BoardCard(mark, words, item.frame_index, paths.get(at), still=item.start or 0))
        cards.sort(key=lambda card: -1 if card.frame is None else card.frame)
        yield Board(clean(request.prompt or "", _WORDS), **_shape(ready), cards=tuple(cards))


def _shape(ready: Resolved) -> dict[str, Any]:
    """Size and length as they are sent; no length where the upstream chooses it."""
    request, plan = ready.request, ready.plan
    asked = None if "n_frames" in plan.left_open else request.n_frames
    size = {"width": request.width, "height": request.height} | sent_size(plan.adjusted)
    return size | {"n_frames": sent_frames(plan.adjusted) or asked}


def _words(item: plans.Item, path: str | None) -> str:
    """What an item is."""
    if item.source is None:
        if path is not None:
            return clean(Path(path).name, _WORDS)
        host = urlsplit(item.url or "").hostname if not (item.url or "").startswith(PLACEHOLDER) else None
        return f"an image from {host}" if host else "an image"
    if item.start is None and item.end is None:
        return clean(item.source, _WORDS)
    end = "its end" if item.end is None else item.end
    return f"{clean(item.source, _WORDS)}, frames {item.start or 0} to {end}"


async def _images(ready: Resolved, at_hand: AsyncExitStack) -> dict[int, str]:
    """The local images, as they would be uploaded, in files of their own."""
    if not ready.images:
        return {}
    folder = at_hand.enter_context(temporary_folder())
    paths = {}
    for at, image in list(ready.images.items())[:MAX_CARDS]:
        await anyio.Path(folder / str(at)).write_bytes(image.content)
        paths[at] = str(folder / str(at))
    return paths


async def _videos(ready: Resolved, find: Find, files: Files, at_hand: AsyncExitStack) -> dict[int, str]:
    """The videos whose parts are placed, as far as they can be had soon."""
    paths: dict[int, str] = {}
    with anyio.move_on_after(FETCH_WITHIN):
        for at, item in enumerate(plans.items(ready.request.body(), ready.sources)[:MAX_CARDS]):
            if item.source is None:
                continue
            with suppress(SoraError):
                entry = await find(item.source) or await find(without_variant(item.source))
                if entry is not None:
                    variant = variant_of(item.source, "inpaint_items", entry) or 1
                    paths[at] = str(await at_hand.enter_async_context(files.at_hand(entry, variant)))
    return paths
