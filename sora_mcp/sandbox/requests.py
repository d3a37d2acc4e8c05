"""What the sandbox's faces read of every request in the same way: whose it is, and its body."""

from __future__ import annotations

from starlette.requests import Request

from sora_mcp.sandbox.store import owner_of


def owner_in(request: Request) -> str | None:
    """Whose key a request carries; None where it has none that is taken."""
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    is_taken = scheme.lower() == "bearer" and key.startswith("sk-") and key != "sk-invalid"
    return owner_of(key) if is_taken else None


async def body_in(request: Request, most: int) -> bytes | None:
    """The body of a request, None where it has more bytes than `most`: then the rest is not read."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            return None
    return bytes(content)
