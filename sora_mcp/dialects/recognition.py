"""What kind of server stands at an address, as far as free requests tell: nothing is ever guessed with a POST."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sora_mcp.config.endpoint import OPENROUTER, VIDEOS
from sora_mcp.dialects.protocol import Call
from sora_mcp.dialects.replies import Reply, parsed

LOOKS = tuple(Call(method="GET", path=path) for path in ("/v1/models", "/health", "/api/v1/videos/models"))
"""What is asked for: all are free everywhere."""

_OWNERS = {"vllm": "vllm-omni", "sglang": "sglang", "tensorrt": "tensorrt-llm", "trtllm": "tensorrt-llm"}
"""Who a server says that its models belong to (a part of the word) → its profile."""


def recognized(replies: Sequence[Reply | None]) -> str | None:
    """The name of the dialect that a server should be spoken to in; None where what it says fits many."""
    models, health, catalogue = replies
    if any("supported_durations" in each for each in _entries(catalogue) or () if isinstance(each, dict)):
        return OPENROUTER
    for owner in _owners(models):
        for word, profile in _OWNERS.items():
            if word in owner.lower():
                return f"{VIDEOS}:{profile}"
    said = parsed(health) if health is not None and health.status == 200 else None
    is_healthy = isinstance(said, dict) and said.get("status") == "healthy"
    return f"{VIDEOS}:vllm-omni" if is_healthy else None


def lists_models(replies: Sequence[Reply | None]) -> bool:
    """Whether a server has a list of models, as all have that speak `/v1/videos`."""
    return _entries(replies[0]) is not None


def _entries(reply: Reply | None) -> list[Any] | None:
    said = parsed(reply) if reply is not None and reply.status == 200 else None
    entries = said.get("data") if isinstance(said, dict) else None
    return entries if isinstance(entries, list) else None


def _owners(reply: Reply | None) -> list[str]:
    entries = _entries(reply) or []
    return [str(each.get("owned_by")) for each in entries if isinstance(each, dict)]
