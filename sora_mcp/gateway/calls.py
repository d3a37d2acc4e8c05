"""What can be asked of a gateway: one create, once; and what is free, again where the trouble may pass.

It says of each failure whether the request can have arrived. That is decided by *where* it failed:
until a connection stands nothing has been sent; afterwards nobody can know.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import copy

import anyio
import httpx
from msgspec import Struct

from sora_mcp.config.endpoint import Endpoint
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import AskUser, Setting, Settle, TryAgain
from sora_mcp.core.errors import BadReply, GatewayError, OutcomeUnknown, Unreachable
from sora_mcp.core.tasks import Task
from sora_mcp.dialects.protocol import WEB, Call, Catalogued, Created, Dialect, ListedTask, Listing
from sora_mcp.dialects.replies import Reply, clock_skew
from sora_mcp.gateway.client import NEVER_SENT, Client
from sora_mcp.gateway.preloading import preload
from sora_mcp.gateway.retrying import Result, until_it_works

LOOK_ATTEMPTS = 3
"""How often a free GET is sent in all."""
LOOK_WITHIN = 3.0
"""Seconds for each request that only finds out what kind of server this is."""
RETRY_AFTER_MOST = 5.0
"""The longest Retry-After, in seconds, that a free GET waits for; a longer one is told."""


class Probe(Struct, frozen=True):
    """A gateway that answered: its models, and by how many seconds our clock is ahead of its (None: not said)."""

    models: list[str]
    clock_skew_s: float | None


class Gateway:
    """One gateway and what can be asked of it.

    `transport` leads to one that needs no socket. `served`: further schemes that its videos' addresses may have, each
    with the address under which the same video is served by the last part of its path.
    Raises NotConfigured where the address names no host that can be connected to, or its proxy cannot be used.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        settings: Settings,
        dialect: Dialect,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        served: Mapping[str, str] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.served = served or {}
        self._dialect = dialect
        self.client = Client(endpoint, settings, transport=transport)
        self._settings = settings

    def with_key(self, endpoint: Endpoint) -> Gateway:
        """The same gateway with another key, that of `endpoint`, over the same connections."""
        twin = copy(self)
        twin.endpoint, twin.client = endpoint, self.client.with_key(endpoint)
        return twin

    async def aclose(self) -> None:
        """Close all connections."""
        await self.client.aclose()

    def prepare(self) -> None:
        """Load what a create may need until its answer is recorded. Raises OSError or ImportError where that fails."""
        preload()

    async def create(self, call: Call) -> Created:
        """Send a create once, never again, and return the task that it became.

        Raises Unreachable (never arrived), Refused (nothing created) or OutcomeUnknown.
        """
        wait = self._settings.create_timeout
        try:
            with anyio.fail_after(self._settings.connect_timeout * 2 + wait):
                reply = await self.client.send(call, wait)
        except NEVER_SENT as error:
            raise self._unreachable(error) from None
        except (httpx.TimeoutException, TimeoutError):
            raise OutcomeUnknown(f"The gateway did not answer the create within {wait:g} s.", Settle()) from None
        except httpx.HTTPError:
            raise OutcomeUnknown("The connection broke while the create was under way.", Settle()) from None
        return self._dialect.read_created(reply)

    async def query(self, task_id: str, dialect: Dialect | None = None) -> Task:
        """One look at a task, in the words of a `dialect` (None: the configured one); free.

        Raises NotFound, Refused, BadReply or Unreachable.
        """
        schemes, words = WEB | self.served.keys(), dialect or self._dialect
        return await self._look(words.query(task_id), lambda reply: words.read_task(reply, task_id, schemes=schemes))

    async def upload(self, name: str, content: bytes) -> str:
        """Upload an image and return its public address; free. Raises Refused, BadReply or Unreachable."""
        wait = self._settings.query_timeout
        try:
            with anyio.fail_after(wait):
                return self._dialect.read_uploaded(await self._ask_free(self._dialect.upload(name, content)))
        except TimeoutError:
            raise _too_slow(wait) from None

    async def probe(self) -> Probe:
        """Ask for the gateway's models: a free way to check the key. Raises Refused, BadReply or Unreachable."""
        return await self._look(
            self._dialect.models(), lambda reply: Probe(self._dialect.read_models(reply), clock_skew(reply))
        )

    async def catalogue(self, dialect: Catalogued) -> str:
        """What each of the upstream's models takes, as a text to keep; free. Raises Refused, BadReply or
        Unreachable."""
        return await self._look(dialect.catalogue(), dialect.read_catalogue)

    async def tasks(self, dialect: Listing) -> Sequence[ListedTask]:
        """The upstream's own list of its newest tasks; free. Raises Refused, BadReply or Unreachable."""
        return await self._look(dialect.list(), dialect.read_list)

    async def replies(self, calls: Sequence[Call]) -> list[Reply | None]:
        """What free requests are answered; None for one that is not. Raises nothing."""
        return [await self._reply(call) for call in calls]

    async def _reply(self, call: Call) -> Reply | None:
        with anyio.move_on_after(LOOK_WITHIN):
            with suppress(GatewayError):
                return await self._ask_free(call)
        return None

    async def _look(self, call: Call, read: Callable[[Reply], Result]) -> Result:
        """GET and read; again, a few times, where the trouble may pass. All in all it takes no longer than one."""

        async def look() -> Result:
            return read(await self._ask_free(call))

        wait = self._settings.query_timeout
        try:
            return await until_it_works(look, _may_pass, attempts=LOOK_ATTEMPTS, seconds=wait)
        except TimeoutError:
            raise _too_slow(wait) from None

    async def _ask_free(self, call: Call) -> Reply:
        wait = self._settings.query_timeout
        try:
            return await self.client.send(call, wait)
        except NEVER_SENT as error:
            raise self._unreachable(error) from None
        except httpx.TimeoutException:
            raise _too_slow(wait) from None
        except httpx.HTTPError:
            raise BadReply("The connection broke before the gateway had answered.", TryAgain()) from None

    def _unreachable(self, error: httpx.HTTPError) -> Unreachable:
        host = httpx.URL(self.endpoint.base_url).host
        why = next((words for kind, words in _WHY for cause in _causes(error) if isinstance(cause, kind)), None)
        return Unreachable(
            f"The gateway {host} could not be reached{f': {why}' if why else ''}.",
            TryAgain(),
            AskUser(("check ", Setting("base_url"), " and the network if that does not help")),
        )


def _may_pass(error: Exception) -> bool | float:
    """Whether a free GET may do better at once, or after the seconds that the gateway named."""
    if not isinstance(error, Unreachable | BadReply):
        return False
    return error.pause(RETRY_AFTER_MOST)


def _too_slow(wait: float) -> BadReply:
    return BadReply(f"The gateway gave no usable answer within {wait:g} s.", TryAgain())


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
