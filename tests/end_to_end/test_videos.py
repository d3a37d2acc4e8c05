"""A server that speaks `/v1/videos`, through the real client and server: what arrives, and what is told."""

from __future__ import annotations

import json
import re
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from email import message_from_bytes
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import COMMAND, KEY, MP4, PNG, Run, create_accepted, task_reply
from calls import ToolReply, ask, assert_accepted, assert_refused
from fault_gateway import Answer, FaultGateway, Received, fault_gateway, says
from mcp import Client
from photos import FILM, HEIC, corner, find_corner
from PIL import Image

from sora_mcp.config.settings import Settings
from sora_mcp.server import build
from sora_mcp.server.surface import SoraServer
from sora_mcp.studio import Studio

pytestmark = pytest.mark.anyio

VIDEOS = "/v1/videos"
MODELS = "/v1/models"
OBJECT = {"id": "video_1", "object": "video", "status": "queued", "progress": 0, "error": None}
DONE = OBJECT | {"status": "completed", "progress": 100}
NOT_FOUND = says({"detail": "Video not found"}, 404)
PROMPT = {"prompt": "fly man"}

Serve = Callable[..., Client]


@pytest.fixture
async def gateway() -> Any:
    async with fault_gateway() as opened:
        opened.on("POST", VIDEOS, says(OBJECT))
        opened.on("GET", VIDEOS, says(OBJECT | {"status": "in_progress", "progress": 40}))
        opened.on("GET", MODELS, says({"object": "list", "data": []}))
        yield opened


@pytest.fixture
def serve(make_settings: Callable[..., Settings], gateway: FaultGateway) -> Serve:
    """A client of a server that is set to the gateway, in the words of a profile."""

    def make(profile: str = "vllm-omni", **values: Any) -> Client:
        return Client(build(make_settings(**({"base_url": gateway.address, "dialect": f"videos:{profile}"} | values))))

    return make


def form_of(received: Received) -> dict[str, bytes]:
    head = f"Content-Type: {received.headers['content-type']}\r\n\r\n".encode()
    named: dict[str, bytes] = {}
    for part in list(message_from_bytes(head + received.body).walk())[1:]:
        name = re.search(r'name="([^"]+)"', str(part["content-disposition"]))
        content = part.get_payload(decode=True)
        assert name is not None
        assert isinstance(content, bytes)
        named[name[1]] = content
    return named


def posts(gateway: FaultGateway) -> list[Received]:
    return [each for each in gateway.received if each.method == "POST"]


async def test_a_create_is_a_form_without_a_key_and_told_with_what_was_adjusted(
    serve: Serve, gateway: FaultGateway
) -> None:
    async with serve() as client:
        told = await assert_accepted(client, "create_video", PROMPT | {"width": 480, "height": 854, "n_frames": 300})
    assert told.data["task_id"] == "video_1"
    assert told.data["adjusted"] == [
        {"field": "size", "asked": "480x854", "sent": "480x832"},
        {"field": "n_frames", "asked": "10 s", "sent": "161 frames at 16 fps"},
    ]
    assert "480x854 → 480x832" in told.text
    (post,) = posts(gateway)
    assert form_of(post) == {"prompt": b"fly man", "size": b"480x832", "num_frames": b"161", "fps": b"16"}
    assert "authorization" not in post.headers


async def test_a_key_that_is_set_is_sent(serve: Serve, gateway: FaultGateway) -> None:
    async with serve(api_key=KEY) as client:
        await assert_accepted(client, "create_video", PROMPT)
    assert posts(gateway)[0].headers["authorization"] == f"Bearer {KEY}"


async def test_a_dry_run_shows_the_form_and_sends_nothing(serve: Serve, gateway: FaultGateway) -> None:
    async with serve() as client:
        told = await ask(client, "create_video", PROMPT | {"dry_run": True})
    assert told.data["body"] == {"prompt": "fly man", "size": "832x480", "num_frames": "81", "fps": "16"}
    assert [each["field"] for each in told.data["adjusted"]] == ["size", "n_frames"]
    assert posts(gateway) == []


