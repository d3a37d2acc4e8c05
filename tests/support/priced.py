"""A dialect with prices in USD, otherwise the Sora format: `python priced.py N` is `crowd.py N` in it.

A prompt ends with its price per second ("fly man at 0.2"); without one it is 0.10, and `at cost` is none. The `usage`
of a task has its cost.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any, Self, cast

import anyio
import crowd
from bench import task_reply
from fault_gateway import Answer
from msgspec.structs import replace

from sora_mcp import dialects
from sora_mcp.config.settings import Settings
from sora_mcp.core.cost import Cost, Estimate
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tasks import Task
from sora_mcp.dialects.openrouter.prices import Job, estimate, usage_cost
from sora_mcp.dialects.protocol import WEB
from sora_mcp.dialects.replies import Reply, parse_json
from sora_mcp.dialects.sora import Sora


class Priced(Sora, frozen=True):
    """The Sora format with prices; see above."""

    @classmethod
    def configured(cls, settings: Settings) -> Self:
        plain = Sora.configured(settings)
        return cls(replace(plain.capabilities, unit="USD"), plain.source_placement)

    def estimate(self, request: VideoRequest) -> Estimate | None:
        if (request.prompt or "").endswith(" for nothing"):  # no price list yields this
            return Estimate(Cost.of(0, "USD"), "5 s x 0.00 USD a second = 0 USD")
        price = re.search(r" at (\S+)$", request.prompt or "")
        skus = {"duration_seconds": price[1] if price else "0.10"}
        return estimate(skus, Job(seconds=request.n_frames / 30, n_frames=request.n_frames))

    def read_task(self, reply: Reply, task_id: str, *, schemes: frozenset[str] = WEB) -> Task:
        task = Sora.read_task(self, reply, task_id, schemes=schemes)
        return replace(task, cost=usage_cost(parse_json(reply)["data"]))


def costing(amount: object, status: str = "SUCCESS") -> Answer:
    """A task with a cost stated by the gateway."""
    generations = [{"id": "gen_1", "url": "https://cdn.example/v.mp4"}]
    return task_reply(status, data={"generations": generations}, usage={"cost": amount})


def install(table: Mapping[str, Any] = dialects.DIALECTS) -> None:
    """Replace the Sora format by this dialect."""
    cast("dict[str, Any]", table)["sora"] = Priced.configured


if __name__ == "__main__":
    install()
    anyio.run(crowd.main, int(sys.argv[1]))
