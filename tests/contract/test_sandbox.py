"""The sandbox gateway through its own HTTP surface."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from documented import PAGE_BODY
from PIL import Image

from sora_mcp import media
from sora_mcp.core.errors import NotConfigured
from sora_mcp.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

KEY = {"Authorization": "Bearer sk-one"}
SMALL = PAGE_BODY | {"width": 480}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_736_867_805.0

    def __call__(self) -> float:
        return self.now


class Caller:
    """A client of one sandbox, and the sandbox's clock."""

    def __init__(self, home: Path, clock: Clock) -> None:
        self.clock = clock
        self.home = home
        self.sandbox = Sandbox(home, seconds=10, clock=clock)
        self.http = httpx.AsyncClient(transport=self.sandbox.transport(), base_url="http://sandbox", headers=KEY)

    async def create(self, **changes: Any) -> httpx.Response:
        return await self.http.post("/sora/v1/videos", json=SMALL | changes)

    async def query(self, task_id: str) -> dict[str, Any]:
        reply = await self.http.get(f"/sora/v1/videos/{task_id}")
        assert reply.status_code == 200
        return dict(reply.json()["data"])

    async def finished(self, **changes: Any) -> dict[str, Any]:
        """A task after its time is over and everything is rendered."""
        created = await self.create(**changes)
        assert created.status_code == 200, created.text
        self.clock.now += 101
        await anyio.to_thread.run_sync(self.sandbox.store.drain)
        return await self.query(created.json()["data"])


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    return Caller(tmp_path / "sandbox", Clock())


@pytest.fixture
def another_caller(tmp_path: Path) -> Callable[[Clock], Caller]:
    return lambda clock: Caller(tmp_path / "sandbox", clock)


async def test_the_documented_body_is_accepted_in_the_documented_envelope(caller: Caller) -> None:
    reply = await caller.http.post("/sora/v1/videos", json=PAGE_BODY)
    assert set(reply.json()) == {"code", "message", "data"}
    assert (reply.json()["code"], reply.json()["message"]) == ("success", "")
    assert re.fullmatch(r"task_[0-9a-hjkmnp-tv-z]{26}", reply.json()["data"])
    assert "not live-verified" in reply.headers["x-sora-sandbox"]
    caller.clock.now += 11
    await anyio.to_thread.run_sync(caller.sandbox.store.drain)
    task = await caller.query(reply.json()["data"])
    assert task["status"] == "SUCCESS"
    source = task["data"]["generations"][0]
    about = media.probe(Path(httpx.URL(source["url"]).path))
    assert (about.codec, about.width, about.height, about.n_frames) == ("h264", 854, 480, 150)
    assert source["encodings"]["source"]["duration_secs"] == 5


async def test_a_task_moves_through_its_states_and_looks_as_documented(caller: Caller) -> None:
    task_id = (await caller.create(n_frames=150)).json()["data"]
    seen = []
    for _ in range(10):
        task = await caller.query(task_id)
        seen.append((task["status"], task["progress"]))
        caller.clock.now += 1
    assert seen[0] == ("NOT_START", "0%")
    assert seen[5] == ("IN_PROGRESS", "50%")
    documented = {
        *("task_id", "notify_hook", "action", "status", "fail_reason", "submit_time"),
        *("start_time", "finish_time", "progress", "data"),
    }
    assert set(task) == documented
    assert task["submit_time"] == 1_736_867_805
    assert list(task["data"]["actions"]) == ["0"]


async def test_a_storyboard_keeps_its_beats_by_frame(caller: Caller) -> None:
    beats = [{"time": 0, "description": "a door"}, {"time": 75, "description": "it opens"}]
    task = await caller.finished(operation="storyboard", actions=beats)
    assert task["data"]["actions"] == {"0": "a door", "75": "it opens"}


async def test_every_variant_is_a_generation_of_its_own(caller: Caller) -> None:
    task = await caller.finished(n_variants=2)
    ids = [generation["id"] for generation in task["data"]["generations"]]
    assert len(set(ids)) == 2
    assert all(each.startswith("gen_") for each in ids)


