"""The OpenAI-shaped `/v1/videos` that vLLM-Omni, SGLang, TensorRT-LLM, LiteLLM and new-api serve. No I/O.

What each type of server takes is data (`profiles`); the answers of all of them are read in the same way.
"""

from __future__ import annotations

from sora_mcp.config.settings import Settings
from sora_mcp.dialects.videos.dialect import CREATE_PATH, MODELS_PATH, Videos
from sora_mcp.dialects.videos.profiles import PROFILES, Profile

__all__ = ["CREATE_PATH", "MODELS_PATH", "PROFILES", "Profile", "Videos", "configured"]


def configured(profile: str, settings: Settings) -> Videos:
    """Return the dialect of one type of server by its name, with the settings applied."""
    return Videos.configured(PROFILES[profile], settings)
