"""The way out of an unknown outcome without a shell: the same request comes again, and somebody says what became of
the first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import mcp_types as types
import pytest
from bench import ACCEPTED_NEXT, KEY, RUNNING, Connect, Era
from calls import ToolReply, ask
from fault_gateway import CREATE, FaultGateway, says
from mcp import Client
from mcp.client.context import ClientRequestContext

from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import NotFound
from sora_mcp.core.results import Video
from sora_mcp.studio import Studio

pytestmark = pytest.mark.anyio

LOST = replace(ACCEPTED_NEXT, fault="close")
WISH = {"prompt": "fly man"}
OUT = "If the user tells you that it did not run, allow_duplicate submits it."


class User:
    """Somebody at the client who says yes, or no, to everything."""

    def __init__(self, *, says_yes: bool) -> None:
        self.says_yes = says_yes
        self.asked: list[str] = []

    async def __call__(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:  # noqa: ARG002 - the callback names them
        self.asked.append(params.message)
        return types.ElicitResult(action="accept", content={"pay": self.says_yes})


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", CREATE, LOST)
    return gateway


@pytest.fixture
def lose(gateway: FaultGateway) -> Callable[[Client], Any]:
    """Makes a request whose answer is lost; from then on the gateway answers."""

    async def lose(client: Client, **arguments: Any) -> str:
        told = await ask(client, "create_video", WISH | arguments)
        assert told.data["outcome"] == "unknown"
        gateway.on("POST", CREATE, ACCEPTED_NEXT)
        return str(told.data["request_id"])

    return lose


async def again(client: Client, **arguments: Any) -> ToolReply:
    return await ask(client, "create_video", WISH | arguments)


async def state(client: Client, request_id: str) -> str:
    return str((await ask(client, "get_video", {"task_id": request_id})).data["state"])


async def test_the_way_out_is_told_where_the_same_request_comes_again_and_not_before(
    connect: Connect, gateway: FaultGateway, era: Era
) -> None:
    async with connect(era) as client:
        first = await again(client)
        assert "allow_duplicate" not in first.text
        second = await again(client)
        assert OUT in second.text
        assert f"sora-mcp settle {first.data['request_id']} --none" in second.text
        assert second.data["request_id"] == first.data["request_id"]
        gateway.on("POST", CREATE, ACCEPTED_NEXT)
        assert (await again(client, allow_duplicate=True)).data["outcome"] == "accepted"
    assert len(gateway.creates()) == 2


@pytest.mark.parametrize("arguments", [{}, {"allow_duplicate": True}], ids=str)
async def test_a_yes_settles_the_first_and_submits_it_once(
    connect: Connect, gateway: FaultGateway, lose: Any, era: Era, arguments: dict[str, Any]
) -> None:
    user = User(says_yes=True)
    async with connect(era, user, max_running=1) as client:
        first = await lose(client)
        told = await again(client, **arguments)
        assert told.data["outcome"] == "accepted"
        assert await state(client, first) == "rejected"
        assert (await again(client)).data["duplicate"] is True
    assert len(gateway.creates()) == 2
    (question,) = user.asked
    assert first in question
    assert "did not run" in question
    assert "relative cost of 1.25" in question


@pytest.mark.parametrize("arguments", [{}, {"allow_duplicate": True}], ids=str)
async def test_without_a_yes_nothing_is_sent_and_the_first_stays_unknown(
    connect: Connect, gateway: FaultGateway, lose: Any, era: Era, arguments: dict[str, Any]
) -> None:
    async with connect(era, User(says_yes=False)) as client:
        first = await lose(client)
        told = await again(client, **arguments)
        assert told.is_error
        assert (told.data["outcome"], told.data["request_id"]) == ("unknown", first)
        assert "was asked and said no" in told.text
        assert "allow_duplicate" not in told.text
        assert await state(client, first) == "unknown"
    assert len(gateway.creates()) == 1


async def test_what_is_dear_as_well_is_one_question(
    connect: Connect, gateway: FaultGateway, lose: Any, era: Era
) -> None:
    user = User(says_yes=True)
    async with connect(era, user, ask_above_cost=1) as client:
        await lose(client)
        assert (await again(client)).data["outcome"] == "accepted"
    assert len(user.asked) == 2
    assert len(gateway.creates()) == 2


async def test_a_yes_settles_all_that_were_lost_before(connect: Connect, gateway: FaultGateway, era: Era) -> None:
    user = User(says_yes=True)
    async with connect(era) as client:
        lost = [(await again(client, allow_duplicate=True)).data["request_id"] for _ in range(3)]
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    async with connect(era, user, max_running=1) as client:
        assert (await again(client)).data["outcome"] == "accepted"
        assert {await state(client, each) for each in lost} == {"rejected"}
    assert len(user.asked) == 1
    assert all(each in user.asked[0] for each in lost)


async def test_nobody_is_asked_where_a_cap_forbids_it_anyway(
    connect: Connect, gateway: FaultGateway, lose: Any, era: Era
) -> None:
    user = User(says_yes=True)
    async with connect(era, user, max_cost_per_day=2) as client:
        first = await lose(client)
        assert (await again(client, prompt="something else")).data["error"]["kind"] == "over_cap"
        assert (await again(client, prompt="fly man")).data["outcome"] == "accepted"
        assert await state(client, first) == "rejected"
        assert (await again(client, allow_duplicate=True)).data["error"]["kind"] == "over_cap"
    assert len(user.asked) == 1
    assert len(gateway.creates()) == 2


async def test_where_a_cap_forbids_it_the_first_is_told_as_before(
    connect: Connect, gateway: FaultGateway, lose: Any, era: Era
) -> None:
    user = User(says_yes=True)
    async with connect(era) as client:
        first = await lose(client)
        await again(client, prompt="something else")
    async with connect(era, user, max_running=1) as client:
        told = await again(client)
        assert (told.data["outcome"], told.data["request_id"]) == ("unknown", first)
    assert user.asked == []
    assert len(gateway.creates()) == 2


async def test_with_one_of_the_same_under_way_nobody_is_asked(
    connect: Connect, gateway: FaultGateway, lose: Any, era: Era
) -> None:
    user = User(says_yes=True)
    async with connect(era) as client:
        first = await lose(client)
        await again(client, allow_duplicate=True)
    async with connect(era, user) as client:
        assert (await again(client)).data["duplicate"] is True
        assert (await again(client, allow_duplicate=True)).data["outcome"] == "accepted"
        assert await state(client, first) == "unknown"
    assert user.asked == []
    assert len(gateway.creates()) == 3


async def test_a_dry_run_shows_the_question_and_asks_nobody(
    connect: Connect, gateway: FaultGateway, lose: Any, era: Era
) -> None:
    user = User(says_yes=True)
    async with connect(era, user) as client:
        first = await lose(client)
        told = await again(client, dry_run=True)
        assert told.data["outcome"] == "not_submitted"
        assert "A real call would ask first" in told.text
        assert first in told.text
        assert await state(client, first) == "unknown"
    assert user.asked == []
    assert len(gateway.creates()) == 1


async def test_two_windows_with_a_yes_each_submit_it_once(
    connect: Connect, gateway: FaultGateway, lose: Any, era: Era
) -> None:
    """Both users see the question before either answer counts."""
    both_asked = anyio.Event()
    asked: list[str] = []

    class Slow(User):
        async def __call__(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> Any:
            asked.append(params.message)
            if len(asked) == 2:
                both_asked.set()
            await both_asked.wait()
            return await super().__call__(context, params)

    results: list[ToolReply] = []

    async def window(client: Client, arguments: dict[str, Any]) -> None:
        results.append(await again(client, **arguments))

    opened = partial(connect, era)
    async with opened() as client:
        await lose(client)
    with anyio.fail_after(20):
        async with (
            opened(Slow(says_yes=True)) as one,
            opened(Slow(says_yes=True)) as two,
            anyio.create_task_group() as windows,
        ):
            windows.start_soon(window, one, {"allow_duplicate": True})
            windows.start_soon(window, two, {"allow_duplicate": True})
    assert [each.data["outcome"] for each in results] == ["accepted", "accepted"]
    assert sorted(each.data.get("duplicate", False) for each in results) == [False, True]
    assert len(gateway.creates()) == 2


@pytest.fixture
def settle(make_settings: Callable[..., Settings], gateway: FaultGateway) -> Callable[[str, str | None], Any]:
    """Says what became of a request, as a person at a shell: the video, or why it cannot be."""

    async def settle(request_id: str, task_id: str | None) -> Video | NotFound:
        async with Studio.open(make_settings(base_url=gateway.address, api_key=KEY)) as studio:
            try:
                return await studio.settle(request_id, task_id)
            except NotFound as error:
                return error

    return settle


@pytest.fixture
def opened(connect: Connect, era: Era) -> Any:
    return partial(connect, era)


@pytest.mark.parametrize("by_log", [False, True], ids=["another window's yes", "the gateway's log"])
async def test_a_yes_that_comes_when_the_first_is_settled_already_pays_nothing(
    opened: Any, gateway: FaultGateway, lose: Any, settle: Any, by_log: bool
) -> None:
    asked, go_on = anyio.Event(), anyio.Event()

    class Late(User):
        async def __call__(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> Any:
            asked.set()
            await go_on.wait()
            return await super().__call__(context, params)

    results: list[ToolReply] = []

    async def late(client: Client) -> None:
        results.append(await again(client, allow_duplicate=True))

    async with opened() as client:
        first = await lose(client)
    with anyio.fail_after(20):
        async with (
            opened(User(says_yes=True)) as one,
            opened(Late(says_yes=True)) as two,
            anyio.create_task_group() as windows,
        ):
            windows.start_soon(late, two)
            await asked.wait()
            if by_log:
                await settle(first, "task_1")
            else:
                assert (await again(one, allow_duplicate=True)).data["outcome"] == "accepted"
            before = len(gateway.creates())
            go_on.set()
    assert results[0].data["duplicate"] is True
    assert len(gateway.creates()) == before


@pytest.mark.parametrize("arguments", [{}, {"allow_duplicate": True}], ids=str)
async def test_an_answered_call_that_comes_twice_is_submitted_once(
    connect: Connect, gateway: FaultGateway, lose: Any, arguments: dict[str, Any]
) -> None:
    yes: types.InputResponses = {"pay": types.ElicitResult(action="accept", content={"pay": True})}

    async def call(client: Client, state: str | None = None) -> Any:
        answer = yes if state else None
        return await client.session.call_tool(
            "create_video", WISH | arguments, input_responses=answer, request_state=state, allow_input_required=True
        )

    async with connect("auto", User(says_yes=True)) as client:
        await lose(client)
        asked = await call(client)
        first, second = await call(client, asked.request_state), await call(client, asked.request_state)
    assert first.structured_content["outcome"] == "accepted"
    assert second.structured_content["duplicate"] is True
    assert second.structured_content["task_id"] == first.structured_content["task_id"]
    assert len(gateway.creates()) == 2


async def test_a_yes_that_was_wrong_is_corrected_by_the_task(
    connect: Connect, gateway: FaultGateway, lose: Any, settle: Any
) -> None:
    gateway.on("GET", CREATE, RUNNING)
    async with connect("legacy", User(says_yes=True), max_cost_per_day=2.5) as client:
        first = await lose(client)
        assert (await again(client)).data["outcome"] == "accepted"
        said = await ask(client, "get_video", {"task_id": first})
        assert "A person said that it did not run" in said.text
        assert f"sora-mcp settle {first} --task task_…" in said.text
        assert "create it again" not in said.text
        adopted = await ask(client, "get_video", {"task_id": "task_1"})
        assert adopted.data["request_id"] != first
        corrected = await settle(first, "task_1")
        assert (corrected.state, corrected.request_id) == ("running", first)
        assert (await ask(client, "get_video", {"task_id": adopted.data["request_id"]})).data["request_id"] == first
        assert (await again(client, prompt="something else")).data["error"]["kind"] == "over_cap"
    assert len(gateway.creates()) == 2


async def test_what_the_gateway_itself_refused_is_not_corrected(
    connect: Connect, gateway: FaultGateway, settle: Any
) -> None:
    gateway.on("POST", CREATE, says({"error": {"message": "bad prompt", "code": "invalid_request"}}, status=400))
    gateway.on("GET", CREATE, RUNNING)
    async with connect("legacy") as client:
        refused = (await again(client)).data["request_id"]
        assert f"{refused} was not created, so there is nothing to settle." in str(await settle(refused, "task_1"))
        assert await state(client, refused) == "rejected"


async def test_what_is_recorded_already_and_a_task_of_another_request_are_told_apart(
    connect: Connect, gateway: FaultGateway, lose: Callable[[Client], Any], settle: Any
) -> None:
    gateway.on("GET", CREATE, RUNNING)
    async with connect("legacy") as client:
        first = await lose(client)
        assert (await settle(first, None)).state == "rejected"
        assert f"{first} is already recorded as not having run." in str(await settle(first, None))
        other = (await again(client, prompt="owl")).data["task_id"]
        assert "That task belongs to another request." in str(await settle(first, other))