@pytest.mark.parametrize("place", ["nested", "top"])
async def test_a_remix_takes_its_source_inside_sdedit_or_beside_it(caller: Caller, place: str) -> None:
    source = (await caller.finished())["data"]["generations"][0]["id"]
    named = {"source_generation_id": source}
    body = {"sdedit": {"amount": 6, **named}} if place == "nested" else {"sdedit": {"amount": 6}, **named}
    task = await caller.finished(operation="remix", prompt="at night", **body)
    assert task["status"] == "SUCCESS"
    assert task["data"]["sdedit"] == {"amount": 6, "source_generation_id": source}


async def test_an_uploaded_image_can_be_named_by_its_address_or_its_id(caller: Caller, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (200, 30, 30)).save(tmp_path / "red.png")
    content = (tmp_path / "red.png").read_bytes()
    upload = (await caller.http.post("/v1/files", files={"file": ("red.png", content)})).json()
    assert set(upload) == {"id", "object", "bytes", "created_at", "filename", "url"}
    assert (upload["object"], upload["bytes"], upload["filename"]) == ("file", len(content), "red.png")
    assert (await caller.http.get(upload["url"])).content == content
    for item in ({"url": upload["url"]}, {"upload_media_id": upload["id"]}):
        assert (await caller.finished(prompt="a ball", inpaint_items=[item]))["status"] == "SUCCESS"


async def test_what_one_process_began_another_finishes(
    caller: Caller, another_caller: Callable[[Clock], Caller]
) -> None:
    task_id = (await caller.create()).json()["data"]
    await anyio.to_thread.run_sync(caller.sandbox.store.drain)
    for video in (caller.sandbox.store.media).glob("*.mp4"):
        video.unlink()
    other = another_caller(caller.clock)
    assert (await other.query(task_id))["status"] == "NOT_START"
    other.clock.now += 11
    assert (await other.query(task_id))["status"] == "SUCCESS"


async def test_a_task_is_visible_only_to_the_key_that_made_it(caller: Caller) -> None:
    task = await caller.finished()
    other = {"Authorization": "Bearer sk-two"}
    reply = await caller.http.get(f"/sora/v1/videos/{task['task_id']}", headers=other)
    assert (reply.status_code, reply.json()["code"]) == (400, "task_not_exist")
    source = {"sdedit": {"source_generation_id": task["data"]["generations"][0]["id"]}}
    body = SMALL | {"operation": "remix"} | source
    assert (await caller.http.post("/sora/v1/videos", json=body, headers=other)).status_code == 400


@pytest.mark.parametrize("key", [None, "Bearer sk-invalid", "Bearer other", "Basic sk-one"])
async def test_a_wrong_key_is_refused_in_the_shape_of_an_authentication_error(caller: Caller, key: str | None) -> None:
    headers = {"Authorization": key} if key else {"Authorization": ""}
    reply = await caller.http.post("/sora/v1/videos", json=PAGE_BODY, headers=headers)
    assert reply.status_code == 401
    assert reply.json()["error"]["type"] == "new_api_error"
    assert caller.sandbox.store.accepted == 0


@pytest.mark.parametrize(
    ("prompt", "status", "code"),
    [("[quota] x", 403, "quota_not_enough"), ("[lost] x", 500, "insert_task_failed"), ("[busy] x", 429, None)],
)
async def test_trouble_at_once_can_be_asked_for(caller: Caller, prompt: str, status: int, code: str | None) -> None:
    reply = await caller.create(prompt=prompt)
    assert (reply.status_code, reply.json().get("code")) == (status, code)
    assert caller.sandbox.store.accepted == (1 if prompt.startswith("[lost]") else 0)


async def test_trouble_later_can_be_asked_for(caller: Caller) -> None:
    failed = await caller.finished(prompt="[fail] x")
    assert (failed["status"], failed["progress"]) == ("FAILURE", "100%")
    assert failed["fail_reason"]
    blocked = await caller.finished(prompt="[blocked] x")
    assert (blocked["status"], blocked["data"]["generations"]) == ("SUCCESS", [])
    assert blocked["data"]["num_unsafe_generations"] == 1
    slow = (await caller.create(prompt="[slow] x")).json()["data"]
    caller.clock.now += 50
    assert (await caller.query(slow))["progress"] == "50%"


