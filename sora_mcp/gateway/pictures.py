"""Fetching an image that somebody named by its address: from public hosts only, wherever the gateway is."""

from __future__ import annotations

import anyio
import httpx

from sora_mcp.core.advice import Correct, TryAgain
from sora_mcp.core.errors import BadReply
from sora_mcp.gateway.address import HiddenHost, open_address
from sora_mcp.gateway.calls import Gateway


class Unfetchable(BadReply):
    """The image cannot be had; `why` is a clause about it."""

    def __init__(self, why: str, *, may_pass: bool) -> None:
        super().__init__(f"The image {why}.", TryAgain() if may_pass else Correct())
        self.why = why
        self.may_pass = may_pass


async def fetch_picture(gateway: Gateway, address: str, *, max_bytes: int, seconds: float) -> bytes:
    """What stands at an http(s) address. The key is never sent there. Raises Unfetchable."""
    try:
        with anyio.fail_after(seconds):
            async with open_address(gateway, address, {}, public=True) as response:
                return await _read(response, max_bytes)
    except HiddenHost:
        raise Unfetchable("lies on a host that is not public, or not known", may_pass=False) from None
    except Unfetchable:
        raise
    except BadReply:
        raise Unfetchable("has an address that leads nowhere", may_pass=False) from None
    except (TimeoutError, httpx.HTTPError):
        raise Unfetchable("could not be fetched in time", may_pass=True) from None


async def _read(response: httpx.Response, max_bytes: int) -> bytes:
    if response.status_code != 200:
        raise Unfetchable(f"has an address that answered with status {response.status_code}", may_pass=False)
    content = bytearray()
    async for chunk in response.aiter_bytes():
        content += chunk
        if len(content) > max_bytes:
            raise Unfetchable(f"is larger than the {max_bytes // 1_000_000} MB that can be sent", may_pass=False)
    return bytes(content)
