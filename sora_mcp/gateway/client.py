"""Connections to the gateway and to the hosts of its videos: proxies, TLS, time-outs, the key, bounded replies.

The errors tell the caller whether a request can have arrived: until a connection is established nothing has been sent
(`NEVER_SENT`); afterwards it cannot be known.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from http.cookiejar import CookieJar
from typing import Any, Literal
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
from sora_mcp.gateway.redaction import KeyRedactor

logger = logging.getLogger(__name__)

MAX_REPLY_BYTES = 4 * 1024 * 1024
"""Larger replies count as unreadable."""

_Pool = Literal["creates", "calls", "files"]
_Route = tuple[str | None, bool, _Pool]
"""A proxy, whether over a socket, and the pool."""
MAX_CREATE_CONNECTIONS = 100
"""Connections for creates: many, since a slow gateway takes two minutes for one."""
_LIMITS: dict[_Pool, httpx.Limits] = {
    "creates": httpx.Limits(max_connections=MAX_CREATE_CONNECTIONS, max_keepalive_connections=0),
    "calls": httpx.Limits(max_connections=100, max_keepalive_connections=5),
    "files": httpx.Limits(max_connections=20, max_keepalive_connections=5),
}
"""The connections of each pool. A create gets a new one: on one that was used before, the gateway may just be closing
it, or may have left an answer that is not the create's. Videos and images (`files`) are downloaded over others than
queries and uploads: however slow they are, no call waits behind them."""

_BEFORE_REQUEST = "http11.send_request_headers.started"
"""httpcore's event before the first byte of a request: https://www.encode.io/httpcore/extensions/#trace."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
"""Failures after which the request provably never arrived: no connection was established."""


