"""Earlier videos and two images as references on `/v1/videos`: what is got first, what arrives, and what is refused."""

from __future__ import annotations

import base64
import io
import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from bench import KEY, PNG, Run
from calls import ToolReply, ask, assert_accepted, assert_refused
from fault_gateway import Answer, FaultGateway, fault_gateway, says
from mcp import Client
from PIL import Image
from test_videos import DONE, MODELS, NOT_FOUND, OBJECT, VIDEOS, form_of, posts

from sora_mcp.config.settings import Settings
from sora_mcp.core.results import Video
from sora_mcp.media.render import Scene, render
from sora_mcp.server import build
from sora_mcp.studio import Studio

pytestmark = pytest.mark.anyio

VACE = "Wan-AI/Wan2.1-VACE-14B-diffusers"
H3 = "MiniMaxAI/MiniMax-H3"
SOURCE = "video_src"
OTHER = "video_other"
REMIX = {"source_generation_id": SOURCE, "prompt": "at night"}
BLEND = {"inpaint_items": [{"generation_id": SOURCE}, {"generation_id": OTHER}], "prompt": "one into the other"}

Serve = Callable[..., Client]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A video of 320x192 pixels and 19 frames at 16 per second."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    render(Scene(width=320, height=192, n_frames=19, prompt="fly man", fps=16), path)
    return path.read_bytes()


def mp4(content: bytes) -> Answer:
    return Answer(200, content, {"Content-Type": "video/mp4"})


@pytest.fixture
async def gateway(film: bytes) -> AsyncIterator[FaultGateway]:
    """A server that has two finished videos and takes a third."""
    async with fault_gateway() as opened:
        opened.on("POST", VIDEOS, says(OBJECT | {"id": "video_new"}))
        for name in (SOURCE, OTHER):
            opened.on("GET", f"{VIDEOS}/{name}", says(DONE | {"id": name}))
            opened.on("GET", f"{VIDEOS}/{name}/content", mp4(film))
        opened.on("GET", f"{VIDEOS}/video_new", says(OBJECT | {"id": "video_new", "status": "in_progress"}))
        opened.on("GET", MODELS, says({"object": "list", "data": []}))
        yield opened


@pytest.fixture
def serve(make_settings: Callable[..., Settings], gateway: FaultGateway) -> Serve:
    def make(profile: str = "vllm-omni", model: str | None = VACE, **values: Any) -> Client:
        settings = {"base_url": gateway.address, "dialect": f"videos:{profile}", "model": model} | values
        return Client(build(make_settings(**settings)))

    return make


def fetched(gateway: FaultGateway) -> list[str]:
    return [each.path for each in gateway.received if each.path.endswith("/content")]


def adjusted(told: ToolReply) -> dict[str, str]:
    return {each["field"]: each["sent"] for each in told.data["adjusted"]}


# --- remix by reference ---------------------------------------------------------------------------


async def test_a_remix_on_vace_sends_the_sources_file_with_its_size_and_length(
    serve: Serve, gateway: FaultGateway, film: bytes
) -> None:
    async with serve() as client:
        told = await assert_accepted(client, "remix_video", REMIX)
    (post,) = posts(gateway)
    assert form_of(post) == {
        "prompt": b"at night",
        "model": VACE.encode(),
        "size": b"320x192",
        "num_frames": b"17",
        "fps": b"16",
        "input_reference": film,
    }
    assert adjusted(told) == {
        "source_generation_id": "its file, as a reference",
        "size": "320x192",
        "n_frames": "17 frames at 16 fps",
    }
    assert told.data["sources"] == [SOURCE]
    assert "its file, as a reference" in told.text


async def test_a_remix_on_sglang_is_a_file_of_its_own(serve: Serve, gateway: FaultGateway, film: bytes) -> None:
    async with serve("sglang", model=None) as client:
        told = await assert_accepted(client, "remix_video", REMIX | {"n_variants": 2})
    sent = form_of(posts(gateway)[0])
    assert (sent["video_reference"], sent["n"]) == (film, b"2")
    assert "ignores it" in adjusted(told)["source_generation_id"]


async def test_a_saved_file_is_taken_where_it_lies(serve: Serve, gateway: FaultGateway, film: bytes) -> None:
    async with serve() as client:
        await ask(client, "download_video", {"task_id": SOURCE})
        gateway.on("GET", f"{VIDEOS}/{SOURCE}", NOT_FOUND)
        gateway.on("GET", f"{VIDEOS}/{SOURCE}/content", NOT_FOUND)
        await assert_accepted(client, "remix_video", REMIX)
    assert fetched(gateway) == [f"{VIDEOS}/{SOURCE}/content"]
    assert form_of(posts(gateway)[0])["input_reference"] == film


