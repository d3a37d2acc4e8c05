"""The documented request body.

It mirrors the create page of the Sora "official format" API (2025-01-15). Where that page is silent, the
docstring says "inferred".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from msgspec import Struct
from pydantic import BaseModel, ConfigDict, Field

from sora_mcp.core.advice import Argument, Message, Part, Setting
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.cost import Cost, describe_cost
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import clean, quoted


class Model(BaseModel):
    """Base of all our models: frozen, rejects unknown fields, built on first use. Our own values (Structs) are stored
    as they are."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, defer_build=True, allow_inf_nan=False, arbitrary_types_allowed=True
    )


class Unlisted(Struct, frozen=True):
    """Marks a field of a result that is rarely set and explains itself: the schema omits it."""


Operation = Literal["simple_compose", "storyboard", "remix", "blend"]

# The fields are described once, here; the tools publish these very annotations.
Width = Annotated[int, Field(ge=1, description="Pixels; requires height.")]
Height = Annotated[
    int,
    Field(
        ge=1,
        description="Pixels. width x height: 480x480, 720x720, 480x854, 854x480, 720x1280 or 1280x720.",
    ),
]
Frames = Annotated[int, Field(ge=1, description="Frames, 30 per second: 150 (5 s) or 300 (10 s, twice the cost).")]
Variants = Annotated[int, Field(ge=1, description="Variants to make; each costs extra.")]
Style = Annotated[Literal["natural"], Field(description="Leave out; no other value exists.")]
ModelName = Annotated[str, Field(description="Leave out unless the user names one.")]
FrameIndex = Annotated[int, Field(ge=0, description="Frame where it appears, below n_frames.")]
ImageUrl = Annotated[str, Field(description="Image: http(s) address, or a path inside SORA_IMAGE_DIRS.")]
GenerationId = Annotated[str, Field(description="A finished video: task_… (task_…#2 is its second variant) or gen_….")]
MediaId = Annotated[str, Field(description="media_… id from the gateway's uploads.")]
SourceStart = Annotated[int, Field(ge=0, description="First source frame to use.")]
SourceEnd = Annotated[int, Field(ge=0, description="Last source frame to use.")]
Amount = Annotated[
    float,
    Field(
        ge=1,
        le=8,
        description="How far to depart from the source: 1 (least) to 8 (most).",
    ),
]


class Action(Model):
    """A storyboard beat (create page: `actions[]`).

    `time` is a frame index at 30 frames per second, 0 ≤ time < n_frames (inferred from captured
    tasks); `description` says what is seen from there on.
    """

    time: Annotated[int, Field(ge=0, description="Frame where it begins (seconds x 30), increasing, below n_frames.")]
    description: Annotated[str, Field(description="What is seen from then on; name the subject again.")]


class InpaintItem(Model):
    """An image or an earlier generation to build on (create page: `inpaint_items[]`).

    Exactly one of `url`, `generation_id`, `upload_media_id` is set. Frames are indices; `preset_id`
    is known only from a sample, as null.
    """

    type: Literal["image"] | None = None
    url: ImageUrl | None = None
    frame_index: FrameIndex | None = None
    preset_id: str | None = None
    generation_id: GenerationId | None = None
    upload_media_id: MediaId | None = None
    source_start_frame: SourceStart | None = None
    source_end_frame: SourceEnd | None = None


class SDEdit(Model):
    """What a remix starts from and how far it may go (create page: `sdedit`)."""

    amount: Amount | None = None
    source_generation_id: GenerationId | None = None
    source_upload_media_id: MediaId | None = None


