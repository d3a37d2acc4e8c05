"""Folders that are taken where none are set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import NotConfigured


def data_folder() -> Path:
    """Where the ledger lies: the platform's data folder. Raises NotConfigured."""
    with _known_home("home"):
        import platformdirs  # noqa: PLC0415 - only where no folder is named

        return platformdirs.user_data_path("sora-mcp")


def video_folder() -> Path:
    """Where videos are saved: `sora` in the user's video folder. Raises NotConfigured."""
    with _known_home("output_dir"):
        import platformdirs  # noqa: PLC0415

        return platformdirs.user_videos_path() / "sora"


@contextmanager
def _known_home(field: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError:
        raise NotConfigured(
            "The home folder of this user is not known.", Do(("Set HOME, or ", variable_of(field), "."))
        ) from None
