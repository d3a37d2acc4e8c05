"""Connections to the gateway and to whatever holds its videos: proxies, TLS, time-outs, the key, bounded replies.

Whoever sends a request here can tell whether it can have arrived: until a connection stands nothing has been sent
(`NEVER_SENT`); afterwards nobody can know.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any
from urllib.request import getproxies, proxy_bypass

import httpx

from sora_mcp import __version__
from sora_mcp.config.addresses import is_local_host
from sora_mcp.config.endpoint import NOTICE, SANDBOX_HEADER, Endpoint
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import AskUser, Setting
from sora_mcp.core.errors import NotConfigured
from sora_mcp.dialects.protocol import Call
from sora_mcp.dialects.replies import Reply
from sora_mcp.gateway.key import Striker

logger = logging.getLogger(__name__)

MAX_REPLY_BYTES = 4 * 1024 * 1024
"""Replies are read up to here; a larger one counts as unreadable."""

MOST_CALLS = 100
"""Connections for creates, queries and uploads: a slow gateway takes two minutes for a create, and others go on."""
MOST_FILES = 20
"""Connections from which videos and images come. They are others than those for calls: however slow they are, nothing
that is paid for waits behind them."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
"""Failures after which the request provably never arrived: no connection stood."""


class Client:
    """The way to one gateway: one key, and two connection pools for each way that leads out of this machine.

    The key is sent only by `send`, and only to the gateway's address; the pools themselves carry none.
    Raises NotConfigured where the address names no host that can be connected to, or its proxy cannot be used.
    """

    def __init__(
        self, endpoint: Endpoint, settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        _check_host(endpoint.base_url)
        self.endpoint = endpoint
        self.notice = endpoint.notice
        """What is to be known of everything that is made there. One on this machine or network may be the sandbox, too,
        and says so itself."""
        self._settings = settings
        self._key = endpoint.api_key
        self._striker = Striker(endpoint.api_key)
        self._transport = transport
        self._trust: ssl.SSLContext | None = None
        self._clients: dict[tuple[str | None, bool, int], httpx.AsyncClient] = {}
        self._client = self._client_for(httpx.URL(endpoint.base_url), MOST_CALLS)

    def with_key(self, endpoint: Endpoint) -> Client:
        """The same connections, which carry no key, with the key of another endpoint at this address."""
        twin = copy(self)
        twin.endpoint = endpoint
        twin._key, twin._striker = endpoint.api_key, Striker(endpoint.api_key)  # noqa: SLF001 - a copy of this one
        return twin

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    def proxy_for(self, url: httpx.URL, *, outside: bool = False) -> str | None:
        """The proxy through which `url` is reached, or None; never one for plain http to this machine or network."""
        return _proxy_for(url) if outside or self._transport is None else None

    def for_files(self, url: httpx.URL, *, outside: bool = False) -> httpx.AsyncClient:
        """The connections by which a file comes from `url`, through its proxy if it has one; `outside`: by a socket,
        even where the gateway needs none. Raises NotConfigured (the proxy)."""
        return self._client_for(url, MOST_FILES, outside=outside)

    def _client_for(self, url: httpx.URL, most: int, *, outside: bool = False) -> httpx.AsyncClient:
        transport = None if outside else self._transport
        proxy = self.proxy_for(url, outside=outside)
        key = (proxy, transport is None, most)
        if key not in self._clients:
            self._clients[key] = self._new_client(proxy, transport, most)
        return self._clients[key]

    def _new_client(
        self, proxy: str | None, transport: httpx.AsyncBaseTransport | None, most: int
    ) -> httpx.AsyncClient:
        try:
            return httpx.AsyncClient(
                verify=self._system_trust() if transport is None else True,
                proxy=proxy,
                trust_env=False,  # `_proxy_for` decides: what is checked and what is done must not differ
                transport=transport,
                limits=httpx.Limits(max_connections=most, max_keepalive_connections=5),
                headers={"User-Agent": f"sora-mcp/{__version__}", "Accept-Encoding": "identity"},
                timeout=httpx.Timeout(self._settings.query_timeout, connect=self._settings.connect_timeout),
                event_hooks={"response": [_set_location_aside]},
            )
        except (httpx.InvalidURL, ValueError, ImportError):  # no address, an unknown kind, SOCKS without its extra
            raise NotConfigured(
                "The proxy that this machine's settings name (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) cannot be used.",
                AskUser("name one that begins with http://, or add the host to NO_PROXY"),
            ) from None

    def _system_trust(self) -> ssl.SSLContext:
        """The operating system's TLS roots, which on company machines hold the company's own."""
        if self._trust is None:
            import truststore  # noqa: PLC0415 - only a process that really connects pays for it

            self._trust = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return self._trust

    def key_header(self) -> dict[str, str]:
        """The header that carries the key, if there is one: only for requests to the gateway's own address."""
        key = self._key.get_secret_value()
        return {"Authorization": f"Bearer {key}"} if key else {}

    async def send(self, call: Call, patience: float) -> Reply:
        """Send one request to the gateway, once, and read its answer, for which `patience` seconds are waited.

        Raises httpx.HTTPError; one of `NEVER_SENT` where the request provably did not arrive.
        """
        headers = self.key_header()
        connect = self._settings.connect_timeout
        timeout = httpx.Timeout(patience, connect=connect, pool=connect)
        url = self.endpoint.base_url + call.path
        request = self._client.build_request(
            call.method, url, headers=headers, timeout=timeout, json=call.json, files=_parts(call)
        )
        with logged(call.method, httpx.URL(url)) as line:
            response = await self._client.send(request, stream=True)
            try:
                line["status"] = response.status_code
                content, is_whole = await _read_bounded(response)
            finally:
                await _close(response)
        if self.endpoint.local and SANDBOX_HEADER in response.headers:
            self.notice = NOTICE
        headers = {**response.headers, "location": self._striker.text(location_of(response))}
        if is_whole:
            return Reply(response.status_code, headers, self._striker.content(content), now=time.time(), asked=url)
        fragment = self._striker.fragment(content)
        return Reply(response.status_code, headers, None, now=time.time(), fragment=fragment, asked=url)


def _parts(call: Call) -> dict[str, Any] | None:
    """The parts of a form: its fields, which have no file name, then its files."""
    if call.form is None:
        return dict(call.files) if call.files else None
    fields: dict[str, Any] = {name: (None, text.encode()) for name, text in call.form.items()}
    return fields | dict(call.files or {})


@contextmanager
def logged(method: str, url: httpx.URL) -> Iterator[dict[str, Any]]:
    """Log one request, with what is set in the yielded line; never the query, which may be a signature."""
    path = url.raw_path.partition(b"?")[0].decode("ascii")
    line: dict[str, Any] = {"method": method, "host": url.host, "path": path, "status": None}
    began = time.perf_counter()
    try:
        yield line
    except BaseException as error:
        line["error"] = type(error).__name__
        raise
    finally:
        line["seconds"] = round(time.perf_counter() - began, 3)
        logger.info("request", extra={"fields": line})


async def _set_location_aside(response: httpx.Response) -> None:
    """Keep a redirect's place from httpx, which reads it, and fails on it, even where nothing is to be followed."""
    response.extensions["location"] = response.headers.pop("location", "")


def location_of(response: httpx.Response) -> str:
    """The Location header of an answer, empty where it has none."""
    return str(response.extensions["location"]).strip()


def _proxy_for(url: httpx.URL) -> str | None:
    """What the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY) or else the system names for an address.

    Plain http to a local host goes there directly: a proxy could read the key.
    """
    if (url.scheme == "http" and is_local_host(url.host)) or proxy_bypass(url.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy


def _check_host(base_url: str) -> None:
    try:
        host = httpx.URL(base_url).host
    except (httpx.InvalidURL, UnicodeError):
        host = ""
    if not host:
        raise NotConfigured(
            (Setting("base_url"), " is not an address that can be used: what it names is no host."),
            AskUser(("set ", Setting("base_url"), " to the gateway's address")),
        )


async def _close(response: httpx.Response) -> None:
    """Give the connection back. What was read stands, whatever goes wrong here: it may name a paid task."""
    try:
        await response.aclose()
    except Exception:
        logger.exception("a connection could not be given back")


async def _read_bounded(response: httpx.Response) -> tuple[bytes, bool]:
    """The body, and whether it is whole: neither too large nor cut off. Of one that is not, how it began."""
    content = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > MAX_REPLY_BYTES:
                return bytes(content[:_FRAGMENT_BYTES]), False
    except httpx.HTTPError:
        return bytes(content[:_FRAGMENT_BYTES]), False
    except Exception:  # httpx names every trouble with reading; this is one with giving the connection back
        logger.exception("a connection could not be given back")
    return bytes(content), True


_FRAGMENT_BYTES = 4096
"""What is kept of an answer that is not whole: enough to show how it began."""