class VideoRequest(Model):
    """The body of `POST /sora/v1/videos`, every field of the create page.

    Single fields are validated here; `check` validates them against each other and against the tables.
    """

    type: Literal["video_gen"] = "video_gen"
    prompt: str | None = None
    width: Width = 854
    height: Height = 480
    n_frames: Frames = 150
    n_variants: Variants = 1
    style: Style = "natural"
    operation: Operation
    model: ModelName | None = None
    actions: list[Action] | None = None
    inpaint_items: list[InpaintItem] = []
    sdedit: SDEdit | None = None

    def body(self) -> dict[str, Any]:
        """Return the body as the page shows it: no nulls, whole numbers as integers, `inpaint_items` always present."""
        return self.model_dump(mode="json", exclude_none=True)

    def cost(self, capabilities: Capabilities) -> Cost | None:
        """Return the relative cost (480x480, 5 s, one variant = 1.0), or None if no price is known."""
        return capabilities.cost(self.width, self.height, self.n_frames, self.n_variants)

    def check(self, limits: Capabilities) -> None:
        """Raise InvalidInput naming everything that must not be sent (rules inferred unless the page gives them)."""
        if too_long := list(_length_problems(self, limits.max_prompt_length)):
            raise InvalidInput(too_long)  # a text of unbounded length is not examined further
        problems = [*_table_problems(self, limits), *_item_problems(self), *_operation_problems(self, limits)]
        if problems:
            raise InvalidInput(problems)


TOTAL_LENGTH_FACTOR = 10
"""The prompt and the descriptions together may be this many times as long as one text."""


def _length_problems(request: VideoRequest, limit: int) -> Iterator[Problem]:
    """Yield texts that are too long: single ones, and the prompt with all descriptions. No maximum is documented."""
    prompts = {"prompt": request.prompt}
    prompts |= {f"actions[{i}].description": action.description for i, action in enumerate(request.actions or [])}
    others = {
        f"inpaint_items[{i}].{name}": value
        for i, item in enumerate(request.inpaint_items)
        for name, value in item
        if isinstance(value, str)
    }
    others |= {name: value for name, value in request.sdedit or () if isinstance(value, str)}
    lengths = {name: len(text) for name, text in (prompts | others).items() if text is not None}
    for name, length in lengths.items():
        if length > limit:
            yield Problem(name, f"is {length} characters long", _up_to(limit))
    total = sum(lengths.get(name, 0) for name in prompts)
    if total > limit * TOTAL_LENGTH_FACTOR:
        reason = f"are {total} characters long in total"
        yield Problem("prompt, actions[].description", reason, _up_to(limit * TOTAL_LENGTH_FACTOR))


def _up_to(limit: int) -> Message:
    return f"at most {limit}", *_raise_hint("max_prompt_length")


def _raise_hint(field: str) -> tuple[Part, ...]:
    return " (more through the setting ", Setting(field), ")"


MAX_SIDE = 8192
"""Pixels. A value far above what any model makes is a mistake, and a self-hosted server may run out of memory on it."""
MAX_FRAMES = 18_000
"""Likewise for lengths."""


def _table_problems(request: VideoRequest, limits: Capabilities) -> list[Problem]:
    problems = []
    if not limits.any_size and (request.width, request.height) not in limits.sizes:
        allowed = ", ".join(f"{w}x{h}" for w, h in sorted(limits.sizes))
        problems.append(
            Problem(
                "width, height",
                f"{request.width}x{request.height} is not a documented size",
                (allowed, *_raise_hint("extra_sizes")),
            )
        )
    if not limits.any_length and request.n_frames not in limits.lengths:
        allowed = ", ".join(f"{frames} ({frames / FPS:g} s)" for frames in sorted(limits.lengths))
        problems.append(
            Problem(
                "n_frames",
                f"{request.n_frames} is not a documented length",
                (allowed, *_raise_hint("extra_frames")),
            )
        )
    if limits.any_size and max(request.width, request.height) > MAX_SIDE:
        reason = f"{request.width}x{request.height} is larger than any server makes"
        problems.append(Problem("width, height", reason, f"at most {MAX_SIDE} pixels a side"))
    if limits.any_length and request.n_frames > MAX_FRAMES:
        reason = f"{request.n_frames} is longer than any server makes"
        problems.append(Problem("n_frames", reason, f"at most {MAX_FRAMES} ({MAX_FRAMES / FPS:g} s)"))
    if limits.models and request.model is not None and request.model not in limits.models:
        quoted_model = quoted(request.model, 60)
        problems.append(Problem("model", f"{quoted_model} is not accepted", ", ".join(limits.models)))
    if request.n_variants > limits.max_variants:
        problems.append(
            Problem(
                "n_variants",
                f"{request.n_variants} is too many",
                (f"1 to {limits.max_variants}", *_raise_hint("max_variants")),
            )
        )
    return problems


