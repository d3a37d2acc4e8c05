"""Looking at videos through the tools: a sheet, one frame, a range, beats, variants, two videos; and at a plan."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from bench import ACCEPTED_NEXT, Connect, Run, finished, task_reply
from fault_gateway import CREATE, Answer, FaultGateway
from films import at_rate, film, frame_number
from mcp import Client
from mcp.shared.exceptions import MCPError
from PIL import Image

from sora_mcp.core.pictures import Moment
from sora_mcp.tools import moments

pytestmark = pytest.mark.anyio

BEATS = [
    {"time": 0, "description": "The cat wakes"},
    {"time": 60, "description": "The cat looks at the toast"},
    {"time": 110, "description": "The cat steals the toast"},
]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a call gave: its sentence, its data, its picture."""

    text: str
    data: dict[str, Any]
    picture: bytes | None
    is_error: bool

    @property
    def image(self) -> Image.Image:
        assert self.picture is not None
        return Image.open(io.BytesIO(self.picture))


async def use(client: Client, tool: str, arguments: dict[str, Any]) -> Seen:
    result = await client.call_tool(tool, arguments)
    words = [block.text for block in result.content if isinstance(block, types.TextContent)]
    pictures = [base64.b64decode(each.data) for each in result.content if isinstance(each, types.ImageContent)]
    return Seen(words[0], json.loads(words[1]), pictures[0] if pictures else None, is_error=bool(result.is_error))


