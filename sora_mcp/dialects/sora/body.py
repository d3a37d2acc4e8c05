"""The body of a create, as documented."""

from __future__ import annotations

from typing import Any, Literal

from sora_mcp.core.models import VideoRequest

SourcePlacement = Literal["nested", "top"]
"""The place of a remix's source: inside `sdedit`, or beside it. The page leaves it open; `nested` is far likelier."""


def body(request: VideoRequest, source_placement: SourcePlacement = "nested") -> dict[str, Any]:
    """Return the body of a create, with the documented fields; only the place of the source varies."""
    fields = request.body()
    if source_placement == "top" and "sdedit" in fields:
        edit = fields["sdedit"]
        fields |= {name: edit.pop(name) for name in list(edit) if name.startswith("source_")}
        if not edit:
            del fields["sdedit"]
    return fields
