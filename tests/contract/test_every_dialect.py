"""What holds whatever the upstream speaks: one conversation in the words of every dialect, and where its key goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from bench import KEY, MP4
from calls import ask, assert_accepted, assert_refused
from fault_gateway import Answer, FaultGateway, fault_gateway
from mcp import Client
from upstream_replies import (
    FILE,
    FIRST_ID,
    REPLIES,
    package_of,
    sandbox_settings_for,
    script_gateway,
    settings_for,
    smallest_video,
)

from sora_mcp.config.endpoint import needs_key
from sora_mcp.config.settings import Settings
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.dialects import DIALECTS, named
from sora_mcp.server import build

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("dialect", DIALECTS)]

Serve = Callable[..., Client]
WISH = {"prompt": "fly man"}


@pytest.fixture
async def gateway(dialect: str) -> Any:
    """A gateway that takes every create, in the words of the dialect."""
    async with fault_gateway() as opened:
        script_gateway(opened, dialect)
        yield opened


@pytest.fixture
def serve(dialect: str, make_settings: Callable[..., Settings], gateway: FaultGateway) -> Serve:
    """A client of a server that is set to that gateway."""

    def make(**values: Any) -> Client:
        own = {"base_url": gateway.address, "api_key": KEY} | settings_for(dialect)
        return Client(build(make_settings(**(own | values))))

    return make


async def test_a_video_is_made_followed_saved_and_listed(dialect: str, serve: Serve, gateway: FaultGateway) -> None:
    async with fault_gateway() as elsewhere, serve() as client:
        elsewhere.on("GET", "/file.mp4", FILE)
        made = await assert_accepted(client, "create_video", WISH)
        assert made.data["task_id"] == FIRST_ID
        seen = await ask(client, "get_video", {"task_id": FIRST_ID})
        assert seen.data["state"] in {"submitted", "queued"}
        REPLIES[package_of(dialect)].finish(gateway, f"{elsewhere.address}/file.mp4")
        seen = await ask(client, "get_video", {"task_id": FIRST_ID, "wait_seconds": 20})
        assert (seen.data["state"], len(seen.data["generations"])) == ("succeeded", 1)
        saved = await ask(client, "download_video", {"task_id": FIRST_ID})
        assert await anyio.Path(saved.data["path"]).read_bytes() == MP4
        listed = await ask(client, "list_videos", {})
        assert [each["task_id"] for each in listed.data["videos"]] == [FIRST_ID]
    assert len(gateway.accepted()) == 1


async def test_no_request_with_the_key_goes_to_another_host(dialect: str, serve: Serve, gateway: FaultGateway) -> None:
    """Counted: the gateway gets the key with everything, and whoever it names, redirects to, or lists, never."""
    async with fault_gateway() as elsewhere, serve() as client:
        elsewhere.on("GET", "/", FILE)
        elsewhere.on("POST", "/", Answer(200, b"{}"))
        moved = Answer(307, headers={"Location": f"{elsewhere.address}/moved"})
        script_gateway(gateway, dialect, moved)
        await ask(client, "create_video", WISH)
        gateway.on("GET", "/", moved)
        await ask(client, "describe_gateway", {})
        script_gateway(gateway, dialect)
        await assert_accepted(client, "create_video", {"prompt": "another"})
        REPLIES[package_of(dialect)].finish(gateway, f"{elsewhere.address}/file.mp4")
        await ask(client, "get_video", {"task_id": FIRST_ID, "wait_seconds": 20})
        assert not (await ask(client, "download_video", {"task_id": FIRST_ID})).is_error
        script_gateway(gateway, dialect, moved)
        gateway.on("GET", REPLIES[package_of(dialect)].path, moved)
        await ask(client, "get_video", {"task_id": "task_of_somebody"})
    assert [each.path for each in elsewhere.received] == ["/file.mp4"]
    assert not [each.path for each in elsewhere.received if KEY in str(each)]
    assert len(gateway.received) >= 4
    assert {each.headers.get("authorization") for each in gateway.received} == {f"Bearer {KEY}"}


async def test_a_local_server_without_a_key_is_sent_none(dialect: str, serve: Serve, gateway: FaultGateway) -> None:
    async with serve(api_key=None) as client:
        if needs_key(dialect, is_local=True):
            assert (await assert_refused(client, "create_video", WISH)).data["error"]["kind"] == "not_configured"
        else:
            await assert_accepted(client, "create_video", WISH)
    assert not [each for each in gateway.received if "authorization" in each.headers]


async def test_what_it_says_it_cannot_do_is_refused_before_anything_is_sent(
    serve: Serve, gateway: FaultGateway, capabilities: Capabilities
) -> None:
    """Whichever operation, image or variant the capabilities leave out."""
    actions = [{"time": 0, "description": "a"}, {"time": 60, "description": "b"}]
    asked: dict[str, tuple[str, dict[str, Any], bool]] = {
        "storyboard": ("storyboard_video", {"actions": actions}, capabilities.support("storyboard") == "impossible"),
        "remix": (
            "remix_video",
            WISH | {"source_generation_id": "gen_1"},
            capabilities.support("remix") == "impossible",
        ),
        "variants": ("create_video", WISH | {"n_variants": capabilities.max_variants + 1}, True),
        "amount": ("remix_video", WISH | {"source_generation_id": "gen_1", "amount": 3}, not capabilities.amount),
        "an image nowhere": ("create_video", WISH | {"inpaint_items": [{"url": "ftp://x/a.png"}]}, True),
    }
    async with serve() as client:
        for tool, arguments, is_impossible in asked.values():
            if is_impossible:
                await assert_refused(client, tool, arguments)
    assert gateway.requests("POST") == []


@pytest.fixture
def capabilities(dialect: str, make_settings: Callable[..., Settings]) -> Capabilities:
    return named(dialect, make_settings(**settings_for(dialect))).capabilities


@pytest.mark.slow
async def test_the_sandbox_takes_every_operation_that_is_said_to_be_possible(
    dialect: str, make_settings: Callable[..., Settings], capabilities: Capabilities
) -> None:
    """Its face refuses whatever such a server does not document, so this holds what is sent to that."""
    small = smallest_video(dialect, capabilities)
    beats = {"actions": [{"time": 0, "description": "a boat"}, {"time": 30, "description": "a storm"}]}
    made: dict[str, str] = {}

    async def make(operation: str, arguments: dict[str, Any]) -> None:
        tool = {"simple_compose": "create_video", "blend": "blend_videos"}.get(operation, f"{operation}_video")
        if capabilities.support(operation) == "impossible":
            await assert_refused(client, tool, arguments)
            return
        told = await assert_accepted(client, tool, arguments)
        made[operation] = told.data["task_id"]
        seen = await ask(client, "get_video", {"task_id": made[operation], "wait_seconds": 30})
        assert seen.data["state"] == "succeeded", (operation, seen.text)
        assert not (await ask(client, "download_video", {"task_id": made[operation]})).is_error

    async with Client(build(make_settings(**sandbox_settings_for(dialect)))) as client:
        await make("simple_compose", WISH | small)
        await make("storyboard", WISH | small | beats)
        await make("remix", {"prompt": "at night", "source_generation_id": made["simple_compose"]})
        both = [{"generation_id": made[operation]} for operation in ("simple_compose", "storyboard")]
        await make("blend", {"inpaint_items": both} | small)
