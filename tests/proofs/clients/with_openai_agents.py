"""openai-agents: an agent with a scripted model uses the server through `MCPServerStdio`."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.mcp import MCPServerStdio
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText
from script import next_call

TOLD = {name: value for name, value in os.environ.items() if name.startswith("SORA_")}


class Script(Model):
    """A model whose next step follows from what it was told."""

    def __init__(self) -> None:
        self.tools: list[str] = []

    async def get_response(self, *_: Any, **asked: Any) -> ModelResponse:
        self.tools = [tool.name for tool in asked["tools"]]
        told = [str(item["output"]) for item in asked["input"] if item.get("type") == "function_call_output"]
        return ModelResponse(output=[step(told)], usage=Usage(), response_id=None)

    def stream_response(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


def step(told: list[str]) -> Any:
    if (call := next_call(told)) is None:
        text = ResponseOutputText(text=told[-1], type="output_text", annotations=[])
        return ResponseOutputMessage(id="m", content=[text], role="assistant", status="completed", type="message")
    name, written = call[0], json.dumps(call[1])
    return ResponseFunctionToolCall(call_id=f"c-{written}", name=name, arguments=written, type="function_call")


async def main() -> None:
    set_tracing_disabled(disabled=True)
    model = Script()
    # Its own limit is five seconds a request, less than a wait takes.
    params = {"command": os.environ["PROOF_SERVER"], "env": TOLD}
    async with MCPServerStdio(params, client_session_timeout_seconds=60) as server:
        era = server.session.protocol_version
        ended = await Runner.run(Agent("director", mcp_servers=[server], model=model), "a paper boat, please")
    assert "has succeeded" in str(ended.final_output)
    shown = [f"{len(model.tools)} tools", "create", "wait", "error", "a whole agent run"]
    print(json.dumps({"eras": [era], "shown": shown}))  # noqa: T201 - what the proof reads


asyncio.run(main())