class Client:
    """The connections to one gateway: one key with its cookies, and three pools for each proxy, or without one.

    Only `send` and `send_create` add the key to a request, for the gateway's address alone; the pools carry none.
    Raises NotConfigured if the address names no host that can be connected to, or if its proxy cannot be used.
    """

    def __init__(
        self, endpoint: Endpoint, settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        _check_host(endpoint.base_url)
        self.endpoint = endpoint
        self.notice = endpoint.notice
        """The notice for everything that is made there. A gateway on this machine or network may be a sandbox as well,
        and says so itself."""
        self._settings = settings
        self._key = endpoint.api_key
        self._redactor = KeyRedactor(endpoint.api_key)
        self._transport = transport
        self._tls_context: ssl.SSLContext | None = None
        self._pools: dict[_Route, httpx.AsyncBaseTransport] = {}
        """The connections, for every key."""
        self._open_clients()

    def with_key(self, endpoint: Endpoint) -> Client:
        """The same connections, which carry no key, with the key of another endpoint at this address."""
        clone = copy(self)
        clone.endpoint = endpoint
        clone._key, clone._redactor = endpoint.api_key, KeyRedactor(endpoint.api_key)  # noqa: SLF001 - a copy of this one
        clone._open_clients()  # noqa: SLF001 - as above
        return clone

    async def aclose(self) -> None:
        """Close all connections."""
        for pool in self._pools.values():
            await pool.aclose()

    def proxy_for(self, url: httpx.URL, *, by_socket: bool) -> str | None:
        """Return the proxy for `url`, or None; there is never one for plain http to this machine or network."""
        return _proxy_for(url) if by_socket or self._transport is None else None

    def file_client(self, url: httpx.URL, *, by_socket: bool = False) -> httpx.AsyncClient:
        """Return the client for downloading from `url`, through its proxy if it has one. `by_socket`: over a socket,
        even if the gateway needs none. Raises NotConfigured (the proxy)."""
        return self._client_for(url, "files", by_socket=by_socket)

    def _open_clients(self) -> None:
        self._cookies = CookieJar()  # a balancer's cookie leads queries to where the create went; each key has its own
        self._clients: dict[_Route, httpx.AsyncClient] = {}
        self._client = self._client_for(httpx.URL(self.endpoint.base_url), "calls")
        self._create_client = self._client_for(httpx.URL(self.endpoint.base_url), "creates")

    def _client_for(self, url: httpx.URL, pool: _Pool, *, by_socket: bool = False) -> httpx.AsyncClient:
        transport = None if by_socket else self._transport
        proxy = self.proxy_for(url, by_socket=by_socket)
        route = (proxy, transport is None, pool)
        if route not in self._clients:
            if route not in self._pools:
                self._pools[route] = transport or self._new_pool(proxy, _LIMITS[pool])
            self._clients[route] = self._new_client(self._pools[route])
        return self._clients[route]

    def _new_client(self, pool: httpx.AsyncBaseTransport) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=pool,
            trust_env=False,
            cookies=self._cookies,
            headers={"User-Agent": f"sora-mcp/{__version__}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(self._settings.query_timeout, connect=self._settings.connect_timeout),
            event_hooks={"response": [_detach_location]},
        )

    def _new_pool(self, proxy: str | None, limits: httpx.Limits) -> httpx.AsyncBaseTransport:
        try:
            return httpx.AsyncHTTPTransport(
                verify=self._system_tls_context(),
                proxy=proxy,
                trust_env=False,  # `_proxy_for` decides, so that the proxy that was checked is the one that is used
                limits=limits,
            )
        except (httpx.InvalidURL, ValueError, ImportError):  # no address, an unknown scheme, SOCKS without its extra
            raise NotConfigured(
                "The proxy that this machine's settings name (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) cannot be used.",
                AskUser("name one that begins with http://, or add the host to NO_PROXY"),
            ) from None

    def _system_tls_context(self) -> ssl.SSLContext:
        """Return a context with the operating system's TLS roots, which on company machines hold the company's own."""
        if self._tls_context is None:
            import truststore  # noqa: PLC0415 - only a process that really connects pays for it

            self._tls_context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return self._tls_context

    def key_header(self) -> dict[str, str]:
        """Return the header with the key, if there is one: only for requests to the gateway's own address."""
        key = self._key.get_secret_value()
        return {"Authorization": f"Bearer {key}"} if key else {}

    async def send(self, call: Call, timeout_s: float) -> Reply:
        """Send one request to the gateway, once, and read its answer, waiting up to `timeout_s` seconds for it.

        Raises httpx.HTTPError; one of `NEVER_SENT` if the request provably did not arrive.
        """
        return await self._send(self._client, call, timeout_s, {})

    async def send_create(self, call: Call, timeout_s: float, check: Callable[[], Awaitable[None]]) -> Reply:
        """Send a create over a connection that was never used before. `check` is called once that is established: if it
        raises an error, nothing is sent. Raises as `send` does."""

        async def trace(event: str, info: Mapping[str, Any]) -> None:
            if event == _BEFORE_REQUEST and info["request"].method != b"CONNECT":  # that one is for a proxy
                await check()

        if self._transport is not None:  # there is no connection
            await check()
        return await self._send(self._create_client, call, timeout_s, {"trace": trace})

    async def _send(self, client: httpx.AsyncClient, call: Call, timeout_s: float, extensions: dict[str, Any]) -> Reply:
        headers = self.key_header()
        connect = self._settings.connect_timeout
        timeout = httpx.Timeout(timeout_s, connect=connect, pool=connect)
        url = self.endpoint.base_url + call.path
        request = client.build_request(
            call.method,
            url,
            headers=headers,
            timeout=timeout,
            json=call.json,
            files=_form_parts(call),
            extensions=extensions,
        )
        with log_request(call.method, httpx.URL(url)) as line:
            response = await client.send(request, stream=True)
            try:
                line["status"] = response.status_code
                content, is_whole = await _read_bounded(response)
            finally:
                await _close(response)
        if self.endpoint.local and SANDBOX_HEADER in response.headers:
            self.notice = NOTICE
        headers = {**response.headers, "location": self._redactor.text(location_of(response))}
        if is_whole:
            return Reply(response.status_code, headers, self._redactor.content(content), now=time.time(), url=url)
        fragment = self._redactor.fragment(content)
        return Reply(response.status_code, headers, None, now=time.time(), fragment=fragment, url=url)


def _form_parts(call: Call) -> dict[str, Any] | None:
    """Return the parts of a form: its fields, which have no file name, then its files."""
    if call.form is None:
        return dict(call.files) if call.files else None
    fields: dict[str, Any] = {name: (None, text.encode()) for name, text in call.form.items()}
    return fields | dict(call.files or {})


@contextmanager
def log_request(method: str, url: httpx.URL) -> Iterator[dict[str, Any]]:
    """Log one request, with the fields set in the yielded line; never the query, which may be a signature."""
    path = url.raw_path.partition(b"?")[0].decode("ascii")
    line: dict[str, Any] = {"method": method, "host": url.host, "path": path, "status": None}
    started = time.perf_counter()
    try:
        yield line
    except BaseException as error:
        line["error"] = type(error).__name__
        raise
    finally:
        line["seconds"] = round(time.perf_counter() - started, 3)
        logger.info("request", extra={"fields": line})


async def _detach_location(response: httpx.Response) -> None:
    """Hide a redirect's location from httpx, which parses it, and fails on it, even if no redirect is followed."""
    response.extensions["location"] = response.headers.pop("location", "")


def location_of(response: httpx.Response) -> str:
    """Return the Location header of an answer, or an empty text."""
    return str(response.extensions["location"]).strip()


def _proxy_for(url: httpx.URL) -> str | None:
    """Return the proxy that the environment (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY) or else the system names.

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
            (Setting("base_url"), " is not an address that can be used: it names no host."),
            AskUser(("set ", Setting("base_url"), " to the gateway's address")),
        )


async def _close(response: httpx.Response) -> None:
    """Release the connection. What was read is used, whatever goes wrong here: it may name a paid task."""
    try:
        await response.aclose()
    except Exception:
        logger.exception("a connection could not be returned to the pool")


async def _read_bounded(response: httpx.Response) -> tuple[bytes, bool]:
    """Return the body, and whether it is whole: neither too large nor cut off. If it is not, only its beginning."""
    content = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > MAX_REPLY_BYTES:
                return bytes(content[:_MAX_FRAGMENT_BYTES]), False
    except httpx.HTTPError:
        return bytes(content[:_MAX_FRAGMENT_BYTES]), False
    except Exception:  # httpx wraps every failure to read; this one comes from releasing the connection
        logger.exception("a connection could not be returned to the pool")
    return bytes(content), True


_MAX_FRAGMENT_BYTES = 4096
"""Bytes stored of an answer that is not whole: enough to show its beginning."""
