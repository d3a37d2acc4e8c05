"""What a scripted model does next: it errs once, creates, waits, and then says what it was told last."""

from __future__ import annotations

import re
from typing import Any


def next_call(told: list[str]) -> tuple[str, dict[str, Any]] | None:
    """The tool and its arguments after what the tools answered so far; None at the end."""
    match told:
        case []:
            return "create_video", {"prompt": "a boat", "width": 481, "height": 480}
        case [refused]:
            assert "481x480 is not a documented size" in refused
            return "create_video", {"prompt": "a paper boat", "width": 480, "height": 480}
        case [_, made]:
            task = re.search(r"task_(?!id\b)\w+", made)
            assert task, made
            return "get_video", {"task_id": task[0], "wait_seconds": 30}
        case _:
            return None
