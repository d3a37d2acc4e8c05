"""What the vendors' own libraries say to the exports, and whole conversations through them.

The libraries come with the dependency group `vendors`; a test that needs one that is missing is skipped and says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import scripted_models
from documentation import block
from scripted_models import SCRIPT, Model, served

from sora_mcp import Toolkit, media, toolkit, tools
from sora_mcp.config.settings import Settings

Make = Callable[..., Settings]
WISH = "Make a video of a lighthouse, look at it, and join it at night with a storyboard of a door"

LOOP = block("python agent")

pytestmark = pytest.mark.slow


def vendor(module: str) -> Any:
    """A library of a vendor's; the test is skipped where it is missing."""
    return pytest.importorskip(module, reason=f"{module} comes with the dependency group `vendors`")


def named(tool: dict[str, Any]) -> str:
    return str(tool["name"])


# --- the declarations -----------------------------------------------------------------------------


@pytest.mark.parametrize("tool", toolkit.openai_responses(), ids=named)
def test_openai_agents_has_nothing_to_change_in_a_strict_schema(tool: dict[str, Any]) -> None:
    strict = vendor("agents.strict_schema").ensure_strict_json_schema
    assert strict(deepcopy(tool["parameters"])) == tool["parameters"]


@pytest.mark.parametrize("tool", toolkit.openai_responses(), ids=named)
def test_pydantic_ai_takes_a_strict_schema_for_one(tool: dict[str, Any]) -> None:
    check = vendor("pydantic_ai.profiles.openai").OpenAIJsonSchemaTransformer(deepcopy(tool["parameters"]), strict=None)
    assert check.walk() == tool["parameters"]
    assert check.is_strict_compatible


@pytest.mark.parametrize("tool", toolkit.anthropic(), ids=named)
def test_anthropic_can_transform_every_schema_without_losing_an_argument(tool: dict[str, Any]) -> None:
    schema = tool["input_schema"]
    transformed = vendor("anthropic").transform_schema(deepcopy(schema))
    assert set(transformed["properties"]) == set(schema["properties"])
    assert transformed["required"] == schema["required"]


@pytest.mark.parametrize("tool", toolkit.gemini(), ids=named)
def test_google_genai_takes_every_declaration(tool: dict[str, Any]) -> None:
    taken = vendor("google.genai.types").FunctionDeclaration.model_validate(tool)
    assert taken.parameters_json_schema == tool["parametersJsonSchema"]


@pytest.mark.parametrize("agent_platform", [False, True])
def test_google_genai_can_turn_the_tools_of_mcp_into_its_own(*, agent_platform: bool) -> None:
    adapter = vendor("google.genai._mcp_utils").mcp_to_gemini_tools
    import mcp_types  # noqa: PLC0415

    listed = [mcp_types.Tool.model_validate(tool) for tool in tools.listing()]
    turned = [tool.function_declarations[0] for tool in adapter(listed, agent_platform)]
    assert [each.name for each in turned] == [tool.name for tool in listed]


# --- whole conversations --------------------------------------------------------------------------


def check(model: Model, said: str | None, *, pictures: int = 1) -> None:
    """The script was played to its end: one mistake was told as such, the sheet was seen, the file is a video."""
    assert len(model.results) == len(SCRIPT)
    assert ["error" in each for each in model.results] == [True] + [False] * (len(SCRIPT) - 1)
    assert [picture[:4] for picture in model.pictures] == [b"\xff\xd8\xff\xe0"] * pictures
    assert said is not None
    assert media.probe(Path(said.strip().removeprefix("Saved as "))).codec == "h264"


def valid(kind: Any, values: list[Any]) -> None:
    """Every value is of a vendor's own type."""
    from pydantic import TypeAdapter  # noqa: PLC0415

    adapter = TypeAdapter(kind)
    assert values
    for value in values:
        adapter.validate_python(value)
        assert set(value) <= set(kind.__annotations__)


