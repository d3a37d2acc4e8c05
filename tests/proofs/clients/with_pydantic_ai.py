"""pydantic-ai: agents with its test model and with a scripted one use the server through `MCPToolset`."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import Any

from fastmcp.client.transports import StdioTransport
from pydantic_ai import Agent
from pydantic_ai.mcp import MCPToolset
from pydantic_ai.messages import ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel
from pydantic_ai.models.test import TestModel

TOLD = {name: value for name, value in os.environ.items() if name.startswith("SORA_")}
PROGRESS: list[float] = []


async def on_progress(done: float, *_: object) -> None:
    PROGRESS.append(done)


def script(messages: Any, info: AgentInfo) -> ModelResponse:
    """A model that errs once, creates, waits, and says how it ended; its next step follows from what it was told."""
    parts = [part for message in messages for part in message.parts]
    told = [part.model_response_str() for part in parts if isinstance(part, ToolReturnPart)]
    assert len(info.function_tools) == 8
    match told:
        case []:
            return asks("create_video", {"prompt": "a boat", "width": 481, "height": 480})
        case [refused]:
            assert "481x480 is not a documented size" in refused
            return asks("create_video", {"prompt": "a paper boat", "width": 480, "height": 480})
        case [_, made]:
            return asks("get_video", {"task_id": found(made), "wait_seconds": 30})
        case _:
            return ModelResponse(parts=[TextPart(told[-1])])


def found(text: str) -> str:
    task = re.search(r"task_\w+", text)
    assert task, text
    return task[0]


def asks(name: str, arguments: dict[str, Any]) -> ModelResponse:
    return ModelResponse(parts=[ToolCallPart(name, arguments)])


async def main() -> None:
    transport = StdioTransport(os.environ["PROOF_SERVER"], [], env=TOLD)
    toolset = MCPToolset(transport, progress_handler=on_progress)
    async with toolset:
        ended = await Agent(FunctionModel(script), toolsets=[toolset]).run("a paper boat, please")
        assert "has succeeded" in ended.output or '"state":"succeeded"' in ended.output, ended.output
        assert PROGRESS, "no progress was told"
        # The test model makes its arguments up from the schema alone.
        free = TestModel(call_tools=["list_videos"])
        await Agent(free, toolsets=[toolset]).run("what is there?")
        era = toolset.client.protocol_version
    shown = ["8 tools", "create", "wait with progress", "error", "a whole agent run"]
    print(json.dumps({"eras": [era], "shown": shown}))  # noqa: T201 - what the proof reads


asyncio.run(main())
