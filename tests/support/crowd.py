"""One of several processes that all pay at once: `python crowd.py N` makes N concurrent creates on command.

It opens a studio, prints `ready`, waits for a line, and prints the count of each outcome.
"""

from __future__ import annotations

import json
import sys
from collections import Counter

import anyio

from sora_mcp.config.settings import load
from sora_mcp.core.errors import SoraError
from sora_mcp.core.models import VideoRequest
from sora_mcp.studio import Studio


async def main(creates: int) -> None:
    """Make the creates, and print their outcomes."""
    outcomes: Counter[str] = Counter()
    request = VideoRequest.model_validate({"operation": "simple_compose", "prompt": "fly man"})

    async def pay(studio: Studio) -> None:
        try:
            submitted = await studio.submit(request)
        except SoraError as error:
            outcomes[f"{error.outcome}: {error.message}"] += 1
        else:
            outcomes["duplicate" if submitted.duplicate else submitted.outcome] += 1

    async with Studio.open(load()) as studio:
        print("ready", flush=True)  # noqa: T201
        await anyio.to_thread.run_sync(sys.stdin.readline)
        async with anyio.create_task_group() as group:
            for _ in range(creates):
                group.start_soon(pay, studio)
    print(json.dumps(outcomes))  # noqa: T201


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]))
