"""OpenRouter's `/api/v1/videos`: many hosted models behind one key, each with sizes and lengths of its own. No I/O.

Sources: OpenRouter's pages of the API, and the generated models of its Python SDK `openrouter` 1.3.84 (2026-11).
Nothing here was tried against the live service.
"""

from sora_mcp.dialects.openrouter.dialect import CREATE_PATH, MODELS_PATH, OpenRouter

__all__ = ["CREATE_PATH", "MODELS_PATH", "OpenRouter"]
