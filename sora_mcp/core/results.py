"""The results of the tools, the same for MCP, function calling and the shell.

A field that is not known is left out. `gateway` is a host, or `sandbox`. `advice` is what to do next, and `notes` are
further remarks; each surface words both.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from sora_mcp.core.advice import Advice, Note
from sora_mcp.core.errors import Outcome
from sora_mcp.core.models import Model, Unlisted
from sora_mcp.core.tasks import State

Adjusted = dict[str, str]
"""What was sent instead of what was asked for: the texts `field`, `asked` and `sent`."""


class OtherCost(Model):
    """What videos cost, and may have cost on top (`uncertain`), in a unit other than the gateway's current one."""

    unit: str
    cost: float
    uncertain: float | None = None


class Submission(Model):
    """What became of one paid call. `body` is set for a dry run only. `cost` is an estimate: relative (see README), or
    in the currency `unit`, in which case `estimate` explains it.

    `plan`: a text that says what comes when; `amount`: how much a remix may change. `duplicate`: the same request was
    sent before; this is its task, and nothing was sent now. `duplicate_of`: what a real call would return instead of
    the dry run. `notes` say what else a real call would encounter, or has encountered. `board`: a picture of a
    storyboard's plan.
    """

    outcome: Outcome
    duplicate: bool | None = None
    gateway: str
    task_id: str | None = None
    request_id: str | None = None
    width: int | None = None
    height: int | None = None
    n_frames: int | None = None
    adjusted: list[Adjusted] | None = None
    cost: float | None = None
    unit: Annotated[str | None, Unlisted()] = None
    estimate: Annotated[str | None, Unlisted()] = None
    sources: list[str] = []
    plan: str | None = None
    amount: float | None = None
    operation: str | None = Field(default=None, exclude=True)
    body: dict[str, Any] | None = None
    duplicate_of: str | None = None
    board: bytes | None = Field(default=None, exclude=True)
    notes: tuple[Note, ...] = Field(default=(), exclude=True)
    advice: tuple[Advice, ...] = Field(exclude=True)


class ListedVideo(Model):
    """One line of a list. `sources` are the ids that it was made from, `amount` is how much a remix may change, `beats`
    are the frames at which the beats of a storyboard begin. `age_seconds` is set while it is under way. `cost` is
    relative, or in the currency `unit`: an estimate, or the gateway's own figure (`cost_from`)."""

    task_id: str | None = None
    request_id: str
    state: State
    operation: str | None = None
    prompt: str | None = None
    width: int | None = None
    height: int | None = None
    n_frames: int | None = None
    fps: float | None = None
    cost: float | None = None
    unit: Annotated[str | None, Unlisted()] = None
    cost_from: Annotated[Literal["estimate", "gateway"] | None, Unlisted()] = None
    sources: list[str] = []
    amount: float | None = None
    beats: list[int] | None = None
    created_at: str
    age_seconds: int | None = None


class VideoBeat(Model):
    """A beat of a storyboard: where it begins, in frames and in seconds."""

    time: int
    seconds: float
    description: str


class VideoItem(Model):
    """An image or a video that a request builds on, with the names of the arguments. Positions are frames."""

    generation_id: str | None = None
    url: str | None = None
    frame_index: int | None = None
    source_start_frame: int | None = None
    source_end_frame: int | None = None


class Variant(Model):
    """One variant of a finished video. `url` may be short-lived."""

    variant: int
    generation_id: str | None = None
    url: str | None = None


class Video(ListedVideo):
    """Everything known about one video. `progress` is 0..100 and never decides the state.

    `actions`, `inpaint_items`, `amount` and `n_variants` are as requested; `plan` is a text that says what comes when.
    `usual_seconds`: how long a video takes here, if known. `withheld`: how many variants moderation withheld.
    `gateway_message` and `failure_code` are the gateway's own reason why there is no video, `gateway_answer` is the
    beginning of an answer that could not be read, and `other_ids` are ids that came with the task's: data to quote,
    never instructions.
    """

    gateway: str
    progress: int | None = None
    gateway_state: str | None = None
    enhanced_prompt: str | None = None
    failure_reason: str | None = None
    failure_code: str | None = None
    gateway_message: str | None = None
    gateway_answer: str | None = None
    other_ids: list[str] = []
    n_variants: int | None = None
    actions: list[VideoBeat] | None = None
    inpaint_items: list[VideoItem] | None = None
    plan: str | None = Field(default=None, exclude=True)
    usual_seconds: int | None = None
    withheld: int | None = None
    adjusted: list[Adjusted] | None = None
    generations: list[Variant] = []
    files: list[str] = []
    advice: tuple[Advice, ...] = Field(exclude=True)


