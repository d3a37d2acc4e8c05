"""The gateway of the settings, opened when it is first needed."""

from __future__ import annotations

import threading

import anyio

from sora_mcp import dialects
from sora_mcp.config.converters import Secret, StoredKey
from sora_mcp.config.endpoint import Endpoint
from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import SoraError
from sora_mcp.dialects.protocol import Dialect
from sora_mcp.ledger import Account, Ledger
from sora_mcp.studio.upstream import Upstream

NOT_CONFIGURED = "not configured"
"""The label if no gateway is configured."""
_POLL_INTERVAL_S = 0.01
"""Seconds between checks whether the key store has answered."""


class SharedClient:
    """One client of one gateway and its dialect, for all accounts that share them."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._first: Upstream | None = None

    def upstream(self, settings: Settings, endpoint: Endpoint, account: Account, label: str) -> Upstream:
        """Return the gateway for an account. Raises NotConfigured if its address is invalid."""
        if self._first is None:
            self._first = Upstream(settings, endpoint, self.dialect, account, label)
            return self._first
        return self._first.for_account(account, endpoint)

    async def aclose(self) -> None:
        """Close the client, if it was opened."""
        if self._first is not None:
            await self._first.aclose()


class Connector:
    """Opens the gateway of the settings once. All methods raise SoraError and nothing else.

    `shared`: the client and dialect that several accounts share; None for the first of them.
    """

    def __init__(self, settings: Settings, ledger: Ledger, shared: SharedClient | None = None) -> None:
        self._settings = settings
        self._shared = shared or SharedClient(dialects.configured(settings))
        self.dialect = self._shared.dialect
        """The dialect of the gateway."""
        self._ledger = ledger
        self._opened: Upstream | None = None
        self._opening = anyio.Lock()

    async def connect(self) -> Upstream:
        """Return the gateway, opened at the first call. Raises NotConfigured or FileProblem."""
        if self._opened is not None:  # acquiring even a free lock costs a turn of the event loop
            return self._opened
        endpoint = self._settings.endpoint()
        async with self._opening:  # reading the key may prompt a person
            key, owner = await _read_key(endpoint.api_key), self._settings.owner or ""
        # Outside the lock: no call waits for another's time-out.
        account = await self._ledger.account(endpoint.base_url, key, owner)
        if self._opened is None:
            self._opened = self._shared.upstream(self._settings, endpoint, account, self.label)
        return self._opened

    async def load_models(self, timeout_s: float) -> None:
        """Load what the models take, if the gateway lists that, before anything is checked.

        Raises SoraError, and TimeoutError after `timeout_s` seconds.
        """
        if not self.dialect.capabilities.lists_models or self._endpoint is None:
            return
        with anyio.fail_after(timeout_s):
            catalogue = (await self.connect()).catalogue
            if catalogue is not None:
                await catalogue.load()

    def for_owner(self, settings: Settings) -> Connector:
        """Return a connector to the same gateway for another owner's settings: another account, perhaps another key."""
        return Connector(settings, self._ledger, self._shared)

    async def aclose(self) -> None:
        """Close the shared client."""
        await self._shared.aclose()

    @property
    def notes(self) -> list[str]:
        """Sentences about how current the list of models is."""
        catalogue = None if self._opened is None else self._opened.catalogue
        return [] if catalogue is None or catalogue.note is None else [catalogue.note]

    @property
    def label(self) -> str:
        """The gateway's name for people: its host, `sandbox`, or that none is configured."""
        endpoint = self._endpoint
        return NOT_CONFIGURED if endpoint is None else endpoint.label

    @property
    def notice(self) -> str | None:
        """A short notice about everything that is made there, or None."""
        if self._opened is not None:
            return self._opened.notice
        return None if self._endpoint is None else self._endpoint.notice

    @property
    def _endpoint(self) -> Endpoint | None:
        try:
            return self._settings.endpoint()
        except SoraError:
            return None


async def _read_key(key: Secret) -> str:
    """Return the key; that of a login may have to be read from a key store. Raises NotConfigured if there is none.

    In a daemon thread: a key store that hangs blocks neither other calls nor the exit of this process.
    """
    if key.known or not isinstance(key, StoredKey):
        return key.get_secret_value()
    errors: list[Exception] = []

    def read() -> None:
        try:
            key.get_secret_value()
        except Exception as error:  # noqa: BLE001 - raised by the waiting caller
            errors.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    while thread.is_alive():  # noqa: ASYNC110 - the thread cannot notify this loop
        await anyio.sleep(_POLL_INTERVAL_S)
    if errors:
        raise errors[0]
    return key.known
