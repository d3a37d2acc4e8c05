"""What a request is made from: task ids become generations, local images become addresses.

Agents name videos by the task id they know; the gateway wants the generation inside it, which only a
finished task has. Size and length that were not asked for are taken from the source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import anyio
from anyio import to_thread
from msgspec import Struct, field
from msgspec.structs import replace

from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Argument, TryAgain
from sora_mcp.core.cost import Cost, Estimate
from sora_mcp.core.errors import BadReply, InvalidInput, Problem, SoraError
from sora_mcp.core.ids import is_id
from sora_mcp.core.models import InpaintItem, SDEdit, VideoRequest
from sora_mcp.core.tasks import Generation
from sora_mcp.dialects.protocol import Dialect, Measurements, Plan, SourceVideo, estimate_of, plan_of
from sora_mcp.ledger import Entry
from sora_mcp.studio import images
from sora_mcp.studio.generations import usable_generation
from sora_mcp.studio.ids import variant_of, without_variant
from sora_mcp.studio.images import Image, IsLedgerFile
from sora_mcp.studio.lookup import Lookup, Source

if TYPE_CHECKING:
    from sora_mcp.core.batches import BatchLine

PLACEHOLDER = "https://upload.invalid/"
"""Stands for a local image in a dry run and while the rest is checked; it is never sent."""


class Resolved(Struct, frozen=True):
    """A request whose sources are all the gateway's own ids; `images` (by item) are still to be uploaded.

    `paths`: those images as the caller named them. `source_size`: width and height of the first source, if known.
    `videos`: the earlier videos, by the item that names them (None: the source of a remix), as far as they are known
    here; `variants`: of which variant such a one is meant, where the id that is sent does not say so. `plan`: what
    becomes of it on its way. `estimate`: what it will cost, if that is known. `line`: that of a batch file.
    """

    request: VideoRequest
    sources: list[str] = field(default_factory=list)
    images: dict[int, Image] = field(default_factory=dict)
    paths: dict[int, str] = field(default_factory=dict)
    source_size: tuple[int, int] | None = None
    videos: dict[int | None, Source] = field(default_factory=dict)
    variants: dict[str, int] = field(default_factory=dict)
    plan: Plan = field(default_factory=Plan)
    estimate: Estimate | None = None
    line: BatchLine | None = None

    @property
    def cost(self) -> Cost | None:
        """What it will cost, if that is known."""
        return None if self.estimate is None else self.estimate.cost

    @property
    def source(self) -> SourceVideo | None:
        """What is known beforehand of the video that is remixed; None where there is none."""
        if None not in self.videos:
            return None
        entry, file = self.videos[None]
        measurements = None
        if file.width and file.height and file.n_frames and file.fps:
            measurements = Measurements(file.width, file.height, file.n_frames, file.fps)
        return SourceVideo(name=name_of(entry, file), measurements=measurements)

    @property
    def fingerprint(self) -> str:
        """The same for two requests that ask for the same thing: outer spaces of texts do not count, and an image
        counts by its file."""
        return self._fingerprint(_stripped(self.request.body()))

    @property
    def fingerprint_as_given(self) -> str:
        """What earlier releases recorded for the same request: every space counted."""
        return self._fingerprint(self.request.body())

    @property
    def sent_fingerprint(self) -> str | None:
        """The same for two requests that are sent as the same, however they were asked for; None where those that ask
        for the same thing are."""
        if self.plan.sent_fields is None:
            return None
        size_and_length = {"width": None, "height": None, "n_frames": None}
        return self._fingerprint(_stripped(self.request.body()) | size_and_length, self.plan.sent_fields)

    def check_unchanged(self, dialect: Dialect) -> None:
        """Raise BadReply where a list that was renewed meanwhile makes something else of this than what was checked,
        and perhaps agreed to; InvalidInput where the model does not take it any more."""
        dialect.check(self.request)
        now = plan_of(dialect, self.request, self.source), estimate_of(dialect, self.request)
        if now != (self.plan, self.estimate):
            raise BadReply("What the model takes, or its price, has changed while this was prepared.", TryAgain())

    def _fingerprint(self, body: dict[str, Any], more: Mapping[str, Any] | None = None) -> str:
        variants = {"variants": self.variants} if self.variants else {}
        parts = [
            body | dict(self.plan.identity if more is None else more) | variants,
            {i: image.digest for i, image in self.images.items()},
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def with_addresses(self, addresses: dict[int, str]) -> VideoRequest:
        """The request with the uploaded images' addresses in place."""
        if not addresses:
            return self.request
        items = [
            item.model_copy(update={"url": addresses[i]}) if i in addresses else item
            for i, item in enumerate(self.request.inpaint_items)
        ]
        return self.request.model_copy(update={"inpaint_items": items})


