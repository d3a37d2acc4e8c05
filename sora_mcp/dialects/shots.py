"""A storyboard lowered into the prompt: each beat a shot with its times."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sora_mcp.core.models import Action
from sora_mcp.core.tables import FPS

SHOT = "Shot {number} ({start:.1f}-{end:.1f} s): {text}"
"""How a beat stands in the prompt."""
LEAST_S = 1.0
"""Seconds of the shortest shot: times have one decimal, and no model cuts faster."""


def spans(actions: Sequence[Action], seconds: float) -> list[tuple[float, float]]:
    """When each beat begins and ends, in seconds; the last one ends with the video, which lasts `seconds`."""
    begins = [action.time / FPS for action in actions]
    return list(zip(begins, [*begins[1:], seconds], strict=False))


def in_prompt(prompt: str | None, actions: Sequence[Action], seconds: float, form: str = SHOT) -> str:
    """The prompt, and below it every beat once, in order, each on a line of its own. No time lies past `seconds`."""
    end_of_all = math.floor(seconds * 10 + 1e-6) / 10
    lines = [prompt.strip()] if prompt and prompt.strip() else []
    for number, (action, (start, end)) in enumerate(zip(actions, spans(actions, seconds), strict=True), 1):
        text = " ".join(action.description.strip().splitlines())
        lines.append(form.format(number=number, start=min(start, end_of_all), end=min(end, end_of_all), text=text))
    return "\n".join(lines)
