"""Ids as a person writes them: `last`, or a prefix."""

from __future__ import annotations

import re

from sora_mcp.core.errors import InvalidInput, NotFound, Problem
from sora_mcp.ledger import Ledger
from sora_mcp.studio.connector import Connector

LAST = "last"
"""The word for the newest video."""
_MAX_NAMED = 5
_NUMBERED = re.compile(r"(?:^|[\W_])[^\W\d_]*\d+$")
"""A last part that is a number, or letters followed by a number."""


class NoVideoYet(NotFound):
    """There is no newest video: none was made."""


class ShortIds:
    """Completes ids from the ledger. An id that is known as it is written is never changed."""

    def __init__(self, ledger: Ledger, connector: Connector) -> None:
        self._ledger = ledger
        self._connector = connector

    async def expand(self, text: str, argument: str) -> str:
        """Return the full id; see `Studio.full_id`. A `#` and what follows are preserved."""
        prefix, hash_sign, variant = text.strip().partition("#")
        if not prefix or await self._is_known(text.strip()) or await self._is_known(prefix):
            return text
        if prefix == LAST:
            return f"{await self._last()}{hash_sign}{variant}"
        account = (await self._connector.connect()).account
        ids = await self._ledger.find_ids_by_prefix(account, prefix, _MAX_NAMED + 1)
        ids = [each for each in ids if not _is_another_number(prefix, each)]
        if len(ids) > 1:
            others = " and others" if len(ids) > _MAX_NAMED else ""
            problem = f'"{prefix}" is the beginning of several ids'
            raise InvalidInput([Problem(argument, problem, f"one of {', '.join(ids[:_MAX_NAMED])}{others}")])
        return f"{ids[0]}{hash_sign}{variant}" if ids else text

    async def _is_known(self, text: str) -> bool:
        account = (await self._connector.connect()).account
        if await self._ledger.find(account, text) is not None:
            return True
        return await self._ledger.find_generation(account, text) is not None

    async def _last(self) -> str:
        connection = await self._connector.connect()
        entries = await self._ledger.page(connection.account, limit=1)
        if not entries:
            raise NoVideoYet(f"There is no video at {connection.label} yet, so there is no last one.")
        return entries[0].id


def _is_another_number(prefix: str, full_id: str) -> bool:
    """Whether an id only adds digits to a number: `job_12` is not a prefix of `job_120`, but another job, which may
    have been made elsewhere. An id like `task_01k3f7` mixes digits and letters, and is no number."""
    return _NUMBERED.search(prefix) is not None and full_id[len(prefix) :].isdecimal()
