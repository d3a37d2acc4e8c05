"""The documented sizes and lengths, and what they cost relative to each other."""

from __future__ import annotations

from sora_mcp.core.capabilities import Capabilities, Size

SIZES: dict[tuple[int, int], Size] = {
    (480, 480): Size("1:1", "480p", 1.0),
    (720, 720): Size("1:1", "720p", 1.5),
    (480, 854): Size("9:16", "480p", 1.25),
    (854, 480): Size("16:9", "480p", 1.25),
    (720, 1280): Size("9:16", "720p", 3.0),
    (1280, 720): Size("16:9", "720p", 3.0),
}
"""Width and height in pixels → size (create page; costs from one public price list)."""

LENGTHS: dict[int, float] = {150: 1.0, 300: 2.0}
"""Frames → cost factor (create page; the factor from one public price list)."""

CAPABILITIES = Capabilities(sizes=SIZES, lengths=LENGTHS, models=("turbo",))
"""What the pages document; of variants and texts they give no maximum (inferred)."""
