"""Examples from the documentation pages of the API."""

from __future__ import annotations

from typing import Any

PAGE_BODY: dict[str, Any] = {
    "type": "video_gen",
    "prompt": "fly man",
    "n_variants": 1,
    "n_frames": 150,
    "height": 480,
    "width": 854,
    "style": "natural",
    "inpaint_items": [],
    "operation": "simple_compose",
}
"""The create page's example; its one item with an empty url stands for "none"."""
