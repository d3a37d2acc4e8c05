"""fastmcp's client over stdio, on both eras."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import Any, Literal

from fastmcp import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError

TOLD = {name: value for name, value in os.environ.items() if name.startswith("SORA_")}


async def story(mode: Literal["legacy", "auto"]) -> tuple[str, list[str]]:
    """List, create, wait with progress, error path; which era was agreed on, and what was shown."""
    progress: list[float] = []

    async def on_progress(done: float, _total: float | None, _message: str | None) -> None:
        progress.append(done)

    transport = StdioTransport(os.environ["PROOF_SERVER"], [], env={**TOLD, "SORA_HOME": f"{TOLD['SORA_HOME']}/{mode}"})
    async with Client(transport, mode=mode) as client:
        counts = f"{len(await client.list_tools())} tools, {len(await client.list_resources())} resources"
        counts += f", {len(await client.list_prompts())} prompts"
        made = await client.call_tool("create_video", {"prompt": "a paper boat", "width": 480, "height": 480})
        task = structured(made)["task_id"]
        waiting = {"task_id": task, "wait_seconds": 30}
        ready = await client.call_tool("get_video", waiting, progress_handler=on_progress)
        assert structured(ready)["state"] == "succeeded"
        assert progress, "no progress was told"
        read = json.loads((await client.read_resource(f"sora://videos/{task}"))[0].text)
        assert read["state"] == "succeeded"
        assert re.search("481x480 is not a documented size", await refusal(client))
        return str(client.protocol_version), [counts, "create", "wait with progress", "resource", "error"]


def structured(result: Any) -> dict[str, Any]:
    return dict(result.structured_content)


async def refusal(client: Any) -> str:
    try:
        await client.call_tool("create_video", {"prompt": "a boat", "width": 481, "height": 480})
    except ToolError as error:
        return str(error)
    raise AssertionError("a wrong size was not refused")


async def main() -> None:
    older, shown = await story("legacy")
    newer, same = await story("auto")
    assert shown == same
    print(json.dumps({"eras": [older, newer], "shown": shown}))  # noqa: T201 - what the proof reads


asyncio.run(main())
