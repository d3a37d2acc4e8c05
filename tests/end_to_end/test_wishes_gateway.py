"""Wishes of a user, as conversations: what can you do, what did I spend, where is my fox, and did it work?"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bench import ACCEPTED_NEXT, KEY, Connect, Era, task_reply
from calls import ToolReply, ask
from fault_gateway import CREATE, FaultGateway, says
from mcp import Client

from sora_mcp.config.settings import Settings
from sora_mcp.server import build

pytestmark = pytest.mark.anyio

FOX = {"prompt": "A fox crossing a frozen lake at dawn"}


async def create(client: Client, **arguments: Any) -> ToolReply:
    return await ask(client, "create_video", FOX | arguments)


async def test_make_a_fox_show_me_why_is_there_no_fox_in_it_and_what_have_i_spent(client: Client) -> None:
    made = await create(client)
    assert "sandbox" in made.text
    video = await ask(client, "get_video", {"task_id": made.data["task_id"], "wait_seconds": 30})
    assert video.data["state"] == "succeeded"
    assert "file on this machine" in video.text
    assert video.data["generations"][0]["url"].startswith("file:///")
    looked = await ask(client, "view_video", {"task_id": made.data["task_id"], "frames": 1})
    assert looked.text.startswith("1 still of ")
    assert "drawn placeholders" in looked.text
    gateway = await ask(client, "describe_gateway", {})
    assert "what it asks for is not drawn" in gateway.text
    assert "relative cost 1.25 (nothing was charged)" in gateway.text
    assert gateway.data["spent"]["cost"] == 1.25


async def test_make_it_1080p_and_a_minute_long_what_can_you_do_then(client: Client) -> None:
    refused = await create(client, width=1920, height=1080, n_frames=1800)
    assert refused.data["outcome"] == "not_submitted"
    assert "sandbox" not in refused.text
    (offer,) = (await ask(client, "describe_gateway", {})).data["models"]
    largest = max(offer["sizes"], key=lambda size: size["width"])
    longest = max(length["n_frames"] for length in offer["lengths"])
    tried = await create(
        client, width=largest["width"], height=largest["height"], n_frames=longest, n_variants=1, dry_run=True
    )
    assert not tried.is_error
    assert tried.data["cost"] == largest["cost"] * offer["lengths"][-1]["factor"]


async def test_it_failed_was_it_charged(client: Client, era: Era) -> None:  # noqa: ARG001
    for wish in ("[fail] a fox", "[blocked] a fox"):
        made = await create(client, prompt=wish)
        video = await ask(client, "get_video", {"task_id": made.data["task_id"], "wait_seconds": 30})
        assert video.data["state"] in {"failed", "blocked"}
        assert "nly the gateway knows whether it was charged" in video.text


async def test_did_it_work_try_again_i_checked_nothing_was_made(
    connect: Connect, gateway: FaultGateway, era: Era
) -> None:
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, fault="close"))
    gateway.on("GET", "/v1/models", says({"data": []}))
    async with connect(era) as client:
        lost = await create(client)
        assert lost.data["outcome"] == "unknown"
        assert "allow_duplicate" not in lost.text
        spent = (await ask(client, "describe_gateway", {})).data["spent"]
        assert spent == {"cost": 0, "uncertain": 1.25, "under_way": 0, "unknown": 1}
        gateway.on("POST", CREATE, ACCEPTED_NEXT)
        again = await create(client)  # "try again"
        assert again.data["request_id"] == lost.data["request_id"]
        assert "If the user tells you that it did not run, allow_duplicate submits it." in again.text
        made = await create(client, allow_duplicate=True)  # "I checked, nothing was made"
        assert made.data["outcome"] == "accepted"
    assert len(gateway.creates()) == 2


async def test_five_are_wanted_with_caps_of_three_a_day_and_one_at_a_time(
    connect: Connect, gateway: FaultGateway, era: Era
) -> None:
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", "/v1/models", says({"data": []}))
    gateway.on("GET", CREATE, task_reply("SUCCESS", result_url="https://videos.example/1.mp4"))
    small = {"width": 480, "height": 480}
    async with connect(era, max_cost_per_day=3, max_running=1) as client:
        left = []
        for number in range(5):
            made = await create(client, prompt=f"fox {number}", **small)
            if made.is_error:
                assert made.data["error"]["kind"] == "over_cap"
                break
            caps = (await ask(client, "describe_gateway", {})).data["caps"]
            left.append((caps["left_today"], caps["places_left"]))
            await ask(client, "get_video", {"task_id": made.data["task_id"]})
        gateway_now = await ask(client, "describe_gateway", {})
    assert left == [(2, 0), (1, 0), (0, 0)]
    assert gateway_now.data["caps"] == {"per_day": 3, "left_today": 0, "running": 1, "places_left": 1}
    assert len(gateway.creates()) == 3


async def test_the_key_is_wrong_what_do_you_know(connect: Connect, gateway: FaultGateway, era: Era) -> None:
    for method, path in (("POST", CREATE), ("GET", "/v1/models")):
        gateway.on(method, path, says({"error": {"message": "Invalid token", "type": "new_api_error"}}, 401))
    async with connect(era) as client:
        assert (await create(client)).data["outcome"] == "rejected"
        told = await ask(client, "describe_gateway", {})
    assert told.data["status"] == "key_refused"
    assert told.data["spent"]["cost"] == 0
    assert "1280x720 (3)" in told.text
    assert KEY not in told.text


async def test_another_gateway_under_the_same_ledger_has_its_own_spending(
    connect: Connect, gateway: FaultGateway, era: Era, make_settings: Callable[..., Settings]
) -> None:
    gateway.on("GET", "/v1/models", says({"data": []}))
    async with Client(build(make_settings()), mode=era) as sandbox:
        await create(sandbox)
    async with connect(era) as client:
        assert (await ask(client, "describe_gateway", {})).data["spent"]["cost"] == 0
