"""Before something dear is submitted the user is asked, on both protocol eras, and only a plain yes lets it be sent."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from bench import PNG, Connect, Era, environment, served
from fault_gateway import FaultGateway, says
from mcp import Client
from mcp.client.context import ClientRequestContext
from wire import wire

pytestmark = pytest.mark.anyio

YES: dict[str, Any] = {"action": "accept", "content": {"pay": True}}
DEAR = {"prompt": "fly man", "width": 1280, "height": 720}


class User:
    """Somebody at the client who gives one answer to everything."""

    def __init__(self, **answer: Any) -> None:
        self.answer = answer
        self.asked: list[types.ElicitRequestFormParams] = []

    async def __call__(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:  # noqa: ARG002 - the callback names them
        assert isinstance(params, types.ElicitRequestFormParams)
        self.asked.append(params)
        return types.ElicitResult(**self.answer)


@pytest.fixture
def connect(connect: Connect) -> Connect:
    return partial(connect, ask_above_cost=1.25)


async def create(client: Client, **arguments: Any) -> dict[str, Any]:
    return dict((await client.call_tool("create_video", DEAR | arguments)).structured_content)


async def test_what_is_dear_is_asked_about_and_sent_after_a_yes(
    connect: Connect, gateway: FaultGateway, era: Era
) -> None:
    user = User(**YES)
    async with connect(era, user) as client:
        told = await create(client)
    assert told["outcome"] == "accepted"
    assert len(gateway.creates()) == 1
    assert len(user.asked) == 1
    assert "1280x720, 5 s" in user.asked[0].message
    assert "relative cost of 3" in user.asked[0].message
    assert list(user.asked[0].requested_schema["properties"]) == ["pay"]


NOES: list[tuple[dict[str, Any], str]] = [
    ({"action": "decline"}, "said no"),
    ({"action": "decline", "content": {"pay": True}}, "said no"),
    ({"action": "accept", "content": {"pay": False}}, "said no"),
    ({"action": "accept", "content": {"pay": "yes"}}, "said no"),
    ({"action": "accept", "content": {}}, "said no"),
    ({"action": "accept"}, "said no"),
    ({"action": "cancel"}, "gave no answer"),
]


@pytest.mark.parametrize(("answer", "words"), NOES, ids=str)
async def test_everything_but_a_plain_yes_is_a_no(
    connect: Connect, gateway: FaultGateway, era: Era, answer: dict[str, Any], words: str
) -> None:
    async with connect(era, User(**answer)) as client:
        result = await client.call_tool("create_video", DEAR)
        listed = await client.call_tool("list_videos", {})
    assert result.is_error
    assert result.structured_content["outcome"] == "not_submitted"
    assert result.structured_content["error"]["kind"] == "declined"
    assert words in result.structured_content["error"]["message"]
    assert gateway.creates() == []
    assert listed.structured_content["videos"] == []


async def test_nobody_is_asked_about_what_is_cheap_or_only_tried(
    connect: Connect, gateway: FaultGateway, era: Era
) -> None:
    user = User(action="decline")
    async with connect(era, user) as client:
        assert (await create(client, width=854, height=480))["outcome"] == "accepted"
        assert (await create(client, dry_run=True))["outcome"] == "not_submitted"
        assert (await create(client, n_frames=7))["error"]["kind"] == "invalid_input"
    assert user.asked == []
    assert len(gateway.creates()) == 1


async def test_nobody_is_asked_about_a_duplicate_which_costs_nothing(
    connect: Connect, gateway: FaultGateway, era: Era
) -> None:
    user = User(**YES)
    async with connect(era, user) as client:
        first = await create(client)
        again = await create(client)
    assert (again["task_id"], again["duplicate"]) == (first["task_id"], True)
    assert len(user.asked) == len(gateway.creates()) == 1


async def test_without_the_setting_nobody_is_asked(connect: Connect, gateway: FaultGateway, era: Era) -> None:
    user = User(action="decline")
    async with connect(era, user, ask_above_cost=None) as client:
        assert (await create(client))["outcome"] == "accepted"
    assert user.asked == []
    assert len(gateway.creates()) == 1


async def test_where_the_client_cannot_ask_the_cap_decides(connect: Connect, gateway: FaultGateway, era: Era) -> None:
    async with connect(era, None, max_cost_per_call=3) as client:
        assert (await create(client))["outcome"] == "accepted"
        assert (await create(client, n_variants=2))["error"]["kind"] == "over_cap"
    assert len(gateway.creates()) == 1


async def test_a_yes_does_not_lift_a_cap(connect: Connect, gateway: FaultGateway, era: Era) -> None:
    user = User(**YES)
    async with connect(era, user, max_cost_per_call=2) as client:
        assert (await create(client))["error"]["kind"] == "over_cap"
    assert user.asked == []
    assert gateway.creates() == []


async def test_nobody_is_asked_about_what_a_cap_refuses(connect: Connect, gateway: FaultGateway, era: Era) -> None:
    user = User(**YES)
    async with connect(era, user, max_cost_per_day=2) as client:
        assert (await create(client))["error"]["kind"] == "over_cap"
    assert user.asked == []
    assert gateway.creates() == []


async def test_a_client_that_vanishes_while_its_user_is_asked_leads_to_no_post(
    connect: Connect, gateway: FaultGateway, era: Era
) -> None:
    asked = anyio.Event()

    class Silent(User):
        async def __call__(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> Any:  # noqa: ARG002
            asked.set()
            await anyio.sleep_forever()

    with anyio.fail_after(20):
        async with connect(era, Silent()) as client, anyio.create_task_group() as calls:
            calls.start_soon(create, client)
            await asked.wait()
            calls.cancel_scope.cancel()
        async with connect(era, None) as client:
            listed = await client.call_tool("list_videos", {})
    assert listed.structured_content["videos"] == []
    assert gateway.creates() == []


# --- from 2026-07-28 on: the answer comes with another call ---------------------------------------


async def ask(client: Client, answer: dict[str, Any] | None = None, state: str | None = None, **arguments: Any) -> Any:
    """One round of a call: its result, or what has to be answered before."""
    given: types.InputResponses | None = {"pay": types.ElicitResult(**answer)} if answer else None
    return await client.session.call_tool(
        "create_video", DEAR | arguments, input_responses=given, request_state=state, allow_input_required=True
    )


async def test_an_answer_counts_once(connect: Connect, gateway: FaultGateway) -> None:
    async with connect("auto", User()) as client:
        asked = await ask(client, allow_duplicate=True)
        first = await ask(client, YES, asked.request_state, allow_duplicate=True)
        again = await ask(client, YES, asked.request_state, allow_duplicate=True)
    assert first.structured_content["outcome"] == "accepted"
    assert isinstance(again, types.InputRequiredResult)
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize(
    "arguments",
    [{"n_variants": 4}, {"prompt": "another"}, {"n_frames": 300}, {"allow_duplicate": True}],
    ids=str,
)
async def test_an_answer_is_not_taken_for_another_call(
    connect: Connect, gateway: FaultGateway, arguments: dict[str, Any]
) -> None:
    async with connect("auto", User()) as client:
        asked = await ask(client)
        other = await ask(client, YES, asked.request_state, **arguments)
    assert isinstance(other, types.InputRequiredResult)
    assert other.request_state != asked.request_state
    assert gateway.creates() == []


async def test_a_yes_to_one_picture_is_none_to_another(connect: Connect, gateway: FaultGateway, pictures: Path) -> None:
    gateway.on("POST", "/v1/files", says({"id": "file-1", "url": "https://files.example/image.png"}))
    picture = pictures / "cat.png"
    picture.write_bytes(PNG)
    items = [{"url": str(picture), "frame_index": 0}]
    async with connect("auto", User(), image_dirs=(pictures,)) as client:
        asked = await ask(client, inpaint_items=items)
        picture.write_bytes(PNG.replace(bytes(range(256)), bytes(256)))
        assert isinstance(await ask(client, YES, asked.request_state, inpaint_items=items), types.InputRequiredResult)
    assert gateway.creates() == []


@pytest.mark.parametrize("state", [None, "", "made up"], ids=repr)
async def test_an_answer_without_a_question_is_asked_for_again(
    connect: Connect, gateway: FaultGateway, state: str | None
) -> None:
    async with connect("auto", User()) as client:
        assert isinstance(await ask(client, YES, state), types.InputRequiredResult)
    assert gateway.creates() == []


async def test_an_answer_of_another_server_is_asked_for_again(connect: Connect, gateway: FaultGateway) -> None:
    async with connect("auto", User()) as client:
        asked = await ask(client)
    async with connect("auto", User()) as client:
        assert isinstance(await ask(client, YES, asked.request_state), types.InputRequiredResult)
    assert gateway.creates() == []


async def test_the_oldest_of_too_many_open_questions_is_asked_again(connect: Connect, gateway: FaultGateway) -> None:
    async with connect("auto", User()) as client:
        oldest = await ask(client)
        second = await ask(client)
        for _ in range(999):
            await ask(client)
        assert isinstance(await ask(client, YES, oldest.request_state), types.InputRequiredResult)
        assert gateway.creates() == []
    assert oldest.request_state != second.request_state


async def test_a_question_that_comes_back_without_an_answer_stays_open(connect: Connect, gateway: FaultGateway) -> None:
    async with connect("auto", User()) as client:
        asked = await ask(client)
        assert isinstance(await ask(client, None, asked.request_state), types.InputRequiredResult)
        assert gateway.creates() == []
        told = await ask(client, YES, asked.request_state)
    assert told.structured_content["outcome"] == "accepted"


# --- over the wire --------------------------------------------------------------------------------


@pytest.fixture(name="environment")
def _environment(tmp_path: Path, gateway: FaultGateway) -> dict[str, str]:
    return environment(tmp_path, gateway, ASK_ABOVE_COST="1")


@pytest.mark.parametrize("transport", ["stdio", "http"])
async def test_the_user_is_asked_over_the_wire(
    environment: dict[str, str], gateway: FaultGateway, era: Era, transport: str
) -> None:
    async with served(environment, transport) as server:
        no, yes = User(action="decline"), User(**YES)
        async with Client(server, mode=era, elicitation_callback=no) as client:
            assert (await create(client))["outcome"] == "not_submitted"
        assert gateway.creates() == []
        async with Client(server, mode=era, elicitation_callback=yes) as client:
            assert (await create(client))["outcome"] == "accepted"
    assert (len(no.asked), len(yes.asked), len(gateway.creates())) == (1, 1, 1)


@pytest.mark.parametrize(
    ("capability", "is_asked"),
    [({}, True), ({"form": {}}, True), ({"form": {}, "url": {}}, True), ({"url": {}}, False)],
    ids=str,
)
async def test_only_a_client_that_can_show_a_form_is_asked(
    environment: dict[str, str], gateway: FaultGateway, capability: dict[str, Any], is_asked: bool
) -> None:
    about = {"clientInfo": {"name": "t", "version": "1"}, "capabilities": {"elicitation": capability}}
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": {"protocolVersion": "2025-06-18", **about}},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "create_video", "arguments": DEAR}},
    ]
    async with wire(environment) as server:
        for message in messages:
            await server.send(message)
        hello, told = await server.read(), await server.read()
        with anyio.fail_after(30):
            await server.hang_up()
    assert hello["id"] == 1
    assert told.get("method") == ("elicitation/create" if is_asked else None)
    assert len(gateway.creates()) == (0 if is_asked else 1)


async def test_a_client_that_fails_to_ask_has_not_agreed_and_nobody_is_said_to_have_answered(
    connect: Connect, gateway: FaultGateway
) -> None:
    class Failing(User):
        async def __call__(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> Any:  # noqa: ARG002
            return types.ErrorData(code=types.INTERNAL_ERROR, message="the dialog broke")

    async with connect("legacy", Failing()) as client:
        told = await create(client)
    assert told["outcome"] == "not_submitted"
    assert "could not be asked" in told["error"]["message"]
    assert "SORA_ASK_ABOVE_COST" in told["error"]["next_step"]
    assert gateway.creates() == []