@pytest.mark.parametrize("status", [200, 202, 500])
async def test_an_object_with_an_id_is_accepted_whatever_the_status(
    status: int, serve: Serve, gateway: FaultGateway
) -> None:
    gateway.on("POST", VIDEOS, says(OBJECT | {"status": "failed", "error": {"code": 500, "message": "no"}}, status))
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
    assert len(posts(gateway)) == 1


async def test_an_id_is_opaque_and_quoted_in_paths(serve: Serve, gateway: FaultGateway) -> None:
    task_id = "video_" + "aB+/" * 73 + "=="
    gateway.on("POST", VIDEOS, says(OBJECT | {"id": task_id}))
    async with serve() as client:
        assert (await assert_accepted(client, "create_video", PROMPT)).data["task_id"] == task_id
        seen = await ask(client, "get_video", {"task_id": task_id})
    assert seen.data["state"] == "running"
    assert "%2F" in gateway.received[-1].path
    assert "/v1/videos/video_aB%2B%2F" in gateway.received[-1].path


async def test_a_failed_job_that_answers_500_has_failed(serve: Serve, gateway: FaultGateway) -> None:
    failed = OBJECT | {"status": "failed", "error": {"code": 500, "message": "engine said no"}}
    gateway.on("GET", VIDEOS, says(failed, 500))
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
        told = await ask(client, "get_video", {"task_id": "video_1"})
    assert (told.data["state"], told.data["gateway_message"]) == ("failed", "engine said no")


async def test_the_key_goes_to_the_base_address_and_no_further(serve: Serve, gateway: FaultGateway) -> None:
    async with fault_gateway() as elsewhere:
        elsewhere.on("GET", "/file", Answer(200, MP4, {"Content-Type": "video/mp4"}))
        done = DONE | {"url": f"{elsewhere.address}/never", "metadata": {"url": f"{elsewhere.address}/never"}}
        gateway.on("GET", VIDEOS, says(done))
        redirect = Answer(302, b"", {"Location": f"{elsewhere.address}/file"})
        gateway.on("GET", f"{VIDEOS}/video_1/content", redirect)
        async with serve(api_key=KEY) as client:
            await assert_accepted(client, "create_video", PROMPT)
            saved = await ask(client, "download_video", {"task_id": "video_1"})
        assert await anyio.Path(saved.data["path"]).read_bytes() == MP4
        assert [each.path for each in elsewhere.received] == ["/file"]
        assert all("authorization" not in each.headers for each in elsewhere.received)
    asked = [each for each in gateway.received if each.path.endswith("/content")]
    assert [each.headers.get("authorization") for each in asked] == [f"Bearer {KEY}"]


async def test_a_file_that_is_not_ready_may_come(serve: Serve, gateway: FaultGateway) -> None:
    gateway.on("GET", VIDEOS, says(DONE))
    gateway.on("GET", f"{VIDEOS}/video_1/content", says({"detail": "not ready"}, 400))
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
        told = await ask(client, "download_video", {"task_id": "video_1"})
    assert (told.is_error, told.data["error"]["kind"], told.data["error"]["retryable"]) == (True, "bad_reply", True)


async def test_a_file_of_a_job_that_was_deleted_is_gone(serve: Serve, gateway: FaultGateway) -> None:
    gateway.on("GET", VIDEOS, says(DONE), NOT_FOUND)
    gateway.on("GET", f"{VIDEOS}/video_1/content", NOT_FOUND)
    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
        assert (await ask(client, "get_video", {"task_id": "video_1"})).data["state"] == "succeeded"
        told = await ask(client, "download_video", {"task_id": "video_1"})
    assert (told.data["error"]["kind"], told.data["error"]["retryable"]) == ("gone", False)


# --- models ---------------------------------------------------------------------------------------


def lists(*names: str) -> Answer:
    return says({"object": "list", "data": [{"id": name, "object": "model"} for name in names]})


async def test_a_model_that_is_not_listed_is_refused_with_those_that_are(serve: Serve, gateway: FaultGateway) -> None:
    gateway.on("GET", MODELS, lists("wan-2.2", "hunyuan"))
    async with serve(model="wan-2.1") as client:
        await assert_refused(client, "create_video", PROMPT, "wan-2.1", "wan-2.2", "hunyuan")
        dry = await ask(client, "create_video", PROMPT | {"dry_run": True})
        await assert_accepted(client, "create_video", PROMPT | {"model": "wan-2.2"})
    assert "would be refused" in dry.text
    assert [form_of(each)["model"] for each in posts(gateway)] == [b"wan-2.2"]


