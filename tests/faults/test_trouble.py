"""What an agent is told when a paid call meets trouble: what became of it, and what to do next.

Everything goes through the real client, the real server and real sockets; after each trouble the
ledger tells the same story, and neither the key nor anything of our libraries shows anywhere.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import mcp_types as types
import pytest
from bench import KEY, Connect, Era, task_reply
from fault_gateway import CREATE, Answer, FaultGateway, closed_address, fault_gateway, says
from mcp import Client

from sora_mcp.core.errors import OUTCOME_SENTENCES, Outcome
from sora_mcp.core.tasks import State

pytestmark = pytest.mark.anyio

FOREIGN = ("Traceback", "httpx", "pydantic", "anyio", "asyncio", "Errno")
"""Words that only our libraries or the interpreter would say."""

ACCEPTED = {"code": "success", "message": "", "data": "task_01jhjnz502ejqsm6r37km2q637"}
HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


def refusal(message: str, status: int, **headers: str) -> Answer:
    """The gateway's own shape of authentication and routing errors."""
    return says({"error": {"message": message, "type": "new_api_error"}}, status, **headers)


def task_error(code: str, status: int, message: str = "upstream says no") -> Answer:
    """The gateway's shape of task errors."""
    return says({"code": code, "message": message, "data": None}, status)


def html(status: int) -> Answer:
    """What a proxy in front of the gateway says."""
    return Answer(status, HTML, {"Content-Type": "text/html"})


# --- the bench ------------------------------------------------------------------------------------


@pytest.fixture
async def gateway() -> AsyncIterator[FaultGateway]:
    """It knows no address that a test does not script."""
    async with fault_gateway() as opened:
        yield opened


@pytest.fixture
async def elsewhere() -> AsyncIterator[FaultGateway]:
    async with fault_gateway() as opened:
        yield opened


