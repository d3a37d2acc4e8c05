"""The only room that speaks to the upstream: connections, key, time-outs, streaming.

It says of each failure whether the request can have arrived. That is decided by *where* it failed:
until a connection stands nothing has been sent; afterwards nobody can know.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.request import getproxies, proxy_bypass

import anyio
import httpx

from sora_mcp import __version__
from sora_mcp.config.converters import MIN_KEY_LENGTH
from sora_mcp.config.settings import Endpoint, Settings, is_local_host
from sora_mcp.core.errors import BadReply, NotConfigured, OutcomeUnknown, Unreachable
from sora_mcp.core.tasks import Task
from sora_mcp.dialects import sora as dialect
from sora_mcp.dialects.sora import Created, Reply
from sora_mcp.gateway.preloading import preload
from sora_mcp.gateway.retrying import Result, until_it_works

logger = logging.getLogger(__name__)

LOOK_ATTEMPTS = 3
"""How often a free GET is sent in all."""
RETRY_AFTER_MOST = 5.0
"""The longest Retry-After, in seconds, that a free GET waits for; a longer one is told."""

MAX_REPLY_BYTES = 4 * 1024 * 1024
"""Replies are read up to here; a larger one counts as unreadable."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
"""Failures after which the request provably never arrived: no connection stood."""


@dataclass(frozen=True, slots=True)
class Probe:
    """A gateway that answered: its models, and by how many seconds our clock is ahead of its (None: not said)."""

    models: list[str]
    clock_skew_s: float | None