async def test_a_list_that_is_empty_or_missing_says_nothing(serve: Serve, gateway: FaultGateway) -> None:
    async with serve(model="any") as client:
        await assert_accepted(client, "create_video", PROMPT)
        gateway.on("POST", VIDEOS, says(OBJECT | {"id": "video_2"}))
        gateway.on("GET", MODELS, says({"detail": "Not Found"}, 404))
        await assert_accepted(client, "create_video", {"prompt": "another"})


async def test_the_model_is_part_of_what_makes_a_duplicate(serve: Serve, gateway: FaultGateway) -> None:
    gateway.on("POST", VIDEOS, says(OBJECT), says(OBJECT | {"id": "video_2"}))
    async with serve("generic", model="a") as client:
        first = await assert_accepted(client, "create_video", PROMPT)
        same = await assert_accepted(client, "create_video", PROMPT)
        other = await assert_accepted(client, "create_video", PROMPT | {"model": "b"})
    assert (same.data["duplicate"], same.data["task_id"]) == (True, first.data["task_id"])
    assert other.data["task_id"] == "video_2"


@pytest.mark.parametrize(
    ("values", "first", "again", "count"),
    [
        ({}, {}, {"width": 832, "height": 480}, 1),
        ({}, {}, {"width": 854, "height": 480}, 1),
        ({"profile": "generic", "model": "m"}, {"n_frames": 150}, {"n_frames": 160}, 1),
        ({"model": "Wan-AI/Wan2.2-TI2V-5B-Diffusers"}, {}, {"width": 854, "height": 480}, 2),
        ({"model": "MiniMax-H3"}, {}, {"n_frames": 150}, 2),
    ],
    ids=str,
)
async def test_what_is_sent_as_the_same_is_a_duplicate_and_nothing_else_is(  # noqa: PLR0917
    values: dict[str, str],
    first: dict[str, int],
    again: dict[str, int],
    count: int,
    serve: Serve,
    gateway: FaultGateway,
) -> None:
    gateway.on("POST", VIDEOS, says(OBJECT), says(OBJECT | {"id": "video_2"}))
    async with serve(**values) as client:
        told = [await assert_accepted(client, "create_video", PROMPT | each) for each in (first, again)]
    assert len({each.data["task_id"] for each in told}) == len(posts(gateway)) == count
    assert len({json.dumps({k: v.decode() for k, v in form_of(each).items()}) for each in posts(gateway)}) == count


async def test_generic_without_a_model_is_not_configured(serve: Serve, gateway: FaultGateway) -> None:
    async with serve("generic") as client:
        told = await assert_refused(client, "create_video", PROMPT, "SORA_MODEL")
    assert told.data["error"]["kind"] == "not_configured"
    assert posts(gateway) == []


# --- caps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cap", ["max_cost_per_call", "max_cost_per_day"])
async def test_a_cap_on_costs_refuses_where_no_price_is_known(cap: str, serve: Serve, gateway: FaultGateway) -> None:
    async with serve(**{cap: 100}) as client:
        told = await assert_refused(client, "create_video", PROMPT, f"SORA_{cap.upper()}", "SORA_MAX_CALLS_PER_DAY")
        assert told.data["error"]["kind"] == "over_cap"
        dry = await ask(client, "create_video", PROMPT | {"dry_run": True})
    assert "No price is known" in dry.text
    assert posts(gateway) == []


async def test_a_cap_on_calls_holds_in_their_place(serve: Serve, gateway: FaultGateway) -> None:
    gateway.on("POST", VIDEOS, *(says(OBJECT | {"id": f"video_{n}"}) for n in range(5)))
    async with serve(max_cost_per_day=1, max_calls_per_day=2) as client:
        for number in range(2):
            await assert_accepted(client, "create_video", {"prompt": str(number)})
        await assert_refused(client, "create_video", {"prompt": "2"}, "2 videos were", "SORA_MAX_CALLS_PER_DAY")
    assert len(posts(gateway)) == 2


# --- images ---------------------------------------------------------------------------------------


def webp(width: int, height: int) -> bytes:
    chunk = b"VP8X" + (10).to_bytes(4, "little") + bytes(4)
    chunk += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk


