"""The OpenAI-shaped `/v1/videos` that vLLM-Omni, SGLang, TensorRT-LLM, LiteLLM and new-api serve. No I/O.

What a kind of server takes is data (`profiles`); what comes back is read alike from all of them.
"""

from __future__ import annotations

from sora_mcp.config.settings import Settings
from sora_mcp.dialects.videos.dialect import CREATE_PATH, MODELS_PATH, Videos
from sora_mcp.dialects.videos.profiles import PROFILES, Profile

__all__ = ["CREATE_PATH", "MODELS_PATH", "PROFILES", "Profile", "Videos", "configured"]


def configured(profile: str, settings: Settings) -> Videos:
    """One kind of server by its name, as the settings have it."""
    return Videos.configured(PROFILES[profile], settings)