def name_of(entry: Entry, generation: Generation) -> str:
    """A variant of a video in a sentence."""
    return entry.id if generation.variant == 1 else f"{entry.id}#{generation.variant}"


async def take_local_images(
    draft: VideoRequest, settings: Settings, is_ledger_file: IsLedgerFile, within_s: float
) -> Resolved:
    """Read the images that the draft names and that lie here; nothing is sent.

    Raises InvalidInput, and TimeoutError after `within_s` seconds: their folder may be one of a network.
    """
    local: dict[int, Image] = {}
    if draft.inpaint_items:
        with anyio.fail_after(within_s):
            local = await to_thread.run_sync(_local_images, draft, settings, is_ledger_file, abandon_on_cancel=True)
    resolved = Resolved(draft, images=local, paths={i: draft.inpaint_items[i].url or "" for i in local})
    return replace(resolved, request=resolved.with_addresses({i: PLACEHOLDER + local[i].name for i in local}))


def _local_images(draft: VideoRequest, settings: Settings, is_ledger_file: IsLedgerFile) -> dict[int, Image]:
    local: dict[int, Image] = {}
    for i, item in enumerate(draft.inpaint_items):
        where = f"inpaint_items[{i}].url"
        if item.url is not None and images.is_upload(item.url):
            from sora_mcp.config.sharing import common_folder  # noqa: PLC0415 - most callers are on this machine
            from sora_mcp.studio.uploads import Uploads  # noqa: PLC0415

            local[i] = Uploads(common_folder(settings), settings.owner or "").read(item.url, where)
        elif item.url is not None and not images.is_address(item.url):
            local[i] = images.read(item.url, settings.image_dirs, where, is_ledger_file)
    return local


async def resolve(unresolved: Resolved, lookup: Lookup, *, opaque_ids: bool, within_s: float) -> Resolved:
    """Turn every task id into its generation; size and length not asked for become the first source's.

    With `opaque_ids` a task's id is what the gateway wants, and a remix is as its source is.
    Raises NotFound, NotReady (not finished, failed, or without a generation id), InvalidInput, and TimeoutError after
    `within_s` seconds.
    """
    request, sources = unresolved.request, _Sources(lookup, opaque_ids=opaque_ids)
    if request.sdedit is None and not request.inpaint_items:
        return unresolved
    changed: dict[str, Any] = {}
    edit, items = request.sdedit, request.inpaint_items
    with anyio.fail_after(within_s):
        if edit is not None:
            changed["sdedit"] = edit.model_copy(update=await _resolved_ids(edit, "source_", None, sources))
        changed["inpaint_items"] = [
            item.model_copy(update=await _resolved_item(item, i, sources)) for i, item in enumerate(items)
        ]
    if request.operation in {"remix", "blend"} and not opaque_ids:
        changed |= _shape_not_given(request, sources)
    shape = sources.shape() if request.operation in {"remix", "blend"} else {}
    size = (shape["width"], shape["height"]) if {"width", "height"} <= shape.keys() else None
    later = {str(item): source[1].variant for item, source in sources.videos.items() if source[1].variant > 1}
    return replace(
        unresolved,
        request=request.model_copy(update=changed),
        sources=sources.named,
        source_size=size,
        videos=sources.videos,
        variants=later if opaque_ids else {},
    )


async def _resolved_ids(
    holder: InpaintItem | SDEdit, prefix: str, number: int | None, sources: _Sources
) -> dict[str, Any]:
    """The two id fields of an item (by its `number`) or of `sdedit`, as the gateway wants them."""
    where = "" if number is None else f"inpaint_items[{number}]."
    generation, upload = f"{prefix}generation_id", f"{prefix}upload_media_id"
    for name in (generation, upload):
        text = getattr(holder, name)
        if text is not None:
            kind, gateway_id = await sources.find(text, where + name, number)
            return {generation: None, upload: None} | {generation if kind == "generation" else upload: gateway_id}
    return {}


async def _resolved_item(item: InpaintItem, number: int, sources: _Sources) -> dict[str, Any]:
    """The ids of an item, whose range lies inside its source. Raises InvalidInput where it does not."""
    ids, where = await _resolved_ids(item, "", number, sources), f"inpaint_items[{number}]."
    n_frames = sources.n_frames(item.generation_id or item.upload_media_id)
    ends = {name: getattr(item, name) for name in ("source_start_frame", "source_end_frame")}
    beyond = [
        Problem(where + name, f"{frame} is past the end of the source's {n_frames} frames", f"0 to {n_frames - 1}")
        for name, frame in ends.items()
        if n_frames is not None and frame is not None and frame >= n_frames
    ]
    if beyond:
        raise InvalidInput(beyond)
    return ids


