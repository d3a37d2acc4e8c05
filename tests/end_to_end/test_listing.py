"""Lists: waits that come to an end, filters that are plain text, why one is empty, and rows of earlier releases."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import ACCEPTED_NEXT, KEY, RUNNING, Connect, Era, Run, task_reply
from calls import ToolReply, ask
from fault_gateway import CREATE, Answer, FaultGateway, Hold, fault_gateway, says
from mcp import Client

from sora_mcp.config.settings import Settings
from sora_mcp.core.models import VideoRequest
from sora_mcp.server.surface import SoraServer
from sora_mcp.studio import Studio
from sora_mcp.tools.list_sentences import render_list

pytestmark = pytest.mark.anyio

HTML = Answer(503, b"<html>503 Service Temporarily Unavailable</html>", {"Content-Type": "text/html"})


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    """Every create gets an id of its own, and nothing ever finishes."""
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    return gateway


async def made(client: Client, *prompts: str) -> None:
    for prompt in prompts:
        told = await ask(client, "create_video", {"prompt": prompt})
        assert told.data["outcome"] == "accepted"


async def listed(client: Client, **arguments: Any) -> ToolReply:
    told = await ask(client, "list_videos", arguments)
    assert not told.is_error, told.text
    return told


def prompts(told: ToolReply) -> list[str]:
    return [video["prompt"] for video in told.data["videos"]]


def done(task_id: str) -> Answer:
    data = {"generations": [{"id": f"gen_{task_id}", "url": "http://127.0.0.1:9/v.mp4"}]}
    return task_reply("SUCCESS", task_id=task_id, data=data)


# --- waiting --------------------------------------------------------------------------------------


async def test_a_wait_for_what_never_ends_ends_in_time_and_only_goes_forward(era: Era, connect: Connect) -> None:
    steps: list[tuple[float, float | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        assert message == "0 of 2 have finished"
        steps.append((progress, total))

    async with connect(era) as client:
        await made(client, "fox", "hare")
        began = anyio.current_time()
        result = await client.call_tool("list_videos", {"wait_seconds": 2}, progress_callback=tell)
        took = anyio.current_time() - began
    assert 2 <= took < 5
    assert (result.structured_content["waited_for"], result.structured_content["finished"]) == (2, 0)
    assert "list_videos with wait_seconds 50" in result.structured_content["next_step"]
    assert len(steps) > 2
    assert all(later > earlier for (earlier, _), (later, _) in pairwise(steps))
    assert {total for _, total in steps} == {2}


async def test_only_what_was_under_way_at_first_is_waited_for(gateway: FaultGateway, connect: Connect) -> None:
    async with connect() as client:
        await made(client, "fox")

        async def tell(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
            if len(gateway.creates()) == 1:
                await made(client, "hare")
                gateway.on("GET", f"{CREATE}/task_1", done("task_1"))

        with anyio.fail_after(15):
            result = await client.call_tool("list_videos", {"wait_seconds": 30}, progress_callback=tell)
    listing = result.structured_content
    assert (listing["waited_for"], listing["finished"], len(listing["videos"])) == (1, 1, 2)


async def test_one_that_is_done_does_not_end_the_wait_for_the_others(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("GET", f"{CREATE}/task_1", done("task_1"))
    gateway.on("GET", f"{CREATE}/task_2", says({"code": "task_not_exist", "message": "no"}, 400))
    async with connect() as client:
        await made(client, "fox", "hare", "owl")
        told = await listed(client, wait_seconds=2)
    assert (told.data["waited_for"], told.data["finished"]) == (3, 1)
    assert "1 of the 3 that were under way have finished." in told.text


async def test_a_wait_can_be_for_what_a_filter_lets_through(gateway: FaultGateway, connect: Connect) -> None:
    async with connect() as client:
        await made(client, "fox", "hare")
        gateway.on("GET", f"{CREATE}/task_1", *[task_reply("IN_PROGRESS", task_id="task_1")] * 3, done("task_1"))
        with anyio.fail_after(15):
            told = await listed(client, wait_seconds=30, query="fox")
    assert (told.data["waited_for"], told.data["finished"]) == (1, 1)
    assert prompts(told) == ["fox"]
    assert "The one that was under way has finished." in told.text


async def test_what_is_just_being_sent_is_waited_for(gateway: FaultGateway, connect: Connect) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    gateway.on("GET", CREATE, done("task_1"))
    async with connect() as client, anyio.create_task_group() as calls:
        calls.start_soon(made, client, "fox")
        await hold.reached.wait()

        async def tell(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
            hold.release.set()

        with anyio.fail_after(15):
            result = await client.call_tool("list_videos", {"wait_seconds": 30}, progress_callback=tell)
    listing = result.structured_content
    assert (listing["waited_for"], listing["finished"], listing["counts"]) == (1, 1, {"succeeded": 1})


async def test_nothing_under_way_is_not_waited_for(connect: Connect) -> None:
    async with connect() as client:
        with anyio.fail_after(5):
            told = await listed(client, wait_seconds=50)
    assert (told.data["waited_for"], told.data["videos"]) == (0, [])


async def test_trouble_of_the_gateway_is_told_with_what_is_known(gateway: FaultGateway, connect: Connect) -> None:
    async with connect() as client:
        gateway.on("GET", CREATE, HTML)
        await made(client, "fox")
        for seconds in (0, 1):
            told = await listed(client, wait_seconds=seconds)
            assert [video["state"] for video in told.data["videos"]] == ["submitted"]
        assert "so this may be out of date." in told.text
        assert "503" in told.text
        gateway.on("GET", CREATE, done("task_1"))
        told = await listed(client, wait_seconds=20)
    assert told.data["finished"] == 1
    assert "503" not in told.text


NOT_YET = "The gateway has not answered so far."


@pytest.mark.parametrize("seconds", [2, 13])
async def test_a_gateway_that_hangs_is_told_whoever_asked_it(
    seconds: int, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, Answer(fault="stall"))
    async with connect() as client:
        await made(client, "fox", "hare")
        told = await listed(client, wait_seconds=seconds)
        assert NOT_YET in told.text
        assert "so this may be out of date." in told.text
        assert NOT_YET in (await listed(client)).text
        assert NOT_YET not in (await listed(client, query="owl")).text
        gateway.on("GET", CREATE, done("task_1"))
        gateway.on("GET", f"{CREATE}/task_2", done("task_2"))
    async with connect() as client:
        told = await listed(client, wait_seconds=30)
    assert told.data["finished"] == 2
    assert NOT_YET not in told.text


async def test_a_gateway_that_hangs_is_told_where_no_wait_was_asked_for(
    gateway: FaultGateway, make_settings: Callable[..., Settings]
) -> None:
    gateway.on("GET", CREATE, Answer(fault="stall"))
    async with Studio.open(make_settings(base_url=gateway.address, api_key=KEY)) as studio:
        await studio.submit(VideoRequest(operation="simple_compose", prompt="fox"))
        with anyio.fail_after(15):
            while NOT_YET not in render_list(await studio.list_videos()):  # at first it is too early to ask
                pass


@pytest.mark.parametrize("headers", [{"Retry_After": "100"}, {}])
async def test_a_gateway_that_asks_to_be_left_alone_is_told_in_every_list(
    headers: dict[str, str], gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, says({"error": {"message": "slow down"}}, 429, **headers))
    async with connect() as client:
        await made(client, "fox", "hare")
        for seconds in (1, 0, 1, 0):
            told = await listed(client, wait_seconds=seconds)
            assert "(status 429)" in told.text
            assert "so this may be out of date." in told.text


async def test_what_another_process_was_not_told_is_told(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("GET", CREATE, says({"error": {"message": "slow down"}}, 429, Retry_After="100"))
    async with connect() as client:
        await made(client, "fox")
        await listed(client, wait_seconds=1)
    async with connect() as client:
        told = await listed(client)
    assert "The gateway gave no usable answer when it was last asked." in told.text


async def test_a_wait_that_no_video_matches_says_so_and_advises_no_other(connect: Connect) -> None:
    async with connect() as client:
        await made(client, "fox")
        for seconds in (50, 0):
            with anyio.fail_after(30):
                told = await listed(client, query="dog", wait_seconds=seconds)
            assert "1 submitted" in told.text
            assert 'None of them has "dog" in its prompt or beats.' in told.text
            assert "list_videos" not in told.text
            assert "Nothing was under way" not in told.text
            assert ("None that match were under way." in told.text) == bool(seconds)
        assert "list_videos with the same query and wait_seconds 50" in (await listed(client, query="fox")).text


async def test_a_wait_that_cannot_help_ends_at_once(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("GET", CREATE, replace(RUNNING, status=401))
    async with connect() as client:
        await made(client, "fox", "hare")
        with anyio.fail_after(15):
            told = await listed(client, wait_seconds=30)
        assert (told.data["waited_for"], told.data["finished"]) == (2, 0)
        for text in (told.text, (await listed(client)).text):
            assert "status 401" in text
            assert "Ask the user to check SORA_API_KEY, or run `sora-mcp login` again" in text
            assert "wait_seconds" not in text


@pytest.mark.parametrize("seconds", [-1, 51, 3.5, "soon"])
async def test_a_wait_is_of_0_to_50_seconds(seconds: object, connect: Connect) -> None:
    async with connect() as client:
        told = await ask(client, "list_videos", {"wait_seconds": seconds})
    assert told.is_error
    assert "wait_seconds" in told.text


async def test_what_is_usual_is_said_of_the_same_gateway_once_there_is_enough_history(
    gateway: FaultGateway, connect: Connect
) -> None:
    for number in range(1, 6):
        gateway.on("GET", f"{CREATE}/task_{number}", done(f"task_{number}"))
    async with connect() as client:
        await made(client, "a first one of which nothing is known yet", "2", "3", "4")
        await listed(client, wait_seconds=20)
        await made(client, "5", "6")
        assert "usually takes a few minutes" in (await ask(client, "get_video", {"task_id": "task_6"})).text
        await listed(client, wait_seconds=2)
        told = await ask(client, "get_video", {"task_id": "task_6"})
    assert told.data["usual_seconds"] >= 1
    assert f"a video usually takes about {told.data['usual_seconds']} s here" in told.text
    async with fault_gateway() as other:
        other.on("POST", CREATE, ACCEPTED_NEXT)
        other.on("GET", CREATE, RUNNING)
        async with connect(base_url=other.address) as client:
            await made(client, "fox")
            assert "usually takes a few minutes" in (await listed(client)).text


# --- filters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query", ["%", "_", "*", "?", "%fox%", "f_x", "fox*", ".*", "x" * 10_000, "狐" * 10_000, "\\", "'", '"', "\u202ex"]
)
async def test_a_filter_is_plain_text_whatever_it_is(query: str, connect: Connect) -> None:
    async with connect() as client:
        await made(client, "fox", "hare")
        told = await listed(client, query=query)
    assert told.data["videos"] == []
    assert "None of them has " in told.text
    assert len(told.text) < 600


async def test_a_filter_finds_what_it_is(connect: Connect) -> None:
    async with connect() as client:
        await made(client, "100% wool", "snake_case", "five * stars", "fox\nand hare")
        for query, prompt in (("0%", "100% wool"), ("E_C", "snake_case"), ("* S", "five * stars")):
            assert prompts(await listed(client, query=query)) == [prompt]
        assert len((await listed(client, query="fox and")).data["videos"]) == 1
        for nothing in ("", "  ", None):
            assert len((await listed(client, query=nothing)).data["videos"]) == 4


async def test_the_word_null_is_a_filter_like_any_other(connect: Connect) -> None:
    async with connect() as client:
        await made(client, "null", "a fox")
        assert prompts(await listed(client, query="null")) == ["null"]


@pytest.mark.parametrize("query", ["istanbul", "İSTANBUL", "İstanbul", "Istanbul"])
async def test_a_dot_on_an_i_is_no_other_letter(query: str, connect: Connect) -> None:
    async with connect() as client:
        await made(client, "İstanbul at night", "ISTANBUL by day", "a fox")
        assert len((await listed(client, query=query)).data["videos"]) == 2


@pytest.mark.parametrize("query", ["\u200b", " \u200d\u2060 ", "\x00", "\u202e"])
async def test_a_filter_that_nobody_sees_is_refused(query: str, connect: Connect) -> None:
    async with connect() as client:
        told = await ask(client, "list_videos", {"query": query})
    assert told.is_error
    assert "query: is blank" in told.text


async def test_half_a_character_is_no_filter(remote: Callable[..., SoraServer]) -> None:
    async with Client(remote()) as client:
        told = await ask(client, "list_videos", {"query": "\uffff"})
    assert told.is_error
    assert "half a character" in told.text


# --- why it is empty ------------------------------------------------------------------------------


async def test_an_empty_list_says_what_filter_made_it_so(connect: Connect) -> None:
    async with connect() as client:
        await made(client, "fox")
        both = await listed(client, query="hare", status="failed")
        [fox] = (await listed(client)).data["videos"]
        oldest = await ask(client, "get_video", {"task_id": fox["task_id"]})
        beyond = await listed(client, cursor=oldest.data["request_id"])
    assert 'None of them has "hare" in its prompt or beats and has failed.' in both.text
    assert "There are no older ones." in beyond.text
    assert sum(both.data["counts"].values()) == sum(beyond.data["counts"].values()) == 1


async def test_an_empty_list_says_where_the_same_owner_has_more(gateway: FaultGateway, connect: Connect) -> None:
    name = gateway.address.partition("://")[2]
    async with connect(owner="zoe") as client:
        await made(client, "fox", "hare", "owl")
    async with connect(owner="zoe", api_key=f"{KEY}-2") as client:
        told = await listed(client)
        assert told.data["elsewhere"] == {f"{name} (another key)": 3}
        assert f"3 more of yours at {name} (another key)" in told.text
        await made(client, "an elk")
    async with connect(owner="zoe", base_url="sandbox") as client:
        told = await listed(client)
        assert told.text.startswith("No videos at sandbox yet. There are ")
        assert f"3 more of yours at {name}" in told.text or f"4 more of yours at {name}" in told.text
    for settings in ({"owner": "ann"}, {"owner": None}, {"owner": "zo"}):
        async with connect(base_url="sandbox", **settings) as client:
            told = await listed(client)
            assert told.text == "No videos at sandbox yet."
            assert "elsewhere" not in told.data


# --- rows of earlier releases ---------------------------------------------------------------------

OLDER = {
    "nothing": "{}",
    "null": "null",
    "no body": "",
    "no beats": '{"operation": "storyboard", "n_frames": 150}',
    "null beats": '{"operation": "storyboard", "actions": null, "inpaint_items": null, "sdedit": null}',
    "halves of beats": '{"actions": [{}, {"time": 3}, {"description": "x"}, null, 7, {"time": "a", "description": 1}]}',
    "beats as the gateway has them": '{"operation": "storyboard", "actions": {"0": "a door"}}',
    "items of another form": '{"operation": "blend", "inpaint_items": [null, {}, {"url": ""}, {"url": 7}, [1]]}',
    "an edit of another form": '{"operation": "remix", "sdedit": [1], "amount": "much"}',
    "amounts of another form": '{"operation": "remix", "sdedit": {"amount": true, "source_generation_id": 5}}',
}


@pytest.mark.parametrize("body", OLDER.values(), ids=OLDER)
async def test_a_row_without_what_is_told_today_is_told_without_it(
    body: str, gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", CREATE, done("task_1"))
    async with connect() as client:
        await made(client, "fox")
        await listed(client, wait_seconds=20)
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as db, db:
        db.execute("UPDATE videos SET body = ?", [body])
    async with connect() as client:
        [video] = (await listed(client)).data["videos"]
        assert video["state"] == "succeeded"
        assert "beats" not in video or video["beats"] == []
        told = await ask(client, "get_video", {"task_id": "task_1"})
        assert not told.is_error, told.text
        assert "amount" not in told.data
        assert "actions" not in told.data
        assert (await listed(client, query="door")).data["videos"] == []


DAMAGED = {
    "no JSON": "body = 'not json'",
    "a list": "body = '[]'",
    "another prompt": """body = '{"prompt": 7}'""",
    "a width that none has": """body = '{"width": 1e300, "height": 1e300}'""",
    "a length that none has": """body = '{"n_frames": 1e300}'""",
    "half a pixel": """body = '{"width": 0.5}'""",
    "nested without end": f"body = '{'[' * 100_000}'",
    "sources of another form": """sources = '[{"a": 1}]'""",
    "a cost in words": "cost = 'much'",
    "a time that none is": "created_at = 9e15",
}


@pytest.mark.parametrize("edit", DAMAGED.values(), ids=DAMAGED)
async def test_a_row_that_cannot_be_read_hides_no_other(
    edit: str, gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", CREATE, RUNNING)
    async with connect() as client:
        await made(client, "old fox", "spoilt", "new fox")
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as db, db:
        db.execute(f"UPDATE videos SET {edit} WHERE task_id = 'task_2'")  # noqa: S608 - ours
        [(request_id,)] = db.execute("SELECT request_id FROM videos WHERE task_id = 'task_2'")
    async with connect() as client:
        for arguments in ({}, {"wait_seconds": 1}, {"query": "fox"}):
            told = await listed(client, **arguments)
            assert prompts(told) == ["new fox", "old fox"], arguments
            if arguments != {"query": "fox"}:
                assert f"Tell the user: the ledger's row {request_id} is damaged and left out here" in told.text
        newest = await listed(client, limit=2)
        assert prompts(newest) == ["new fox"]
        assert prompts(await listed(client, limit=2, cursor=newest.data["next_cursor"])) == ["old fox"]
        one = await ask(client, "get_video", {"task_id": "task_2"})
        assert (one.is_error, f"row {request_id} is damaged" in one.text) == (True, True), one.text
        assert "Counted in the last 24 hours" in (await ask(client, "describe_gateway", {})).text


@pytest.mark.usefixtures("gateway")
async def test_where_no_row_can_be_read_each_is_named(connect: Connect, tmp_path: Path) -> None:
    async with connect() as client:
        await made(client, *map(str, range(5)))
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as db, db:
        db.execute("UPDATE videos SET body = 'x'")
        newest = [row[0] for row in db.execute("SELECT request_id FROM videos ORDER BY number DESC")]
    async with connect() as client:
        for arguments in ({}, {"query": "fox"}, {"status": "submitted"}):
            told = await listed(client, **arguments)
            assert told.data["videos"] == []
            assert f"the ledger's rows {', '.join(newest[:3])} and 2 more are damaged" in told.text
            assert "None of" not in told.text


# --- the shell ------------------------------------------------------------------------------------


def test_the_shell_waits_for_all_filters_and_sums_up(run: Run) -> None:
    for prompt in ("a fox", "a hare"):
        run("create", prompt, "--width", "480", "--height", "480")
    waited = run("list", "--wait")
    assert waited.returncode == 0
    assert waited.stderr.startswith("2 videos at sandbox: 2 succeeded; relative cost 2. All that were under way have")
    assert len(waited.stdout.splitlines()) == 2
    foxes = run("list", "--query", "FOX")
    assert [line.split()[-1] for line in foxes.stdout.splitlines()] == ["fox"]
    none = json.loads(run("list", "--query", "%", "--json").stdout)
    assert (none["videos"], none["counts"], none["cost"]) == ([], {"succeeded": 2}, 2)
    whole = json.loads(run("list", "--json").stdout)
    assert all(video["request_id"].startswith("req_") for video in whole["videos"])