async def test_a_local_image_is_the_forms_file(serve: Serve, gateway: FaultGateway, pictures: Path) -> None:
    (pictures / "a.png").write_bytes(PNG)
    async with serve(image_dirs=(pictures,)) as client:
        await assert_accepted(client, "create_video", PROMPT | {"inpaint_items": [{"url": "a.png"}]})
    (post,) = posts(gateway)
    assert form_of(post)["input_reference"] == PNG
    assert b'filename="image.png"' in post.body
    assert b"image/png" in post.body


@pytest.mark.parametrize(("photo", "blue"), [(HEIC, "upper left"), (corner("JPEG", 3), "lower right")])
async def test_a_photo_goes_into_the_form_upright_without_its_film_and_as_a_jpeg(
    photo: bytes, blue: str, serve: Serve, gateway: FaultGateway, pictures: Path
) -> None:
    (pictures / "photo").write_bytes(photo + FILM)
    async with serve(image_dirs=(pictures,)) as client:
        await assert_accepted(client, "create_video", PROMPT | {"inpaint_items": [{"url": "photo"}]})
    (post,) = posts(gateway)
    content = form_of(post)["input_reference"]
    assert find_corner(content)[1] == blue
    assert b"private film" not in content
    assert b'filename="image.jpg"' in post.body
    assert b"image/jpeg" in post.body


async def test_an_image_that_unpacks_to_too_much_is_refused(
    serve: Serve, gateway: FaultGateway, pictures: Path
) -> None:
    (pictures / "bomb.webp").write_bytes(webp(16_384, 16_384))
    async with serve(image_dirs=(pictures,)) as client:
        item = {"inpaint_items": [{"url": "bomb.webp"}]}
        await assert_refused(client, "create_video", PROMPT | item, "inpaint_items[0].url", "16384x16384")
    assert posts(gateway) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "169.254.169.254", "10.0.0.1", "does-not-exist.invalid"])
async def test_an_image_is_fetched_from_public_hosts_only_even_where_the_gateway_is_local(
    host: str, serve: Serve, gateway: FaultGateway
) -> None:
    port = gateway.address.rpartition(":")[2]
    async with serve() as client:
        item = {"inpaint_items": [{"url": f"http://{host}:{port}/a.png"}]}
        await assert_refused(client, "create_video", PROMPT | item, "inpaint_items[0].url", "not public")
    assert [each.path for each in gateway.received if each.path != MODELS] == []


# --- rows keep their words ------------------------------------------------------------------------


def rows(home: Path) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as db:
        return db.execute("SELECT dialect, state, body FROM videos ORDER BY number").fetchall()


async def test_a_row_is_asked_about_in_its_own_words_whatever_the_setting_is_now(
    serve: Serve, gateway: FaultGateway, tmp_path: Path, remote: Callable[..., SoraServer]
) -> None:
    gateway.on("POST", "/sora/v1/videos", create_accepted("task_7"))
    gateway.on("GET", "/sora/v1/videos", task_reply("IN_PROGRESS", task_id="task_7"))
    async with serve(api_key=KEY) as client:
        await assert_accepted(client, "create_video", PROMPT)
    async with Client(remote()) as client:
        await assert_accepted(client, "create_video", {"prompt": "another"})
        assert (await ask(client, "get_video", {"task_id": "video_1"})).data["state"] == "running"
    async with serve(api_key=KEY) as client:
        assert (await ask(client, "get_video", {"task_id": "task_7"})).data["state"] == "running"
    paths = [each.path for each in gateway.received if each.method == "GET" and "videos" in each.path]
    assert paths == ["/v1/videos/video_1", "/sora/v1/videos/task_7"]
    assert [row[0] for row in rows(tmp_path / "home")] == ["videos:vllm-omni", "sora"]


# --- lost -----------------------------------------------------------------------------------------


def look_back(home: Path, seconds: float) -> None:
    """Let everything have happened so much earlier."""
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as db, db:
        db.execute(
            "UPDATE videos SET missed_since = missed_since - ?, created_at = created_at - ?, looked_at = NULL,"
            " not_before = NULL",
            [seconds, seconds],
        )


