"""What a request is made from: task ids become generations, local images become addresses.

Agents name videos by the task id they know; the gateway wants the generation inside it, which only a
finished task has. Size and length that were not asked for are taken from the source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

from sora_mcp import dialect
from sora_mcp.errors import InvalidInput, NotReady, Problem, SoraError
from sora_mcp.ledger import Entry
from sora_mcp.models import FINAL, Generation, InpaintItem, VideoRequest
from sora_mcp.studio import images
from sora_mcp.studio.images import Image

Found = tuple[Entry, Generation]
FindVideo = Callable[[str], Awaitable[Entry]]
"""A task or request id → its row, asked anew at the gateway if it was not finished. Raises NotFound."""
FindGeneration = Callable[[str], Awaitable[Found | None]]
"""A generation id → where our ledger knows it from."""

PLACEHOLDER = "https://upload.invalid/"
"""Stands for a local image in a dry run and while the rest is checked; it is never sent."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """A request whose sources are all the gateway's own ids; `images` (by item) are still to be uploaded."""

    request: VideoRequest
    sources: list[str] = field(default_factory=list)
    images: dict[int, Image] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """The same for two requests that ask for the same thing; an image counts by its content."""
        told = [self.request.body(), {i: hashlib.sha256(image.content).hexdigest() for i, image in self.images.items()}]
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()

    def with_addresses(self, addresses: dict[int, str]) -> VideoRequest:
        """The request with the uploaded images' addresses in place."""
        items = [
            item.model_copy(update={"url": addresses[i]}) if i in addresses else item
            for i, item in enumerate(self.request.inpaint_items)
        ]
        return self.request.model_copy(update={"inpaint_items": items})


def take_local_images(draft: VideoRequest, folders: tuple[Any, ...]) -> Resolved:
    """Read the local images that the draft names. Raises InvalidInput; nothing is sent."""
    found = {
        i: images.read(item.url, folders, f"inpaint_items[{i}].url")
        for i, item in enumerate(draft.inpaint_items)
        if item.url is not None and not images.is_address(item.url)
    }
    resolved = Resolved(draft, images=found)
    return replace(resolved, request=resolved.with_addresses({i: PLACEHOLDER + found[i].name for i in found}))


async def resolve(given: Resolved, find: FindVideo, find_generation: FindGeneration) -> Resolved:
    """Turn every task id into its generation; size and length not asked for become the first source's.

    Raises NotFound, NotReady (not finished, failed, or without a generation id) or InvalidInput.
    """
    request, lookup = given.request, _Lookup(find, find_generation)
    changed: dict[str, Any] = {}
    edit = request.sdedit
    if edit is not None and edit.source_generation_id is not None:
        changed["sdedit"] = edit.model_copy(
            update=await lookup.ids(edit.source_generation_id, "source_generation_id", prefix="source_")
        )
    if any(item.generation_id for item in request.inpaint_items):
        changed["inpaint_items"] = [
            await _resolve_item(item, i, lookup) for i, item in enumerate(request.inpaint_items)
        ]
    if request.operation in {"remix", "blend"}:
        changed |= {k: v for k, v in lookup.shape().items() if k not in request.model_fields_set}
    return replace(given, request=request.model_copy(update=changed), sources=lookup.named)


async def _resolve_item(item: InpaintItem, index: int, lookup: _Lookup) -> InpaintItem:
    if item.generation_id is None:
        return item
    return item.model_copy(update=await lookup.ids(item.generation_id, f"inpaint_items[{index}].generation_id"))


class _Lookup:
    """Resolves ids and remembers what they led to."""

    def __init__(self, find: FindVideo, find_generation: FindGeneration) -> None:
        self._find = find
        self._find_generation = find_generation
        self.named: list[str] = []
        self._found: list[Found] = []

    async def ids(self, given: str, where: str, prefix: str = "") -> dict[str, str | None]:
        """The id fields that stand for `given`: a generation's, or an upload's where that was put in its place."""
        video_id, _, variant = given.strip().partition("#")
        if not dialect.is_id(video_id) or not (variant.isdecimal() or not variant):
            raise InvalidInput([Problem(where, "is not an id", "gen_…, task_… or task_…#2")])
        if video_id.startswith("media_"):
            self.named.append(video_id)
            return {f"{prefix}generation_id": None, f"{prefix}upload_media_id": video_id}
        if not video_id.startswith(("task_", "req_")):
            known = await self._find_generation(video_id)
            self._remember(given, known)
            return {f"{prefix}generation_id": video_id}
        entry, generation = await self._finished(video_id, int(variant or 1), where)
        self._remember(given, (entry, generation))
        return {f"{prefix}generation_id": generation.generation_id}

    def shape(self) -> dict[str, int]:
        """Width, height and frames of the first source, as far as they are known."""
        if not self._found:
            return {}
        entry, generation = self._found[0]
        names = ("width", "height", "n_frames")
        values = {name: entry.body.get(name) or getattr(generation, name) for name in names}
        return {name: value for name, value in values.items() if isinstance(value, int)}

    def _remember(self, given: str, found: Found | None) -> None:
        if found is None:
            self.named.append(given)
            return
        entry, generation = found
        self._found.append(found)
        self.named.append(entry.id if generation.variant == 1 else f"{entry.id}#{generation.variant}")

    async def _finished(self, video_id: str, variant: int, where: str) -> Found:
        try:
            entry = await self._find(video_id)
        except SoraError as error:
            error.message = f"{where}: {error.message}"
            raise
        return entry, usable_generation(entry, variant, where, need_id=True)


def usable_generation(entry: Entry, variant: int, where: str, *, need_id: bool = False) -> Generation:
    """One variant of a finished video. Raises NotReady or InvalidInput where there is none."""
    if entry.state != "succeeded":
        progress = f", {entry.progress} %" if entry.progress is not None and entry.state == "running" else ""
        raise NotReady(
            f"{where}: {entry.id} is not finished (state {entry.state}{progress})."
            if entry.state not in FINAL
            else f"{where}: {entry.id} ended as {entry.state} and has nothing to use.",
            "Wait for it with get_video, then call again." if entry.state not in FINAL else "Use another video.",
            will_be=entry.state not in FINAL,
        )
    generation = next((g for g in entry.generations if g.variant == variant), None)
    if generation is None:
        count = len(entry.generations)
        raise InvalidInput(
            [Problem(where, f"{entry.id} has no variant {variant}", f"1 to {count}" if count else "none")]
        )
    if need_id and generation.generation_id is None:
        raise NotReady(
            f"{where}: the gateway gave no generation id for {entry.id}, so it cannot be built on.",
            "Use another video.",
            will_be=False,
        )
    return generation
