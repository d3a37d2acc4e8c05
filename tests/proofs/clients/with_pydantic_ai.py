"""pydantic-ai: agents with its test model and with a scripted one use the server through `MCPToolset`."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel
from script import next_call

TOLD = {name: value for name, value in os.environ.items() if name.startswith("SORA_")}
PROGRESS: list[float] = []


async def on_progress(done: float, *_: object) -> None:
    PROGRESS.append(done)


def answer(messages: Any, info: AgentInfo) -> ModelResponse:
    """A model whose next step follows from what it was told."""
    parts = [part for message in messages for part in message.parts]
    told = [part.model_response_str() for part in parts if isinstance(part, ToolReturnPart)]
    assert len(info.function_tools) == 9
    call = next_call(told)
    return ModelResponse(parts=[TextPart(told[-1]) if call is None else ToolCallPart(*call)])


async def main() -> None:
    transport = StdioTransport(os.environ["PROOF_SERVER"], [], env=TOLD)
    toolset = MCPToolset(transport, progress_handler=on_progress)
    async with toolset:
        ended = await Agent(FunctionModel(answer), toolsets=[toolset]).run("a paper boat, please")
        assert "has succeeded" in ended.output or '"state":"succeeded"' in ended.output, ended.output
        assert PROGRESS, "no progress was told"
        # The test model makes its arguments up from the schema alone.
        free = TestModel(call_tools=["list_videos"])
        await Agent(free, toolsets=[toolset]).run("what is there?")
        era = toolset.client.protocol_version
    shown = ["9 tools", "create", "wait with progress", "error", "a whole agent run"]
    print(json.dumps({"eras": [era], "shown": shown}))  # noqa: T201 - what the proof reads


asyncio.run(main())