def test_the_documented_loop_runs_as_written(tmp_path: Path) -> None:
    vendor("openai")
    with served(scripted_models.openai_responses) as model:
        environment = {
            **os.environ,
            "OPENAI_API_KEY": "none",
            "OPENAI_BASE_URL": model.url,
            "SORA_BASE_URL": "sandbox",
            "SORA_SANDBOX_SECONDS": "0.3",
            "SORA_HOME": str(tmp_path / "home"),
            "SORA_OUTPUT_DIR": str(tmp_path / "videos"),
        }
        command = [sys.executable, "-W", "error::UserWarning", "-c", LOOP]
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=120)  # noqa: S603
    assert (done.returncode, done.stderr) == (0, "")
    check(model, done.stdout)
    types = vendor("openai.types.responses")
    answers = [item for item in model.requests[-1]["input"] if item.get("type") == "function_call_output"]
    valid(types.response_input_item_param.FunctionCallOutput, answers)
    valid(types.FunctionToolParam, model.requests[-1]["tools"])
    assert len([line for line in LOOP.splitlines() if line]) <= 15


@pytest.mark.anyio
async def test_a_loop_with_openai_chat(make_settings: Make) -> None:
    openai = vendor("openai")
    with served(scripted_models.openai_chat) as model:
        said: list[Any] = [{"role": "system", "content": Toolkit.instructions}, {"role": "user", "content": WISH}]
        asked = {"model": "gpt-5", "tools": Toolkit.openai(chat=True)}
        async with (
            openai.AsyncOpenAI(api_key="none", base_url=model.url) as client,
            Toolkit(make_settings()) as sora,
        ):
            while True:
                message = (await client.chat.completions.create(**asked, messages=said)).choices[0].message
                said.append(message)
                if not message.tool_calls:
                    break
                for call in message.tool_calls:
                    result = await sora.call(call.function.name, call.function.arguments)
                    said.append(sora.openai_answer(call.id, result, chat=True))
    check(model, message.content, pictures=0)
    types = vendor("openai.types.chat")
    answers = [each for each in model.requests[-1]["messages"] if each["role"] == "tool"]
    valid(types.ChatCompletionToolMessageParam, answers)
    valid(types.ChatCompletionFunctionToolParam, model.requests[-1]["tools"])


@pytest.mark.anyio
async def test_a_loop_with_anthropic(make_settings: Make) -> None:
    anthropic = vendor("anthropic")
    with served(scripted_models.anthropic) as model:
        said: list[Any] = [{"role": "user", "content": WISH}]
        asked = {"model": "claude", "max_tokens": 4096, "system": Toolkit.instructions, "tools": Toolkit.anthropic()}
        async with (
            anthropic.AsyncAnthropic(api_key="none", base_url=model.url) as client,
            Toolkit(make_settings()) as sora,
        ):
            while True:
                reply = await client.messages.create(**asked, messages=said)
                said.append({"role": "assistant", "content": reply.content})
                calls = [block for block in reply.content if block.type == "tool_use"]
                if not calls:
                    break
                answers = [sora.anthropic_answer(call.id, await sora.call(call.name, call.input)) for call in calls]
                said.append({"role": "user", "content": answers})
    check(model, reply.content[0].text)
    types = vendor("anthropic.types")
    valid(types.ToolResultBlockParam, [m["content"][0] for m in model.requests[-1]["messages"][2::2]])
    valid(types.ToolParam, model.requests[-1]["tools"])


@pytest.mark.anyio
async def test_a_loop_with_gemini(make_settings: Make) -> None:
    genai = vendor("google.genai")
    with served(scripted_models.gemini) as model:
        said: list[Any] = [{"role": "user", "parts": [{"text": WISH}]}]
        config = {"tools": Toolkit.gemini(), "system_instruction": Toolkit.instructions}
        client = genai.Client(api_key="none", http_options={"base_url": model.url})
        async with client.aio, Toolkit(make_settings()) as sora:
            while True:
                reply = await client.aio.models.generate_content(model="gemini-3", contents=said, config=config)
                said.append(reply.candidates[0].content)
                if not reply.function_calls:
                    break
                calls = [(call, await sora.call(call.name, call.args)) for call in reply.function_calls]
                parts = [sora.gemini_answer(call.name, result, call_id=call.id) for call, result in calls]
                said.append({"role": "user", "parts": parts})
    check(model, reply.text)
    sent = model.requests[-1]["tools"][0]["functionDeclarations"]
    assert [each["parameters_json_schema"] for each in sent] == [
        each["parametersJsonSchema"] for each in toolkit.gemini()
    ]
