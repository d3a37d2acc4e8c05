"""Lowering a storyboard into the prompt: each beat becomes a shot with its times."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from sora_mcp.core.capabilities import Adjustment
from sora_mcp.core.errors import Problem
from sora_mcp.core.models import Action
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import counted

SHOT_TEMPLATE = "Shot {number} ({start:.1f}-{end:.1f} s): {text}"
"""The format of a beat in the prompt."""
MIN_SHOT_S = 1.0
"""Seconds of the shortest shot: times have one decimal, and no model cuts faster."""


def spans(actions: Sequence[Action], seconds: float) -> list[tuple[float, float]]:
    """Return start and end of each beat, in seconds; the last one ends with the video, which lasts `seconds`."""
    starts = [action.time / FPS for action in actions]
    return list(zip(starts, [*starts[1:], seconds], strict=False))


def problems(actions: Sequence[Action], seconds: float, allowed: str) -> Iterator[Problem]:
    """Yield a problem for each beat that is too short for a shot; `allowed` says which are long enough."""
    for i, (start, end) in enumerate(spans(actions, seconds)):
        if end - start < MIN_SHOT_S - 1e-6:
            problem = f"this beat would last {max(0.0, end - start):.2g} s; a shot in a prompt lasts at least a second"
            yield Problem(f"actions[{i}].time", problem, allowed)


def adjustments(actions: Sequence[Action] | None) -> list[Adjustment]:
    """Return the adjustment of a storyboard: its beats are shots of the prompt."""
    if not actions:
        return []
    number = len(actions)
    return [Adjustment("actions", counted(number, "beat"), f"{counted(number, 'timed shot')} in the prompt")]


def prompt_with_shots(
    prompt: str | None, actions: Sequence[Action], seconds: float, template: str = SHOT_TEMPLATE
) -> str:
    """Return the prompt, and below it every beat once, in order, one per line. No time is past `seconds`."""
    video_end = math.floor(seconds * 10 + 1e-6) / 10
    lines = [prompt.strip()] if prompt and prompt.strip() else []
    for number, (action, (start, end)) in enumerate(zip(actions, spans(actions, seconds), strict=True), 1):
        text = " ".join(action.description.strip().splitlines())
        lines.append(template.format(number=number, start=min(start, video_end), end=min(end, video_end), text=text))
    return "\n".join(lines)
