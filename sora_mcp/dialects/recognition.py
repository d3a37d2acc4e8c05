"""Recognizing the type of server at an address by free requests: no POST is ever sent to find out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sora_mcp.config.endpoint import OPENROUTER, VIDEOS
from sora_mcp.dialects.protocol import Call
from sora_mcp.dialects.replies import Reply, parse_json

PROBE_CALLS = tuple(Call(method="GET", path=path) for path in ("/v1/models", "/health", "/api/v1/videos/models"))
"""The calls whose replies are needed: all are free everywhere."""

_PROFILES_BY_OWNER = {"vllm": "vllm-omni", "sglang": "sglang", "tensorrt": "tensorrt-llm", "trtllm": "tensorrt-llm"}
"""A part of what a server names as the owner of its models → its profile."""


def recognize(replies: Sequence[Reply | None]) -> str | None:
    """Return the name of the dialect of a server; None if its replies fit several."""
    models, health, catalogue = replies
    if any("supported_durations" in each for each in _entries(catalogue) or () if isinstance(each, dict)):
        return OPENROUTER
    for owner in _owners(models):
        for word, profile in _PROFILES_BY_OWNER.items():
            if word in owner.lower():
                return f"{VIDEOS}:{profile}"
    body = parse_json(health) if health is not None and health.status == 200 else None
    is_healthy = isinstance(body, dict) and body.get("status") == "healthy"
    return f"{VIDEOS}:vllm-omni" if is_healthy else None


def lists_models(replies: Sequence[Reply | None]) -> bool:
    """Whether a server has a list of models, as all servers with `/v1/videos` have."""
    return _entries(replies[0]) is not None


def _entries(reply: Reply | None) -> list[Any] | None:
    body = parse_json(reply) if reply is not None and reply.status == 200 else None
    entries = body.get("data") if isinstance(body, dict) else None
    return entries if isinstance(entries, list) else None


def _owners(reply: Reply | None) -> list[str]:
    entries = _entries(reply) or []
    return [str(each.get("owned_by")) for each in entries if isinstance(each, dict)]
