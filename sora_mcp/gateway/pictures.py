"""Fetching an image that a caller named by its address: from public hosts only, wherever the gateway is."""

from __future__ import annotations

import anyio
import httpx

from sora_mcp.core.advice import Correct, TryAgain
from sora_mcp.core.errors import BadReply
from sora_mcp.gateway.address import HiddenHost, open_address
from sora_mcp.gateway.calls import Gateway


class Unfetchable(BadReply):
    """The image cannot be fetched; `reason` is a clause about it."""

    def __init__(self, reason: str, *, is_transient: bool) -> None:
        super().__init__(f"The image {reason}.", TryAgain() if is_transient else Correct())
        self.reason = reason
        self.is_transient = is_transient


async def fetch_picture(gateway: Gateway, address: str, *, max_bytes: int, timeout_s: float) -> bytes:
    """Return the content at an http(s) address. The key is never sent there. Raises Unfetchable."""
    try:
        with anyio.fail_after(timeout_s):
            async with open_address(gateway, address, {}, public=True) as response:
                return await _read(response, max_bytes)
    except HiddenHost:
        raise Unfetchable("is on a host that is not public, or not known", is_transient=False) from None
    except Unfetchable:
        raise
    except BadReply:
        raise Unfetchable("has an address that leads nowhere", is_transient=False) from None
    except (TimeoutError, httpx.HTTPError):
        raise Unfetchable("could not be fetched in time", is_transient=True) from None


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    if response.status_code != 200:
        raise Unfetchable(f"has an address that answered with status {response.status_code}", is_transient=False)
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > max_bytes:
            raise Unfetchable(f"is larger than the {max_bytes // 1_000_000} MB that can be sent", is_transient=False)
    return bytes(content)
