"""LangChain's adapters on the Python SDK 1.x, over stdio: the tools as LangChain tools."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from langchain_mcp_adapters.callbacks import Callbacks
from langchain_mcp_adapters.client import MultiServerMCPClient
from langchain_mcp_adapters.tools import load_mcp_tools

TOLD = {name: value for name, value in os.environ.items() if name.startswith("SORA_")}


async def main() -> None:
    progress: list[float] = []

    async def on_progress(done: float, *_: object) -> None:
        progress.append(done)

    callbacks = Callbacks(on_progress=on_progress)
    connection = {"transport": "stdio", "command": os.environ["PROOF_SERVER"], "args": [], "env": TOLD}
    client = MultiServerMCPClient({"sora": connection})
    async with client.session("sora", auto_initialize=False) as session:
        hello = await session.initialize()
        tools = {tool.name: tool for tool in await load_mcp_tools(session, callbacks=callbacks)}
        made = await call(tools["create_video"], {"prompt": "a paper boat", "width": 480, "height": 480})
        task = made.artifact["structured_content"]["task_id"]
        ready = await call(tools["get_video"], {"task_id": task, "wait_seconds": 30})
        assert ready.artifact["structured_content"]["state"] == "succeeded"
        assert progress, "no progress was told"
        refused = await call(tools["create_video"], {"prompt": "a boat", "width": 481, "height": 480})
        assert refused.status == "error", refused
        assert "481x480 is not a documented size" in str(refused.content)
    shown = [f"{len(tools)} tools", "create", "wait with progress", "error"]
    print(json.dumps({"eras": [hello.protocolVersion], "shown": shown}))  # noqa: T201 - what the proof reads


async def call(tool: Any, arguments: dict[str, Any]) -> Any:
    """As an agent calls it: the answer is a ToolMessage."""
    return await tool.ainvoke({"type": "tool_call", "id": "1", "name": tool.name, "args": arguments})


asyncio.run(main())
