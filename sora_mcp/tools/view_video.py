"""`view_video`: stills of a finished video in one picture, or one frame large."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_core import PydanticCustomError

from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.models import Model
from sora_mcp.core.pictures import MAX_STILLS, View
from sora_mcp.core.results import Stills
from sora_mcp.core.tasks import quoted
from sora_mcp.studio import Studio
from sora_mcp.tools import moments
from sora_mcp.tools.caller import Caller
from sora_mcp.tools.stills_sentences import render_stills
from sora_mcp.tools.tool import EXAMPLE_ID, OTHER_EXAMPLE_ID, TaskId, Tool, VariantNumber

_BEATS = {"beats", "beat"}


def _as_text(value: Any) -> Any:
    """Convert a frame that was sent as a number."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:.10g}" if is_number and 0 <= value < _FRAME_LIMIT else value


_FRAME_LIMIT = 1e9
"""Frame numbers of every video are below this."""


def _check_moment(text: str) -> str:
    if text.strip().lower() not in _BEATS:
        try:
            moments.parse(text)
        except moments.InvalidMoment as error:
            raise PydanticCustomError("sora", "{words}", {"words": str(error)}) from None
    return text.strip().lower()


At = Annotated[
    str,
    BeforeValidator(_as_text),
    AfterValidator(_check_moment),
    Field(description='One large frame: "110" or "7.3s"; a range: "2s-5s"; or "beats": the start of each.'),
]


_DEFAULT_FRAMES = 6


class ViewVideo(Model):
    """Arguments of `view_video`. `None` is only ever the absence of an argument."""

    task_id: TaskId
    variant: VariantNumber = 1
    frames: Annotated[
        int, Field(ge=1, le=MAX_STILLS, description="How many stills, evenly spaced; fewer are larger.")
    ] = _DEFAULT_FRAMES
    at: At | None = None
    all_variants: Annotated[bool, Field(description="All variants on one sheet.")] = False
    beside: Annotated[str, Field(description="Id of a second video to compare.")] | None = None

    @property
    def view(self) -> View:
        """What to show. Raises InvalidInput if `at` already determines the number of stills."""
        if self.at is None:
            return View(frames=self.frames)
        at = None if self.at in _BEATS else moments.parse(self.at)
        if isinstance(at, tuple):
            return View(frames=self.frames, span=at)
        if self.frames not in {1, _DEFAULT_FRAMES}:
            reason = f"cannot be combined with {quoted(self.at)}"
            raise InvalidInput([Problem("frames", reason, 'one of the two, or a range such as "2s-5s"')])
        return View(at_beats=True) if at is None else View(at=at)


async def view_video(studio: Studio, arguments: ViewVideo, caller: Caller) -> Stills:
    """Return the requested picture."""
    return await studio.view(
        arguments.task_id,
        arguments.view,
        variant=arguments.variant,
        all_variants=arguments.all_variants,
        beside=arguments.beside,
        picture_format=caller.picture_format,
    )


VIEW_VIDEO = Tool(
    "view_video",
    "View a video",
    "Look at a finished video. Returns stills on one sheet, each with its time, frame and beat, or one large frame: "
    "check them before you call a video done or remix it. To give the user the file use download_video. Free.",
    ViewVideo,
    Stills,
    view_video,
    render_stills,
    picture=lambda result: result.picture,
    examples=(
        {"task_id": EXAMPLE_ID, "at": "7.3s"},
        {"task_id": OTHER_EXAMPLE_ID, "beside": EXAMPLE_ID, "frames": 4},
    ),
)
