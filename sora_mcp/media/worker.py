"""The process that decodes videos: `python -m sora_mcp.media.worker`, started by `viewer` for one job."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import asdict

from sora_mcp.core.errors import NotConfigured
from sora_mcp.core.pictures import Moment, View
from sora_mcp.media import child
from sora_mcp.media.board import Board, BoardCard, draw
from sora_mcp.media.extra import require
from sora_mcp.media.frames import read_frame
from sora_mcp.media.stills import Reel, sheet
from sora_mcp.media.unviewable import NotInFilm, Unviewable

Answer = tuple[dict[str, Any], bytes]
"""The description of a picture, and the picture."""


def main() -> None:
    """Run the job that the parent requests."""
    request, _ = child.read_request()
    child.send_answer(*_run_job(request["job"], request["details"]))


def _run_job(job: str, details: Any) -> Answer:
    """Return the description of a picture, or the reason for there being none, and the picture."""
    try:
        require()
    except NotConfigured:
        return {"reason": "not_installed"}, b""
    try:
        return _JOBS[job](details)
    except Unviewable as error:
        return {"reason": error.reason, "name": error.name}, b""
    except NotInFilm as error:
        return {"not_in_film": [error.reel, asdict(error.moment), asdict(error.probe)]}, b""
    except (MemoryError, RuntimeError, ImportError):  # no memory, none for a thread, none for a library
        return {"reason": "memory"}, b""


def _sheet(details: Any) -> Answer:
    reels = [
        Reel(Path(each["path"]), each["title"], tuple((second, text) for second, text in each["beats"]))
        for each in details["reels"]
    ]
    view_fields = details["view"]
    at, span = view_fields.pop("at"), view_fields.pop("span")
    view = View(
        **view_fields, at=Moment(**at) if at else None, span=(Moment(**span[0]), Moment(**span[1])) if span else None
    )
    result = sheet(reels, view, details["picture_format"])
    stills, probes = list(map(asdict, result.stills)), list(map(asdict, result.probes))
    return {"probes": probes, "stills": stills, "beats": result.beats, "missing": result.missing}, result.picture


def _board(details: Any) -> Answer:
    fields = details["board"]
    cards = tuple(BoardCard(**each) for each in fields.pop("cards"))
    return {}, draw(Board(**fields, cards=cards), details["picture_format"])


def _frame(details: Any) -> Answer:
    frame = read_frame(Path(details["path"]), details["index"], details["max_bytes"])
    return {"probe": asdict(frame.probe)}, frame.picture


_JOBS: Mapping[str, Callable[[Any], Answer]] = {"sheet": _sheet, "board": _board, "frame": _frame}


if __name__ == "__main__":
    main()
