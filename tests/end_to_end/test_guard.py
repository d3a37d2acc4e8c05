"""What the guard against paying twice remembers, what a call is told of it, and what a dry run foresees."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import ACCEPTED_NEXT, KEY, PNG, Connect, task_reply
from fault_gateway import CREATE, Answer, FaultGateway, Hold, says
from mcp import Client

from sora_mcp.config.settings import Settings
from sora_mcp.core.models import VideoRequest
from sora_mcp.studio import Studio
from sora_mcp.studio.sources import Resolved

pytestmark = pytest.mark.anyio

LOST = replace(ACCEPTED_NEXT, fault="close")
NOT_THERE = says({"code": "task_not_exist", "message": "no"}, 400)
HOUR_S, DAY_S = 3600, 86_400


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    return gateway


async def call(client: Client, tool: str, **arguments: Any) -> tuple[str, dict[str, Any]]:
    """The sentence and the structured result."""
    called = await client.call_tool(tool, arguments)
    structured: dict[str, Any] = called.structured_content
    return called.content[0].text, structured  # type: ignore[union-attr]


async def create(client: Client, prompt: str = "fly man", **arguments: Any) -> dict[str, Any]:
    return (await call(client, "create_video", prompt=prompt, **arguments))[1]


@pytest.fixture
def age(tmp_path: Path) -> Callable[[float], None]:
    """Makes everything in the ledger older by some seconds."""

    def age(seconds: float) -> None:
        with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3", isolation_level=None)) as ledger:
            ledger.execute(
                "UPDATE videos SET created_at = created_at - :s, updated_at = updated_at - :s,"
                " looked_at = looked_at - :s, not_before = not_before - :s",
                {"s": seconds},
            )
            ledger.execute("UPDATE history SET at = at - ?", [seconds])

    return age


# --- what is open is a duplicate --------------------------------------------------------------------


@pytest.mark.parametrize("answer", [LOST, Answer(504, accepts=True)], ids=["connection lost", "504"])
async def test_what_is_unknown_is_never_sent_again_however_long_ago_it_was(
    connect: Connect, gateway: FaultGateway, age: Callable[[float], None], answer: Answer
) -> None:
    gateway.on("POST", CREATE, answer)
    async with connect() as client:
        first = await create(client)
        age(30 * DAY_S)
        again = await create(client)
        assert (again["outcome"], again["request_id"]) == ("unknown", first["request_id"])
        paid_again = await create(client, allow_duplicate=True)
        assert paid_again["request_id"] != first["request_id"]
    assert len(gateway.creates()) == 2


@pytest.mark.parametrize("status", ["QUEUED", "IN_PROGRESS", "a word that nobody knows"])
async def test_what_is_under_way_is_never_sent_again_however_long_ago_it_was(
    connect: Connect, gateway: FaultGateway, age: Callable[[float], None], status: str
) -> None:
    gateway.on("GET", CREATE, task_reply(status, task_id="task_1"))
    async with connect() as client:
        await create(client)
        age(HOUR_S)
        again = await create(client)
    assert (again["task_id"], again["duplicate"]) == ("task_1", True)
    assert len(gateway.creates()) == 1


async def test_the_gateway_is_asked_before_a_duplicate_is_told(
    connect: Connect, gateway: FaultGateway, age: Callable[[float], None]
) -> None:
    async with connect() as client:
        await create(client)
        age(HOUR_S)
        gateway.on("GET", CREATE, task_reply("FAILURE", fail_reason="out of memory"))
        text, again = await call(client, "create_video", prompt="fly man")
    assert (again["outcome"], again["task_id"]) == ("accepted", "task_2")
    assert "The same request failed" in text
    assert "out of memory" in text


async def test_a_success_ages_out_from_when_it_succeeded(
    connect: Connect, gateway: FaultGateway, age: Callable[[float], None]
) -> None:
    async with connect() as client:
        await create(client)
        age(DAY_S)
        gateway.on("GET", CREATE, task_reply("SUCCESS", result_url="https://videos.example/1.mp4"))
        assert (await create(client))["duplicate"]  # it has just been found out
        age(9 * 60)
        assert (await create(client))["duplicate"]
        age(2 * 60)
        assert "duplicate" not in await create(client)
    assert len(gateway.creates()) == 2


@pytest.mark.parametrize("prompt", ["fly man ", "\n fly man", "\tfly man\r\n", "\u3000fly man"])
async def test_outer_spaces_make_no_other_request(connect: Connect, gateway: FaultGateway, prompt: str) -> None:
    async with connect() as client:
        await create(client)
        assert (await create(client, prompt))["duplicate"]
        await create(client, "fly  man")
    assert len(gateway.creates()) == 2
    assert b'"fly man"' in gateway.creates()[0].body


_GOLDEN: list[tuple[dict[str, Any], str]] = [
    (
        {"operation": "simple_compose", "prompt": "fly man"},
        "23086a8474f3cd9111e5b8cdd95ac0a345b8c9831cf813f04af8deba1bd053cf",
    ),
    (
        {"operation": "simple_compose", "prompt": " fly man\n"},
        "f70e7f0764b5d15c8b2517e962ee74edd2ba6be378f704349bbe03f05eab2f15",
    ),
    (
        {
            "operation": "storyboard",
            "actions": [{"time": 0, "description": "a "}, {"time": 60, "description": "b"}],
        },
        "8d9c82c07185cea786e842ef821990d425fcae21fbdd28a33a4c6ec9baa10cdb",
    ),
    (
        {"operation": "remix", "prompt": "x", "sdedit": {"amount": 6, "source_generation_id": "gen_1"}},
        "fffb85342feb05f09b8e8c903526a61be4230114fc019faf2ee786448f9f07ec",
    ),
]


@pytest.mark.parametrize(("body", "fingerprint"), _GOLDEN)
def test_the_fingerprints_of_the_first_release_are_still_looked_up(body: dict[str, Any], fingerprint: str) -> None:
    ready = Resolved(VideoRequest.model_validate(body))
    assert fingerprint == ready.legacy_fingerprint


# --- across keys ------------------------------------------------------------------------------------


async def test_a_rotated_key_forgets_nothing(
    connect: Connect, gateway: FaultGateway, make_settings: Callable[..., Settings]
) -> None:
    gateway.on("POST", CREATE, LOST)
    async with connect() as before:
        first = await create(before)
    async with connect(api_key="sk-rotated-1") as after:
        again = await create(after)
        assert (again["outcome"], again["request_id"]) == ("unknown", first["request_id"])
        seen = (await call(after, "get_video", task_id=first["request_id"]))[1]
        assert seen["state"] == "unknown"
        assert (await call(after, "list_videos"))[1]["videos"] == []
    settings = make_settings(base_url=gateway.address, api_key="sk-rotated-1")
    async with Studio.open(settings) as studio:
        assert (await studio.settle(first["request_id"], None)).state == "rejected"
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    async with connect(api_key="sk-rotated-1") as after:
        assert (await create(after))["outcome"] == "accepted"
    assert len(gateway.creates()) == 2


async def test_a_task_of_another_key_is_given_up_after_a_day_and_not_because_this_key_is_told_nothing(
    connect: Connect, gateway: FaultGateway, make_settings: Callable[..., Settings], age: Callable[[float], None]
) -> None:
    async with connect() as before:
        first = await create(before)
    gateway.on("GET", CREATE, NOT_THERE)
    async with connect(api_key="sk-rotated-1") as after:
        assert (await create(after))["duplicate"]
        age(HOUR_S)
        told = (await call(after, "get_video", task_id="task_1"))[1]
        assert "another key" in told["error"]["message"]
    async with Studio.open(make_settings(base_url=gateway.address, api_key="sk-rotated-1")) as studio:
        age(HOUR_S)
        with pytest.raises(Exception, match="proves nothing"):
            await studio.settle(first["request_id"], None)
        age(DAY_S)
        assert (await studio.settle(first["request_id"], None)).state == "failed"
    assert len(gateway.creates()) == 1


async def test_any_unfinished_task_can_be_given_up_after_a_day_and_a_later_success_wins(
    connect: Connect, gateway: FaultGateway, make_settings: Callable[..., Settings], age: Callable[[float], None]
) -> None:
    async with connect() as client:
        first = await create(client)
        async with Studio.open(make_settings(base_url=gateway.address, api_key=KEY)) as studio:
            with pytest.raises(Exception, match="nothing to settle"):
                await studio.settle(first["request_id"], None)
            age(DAY_S + 1)
            assert (await studio.settle(first["request_id"], None)).state == "failed"
        gateway.on("GET", CREATE, task_reply("SUCCESS", result_url="https://videos.example/1.mp4"))
        age(HOUR_S)
        assert (await call(client, "get_video", task_id="task_1"))[1]["state"] == "succeeded"


# --- what was refused before ------------------------------------------------------------------------


async def test_the_same_that_was_blocked_before_is_sent_and_told_to_have_been(
    connect: Connect, gateway: FaultGateway
) -> None:
    async with connect() as client:
        await create(client)
        raw = {"moderation_result": {"is_output_rejection": True, "code": "likeness"}, "num_unsafe_generations": 1}
        gateway.on("GET", CREATE, task_reply("SUCCESS", data=raw))
        await call(client, "get_video", task_id="task_1", wait_seconds=20)
        text, again = await call(client, "create_video", prompt="fly man")
    assert again["outcome"] == "accepted"
    assert "The same request was blocked by moderation less than a minute ago" in text
    assert again["notes"][0] in text


# --- an adopted task --------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["IN_PROGRESS", "SUCCESS"])
async def test_whoever_waits_for_a_task_that_was_adopted_follows_it_into_the_request_that_made_it(
    connect: Connect, gateway: FaultGateway, tmp_path: Path, status: str
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    gateway.on("GET", CREATE, task_reply(status, task_id="task_1", result_url="https://videos.example/1.mp4"))
    seen: list[dict[str, Any]] = []

    async def wait(client: Client, video_id: str) -> None:
        seen.append((await call(client, "get_video", task_id=video_id, wait_seconds=20))[1])

    with anyio.fail_after(40):
        async with connect() as payer, connect() as other, anyio.create_task_group() as calls:
            calls.start_soon(create, payer)
            await hold.reached.wait()
            adopted = (await call(other, "get_video", task_id="task_1"))[1]
            calls.start_soon(wait, other, adopted["request_id"])
            calls.start_soon(wait, other, "task_1")
            await anyio.wait_all_tasks_blocked()
            hold.release.set()
            gateway.on(
                "GET", CREATE, task_reply("SUCCESS", task_id="task_1", result_url="https://videos.example/1.mp4")
            )
        async with connect() as later:
            await wait(later, adopted["request_id"])
            listed = (await call(later, "list_videos"))[1]["videos"]
    assert {(each["state"], each["task_id"]) for each in seen} == {("succeeded", "task_1")}
    assert [(each["task_id"], each["cost"]) for each in listed] == [("task_1", 1.25)]
    with closing(sqlite3.connect(tmp_path / "home" / "ledger.sqlite3")) as ledger:
        assert not ledger.execute("SELECT 1 FROM videos WHERE state = 'rejected'").fetchall()


# --- caps -------------------------------------------------------------------------------------------


async def test_what_is_running_is_asked_about_before_the_cap_refuses(connect: Connect, gateway: FaultGateway) -> None:
    async with connect(max_running=1) as client:
        await create(client)
        gateway.on("GET", CREATE, task_reply("SUCCESS", task_id="task_1", result_url="https://videos.example/1.mp4"))
        assert (await create(client, "another"))["outcome"] == "accepted"


async def test_a_cap_names_what_stands_in_the_way_and_the_way_out(connect: Connect, gateway: FaultGateway) -> None:
    async with connect(max_running=2) as client:
        await create(client)
        gateway.on("POST", CREATE, LOST)
        lost = await create(client, "lost")
        text, refused = await call(client, "create_video", prompt="another")
    assert refused["outcome"] == "not_submitted"
    assert "task_1" in text
    assert "get_video" in text
    assert f"sora-mcp settle {lost['request_id']}" in text
    assert text.index("settle") < text.rindex("SORA_MAX_RUNNING")  # to raise it comes last


async def test_what_an_unknown_request_may_have_cost_is_told_apart(connect: Connect, gateway: FaultGateway) -> None:
    async with connect(max_cost_per_day=3) as client:
        await create(client)
        gateway.on("POST", CREATE, LOST)
        lost = await create(client, "lost")
        text, refused = await call(client, "create_video", prompt="another")
    assert refused["outcome"] == "not_submitted"
    assert "1.25 was spent in the last 24 hours, 1.25 more may have been" in text
    assert lost["request_id"] in text


# --- a dry run --------------------------------------------------------------------------------------


async def test_a_dry_run_tells_the_duplicate_that_a_real_call_would_return(
    connect: Connect, gateway: FaultGateway
) -> None:
    async with connect() as client:
        await create(client)
        text, told = await call(client, "create_video", prompt="fly man", dry_run=True)
        assert (told["outcome"], told["duplicate_of"]) == ("not_submitted", "task_1")
        assert "task_1" in text
        assert "without dry_run" not in text  # that would submit nothing
        assert "task_1" in told["next_step"]
        told = await create(client, dry_run=True, allow_duplicate=True)
        assert "duplicate_of" not in told
        assert "without dry_run" in told["next_step"]
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize(
    ("caps", "setting"),
    [
        ({"max_cost_per_call": 1.0}, "SORA_MAX_COST_PER_CALL"),
        ({"max_cost_per_day": 2.0}, "SORA_MAX_COST_PER_DAY"),
        ({"max_running": 1}, "SORA_MAX_RUNNING"),
    ],
)
async def test_a_dry_run_tells_the_cap_that_forbids_the_real_call(
    connect: Connect, caps: dict[str, Any], setting: str
) -> None:
    async with connect() as client:
        await create(client)
    async with connect(**caps) as client:
        text, told = await call(client, "create_video", prompt="another", dry_run=True)
    assert told["outcome"] == "not_submitted"
    assert "error" not in told
    assert setting in text


async def test_a_dry_run_tells_of_another_format_and_shows_the_users_own_image_path(
    connect: Connect, gateway: FaultGateway, pictures: Path
) -> None:
    (pictures / "fox.png").write_bytes(PNG)
    raw = {"generations": [{"id": "gen_1", "url": "https://videos.example/1.mp4"}]}
    gateway.on("GET", CREATE, task_reply("SUCCESS", task_id="task_1", data=raw))
    async with connect(image_dirs=str(pictures)) as client:
        await create(client)
        shape = {"width": 480, "height": 854}
        text, told = await call(client, "remix_video", prompt="x", source_generation_id="task_1", dry_run=True, **shape)
        assert told["outcome"] == "not_submitted"
        assert "854x480" in text
        assert "480x854" in text
        items = [{"url": "fox.png"}]
        told = await create(client, dry_run=True, inpaint_items=items)
        assert told["body"]["inpaint_items"] == items
