"""The Sora "official format": what to send for a request, and how to read what comes back. No I/O.

Sources: the create page (2025-01-15), the query page (2025-02-22), sibling pages of the same family
for files and models, and new-api's source, its siblings' documentation and users' reports for the
words, shapes and errors that replies come in.

A new shape of a reply is a case in `tests/support/reply_shapes.py`.
"""

from __future__ import annotations

from typing import Any, Literal

from sora_mcp.core.models import VideoRequest
from sora_mcp.dialects.sora.creates import read_created
from sora_mcp.dialects.sora.errors import UNKNOWN_NEXT_STEP
from sora_mcp.dialects.sora.free import read_models, read_uploaded
from sora_mcp.dialects.sora.ids import MAX_ID, Created, is_id, quoted
from sora_mcp.dialects.sora.replies import MAX_RETRY_AFTER, Reply, clock_skew
from sora_mcp.dialects.sora.tasks import MAX_GENERATIONS, read_task
from sora_mcp.dialects.sora.words import state_of

CREATE_PATH = "/sora/v1/videos"
FILES_PATH = "/v1/files"
MODELS_PATH = "/v1/models"


def task_path(task_id: str) -> str:
    """The path of one task (query page), with its id percent-encoded. `task_id` must be `is_id`."""
    return f"{CREATE_PATH}/{quoted(task_id)}"


def body(request: VideoRequest, sdedit_source: Literal["nested", "top"] = "nested") -> dict[str, Any]:
    """The body of a create. The page leaves open where a remix names its source; `nested` is far likelier."""
    sent = request.body()
    if sdedit_source == "top" and "sdedit" in sent:
        edit = sent["sdedit"]
        sent |= {name: edit.pop(name) for name in list(edit) if name.startswith("source_")}
        if not edit:
            del sent["sdedit"]
    return sent


__all__ = [
    "CREATE_PATH",
    "FILES_PATH",
    "MAX_GENERATIONS",
    "MAX_ID",
    "MAX_RETRY_AFTER",
    "MODELS_PATH",
    "UNKNOWN_NEXT_STEP",
    "Created",
    "Reply",
    "body",
    "clock_skew",
    "is_id",
    "quoted",
    "read_created",
    "read_models",
    "read_task",
    "read_uploaded",
    "state_of",
    "task_path",
]
