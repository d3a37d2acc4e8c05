"""Ids as a person writes them: `last`, or the beginning of one."""

from __future__ import annotations

import re

from sora_mcp.core.errors import InvalidInput, NotFound, Problem
from sora_mcp.ledger import Ledger
from sora_mcp.studio.connector import Connector

LAST = "last"
"""The word for the newest video."""
_MOST_NAMED = 5
_COUNTED = re.compile(r"(?:^|[\W_])[^\W\d_]*\d+$")
"""A last part that is a number, or letters with a number behind them."""


class NoVideoYet(NotFound):
    """There is no newest video: none was made."""


class ShortIds:
    """Completes ids from the ledger. One that is known as it is written always stands for itself."""

    def __init__(self, ledger: Ledger, connector: Connector) -> None:
        self._ledger = ledger
        self._connector = connector

    async def full(self, text: str, field: str) -> str:
        """The whole id; see `Studio.full_id`. What stands behind a `#` stays."""
        begins, hash_sign, variant = text.strip().partition("#")
        if not begins or await self._is_known(text.strip()) or await self._is_known(begins):
            return text
        if begins == LAST:
            return f"{await self._last()}{hash_sign}{variant}"
        account = (await self._connector.connect()).account
        ids = await self._ledger.ids_beginning_with(account, begins, _MOST_NAMED + 1)
        ids = [each for each in ids if not _is_another_number(begins, each)]
        if len(ids) > 1:
            others = " and others" if len(ids) > _MOST_NAMED else ""
            wrong = f'"{begins}" is the beginning of several ids'
            raise InvalidInput([Problem(field, wrong, f"one of {', '.join(ids[:_MOST_NAMED])}{others}")])
        return f"{ids[0]}{hash_sign}{variant}" if ids else text

    async def _is_known(self, text: str) -> bool:
        account = (await self._connector.connect()).account
        if await self._ledger.find(account, text) is not None:
            return True
        return await self._ledger.find_generation(account, text) is not None

    async def _last(self) -> str:
        connection = await self._connector.connect()
        newest = await self._ledger.page(connection.account, limit=1)
        if not newest:
            raise NoVideoYet(f"There is no video at {connection.label} yet, so there is no last one.")
        return newest[0].id


def _is_another_number(begins: str, whole: str) -> bool:
    """Whether an id only counts on from the text: `job_12` is not the beginning of `job_120`, but a job of its own,
    which may have been made elsewhere. An id like `task_01k3f7` mixes digits and letters, and does not count."""
    return _COUNTED.search(begins) is not None and whole[len(begins) :].isdecimal()
