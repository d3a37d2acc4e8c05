"""Waiting for a video: trouble that may pass is waited out, and what is told meanwhile only ever goes forward."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import anyio
import pytest
from bench import ACCEPTED, RUNNING, Connect, Era, finished, task_reply
from calls import ToolReply, ask
from fault_gateway import CREATE, Answer, FaultGateway, fault_gateway, says
from mcp import Client

pytestmark = pytest.mark.anyio

HTML = Answer(503, b"<html>503 Service Temporarily Unavailable</html>", {"Content-Type": "text/html"})
NOT_KNOWN = says({"code": "task_not_exist", "message": "no"}, 400)
DONE = finished("http://127.0.0.1:9/v.mp4")
PASSING = {
    "503 of a proxy": HTML,
    "502": says({"code": "fail_to_fetch_task", "message": "no"}, 502),
    "429": says({"error": {"message": "busy", "type": "new_api_error"}}, 429),
    "closed": replace(RUNNING, fault="close"),
    "reset": replace(RUNNING, fault="reset_after_request"),
    "cut off": replace(RUNNING, fault="truncate"),
    "not a task": says([]),
    "not known yet": NOT_KNOWN,
    "not known yet, by status": says({"error": {"message": "no such task", "type": "new_api_error"}}, 404),
}


async def created(client: Client) -> None:
    await client.call_tool("create_video", {"prompt": "fly man"})


async def get(client: Client, seconds: int, task_id: str = "task_new") -> ToolReply:
    return await ask(client, "get_video", {"task_id": task_id, "wait_seconds": seconds})


# --- trouble that passes --------------------------------------------------------------------------


async def test_whoever_waits_after_others_have_met_trouble_asks_soon(
    era: Era, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, says({"error": {"message": "later"}}, 503))
    async with connect(era) as client:
        await created(client)
        await get(client, 4)
        gateway.on("GET", CREATE, DONE)
        assert (await get(client, 20)).data["state"] == "succeeded"


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
async def test_passing_trouble_is_waited_out_from_the_first_look_on(
    answer: Answer, era: Era, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, *[answer] * 4, RUNNING, *[answer] * 4, DONE)
    async with connect(era) as client:
        await created(client)
        told = await get(client, 20)
    assert not told.is_error, told.text
    assert told.data["state"] == "succeeded"
    assert "nothing about the video" not in told.text


async def test_a_gateway_that_asks_for_patience_is_asked_again_when_it_is_over(
    gateway: FaultGateway, connect: Connect
) -> None:
    busy = says({"error": {"message": "busy", "type": "new_api_error"}}, 429, Retry_After="6")
    gateway.on("GET", CREATE, busy, DONE)
    async with connect() as client:
        await created(client)
        began = anyio.current_time()
        told = await get(client, 20)
        took = anyio.current_time() - began
    assert told.data["state"] == "succeeded"
    assert 6 <= took < 12


async def test_an_id_of_elsewhere_is_asked_about_until_the_gateway_answers(
    era: Era, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, *[HTML] * 4, DONE)
    async with connect(era) as client:
        told = await get(client, 20, "task_elsewhere")
    assert not told.is_error, told.text
    assert told.data["state"] == "succeeded"


# --- trouble that stays ---------------------------------------------------------------------------


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
async def test_when_the_time_is_over_what_the_ledger_knows_is_told_with_the_trouble(
    answer: Answer, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, answer)
    async with connect() as client:
        await created(client)
        told = await get(client, 1)
        listed = await ask(client, "list_videos", {})
    assert not told.is_error, told.text
    assert told.data["state"] == "submitted"
    assert "so this may be out of date." in told.text
    assert told.data["next_step"] in told.text
    assert not [word for word in ("failed", "rejected", "not created") if word in told.text]
    assert [video["state"] for video in listed.data["videos"]] == ["submitted"]


async def test_trouble_that_comes_while_somebody_waits_is_told_at_the_end(
    gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, RUNNING, HTML)
    async with connect() as client:
        await created(client)
        told = await get(client, 2)
    assert (told.data["state"], told.data["progress"]) == ("running", 40)
    assert "503" in told.text
    assert "so this may be out of date." in told.text


async def test_trouble_that_has_passed_is_not_told(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("GET", CREATE, *[HTML] * 4, RUNNING)
    async with connect() as client:
        await created(client)
        told = await get(client, 2)
    assert told.data["state"] == "running"
    assert "nothing about the video" not in told.text


@pytest.mark.parametrize("seconds", [0, 1])
async def test_a_gateway_that_cannot_be_reached_is_told(seconds: int, connect: Connect) -> None:
    async with fault_gateway() as opened:
        opened.on("POST", CREATE, ACCEPTED)
        async with connect(base_url=opened.address) as client:
            await created(client)
    async with connect(base_url=opened.address) as client:
        told = await get(client, seconds)
    assert "could not be reached" in told.text
    assert told.is_error == (seconds == 0)
    if seconds:
        assert told.data["state"] == "submitted"
    else:
        assert (told.data["error"]["kind"], told.data["error"]["retryable"]) == ("unreachable", True)


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
async def test_who_does_not_wait_is_told_at_once_and_may_call_again(
    answer: Answer, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, answer)
    async with connect() as client:
        await created(client)
        told = await get(client, 0)
    assert told.is_error
    assert told.data["error"]["retryable"] is True


async def test_trouble_about_an_id_of_elsewhere_is_told_when_the_time_is_over(
    gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, HTML)
    async with connect() as client:
        told = await get(client, 1, "task_elsewhere")
    assert told.is_error
    assert (told.data["error"]["kind"], told.data["error"]["retryable"]) == ("bad_reply", True)
    assert len(gateway.requests("GET")) > 3


FINAL = {
    "an id that nobody knows": (NOT_KNOWN, "task_elsewhere", "not_found"),
    "a wrong key": (says({"error": {"message": "no", "type": "new_api_error"}}, 401), "task_new", "refused"),
    "a key without rights": (says({}, 403), "task_new", "refused"),
}


@pytest.mark.parametrize(("answer", "task_id", "kind"), FINAL.values(), ids=FINAL)
async def test_what_waiting_does_not_help_is_told_at_once(  # noqa: PLR0917 - fixtures
    answer: Answer, task_id: str, kind: str, era: Era, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, answer)
    async with connect(era) as client:
        await created(client)
        began = anyio.current_time()
        told = await get(client, 30, task_id)
        took = anyio.current_time() - began
    assert took < 5
    assert told.is_error
    assert (told.data["error"]["kind"], told.data["error"]["retryable"]) == (kind, False)
    assert len(gateway.requests("GET", f"{CREATE}/{task_id}")) == 1


async def test_what_is_refused_while_somebody_waits_is_told_at_once(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("GET", CREATE, RUNNING, says({}, 401))
    async with connect() as client:
        await created(client)
        with anyio.fail_after(10):
            told = await get(client, 30)
    assert told.data["error"]["kind"] == "refused"


# --- progress -------------------------------------------------------------------------------------


async def test_progress_is_the_time_waited_and_only_ever_increases(
    era: Era, gateway: FaultGateway, connect: Connect
) -> None:
    steps = [task_reply("IN_PROGRESS", progress=f"{percent}%") for percent in (40, 40, 10, 0, 70)]
    gateway.on("GET", CREATE, task_reply("NOT_START"), *steps)
    told: list[tuple[float, float | None, str | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, total, message))

    async with connect(era) as client:
        await created(client)
        await client.call_tool("get_video", {"task_id": "task_new", "wait_seconds": 6}, progress_callback=tell)
        number = len(told)
        await client.call_tool("list_videos", {})
    assert len(told) == number >= 4
    done = [progress for progress, _, _ in told]
    assert all(later > earlier for earlier, later in pairwise(done))
    assert 0 <= done[0] < 1
    assert done[-1] <= 6
    assert {total for _, total, _ in told} == {6}
    messages = [message for _, _, message in told]
    assert messages[0] == "task_new is queued"
    assert "task_new is running, 40 %" in messages
    assert "task_new is running, 10 %" in messages


# --- the state and the gateway's own word for it --------------------------------------------------


async def test_the_gateways_word_is_the_one_of_the_look_that_the_state_comes_from(
    era: Era, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, RUNNING, HTML)
    async with connect(era) as client:
        await created(client)
        looks = [await get(client, 0), await get(client, 0), await get(client, 1)]
    known = [(look.data["state"], look.data["gateway_state"]) for look in looks if not look.is_error]
    assert set(known) == {("running", "IN_PROGRESS")}
    assert len(known) >= 2


async def test_a_word_that_changes_no_state_any_more_is_not_told(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("GET", CREATE, finished(f"{gateway.address}/v.mp4"), RUNNING)
    async with connect() as client:
        await created(client)
        await get(client, 20)
        await ask(client, "download_video", {"task_id": "task_new"})
        told = await get(client, 0)
    assert len(gateway.requests("GET", f"{CREATE}/task_new")) == 2
    assert (told.data["state"], told.data["gateway_state"]) == ("succeeded", "SUCCESS")
