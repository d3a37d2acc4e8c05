"""The tools for agents without MCP: what a call gives, and what opening and closing do."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from fault_gateway import CREATE, Answer, FaultGateway, Hold, fault_gateway, says
from imports import modules_after
from jsonschema import Draft202012Validator
from mcp import Client
from scripted_models import with_nulls

import sora_mcp
from sora_mcp import Toolkit, toolkit
from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import NotConfigured
from sora_mcp.server import build
from sora_mcp.tools import Result


def test_importing_the_package_loads_nothing_of_it() -> None:
    loaded = modules_after("import sora_mcp")
    assert {name for name in loaded if name.startswith("sora_mcp")} == {"sora_mcp"}
    assert "pydantic" not in loaded


def test_the_package_offers_the_toolkit_and_refuses_other_names() -> None:
    assert sora_mcp.Toolkit is toolkit.Toolkit
    with pytest.raises(AttributeError, match="no attribute 'Toolkits'"):
        sora_mcp.Toolkits  # type: ignore[attr-defined]  # noqa: B018


# --- calls ----------------------------------------------------------------------------------------

KEY = "sk-canary-77ab"
Make = Callable[..., Settings]


async def use(opened: Toolkit, name: str, **arguments: Any) -> dict[str, Any]:
    """The structured result of a call that must succeed."""
    result = await opened.call(name, arguments)
    assert not result.is_error, result.text
    return result.structured


async def finished(opened: Toolkit, name: str, **arguments: Any) -> str:
    """The id of a video that this paid call made."""
    made = await use(opened, name, **arguments)
    video = await use(opened, "get_video", task_id=made["task_id"], wait_seconds=50)
    assert video["state"] == "succeeded"
    return str(made["task_id"])


@pytest.mark.anyio
async def test_the_conversation_without_mcp(make_settings: Make) -> None:
    async with Toolkit(make_settings()) as opened:
        first = await finished(opened, "create_video", prompt="a lighthouse", width=480, height=480)
        await finished(opened, "remix_video", prompt="at night", source_generation_id=first)
        beats = [{"time": 0, "description": "a door"}]
        story = await finished(opened, "storyboard_video", actions=beats, width=480, height=480)
        sources = [{"generation_id": first}, {"generation_id": story}]
        blend = await finished(opened, "blend_videos", inpaint_items=sources)
        look = await opened.call("view_video", {"task_id": blend, "frames": 4})
        assert look.picture is not None
        assert look.picture.startswith(b"\xff\xd8\xff")
        assert look.structured["frames"] == 4
        saved = await use(opened, "download_video", task_id=blend)
        assert await anyio.Path(saved["path"]).is_file()


REFUSED: list[tuple[str, Any]] = [
    ("make_video", {}),
    ("create_video", {"promt": "a kite"}),
    ("create_video", {"prompt": "a kite", "width": 481}),
    ("remix_video", {"prompt": "red", "source_generation_id": "task_none"}),
    ("get_video", {}),
    ("view_video", {"task_id": "task_none", "frames": 99}),
]


@pytest.mark.anyio
@pytest.mark.parametrize(("name", "arguments"), REFUSED)
async def test_an_error_is_the_same_as_through_mcp(make_settings: Make, name: str, arguments: Any) -> None:
    async with Client(build(make_settings())) as client, Toolkit(make_settings()) as opened:
        expected = await client.call_tool(name, arguments)
        for given in (arguments, json.dumps(arguments)):
            result = await opened.call(name, given)
            assert result.is_error
            assert result.structured == expected.structured_content


@pytest.mark.anyio
@pytest.mark.parametrize("name", [None, 7, b"create_video", ["create_video"], {"name": "create_video"}])
@pytest.mark.parametrize("arguments", [{"prompt": "a kite"}, '{"prompt": "a ki'])
async def test_a_tools_name_that_is_no_text_is_an_unknown_tool(
    make_settings: Make, name: Any, arguments: dict[str, Any] | str
) -> None:
    async with Toolkit(make_settings()) as opened:
        result = await opened.call(name, arguments)
    assert result.is_error
    assert result.structured["error"]["kind"] == "invalid_input"


@pytest.mark.anyio
async def test_a_result_is_the_same_as_through_mcp(make_settings: Make) -> None:
    arguments = {"prompt": "a kite", "dry_run": True}
    async with Client(build(make_settings())) as client, Toolkit(make_settings()) as opened:
        expected = await client.call_tool("create_video", arguments)
        assert (await opened.call("create_video", arguments)).structured == expected.structured_content


@pytest.mark.anyio
@pytest.mark.parametrize("text", ['{"prompt": "a ki', "[]", "7", '"{}', "[" * 100_000, '{"prompt": "a \\ud83d"}'])
async def test_arguments_that_are_no_object_in_json_are_refused_and_nothing_is_submitted(
    make_settings: Make, text: str
) -> None:
    async with Toolkit(make_settings()) as opened:
        result = await opened.call("create_video", text)
        assert (await use(opened, "list_videos"))["videos"] == []
    assert result.is_error
    assert result.structured["outcome"] == "not_submitted"
    assert result.structured["error"]["kind"] == "invalid_input"
    assert "Nothing was submitted" in result.text


@pytest.mark.anyio
@pytest.mark.parametrize("nothing", [None, {}, "", " ", "{}", "null"])
async def test_no_arguments_may_be_written_in_any_way(make_settings: Make, nothing: Any) -> None:
    async with Toolkit(make_settings()) as opened:
        assert (await opened.call("list_videos", nothing)).structured["videos"] == []


FEWEST: dict[str, dict[str, Any]] = {
    "create_video": {"prompt": "a kite", "dry_run": True},
    "storyboard_video": {"actions": [{"time": 0, "description": "a kite"}], "dry_run": True},
    "remix_video": {"prompt": "red", "source_generation_id": "task_none", "dry_run": True},
    "blend_videos": {"inpaint_items": [{"generation_id": "task_a"}, {"generation_id": "task_b"}], "dry_run": True},
    "get_video": {"task_id": "task_none"},
    "list_videos": {},
    "view_video": {"task_id": "task_none"},
    "download_video": {"task_id": "task_none"},
    "describe_gateway": {},
}


@pytest.mark.anyio
@pytest.mark.parametrize("tool", toolkit.openai_responses(), ids=lambda tool: str(tool["name"]))
async def test_null_for_an_optional_argument_is_its_absence(make_settings: Make, tool: dict[str, Any]) -> None:
    given = FEWEST[tool["name"]]
    nulled = with_nulls(tool["parameters"], given)
    Draft202012Validator(tool["parameters"]).validate(nulled)
    async with Toolkit(make_settings()) as opened:
        assert await opened.call(tool["name"], json.dumps(nulled)) == await opened.call(tool["name"], given)


@pytest.mark.anyio
async def test_a_missing_setting_is_an_error_that_names_it(make_settings: Make) -> None:
    async with Toolkit(make_settings(base_url=None)) as opened:
        result = await opened.call("create_video", {"prompt": "a kite"})
    assert result.structured["error"]["kind"] == "not_configured"
    assert "SORA_BASE_URL" in result.text


def test_settings_come_from_the_environment_and_a_bad_one_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORA_QUERY_TIMEOUT", "soon")
    with pytest.raises(NotConfigured, match="SORA_QUERY_TIMEOUT"):
        Toolkit()


@pytest.mark.anyio
async def test_without_settings_the_environment_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SORA_BASE_URL", "sandbox")
    monkeypatch.setenv("SORA_HOME", str(tmp_path))
    async with Toolkit() as opened:
        assert (await use(opened, "list_videos"))["gateway"] == "sandbox"


# --- opening and closing --------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_call_before_opening_or_after_closing_says_how_to_open_it(make_settings: Make) -> None:
    mine = Toolkit(make_settings())
    with pytest.raises(RuntimeError, match="not open: call it inside"):
        await mine.call("list_videos")
    async with mine:
        await use(mine, "list_videos")
    with pytest.raises(RuntimeError, match="not open: call it inside"):
        await mine.call("list_videos")


@pytest.mark.anyio
async def test_opening_it_twice_at_once_is_refused_and_once_again_later_is_not(make_settings: Make) -> None:
    mine = Toolkit(make_settings())
    async with mine:
        with pytest.raises(RuntimeError, match="open already"):
            await mine.__aenter__()
        await use(mine, "list_videos")
    async with mine:
        await use(mine, "list_videos")


@pytest.mark.anyio
async def test_a_call_from_another_thread_is_refused_before_anything_is_sent(make_settings: Make) -> None:
    async with fault_gateway() as gateway:
        gateway.on("POST", CREATE, says({"code": "success", "message": "", "data": "task_new"}))
        async with Toolkit(make_settings(base_url=gateway.address, api_key=KEY)) as mine:

            def elsewhere(name: str) -> Result:
                return asyncio.run(mine.call(name, {"prompt": "a kite"} if name == "create_video" else {}))

            with anyio.fail_after(20):
                refused = await anyio.to_thread.run_sync(elsewhere, "create_video")
                listed = await anyio.to_thread.run_sync(elsewhere, "list_videos")
            assert refused.structured["outcome"] == "not_submitted"
            assert "Nothing was submitted" in refused.text
            for result in (refused, listed):
                assert result.is_error
                assert "opened in another event loop" in result.text
            assert gateway.received == []
            await use(mine, "create_video", prompt="a kite")
        assert len(gateway.creates()) == 1


def test_a_call_from_an_event_loop_after_the_one_that_opened_it_is_refused(make_settings: Make) -> None:
    mine, opened, leave = Toolkit(make_settings()), asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with mine:
            opened.set()
            await leave.wait()
            await use(mine, "list_videos")

    async def leave_elsewhere() -> None:
        await mine.__aexit__(None, None, None)

    with closing(asyncio.new_event_loop()) as first:
        holding = first.create_task(hold())
        first.run_until_complete(opened.wait())
        result = asyncio.run(mine.call("create_video", {"prompt": "a kite"}))
        with pytest.raises(RuntimeError, match="opened in another event loop"):
            asyncio.run(leave_elsewhere())
        leave.set()
        first.run_until_complete(holding)
    assert result.structured["outcome"] == "not_submitted"
    assert "opened in another event loop" in result.text


@pytest.mark.anyio
async def test_what_is_raised_inside_comes_out_as_it_is(make_settings: Make) -> None:
    with pytest.raises(KeyError, match="mine"):  # not an exception group
        async with Toolkit(make_settings()):
            raise KeyError("mine")


@pytest.mark.anyio
async def test_two_toolkits_share_one_ledger_and_close_apart(make_settings: Make) -> None:
    async with Toolkit(make_settings()) as first:
        async with Toolkit(make_settings()) as second:
            made = await use(first, "create_video", prompt="a kite")
            again = await use(second, "create_video", prompt="a kite")
            assert (again["task_id"], again["duplicate"]) == (made["task_id"], True)
        assert [each["task_id"] for each in (await use(first, "list_videos"))["videos"]] == [made["task_id"]]


@pytest.fixture
async def held() -> AsyncIterator[tuple[FaultGateway, Hold]]:
    """A gateway that answers a create only when it is let."""
    hold = Hold()
    body = json.dumps({"code": "success", "message": "", "data": "task_new"}).encode()
    async with fault_gateway() as gateway:
        gateway.on("POST", CREATE, Answer(200, body, {"Content-Type": "application/json"}, hold=hold))
        gateway.on("GET", CREATE, says({"code": "success", "data": {"task_id": "task_new", "status": "IN_PROGRESS"}}))
        yield gateway, hold


async def check_paid_once(gateway: FaultGateway, settings: Settings) -> None:
    async with Toolkit(settings) as later:
        listed = await use(later, "list_videos")
    assert [each["task_id"] for each in listed["videos"]] == ["task_new"]
    assert len(gateway.creates()) == 1


@pytest.mark.anyio
async def test_a_cancelled_call_is_still_paid_for_once_and_recorded(
    make_settings: Make, held: tuple[FaultGateway, Hold]
) -> None:
    gateway, hold = held
    settings = make_settings(base_url=gateway.address, api_key=KEY)
    async with Toolkit(settings) as opened:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(opened.call, "create_video", {"prompt": "a kite"})
            await hold.reached.wait()
            tasks.cancel_scope.cancel()
        hold.release.set()
    await check_paid_once(gateway, settings)


@pytest.mark.anyio
async def test_an_agent_cancelled_by_asyncio_leaves_its_payment_recorded(
    make_settings: Make, held: tuple[FaultGateway, Hold]
) -> None:
    gateway, hold = held
    settings = make_settings(base_url=gateway.address, api_key=KEY)

    async def agent() -> None:
        async with Toolkit(settings) as opened:
            await opened.call("create_video", {"prompt": "a kite"})

    task = asyncio.create_task(agent())
    await hold.reached.wait()
    task.cancel()
    hold.release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    await check_paid_once(gateway, settings)


@pytest.mark.anyio
async def test_the_key_is_in_no_result(make_settings: Make) -> None:
    async with fault_gateway() as gateway:
        gateway.on("POST", CREATE, says({"code": "quota", "message": f"no quota for Bearer {KEY}"}, 403))
        gateway.on("GET", CREATE, says({"code": "bad", "message": f"bad key {KEY}"}, 401))
        async with Toolkit(make_settings(base_url=gateway.address, api_key=KEY)) as opened:
            calls = [("create_video", {"prompt": "a kite"}), ("get_video", {"task_id": "task_x"}), ("list_videos", {})]
            results = [await opened.call(name, arguments) for name, arguments in calls]
        assert any(KEY in request.headers.get("authorization", "") for request in gateway.received)
    assert KEY not in repr([results, opened])


# --- answers --------------------------------------------------------------------------------------

FOUND = Result("4 stills of task_a.", {"task_id": "task_a", "title": "naïve"}, picture=b"\xff\xd8\xff\xfe")
REFUSAL = Result("prompt: is missing.", {"outcome": "not_submitted", "error": {"kind": "invalid_input"}}, is_error=True)
SAID = '4 stills of task_a.\n{"task_id":"task_a","title":"naïve"}'


def test_an_answer_to_openai_holds_the_words_and_the_picture() -> None:
    answer = Toolkit.openai_answer("call_1", FOUND)
    words, picture = answer["output"]
    assert (answer["type"], answer["call_id"]) == ("function_call_output", "call_1")
    assert words == {"type": "input_text", "text": SAID}
    assert b64decode(picture["image_url"].removeprefix("data:image/jpeg;base64,")) == FOUND.picture


def test_an_answer_to_openai_chat_holds_the_words() -> None:
    answer = Toolkit.openai_answer("call_1", FOUND, chat=True)
    assert answer == {"role": "tool", "tool_call_id": "call_1", "content": SAID}


def test_an_answer_to_anthropic_holds_the_words_and_the_picture_and_marks_an_error() -> None:
    answer = Toolkit.anthropic_answer("toolu_1", FOUND)
    words, picture = answer["content"]
    assert (answer["type"], answer["tool_use_id"], answer["is_error"]) == ("tool_result", "toolu_1", False)
    assert words == {"type": "text", "text": SAID}
    assert picture["source"]["media_type"] == "image/jpeg"
    assert b64decode(picture["source"]["data"]) == FOUND.picture
    assert Toolkit.anthropic_answer("toolu_1", REFUSAL)["is_error"] is True


def test_an_answer_to_gemini_holds_the_result_as_output_or_as_error() -> None:
    found = Toolkit.gemini_answer("view_video", FOUND, call_id="c1")["functionResponse"]
    assert (found["name"], found["id"]) == ("view_video", "c1")
    assert found["response"] == {"output": {"text": FOUND.text, **FOUND.structured}}
    assert found["parts"][0]["inlineData"]["mimeType"] == "image/jpeg"
    assert b64decode(found["parts"][0]["inlineData"]["data"]) == FOUND.picture
    refused = Toolkit.gemini_answer("create_video", REFUSAL)["functionResponse"]
    assert refused == {"name": "create_video", "response": {"error": {"text": REFUSAL.text, **REFUSAL.structured}}}


def test_a_picture_is_called_what_it_is() -> None:
    png = replace(FOUND, picture=b"\x89PNG\r\n\x1a\n\xff")
    openai, anthropic = Toolkit.openai_answer("id", png), Toolkit.anthropic_answer("id", png)
    assert openai["output"][1]["image_url"].startswith("data:image/png;base64,")
    assert anthropic["content"][1]["source"]["media_type"] == "image/png"
    gemini = Toolkit.gemini_answer("view_video", png)["functionResponse"]
    assert gemini["parts"][0]["inlineData"]["mimeType"] == "image/png"


def test_every_answer_can_be_sent_as_json() -> None:
    answers = Toolkit.openai_answer, Toolkit.anthropic_answer, Toolkit.gemini_answer
    assert all(json.dumps(answer("id", FOUND)) for answer in answers)


def test_the_tools_of_each_vendor_are_there_without_opening() -> None:
    assert Toolkit.openai() == toolkit.openai_responses()
    assert Toolkit.openai(chat=True) == toolkit.openai_chat()
    assert Toolkit.anthropic() == toolkit.anthropic()
    assert Toolkit.gemini() == [{"functionDeclarations": toolkit.gemini()}]
    assert "get_video" in Toolkit.instructions
