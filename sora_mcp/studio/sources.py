"""The sources of a request: task ids become generations, local images become addresses.

Agents name videos by the task id they know; the gateway wants the generation inside it, which only a
finished task has. Size and length default to the source's.
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
from sora_mcp.core.models import InpaintItem, SDEdit, VideoRequest
from sora_mcp.core.tasks import Generation
from sora_mcp.dialects.protocol import Dialect, Measurements, Plan, SourceVideo, estimate_of, plan_of
from sora_mcp.ledger import Entry
from sora_mcp.studio import images
from sora_mcp.studio.generations import usable_generation
from sora_mcp.studio.ids import generation_of, variant_of
from sora_mcp.studio.images import Image, IsLedgerFile
from sora_mcp.studio.lookup import Lookup, Source

if TYPE_CHECKING:
    from sora_mcp.core.batches import BatchLine

PLACEHOLDER = "https://upload.invalid/"
"""Address of a local image in a dry run and while the rest is checked; never sent."""


class Resolved(Struct, frozen=True):
    """A request whose sources are all the gateway's own ids; `images` (by item) have yet to be uploaded.

    `paths`: those images as the caller named them. `source_size`: width and height of the first source, if known.
    `videos`: the recorded source videos, by the item that names them (None: the source of a remix); `variants`: their
    variants, if the id that is sent does not say which. `plan`: how the dialect sends it. `estimate`: what it will
    cost, if known. `line`: of a batch file.
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
        """What it will cost, if known."""
        return None if self.estimate is None else self.estimate.cost

    @property
    def source(self) -> SourceVideo | None:
        """What is known of the video that is remixed; None if there is none."""
        if None not in self.videos:
            return None
        entry, file = self.videos[None]
        measurements = None
        if file.width and file.height and file.n_frames and file.fps:
            measurements = Measurements(file.width, file.height, file.n_frames, file.fps)
        return SourceVideo(name=name_of(entry, file), measurements=measurements)

    @property
    def fingerprint(self) -> str:
        """Equal for two requests for the same thing: leading and trailing spaces do not count, and an image counts by
        its file."""
        return self._fingerprint(_stripped(self.request.body()))

    @property
    def legacy_fingerprint(self) -> str:
        """The fingerprint that earlier releases recorded for the same request: every space counted."""
        return self._fingerprint(self.request.body())

    @property
    def sent_fingerprint(self) -> str | None:
        """Equal for two requests that are sent as the same, however they were written; None if that holds only for
        equal fingerprints."""
        if self.plan.sent_fields is None:
            return None
        size_and_length = {"width": None, "height": None, "n_frames": None}
        return self._fingerprint(_stripped(self.request.body()) | size_and_length, self.plan.sent_fields)

    def check_unchanged(self, dialect: Dialect) -> None:
        """Raise BadReply if a list of models refreshed meanwhile changes the plan or the estimate that was checked, and
        perhaps confirmed; InvalidInput if the model no longer takes the request."""
        dialect.check(self.request)
        now = plan_of(dialect, self.request, self.source), estimate_of(dialect, self.request)
        if now != (self.plan, self.estimate):
            raise BadReply("What the model takes, or its price, has changed while this was prepared.", TryAgain())

    def _fingerprint(self, body: dict[str, Any], extra: Mapping[str, Any] | None = None) -> str:
        variants = {"variants": self.variants} if self.variants else {}
        parts = [
            body | dict(self.plan.identity if extra is None else extra) | variants,
            {i: image.digest for i, image in self.images.items()},
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def with_addresses(self, addresses: dict[int, str]) -> VideoRequest:
        """Return the request with the addresses of the uploaded images."""
        if not addresses:
            return self.request
        items = [
            item.model_copy(update={"url": addresses[i]}) if i in addresses else item
            for i, item in enumerate(self.request.inpaint_items)
        ]
        return self.request.model_copy(update={"inpaint_items": items})


def name_of(entry: Entry, generation: Generation) -> str:
    """Return the name of a variant in messages."""
    return entry.id if generation.variant == 1 else f"{entry.id}#{generation.variant}"


async def load_local_images(
    draft: VideoRequest, settings: Settings, is_ledger_file: IsLedgerFile, timeout_s: float
) -> Resolved:
    """Read the local images that the draft names; nothing is sent.

    Raises InvalidInput, and TimeoutError after `timeout_s` seconds: their folder may be on a network.
    """
    loaded: dict[int, Image] = {}
    if draft.inpaint_items:
        with anyio.fail_after(timeout_s):
            loaded = await to_thread.run_sync(_local_images, draft, settings, is_ledger_file, abandon_on_cancel=True)
    resolved = Resolved(draft, images=loaded, paths={i: draft.inpaint_items[i].url or "" for i in loaded})
    return replace(resolved, request=resolved.with_addresses({i: PLACEHOLDER + loaded[i].name for i in loaded}))


def _local_images(draft: VideoRequest, settings: Settings, is_ledger_file: IsLedgerFile) -> dict[int, Image]:
    loaded: dict[int, Image] = {}
    for i, item in enumerate(draft.inpaint_items):
        argument = f"inpaint_items[{i}].url"
        if item.url is not None and images.is_upload(item.url):
            from sora_mcp.config.sharing import common_folder  # noqa: PLC0415 - most callers are on this machine
            from sora_mcp.studio.uploads import Uploads  # noqa: PLC0415

            loaded[i] = Uploads(common_folder(settings), settings.owner or "").read(item.url, argument)
        elif item.url is not None and not images.is_address(item.url):
            loaded[i] = images.read(item.url, settings.image_dirs, argument, is_ledger_file)
    return loaded


async def resolve(unresolved: Resolved, lookup: Lookup, *, opaque_ids: bool, timeout_s: float) -> Resolved:
    """Turn every task id into its generation; size and length that are not given become the first source's.

    With `opaque_ids` the gateway wants the task's id, and a remix has the shape of its source.
    Raises NotFound, NotReady (not finished, failed, or without a generation id), InvalidInput, and TimeoutError after
    `timeout_s` seconds.
    """
    request, sources = unresolved.request, _Sources(lookup, opaque_ids=opaque_ids)
    if request.sdedit is None and not request.inpaint_items:
        return unresolved
    changes: dict[str, Any] = {}
    edit, items = request.sdedit, request.inpaint_items
    with anyio.fail_after(timeout_s):
        if edit is not None:
            changes["sdedit"] = edit.model_copy(update=await _resolved_ids(edit, "source_", None, sources))
        changes["inpaint_items"] = [
            item.model_copy(update=await _resolved_item(item, i, sources)) for i, item in enumerate(items)
        ]
    if request.operation in {"remix", "blend"} and not opaque_ids:
        changes |= _inherited_shape(request, sources)
    shape = sources.shape() if request.operation in {"remix", "blend"} else {}
    size = (shape["width"], shape["height"]) if {"width", "height"} <= shape.keys() else None
    later_variants = {str(item): source[1].variant for item, source in sources.videos.items() if source[1].variant > 1}
    return replace(
        unresolved,
        request=request.model_copy(update=changes),
        sources=sources.names,
        source_size=size,
        videos=sources.videos,
        variants=later_variants if opaque_ids else {},
    )


async def _resolved_ids(
    holder: InpaintItem | SDEdit, prefix: str, index: int | None, sources: _Sources
) -> dict[str, Any]:
    """Return the two id fields of an item (by its `index`) or of `sdedit`, as the gateway wants them."""
    argument = "" if index is None else f"inpaint_items[{index}]."
    generation, upload = f"{prefix}generation_id", f"{prefix}upload_media_id"
    for name in (generation, upload):
        text = getattr(holder, name)
        if text is not None:
            kind, gateway_id = await sources.find(text, argument + name, index)
            return {generation: None, upload: None} | {generation if kind == "generation" else upload: gateway_id}
    return {}


async def _resolved_item(item: InpaintItem, index: int, sources: _Sources) -> dict[str, Any]:
    """Return the ids of an item. Raises InvalidInput if its range is not inside its source."""
    ids, argument = await _resolved_ids(item, "", index, sources), f"inpaint_items[{index}]."
    n_frames = sources.n_frames(item.generation_id or item.upload_media_id)
    range_ends = {name: getattr(item, name) for name in ("source_start_frame", "source_end_frame")}
    problems = [
        Problem(argument + name, f"{frame} is past the end of the source's {n_frames} frames", f"0 to {n_frames - 1}")
        for name, frame in range_ends.items()
        if n_frames is not None and frame is not None and frame >= n_frames
    ]
    if problems:
        raise InvalidInput(problems)
    return ids


def _inherited_shape(request: VideoRequest, sources: _Sources) -> dict[str, int]:
    """Return the size and length that are not given, from the first source. Raises InvalidInput if unknown."""
    missing = [name for name in _SHAPE if name not in request.model_fields_set]
    shape = sources.shape()
    unknown = [name for name in missing if name not in shape]
    if unknown:
        raise InvalidInput([_unknown_shape_problem(", ".join(unknown), sources)])
    return {name: shape[name] for name in missing}


def _unknown_shape_problem(missing: str, sources: _Sources) -> Problem:
    """Return the problem that size or length of the sources is unknown, with what to give instead."""
    if not sources.unrecorded:
        return Problem(missing, "not given, and the source's is not known here", f"give {missing}")
    argument, source_id = sources.unrecorded[0]
    instead = "" if source_id.startswith("media_") else "name its task (task_…) instead, or "
    return Problem(argument, f"{source_id} was not made here, so its size is not known: {instead}give {missing}")


_SHAPE = ("width", "height", "n_frames")


class _Sources:
    """The sources of one request: resolves their ids and collects the results."""

    def __init__(self, lookup: Lookup, *, opaque_ids: bool) -> None:
        self._lookup = lookup
        self._opaque_ids = opaque_ids
        self.names: list[str] = []
        self.unrecorded: list[tuple[str, str]] = []
        """Sources without a row: the argument, and the id."""
        self.videos: dict[int | None, Source] = {}
        """Sources with a row, by the item that names them; None: the source of a remix."""
        self._resolved: list[Source] = []
        self._by_id: dict[str, Source] = {}

    def n_frames(self, video_id: str | None) -> int | None:
        """Return the length of a resolved video: as the gateway stated it, or as it was requested."""
        if video_id not in self._by_id:
            return None
        entry, generation = self._by_id[video_id]
        lengths = (generation.n_frames, entry.body.get("n_frames"))
        return next((each for each in lengths if isinstance(each, int) and each > 0), None)

    async def find(
        self, text: str, argument: str, index: int | None
    ) -> tuple[Literal["generation", "upload"], str | None]:
        """Return what an id of an item (None: of the source of a remix) refers to at the gateway: agents mix up task,
        generation and upload ids."""
        video_id, allowed = text.strip(), "gen_…, media_…, task_… or task_…#2"
        entry = await self._lookup.recorded(video_id, argument, allowed)
        variant = variant_of(video_id, argument, entry)
        kind: Literal["generation", "upload"] = "upload" if video_id.startswith("media_") else "generation"
        if entry is None and not (self._opaque_ids or video_id.startswith(("task_", "req_"))):
            if variant or not video_id.startswith(("gen_", "media_")):
                raise InvalidInput([Problem(argument, "is not an id", allowed)])
            await self._lookup.check_may_use(video_id)
            self.unrecorded.append((argument, video_id))
            self.names.append(video_id)
            return kind, video_id
        generation = None if entry is None or video_id == entry.task_id else generation_of(video_id, entry)
        if entry is not None and generation is not None and not self._opaque_ids:
            self._remember(text, index, (entry, generation))
            return kind, video_id
        entry = await self._current(video_id, entry, argument)
        generation = usable_generation(entry, variant or 1, argument, need_id=not self._opaque_ids)
        self._remember(text, index, (entry, generation))
        return "generation", entry.task_id if self._opaque_ids else generation.generation_id

    def shape(self) -> dict[str, int]:
        """Return width, height and frames of the first source, as far as they are known."""
        if not self._resolved:
            return {}
        entry, generation = self._resolved[0]
        values = {name: entry.body.get(name) or getattr(generation, name) for name in _SHAPE}
        return {name: value for name, value in values.items() if isinstance(value, int)}

    def _remember(self, text: str, index: int | None, source: Source) -> None:
        self._by_id[text] = self.videos[index] = source
        self._resolved.append(source)
        self.names.append(name_of(*source))

    async def _current(self, video_id: str, entry: Entry | None, argument: str) -> Entry:
        try:
            return await self._lookup.current(video_id, entry)
        except SoraError as error:
            error.parts = (Argument(argument), ": ", *error.parts)
            raise


def _stripped(value: Any) -> Any:
    """Return JSON without the leading and trailing spaces of its texts."""
    if isinstance(value, dict):
        return {name: _stripped(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_stripped(each) for each in value]
    return value.strip() if isinstance(value, str) else value