def _shape_not_given(request: VideoRequest, sources: _Sources) -> dict[str, int]:
    """Size and length that were not asked for, from the first source. Raises InvalidInput where it is not known."""
    missing = [name for name in _SHAPE if name not in request.model_fields_set]
    shape = sources.shape()
    unknown = [name for name in missing if name not in shape]
    if unknown:
        raise InvalidInput([_unknown_shape(", ".join(unknown), sources)])
    return {name: shape[name] for name in missing}


def _unknown_shape(missing: str, sources: _Sources) -> Problem:
    """Of what a request is made from neither size nor length is known, or not all: what to name instead."""
    if not sources.foreign:
        return Problem(missing, "not given, and the source's is not known here", f"give {missing}")
    where, source_id = sources.foreign[0]
    instead = "" if source_id.startswith("media_") else "name its task (task_…) instead, or "
    return Problem(where, f"{source_id} was not made here, so its size is not known: {instead}give {missing}")


_SHAPE = ("width", "height", "n_frames")


class _Sources:
    """The sources of one request: resolves their ids and remembers what they led to."""

    def __init__(self, lookup: Lookup, *, opaque_ids: bool) -> None:
        self._lookup = lookup
        self._opaque_ids = opaque_ids
        self.named: list[str] = []
        self.foreign: list[tuple[str, str]] = []
        """Those that no row knows: the argument, and the id."""
        self.videos: dict[int | None, Source] = {}
        """Those that a row knows, by the item that names them; None: what is remixed."""
        self._resolved: list[Source] = []
        self._by_id: dict[str, Source] = {}

    def n_frames(self, video_id: str | None) -> int | None:
        """How long the video is that an id led to: as the gateway told it, or as it was asked for."""
        if video_id not in self._by_id:
            return None
        entry, generation = self._by_id[video_id]
        lengths = (generation.n_frames, entry.body.get("n_frames"))
        return next((each for each in lengths if isinstance(each, int) and each > 0), None)

    async def find(
        self, text: str, where: str, number: int | None
    ) -> tuple[Literal["generation", "upload"], str | None]:
        """What an id of an item (None: of the source of a remix) stands for at the gateway: agents put task, generation
        and upload ids in each other's place."""
        video_id, variant = await self._named(text.strip(), where)
        is_task = self._opaque_ids or video_id.startswith(("task_", "req_"))
        if is_task or await self._lookup.is_recorded(video_id):
            source = await self._finished(video_id, variant or 1, where)
            self._by_id[text] = self.videos[number] = source
            self._remember(video_id, source)
            return "generation", source[0].task_id if self._opaque_ids else source[1].generation_id
        known = await self._lookup.generation(video_id)
        upload = video_id.startswith("media_")
        if not is_id(video_id) or variant or not (upload or known or video_id.startswith("gen_")):
            raise InvalidInput([Problem(where, "is not an id", "gen_…, media_…, task_… or task_…#2")])
        if known is None:
            self.foreign.append((where, video_id))
        else:
            self._by_id[text] = self.videos[number] = known
        self._remember(video_id, known)
        return ("upload" if upload else "generation"), video_id

    async def _named(self, text: str, where: str) -> tuple[str, int | None]:
        """The id and the variant that a text names: what stands in the ledger as it is written is no variant."""
        if "#" in text and not (await self._lookup.is_recorded(text) or await self._lookup.generation(text)):
            return without_variant(text), variant_of(text, where)
        return text, None

    def shape(self) -> dict[str, int]:
        """Width, height and frames of the first source, as far as they are known."""
        if not self._resolved:
            return {}
        entry, generation = self._resolved[0]
        values = {name: entry.body.get(name) or getattr(generation, name) for name in _SHAPE}
        return {name: value for name, value in values.items() if isinstance(value, int)}

    def _remember(self, video_id: str, source: Source | None) -> None:
        if source is None:
            self.named.append(video_id)
            return
        entry, generation = source
        self._resolved.append(source)
        self.named.append(name_of(entry, generation))

    async def _finished(self, video_id: str, variant: int, where: str) -> Source:
        try:
            entry = await self._lookup.video(video_id)
        except SoraError as error:
            error.parts = (Argument(where), ": ", *error.parts)
            raise
        return entry, usable_generation(entry, variant, where, need_id=not self._opaque_ids)


def _stripped(value: Any) -> Any:
    """JSON without the outer spaces of its texts."""
    if isinstance(value, dict):
        return {name: _stripped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_stripped(each) for each in value]
    return value.strip() if isinstance(value, str) else value
