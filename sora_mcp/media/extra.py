"""Whether the extra `media` (PyAV and Pillow) is installed."""

from __future__ import annotations

import shlex
import sys
from importlib.util import find_spec

from sora_mcp.core.advice import AskUser, LocalText
from sora_mcp.core.errors import NotConfigured


def require() -> None:
    """Load PyAV and Pillow. Raises NotConfigured if the extra `media` is not installed or cannot be loaded."""
    try:
        import av  # noqa: F401, PLC0415
        import PIL.Image  # noqa: F401, PLC0415
    except ImportError:
        raise not_installed() from None


_INSTALL = ["-m", "pip", "install", "av", "pillow"]


def require_installed() -> None:
    """Raise NotConfigured if the extra `media` is not installed; nothing is loaded into this process."""
    if find_spec("av") is None or find_spec("PIL") is None:
        raise not_installed()


def not_installed() -> NotConfigured:
    """The error for an extra `media` that is missing or cannot be loaded."""
    return NotConfigured(
        "This needs the extra `media` (PyAV and Pillow), which is not installed.",
        AskUser(("install it: ", LocalText(shlex.join([sys.executable, *_INSTALL]), f"python {shlex.join(_INSTALL)}"))),
    )