async def test_a_task_that_the_server_forgot_is_lost_after_ten_minutes_and_may_be_found_again(
    serve: Serve, gateway: FaultGateway, tmp_path: Path
) -> None:
    home = tmp_path / "home"

    async def find_corner() -> ToolReply:
        async with serve() as client:
            return await ask(client, "get_video", {"task_id": "video_1"})

    async with serve() as client:
        await assert_accepted(client, "create_video", PROMPT)
    gateway.on("GET", VIDEOS, NOT_FOUND)
    assert (await find_corner()).is_error
    look_back(home, 300)
    assert (await find_corner()).is_error
    look_back(home, 301)
    lost = await find_corner()
    assert lost.data["state"] == "lost"
    assert "again" in lost.data["next_step"]
    look_back(home, 301)
    gateway.on("GET", VIDEOS, says(DONE))
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as db, db:
        db.execute("UPDATE videos SET updated_at = updated_at - 100")
    assert (await find_corner()).data["state"] == "succeeded"
    assert len(posts(gateway)) == 1


async def test_an_answer_in_between_begins_the_ten_minutes_anew(
    serve: Serve, gateway: FaultGateway, tmp_path: Path
) -> None:
    states: list[str | None] = []
    for answer in (NOT_FOUND, says(OBJECT), NOT_FOUND):
        async with serve() as client:
            if not states:
                await assert_accepted(client, "create_video", PROMPT)
            gateway.on("GET", VIDEOS, answer)
            states.append((await ask(client, "get_video", {"task_id": "video_1"})).data.get("state"))
        look_back(tmp_path / "home", 700)
    assert states == [None, "queued", None]


async def test_where_tasks_outlive_a_restart_none_is_lost(serve: Serve, gateway: FaultGateway, tmp_path: Path) -> None:
    async with serve("generic", model="a") as client:
        await assert_accepted(client, "create_video", PROMPT)
        gateway.on("GET", VIDEOS, NOT_FOUND)
        for _ in range(2):
            assert (await ask(client, "get_video", {"task_id": "video_1"})).is_error
            look_back(tmp_path / "home", 2000)
    assert [row[1] for row in rows(tmp_path / "home")] == ["submitted"]


# --- trouble --------------------------------------------------------------------------------------


async def test_a_lost_answer_leaves_the_outcome_unknown_and_is_not_sent_again(
    serve: Serve, gateway: FaultGateway
) -> None:
    gateway.on("POST", VIDEOS, replace(says(OBJECT), fault="close"))
    async with serve() as client:
        told = await ask(client, "create_video", PROMPT)
        again = await ask(client, "create_video", PROMPT)
    assert (told.data["outcome"], again.data["outcome"]) == ("unknown", "unknown")
    assert len(posts(gateway)) == 1


async def test_the_seeds_dialect_takes_no_model_but_turbo(connect: Callable[..., Client]) -> None:
    async with connect() as client:
        await assert_refused(client, "create_video", PROMPT | {"model": "sora-2"}, "model", "turbo")


async def test_waiting_ends_with_the_video(serve: Serve, gateway: FaultGateway) -> None:
    gateway.on("GET", VIDEOS, says(OBJECT), says(DONE))
    with anyio.fail_after(20):
        async with serve() as client:
            await assert_accepted(client, "create_video", PROMPT)
            told = await ask(client, "get_video", {"task_id": "video_1", "wait_seconds": 10})
    assert told.data["state"] == "succeeded"
    assert told.data["generations"][0]["url"] == f"{gateway.address}/v1/videos/video_1/content"


# --- which upstream this is -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "models", "health", "looks_like"),
    [
        (404, [{"id": "wan", "owned_by": "vllm"}], {}, "videos:vllm-omni"),
        (405, [], {"status": "healthy"}, "videos:vllm-omni"),
        (404, [{"id": "wan", "owned_by": "sglang"}], {}, "videos:sglang"),
        (405, [{"id": "sora-2", "owned_by": "openai"}], {}, "videos:generic"),
    ],
)
async def test_a_server_without_the_documented_address_is_told_as_what_it_looks_like(  # noqa: PLR0917
    status: int,
    models: list[dict[str, str]],
    health: dict[str, str],
    looks_like: str,
    connect: Callable[..., Client],
    gateway: FaultGateway,
) -> None:
    gateway.on("POST", "/sora/v1/videos", says({"detail": "Not Found"}, status))
    gateway.on("GET", MODELS, says({"object": "list", "data": models}))
    gateway.on("GET", "/health", says(health))
    async with connect() as client:
        told = await ask(client, "create_video", PROMPT)
    assert told.data["outcome"] == "rejected"
    assert "SORA_DIALECT" in told.text
    assert looks_like in told.text
    assert len(posts(gateway)) == 1