async def test_the_key_goes_with_the_fetch_to_the_base_address_only(
    serve: Serve, gateway: FaultGateway, film: bytes
) -> None:
    async with fault_gateway() as elsewhere:
        elsewhere.on("GET", "/file", mp4(film))
        redirect = Answer(302, b"", {"Location": f"{elsewhere.address}/file"})
        gateway.on("GET", f"{VIDEOS}/{SOURCE}/content", redirect)
        async with serve(api_key=KEY) as client:
            await assert_accepted(client, "remix_video", REMIX)
        assert [each.headers.get("authorization") for each in elsewhere.received] == [None]
    assert {each.headers.get("authorization") for each in gateway.received} == {f"Bearer {KEY}"}


FAULTS = {
    "gone": NOT_FOUND,
    "not ready": says({"detail": "not ready"}, 400),
    "no video": Answer(200, b"<html>" + bytes(2000), {"Content-Type": "text/html"}),
    "cut": Answer(200, bytes(100), fault="truncate"),
    "reset": Answer(200, bytes(100), fault="reset"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize(("tool", "arguments", "model"), [("remix_video", REMIX, VACE), ("blend_videos", BLEND, H3)])
async def test_what_cannot_be_fetched_is_refused_before_anything_is_sent(  # noqa: PLR0917
    fault: str, tool: str, arguments: dict[str, Any], model: str, serve: Serve, gateway: FaultGateway
) -> None:
    gateway.on("GET", f"{VIDEOS}/{SOURCE}/content", FAULTS[fault])
    async with serve(model=model) as client:
        await assert_refused(client, tool, arguments, "Nothing was submitted")
        assert (await ask(client, "list_videos", {})).data["cost"] == 0
    assert posts(gateway) == []


async def test_a_file_that_is_too_large_is_refused(serve: Serve, gateway: FaultGateway, film: bytes) -> None:
    large = Answer(200, film, {"Content-Type": "video/mp4"}, padding=0, missing=60_000_000)
    gateway.on("GET", f"{VIDEOS}/{SOURCE}/content", large)
    async with serve() as client:
        await assert_refused(client, "remix_video", REMIX, "larger than 50 MB")
    assert posts(gateway) == []


async def test_a_source_that_is_not_finished_is_refused(serve: Serve, gateway: FaultGateway) -> None:
    gateway.on("GET", f"{VIDEOS}/{SOURCE}", says(OBJECT | {"id": SOURCE, "status": "in_progress"}))
    async with serve() as client:
        await assert_refused(client, "remix_video", REMIX, "not finished")
    assert posts(gateway) == []


async def test_a_dry_run_of_a_remix_fetches_nothing_and_says_what_would_be(serve: Serve, gateway: FaultGateway) -> None:
    async with serve() as client:
        told = await ask(client, "remix_video", REMIX | {"dry_run": True})
        assert told.data["body"] == {"prompt": "at night", "model": VACE, "input_reference": f"{SOURCE}.mp4"}
        assert adjusted(told)["size"] == "the source's"
        assert f"fetches the video and takes the file of {SOURCE}" in told.text
        await ask(client, "download_video", {"task_id": SOURCE})
        told = await ask(client, "remix_video", REMIX | {"dry_run": True})
        assert told.data["body"]["num_frames"] == "17"
        assert f"first takes the file of {SOURCE}" in told.text
    assert posts(gateway) == []
    assert len(fetched(gateway)) == 1


async def test_the_same_remix_is_a_duplicate_whatever_the_file_holds_now(
    serve: Serve, gateway: FaultGateway, film: bytes
) -> None:
    async with serve() as client:
        await assert_accepted(client, "remix_video", REMIX)
        gateway.on("GET", f"{VIDEOS}/{SOURCE}/content", mp4(film + b"\0\0\0\x08free"))
        again = await ask(client, "remix_video", REMIX)
        assert (again.data["duplicate"], again.data["task_id"]) == (True, "video_new")
        dry = await ask(client, "remix_video", REMIX | {"dry_run": True})
        assert dry.data["duplicate_of"] == "video_new"
    assert len(posts(gateway)) == len(fetched(gateway)) == 1


async def test_two_variants_of_a_source_are_two_requests(serve: Serve, gateway: FaultGateway) -> None:
    gateway.on("GET", f"{VIDEOS}/{SOURCE}", says(DONE | {"id": SOURCE, "urls": ["", ""]}))
    async with serve("sglang", model=None) as client:
        await assert_accepted(client, "remix_video", REMIX)
        gateway.on("POST", VIDEOS, says(OBJECT | {"id": "video_newer"}))
        told = await assert_accepted(client, "remix_video", REMIX | {"source_generation_id": f"{SOURCE}#2"})
    assert told.data["task_id"] == "video_newer"
    assert told.data["sources"] == [f"{SOURCE}#2"]
    assert len(posts(gateway)) == 2


@pytest.mark.parametrize("answer", [Answer(500, b"oops"), Answer(fault="reset_after_request")])
async def test_a_lost_answer_to_a_remix_is_settled_and_never_sent_again(
    answer: Answer, serve: Serve, gateway: FaultGateway, make_settings: Callable[..., Settings]
) -> None:
    gateway.on("POST", VIDEOS, answer)
    async with serve() as client:
        told = await ask(client, "remix_video", REMIX)
        assert told.data["outcome"] == "unknown"
        again = await ask(client, "remix_video", REMIX)
        assert again.data["outcome"] == "unknown"
        seen = await ask(client, "get_video", {"task_id": told.data["request_id"]})
        assert (seen.data["state"], seen.data["sources"]) == ("unknown", [SOURCE])
        gateway.on("GET", f"{VIDEOS}/video_new", says(DONE | {"id": "video_new"}))
        settled = await run_settle(
            make_settings(base_url=gateway.address, dialect="videos:vllm-omni", model=VACE), told
        )
        assert (settled.state, settled.sources, settled.task_id) == ("submitted", [SOURCE], "video_new")
        third = await ask(client, "remix_video", REMIX)
        assert (third.data["duplicate"], third.data["task_id"]) == (True, "video_new")
    assert len(posts(gateway)) == 1


async def run_settle(settings: Settings, told: ToolReply) -> Video:
    """What a person does who found the task."""
    async with Studio.open(settings) as studio:
        return await studio.settle(told.data["request_id"], "video_new")


@pytest.mark.parametrize(
    ("profile", "model"),
    [
        ("vllm-omni", "Wan-AI/Wan2.2-T2V-A14B-Diffusers"),
        ("vllm-omni", H3),
        ("vllm-omni", None),
        ("sglang", "Wan-AI/Wan2.2-T2V-A14B-Diffusers"),
        ("tensorrt-llm", None),
        ("generic", "x"),
    ],
)
async def test_where_no_remix_goes_none_is_advised(
    profile: str, model: str | None, serve: Serve, gateway: FaultGateway
) -> None:
    async with serve(profile, model=model) as client:
        told = await ask(client, "get_video", {"task_id": SOURCE})
        assert told.data["state"] == "succeeded"
        assert "remix" not in told.text
        assert "remix" not in told.data["next_step"]
        await assert_refused(client, "remix_video", REMIX, "no remix")
    assert posts(gateway) == []


async def test_where_a_remix_goes_it_is_advised(serve: Serve) -> None:
    async with serve() as client:
        assert "remix" in (await ask(client, "get_video", {"task_id": SOURCE})).text


@pytest.mark.parametrize("profile", ["vllm-omni", "new-api"])
async def test_prompts_ask_for_nothing_that_does_not_go(profile: str, serve: Serve) -> None:
    fix = {"task_id": SOURCE, "problem": "the kite is red"}
    async with serve(profile, model="some-wan") as client:
        told = [
            await client.get_prompt("fix_video", fix),
            await client.get_prompt("three_variations", {"scene": "a kite", "size": "832x480", "seconds": "6"}),
        ]
    fixing, varying = [each.messages[0].content.model_dump()["text"] for each in told]
    assert ("remix_video" in fixing) == (profile == "new-api")
    assert "amount" not in fixing
    assert "n_variants" not in varying
    assert "three calls of create_video" in varying
    assert "832x480" in varying


@pytest.mark.parametrize(("tool", "unsaid"), [("extend_video", "storyboard_video"), ("upscale_video", "remix_video")])
async def test_tools_that_there_are_not_are_answered_with_what_goes_here(
    tool: str, unsaid: str, serve: Serve, connect: Callable[..., Client]
) -> None:
    async with serve(model=None) as client, connect() as seed:
        assert unsaid not in str((await client.call_tool(tool, {})).content)
        assert unsaid in str((await seed.call_tool(tool, {})).content)


async def test_without_the_extra_for_media_nothing_is_fetched_or_sent(
    serve: Serve, gateway: FaultGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tool, arguments, model in (("remix_video", REMIX, VACE), ("blend_videos", BLEND, H3)):
        async with serve(model=model) as client:
            monkeypatch.setitem(sys.modules, "av", None)
            await assert_refused(client, tool, arguments, "extra `media`", "Nothing was submitted")
            monkeypatch.undo()
    assert (posts(gateway), fetched(gateway)) == ([], [])


# --- a blend as a bridge --------------------------------------------------------------------------


def pictures_of(sent: dict[str, bytes]) -> list[Image.Image]:
    addresses = [each["image_url"] for each in json.loads(sent["image_reference"])]
    assert all(each.startswith("data:image/jpeg;base64,") for each in addresses)
    return [Image.open(io.BytesIO(base64.b64decode(each.partition(",")[2]))) for each in addresses]


def striped(path: Path, *colours: str) -> bytes:
    """A video of 320x192 pixels: each colour for four frames."""
    import av  # noqa: PLC0415 - as everywhere

    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        for colour in (each for each in colours for _ in range(4)):
            picture = Image.new("RGB", (320, 192), colour)
            container.mux(stream.encode(av.VideoFrame.from_image(picture)))  # type: ignore[no-untyped-call]
        container.mux(stream.encode(None))
    return path.read_bytes()


def hue(picture: Image.Image) -> str:
    red, green, blue = picture.convert("RGB").getpixel((20, 20))  # type: ignore[misc]
    return {red: "red", green: "green", blue: "blue"}[max(red, green, blue)]


async def test_a_blend_is_a_bridge_from_the_last_frame_to_the_first(
    serve: Serve, gateway: FaultGateway, tmp_path: Path
) -> None:
    gateway.on("GET", f"{VIDEOS}/{SOURCE}/content", mp4(striped(tmp_path / "a.mp4", "red", "blue")))
    gateway.on("GET", f"{VIDEOS}/{OTHER}/content", mp4(striped(tmp_path / "b.mp4", "green", "red")))
    async with serve(model=H3) as client:
        told = await assert_accepted(client, "blend_videos", BLEND)
    sent = form_of(posts(gateway)[0])
    assert [hue(each) for each in pictures_of(sent)] == ["blue", "green"]
    assert set(sent) == {"prompt", "model", "num_frames", "fps", "image_reference"}
    assert len(sent["image_reference"]) < 1_000_000
    bridge = "a bridge from the last frame of the first video to the first frame of the second"
    assert adjusted(told)["inpaint_items"] == bridge
    assert told.data["sources"] == [SOURCE, OTHER]


async def test_a_bridge_begins_and_ends_where_the_ranges_say(
    serve: Serve, gateway: FaultGateway, tmp_path: Path
) -> None:
    film = striped(tmp_path / "a.mp4", "red", "green", "blue")
    for name in (SOURCE, OTHER):
        gateway.on("GET", f"{VIDEOS}/{name}/content", mp4(film))
    first, second = {"generation_id": SOURCE, "source_end_frame": 5}, {"generation_id": OTHER, "source_start_frame": 9}
    async with serve(model=H3) as client:
        await assert_accepted(client, "blend_videos", {"inpaint_items": [first, second]})
        far = [first | {"source_end_frame": 12}, second]
        await assert_refused(client, "blend_videos", {"inpaint_items": far}, "12 frames", "0 to 11")
        unsaid = [first | {"source_start_frame": 2}, second]
        await assert_refused(client, "blend_videos", {"inpaint_items": unsaid}, "source_start_frame")
    (post,) = posts(gateway)
    assert [hue(each) for each in pictures_of(form_of(post))] == ["green", "blue"]
    assert form_of(post)["prompt"]


async def test_a_bridge_may_end_with_an_image(
    serve: Serve, gateway: FaultGateway, pictures: Path, tmp_path: Path
) -> None:
    Image.new("RGB", (320, 192), "green").save(pictures / "green.png")
    gateway.on("GET", f"{VIDEOS}/{SOURCE}/content", mp4(striped(tmp_path / "a.mp4", "red", "blue")))
    items = [{"generation_id": SOURCE}, {"url": "green.png"}]
    async with serve(model=H3, image_dirs=(pictures,)) as client:
        dry = await ask(client, "blend_videos", BLEND | {"inpaint_items": items, "dry_run": True})
        shown = json.loads(dry.data["body"]["image_reference"])
        assert shown[0] == {"image_url": f"the last frame of {SOURCE}"}
        assert (fetched(gateway), posts(gateway)) == ([], [])
        await assert_accepted(client, "blend_videos", BLEND | {"inpaint_items": items})
    sent = form_of(posts(gateway)[0])
    assert "data:image/png" in json.loads(sent["image_reference"])[1]["image_url"]


@pytest.mark.parametrize("profile", ["vllm-omni", "sglang", "tensorrt-llm", "generic", "new-api"])
async def test_where_no_bridge_goes_a_blend_is_refused_by_name(
    profile: str, serve: Serve, gateway: FaultGateway
) -> None:
    async with serve(profile, model="some-wan") as client:
        await assert_refused(client, "blend_videos", BLEND, "no blend", "Nothing was submitted")
    assert (posts(gateway), fetched(gateway)) == ([], [])


# --- images at the last frame ---------------------------------------------------------------------


async def test_two_images_stand_at_the_first_and_the_last_frame(
    serve: Serve, gateway: FaultGateway, pictures: Path
) -> None:
    for colour in ("red", "blue"):
        Image.new("RGB", (64, 64), colour).save(pictures / f"{colour}.png")
    last, first = {"url": "blue.png", "frame_index": 149}, {"url": "red.png"}
    gateway.on("POST", VIDEOS, *(says(OBJECT | {"id": f"video_{number}"}) for number in range(2)))
    async with serve(model=H3, image_dirs=(pictures,)) as client:
        for prompt, items in (("a", [first, last]), ("b", [last, first | {"frame_index": 0}])):
            await assert_accepted(client, "create_video", {"prompt": prompt, "inpaint_items": items})
        wrong = [first, last | {"frame_index": 75}]
        await assert_refused(client, "create_video", {"prompt": "c", "inpaint_items": wrong}, "0 or 149")
        await assert_refused(client, "create_video", {"prompt": "c", "inpaint_items": [first, first]}, "same frame")
    for post in posts(gateway):
        ends = json.loads(form_of(post)["image_reference"])
        images = [Image.open(io.BytesIO(base64.b64decode(each["image_url"].partition(",")[2]))) for each in ends]
        assert [hue(each) for each in images] == ["red", "blue"]
        assert "size" not in form_of(post)


async def test_an_image_may_stand_at_the_last_frame_alone(serve: Serve, gateway: FaultGateway, pictures: Path) -> None:
    Image.new("RGB", (64, 64), "blue").save(pictures / "blue.png")
    asked = {"prompt": "a", "n_frames": 300, "inpaint_items": [{"url": "blue.png", "frame_index": 299}]}
    async with serve(model=H3, image_dirs=(pictures,)) as client:
        await assert_accepted(client, "create_video", asked)
    sent = form_of(posts(gateway)[0])
    assert json.loads(sent["extra_params"]) == {"frame_indices": [-1]}
    assert sent["input_reference"] == (pictures / "blue.png").read_bytes()


async def test_two_images_that_are_too_large_for_the_form_are_refused(
    serve: Serve, gateway: FaultGateway, pictures: Path
) -> None:
    for name in ("a", "b"):
        (pictures / f"{name}.png").write_bytes(PNG[:33] + bytes(500_000) + PNG[33:])
    items = [{"url": "a.png"}, {"url": "b.png", "frame_index": 149}]
    async with serve(model=H3, image_dirs=(pictures,)) as client:
        await assert_refused(client, "create_video", {"prompt": "a", "inpaint_items": items}, "together", "0.35 MB")
    assert posts(gateway) == []


# --- a model of which nothing is known ------------------------------------------------------------


def test_the_doctor_says_that_a_models_rule_is_a_guess(run: Run) -> None:
    found = [
        [each for each in json.loads(run("doctor", "--json", **settings).stdout)["checks"] if "rule" in each["name"]]
        for settings in ({"MODEL": "somebody/new"}, {"MODEL": VACE}, {})
        for settings in [{"BASE_URL": "sandbox", "DIALECT": "videos:vllm-omni"} | settings]
    ]
    assert [len(each) for each in found] == [1, 0, 0]
    assert "somebody/new" in found[0][0]["message"]


async def test_the_gateway_is_described_with_the_guess(serve: Serve) -> None:
    async with serve(model="somebody/new") as client:
        told = await ask(client, "describe_gateway", {})
    assert any("a guess" in rule for rule in told.data["rules"])