class Gateway:
    """One gateway, one key, one connection pool for each way that leads out of this machine.

    The key is sent only by the calls of this class to `endpoint`; the clients themselves carry none.
    Raises NotConfigured where the address names no host that can be connected to, or its proxy cannot be used.
    """

    def __init__(
        self, endpoint: Endpoint, settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        _check_host(endpoint.base_url)
        self.endpoint = endpoint
        self._settings = settings
        self._key = endpoint.api_key
        self._repeated = _as_repeated(endpoint.api_key.get_secret_value())
        self._transport = transport
        self._verify = _system_trust() if transport is None else True
        self._clients: dict[str | None, httpx.AsyncClient] = {}
        self._client = self.client_for(httpx.URL(endpoint.base_url))

    async def aclose(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.aclose()

    def proxy_for(self, url: httpx.URL) -> str | None:
        """The proxy through which `url` is reached, or None; never one for plain http to this machine or network."""
        return _proxy_for(url) if self._transport is None else None

    def client_for(self, url: httpx.URL) -> httpx.AsyncClient:
        """The connections that lead to `url`, through its proxy if it has one. Raises NotConfigured (the proxy)."""
        proxy = self.proxy_for(url)
        if proxy not in self._clients:
            self._clients[proxy] = self._new_client(proxy)
        return self._clients[proxy]

    def _new_client(self, proxy: str | None) -> httpx.AsyncClient:
        try:
            return httpx.AsyncClient(
                verify=self._verify,
                proxy=proxy,
                trust_env=False,  # `_proxy_for` decides: what is checked and what is done must not differ
                transport=self._transport,
                limits=httpx.Limits(max_connections=20, max_keepalive_connections=5),
                headers={"User-Agent": f"sora-mcp/{__version__}", "Accept-Encoding": "identity"},
                timeout=httpx.Timeout(self._settings.query_timeout, connect=self._settings.connect_timeout),
                event_hooks={"response": [_set_location_aside]},
            )
        except (httpx.InvalidURL, ValueError, ImportError):  # no address, an unknown kind, SOCKS without its extra
            raise NotConfigured(
                "The proxy that this machine's settings name (HTTPS_PROXY, HTTP_PROXY or ALL_PROXY) cannot be used.",
                "Ask the user to name one that begins with http://, or to add the host to NO_PROXY.",
            ) from None

    def prepare(self) -> None:
        """Load what a create may need until its answer is recorded. Raises OSError or ImportError where that fails."""
        preload()

    async def create(self, body: dict[str, Any]) -> Created:
        """POST the body once, never again, and return the task that it became.

        Raises Unreachable (never arrived), Refused (nothing created) or OutcomeUnknown.
        """
        wait = self._settings.create_timeout
        try:
            with anyio.fail_after(self._settings.connect_timeout * 2 + wait):
                reply = await self._ask("POST", dialect.CREATE_PATH, wait, json=body)
        except NEVER_SENT as error:
            raise self._unreachable(error) from None
        except (httpx.TimeoutException, TimeoutError):
            raise OutcomeUnknown(
                f"The gateway did not answer the create within {wait:g} s.", dialect.UNKNOWN_NEXT_STEP
            ) from None
        except httpx.HTTPError:
            raise OutcomeUnknown(
                "The connection broke while the create was under way.", dialect.UNKNOWN_NEXT_STEP
            ) from None
        return dialect.read_created(reply)

    async def query(self, task_id: str) -> Task:
        """One look at a task; free. Raises NotFound, Refused, BadReply or Unreachable."""
        files = self.endpoint.sandbox
        return await self._look(
            dialect.task_path(task_id), lambda reply: dialect.read_task(reply, task_id, files=files)
        )

    async def upload(self, name: str, content: bytes) -> str:
        """Upload an image and return its public address; free. Raises Refused, BadReply or Unreachable."""
        wait = self._settings.query_timeout
        try:
            with anyio.fail_after(wait):
                return dialect.read_uploaded(
                    await self._ask_free("POST", dialect.FILES_PATH, files={"file": (name, content)})
                )
        except TimeoutError:
            raise _too_slow(wait) from None

    async def probe(self) -> Probe:
        """Ask for the gateway's models: a free way to check the key. Raises Refused, BadReply or Unreachable."""
        return await self._look(
            dialect.MODELS_PATH, lambda reply: Probe(dialect.read_models(reply), dialect.clock_skew(reply))
        )

    async def _look(self, path: str, read: Callable[[Reply], Result]) -> Result:
        """GET and read; again, a few times, where the trouble may pass. All in all it takes no longer than one."""

        async def look() -> Result:
            return read(await self._ask_free("GET", path))

        wait = self._settings.query_timeout
        try:
            return await until_it_works(look, _may_pass, attempts=LOOK_ATTEMPTS, seconds=wait)
        except TimeoutError:
            raise _too_slow(wait) from None

    async def _ask_free(self, method: str, path: str, **parts: Any) -> Reply:
        wait = self._settings.query_timeout
        try:
            return await self._ask(method, path, wait, **parts)
        except NEVER_SENT as error:
            raise self._unreachable(error) from None
        except httpx.TimeoutException:
            raise _too_slow(wait) from None
        except httpx.HTTPError:
            raise BadReply("The connection broke before the gateway had answered.", "Try again later.") from None

    async def _ask(self, method: str, path: str, patience: float, **parts: Any) -> Reply:
        headers = {"Authorization": f"Bearer {self._key.get_secret_value()}"}
        connect = self._settings.connect_timeout
        timeout = httpx.Timeout(patience, connect=connect, pool=connect)
        url = self.endpoint.base_url + path
        request = self._client.build_request(method, url, headers=headers, timeout=timeout, **parts)
        with logged(method, httpx.URL(url)) as line:
            response = await self._client.send(request, stream=True)
            try:
                line["status"] = response.status_code
                content, is_whole = await _read_bounded(response)
            finally:
                await _close(response)
        headers = {**response.headers, "location": self._struck(location_of(response))}
        content = self._struck(content.decode("latin-1")).encode("latin-1")
        reply = Reply(response.status_code, headers, content, now=time.time())
        return (
            reply
            if is_whole
            else replace(reply, content=None, fragment=_without_start(content, self._key.get_secret_value()))
        )

    def _struck(self, text: str) -> str:
        """A text without the key, which some gateways repeat."""
        return text if self._repeated is None else self._repeated.sub("[key]", text)

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        host = httpx.URL(self.endpoint.base_url).host
        why = next((words for kind, words in _WHY for cause in _causes(error) if isinstance(cause, kind)), None)
        return Unreachable(
            f"The gateway {host} could not be reached{f': {why}' if why else ''}.",
            "Try again; if it stays so, ask the user to check SORA_BASE_URL and the network.",
        )


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


def _may_pass(error: Exception) -> bool | float:
    """Whether a free GET may do better at once, or after the seconds that the gateway named."""
    if not isinstance(error, Unreachable | BadReply):
        return False
    return error.pause(RETRY_AFTER_MOST)


def _too_slow(wait: float) -> BadReply:
    return BadReply(f"The gateway gave no usable answer within {wait:g} s.", "Try again later.")


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
            "SORA_BASE_URL is not an address that can be used: what it names is no host.",
            "Ask the user to set SORA_BASE_URL to the gateway's address.",
        )


def _as_repeated(key: str) -> re.Pattern[str] | None:
    """A key as some gateways repeat one that they refuse: in JSON, or in JSON inside JSON, any letter of it may be
    escaped (RFC 8259 §7), and what nobody sees may stand between. None for one so short that it could be any word."""
    if len(key) < MIN_KEY_LENGTH:
        return None
    letters = (rf"(?:\\{{0,8}}{re.escape(letter)}|\\{{1,8}}u00{ord(letter):02x})" for letter in key)
    escape = r"\\{1,8}u(?!00[2-7])[0-9a-f]{4}"
    unseen = rf"(?:(?:\x1b|\\{{1,8}}u001b)\[[0-?]{{0,8}}[@-~]|[^\x20-\x7e]|{escape}){{0,16}}"
    return re.compile(unseen.join(letters), re.IGNORECASE)


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


def _without_start(content: bytes, key: str) -> bytes:
    """A fragment that does not end in the start of the key, where the cut fell inside it."""
    start = key.encode()
    for length in range(min(len(start), len(content)), 3, -1):
        if content.endswith(start[:length]):
            return content[:-length]
    return content


_WHY: tuple[tuple[type[BaseException], str], ...] = (
    (httpx.PoolTimeout, "too many requests of this server are under way"),
    (socket.gaierror, "its name is not known"),
    (ssl.SSLError, "its certificate is not trusted, or it does not speak TLS"),
    (ConnectionRefusedError, "nothing listens there"),
    (TimeoutError, "it did not answer in time"),
    (httpx.TimeoutException, "it did not answer in time"),
)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from _causes(inner)
        error = error.__cause__ or error.__context__


def _system_trust() -> ssl.SSLContext:
    """The operating system's TLS roots, which on company machines hold the company's own."""
    import truststore  # noqa: PLC0415 - only a process that really connects pays for it

    return truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
