"""The body of a create, as the page has it."""

from __future__ import annotations

from typing import Any, Literal

from sora_mcp.core.models import VideoRequest

SourceAt = Literal["nested", "top"]
"""Where a remix names its source: inside `sdedit`, or beside it. The page leaves it open; `nested` is far likelier."""


def body(request: VideoRequest, source_at: SourceAt = "nested") -> dict[str, Any]:
    """The body of a create. The documented request is made of the page's own fields; only the source may move."""
    sent = request.body()
    if source_at == "top" and "sdedit" in sent:
        edit = sent["sdedit"]
        sent |= {name: edit.pop(name) for name in list(edit) if name.startswith("source_")}
        if not edit:
            del sent["sdedit"]
    return sent
