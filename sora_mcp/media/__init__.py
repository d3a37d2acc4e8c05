"""Everything that needs PyAV and Pillow: stills of videos, and the sandbox's videos. Both load when first needed."""

from sora_mcp.media.extra import not_installed, require, require_installed
from sora_mcp.media.film import Probe
from sora_mcp.media.layout import arrange
from sora_mcp.media.stills import Reel, Sheet, Still, contact_sheet, overview, probe, sheet
from sora_mcp.media.unviewable import Reason, Unviewable

__all__ = [
    "Probe",
    "Reason",
    "Reel",
    "Sheet",
    "Still",
    "Unviewable",
    "arrange",
    "contact_sheet",
    "not_installed",
    "overview",
    "probe",
    "require",
    "require_installed",
    "sheet",
]
