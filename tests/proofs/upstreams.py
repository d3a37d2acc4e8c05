"""Programs that others wrote for `/v1/videos`, against the sandbox's faces."""

from __future__ import annotations

from workshop import CLIENTS, Told, Workshop, told_by

OPENAI_VIDEOS = "openai==3.57.0"
_FACES = {"vllm-omni": "videos:vllm-omni", "generic": "videos:generic"}


def openai_videos(shop: Workshop) -> Told:
    """The `openai` library as a client of two of the sandbox's faces."""
    python = shop.venv(OPENAI_VIDEOS)
    shown = []
    for face, dialect in _FACES.items():
        with shop.sandbox(dialect) as address:
            shown.append(f"{face}: {told_by(shop.do(python, CLIENTS / 'with_openai_videos.py', address))[1]}")
    return (), "; ".join(shown)
