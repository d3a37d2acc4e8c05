"""`storyboard_video`: a video with beats at given frames, and with images or videos as cards."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticCustomError

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.models import Action, GenerationId, Model, Operation, SourceEnd, SourceStart, VideoRequest
from sora_mcp.core.results import Submission
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import quoted
from sora_mcp.studio import Studio
from sora_mcp.tools import sentences
from sora_mcp.tools.caller import Caller
from sora_mcp.tools.paid import COST_NOTE, SOURCE_NOTE, ImageItem, Paid, body_items, submit
from sora_mcp.tools.published import PublishedSubmission
from sora_mcp.tools.tool import Tool


class FromSeconds(int):
    """A frame that was given in seconds, with their unit."""


def _frame(value: Any, read: ValidatorFunctionWrapHandler) -> int:
    """Parse a frame, also from seconds such as `"2.5s"`; a fraction of a frame is refused."""
    if isinstance(value, str) and _is_in_seconds(value):
        frame = float(value.strip()[:-1]) * FPS
        if not 0 <= frame < _FRAME_LIMIT:
            raise PydanticCustomError("sora", f"lies outside the video; allowed: {_ALLOWED_TIME}")
        return FromSeconds(round(frame))
    if (seconds := _fractional_frame(value)) is not None:
        reason = f"is {seconds:g}, which is not a whole frame ({FPS} per second)"
        message = f'{reason}; allowed: {round(seconds * FPS)}, or "{seconds:g}s", if you meant seconds'
        raise PydanticCustomError("sora", "{words}", {"words": message})
    if isinstance(value, str) and value.strip() and _number(value) is None:
        message = f"{quoted(value, 60)} is not accepted; allowed: {_ALLOWED_TIME}"
        raise PydanticCustomError("sora", "{words}", {"words": message})
    return int(read(value))


_ALLOWED_TIME = f'a frame from 0 on ({FPS} per second), or seconds such as "2.5s"'
_FRAME_LIMIT = 1e9
"""Frame numbers of every video are below this."""


def _is_in_seconds(value: str) -> bool:
    return _number(value.strip()[:-1]) is not None if value.strip()[-1:] in {"s", "S"} else False


def _fractional_frame(value: object) -> float | None:
    """Return a positive number with a fraction, given as a number or a text; None for anything else."""
    number = _number(value) if isinstance(value, float | str) else None
    return number if number is not None and 0 < number < _FRAME_LIMIT and not number.is_integer() else None


def _number(value: float | str) -> float | None:
    try:
        return float(value)
    except ValueError:
        return None


class Beat(Model):
    """A storyboard beat; seconds such as `2.5s` are taken for a frame."""

    time: Annotated[int, Field(ge=0, description=Action.model_fields["time"].description), WrapValidator(_frame)]
    description: Annotated[str, Field(description=Action.model_fields["description"].description)]


class CardItem(ImageItem):
    """An image or an earlier video as a card of a storyboard."""

    generation_id: GenerationId | None = None
    source_start_frame: SourceStart | None = None
    source_end_frame: SourceEnd | None = None


class StoryboardVideo(Paid):
    """Arguments of `storyboard_video`."""

    actions: Annotated[list[Beat], Field(description="Beats in order; each lasts until the next.")] | None = None
    inpaint_items: Annotated[list[CardItem], Field(description=f"What to place. {SOURCE_NOTE}")] = []

    def request(self, operation: Operation, **parts: Any) -> VideoRequest:
        """Return the documented body. Raises InvalidInput if its beats look like seconds."""
        if (problem := _seconds_problem(self.actions or [], self.n_frames)) is not None:
            raise InvalidInput([problem])
        return super().request(operation, **parts)


_MAX_EARLY_FRAME = FPS // 2
"""Frames: half a second. No plan has two or more beats that all begin within it; as seconds, it exceeds every video."""


def _seconds_problem(beats: list[Beat], n_frames: int) -> Problem | None:
    """Return a problem for beats such as 0, 3, 6 in ten seconds: as frames, all would begin in a fifth of a second.

    Times of two or more beats look like seconds if the last plain number is no more than the video's length in seconds,
    or if it is early, whatever that length. A time that was given with its unit is unambiguous, and 0 is the same in
    both.
    """
    times = [beat.time for beat in beats]
    last = max((time for time in times if not isinstance(time, FromSeconds)), default=0)
    is_early = last > 0 and (last <= n_frames // FPS or max(times) <= _MAX_EARLY_FRAME)
    if len(beats) < 2 or not is_early or times != sorted(set(times)):
        return None
    frames = [time if isinstance(time, FromSeconds) else time * FPS for time in times]
    too_late = [f"{frame / FPS:g} s" for frame in frames if frame >= n_frames]
    past_the_end = f" ({too_late[0]} is past the end: the video is {n_frames / FPS:g} s long)" if too_late else ""
    return Problem(
        "actions[].time",
        f"{_listed(times)} are frames ({FPS} per second), but look like seconds: frame {last} is {last / FPS:.2g} s",
        f"{_listed(frames)}, or {_in_quotes(frames)}, if you meant seconds{past_the_end}; "
        f"{_in_quotes(times)} if you meant frames",
    )


def _listed(numbers: list[int]) -> str:
    return ", ".join(map(str, numbers))


def _in_quotes(frames: list[int]) -> str:
    """Format frames as times with their unit; three digits distinguish each frame from the next."""
    return ", ".join(f'"{round(frame / FPS, 3):g}s"' for frame in frames)


async def _run(studio: Studio, arguments: StoryboardVideo, caller: Caller) -> Submission:
    actions = [Action(time=beat.time, description=beat.description) for beat in arguments.actions or []] or None
    items = body_items(arguments.inpaint_items)
    return await submit(studio, arguments, caller, "storyboard", actions=actions, inpaint_items=items)


STORYBOARD_VIDEO = Tool(
    "storyboard_video",
    "Create a video from a storyboard",
    "Make a new video from a timed plan: actions describe what is seen from a given frame on, inpaint_items place "
    "images or parts of earlier videos; give at least one. dry_run draws the plan. For a single continuous scene use "
    "create_video. " + COST_NOTE,
    StoryboardVideo,
    PublishedSubmission,
    _run,
    sentences.render_submission,
    board=lambda submission: submission.board,
    paid=True,
    read_only=False,
    idempotent=False,
    examples=(
        {
            "prompt": "A theatre made of paper",
            "n_frames": 300,
            "actions": [
                {"time": 0, "description": "the curtain opens"},
                {"time": 150, "description": "a paper bird flies towards the camera"},
            ],
        },
    ),
)
