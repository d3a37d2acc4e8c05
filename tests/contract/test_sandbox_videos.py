"""The sandbox as a server that speaks `/v1/videos`: each kind takes what it documents, and refuses the rest."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from PIL import Image

from sora_mcp import media
from sora_mcp.config.endpoint import PROFILES
from sora_mcp.dialects.recognition import PROBE_CALLS, recognize
from sora_mcp.dialects.replies import Reply
from sora_mcp.media.frames import read_frame
from sora_mcp.sandbox import Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SMALL = {"prompt": "fly man", "size": "64x64"}
FRAMES = SMALL | {"num_frames": "17", "fps": "16"}


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_795_000_000.0

    def __call__(self) -> float:
        return self.now


class Server:
    """A client of one face of the sandbox."""

    def __init__(self, home: Path, profile: str, model: str | None = None) -> None:
        self.clock = Clock()
        self.sandbox = Sandbox(home, seconds=10, clock=self.clock, dialect=f"videos:{profile}", model=model)
        self.http = httpx.AsyncClient(transport=self.sandbox.transport(), base_url="http://sandbox")

    async def post(self, fields: dict[str, str], **files: bytes) -> httpx.Response:
        parts: dict[str, Any] = {name: (None, text) for name, text in fields.items()}
        parts |= {name: ("a.png", content, "image/png") for name, content in files.items()}
        return await self.http.post("/v1/videos", files=parts)

    async def finish(self) -> None:
        self.clock.now += 101
        await anyio.to_thread.run_sync(self.sandbox.store.drain)


@pytest.fixture
def server(tmp_path: Path) -> Callable[..., Server]:
    return lambda profile, model=None: Server(tmp_path / "sandbox", profile, model)


async def test_a_job_of_vllm_omni_from_its_form_to_its_file(server: Callable[..., Server], tmp_path: Path) -> None:
    omni = server("vllm-omni")
    made = await omni.post(FRAMES | {"hello": "ignored"})
    job = made.json()
    assert (made.status_code, job["object"], job["status"]) == (200, "video", "queued")
    assert job["id"].startswith("video_gen_")
    path = f"/v1/videos/{job['id']}"
    assert (await omni.http.get(f"{path}/content")).status_code == 404
    await omni.finish()
    assert (await omni.http.get(path)).json()["status"] == "completed"
    (tmp_path / "a.mp4").write_bytes((await omni.http.get(f"{path}/content")).content)
    about = media.probe(tmp_path / "a.mp4")
    assert (about.width, about.height, about.n_frames, about.fps) == (64, 64, 17, 16)
    assert [each["id"] for each in (await omni.http.get("/v1/videos")).json()["data"]] == [job["id"]]
    assert (await omni.http.delete(path)).json() == {"id": job["id"], "object": "video.deleted", "deleted": True}
    gone = await omni.http.get(path)
    assert (gone.status_code, gone.json()) == (404, {"detail": "Video not found"})


async def test_a_failed_job_of_vllm_omni_answers_500_with_its_object(server: Callable[..., Server]) -> None:
    omni = server("vllm-omni")
    job = (await omni.post(FRAMES | {"prompt": "[fail]"})).json()
    await omni.finish()
    failed = await omni.http.get(f"/v1/videos/{job['id']}")
    assert (failed.status_code, failed.json()["object"], failed.json()["status"]) == (500, "video", "failed")
    assert (await omni.http.get(f"/v1/videos/{job['id']}/content")).status_code == 422


@pytest.mark.parametrize(
    ("profile", "fields", "status"),
    [
        ("vllm-omni", {"size": "64x64"}, 422),
        ("vllm-omni", FRAMES | {"size": "large"}, 422),
        ("vllm-omni", FRAMES | {"seconds": "0"}, 422),
        ("vllm-omni", FRAMES | {"num_frames": "many"}, 422),
        ("vllm-omni", FRAMES | {"size": "8000x8000"}, 422),
        ("vllm-omni", FRAMES | {"size": "1280x720", "num_frames": "9000"}, 422),
        ("generic", SMALL | {"model": "m", "seconds": "9999", "size": "1280x720"}, 400),
        ("vllm-omni", FRAMES | {"model": "another"}, 400),
        ("generic", SMALL, 400),
        ("generic", SMALL | {"model": "m", "num_frames": "17"}, 400),
        ("generic", SMALL | {"model": "m", "n": "1"}, 400),
        ("tensorrt-llm", FRAMES, 422),
        ("new-api", SMALL, 400),
    ],
)
async def test_what_a_server_does_not_take_is_refused_as_it_refuses(
    profile: str, fields: dict[str, str], status: int, server: Callable[..., Server]
) -> None:
    made = server(profile)
    refused = await made.post(fields)
    assert refused.status_code == status
    assert ("error" in refused.json()) is (profile in {"generic", "new-api"})
    assert made.sandbox.store.accepted == 0


async def test_vllm_omni_takes_a_form_and_no_json(server: Callable[..., Server]) -> None:
    refused = await server("vllm-omni").http.post("/v1/videos", json=FRAMES)
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["body", "prompt"]


async def test_what_the_others_take_is_accepted(server: Callable[..., Server]) -> None:
    assert (await server("generic").post(SMALL | {"model": "m", "seconds": "1"})).status_code == 200
    frames = SMALL | {"num_frames": "17", "frame_rate": "16"}
    assert (await server("tensorrt-llm").post(frames)).status_code == 202


async def test_the_documented_address_is_not_there(server: Callable[..., Server]) -> None:
    refused = await server("vllm-omni").http.post("/sora/v1/videos", json={})
    assert refused.status_code in {404, 405}
    assert "detail" in refused.json()


async def test_a_remix_of_new_api_is_made_from_its_source(server: Callable[..., Server]) -> None:
    api = server("new-api")
    source = (await api.post(SMALL | {"model": "m", "seconds": "1"})).json()["id"]
    await api.finish()
    made = await api.http.post(f"/v1/videos/{source}/remix", json={"prompt": "at night"})
    assert made.status_code == 200
    await api.finish()
    assert (await api.http.get(f"/v1/videos/{made.json()['id']}")).json()["status"] == "completed"


async def test_the_served_model_is_the_one_that_is_set(server: Callable[..., Server]) -> None:
    for profile, model, names in (("generic", None, []), ("generic", "m", ["m"]), ("vllm-omni", "m", ["m"])):
        listed = (await server(profile, model).http.get("/v1/models")).json()["data"]
        assert [each["id"] for each in listed] == names


def _picture(colour: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return buffer.getvalue()


def _address(picture: bytes) -> dict[str, str]:
    return {"image_url": f"data:image/png;base64,{base64.b64encode(picture).decode()}"}


async def _film(server: Server, tmp_path: Path, fields: dict[str, str], **files: bytes) -> list[tuple[int, int, int]]:
    """The middle of the first and of the last frame of what comes of a form."""
    made = await server.post(fields, **files)
    assert made.status_code == 200, made.text
    await server.finish()
    path = tmp_path / "film.mp4"
    path.write_bytes((await server.http.get(f"/v1/videos/{made.json()['id']}/content")).content)
    ends = [Image.open(io.BytesIO(read_frame(path, index, 1_000_000).picture)) for index in (0, None)]
    return [each.convert("RGB").getpixel((32, 10)) for each in ends]  # type: ignore[misc]


async def test_two_images_stand_at_both_ends_of_vllm_omnis_video(server: Callable[..., Server], tmp_path: Path) -> None:
    pair = json.dumps([_address(_picture("red")), _address(_picture("blue"))])
    first, last = await _film(server("vllm-omni"), tmp_path, FRAMES | {"image_reference": pair})
    assert first[0] > 150 > first[2]
    assert last[2] > 150 > last[0]


async def test_one_image_may_stand_at_the_end(server: Callable[..., Server], tmp_path: Path) -> None:
    at_the_end = FRAMES | {"extra_params": json.dumps({"frame_indices": [-1]})}
    _, last = await _film(server("vllm-omni"), tmp_path, at_the_end, input_reference=_picture("blue"))
    assert last[2] > 150 > last[0]


@pytest.mark.parametrize(("profile", "field"), [("vllm-omni", "input_reference"), ("sglang", "video_reference")])
async def test_a_video_that_is_sent_along_is_changed(
    profile: str, field: str, server: Callable[..., Server], tmp_path: Path
) -> None:
    pair = json.dumps([_address(_picture("red"))] * 2)
    await _film(server("vllm-omni"), tmp_path, FRAMES | {"image_reference": pair})
    source = (tmp_path / "film.mp4").read_bytes()
    first, _ = await _film(server(profile), tmp_path, FRAMES, **{field: source})
    assert first[0] > first[2]


ONE = json.dumps(_address(_picture("red")))


@pytest.mark.parametrize(
    ("profile", "fields", "files", "status", "words"),
    [
        ("vllm-omni", {"image_reference": "no JSON"}, {}, 400, "Invalid JSON"),
        ("vllm-omni", {"image_reference": '{"image_url": "data:image/png;base64,AAAA"}'}, {}, 400, "not an image"),
        (
            "vllm-omni",
            {"image_reference": json.dumps(_address(_picture("red")))},
            {"input_reference": b"x"},
            400,
            "one of",
        ),
        ("vllm-omni", {}, {"video_reference": b"x"}, 422, "no file of this form"),
        ("sglang", {}, {"video_reference": b"no video"}, 400, "not a video"),
        ("generic", {}, {"input_reference": b"\0\0\0\x10ftypisom"}, 400, "not an image"),
    ],
)
async def test_what_cannot_be_taken_along_is_refused(  # noqa: PLR0917
    profile: str,
    fields: dict[str, str],
    files: dict[str, bytes],
    status: int,
    words: str,
    server: Callable[..., Server],
) -> None:
    needed = {"model": "m"} if profile == "generic" else {}
    told = await server(profile).post(SMALL | needed | fields, **files)
    assert told.status_code == status
    assert words in told.text


@pytest.mark.parametrize("profile", PROFILES)
async def test_no_face_looks_like_another_kind_of_server(profile: str, server: Callable[..., Server]) -> None:
    http = server(profile, "m").http
    answers = [await http.get(call.path) for call in PROBE_CALLS]
    looks_like = recognize([Reply(each.status_code, {}, each.content) for each in answers])
    assert looks_like in {f"videos:{profile}", None}
