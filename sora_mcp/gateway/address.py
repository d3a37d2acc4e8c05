"""Opening the address that the gateway gave for a video, if it leads to a permitted host.

An address in a reply is data from outside. It is fetched without the key, over http(s), from public
addresses only (unless the gateway itself is local), and the address that was checked is the one that
is connected to, at every redirect.

Behind a proxy the last part does not hold: the proxy gets the host's name (TLS needs it) and resolves it
again. What the name resolves to here is still checked; a name that only the proxy knows is left to the proxy.
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
from sora_mcp.gateway.client import location_of, log_request

MAX_REDIRECTS = 5

RETRY_ADVICE = Do("Try again: nothing incomplete is left behind, and downloading costs nothing.")

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class HiddenHost(BadReply):
    """The address of a host that is not on the public internet, or is not known."""


@asynccontextmanager
async def open_address(
    gateway: Gateway, address: str, headers: Mapping[str, str], *, public: bool = False
) -> AsyncIterator[httpx.Response]:
    """Yield the answer at `address`, whatever its status, after its redirects. Raises BadReply or httpx.HTTPError.

    A path (which only a dialect makes, never a reply) is relative to the gateway's own address and requested with the
    key; a redirect from there is followed without it. `public`: public hosts only, even if the gateway is local.
    """
    is_own = address.startswith("/") and not public
    url = httpx.URL(gateway.endpoint.base_url + address) if is_own else _resolve(gateway, httpx.URL(), address)
    for number in range(MAX_REDIRECTS + 1):
        has_key = is_own and number == 0
        async with _request(gateway, url, headers, has_key=has_key, public=public) as response:
            location = location_of(response)
            if response.status_code not in _REDIRECTS or not location:
                yield response
                return
            url = _resolve(gateway, url, location)
    raise BadReply(f"The video's address redirects more than {MAX_REDIRECTS} times.", RETRY_ADVICE)


def _resolve(gateway: Gateway, base: httpx.URL, address: str) -> httpx.URL:
    """Resolve an address that may be relative to `base`: http(s) with a host, or one of the gateway's own schemes.

    Raises BadReply.
    """
    try:
        url = base.join(address)
        host, port = url.host, url.port or 0
    except (httpx.InvalidURL, ValueError):
        raise BadReply("The gateway gave an address for the video that cannot be read.", RETRY_ADVICE) from None
    if url.scheme in gateway.scheme_bases:
        return httpx.URL(gateway.scheme_bases[url.scheme] + url.path.rpartition("/")[2])
    if url.scheme not in WEB or not host or port > 65535:
        raise BadReply("The gateway gave an address for the video that is not http(s).")
    return url


@asynccontextmanager
async def _request(
    gateway: Gateway, url: httpx.URL, extra_headers: Mapping[str, str], *, has_key: bool, public: bool
) -> AsyncIterator[httpx.Response]:
    headers = dict(extra_headers) | (gateway.client.key_header() if has_key else {})
    extensions: dict[str, Any] = {}
    client = gateway.client.file_client(url, by_socket=public)
    requested_url = url
    if public or not (has_key or gateway.endpoint.local):
        proxied = gateway.client.proxy_for(url, by_socket=public) is not None
        address = await _public_address(url, proxied=proxied)
        if not proxied:
            headers["Host"] = url.netloc.decode("ascii")
            extensions["sni_hostname"] = url.host
            url = url.copy_with(host=address)
    with log_request("GET", requested_url) as line:
        async with client.stream("GET", url, headers=headers, extensions=extensions) as response:
            line["status"] = response.status_code
            yield response


async def _public_address(url: httpx.URL, *, proxied: bool) -> str:
    """Return the address to connect to. Raises BadReply if any address of the host is not public, or there is none.

    A host that is not known here is left to the proxy: company networks resolve no outside names. It is empty then.
    """
    try:
        results = await anyio.getaddrinfo(url.host, url.port or (443 if url.scheme == "https" else 80))
    except (OSError, ValueError):
        if proxied and not is_local_host(url.host):
            return ""
        raise HiddenHost("The host of the video's address is not known.", RETRY_ADVICE) from None
    addresses = [str(each[4][0]) for each in results]
    if not addresses or not all(map(_is_public, addresses)):
        raise HiddenHost(
            "The gateway gave an address for the video that lies inside a private network; it was not fetched."
        )
    return addresses[0]


_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that a network translates to the IPv4 address in their last 32 bits (RFC 6052 §2.1)."""


def _is_public(text: str) -> bool:
    """Whether an address is on the public internet, and so is any IPv4 address embedded in it."""
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64 or address.ipv4_mapped is not None:
            address = ipaddress.IPv4Address(address.packed[-4:])
        elif address not in _GLOBAL_UNICAST or address.sixtofour is not None:
            return False
    return address.is_global and not address.is_multicast
