"""Reading of requests that all dialects of the sandbox share: the owner and the body."""

from __future__ import annotations

from starlette.requests import Request

from sora_mcp.sandbox.store import owner_id


def owner_from(request: Request) -> str | None:
    """The owner of a request's key; None if it has no valid one."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    is_valid = scheme.lower() == "bearer" and key.startswith("sk-") and key != "sk-invalid"
    return owner_id(key) if is_valid else None


async def read_body(request: Request, max_bytes: int) -> bytes | None:
    """Read the body of a request; None if it exceeds `max_bytes`: the rest is not read then."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > max_bytes:
            return None
    return bytes(content)