@pytest.mark.parametrize(
    "change",
    [
        {"width": 481},
        {"width": "480"},
        {"n_frames": 151},
        {"n_frames": 150.5},
        {"n_variants": 0},
        {"style": "vivid"},
        {"operation": "extend"},
        {"model": None},
        {"promt": "x"},
        {"prompt": ""},
        {"inpaint_items": [{"url": ""}]},
        {"inpaint_items": [{}]},
        {"inpaint_items": [{"generation_id": "gen_unknown"}]},
        {"inpaint_items": [{"upload_media_id": "media_unknown"}]},
        {"inpaint_items": [{"upload_media_id": "media_*"}]},
        {"inpaint_items": [{"generation_id": "g" * 5000}]},
        {"operation": "remix", "sdedit": "x", "source_generation_id": "gen_x"},
        {"operation": "storyboard"},
        {"operation": "remix", "sdedit": {"source_generation_id": "gen_unknown"}},
        {"operation": "remix", "sdedit": {"amount": 9, "source_generation_id": "gen_x"}},
        {"operation": "blend"},
    ],
    ids=lambda change: str(change)[:80],
)
async def test_what_is_not_the_documented_body_is_refused_and_makes_no_task(
    caller: Caller, change: dict[str, Any]
) -> None:
    reply = await caller.create(**change)
    assert (reply.status_code, reply.json()["code"]) == (400, "invalid_request")
    assert len(reply.json()["message"]) <= 500
    assert (caller.sandbox.store.creates, caller.sandbox.store.accepted) == (1, 0)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000])
async def test_what_is_not_a_json_object_is_refused(caller: Caller, content: bytes) -> None:
    assert (await caller.http.post("/sora/v1/videos", content=content)).status_code == 400


async def test_a_body_too_large_is_refused(caller: Caller) -> None:
    assert (await caller.http.post("/sora/v1/videos", content=b"x" * 10_000_001)).status_code == 413


@pytest.mark.parametrize(
    "path", ["/nowhere", "/media/..%2F..%2Fledger", "/media/gen_x.mp4", f"/media/{'x' * 5000}", "/files/..%2Fx"]
)
async def test_no_path_leads_out_of_the_sandbox(caller: Caller, path: str) -> None:
    reply = await caller.http.get(path)
    assert reply.status_code == 404
    assert reply.json()["error"]["type"] == "new_api_error"


async def test_a_wrong_method_is_refused_with_the_right_one(caller: Caller) -> None:
    reply = await caller.http.get("/sora/v1/videos")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")
    assert reply.json()["error"]["type"] == "new_api_error"


async def test_an_upload_can_be_used_only_with_the_key_that_made_it(caller: Caller) -> None:
    upload = (await caller.http.post("/v1/files", files={"file": ("x.png", b"\x89PNG")})).json()
    body = SMALL | {"inpaint_items": [{"upload_media_id": upload["id"]}]}
    other = {"Authorization": "Bearer sk-two"}
    assert (await caller.http.post("/sora/v1/videos", json=body, headers=other)).status_code == 400
    assert (await caller.http.post("/sora/v1/videos", json=body)).status_code == 200


async def test_an_upload_too_large_is_refused(caller: Caller) -> None:
    content = b"\x89PNG" + bytes(25_000_000)
    assert (await caller.http.post("/v1/files", files={"file": ("x.png", content)})).status_code == 413


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"id": "task_x", "new": 1}'])
async def test_a_damaged_record_hides_its_own_task_only(caller: Caller, content: bytes) -> None:
    source = (await caller.finished())["data"]["generations"][0]["id"]
    damaged = (await caller.create()).json()["data"]
    (caller.home / "tasks" / f"{damaged}.json").write_bytes(content)
    assert (await caller.http.get(f"/sora/v1/videos/{damaged}")).json()["code"] == "task_not_exist"
    assert (await caller.create(operation="remix", sdedit={"source_generation_id": source})).status_code == 200


async def test_a_video_that_was_thrown_away_is_drawn_again(caller: Caller) -> None:
    task = await caller.finished()
    caller.sandbox.store.video(task["data"]["generations"][0]["id"]).unlink()
    await caller.query(task["task_id"])  # it is drawn once somebody asks, and that may take longer than an answer
    await anyio.to_thread.run_sync(caller.sandbox.store.drain)
    assert (await caller.query(task["task_id"]))["status"] == "SUCCESS"


async def test_a_source_that_is_shorter_than_asked_for_stands_still(caller: Caller) -> None:
    source = (await caller.finished())["data"]["generations"][0]["id"]
    late = {"generation_id": source, "source_start_frame": 500}
    items = [late, {"generation_id": source, "source_end_frame": 3}]
    assert (await caller.finished(operation="blend", inpaint_items=items))["status"] == "SUCCESS"
    assert (await caller.finished(inpaint_items=[late]))["status"] == "SUCCESS"