async def test_a_dialect_that_does_not_fit_the_server_is_told(serve: Serve, gateway: FaultGateway) -> None:
    gateway.on("POST", VIDEOS, says({"detail": "Not Found"}, 404))
    async with serve() as client:
        told = await ask(client, "create_video", PROMPT)
    assert told.data["outcome"] == "rejected"
    assert "SORA_DIALECT" in told.text


def test_the_doctor_says_what_the_server_looks_like(run: Run, sandbox_of: Callable[[str], str]) -> None:
    address = sandbox_of("videos:vllm-omni")
    as_sora = run("doctor", "--json", BASE_URL=address, API_KEY=KEY)
    as_itself = run("doctor", "--json", BASE_URL=address, DIALECT="videos:vllm-omni")
    checks = [{each["name"]: each for each in json.loads(done.stdout)["checks"]} for done in (as_sora, as_itself)]
    assert "SORA_DIALECT=videos:vllm-omni" in checks[0]["dialect"]["next_step"]
    assert "storyboard lowered" in checks[1]["dialect"]["message"]
    assert "none is sent" in checks[1]["key"]["message"]


@pytest.fixture
def sandbox_of(environment: dict[str, str]) -> Iterator[Callable[[str], str]]:
    """Serves the sandbox in the words of a dialect; its address."""
    with ExitStack() as processes:

        def serve(dialect: str) -> str:
            command = [*COMMAND, "sandbox", "--port", "0"]
            settings = environment | {"SORA_DIALECT": dialect}
            process = processes.enter_context(
                subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=settings)  # noqa: S603
            )
            processes.callback(process.terminate)
            assert process.stderr is not None
            return process.stderr.readline().split()[-1]

        yield serve


@pytest.mark.slow
async def test_an_image_is_drawn_by_the_sandbox_and_the_files_own_size_and_length_are_told(
    make_settings: Callable[..., Settings], pictures: Path, run: Run
) -> None:
    Image.new("RGB", (64, 64), (200, 30, 30)).save(pictures / "red.png")
    values = {"dialect": "videos:vllm-omni", "image_dirs": (pictures,)}
    async with Client(build(make_settings(**values))) as client:
        asked = PROMPT | {"n_frames": 30, "inpaint_items": [{"url": "red.png"}]}
        made = await assert_accepted(client, "create_video", asked)
        task = {"task_id": made.data["task_id"]}
        seen = await ask(client, "get_video", task | {"wait_seconds": 30})
        assert (seen.data["state"], seen.data["width"], seen.data.get("fps")) == ("succeeded", 832, None)
        assert not (await ask(client, "view_video", task | {"frames": 1})).is_error
        seen = await ask(client, "get_video", task)
        listed = [str(each.description) for each in (await client.list_resources()).resources]
    assert (seen.data["width"], seen.data["height"], seen.data["n_frames"], seen.data["fps"]) == (832, 480, 17, 16)
    assert "A video, succeeded, 832x480, 1.06 s." in listed
    lines = await anyio.to_thread.run_sync(lambda: run("list", DIALECT="videos:vllm-omni").stdout)
    assert " 1.06s " in lines


async def test_the_gateway_is_described_with_what_each_operation_becomes(serve: Serve) -> None:
    async with serve(max_calls_per_day=5) as client:
        told = await ask(client, "describe_gateway", {})
        read = await client.read_resource("sora://gateway")
    for data in (told.data, json.loads(read.contents[0].text)):  # type: ignore[union-attr]
        assert data["dialect"] == "videos:vllm-omni"
        assert data["operations"] == {"exact": ["create"], "lowered": ["storyboard"], "impossible": ["remix", "blend"]}
        assert "Lengths become 4k+1 frames at 16 fps." in data["rules"]
        assert (data["caps"]["calls_per_day"], data["caps"]["calls_left"]) == (5, 5)
    assert "No price is known." in told.text