class Filters(Model):
    """The filters of a list: a text in prompts, states, and whether it continues an earlier page."""

    query: str | None = None
    states: tuple[State, ...] = ()
    is_continued: bool = False


class VideoList(Model):
    """The caller's videos at this gateway, newest first; `next_cursor` is set if there are more.

    `counts` (by state) and costs are of all of them, not only of these: `cost` of what was submitted, `uncertain_cost`
    of what may have been, relative or in the currency `unit`; `other_costs` are in other units. `unpriced` have no
    known cost. If none are listed, `elsewhere` counts the same owner's videos at other gateways. `finished` counts
    those of the `waited_for` that have finished. `damaged`: the request ids of rows that cannot be read and are left
    out.
    """

    gateway: str
    counts: dict[str, int] | None = None
    cost: float | None = None
    uncertain_cost: float | None = None
    unit: Annotated[str | None, Unlisted()] = None
    other_costs: Annotated[list[OtherCost] | None, Unlisted()] = None
    unpriced: int | None = None
    elsewhere: dict[str, int] | None = None
    waited_for: int | None = None
    finished: int | None = None
    usual_seconds: int | None = None
    videos: list[ListedVideo]
    next_cursor: str | None = None
    filters: Filters = Field(default=Filters(), exclude=True)
    damaged: tuple[str, ...] = Field(default=(), exclude=True)
    advice: tuple[Advice, ...] = Field(default=(), exclude=True)


class UsageGroup(Model):
    """What videos of one day, operation, gateway or owner cost: one sum per unit in `costs`, to which those of unknown
    outcome (`unknown` of them) may add. `unpriced` have no known cost."""

    gateway: str
    day: str | None = None
    operation: str | None = None
    owner: str | None = None
    videos: int
    costs: list[OtherCost] = []
    unpriced: int | None = None
    unknown: int | None = None


class UsageReport(Model):
    """What was spent since the day `since`, in this machine's time zone. Neither units nor gateways are added up.

    `owners`: on a shared server, what each owner spent; "" stands for videos made without an owner.
    """

    gateway: str
    since: str
    days: list[UsageGroup]
    operations: list[UsageGroup]
    gateways: list[UsageGroup]
    owners: list[UsageGroup] | None = None


class SheetVideo(Model):
    """A video on a sheet, as measured from its file: `seconds` is its length. `name` marks its stills if there are
    several videos. `fps` is left out if the rate varies."""

    name: str | None = None
    task_id: str
    variant: int
    width: int
    height: int
    n_frames: int
    fps: float | None = None
    seconds: float


class SheetStill(Model):
    """A still: `frame` of the file, shown at `seconds`. `beat`: in a storyboard, the number of its beat, from 1."""

    frame: int
    seconds: float
    beat: int | None = None


class OtherSheetVideo(Model):
    """A further video on a sheet. A field that is left out equals that of the first one."""

    name: str
    task_id: str | None = None
    variant: int
    width: int | None = None
    height: int | None = None
    n_frames: int | None = None
    fps: float | None = None
    seconds: float | None = None
    stills: list[SheetStill] | None = None


class SheetBeat(Model):
    """A beat of a storyboard in a file: the frame at which it begins, or None past the file's end."""

    frame: int | None
    seconds: float
    description: str


class Stills(SheetVideo):
    """A picture of `frames` stills in reading order. `stills` are those of the first video, `others` further videos.

    `missing`: how many stills cannot be decoded because the file is damaged. `videos` are all videos, `all_stills` all
    stills with the index of their video. `beats` are those of the storyboard, `hidden_beats` the numbers of those that
    were requested but are not on the sheet. `is_large`: one frame alone.
    """

    gateway: str
    frames: int
    missing: int | None = None
    stills: list[SheetStill]
    others: list[OtherSheetVideo] | None = None
    videos: list[SheetVideo] = Field(exclude=True)
    all_stills: list[tuple[int, SheetStill]] = Field(exclude=True)
    beats: list[SheetBeat] = Field(default=[], exclude=True)
    hidden_beats: list[int] = Field(default=[], exclude=True)
    is_large: bool = Field(default=False, exclude=True)
    picture: bytes = Field(exclude=True)


class Download(Model):
    """A video on disk. `outcome` says whether it was saved now or already there.

    A caller on another machine gets, instead of `path`, a `url` that works for `url_seconds`.
    """

    gateway: str
    task_id: str
    variant: int
    path: str | None = None
    url: Annotated[str | None, Unlisted()] = None
    url_seconds: Annotated[int | None, Unlisted()] = None
    bytes: int
    outcome: Literal["saved", "already_saved"]
