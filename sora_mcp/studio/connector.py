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
"""The label where no gateway is set."""


_LOOK_EVERY_S = 0.01
"""Seconds between two looks whether the key store has answered."""


class Line:
    """One client of one gateway, and the dialect it is spoken to in, for all who share them."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._first: Upstream | None = None

    def upstream(self, settings: Settings, endpoint: Endpoint, account: Account, label: str) -> Upstream:
        """The gateway for an account. Raises NotConfigured where it cannot be one."""
        if self._first is None:
            self._first = Upstream(settings, endpoint, self.dialect, account, label)
            return self._first
        return self._first.for_account(account, endpoint)

    async def aclose(self) -> None:
        """Close the client, if there is one."""
        if self._first is not None:
            await self._first.aclose()


class Connector:
    """Opens the gateway of the settings once. All methods raise SoraError and nothing else.

    `line`: what those who share the gateway have in common; None for the first of them.
    """

    def __init__(self, settings: Settings, ledger: Ledger, line: Line | None = None) -> None:
        self._settings = settings
        self._line = line or Line(dialects.configured(settings))
        self.dialect = self._line.dialect
        """How the gateway is spoken to."""
        self._ledger = ledger
        self._opened: Upstream | None = None
        self._opening = anyio.Lock()

    async def connect(self) -> Upstream:
        """The gateway, opened at the first call. Raises NotConfigured or FileProblem."""
        if self._opened is not None:  # taking a lock, even a free one, would be a turn of the event loop
            return self._opened
        endpoint = self._settings.endpoint()
        async with self._opening:  # a person may be asked for the key
            key, owner = await _read(endpoint.api_key), self._settings.owner or ""
        account = await self._ledger.account(endpoint.base_url, key, owner)  # nobody waits for another's time-out
        if self._opened is None:
            self._opened = self._line.upstream(self._settings, endpoint, account, self.label)
        return self._opened

    async def know_models(self, within_s: float) -> None:
        """Know what the models take, where the gateway lists that: before anything is checked.

        Raises SoraError, and TimeoutError after so many seconds.
        """
        if not self.dialect.capabilities.lists_models or self._endpoint is None:
            return
        with anyio.fail_after(within_s):
            catalogue = (await self.connect()).catalogue
            if catalogue is not None:
                await catalogue.know()

    def for_owner(self, settings: Settings) -> Connector:
        """The same gateway for one of those who share it, by their own settings: another account, perhaps another
        key."""
        return Connector(settings, self._ledger, self._line)

    async def aclose(self) -> None:
        """Close what was opened, by whoever shares it."""
        await self._line.aclose()

    @property
    def notes(self) -> list[str]:
        """What is to be known of what is known of the gateway, in sentences."""
        catalogue = None if self._opened is None else self._opened.catalogue
        return [] if catalogue is None or catalogue.note is None else [catalogue.note]

    @property
    def label(self) -> str:
        """The gateway's name for people: its host, `sandbox`, or that none is configured."""
        endpoint = self._endpoint
        return NOT_CONFIGURED if endpoint is None else endpoint.label

    @property
    def notice(self) -> str | None:
        """What is to be known of everything that is made there, in a few words; None where there is nothing."""
        if self._opened is not None:
            return self._opened.notice
        return None if self._endpoint is None else self._endpoint.notice

    @property
    def _endpoint(self) -> Endpoint | None:
        try:
            return self._settings.endpoint()
        except SoraError:
            return None


async def _read(key: Secret) -> str:
    """The key; one of a login may have to be asked for. Raises NotConfigured where it cannot be had.

    In a daemon thread: a key store that hangs holds up neither other calls nor the end of this process.
    """
    if key.known or not isinstance(key, StoredKey):
        return key.get_secret_value()
    trouble: list[Exception] = []

    def ask() -> None:
        try:
            key.get_secret_value()
        except Exception as error:  # noqa: BLE001 - raised where it is waited for
            trouble.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    while thread.is_alive():  # noqa: ASYNC110 - the thread knows nothing of this loop
        await anyio.sleep(_LOOK_EVERY_S)
    if trouble:
        raise trouble[0]
    return key.known
