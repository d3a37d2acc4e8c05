"""An agent of AutoGen with a scripted model over stdio: what it paid for keeps its id, which a link would have cost."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, FunctionExecutionResultMessage, ModelInfo, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient
from autogen_ext.tools.mcp import McpWorkbench, StdioServerParams
from script import next_call

TOLD = {name: value for name, value in os.environ.items() if name.startswith("SORA_")}
USAGE = RequestUsage(prompt_tokens=0, completion_tokens=0)


class Scripted(ReplayChatCompletionClient):
    """Calls what the script says next after what the tools answered."""

    def __init__(self) -> None:
        info = ModelInfo(
            vision=True, function_calling=True, json_output=False, family="unknown", structured_output=False
        )
        super().__init__([], model_info=info)
        self.told: list[str] = []

    async def create(self, messages: Sequence[Any], **_: Any) -> CreateResult:
        answers = [each for each in messages if isinstance(each, FunctionExecutionResultMessage)]
        self.told = [result.content for answer in answers for result in answer.content]
        call = next_call(self.told)
        if call is None:
            return CreateResult(finish_reason="stop", content="done", usage=USAGE, cached=False)
        calls = [FunctionCall(str(len(self.told)), json.dumps(call[1]), call[0])]
        return CreateResult(finish_reason="function_calls", content=calls, usage=USAGE, cached=False)


async def main() -> None:
    server = StdioServerParams(command=os.environ["PROOF_SERVER"], env=TOLD, read_timeout_seconds=60)
    async with McpWorkbench(server) as workbench:
        tools = await workbench.list_tools()
        model = Scripted()
        agent = AssistantAgent("agent", model_client=model, workbench=workbench, max_tool_iterations=9)
        await agent.run(task="Make a video of a paper boat")
    refused, made, ready = model.told
    assert refused.startswith("Error: "), refused
    assert "task_" in made, made
    assert "has succeeded" in ready, ready
    shown = [f"{len(tools)} tools", "create keeps the id", "wait", "error", "a whole agent run"]
    print(json.dumps({"eras": [], "shown": shown}))  # noqa: T201 - what the proof reads


asyncio.run(main())