async def test_what_cannot_be_drawn_fails_in_a_sentence(caller: Caller) -> None:
    upload = (await caller.http.post("/v1/files", files={"file": ("x.png", b"\x89PNG")})).json()
    task = await caller.finished(inpaint_items=[{"upload_media_id": upload["id"]}])
    assert (task["status"], task["fail_reason"]) == ("FAILURE", "the sandbox could not render it; see its log")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pipe that has a name")
async def test_a_failure_that_cannot_be_recorded_does_not_end_the_rendering(caller: Caller, tmp_path: Path) -> None:
    upload = (await caller.http.post("/v1/files", files={"file": ("x.png", b"\x89PNG")})).json()
    (picture,), tasks = caller.sandbox.store.uploads.iterdir(), caller.home / "tasks"
    picture.unlink()
    os.mkfifo(picture)
    begun = (await caller.create(inpaint_items=[{"upload_media_id": upload["id"]}])).json()["data"]
    with picture.open("wb"):  # opens when the rendering reads it, and makes that fail when it is closed
        tasks.rename(tmp_path / "away")
        tasks.touch()
    await anyio.to_thread.run_sync(caller.sandbox.store.drain)
    tasks.unlink()
    (tmp_path / "away").rename(tasks)
    picture.unlink()
    Image.new("RGB", (64, 64), (200, 30, 30)).save(picture)
    caller.clock.now += 101
    await caller.query(begun)
    await anyio.to_thread.run_sync(caller.sandbox.store.drain)
    assert (await caller.query(begun))["status"] == "SUCCESS"


async def test_a_disk_that_refuses_is_answered_as_a_gateway_would(caller: Caller) -> None:
    caller.home.mkdir()
    (caller.home / "tasks").write_bytes(b"no folder")
    reply = await caller.create()
    assert (reply.status_code, reply.json()["error"]["type"]) == (500, "new_api_error")
    assert "x-sora-sandbox" in reply.headers


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
async def test_nobody_else_on_the_machine_can_look_in(caller: Caller) -> None:
    await caller.finished()
    assert {path.stat().st_mode & 0o777 for path in (caller.home, *caller.home.iterdir())} == {0o700}


async def test_the_models_call_checks_a_key(caller: Caller) -> None:
    assert (await caller.http.get("/v1/models")).json()["object"] == "list"


async def test_the_served_sandbox_gives_addresses_of_its_own_and_streams_videos(tmp_path: Path) -> None:
    environment = {**os.environ, "SORA_HOME": str(tmp_path), "SORA_SANDBOX_SECONDS": "0"}
    process = await anyio.open_process(
        [sys.executable, "-m", "sora_mcp", "sandbox", "--port", "0"], env=environment, stdout=subprocess.DEVNULL
    )
    async with process:
        try:
            assert process.stderr is not None
            with anyio.fail_after(60):
                base_url = (await process.stderr.receive()).decode().split()[-1]
                await _make_and_fetch(base_url)
        finally:
            process.terminate()


async def _make_and_fetch(base_url: str) -> None:
    async with httpx.AsyncClient(base_url=base_url, headers=KEY) as http:
        task_id = (await http.post("/sora/v1/videos", json=SMALL)).json()["data"]
        task: dict[str, Any] = {"status": ""}
        while task["status"] != "SUCCESS":
            task = (await http.get(f"/sora/v1/videos/{task_id}")).json()["data"]
        url = task["data"]["generations"][0]["url"]
        assert url.startswith(base_url)
        whole = (await http.get(url)).content
        part = await http.get(url, headers={"Range": "bytes=4-7"})
        assert (part.status_code, part.content) == (206, b"ftyp")
        assert whole[4:8] == b"ftyp"


async def test_without_the_extra_the_sandbox_says_what_to_install(tmp_path: Path) -> None:
    script = (
        "import sys\nsys.modules['av'] = None\nfrom pathlib import Path\nfrom sora_mcp.sandbox import Sandbox\n"
        f"Sandbox(Path({str(tmp_path)!r}))"
    )
    done = await anyio.run_process([sys.executable, "-c", script], check=False)
    assert NotConfigured.__name__.encode() in done.stderr
    assert b"the extra `media`" in done.stderr
