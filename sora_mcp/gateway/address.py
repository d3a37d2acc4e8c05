"""Opening the address that the gateway gave for a video: only where it may lead.

An address in a reply is data from outside. It is fetched without the key, over http(s), from public
addresses only (unless the gateway itself is local), and the address that was checked is the one that
is connected to, at every redirect.

Behind a proxy the last part does not hold: the proxy is told the host's name (TLS needs it) and looks it up
again. What the name means here is still checked; a name that only the proxy knows is left to the proxy.
"""

from __future__ import annotations

import ipaddress
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx

from sora_mcp.config.addresses import is_local_host
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import BadReply
from sora_mcp.dialects.protocol import WEB
from sora_mcp.gateway.calls import Gateway
from sora_mcp.gateway.client import location_of, logged

MAX_REDIRECTS = 5

LATER = Do("Try again: nothing incomplete is left behind, and downloading costs nothing.")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class HiddenHost(BadReply):
    """An address leads to a host that is not on the public internet, or is not known."""


@asynccontextmanager
async def open_address(
    gateway: Gateway, address: str, headers: Mapping[str, str], *, public: bool = False
) -> AsyncIterator[httpx.Response]:
    """The answer at `address`, whatever its status, after its redirects. Raises BadReply or httpx.HTTPError.

    A path (which a dialect made, and no reply holds) stands at the gateway's own address and is asked for with the key;
    a redirect from there is followed without. `public`: from public hosts only, even where the gateway is local.
    """
    is_own = address.startswith("/") and not public
    url = httpx.URL(gateway.endpoint.base_url + address) if is_own else _read(gateway, httpx.URL(), address)
    for number in range(MAX_REDIRECTS + 1):
        has_key = is_own and number == 0
        async with _request(gateway, url, headers, has_key=has_key, public=public) as response:
            location = location_of(response)
            if response.status_code not in _REDIRECTS or not location:
                yield response
                return
            url = _read(gateway, url, location)
    raise BadReply(f"The video's address redirects more than {MAX_REDIRECTS} times.", LATER)


def _read(gateway: Gateway, base: httpx.URL, address: str) -> httpx.URL:
    """An address that may be relative to `base`: http(s) with a host, or a scheme of the gateway's own.

    Raises BadReply.
    """
    try:
        url = base.join(address)
        host, port = url.host, url.port or 0
    except (httpx.InvalidURL, ValueError):
        raise BadReply("The gateway gave an address for the video that cannot be read.", LATER) from None
    if url.scheme in gateway.served:
        return httpx.URL(gateway.served[url.scheme] + url.path.rpartition("/")[2])
    if url.scheme not in WEB or not host or port > 65535:
        raise BadReply("The gateway gave an address for the video that is not http(s).")
    return url


@asynccontextmanager
async def _request(
    gateway: Gateway, url: httpx.URL, more_headers: Mapping[str, str], *, has_key: bool, public: bool
) -> AsyncIterator[httpx.Response]:
    headers = dict(more_headers) | (gateway.client.key_header() if has_key else {})
    extensions: dict[str, Any] = {}
    client = gateway.client.for_files(url, outside=public)
    asked = url
    if public or not (has_key or gateway.endpoint.local):
        proxied = gateway.client.proxy_for(url, outside=public) is not None
        address = await _public_address(url, proxied=proxied)
        if not proxied:
            headers["Host"] = url.netloc.decode("ascii")
            extensions["sni_hostname"] = url.host
            url = url.copy_with(host=address)
    with logged("GET", asked) as line:
        async with client.stream("GET", url, headers=headers, extensions=extensions) as response:
            line["status"] = response.status_code
            yield response


async def _public_address(url: httpx.URL, *, proxied: bool) -> str:
    """The address to connect to. Raises BadReply where any address of the host is not public, or there is none.

    A host that is not known here is left to the proxy: company networks know no names of the outside. It is empty then.
    """
    try:
        answers = await anyio.getaddrinfo(url.host, url.port or (443 if url.scheme == "https" else 80))
    except (OSError, ValueError):
        if proxied and not is_local_host(url.host):
            return ""
        raise HiddenHost("The host of the video's address is not known.", LATER) from None
    addresses = [str(each[4][0]) for each in answers]
    if not addresses or not all(map(_is_public, addresses)):
        raise HiddenHost(
            "The gateway gave an address for the video that lies inside a private network; it was not fetched."
        )
    return addresses[0]


_UNICAST = ipaddress.ip_network("2000::/3")
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that a network translates to the IPv4 address in their last 32 bits (RFC 6052 §2.1)."""


def _is_public(text: str) -> bool:
    """Whether an address lies on the public internet, and so does any IPv4 address that it carries inside."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _TRANSLATED or address.ipv4_mapped is not None:
            address = ipaddress.IPv4Address(address.packed[-4:])
        elif address not in _UNICAST or address.sixtofour is not None:
            return False
    return address.is_global and not address.is_multicast
