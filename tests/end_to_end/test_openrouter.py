"""OpenRouter's `/api/v1/videos` through the real server and client: what is asked, what is sent, what is told."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bench import KEY, MP4
from calls import ask, assert_accepted, assert_refused
from fault_gateway import NEXT_ID, Answer, FaultGateway, Received, fault_gateway, says
from mcp import Client
from mcp.client.context import ClientRequestContext
from mcp_types import ElicitRequestParams, ElicitResult
from PIL import Image

from sora_mcp.cli.logs import KeyValueFormatter
from sora_mcp.config.settings import Settings
from sora_mcp.server import build
from sora_mcp.studio.catalogue import RETRY_DELAY_S

pytestmark = pytest.mark.anyio

VIDEOS = "/api/v1/videos"
MODELS = f"{VIDEOS}/models"
MODEL = "maker/one"
ONE = {
    "id": MODEL,
    "supported_sizes": ["1280x720", "720x1280"],
    "supported_durations": [5, 8],
    "supported_frame_images": ["first_frame", "last_frame"],
    "generate_audio": True,
    "seed": True,
}
LIST = {"data": [ONE, {"id": "maker/two", "supported_durations": [6]}]}
JOB = {"id": "gen-vid-1790000000-abcdefghijklmnopqrst", "polling_url": "https://evil.example/x", "status": "pending"}
ACCEPTED_NEXT = says(JOB | {"id": NEXT_ID.decode()}, 202)
"""Every create gets an id of its own."""
DONE = JOB | {"status": "completed"}
PROMPT = {"prompt": "fly man", "width": 1280, "height": 720}

Serve = Callable[..., Client]


@pytest.fixture
async def gateway() -> AsyncIterator[FaultGateway]:
    async with fault_gateway() as opened:
        opened.create_path = VIDEOS
        opened.on("POST", VIDEOS, says(JOB, 202))
        opened.on("GET", VIDEOS, says(JOB | {"status": "in_progress"}))
        opened.on("GET", MODELS, says(LIST))
        yield opened


@pytest.fixture
def serve(make_settings: Callable[..., Settings], gateway: FaultGateway) -> Serve:
    """A client of a server that is set to the gateway."""

    def make(**values: Any) -> Client:
        settings = {"base_url": gateway.address, "api_key": KEY, "dialect": "openrouter", "model": MODEL}
        return Client(build(make_settings(**settings | values)))

    return make


def of(gateway: FaultGateway, method: str, path: str = VIDEOS) -> list[Received]:
    return [each for each in gateway.received if each.method == method and each.path.partition("?")[0] == path]


def kept(folder: Path) -> Path:
    (file,) = (folder / "home").glob("models-*.json")
    return file


def age(file: Path, seconds: float) -> None:
    """The list was kept so many seconds ago."""
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"fetched_at": content["fetched_at"] - seconds}))


async def test_a_create_is_json_with_the_key_after_one_free_look_at_the_list(
    serve: Serve, gateway: FaultGateway
) -> None:
    async with serve() as client:
        told = await assert_accepted(client, "create_video", PROMPT)
    assert told.data["task_id"] == JOB["id"]
    (post,) = of(gateway, "POST")
    assert json.loads(post.body) == {"model": MODEL, "prompt": "fly man", "size": "1280x720", "duration": 5}
    assert post.headers["authorization"] == f"Bearer {KEY}"
    assert [(each.method, each.path) for each in gateway.received] == [("GET", MODELS), ("POST", VIDEOS)]


async def test_what_our_default_became_is_told(serve: Serve, gateway: FaultGateway) -> None:
    async with serve() as client:
        told = await assert_accepted(client, "create_video", {"prompt": "fly man", "model": "maker/two"})
        first = await ask(client, "create_video", {"prompt": "fly man", "dry_run": True})
    assert {"field": "n_frames", "asked": "not given", "sent": "6 s"} in told.data["adjusted"]
    assert {"field": "size", "asked": "not given", "sent": "1280x720"} in first.data["adjusted"]
    assert "size not given → 1280x720" in first.text
    assert json.loads(of(gateway, "POST")[0].body)["duration"] == 6


async def test_what_was_asked_for_and_is_not_listed_is_refused_with_the_nearest(
    serve: Serve, gateway: FaultGateway
) -> None:
    async with serve() as client:
        await assert_refused(client, "create_video", PROMPT | {"n_frames": 300}, "n_frames", "240 (8 s) is nearest")
        await assert_refused(client, "create_video", PROMPT | {"width": 1920, "height": 1080}, "1280x720 is nearest")
        await assert_refused(client, "create_video", PROMPT | {"model": "maker/on"}, "maker/one is nearest")
        await assert_refused(client, "create_video", PROMPT | {"model": "turbo"}, "turbo", MODEL)
    assert of(gateway, "POST") == []


@pytest.mark.parametrize(("name", "setting"), [("seed", "SORA_SEED"), ("generate_audio", "SORA_GENERATE_AUDIO")])
async def test_seed_and_sound_are_settings_and_an_agent_is_told_so(
    name: str, setting: str, serve: Serve, gateway: FaultGateway
) -> None:
    async with serve(seed=7, generate_audio=False) as client:
        await assert_refused(client, "create_video", PROMPT | {name: 1}, setting)
        await assert_accepted(client, "create_video", PROMPT)
    body = json.loads(of(gateway, "POST")[0].body)
    assert (body["seed"], body["generate_audio"]) == (7, False)


async def test_without_a_model_the_listed_ones_are_named(serve: Serve, gateway: FaultGateway) -> None:
    async with serve(model="") as client:
        await assert_refused(client, "create_video", PROMPT, "model: is not named", MODEL, "SORA_MODEL")
        await assert_accepted(client, "create_video", PROMPT | {"model": MODEL})
    assert len(of(gateway, "POST")) == 1


# --- the list of models ---------------------------------------------------------------------------


async def test_the_list_is_kept_for_a_day_beside_the_ledger(
    serve: Serve, gateway: FaultGateway, tmp_path: Path
) -> None:
    gateway.on("POST", VIDEOS, ACCEPTED_NEXT)
    for wish in ("one", "two"):
        async with serve() as client:
            await assert_accepted(client, "create_video", PROMPT | {"prompt": wish})
    assert len(of(gateway, "GET", MODELS)) == 1
    assert kept(tmp_path).stat().st_mode & 0o077 == 0 or os.name == "nt"
    assert KEY not in kept(tmp_path).read_text()
    age(kept(tmp_path), 90_000)
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT | {"prompt": "three"})
    assert len(of(gateway, "GET", MODELS)) == 2


@pytest.mark.parametrize(
    "answer",
    [
        says({"error": {"code": 503, "message": "down"}}, 503),
        Answer(200, b"<html>sorry</html>", {"Content-Type": "text/html"}),
        says({"data": None}),
        says({"data": []}),
        Answer(200, b'{"data": [', padding=5_000_000),
        Answer(fault="reset"),
    ],
    ids=["503", "page", "null", "empty", "huge", "reset"],
)
async def test_while_there_is_no_list_what_was_kept_is_used_and_without_that_nothing_is_paid(
    answer: Answer, serve: Serve, gateway: FaultGateway, tmp_path: Path
) -> None:
    gateway.on("POST", VIDEOS, ACCEPTED_NEXT)
    gateway.on("GET", MODELS, answer)
    async with serve() as client:
        told = await assert_refused(client, "create_video", PROMPT, "What the models accept is not known")
        assert KEY not in told.text
    assert of(gateway, "POST") == []
    gateway.on("GET", MODELS, says(LIST))
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
    age(kept(tmp_path), 200_000)
    gateway.on("GET", MODELS, answer)
    async with serve() as client:
        asked = len(of(gateway, "GET", MODELS))
        told = await assert_accepted(client, "create_video", PROMPT | {"prompt": "another"})
        assert "was last read 56 hours ago" in told.text
        again = len(of(gateway, "GET", MODELS))
        await assert_refused(client, "create_video", PROMPT | {"n_frames": 300}, "is nearest")
        assert again > asked
        assert len(of(gateway, "GET", MODELS)) == again, f"asked again within {RETRY_DELAY_S} s"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"models": 5}', '{"address": "x", "fetched_at": 1, "models": "[]"}']
)
async def test_a_kept_list_that_is_damaged_is_asked_for_again(
    content: str, serve: Serve, gateway: FaultGateway, tmp_path: Path
) -> None:
    gateway.on("POST", VIDEOS, ACCEPTED_NEXT)
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
    kept(tmp_path).write_text(content)
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT | {"prompt": "another"})
    assert len(of(gateway, "GET", MODELS)) == 2


async def test_after_a_400_the_list_is_read_again_and_nothing_is_sent_again(
    serve: Serve, gateway: FaultGateway
) -> None:
    async with serve() as client:
        await ask(client, "create_video", PROMPT | {"dry_run": True})
        withdrawn = {"error": {"code": 400, "message": "maker/one is not a valid model ID"}}
        gateway.on("POST", VIDEOS, says(withdrawn, 400))
        gateway.on("GET", MODELS, says({"data": [{"id": "maker/two"}]}))
        told = await ask(client, "create_video", PROMPT)
        assert (told.is_error, told.data["outcome"]) == (True, "rejected")
        assert "According to the gateway's newest list" in told.text
        assert 'the gateway has no "maker/one"' in told.text
        assert len(of(gateway, "POST")) == 1
        await assert_refused(client, "create_video", PROMPT, "maker/two")
    assert len(of(gateway, "POST")) == 1
    assert len(of(gateway, "GET", MODELS)) == 2


# --- the same, and what changed meanwhile ----------------------------------------------------------


BARE = {"prompt": "boat"}
OTHER_LIST = {"data": [{"id": MODEL, "supported_sizes": ["854x480"], "supported_durations": [8], "seed": False}]}


async def renew(client: Client, gateway: FaultGateway, models: dict[str, Any]) -> None:
    """The server learns another list."""
    gateway.on("GET", MODELS, says(models))
    await client.call_tool("describe_gateway", {})


async def test_what_is_sent_as_the_same_is_a_duplicate_however_it_was_asked_for(
    serve: Serve, gateway: FaultGateway
) -> None:
    as_told = BARE | {"width": 1280, "height": 720, "n_frames": 150}
    for first, again in ((BARE, as_told), (as_told | {"prompt": "ship"}, BARE | {"prompt": "ship"})):
        gateway.on("POST", VIDEOS, ACCEPTED_NEXT)
        async with serve() as client:
            task_id = (await assert_accepted(client, "create_video", first)).data["task_id"]
            assert (await assert_accepted(client, "create_video", again)).data["task_id"] == task_id
    assert len({each.body for each in of(gateway, "POST")}) == len(of(gateway, "POST")) == 2


async def test_another_size_than_the_one_that_is_sent_for_none_is_another_request(
    serve: Serve, gateway: FaultGateway
) -> None:
    gateway.on("POST", VIDEOS, ACCEPTED_NEXT)
    async with serve() as client:
        await assert_accepted(client, "create_video", BARE)
        await assert_accepted(client, "create_video", BARE | {"width": 720, "height": 1280})
    assert len(of(gateway, "POST")) == 2


@pytest.mark.parametrize("state", ["unknown", "under way"])
async def test_another_list_makes_no_other_request_of_the_same(state: str, serve: Serve, gateway: FaultGateway) -> None:
    if state == "unknown":
        gateway.on("POST", VIDEOS, Answer(500, b"{}"))
    async with serve(seed=7) as client:
        await ask(client, "create_video", BARE)
        gateway.on("POST", VIDEOS, ACCEPTED_NEXT)
        await renew(client, gateway, OTHER_LIST)
        await ask(client, "create_video", BARE)
    assert len(of(gateway, "POST")) == 1


async def test_what_the_user_agreed_to_is_what_is_sent_or_nothing(
    make_settings: Callable[..., Settings], gateway: FaultGateway
) -> None:
    async def agree(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:  # noqa: ARG001 - the callback names them
        await renew(client, gateway, {"data": [ONE | {"supported_durations": [8]}]})
        return ElicitResult(action="accept", content={"pay": True})

    values = {"base_url": gateway.address, "api_key": KEY, "dialect": "openrouter", "model": MODEL}
    settings = make_settings(**values, ask_above_cost="0.01 USD")
    async with Client(build(settings), mode="legacy", elicitation_callback=agree) as client:
        told = await ask(client, "create_video", BARE)
        assert told.data["outcome"] == "not_submitted"
        assert "has changed while this was prepared" in told.text
    assert of(gateway, "POST") == []


# --- refusals -------------------------------------------------------------------------------------


def refusal(status: int, message: str = "no", **metadata: Any) -> Answer:
    return says({"error": {"code": status, "message": message, "metadata": metadata}, "user_id": "u"}, status)


@pytest.mark.parametrize(
    ("answer", "outcome", "words"),
    [
        (refusal(402, "Insufficient credits"), "rejected", "add credits"),
        (says({"error": {"code": 402, "message": "Insufficient credits"}}, 402), "rejected", "add credits"),
        (refusal(403, "flagged", reasons=["violence"]), "rejected", "violence"),
        (refusal(401), "rejected", "SORA_API_KEY"),
        (refusal(413), "rejected", "smaller image"),
        (refusal(500), "unknown", "may have been created"),
        (refusal(503), "unknown", "may have been created"),
        (says({"status": "pending"}, 202), "unknown", "may have been created"),
        (Answer(202, b"<html></html>", {"Content-Type": "text/html"}), "unknown", "may have been created"),
    ],
)
async def test_what_becomes_of_an_answer_that_is_no_job(
    answer: Answer, outcome: str, words: str, serve: Serve, gateway: FaultGateway
) -> None:
    gateway.on("POST", VIDEOS, answer)
    async with serve() as client:
        told = await ask(client, "create_video", PROMPT)
    assert (told.is_error, told.data["outcome"]) == (True, outcome)
    assert words in f"{told.text}{told.data}"
    assert len(of(gateway, "POST")) == 1


async def test_too_many_requests_said_in_words_are_waited_out_and_one_video_comes_of_it(
    serve: Serve, gateway: FaultGateway
) -> None:
    gateway.on("POST", VIDEOS, replace(refusal(429, "slow down"), headers={"Retry-After": "0"}), says(JOB, 202))
    async with serve() as client:
        told = await assert_accepted(client, "create_video", PROMPT)
    assert told.data["task_id"] == JOB["id"]
    assert len(of(gateway, "POST")) == 2


# --- results --------------------------------------------------------------------------------------

CONTENT = f"{VIDEOS}/{JOB['id']}/content"


async def test_the_polling_address_is_never_followed(serve: Serve, gateway: FaultGateway) -> None:
    gateway.on("POST", VIDEOS, says(JOB | {"polling_url": f"{gateway.address}/elsewhere"}, 202))
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
        told = await ask(client, "get_video", {"task_id": JOB["id"]})
    assert told.data["state"] == "running"
    assert gateway.received[-1].path == f"{VIDEOS}/{JOB['id']}"
    assert all("elsewhere" not in each.path for each in gateway.received)


async def test_outputs_are_fetched_with_the_key_from_the_gateways_own_address_only(
    serve: Serve, gateway: FaultGateway
) -> None:
    elsewhere = f"{gateway.address.replace('127.0.0.1', 'localhost')}/steal.mp4"
    gateway.on("GET", f"{VIDEOS}/{JOB['id']}", says(DONE | {"unsigned_urls": [elsewhere, elsewhere]}))
    gateway.on("GET", CONTENT, Answer(200, MP4))
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
        video = await ask(client, "get_video", {"task_id": JOB["id"]})
        saved = await ask(client, "download_video", {"task_id": JOB["id"], "variant": 2})
    assert len(video.data["generations"]) == 2
    assert not saved.is_error, saved.text
    (fetched,) = of(gateway, "GET", CONTENT)
    assert fetched.path.endswith("?index=1")
    assert fetched.headers["authorization"] == f"Bearer {KEY}"
    assert all("steal" not in each.path for each in gateway.received)


async def test_signed_addresses_are_fetched_without_the_key_and_stand_in_no_list(
    serve: Serve, gateway: FaultGateway
) -> None:
    signed = f"{gateway.address}/signed/a.mp4?signature=s3cret"
    gateway.on("GET", f"{VIDEOS}/{JOB['id']}", says(DONE | {"urls": [signed], "expires_at": 4_000_000_000}))
    gateway.on("GET", "/signed", Answer(200, MP4))
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
        video = await ask(client, "get_video", {"task_id": JOB["id"]})
        listed = await ask(client, "list_videos", {})
        saved = await ask(client, "download_video", {"task_id": JOB["id"]})
    assert video.data["generations"][0]["url"] == signed
    assert "s3cret" not in f"{listed.text}{listed.data}{saved.text}{saved.data}"
    (fetched,) = of(gateway, "GET", "/signed/a.mp4")
    assert "authorization" not in fetched.headers


async def test_no_log_holds_what_a_signed_address_is_signed_with(
    serve: Serve, gateway: FaultGateway, caplog: pytest.LogCaptureFixture
) -> None:
    signed = f"{gateway.address}/signed/a.mp4?signature=s3cret"
    gateway.on("GET", f"{VIDEOS}/{JOB['id']}", says(DONE | {"urls": [signed]}))
    gateway.on("GET", "/signed", says({"error": "no"}, 403))
    with caplog.at_level("DEBUG", logger="sora_mcp"):
        async with serve() as client:
            await assert_accepted(client, "create_video", PROMPT)
            await ask(client, "get_video", {"task_id": JOB["id"]})
            failed = await ask(client, "download_video", {"task_id": JOB["id"]})
    lines = "\n".join(map(KeyValueFormatter(lambda: KEY).format, caplog.records))
    assert "/signed/a.mp4" in lines
    assert "s3cret" not in f"{lines}{failed.text}{failed.data}"


async def test_a_signed_address_that_has_expired_is_asked_for_again(serve: Serve, gateway: FaultGateway) -> None:
    def done(name: str) -> Answer:
        return says(DONE | {"urls": [f"{gateway.address}/{name}.mp4?signature=s"], "expires_at": 4_000_000_000})

    gateway.on("GET", f"{VIDEOS}/{JOB['id']}", done("old"), done("new"))
    gateway.on("GET", "/old", says({"error": "expired"}, 403))
    gateway.on("GET", "/new", Answer(200, MP4))
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
        await ask(client, "get_video", {"task_id": JOB["id"]})
        saved = await ask(client, "download_video", {"task_id": JOB["id"]})
    assert not saved.is_error, saved.text


@pytest.mark.parametrize(("status", "words"), [(409, "409"), (410, "gone")])
async def test_content_that_is_not_ready_or_gone_is_told(
    status: int, words: str, serve: Serve, gateway: FaultGateway
) -> None:
    gateway.on("GET", f"{VIDEOS}/{JOB['id']}", says(DONE))
    gateway.on("GET", CONTENT, refusal(status))
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
        saved = await ask(client, "download_video", {"task_id": JOB["id"]})
    assert saved.is_error
    assert words in saved.text


@pytest.mark.parametrize(
    ("status", "state"), [("cancelled", "failed"), ("expired", "failed"), ("brand_new", "running")]
)
async def test_states_that_the_gateway_ends_with(status: str, state: str, serve: Serve, gateway: FaultGateway) -> None:
    gateway.on("GET", f"{VIDEOS}/{JOB['id']}", says(JOB | {"status": status}))
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
        told = await ask(client, "get_video", {"task_id": JOB["id"]})
    assert told.data["state"] == state
    assert status in told.text or told.data["gateway_state"] == status


# --- images ---------------------------------------------------------------------------------------


async def test_an_image_that_is_a_file_here_is_sent_inside_the_request(
    serve: Serve, gateway: FaultGateway, pictures: Path
) -> None:
    path = pictures / "a.png"
    Image.new("RGB", (64, 36), "red").save(path)
    items = [{"url": str(path), "frame_index": 0}]
    async with serve(image_dirs=(pictures,)) as client:
        tried = await ask(client, "create_video", PROMPT | {"inpaint_items": items, "dry_run": True})
        await assert_accepted(client, "create_video", PROMPT | {"inpaint_items": items})
    assert tried.data["body"]["frame_images"][0]["image_url"]["url"] == str(path)
    sent = json.loads(of(gateway, "POST")[0].body)["frame_images"][0]["image_url"]["url"]
    head, _, content = sent.partition(",")
    assert head == "data:image/png;base64"
    assert base64.b64decode(content) == path.read_bytes()


async def test_images_with_an_address_are_left_to_the_gateway(serve: Serve, gateway: FaultGateway) -> None:
    items = [{"url": f"{gateway.address}/a.png", "frame_index": 0}]
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT | {"inpaint_items": items})
    body = json.loads(of(gateway, "POST")[0].body)
    assert body["frame_images"][0]["image_url"]["url"] == f"{gateway.address}/a.png"
    assert all(each.path != "/a.png" for each in gateway.received)


@pytest.mark.parametrize(("word", "is_known"), [("Processing", True), ("pending", True), ("warmup", False)])
async def test_a_word_for_a_state_is_told_to_be_unknown_where_openrouters_table_lacks_it(
    word: str, is_known: bool, serve: Serve, gateway: FaultGateway
) -> None:
    gateway.on("GET", VIDEOS, says(JOB | {"status": word}))
    async with serve() as client:
        created = await ask(client, "create_video", PROMPT)
        told = await ask(client, "get_video", {"task_id": created.data["task_id"]})
    assert told.data["gateway_state"] == word
    assert ("reports a state that this server does not know" not in told.text) is is_known
