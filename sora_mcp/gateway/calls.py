"""The calls to a gateway: a create, sent once; and free requests, retried after transient failures.

Each failure says whether the request can have arrived. That depends on *where* it failed: until a connection is
established nothing has been sent; afterwards it cannot be known.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from copy import copy

import anyio
import httpx
from msgspec import Struct

from sora_mcp.config.endpoint import Endpoint
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import AskUser, Setting, Settle, TryAgain
from sora_mcp.core.errors import (
    MORE_FILES,
    OUT_OF_FILES,
    BadReply,
    GatewayError,
    OutcomeUnknown,
    Unreachable,
    causes,
    is_out_of_files,
)
from sora_mcp.core.tasks import Task
from sora_mcp.dialects.protocol import WEB, Call, Catalogued, Created, Dialect, ListedTask, Listing
from sora_mcp.dialects.replies import Reply, clock_skew
from sora_mcp.gateway.client import NEVER_SENT, Client
from sora_mcp.gateway.preloading import preload
from sora_mcp.gateway.retrying import Result, retry

MAX_GET_ATTEMPTS = 3
"""Times that a free GET is sent, including the first."""
PROBE_TIMEOUT_S = 3.0
"""Seconds for each request that only finds out what type of server this is."""


class Probe(Struct, frozen=True):
    """A gateway that answered: its models, and by how many seconds our clock is ahead of its (None: not said)."""

    models: list[str]
    clock_skew_s: float | None


class Gateway:
    """One gateway and the calls to it.

    `transport` reaches a gateway that needs no socket. `scheme_bases`: further schemes that the addresses of its videos
    may have, each with the address under which the same video is served by the last part of its path.
    Raises NotConfigured if the address names no host that can be connected to, or if its proxy cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        dialect: Dialect,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        scheme_bases: Mapping[str, str] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.scheme_bases = scheme_bases or {}
        self._dialect = dialect
        self.client = Client(endpoint, settings, transport=transport)
        self._settings = settings

    def with_key(self, endpoint: Endpoint) -> Gateway:
        """The same gateway with another key, that of `endpoint`, over the same connections."""
        clone = copy(self)
        clone.endpoint, clone.client = endpoint, self.client.with_key(endpoint)
        return clone

    async def aclose(self) -> None:
        """Close all connections."""
        await self.client.aclose()

    def prepare(self) -> None:
        """Load what a create may need until its answer is recorded. Raises OSError or ImportError if that fails."""
        preload()

    async def create(self, call: Call, check: Callable[[], Awaitable[None]]) -> Created:
        """Send a create once, never again, and return the task that it became.

        `check` is called before the first byte is sent, and nothing is if it raises an error. Raises that one,
        Unreachable (never arrived), Refused (nothing created) or OutcomeUnknown.
        """
        timeout_s = self._settings.create_timeout
        try:
            with anyio.fail_after(self._settings.connect_timeout * 2 + timeout_s):
                reply = await self.client.send_create(call, timeout_s, check)
        except NEVER_SENT as error:
            raise self._unreachable(error) from None
        except (httpx.TimeoutException, TimeoutError):
            raise OutcomeUnknown(f"The gateway did not answer the create within {timeout_s:g} s.", Settle()) from None
        except httpx.HTTPError:
            raise OutcomeUnknown("The connection broke while the create was under way.", Settle()) from None
        return self._dialect.read_created(reply)

    async def query(self, task_id: str, dialect: Dialect | None = None) -> Task:
        """Query a task once, in `dialect` (None: the configured one); free.

        Raises NotFound, Refused, BadReply or Unreachable.
        """
        schemes, reader = WEB | self.scheme_bases.keys(), dialect or self._dialect
        return await self._get(reader.query(task_id), lambda reply: reader.read_task(reply, task_id, schemes=schemes))

    async def upload(self, name: str, content: bytes) -> str:
        """Upload an image and return its public address; free. Raises Refused, BadReply or Unreachable."""
        timeout_s = self._settings.query_timeout
        try:
            with anyio.fail_after(timeout_s):
                return self._dialect.read_uploaded(await self._send_free(self._dialect.upload(name, content)))
        except TimeoutError:
            raise _timed_out(timeout_s) from None

    async def probe(self) -> Probe:
        """Ask for the gateway's models: a free way to check the key. Raises Refused, BadReply or Unreachable."""
        return await self._get(
            self._dialect.models(), lambda reply: Probe(self._dialect.read_models(reply), clock_skew(reply))
        )

    async def catalogue(self, dialect: Catalogued) -> str:
        """Return what each of the upstream's models takes, as a text to store; free. Raises Refused, BadReply or
        Unreachable."""
        return await self._get(dialect.catalogue(), dialect.read_catalogue)

    async def list_tasks(self, dialect: Listing) -> Sequence[ListedTask]:
        """Return the upstream's own list of its newest tasks; free. Raises Refused, BadReply or Unreachable."""
        return await self._get(dialect.list(), dialect.read_list)

    async def try_calls(self, calls: Sequence[Call]) -> list[Reply | None]:
        """Send free requests and return their replies; None for each that gets none. Raises nothing."""
        return [await self._try_call(call) for call in calls]

    async def _try_call(self, call: Call) -> Reply | None:
        with anyio.move_on_after(PROBE_TIMEOUT_S):
            with suppress(GatewayError):
                return await self._send_free(call)
        return None

    async def _get(self, call: Call, read: Callable[[Reply], Result]) -> Result:
        """GET and read, retried a few times after transient failures; all attempts share the time limit of one."""

        async def attempt() -> Result:
            return read(await self._send_free(call))

        timeout_s = self._settings.query_timeout
        try:
            return await retry(attempt, _is_transient, attempts=MAX_GET_ATTEMPTS, timeout_s=timeout_s)
        except TimeoutError:
            raise _timed_out(timeout_s) from None

    async def _send_free(self, call: Call) -> Reply:
        timeout_s = self._settings.query_timeout
        try:
            return await self.client.send(call, timeout_s)
        except NEVER_SENT as error:
            raise self._unreachable(error) from None
        except httpx.TimeoutException:
            raise _timed_out(timeout_s) from None
        except httpx.HTTPError:
            raise BadReply("The connection broke before the gateway had answered.", TryAgain()) from None

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        host = httpx.URL(self.endpoint.base_url).host
        if is_out_of_files(error):
            return Unreachable(f"The gateway {host} could not be reached: {OUT_OF_FILES}.", *MORE_FILES)
        found = list(causes(error))
        reason = next(
            (text for kind, text in _UNREACHABLE_REASONS if any(isinstance(each, kind) for each in found)), ""
        )
        return Unreachable(
            f"The gateway {host} could not be reached{f': {reason}' if reason else ''}.",
            TryAgain(),
            AskUser(("check ", Setting("base_url"), " and the network if that does not help")),
        )


def _is_transient(error: Exception) -> bool | float:
    """Whether a free GET may succeed if it is retried; or the seconds after which, if the gateway named them."""
    return isinstance(error, Unreachable | BadReply) and error.retry_delay


def _timed_out(timeout_s: float) -> BadReply:
    return BadReply(f"The gateway gave no usable answer within {timeout_s:g} s.", TryAgain())


_UNREACHABLE_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (httpx.PoolTimeout, "too many requests of this server are under way"),
    (socket.gaierror, "its name cannot be resolved"),
    (ssl.SSLError, "its certificate is not trusted, or it does not speak TLS"),
    (ConnectionRefusedError, "nothing listens there"),
    (TimeoutError, "it did not answer in time"),
    (httpx.TimeoutException, "it did not answer in time"),
)
