"""The sandbox as a hosted router that speaks OpenRouter's `/api/v1/videos`, with three invented models."""

from sora_mcp.sandbox.openrouter.routes import CREATE_PATH, OpenRouterRoutes

__all__ = ["CREATE_PATH", "OpenRouterRoutes"]