@pytest.fixture(scope="session")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Five seconds whose every frame says which one it is."""
    return film(tmp_path_factory.mktemp("films") / "kitchen.mp4", at_rate(30, 150), (480, 270)).read_bytes()


@pytest.fixture
async def client(gateway: FaultGateway, connect: Connect, kitchen: bytes) -> AsyncIterator[Client]:
    """A client of a server whose gateway has finished every video in two variants: a storyboard, and a remix of it."""
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, finished(*2 * [f"{gateway.address}/kitchen.mp4"]))
    gateway.on("GET", "/kitchen.mp4", Answer(200, kitchen, {"Content-Type": "video/mp4"}))
    async with connect() as opened:
        story = {"actions": BEATS, "prompt": "A kitchen", "n_variants": 2}
        assert not (await use(opened, "storyboard_video", story)).is_error
        remix = {"source_generation_id": STORY, "prompt": "at night", "n_variants": 2}
        remix |= {"width": 480, "height": 480, "n_frames": 150}
        assert not (await use(opened, "remix_video", remix)).is_error
        for task_id in (STORY, REMIX):  # its own watcher may be asking about it
            video = await use(opened, "get_video", {"task_id": task_id, "wait_seconds": 20})
            assert video.data["state"] == "succeeded"
        yield opened


STORY, REMIX = "task_1", "task_2"


async def test_which_frame_shows_it_and_a_closer_look_are_two_calls(client: Client) -> None:
    sheet = await use(client, "view_video", {"task_id": STORY})
    assert '3 "The cat steals the toast" from frame 110 (3.67 s): stills 5, 6' in sheet.text
    assert [still["beat"] for still in sheet.data["stills"]] == [1, 1, 2, 2, 3, 3]
    near = await use(client, "view_video", {"task_id": STORY, "at": 110})
    assert near.text.startswith(f"Frame 110 (3.67 s) of {STORY}, variant 1 (480x270, 5 s, 150 frames")
    assert 'beat 3 "The cat steals the toast"' in near.text
    assert near.image.width == 480
    assert near.picture is not None
    assert len(near.picture) <= 120_000


async def test_a_sheet_of_the_beats_has_a_still_for_each(client: Client) -> None:
    seen = await use(client, "view_video", {"task_id": STORY, "at": "beats"})
    assert [(still["beat"], still["frame"]) for still in seen.data["stills"]] == [(1, 0), (2, 60), (3, 110)]
    assert [still["seconds"] for still in seen.data["stills"]] == [0, 2, 3.67]


async def test_variants_and_two_videos_share_a_sheet(client: Client) -> None:
    seen = await use(client, "view_video", {"task_id": STORY, "all_variants": True, "frames": 3})
    assert (seen.data["name"], seen.data["frames"], len(seen.data["stills"])) == ("#1", 6, 3)
    assert seen.data["others"] == [{"name": "#2", "variant": 2}]  # and else as the first
    assert "variants #1, #2" in seen.text
    seen = await use(client, "view_video", {"task_id": REMIX, "beside": f"{STORY}#2", "frames": 2})
    assert f"A: {REMIX}, variant 1" in seen.text
    assert f"B: {STORY}, variant 2" in seen.text
    (other,) = seen.data["others"]
    assert (other["name"], other["task_id"], other["variant"]) == ("B", STORY, 2)
    assert [still["beat"] for still in other["stills"]] == [1, 3]
    assert not any("beat" in still for still in seen.data["stills"])
    both = await use(client, "view_video", {"task_id": REMIX, "beside": STORY, "at": "2s"})
    assert both.image.width >= 480
    assert [still["frame"] for still in (*both.data["stills"], *both.data["others"][0]["stills"])] == [60, 60]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"at": "99s"}, "99 s is past the end: variant 1 of {} has 150 frames, 5 s; allowed: a frame from 0 to 149"),
    ({"at": 150}, "frame 150 is past the end"),
    ({"at": "2s-9s"}, "9 s is past the end"),
    ({"at": "soon"}, 'allowed: a frame ("110"), a time ("7.3s"), a range ("2s-5s"), or "beats"'),
    ({"at": -1}, "at: "),
    ({"at": 7.3}, '7.3 is not a whole frame; allowed: "7.3s", if you meant seconds'),
    ({"at": "5s-2s"}, "the range ends before it begins"),
    ({"at": "60-2s"}, "the range ends before it begins"),
    ({"at": True}, "at: "),
    ({"variant": 3}, "variant: {} has no variant 3; allowed: 1 to 2"),
    ({"task_id": "{}#3"}, "task_id: {} has no variant 3; allowed: 1 to 2"),
    (
        {"task_id": "{}#1", "variant": 2},
        "variant: 2 cannot be combined with the id of variant 1; allowed: one of the two",
    ),
    ({"beside": "{}"}, "beside: is the same video"),
    ({"beside": "{}#2", "all_variants": True}, "cannot be combined with all_variants"),
    (
        {"at": "7.3s", "frames": 4},
        'frames: cannot be combined with "7.3s"; allowed: one of the two, or a range such as "2s-5s"',
    ),
    ({"at": "beats", "frames": 4}, 'frames: cannot be combined with "beats"'),
    ({"second": 7}, 'second 7 is at "7s"'),
    ({"beats": True}, 'use at "beats"'),
]


async def test_what_is_not_there_is_refused_with_what_is(client: Client) -> None:
    for arguments, words in REFUSED:
        filled = {name: each.format(STORY) if isinstance(each, str) else each for name, each in arguments.items()}
        seen = await use(client, "view_video", {"task_id": STORY} | filled)
        assert seen.is_error, arguments
        assert seen.picture is None
        assert words.format(STORY) in seen.text


async def test_a_video_without_beats_says_so(client: Client) -> None:
    seen = await use(client, "view_video", {"task_id": REMIX, "at": "beats"})
    assert seen.is_error
    assert "has no storyboard" in seen.text


async def test_the_length_is_the_files_and_not_the_requests(
    gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    content = film(tmp_path / "film.mp4", at_rate(24, 72), (854, 480)).read_bytes()
    gateway.on("GET", CREATE, finished(f"{gateway.address}/film.mp4"))
    gateway.on("GET", "/film.mp4", Answer(200, content, {"Content-Type": "video/mp4"}))
    async with connect() as client:
        await client.call_tool("create_video", {"prompt": "fly man", "n_frames": 150})
        seen = await use(client, "view_video", {"task_id": "task_new"})
        assert "(854x480, 3 s, 72 frames at 24 per second)" in seen.text
        assert seen.data["seconds"] == pytest.approx(3, abs=1 / 24)
        near = await use(client, "view_video", {"task_id": "task_new", "at": "2.5s"})
        assert near.data["stills"] == [{"frame": 60, "seconds": 2.5}]
        assert frame_number(near.image.crop((0, 0, 854, 480))) == 60
        late = await use(client, "view_video", {"task_id": "task_new", "at": "4.2s"})
        assert "has 72 frames, 3 s" in late.text


@pytest.mark.parametrize("state", ["FAILURE", "FAILED"])
async def test_a_video_that_failed_says_why_there_is_nothing(
    gateway: FaultGateway, connect: Connect, state: str
) -> None:
    gateway.on("GET", CREATE, task_reply(state, failure_reason="no fuel left"))
    async with connect() as client:
        await client.call_tool("create_video", {"prompt": "fly man"})
        seen = await use(client, "view_video", {"task_id": "task_new", "at": "1s"})
    assert seen.is_error
    assert "has failed, so there is nothing to use." in seen.text
    assert '"no fuel left"' in seen.text


async def test_a_contact_sheets_address_takes_the_same_options(client: Client) -> None:
    async def read(uri: str) -> bytes:
        content = (await client.read_resource(uri)).contents[0]
        assert isinstance(content, types.BlobResourceContents)
        return base64.b64decode(content.blob)

    near = Image.open(io.BytesIO(await read(f"sora://videos/{STORY}/contact-sheet.jpg?at=3.7s&variant=2")))
    assert near.size[0] == 480
    assert near.format == "JPEG"
    exact = Image.open(io.BytesIO(await read(f"sora://videos/{STORY}/contact-sheet.png?all_variants=true&frames=2")))
    assert exact.format == "PNG"
    for query, words in (("at=99s", "past the end"), ("colour=red", "unknown argument"), ("frames=99", "from 1 to 16")):
        with pytest.raises(MCPError, match=words):
            await read(f"sora://videos/{STORY}/contact-sheet.jpg?{query}")


# --- a plan ---------------------------------------------------------------------------------------


async def test_a_dry_run_of_a_storyboard_is_drawn_as_a_plan(client: Client) -> None:
    dry = {"actions": BEATS, "prompt": "A kitchen", "dry_run": True}
    seen = await use(client, "storyboard_video", dry)
    assert not seen.is_error
    assert "The picture is a plan: no video has been made yet." in seen.text
    assert seen.data["outcome"] == "not_submitted"
    assert seen.image.format == "JPEG"
    assert seen.picture is not None
    assert len(seen.picture) <= 60_000
    paid = await use(client, "storyboard_video", dry | {"dry_run": False})
    assert paid.picture is None
    other = await use(client, "create_video", {"prompt": "fly man", "dry_run": True})
    assert other.picture is None


async def test_a_plan_shows_the_images_and_videos_that_it_places(
    connect: Connect, gateway: FaultGateway, tmp_path: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (640, 480), (220, 20, 20)).save(folder / "red.png")
    items = [{"url": str(folder / "red.png"), "frame_index": 30}, {"url": "https://pictures.example/a.png"}]
    async with connect(image_dirs=(folder,)) as client:
        seen = await use(client, "storyboard_video", {"actions": BEATS[:1], "inpaint_items": items, "dry_run": True})
    assert not seen.is_error, seen.text
    reds = seen.image.convert("RGB").resize((64, 64)).getcolors(64 * 64) or []
    assert sum(n for n, (red, green, blue) in reds if red > 180 and green < 80 and blue < 80) > 100  # type: ignore[misc]
    assert not gateway.requests("POST", CREATE)


async def test_a_plan_that_cannot_be_drawn_is_told_in_words(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sora_mcp.media.viewer.require_installed", _missing)
    seen = await use(client, "storyboard_video", {"actions": BEATS, "dry_run": True})
    assert not seen.is_error
    assert seen.picture is None
    assert "The plan is not drawn: This needs the extra `media`" in seen.text


def _missing() -> None:
    from sora_mcp.media import not_installed  # noqa: PLC0415

    raise not_installed()


# --- how a moment is written ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("110", Moment(frame=110)),
        ("frame 110", Moment(frame=110)),
        ("7.3s", Moment(second=7.3)),
        ("7.3 S", Moment(second=7.3)),
        ("7 seconds", Moment(second=7)),
        ("0:07.5", Moment(second=7.5)),
        ("01:02:03", Moment(second=3723)),
        ("60-150", (Moment(frame=60), Moment(frame=150))),
        ("2-5s", (Moment(second=2), Moment(second=5))),
        ("2s – 5s", (Moment(second=2), Moment(second=5))),
        ("2s to 5s", (Moment(second=2), Moment(second=5))),
        ("0:02..0:05", (Moment(second=2), Moment(second=5))),
    ],
)
def test_a_moment_may_be_written_in_many_ways(text: str, moment: object) -> None:
    assert moments.parse(text) == moment


@pytest.mark.parametrize("text", ["", "s", "7.3", "-1", "1e3", "nan", "1-2-3", "5-5", "7 hours", "9" * 30, "1s-40"])
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(moments.InvalidMoment):
        moments.parse(text)


async def test_nothing_is_left_of_a_video_that_was_looked_at(
    client: Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    seen = await use(client, "view_video", {"task_id": STORY})
    assert seen.is_error
    assert "Nothing can be written to" in seen.text
    folder = anyio.Path(tmp_path / "there")
    await folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    assert not (await use(client, "view_video", {"task_id": STORY})).is_error
    assert [each async for each in folder.iterdir()] == []


# --- at the shell ---------------------------------------------------------------------------------


def test_at_the_shell_a_plan_is_drawn_where_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    beats = ["storyboard", "a kitchen", "--action", "0s=a door", "--action", "2.5s=it opens"]
    plan = tmp_path / "plan.png"
    dry = run(*beats, "--dry-run", "--board", str(plan), base_url="sandbox")
    assert dry.returncode == 0, dry.stderr
    assert f"The plan is {plan}" in dry.stdout
    assert plan.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob(".plan*")) == []
    paid = run(*beats, "--board", str(plan), base_url="sandbox")
    assert paid.returncode == 2
    assert "--board goes with --dry-run" in paid.stderr
    assert "Nothing was submitted" in paid.stderr
    if not Path("/dev/full").exists():
        return
    full = run(*beats, "--dry-run", "--board", "/dev/full", base_url="sandbox")
    assert full.returncode != 0
    assert "/dev/full cannot be written: No space left on device" in full.stderr