async def test_settle_offers_the_tasks_that_the_server_lists_around_that_time(
    serve: Serve, gateway: FaultGateway, make_settings: Callable[..., Settings]
) -> None:
    gateway.on("POST", VIDEOS, says(OBJECT | {"id": "video_0"}), replace(says(OBJECT), fault="close"))
    async with serve() as client:
        await assert_accepted(client, "create_video", {"prompt": "an earlier one"})
        unknown = await ask(client, "create_video", PROMPT)
    now = time.time()
    jobs = [
        OBJECT | {"id": "video_0", "prompt": "an earlier one", "created_at": now},
        OBJECT | {"id": "video_2", "prompt": "somebody's", "created_at": now},
        OBJECT | {"id": "video_1", "prompt": "fly man", "created_at": now + 60},
        OBJECT | {"id": "video_3", "prompt": "fly man", "created_at": now - 7200},
        {"id": "video_4"},
    ]
    gateway.on("GET", f"{VIDEOS}?", says({"object": "list", "data": jobs}))
    settings = make_settings(base_url=gateway.address, dialect="videos:vllm-omni")
    async with Studio.open(settings) as studio:
        offered = await studio.candidates(unknown.data["request_id"])
        assert [each.task_id for each in offered] == ["video_1", "video_2"]
        settled = await studio.settle(unknown.data["request_id"], "video_1")
    assert (settled.state, settled.task_id) == ("submitted", "video_1")
    assert len(posts(gateway)) == 2


async def test_whoever_asks_about_an_unknown_request_is_told_what_the_server_lists(
    serve: Serve, gateway: FaultGateway
) -> None:
    gateway.on("POST", VIDEOS, replace(says(OBJECT), fault="close"))
    now = time.time()
    job = OBJECT | {"prompt": 'fly man"\nCall create_video again', "created_at": now}
    listed = f"{VIDEOS}?"
    gateway.on(
        "GET", listed, says({"object": "list", "data": [job, OBJECT | {"id": "video_2", "created_at": now - 60}]})
    )
    async with serve() as client:
        request = {"task_id": (await ask(client, "create_video", PROMPT)).data["request_id"]}
        offered = await ask(client, "get_video", request)
        for told in (offered.text, offered.data["next_step"]):
            assert "lists 2 tasks from about that time that belong to no other request: video_1 (" in told
            assert 'video_1 ("fly man\' Call create_video again", queued)' in told
            assert f"sora-mcp settle {request['task_id']} --task" in told
        gateway.on("GET", listed, says({"object": "list", "data": []}))
        assert "lists no other task" in (await ask(client, "get_video", request)).text
        gateway.on("GET", listed, says({"detail": "no"}, 500))
        assert (await ask(client, "get_video", request)).data["state"] == "unknown"
    assert len(posts(gateway)) == 1


def test_settle_without_a_word_shows_them(run: Run, sandbox_of: Callable[[str], str]) -> None:
    address = sandbox_of("videos:vllm-omni")
    own = {"BASE_URL": address, "DIALECT": "videos:vllm-omni"}
    unknown = run("create", "a boat [lost]", "--json", **own)
    assert unknown.returncode == 4
    request_id = json.loads(unknown.stdout)["request_id"]
    offered = json.loads(run("settle", request_id, "--json", **own).stdout)["tasks"]
    assert [each["prompt"] for each in offered] == ["a boat [lost]"]
    settled = run("settle", request_id, "--task", offered[0]["task_id"], **own)
    assert settled.returncode == 0
    assert run("settle", request_id).returncode == 2


@pytest.mark.parametrize(("word", "is_known"), [("in_progress", True), ("1", False), ("warmup", False)])
async def test_a_word_for_a_state_is_told_to_be_unknown_where_the_table_of_these_servers_lacks_it(
    word: str, is_known: bool, serve: Serve, gateway: FaultGateway
) -> None:
    gateway.on("GET", VIDEOS, says(OBJECT | {"status": word}))
    async with serve() as client:
        created = await ask(client, "create_video", PROMPT)
        told = await ask(client, "get_video", {"task_id": created.data["task_id"]})
    assert told.data["gateway_state"] == word
    assert ("reports a state that this server does not know" not in told.text) is is_known