def _item_problems(request: VideoRequest) -> list[Problem]:
    problems = []
    for i, item in enumerate(request.inpaint_items):
        path = f"inpaint_items[{i}]"
        sources = [name for name in ("url", "generation_id", "upload_media_id") if getattr(item, name) is not None]
        if len(sources) != 1:
            named = " and ".join(sources) if sources else "none of them"
            takes_videos = request.operation != "simple_compose"
            allowed = "url, generation_id, upload_media_id" if takes_videos else "url, upload_media_id"
            problems.append(Problem(path, f"{named} given", f"exactly one of {allowed}"))
        problems += _blank_ids(item, f"{path}.", ("generation_id", "upload_media_id"))
        if item.url is not None and not _is_address(item.url):
            problems.append(
                Problem(f"{path}.url", "is not an http(s) address", "one such as https://example.com/cat.png")
            )
        if item.frame_index is not None and item.frame_index >= request.n_frames:
            problems.append(
                Problem(f"{path}.frame_index", f"{item.frame_index} is past the end", f"0 to {request.n_frames - 1}")
            )
        start, end = item.source_start_frame, item.source_end_frame
        if start is not None and end is not None and start > end:
            problems.append(Problem(f"{path}.source_start_frame", f"{start} is after source_end_frame {end}"))
    return problems


def _blank_ids(holder: Model, prefix: str, names: tuple[str, ...]) -> list[Problem]:
    blank = [name for name in names if (text := getattr(holder, name)) is not None and not text.strip()]
    return [Problem(prefix + name, "is blank") for name in blank]


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return (
            re.fullmatch(r"https?://\S+", text, re.IGNORECASE) is not None and bool(parts.hostname) and parts.port != 0
        )
    except ValueError:
        return False


def _operation_problems(request: VideoRequest, limits: Capabilities) -> list[Problem]:
    problems = []
    has_prompt = bool(request.prompt and clean(request.prompt))
    match request.operation:
        case "simple_compose":
            if not has_prompt and not request.inpaint_items:
                problems.append(Problem("prompt", "is blank", ("text, or an image in ", Argument("inpaint_items"))))
        case "storyboard":
            problems += _action_problems(request)
        case "remix":
            if not has_prompt:
                problems.append(Problem("prompt", "is blank", "text that says what to change"))
            edit = request.sdedit or SDEdit()
            problems += _blank_ids(edit, "", ("source_generation_id", "source_upload_media_id"))
            sources = [edit.source_generation_id, edit.source_upload_media_id]
            if sources.count(None) != 1:
                problems.append(
                    Problem(
                        "source",
                        "none given" if sources.count(None) else "two given",
                        "exactly one of source_generation_id (gen_… or task_…), source_upload_media_id",
                    )
                )
        case "blend":
            if len(request.inpaint_items) != 2:
                problems.append(_source_count_problem(len(request.inpaint_items), request.cost(limits)))
    return problems


def _source_count_problem(number: int, cost: Cost | None) -> Problem:
    """Return the problem of a blend without exactly two sources; with more, say how to blend them and at what cost."""
    if number < 2:
        return Problem("inpaint_items", f"{number} given", "exactly two")
    price = describe_cost(cost)
    allowed = f"exactly two. Blend two, then the result with the next: {number - 1} paid calls, each for {price}"
    return Problem("inpaint_items", f"{number} given", allowed)


def _action_problems(request: VideoRequest) -> list[Problem]:
    actions = request.actions or []
    if not actions and not request.inpaint_items:
        allowed = ("at least one action, or an item in ", Argument("inpaint_items"))
        return [Problem("actions", "none given", allowed)]
    problems = []
    for i, action in enumerate(actions):
        if not clean(action.description):
            problems.append(Problem(f"actions[{i}].description", "is blank", "what is seen from that frame on"))
        if action.time >= request.n_frames:
            problems.append(
                Problem(
                    f"actions[{i}].time",
                    f"frame {action.time} is past the end of {request.n_frames} frames",
                    f"0 to {request.n_frames - 1} (a frame, {FPS} per second)",
                )
            )
        if i and action.time <= actions[i - 1].time:
            problems.append(
                Problem(
                    f"actions[{i}].time",
                    f"{action.time} does not come after {actions[i - 1].time}",
                    "frames that increase, each once",
                )
            )
    return problems
