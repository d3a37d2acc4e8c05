"""What the models of a gateway take, as the gateway lists it: cached for a day in a file beside the ledger."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import secrets
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
from anyio import to_thread

from sora_mcp.core.advice import Advice, Do, Message, TryAgain, parts_of
from sora_mcp.core.errors import BadReply, InvalidInput, SoraError
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.records import DAY_S, HOUR_S
from sora_mcp.dialects.protocol import Catalogued

logger = logging.getLogger(__name__)

MAX_FILE_BYTES = 4_000_000
"""Bytes of the file; a larger one was not written by us."""
FETCH_TIMEOUT_S = 5.0
"""Seconds that a fetch may take if a list is loaded already; if none is, only the limit of any free request applies."""
RETRY_DELAY_S = 60.0
"""Seconds for which an expired list is used after a failed fetch before the next one."""


class Catalogue:
    """Keeps a `dialect` informed of the models at one `address`; `folder`: of the cache file, None for none.

    `fetch` gets the list from the gateway, in the form in which it is cached; `now` returns the Unix time in seconds.
    """

    def __init__(
        self,
        folder: Path | None,
        address: str,
        dialect: Catalogued,
        fetch: Callable[[], Awaitable[str]],
        now: Callable[[], float],
    ) -> None:
        name = hashlib.sha256(address.encode()).hexdigest()[:12]
        self._file = None if folder is None else folder / f"models-{name}.json"
        self._address = address
        self._dialect = dialect
        self._fetch = fetch
        self._now = now
        self._fetched_at = -math.inf
        self._retry_at = -math.inf
        self._lock = anyio.Lock()

    @property
    def is_loaded(self) -> bool:
        """Whether a list is loaded, however old it is."""
        return self._fetched_at > -math.inf

    @property
    def age(self) -> float:
        """Seconds since the list was fetched; infinite if none is loaded."""
        return max(0.0, self._now() - self._fetched_at)

    @property
    def note(self) -> str | None:
        """A sentence if the loaded list has expired, else None."""
        if not self.is_loaded or self.age < DAY_S:
            return None
        hours = round(self.age / HOUR_S)
        return f"The list of models was last read {hours} hours ago: the gateway does not return it now."

    async def load(self) -> None:
        """Load the list: from the cache, or if that is more than a day old, from the gateway. If the gateway fails, the
        expired list is used. Raises SoraError if there is none."""
        async with self._lock:
            if self._now() - self._fetched_at < DAY_S or self._now() < self._retry_at:
                return
            await self._load_cached()
            if self.age < DAY_S:
                return
            try:
                await self._update()
            except SoraError as error:
                if not self.is_loaded:
                    raise _unknown_models_error(error) from None
                logger.info("the models could not be listed: %s", error.message)
                self._retry_at = self._now() + RETRY_DELAY_S

    async def refresh(self) -> None:
        """Fetch the list from the gateway. Raises SoraError on failure; the loaded list is then unchanged."""
        async with self._lock:
            if not self.is_loaded:
                await self._load_cached()
            await self._update()

    async def explain_refusal(self, request: VideoRequest) -> tuple[Advice, ...]:
        """Return advice on a refused request, checked against a newly fetched list. The request is not sent again."""
        try:
            await self.refresh()
            self._dialect.check(request)
        except InvalidInput as error:
            return (Do(("According to the gateway's newest list of models: ", *error.parts)),)
        except SoraError as error:
            logger.info("the models could not be listed: %s", error.message)
            return ()
        return (Do("The list of models was read again, and nothing in it rules out the request."),)

    async def _update(self) -> None:
        timeout_s = FETCH_TIMEOUT_S if self.is_loaded else math.inf
        try:
            with anyio.fail_after(timeout_s):
                text = await self._fetch()
        except TimeoutError:
            raise BadReply(f"The gateway did not list its models within {timeout_s:g} s.", TryAgain()) from None
        self._dialect.load_catalogue(text)
        self._fetched_at = self._now()
        if self._file is not None:
            cached = {"address": self._address, "fetched_at": self._fetched_at, "models": text}
            await to_thread.run_sync(_write_file, self._file, json.dumps(cached))

    async def _load_cached(self) -> None:
        """Load the list that any process cached; a file that cannot be read is ignored."""
        cached = None if self._file is None else await to_thread.run_sync(_read_file, self._file)
        if not isinstance(cached, dict) or cached.get("address") != self._address:
            return
        fetched_at = cached.get("fetched_at")
        if not isinstance(fetched_at, int | float) or not max(0, self._fetched_at) < fetched_at <= self._now():
            return
        try:
            self._dialect.load_catalogue(str(cached.get("models")))
        except ValueError:
            return
        self._fetched_at = fetched_at


def _unknown_models_error(error: SoraError) -> SoraError:
    """Return the error extended by: without a list of models nothing can be checked."""
    message: Message = ("What the models accept is not known, and nothing is submitted without that. ", *error.parts)
    error.parts = parts_of(message)
    return error


def _read_file(file: Path) -> object:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_FILE_BYTES + 1)
        return json.loads(content) if len(content) <= MAX_FILE_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None


def _write_file(file: Path, text: str) -> None:
    """Cache it for other processes, too; if writing fails, the only cost is another free request."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(part, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
            opened.write(text)
        part.replace(file)
    except OSError as error:
        logger.info("the list of models could not be saved: %s", error.strerror)
        part.unlink(missing_ok=True)
