"""The only room that speaks to the upstream: connections, key, time-outs, streaming.

It says of each failure whether the request can have arrived. That is decided by *where* it failed:
until a connection stands nothing has been sent; afterwards nobody can know.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from sora_mcp import __version__, dialect
from sora_mcp.dialect import Reply
from sora_mcp.errors import BadReply, NotConfigured, OutcomeUnknown, Unreachable
from sora_mcp.models import Task
from sora_mcp.settings import Endpoint, Settings

MAX_REPLY_BYTES = 4 * 1024 * 1024
"""Replies are read up to here; a larger one counts as unreadable."""

MIN_KEY_LENGTH = 8
"""A shorter key is not struck from replies: it would be found in ordinary words."""

NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)
"""Failures after which the request provably never arrived: no connection stood."""

_SEE_LOG = "Tell the user. Look at list_videos later; whether it ran can only be seen in the gateway's own log."


@dataclass(frozen=True, slots=True)
class Probe:
    """A gateway that answered: its models, and by how many seconds our clock is ahead of its (None: not said)."""

    models: list[str]
    clock_skew_s: float | None


class Gateway:
    """One gateway, one key, one shared connection pool.

    The key is sent only by the calls of this class to `endpoint`; `client` itself carries none.
    Raises NotConfigured where the address names no host that can be connected to.
    """

    def __init__(
        self, endpoint: Endpoint, settings: Settings, *, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        _check_host(endpoint.base_url)
        self.endpoint = endpoint
        self._settings = settings
        self._key = endpoint.api_key
        limits = httpx.Limits(max_connections=20, max_keepalive_connections=5)
        self.client = httpx.AsyncClient(
            verify=_system_trust() if transport is None else True,
            transport=transport,
            limits=limits,
            headers={"User-Agent": f"sora-mcp/{__version__}", "Accept-Encoding": "identity"},
            timeout=httpx.Timeout(settings.query_timeout, connect=settings.connect_timeout),
        )

    async def aclose(self) -> None:
        """Close all connections."""
        await self.client.aclose()

    async def create(self, body: dict[str, Any]) -> str:
        """POST the body once, never again, and return the task id.

        Raises Unreachable (never arrived), Refused (nothing created) or OutcomeUnknown.
        """
        wait = self._settings.create_timeout
        try:
            with anyio.fail_after(self._settings.connect_timeout * 2 + wait):
                reply = await self._ask("POST", dialect.CREATE_PATH, wait, json=body)
        except NEVER_SENT as error:
            raise self._unreachable(error) from None
        except (httpx.TimeoutException, TimeoutError):
            raise OutcomeUnknown(f"The gateway did not answer the create within {wait:g} s.", _SEE_LOG) from None
        except httpx.HTTPError:
            raise OutcomeUnknown("The connection broke while the create was under way.", _SEE_LOG) from None
        return dialect.read_created(reply)

    async def query(self, task_id: str) -> Task:
        """One look at a task; free. Raises NotFound, Refused, BadReply or Unreachable."""
        reply = await self._ask_free("GET", dialect.task_path(task_id))
        return dialect.read_task(reply, task_id, files=self.endpoint.sandbox)

    async def upload(self, name: str, content: bytes) -> str:
        """Upload an image and return its public address; free. Raises Refused, BadReply or Unreachable."""
        return dialect.read_uploaded(await self._ask_free("POST", dialect.FILES_PATH, files={"file": (name, content)}))

    async def probe(self) -> Probe:
        """Ask for the gateway's models: a free way to check the key. Raises Refused, BadReply or Unreachable."""
        reply = await self._ask_free("GET", dialect.MODELS_PATH)
        return Probe(dialect.read_models(reply), dialect.clock_skew(reply))

    async def _ask_free(self, method: str, path: str, **parts: Any) -> Reply:
        wait = self._settings.query_timeout
        try:
            with anyio.fail_after(wait):
                return await self._ask(method, path, wait, **parts)
        except NEVER_SENT as error:
            raise self._unreachable(error) from None
        except (httpx.HTTPError, TimeoutError):
            raise BadReply(f"The gateway gave no usable answer within {wait:g} s.", "Try again later.") from None

    async def _ask(self, method: str, path: str, patience: float, **parts: Any) -> Reply:
        headers = {"Authorization": f"Bearer {self._key.get_secret_value()}"}
        connect = self._settings.connect_timeout
        timeout = httpx.Timeout(patience, connect=connect, pool=connect)
        url = self.endpoint.base_url + path
        async with self.client.stream(method, url, headers=headers, timeout=timeout, **parts) as response:
            content = await _read_bounded(response)
        if content is not None and len(self._key) >= MIN_KEY_LENGTH:  # some gateways repeat a key that they refuse
            content = content.replace(self._key.get_secret_value().encode(), b"[key]")
        return Reply(response.status_code, response.headers, content, now=time.time())

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        host = httpx.URL(self.endpoint.base_url).host
        why = next((words for kind, words in _WHY for cause in _causes(error) if isinstance(cause, kind)), None)
        return Unreachable(
            f"The gateway {host} could not be reached{f': {why}' if why else ''}.",
            "Try again; if it stays so, ask the user to check SORA_BASE_URL and the network.",
        )


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


async def _read_bounded(response: httpx.Response) -> bytes | None:
    """The body, or None where it is too large or was cut off: the status alone then has to do."""
    content = bytearray()
    try:
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > MAX_REPLY_BYTES:
                return None
    except httpx.HTTPError:
        return None
    return bytes(content)


_WHY: tuple[tuple[type[BaseException], str], ...] = (
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
