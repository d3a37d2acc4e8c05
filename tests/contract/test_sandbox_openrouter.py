"""The sandbox as OpenRouter's `/api/v1/videos`: a model takes what it lists, and the rest is refused as documented."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import anyio
import av
import httpx
import pytest
from PIL import Image

from sora_mcp import media
from sora_mcp.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

VIDEOS = "/api/v1/videos"
AURORA = {"model": "sandbox/aurora-2", "prompt": "fly man", "size": "480x480", "duration": 4}
BROOK = {"model": "sandbox/brook-mini", "prompt": "fly man", "resolution": "480p", "aspect_ratio": "4:3"}
CINDER = {"model": "sandbox/cinder", "prompt": "fly man", "size": "1280x720", "duration": 5}
KEY = {"authorization": "Bearer sk-one"}


def frame(url: str, frame_type: str = "first_frame") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}, "frame_type": frame_type}


def data_url(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


class Router:
    """A client of this face of the sandbox, and its clock."""

    def __init__(self, home: Path, *, served: bool = False) -> None:
        self.now = 1_795_000_000.0
        self.sandbox = Sandbox(home, seconds=10, clock=lambda: self.now, dialect="openrouter")
        transport = httpx.ASGITransport(self.sandbox.app) if served else self.sandbox.transport()
        self.http = httpx.AsyncClient(transport=transport, base_url="http://sandbox", headers=KEY)

    async def create(self, body: dict[str, Any]) -> dict[str, Any]:
        made = await self.http.post(VIDEOS, json=body)
        assert made.status_code == 202, made.text
        return dict(made.json())

    async def finish(self) -> None:
        self.now += 101
        await anyio.to_thread.run_sync(self.sandbox.store.drain)

    async def made(self, body: dict[str, Any]) -> dict[str, Any]:
        """A job after its time is over."""
        job = await self.create(body)
        await self.finish()
        return dict((await self.http.get(f"{VIDEOS}/{job['id']}")).json())

    async def saved(self, job: dict[str, Any], path: Path) -> Path:
        content = await self.http.get(f"{VIDEOS}/{job['id']}/content?index=0")
        assert content.headers["content-type"] == "video/mp4"
        await anyio.Path(path).write_bytes(content.content)
        return path


@pytest.fixture
def router(tmp_path: Path) -> Router:
    return Router(tmp_path / "sandbox")


@pytest.fixture
def served(tmp_path: Path) -> Router:
    return Router(tmp_path / "sandbox", served=True)


def colours(video: Path) -> list[tuple[int, ...]]:
    """Red, green and blue in the upper middle of the first frame, the one halfway, and the last."""
    with av.open(str(video)) as container:
        frames = [frame.to_image() for frame in container.decode(video=0)]  # type: ignore[no-untyped-call]
    shown = (frames[0], frames[len(frames) // 2], frames[-1])
    return [frame.getpixel((frame.width // 2, frame.height // 4)) for frame in shown]


async def test_a_job_from_its_202_to_its_file(router: Router, tmp_path: Path) -> None:
    job = await router.create(AURORA)
    assert set(job) == {"id", "polling_url", "status"}
    assert re.fullmatch(r"gen-vid-1795000000-[A-Za-z0-9]{20}", job["id"])
    assert (job["status"], job["polling_url"]) == ("pending", f"{VIDEOS}/{job['id']}")
    early = await router.http.get(f"{VIDEOS}/{job['id']}/content")
    assert (early.status_code, early.json()["error"]["code"]) == (409, 409)
    router.now += 5
    assert (await router.http.get(job["polling_url"])).json()["status"] == "in_progress"
    await router.finish()
    done = (await router.http.get(job["polling_url"])).json()
    assert (done["status"], done["usage"]) == ("completed", {"cost": 0.16, "is_byok": False})
    about = media.probe(await router.saved(job, tmp_path / "a.mp4"))
    assert (about.width, about.height, about.n_frames, about.fps) == (480, 480, 96, 24)
    assert (await router.http.get(f"{VIDEOS}/{job['id']}/content?index=1")).status_code == 404


async def test_the_stored_copy_needs_its_signature_and_the_other_address_the_key(served: Router) -> None:
    job = await served.made(AURORA)
    anyone = httpx.AsyncClient(transport=httpx.ASGITransport(served.sandbox.app))
    (signed,), (unsigned,) = job["urls"], job["unsigned_urls"]
    assert job["expires_at"] > served.now
    assert (await anyone.get(signed)).content[4:8] == b"ftyp"
    assert (await anyone.get(signed.replace("signature=", "signature=0"))).status_code == 403
    assert (await anyone.get(signed.partition("?")[0])).status_code == 403
    assert (await anyone.get(unsigned)).status_code == 401
    assert (await anyone.get(unsigned, headers=KEY)).content[4:8] == b"ftyp"
    assert (await anyone.get(unsigned, headers={"authorization": "Bearer sk-other"})).status_code == 404


async def test_an_output_is_gone_after_a_day(served: Router) -> None:
    job = await served.made(AURORA)
    served.now = job["expires_at"]
    for address in (*job["urls"], *job["unsigned_urls"]):
        assert (await served.http.get(address)).status_code == 410
    later = (await served.http.get(job["polling_url"])).json()
    assert (later["status"], later["usage"]["cost"]) == ("completed", 0.16)
    assert not {"urls", "expires_at"} & set(later)


async def test_in_process_a_person_can_open_the_stored_copy(router: Router) -> None:
    job = await router.made(AURORA)
    assert await anyio.Path(httpx.URL(job["urls"][0]).path).is_file()
    assert job["urls"][0].startswith("file://")


async def test_the_models_differ_and_are_listed_without_a_key(router: Router) -> None:
    listed = (await router.http.get(f"{VIDEOS}/models", headers={"authorization": ""})).json()["data"]
    by_id = {model["id"]: model for model in listed}
    assert set(by_id) == {AURORA["model"], BROOK["model"], CINDER["model"]}
    for name in ("supported_sizes", "supported_durations", "supported_frame_images", "pricing_skus", "generate_audio"):
        assert len({str(model[name]) for model in listed}) == 3, name


@pytest.mark.parametrize(
    ("body", "shape", "cost"),
    [
        (AURORA | {"duration": 12, "generate_audio": False}, (480, 480, 288), 0.24),
        (
            {"model": "sandbox/aurora-2", "prompt": "fly", "resolution": "480p", "aspect_ratio": "9:16"},
            (480, 854, 120),
            0.2,
        ),
        (BROOK | {"aspect_ratio": "21:9", "duration": 6}, (1120, 480, 144), 0.18),
        ({"model": "sandbox/brook-mini", "prompt": "fly man"}, (854, 480, 96), 0.12),
        (CINDER, (1280, 720, 120), 0.35),
    ],
)
async def test_what_a_model_takes_is_made_so(
    body: dict[str, Any], shape: tuple[int, int, int], cost: float, router: Router, tmp_path: Path
) -> None:
    job = await router.made(body)
    about = media.probe(await router.saved(job, tmp_path / "a.mp4"))
    assert (about.width, about.height, about.n_frames) == shape
    assert job["usage"]["cost"] == pytest.approx(cost)


PNG = "data:image/png;base64,iVBORw0KGgo="


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({"prompt": "fly"}, "model"),
        (AURORA | {"model": "sandbox/aurora-3"}, "sandbox/aurora-3"),
        (AURORA | {"prompt": " "}, "prompt"),
        ({"model": "sandbox/cinder", "input_references": [{"type": "image_url", "image_url": {"url": PNG}}]}, "prompt"),
        (AURORA | {"duration": 13}, "duration"),
        (AURORA | {"duration": "4"}, "duration"),
        (AURORA | {"duration": 4.5}, "duration"),
        (AURORA | {"size": "1920x1080"}, "size"),
        (AURORA | {"resolution": "480p"}, "size"),
        (BROOK | {"resolution": "1080p"}, "resolution"),
        (BROOK | {"aspect_ratio": "1:1"}, "aspect_ratio"),
        ({"model": "sandbox/brook-mini", "prompt": "fly", "size": "854x480"}, "size"),
        (BROOK | {"generate_audio": True}, "generate_audio"),
        (BROOK | {"seed": 1}, "seed"),
        (BROOK | {"previous_job_id": "gen-vid-1-a"}, "previous_job_id"),
        (BROOK | {"frame_images": [frame(PNG, "last_frame")]}, "frame_type"),
        (CINDER | {"frame_images": [frame(PNG)]}, "frame_type"),
        (AURORA | {"frame_images": [frame(PNG), frame(PNG)]}, "frame_images"),
        (AURORA | {"frame_images": [frame("ftp://example.com/a.png")]}, "url"),
        (AURORA | {"frame_images": [frame("data:image/png;base64,AAAA")]}, "image_url"),
        (AURORA | {"frame_images": [frame("data:image/gif;base64,AAAA")]}, "image_url"),
        (AURORA | {"input_references": [{"type": "text", "text": "x"}]}, "input_references"),
        (AURORA | {"previous_job_id": "gen-vid-1-a"}, "previous_job_id"),
        (AURORA | {"callback_url": "http://example.com"}, "callback_url"),
        (AURORA | {"session_id": "x" * 257}, "session_id"),
        (AURORA | {"creativity": 1}, "creativity"),
        (AURORA | {"n_frames": 150}, "n_frames"),
    ],
)
async def test_what_is_not_documented_or_not_listed_is_a_400(body: dict[str, Any], named: str, router: Router) -> None:
    refused = await router.http.post(VIDEOS, json=body)
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, 400)
    assert named in error["message"]
    assert router.sandbox.store.accepted == 0


async def test_everything_documented_is_accepted_at_once(router: Router) -> None:
    everything = {"user": "u", "session_id": "s", "trace": {"trace_id": "t"}, "provider": {"options": {}}, "seed": 7}
    await router.create(AURORA | everything | {"callback_url": "https://example.com/hook", "generate_audio": True})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'"x"', b"[" * 100_000])
async def test_a_body_that_is_no_object_is_a_400(content: bytes, router: Router) -> None:
    refused = await router.http.post(VIDEOS, content=content)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, 400)


@pytest.mark.parametrize(
    ("trouble", "status", "accepted"),
    [("quota", 402, 0), ("blocked", 403, 0), ("busy", 429, 0), ("lost", 500, 1)],
)
async def test_a_prompt_can_ask_for_trouble(trouble: str, status: int, accepted: int, router: Router) -> None:
    refused = await router.http.post(VIDEOS, json=AURORA | {"prompt": f"fly [{trouble}]"})
    error = refused.json()["error"]
    assert (refused.status_code, error["code"], router.sandbox.store.accepted) == (status, status, accepted)
    assert ("metadata" in error) is (trouble == "blocked")
    if trouble == "blocked":
        assert error["metadata"]["reasons"]
        assert error["metadata"]["model_slug"] == AURORA["model"]
    assert ("retry-after" in refused.headers) is (trouble == "busy")


async def test_a_job_can_fail_and_costs_nothing_then(router: Router) -> None:
    job = await router.made(AURORA | {"prompt": "fly [fail]"})
    assert (job["status"], job["error"]) == ("failed", "failed, as asked")
    assert not {"usage", "urls", "unsigned_urls"} & set(job)
    assert (await router.http.get(f"{VIDEOS}/{job['id']}/content")).status_code == 404


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer nonsense", "Bearer sk-invalid", "Basic sk-one"])
async def test_a_key_that_is_none_is_a_401(key: str, router: Router) -> None:
    for method, path in (("POST", VIDEOS), ("GET", f"{VIDEOS}/gen-vid-1-a"), ("GET", f"{VIDEOS}/gen-vid-1-a/content")):
        refused = await router.http.request(method, path, headers={"authorization": key}, json=AURORA)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, 401)


async def test_what_is_not_there_is_a_404_and_too_much_a_413(router: Router) -> None:
    for path in (f"{VIDEOS}/gen-vid-1-a", f"{VIDEOS}/gen-vid-1-a/content", f"{VIDEOS}/..%2F..%2Fx", "/api/v1/nothing"):
        refused = await router.http.get(path)
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, 404)
    huge = await router.http.post(VIDEOS, json=AURORA | {"prompt": "x" * 32_000_001})
    assert (huge.status_code, huge.json()["error"]["code"]) == (413, 413)


async def test_first_and_last_frame_stand_at_the_ends_and_one_becomes_the_other(router: Router, tmp_path: Path) -> None:
    for name in ("red", "blue"):
        Image.new("RGB", (48, 48), name).save(tmp_path / f"{name}.png")
    ends = [frame(data_url(tmp_path / "red.png")), frame(data_url(tmp_path / "blue.png"), "last_frame")]
    job = await router.made({name: AURORA[name] for name in ("model", "size", "duration")} | {"frame_images": ends})
    red, between, blue = colours(await router.saved(job, tmp_path / "a.mp4"))
    assert red[0] > 3 * red[2]
    assert blue[2] > 3 * blue[0]
    assert min(between[0], between[2]) > 60


async def test_a_model_that_continues_makes_a_video_from_the_one_before(router: Router, tmp_path: Path) -> None:
    Image.new("RGB", (48, 48), "red").save(tmp_path / "red.png")
    first = await router.made(AURORA | {"frame_images": [frame(data_url(tmp_path / "red.png"))]})
    second = await router.made({"model": AURORA["model"], "prompt": "at night", "previous_job_id": first["id"]})
    path = await router.saved(second, tmp_path / "b.mp4")
    shown, _, _ = colours(path)
    about = media.probe(path)
    assert (about.width, about.height, about.n_frames, second["usage"]["cost"]) == (480, 480, 96, 0.16)
    assert shown[0] > 1.3 * max(shown[1:])


async def test_a_reference_video_of_ours_is_what_the_new_one_is_made_from(served: Router, tmp_path: Path) -> None:
    Image.new("RGB", (48, 48), "red").save(tmp_path / "red.png")
    shape = {"size": "854x480", "duration": 5}  # the other model makes this size, and not this length
    first = await served.made(AURORA | shape | {"frame_images": [frame(data_url(tmp_path / "red.png"))]})
    reference = {"type": "video_url", "video_url": {"url": first["urls"][0]}}
    second = await served.made({"model": BROOK["model"], "prompt": "at night", "input_references": [reference]})
    path = await served.saved(second, tmp_path / "b.mp4")
    shown, _, _ = colours(path)
    about = media.probe(path)
    assert (about.width, about.height, about.n_frames) == (854, 480, 96)
    assert shown[0] > 1.3 * max(shown[1:])
    ignoring = served.sandbox.store.task((await served.create(CINDER | {"input_references": [reference]}))["id"])
    assert ignoring is not None
    assert ignoring.body["operation"] == "simple_compose"


async def test_a_stored_copy_in_a_file_is_a_reference_in_process_only(router: Router, served: Router) -> None:
    first = await router.made(AURORA)
    reference = {"type": "video_url", "video_url": {"url": first["urls"][0]}}
    job = router.sandbox.store.task((await router.create(BROOK | {"input_references": [reference]}))["id"])
    assert job is not None
    assert job.body["operation"] == "remix"
    refused = await served.http.post(VIDEOS, json=BROOK | {"input_references": [reference]})
    assert refused.status_code == 400


async def test_shots_in_the_prompt_are_captions_and_other_hosts_are_named_on_a_card(router: Router) -> None:
    shots = "Shot 1 (0.0-2.0 s): Snow falls\nShot 2 (2.0-4.0 s): A fox"
    made = await router.create(AURORA | {"prompt": shots, "frame_images": [frame("https://example.com/a.png")]})
    job = router.sandbox.store.task(made["id"])
    assert job is not None
    assert [action["time"] for action in job.body["actions"]] == [0, 48]
    assert job.body["inpaint_items"][0]["url"] == "https://example.com/a.png"


async def test_in_process_a_job_is_told_whatever_the_sandbox_speaks_now(router: Router, tmp_path: Path) -> None:
    job = await router.made(AURORA)
    later = Sandbox(tmp_path / "sandbox", clock=lambda: router.now, dialect="sora").transport()
    async with httpx.AsyncClient(transport=later, base_url="http://sandbox", headers=KEY) as http:
        assert (await http.get(f"{VIDEOS}/{job['id']}")).json()["status"] == "completed"
        assert (await http.get(f"{VIDEOS}/{job['id']}/content")).content[4:8] == b"ftyp"
