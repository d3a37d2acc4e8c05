"""Default folders."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import NotConfigured


def data_folder() -> Path:
    """Return the default folder of the ledger: the platform's data folder. Raises NotConfigured."""
    with _home_required("home"):
        import platformdirs  # noqa: PLC0415 - only if no folder is set

        return platformdirs.user_data_path("sora-mcp")


def video_folder() -> Path:
    """Return the default folder of the videos: `sora` in the user's video folder. Raises NotConfigured."""
    with _home_required("output_dir"):
        import platformdirs  # noqa: PLC0415

        return platformdirs.user_videos_path() / "sora"


@contextmanager
def _home_required(field: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError:
        raise NotConfigured(
            "The home folder of this user is not known.", Do(("Set HOME, or ", variable_of(field), "."))
        ) from None
