"""What the models of a gateway take, as the gateway lists it: kept for a day in a file beside the ledger."""

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

MOST_BYTES = 4_000_000
"""Of the file; a larger one is somebody else's."""
ANSWER_WITHIN = 5.0
"""Seconds that the gateway has where something is known already; where nothing is, as long as for any free request."""
AGAIN_AFTER = 60.0
"""Seconds for which a list that is too old is used before the gateway is asked again, if it could not be asked."""


class Catalogue:
    """What a `dialect` knows of the models at one `address`; `folder`: where it is kept, None for nowhere.

    `fetch` asks the gateway for the list, in the form in which it is kept; `now` is the unix second.
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
        self._again_at = -math.inf
        self._learning = anyio.Lock()

    @property
    def is_known(self) -> bool:
        """Whether anything is known, however old it is."""
        return self._fetched_at > -math.inf

    @property
    def age(self) -> float:
        """Seconds since the gateway was asked; infinite where nothing is known."""
        return max(0.0, self._now() - self._fetched_at)

    @property
    def note(self) -> str | None:
        """That what is known is too old, in a sentence."""
        if not self.is_known or self.age < DAY_S:
            return None
        hours = round(self.age / HOUR_S)
        return f"What the models take was last read {hours} hours ago: the gateway does not list it now."

    async def know(self) -> None:
        """Know what holds now: what was kept, or where that is more than a day old, what the gateway says. If it does
        not, what was kept counts. Raises SoraError where nothing is known."""
        async with self._learning:
            if self._now() - self._fetched_at < DAY_S or self._now() < self._again_at:
                return
            await self._recall()
            if self.age < DAY_S:
                return
            try:
                await self._ask()
            except SoraError as error:
                if not self.is_known:
                    raise _unknown(error) from None
                logger.info("the models could not be listed: %s", error.message)
                self._again_at = self._now() + AGAIN_AFTER

    async def renew(self) -> None:
        """Know what the gateway says now. Raises SoraError where it does not; what was known is known then."""
        async with self._learning:
            if not self.is_known:
                await self._recall()
            await self._ask()

    async def against(self, request: VideoRequest) -> tuple[Advice, ...]:
        """What the gateway's newest list says against a request that it refused. Nothing is sent again."""
        try:
            await self.renew()
            self._dialect.check(request)
        except InvalidInput as error:
            return (Do(("By the gateway's newest list of models: ", *error.parts)),)
        except SoraError as error:
            logger.info("the models could not be listed: %s", error.message)
            return ()
        return (Do("The list of what the models take was read again, and says nothing against the request."),)

    async def _ask(self) -> None:
        within = ANSWER_WITHIN if self.is_known else math.inf
        try:
            with anyio.fail_after(within):
                text = await self._fetch()
        except TimeoutError:
            raise BadReply(f"The gateway did not list its models within {within:g} s.", TryAgain()) from None
        self._dialect.learn(text)
        self._fetched_at = self._now()
        if self._file is not None:
            kept = {"address": self._address, "fetched_at": self._fetched_at, "models": text}
            await to_thread.run_sync(_write, self._file, json.dumps(kept))

    async def _recall(self) -> None:
        """Know what was kept, by any process; what cannot be read was not."""
        kept = None if self._file is None else await to_thread.run_sync(_read, self._file)
        if not isinstance(kept, dict) or kept.get("address") != self._address:
            return
        fetched_at = kept.get("fetched_at")
        if not isinstance(fetched_at, int | float) or not max(0, self._fetched_at) < fetched_at <= self._now():
            return
        try:
            self._dialect.learn(str(kept.get("models")))
        except ValueError:
            return
        self._fetched_at = fetched_at


def _unknown(error: SoraError) -> SoraError:
    """That nothing can be checked, since nothing is known of the models."""
    words: Message = ("What the models take is not known, and nothing is submitted without that. ", *error.parts)
    error.parts = parts_of(words)
    return error


def _read(file: Path) -> object:
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
        return json.loads(content) if len(content) <= MOST_BYTES else None
    except (OSError, ValueError, RecursionError):
        return None


def _write(file: Path, text: str) -> None:
    """Keep it for other processes, too; a disk that refuses costs no more than another free request."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(part, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as opened:
            opened.write(text)
        part.replace(file)
    except OSError as error:
        logger.info("the list of models could not be kept: %s", error.strerror)
        part.unlink(missing_ok=True)
