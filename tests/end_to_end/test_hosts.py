"""What real hosts do with results: they drop pictures, time calls out, and do not say that one has failed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from bench import ACCEPTED, RUNNING, Connect, Era, environment, over_http
from calls import NOTHING_SENT, ask
from fault_gateway import CREATE, Answer, FaultGateway, says
from mcp import Client, MCPError

from sora_mcp.config.settings import Settings
from sora_mcp.toolkit import Toolkit

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]

# --- the picture ----------------------------------------------------------------------------------


async def test_a_view_has_a_picture_and_no_structured_content_that_could_hide_it(client: Client) -> None:
    made = await ask(client, "create_video", {"prompt": "a fox", "width": 480, "height": 480})
    task_id = made.data["task_id"]
    await ask(client, "get_video", {"task_id": task_id, "wait_seconds": 30})
    look = await client.call_tool("view_video", {"task_id": task_id, "frames": 16})
    words, mirror, picture = look.content
    assert look.structured_content is None
    assert isinstance(words, types.TextContent)
    assert isinstance(mirror, types.TextContent)
    assert isinstance(picture, types.ImageContent)
    assert json.loads(mirror.text)["frames"] == 16
    content = base64.b64decode(picture.data)
    assert (picture.mime_type, content[:3]) == ("image/jpeg", b"\xff\xd8\xff")
    assert len(content) <= 60_000


async def test_an_error_of_a_view_keeps_its_structured_content(client: Client) -> None:
    refused = await client.call_tool("view_video", {"task_id": "task_1", "frames": 17})
    assert refused.is_error
    assert refused.structured_content is not None
    assert refused.structured_content["error"]["kind"] == "invalid_input"


# --- time-outs ------------------------------------------------------------------------------------


async def wait(client: Client, seconds: int = 50, **options: Any) -> tuple[float, str]:
    """Wait for a video that does not finish: how long it took, and what to do next."""
    began = anyio.current_time()
    told = await client.call_tool("get_video", {"task_id": "task_new", "wait_seconds": seconds}, **options)
    return anyio.current_time() - began, str(told.structured_content["next_step"])


async def give_up_after(client: Client, seconds: float) -> None:
    with pytest.raises(MCPError):
        await wait(client, read_timeout_seconds=seconds)


async def test_after_a_time_out_the_next_waits_are_shorter_and_the_advice_says_so(era: Era, connect: Connect) -> None:
    async with connect(era) as client:
        told = await ask(client, "create_video", {"prompt": "fly man"})
        assert "wait_seconds 50" in told.text
        await give_up_after(client, 4.2)
        told = await ask(client, "create_video", {"prompt": "fly man"})
        assert "wait_seconds 3 " in told.text
        assert "wait_seconds 3 " in (await wait(client, 1))[1]  # one that is shorter stays as it is
        with anyio.fail_after(4.2):
            took, next_step = await wait(client)
        assert took >= 3
        assert "wait_seconds 3 " in next_step
        assert "wait_seconds 6 " in (await wait(client, 0))[1]  # it was a user who cancelled the first, perhaps


async def test_after_a_time_out_a_wait_for_a_list_is_shorter_too(connect: Connect) -> None:
    async with connect() as client:
        await ask(client, "create_video", {"prompt": "fly man"})
        await give_up_after(client, 4.2)
        with anyio.fail_after(4.2):
            told = await ask(client, "list_videos", {"wait_seconds": 50})
    assert told.data["waited_for"] == 1


async def test_a_user_who_cancels_a_wait_does_not_shorten_the_next(connect: Connect) -> None:
    async with connect() as client:
        await ask(client, "create_video", {"prompt": "fly man"})
        for seconds in (0.1, 1.2):
            await give_up_after(client, seconds)
        assert "wait_seconds 50" in (await wait(client, 0))[1]


async def test_over_http_each_session_has_its_own_patience(gateway: FaultGateway, tmp_path: Path) -> None:
    async with (
        over_http(environment(tmp_path, gateway)) as (address, _),
        Client(address, mode="legacy") as hurried,
        Client(address, mode="legacy") as patient,
    ):
        await ask(hurried, "create_video", {"prompt": "fly man"})
        await give_up_after(hurried, 4.2)
        assert "wait_seconds 3 " in (await wait(hurried, 0))[1]
        assert "wait_seconds 50" in (await wait(patient, 0))[1]


async def test_a_toolkit_learns_it_too(make_settings: Callable[..., Settings], gateway: FaultGateway) -> None:
    async with Toolkit(make_settings(base_url=gateway.address, api_key="sk-1")) as toolkit:
        await toolkit.call("create_video", {"prompt": "fly man"})
        with anyio.move_on_after(4.2):
            await toolkit.call("get_video", {"task_id": "task_new", "wait_seconds": 50})
        told = await toolkit.call("get_video", {"task_id": "task_new"})
    assert "wait_seconds 3 " in told.text


# --- the sentence of an error ---------------------------------------------------------------------


def errors() -> Iterator[Any]:
    """A tool, its arguments, what the gateway answers, and what the sentence has to say."""
    refused = says({"error": {"message": "no quota", "type": "new_api_error", "code": "quota_not_enough"}}, 403)
    yield pytest.param("create_video", {"width": 481}, ACCEPTED, NOTHING_SENT, id="refused by us")
    yield pytest.param("create_video", {"prompt": "x"}, refused, "No video was created.", id="rejected")
    yield pytest.param("create_video", {"prompt": "x"}, Answer(502), "do not submit it again blindly", id="unknown")
    yield pytest.param("make_video", {}, ACCEPTED, "unknown tool", id="an unknown tool")
    yield pytest.param("get_video", {"task_id": "task_none"}, ACCEPTED, "no task task_none", id="not found")
    yield pytest.param("view_video", {"task_id": "task_none"}, ACCEPTED, "no task task_none", id="not found to view")


@pytest.mark.parametrize(("tool", "arguments", "answer", "words"), list(errors()))
async def test_the_sentence_of_an_error_says_by_itself_that_it_is_one(  # noqa: PLR0917 - fixtures
    tool: str, arguments: dict[str, Any], answer: Answer, words: str, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("POST", CREATE, answer)
    gateway.on("GET", CREATE, RUNNING)
    gateway.on("GET", f"{CREATE}/task_none", says({"code": "task_not_exist", "message": "no"}, 400))
    async with connect() as client:
        told = await ask(client, tool, arguments)
    assert told.is_error
    assert told.text.startswith("Error: ")
    assert words in told.text