@pytest.fixture(autouse=True)
def _nothing_leaks(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The key is in no log line and no file; our own log lines and files hold our own words only."""
    caplog.set_level(logging.DEBUG)
    yield
    write = logging.Formatter("%(name)s %(message)s").format
    records = [*caplog.get_records("setup"), *caplog.get_records("call"), *caplog.get_records("teardown")]
    lines = "\n".join(write(record) for record in records)
    assert KEY not in lines
    logged = "\n".join(write(record) for record in records if record.name.startswith("sora_mcp"))
    assert not [word for word in FOREIGN if word in logged]
    for file in (path for path in (tmp_path / "home").rglob("*") if path.is_file()):
        assert not [word for word in (KEY, *FOREIGN) if word.encode() in file.read_bytes()], file.name


@dataclass(frozen=True, slots=True)
class Told:
    """What a tool answered: its sentence, and the structured result."""

    text: str
    data: dict[str, Any]
    is_error: bool

    @property
    def error(self) -> dict[str, Any]:
        return dict(self.data["error"])


async def ask(client: Client, tool: str, **arguments: Any) -> Told:
    """Call a tool; whatever it answers holds neither the key nor words of our libraries."""
    result = await client.call_tool(tool, arguments)
    assert not [word for word in (KEY, *FOREIGN) if word in result.model_dump_json()]
    words = [block.text for block in result.content if isinstance(block, types.TextContent)]
    return Told(words[0], dict(result.structured_content), is_error=bool(result.is_error))


async def create_in_trouble(client: Client, outcome: Outcome, *, prompt: str = "fly man") -> Told:
    """A create that must fail, and must say what became of it and what to do next."""
    told = await ask(client, "create_video", prompt=prompt)
    assert told.is_error, told.text
    assert told.data["outcome"] == outcome, told.text
    assert OUTCOME_SENTENCES[outcome] in told.text
    assert told.error["next_step"]
    assert told.error["next_step"] in told.text
    return told


async def assert_remembered(client: Client, told: Told, state: State) -> None:
    """The list and `get_video` with our own id tell the story that the call told."""
    listed = await ask(client, "list_videos")
    assert [(v["request_id"], v["state"]) for v in listed.data["videos"]] == [(told.data["request_id"], state)]
    video = await ask(client, "get_video", task_id=told.data["request_id"], wait_seconds=1)
    assert not video.is_error
    assert video.data["state"] == state


# --- the gateway answers, or fails to -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Trouble:
    """One way for a create to go wrong, and words that the agent must be told."""

    answer: Answer
    outcome: Literal["rejected", "unknown"]
    words: str = ""
    patience: float = 10


def rejected(answer: Answer, words: str = "") -> Trouble:
    return Trouble(answer, "rejected", words)


def unknown(answer: Answer, words: str = "own log", patience: float = 10) -> Trouble:
    return Trouble(answer, "unknown", words, patience)


GOOD = says(ACCEPTED)
TROUBLES = {
    "401": rejected(refusal("Invalid token (request id: 2025011500)", 401), "SORA_API_KEY"),
    "401 that repeats the key": rejected(refusal(f"Invalid token {KEY} given", 401), "SORA_API_KEY"),
    "403 quota_not_enough": rejected(task_error("quota_not_enough", 403), "top up"),
    "400 invalid_request": rejected(task_error("invalid_request", 400), "Change the arguments"),
    "400 channel_not_found": rejected(task_error("channel_not_found", 400)),
    "404": rejected(html(404), "SORA_BASE_URL"),
    "410": rejected(refusal("the endpoint is gone", 410), "another gateway"),
    "503 no channel": rejected(refusal("no available channel for model sora", 503), "no channel"),
    "500 build_request_failed": rejected(task_error("build_request_failed", 500)),
    "401 cut off": rejected(replace(refusal("Invalid token", 401), fault="truncate"), "SORA_API_KEY"),
    "200 that says quota_not_enough": rejected(task_error("quota_not_enough", 200), "top up"),
    "408": unknown(html(408)),
    "500": unknown(says({"message": "internal error"}, 500)),
    "500 insert_task_failed": unknown(task_error("insert_task_failed", 500)),
    "500 do_request_failed": unknown(task_error("do_request_failed", 500)),
    "400 insert_task_failed": unknown(task_error("insert_task_failed", 400)),
    "502 fail_to_fetch_task": unknown(task_error("fail_to_fetch_task", 502)),
    "502 HTML": unknown(html(502)),
    "503 HTML": unknown(html(503)),
    "200 {}": unknown(says({})),
    "200 []": unknown(says([])),
    "200 empty": unknown(Answer()),
    "200 HTML": unknown(html(200)),
    "200 with a code that is no success": unknown(says(ACCEPTED | {"code": "pending_review"})),
    "200 with an id that is none": unknown(says(ACCEPTED | {"data": "../../v1/models"})),
    "200 of 50 MB": unknown(replace(GOOD, padding=50_000_000)),
    "200 cut off": unknown(replace(GOOD, fault="truncate")),
    "200 that drips": unknown(replace(GOOD, fault="drip"), patience=0.3),
    "never answered": unknown(replace(GOOD, fault="stall"), patience=0.3),
    "closed without an answer": unknown(replace(GOOD, fault="close")),
    "reset in the request": unknown(replace(GOOD, fault="reset_in_request")),
    "reset after the request": unknown(replace(GOOD, fault="reset_after_request")),
    "reset in the reply": unknown(replace(GOOD, fault="reset_in_reply")),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES)
async def test_a_create_in_trouble_is_sent_once_and_says_what_became_of_it(
    trouble: Trouble, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("POST", CREATE, trouble.answer)
    async with connect(create_timeout=trouble.patience, connect_timeout=0.5) as client:
        told = await create_in_trouble(client, trouble.outcome)
        assert trouble.words in told.text
        assert trouble.outcome == "rejected" or not told.error["retryable"]
        await assert_remembered(client, told, trouble.outcome)
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("name", ["403 quota_not_enough", "502 HTML", "never answered", "reset after the request"])
async def test_both_eras_of_the_protocol_tell_the_same(
    name: str, era: Era, gateway: FaultGateway, connect: Connect
) -> None:
    trouble = TROUBLES[name]
    gateway.on("POST", CREATE, trouble.answer)
    async with connect(era, create_timeout=trouble.patience) as client:
        told = await create_in_trouble(client, trouble.outcome)
        await assert_remembered(client, told, trouble.outcome)
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("status", [402, 405, 413, 415, 422])
async def test_other_refusals_by_status_created_nothing(status: int, gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("POST", CREATE, html(status))
    async with connect() as client:
        told = await create_in_trouble(client, "rejected")
        assert told.error["http_status"] == status
    assert len(gateway.creates()) == 1


async def test_a_rate_limit_says_how_long_to_wait(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("POST", CREATE, refusal("too many requests", 429, Retry_After="7"))
    async with connect() as client:
        told = await create_in_trouble(client, "rejected")
        assert told.error["retryable"] is True
        assert told.error["retry_after_s"] == 7
        assert told.error["next_step"] == "Try again in 7 s."
        assert told.text.endswith("Try again in 7 s.")
        await assert_remembered(client, told, "rejected")
    assert len(gateway.creates()) == 1


async def test_what_the_gateway_says_is_quoted_cleaned_and_apart_from_our_words(
    gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("POST", CREATE, task_error("invalid_request", 400, "\x1b[31mno\u202e such\u200b size\x00" + "x" * 5000))
    async with connect() as client:
        told = await create_in_trouble(client, "rejected")
    assert told.error["gateway_message"].startswith("no such sizex")
    assert len(told.error["gateway_message"]) == 300
    assert "no such size" not in told.text


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_is_named_and_never_followed(
    status: int, gateway: FaultGateway, elsewhere: FaultGateway, connect: Connect
) -> None:
    elsewhere.on("POST", CREATE, GOOD)
    gateway.on("POST", CREATE, Answer(status, HTML, {"Location": elsewhere.address + CREATE}))
    async with connect() as client:
        told = await create_in_trouble(client, "rejected")
        assert elsewhere.address in told.text
        assert "SORA_BASE_URL" in told.text
        await assert_remembered(client, told, "rejected")
    assert len(gateway.creates()) == 1
    assert gateway.creates()[0].headers["authorization"] == f"Bearer {KEY}"
    assert elsewhere.connections == 0


async def test_a_redirect_to_what_was_made_leaves_the_outcome_unknown(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("POST", CREATE, Answer(303, b"", {"Location": f"{CREATE}/task_new"}))
    async with connect() as client:
        told = await create_in_trouble(client, "unknown")
        await assert_remembered(client, told, "unknown")
    assert len(gateway.creates()) == 1


# --- nothing arrives ------------------------------------------------------------------------------


async def test_a_connection_reset_before_anything_was_read_leaves_the_outcome_unknown(
    gateway: FaultGateway, connect: Connect
) -> None:
    gateway.hang_up = True
    async with connect() as client:
        told = await create_in_trouble(client, "unknown")
        await assert_remembered(client, told, "unknown")
    assert gateway.connections == 1
    assert gateway.received == []


async def test_a_reset_while_a_large_request_is_still_being_sent_leaves_the_outcome_unknown(
    gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("POST", CREATE, TROUBLES["reset in the request"].answer)
    async with connect(max_prompt_length=10_000_000) as client:
        told = await create_in_trouble(client, "unknown", prompt="fly man " * 1_000_000)
        await assert_remembered(client, told, "unknown")
    assert [request.complete for request in gateway.creates()] == [False]


async def test_a_refused_connection_submitted_nothing(connect: Connect) -> None:
    async with connect(base_url=closed_address()) as client:
        told = await create_in_trouble(client, "not_submitted")
        assert told.error["kind"] == "unreachable"
        assert told.error["retryable"] is True
        assert "nothing listens there" in told.text
        await assert_remembered(client, told, "rejected")


async def test_a_host_without_an_address_submitted_nothing(connect: Connect) -> None:
    async with connect(base_url="https://does-not-exist.invalid") as client:
        told = await create_in_trouble(client, "not_submitted")
        assert told.error["kind"] == "unreachable"
        assert "does-not-exist.invalid could not be reached" in told.text
        await assert_remembered(client, told, "rejected")


@pytest.mark.parametrize("hang_up", [True, False], ids=["reset", "never answered"])
async def test_a_tls_handshake_that_fails_submitted_nothing(
    hang_up: bool, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.hang_up = hang_up
    async with connect(base_url=gateway.address.replace("http:", "https:"), connect_timeout=0.5) as client:
        told = await create_in_trouble(client, "not_submitted")
        assert told.error["kind"] == "unreachable"
        await assert_remembered(client, told, "rejected")
    assert gateway.connections == 3
    assert gateway.received == []


UNUSABLE: dict[str, tuple[dict[str, str | None], str]] = {
    "nothing at all": ({"base_url": None, "api_key": None}, "SORA_BASE_URL is not set"),
    "no key": ({"api_key": None}, "SORA_API_KEY is not set"),
    "a key that was not expanded": ({"api_key": "${SORA_API_KEY}"}, "SORA_API_KEY is not set"),
    "a key with a line break": ({"api_key": f"{KEY}\nx"}, "SORA_API_KEY"),
    "no address": ({"base_url": "gateway"}, "SORA_BASE_URL"),
    "plain http to a public host": ({"base_url": "http://gateway.example"}, "https://"),
    "the documentation's host": ({"base_url": "https://gpt-best.apifox.cn"}, "documentation"),
    "a host name that is none": ({"base_url": "https://xn--.com"}, "SORA_BASE_URL"),
}


@pytest.mark.parametrize(("values", "words"), UNUSABLE.values(), ids=UNUSABLE)
async def test_settings_that_cannot_work_submit_nothing_and_are_named(
    values: dict[str, str | None], words: str, gateway: FaultGateway, connect: Connect
) -> None:
    async with connect(**values) as client:
        told = await create_in_trouble(client, "not_submitted")
        assert told.error["kind"] == "not_configured"
        assert words in told.text
        looked_up = await ask(client, "get_video", task_id="task_1")
        assert looked_up.is_error
        assert words in looked_up.text
    assert gateway.connections == 0


# --- what looks like trouble and is none ----------------------------------------------------------

ID = ACCEPTED["data"]
SHAPES: dict[str, Any] = {
    "the documented form": ACCEPTED,
    "an object with task_id": {"code": "success", "data": {"task_id": ID}},
    "an object with id": {"code": "success", "data": {"id": ID}},
    "an id at the root": {"id": ID},
    "no code": {"data": ID},
    "an error that is null": ACCEPTED | {"error": None},
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
async def test_every_known_form_of_yes_is_accepted(
    shape: dict[str, Any], gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("POST", CREATE, says(shape))
    gateway.on("GET", f"{CREATE}/{ID}", task_reply("IN_PROGRESS", task_id=ID))
    async with connect() as client:
        told = await ask(client, "create_video", prompt="fly man")
        assert not told.is_error
        assert (told.data["outcome"], told.data["task_id"]) == ("accepted", ID)
        assert ID in told.text
        video = await ask(client, "get_video", task_id=told.data["request_id"])
        assert (video.data["task_id"], video.data["state"]) == (ID, "running")
    assert len(gateway.creates()) == 1


FREE_TROUBLES = {
    name: TROUBLES[name].answer for name in ("502 HTML", "200 []", "200 of 50 MB", "200 cut off", "reset in the reply")
}


@pytest.mark.parametrize("answer", FREE_TROUBLES.values(), ids=FREE_TROUBLES)
async def test_a_query_in_trouble_may_be_repeated_and_forgets_nothing(
    answer: Answer, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("POST", CREATE, GOOD)
    gateway.on("GET", CREATE, answer)
    async with connect() as client:
        await ask(client, "create_video", prompt="fly man")
        video = await ask(client, "get_video", task_id=ID)
        assert video.is_error
        assert video.error["retryable"] is True
        assert "outcome" not in video.data
        listed = await ask(client, "list_videos")
        assert [(v["task_id"], v["state"]) for v in listed.data["videos"]] == [(ID, "submitted")]
    assert len(gateway.creates()) == 1
