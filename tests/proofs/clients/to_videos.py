"""This project as a client of a server that others wrote: `to_videos.py STEP ADDRESS ENGINE_LOG` over stdio.

The steps: `bodies` (every kind of form that the profile vllm-omni makes, each held to what the engine got),
`references` (what models take besides: two images, images as references, a video that is changed), `talk` (a
video from its form to its file, jobs that fail, one that is left running), `forgotten` (and the server, started again,
knows nothing of it). ENGINE_LOG is written by `serve_vllm_omni.py`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from PIL import Image

from sora_mcp import media

TOLD = {name: value for name, value in os.environ.items() if name.startswith("SORA_")}
LEDGER = Path(TOLD["SORA_HOME"]) / "ledger.sqlite3"
SIZES = (None, (854, 480), (480, 854), (1280, 720), (720, 1280), (1024, 1024))
LENGTHS = (None, 30, 150, 300, 450)
MODELS = {
    "": (None, "Wan-AI/Wan2.2-T2V-A14B-Diffusers"),
    "/ti2v": ("Wan-AI/Wan2.2-TI2V-5B-Diffusers",),
    "/hunyuan": ("hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v",),
    "/ltx": ("Lightricks/LTX-2",),
}
"""By path of the server: the values of SORA_MODEL that fit it."""


def opened(address: str, model: str | None) -> Client:
    """A client of our server, which is set to that address."""
    settings = TOLD | {"SORA_BASE_URL": address} | ({"SORA_MODEL": model} if model else {})
    return Client(StdioServerParameters(command=os.environ["PROOF_SERVER"], args=[], env=settings))


async def ask(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    """A call that must work; its structured result."""
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return dict(result.structured_content or {})


# --- bodies ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Wish:
    """A call, and what the engine has to get of it besides size and length."""

    tool: str
    arguments: dict[str, Any]
    words: tuple[str, ...] = ()
    image: tuple[int, int] | None = None


def wishes(folder: Path, model: str | None) -> list[Wish]:
    """One call for each kind of form; every prompt is another, so that none is a duplicate."""
    shapes = [
        ({} if size is None else {"width": size[0], "height": size[1]}) | ({} if n is None else {"n_frames": n})
        for size, n in product(SIZES, (None, 150) if model else LENGTHS)
    ]
    made = [Wish("create_video", shape) for shape in shapes]
    for count in (1, 2, 5):
        beats = [{"time": 30 * i, "description": f"beat {i}: a “kite”, 凧, 🪁"} for i in range(count)]
        shots = tuple(f"Shot {i + 1} ({i}.0-" for i in range(count))
        made += [Wish("storyboard_video", shape | {"actions": beats}, shots) for shape in ({}, {"n_frames": 450})]
    folder.mkdir(parents=True, exist_ok=True)
    for kind in ("png", "jpeg", "webp"):
        file = folder / f"{(model or 'none').rpartition('/')[2]}.{kind}"
        Image.new("RGB", (320, 240), (200, 30, 30)).save(file)
        made.append(Wish("create_video", {"inpaint_items": [{"url": str(file)}]}, image=(320, 240)))
    long = "a boat\r\n--boundary\n" + "é" * 9000
    made += [Wish("create_video", {"prompt": text}) for text in ("'\"&=%;\\", "=?utf-8?q?a?=", long, "日本語 🎬")]
    if model:
        made.append(Wish("create_video", {"model": model}))
    return made


async def bodies(address: str, log: Path) -> list[str]:
    """Every form is taken by the server's own parser, and the engine gets what was told."""
    count = 0
    for path, models in MODELS.items():
        for model in models:
            async with opened(address + path, model) as client:
                for number, wish in enumerate(wishes(Path(TOLD["SORA_IMAGE_DIRS"]), model)):
                    prompt = f"[blind] {path} {model} {number} {wish.arguments.get('prompt', '')}".strip()
                    made = await ask(client, wish.tool, **wish.arguments | {"prompt": prompt})
                    assert made["outcome"] == "accepted", made
                    assert_got(wish, made, prompt, _engine_got(log, made["task_id"]))
                    count += 1
    return [f"{count} forms for {sum(map(len, MODELS.values()))} settings of SORA_MODEL"]


def _engine_got(log: Path, task_id: str) -> dict[str, Any]:
    """What the engine got of a task; the server hands it over after its answer."""
    until = time.monotonic() + 10
    while time.monotonic() < until:
        if received := [each for each in _requests(log) if each["id"] == task_id]:
            return received[-1]
        time.sleep(0.02)
    raise AssertionError(f"the engine got nothing of {task_id}")


def _requests(log: Path) -> list[dict[str, Any]]:
    """What the engine got so far."""
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    return [dict(json.loads(line)) for line in lines]


def assert_got(wish: Wish, made: dict[str, Any], prompt: str, got: dict[str, Any]) -> None:
    """The engine got the prompt, and the size and the length that we told."""
    adjusted = {each["field"]: each["sent"] for each in made["adjusted"]}
    asked = wish.arguments
    size = adjusted.get("size") or f"{asked['width']}x{asked['height']}"
    assert f"{got['width']}x{got['height']}" == size, (wish, got)
    assert f"{got['num_frames']} frames at {got['fps']:g} fps" == adjusted["n_frames"], (wish, got)
    assert got["images"] == ([list(wish.image)] if wish.image else []), (wish, got)
    lines = got["prompt"].replace("\r\n", "\n").split("\n")
    assert "\n".join(lines).startswith(prompt.replace("\r\n", "\n")), (prompt, got)
    shots = lines[len(lines) - len(wish.words) :]
    assert all(line.startswith(word) for line, word in zip(shots, wish.words, strict=True)), (wish, got)
    beats = [beat["description"] for beat in asked.get("actions", ())]
    assert [line.partition("s): ")[2] for line in shots] == beats, (wish, got)


# --- references -----------------------------------------------------------------------------------

VACE, H3 = "Wan-AI/Wan2.1-VACE-1.3B-diffusers", "MiniMaxAI/MiniMax-H3"


async def references(address: str, log: Path) -> list[str]:
    """Forms with two images, with one at the end, and with a video, and what the engine got of them."""
    first, last = (Path(TOLD["SORA_IMAGE_DIRS"]) / name for name in ("first.png", "last.png"))  # `bodies` made it
    Image.new("RGB", (320, 240), (200, 30, 30)).save(first)
    Image.new("RGB", (480, 240), (30, 200, 30)).save(last)
    items = [{"url": str(first)}, {"url": str(last), "frame_index": 149}]
    pictures = {"first": [[320, 240]], "last": [[480, 240]], "both": [[320, 240], [480, 240]]}
    async with opened(f"{address}/h3", H3) as client:
        for name, asked in {"first": items[:1], "last": items[1:], "both": items}.items():
            made = await ask(client, "create_video", prompt=f"[blind] {name}", n_frames=150, inpaint_items=asked)
            assert _engine_got(log, made["task_id"])["images"] == pictures[name], name
        made = await ask(client, "blend_videos", prompt="[blind] blend", inpaint_items=[{"url": str(first)}, items[0]])
        assert _engine_got(log, made["task_id"])["images"] == [[320, 240]] * 2
        for size, n_frames in product(SIZES, (None, 150, 300, 450)):
            shape = {} if size is None else {"width": size[0], "height": size[1]}
            shape |= {} if n_frames is None else {"n_frames": n_frames}
            made = await ask(client, "create_video", prompt=f"[blind] {shape}", **shape)
            got = _engine_got(log, made["task_id"])
            told = {each["field"]: each["sent"] for each in made["adjusted"]}["n_frames"]
            assert told.startswith(f"{got['num_frames']} frames at {got['fps']:g} fps"), (made, got)
    async with opened(f"{address}/vace", VACE) as client:
        made = await ask(client, "create_video", prompt="[blind] a subject", inpaint_items=items[:1])
        assert _engine_got(log, made["task_id"])["images"] == [[320, 240]]
        source = (await ask(client, "create_video", prompt="a kite", width=480, height=480, n_frames=30))["task_id"]
        await ask(client, "get_video", task_id=source, wait_seconds=30)
        made = await ask(client, "remix_video", prompt="[blind] at night", source_generation_id=source)
        assert _engine_got(log, made["task_id"])["has_video"]
    return ["two images (MiniMax H3)", "an image and a video as references (VACE)"]


# --- a conversation ---------------------------------------------------------------------------------


async def talk(address: str, log: Path) -> list[str]:
    """Create, follow, save, list; jobs that fail with several statuses; and one that is left running."""
    async with opened(address, TOLD.get("SORA_MODEL")) as client:
        wish = {"prompt": "a kite over the dunes", "width": 480, "height": 854, "n_frames": 30}
        made = await ask(client, "create_video", **wish)
        task = {"task_id": made["task_id"]}
        assert (await ask(client, "create_video", **wish))["duplicate"]
        ready = await ask(client, "get_video", **task, wait_seconds=30)
        assert ready["state"] == "succeeded", ready
        saved = await ask(client, "download_video", **task)
        got, file = _requests(log)[-1], media.probe(Path(saved["path"]))
        assert (file.width, file.height, file.n_frames, file.fps) == (
            got["width"],
            got["height"],
            got["num_frames"],
            got["fps"],
        )
        seen = await ask(client, "get_video", **task)
        assert (seen["width"], seen["height"], seen["n_frames"]) == (file.width, file.height, file.n_frames), seen
        looked = await client.call_tool("view_video", task)
        assert any(block.type == "image" for block in looked.content)
        for status in (400, 404, 500, 503):
            failing = await ask(client, "create_video", prompt=f"[fail {status}] a kite")
            failed = await ask(client, "get_video", task_id=failing["task_id"], wait_seconds=30)
            assert (failed["state"], failed["gateway_message"]) == ("failed", "the engine said no"), failed
        listed = (await ask(client, "list_videos"))["videos"]
        assert [each["state"] for each in listed[:5]] == ["failed"] * 4 + ["succeeded"], listed
        left = await ask(client, "create_video", prompt="[endless] a kite")
        seen = await ask(client, "get_video", task_id=left["task_id"])
        assert seen["state"] in {"queued", "running"}, seen
    ids = f"create (ids of {len(made['task_id'])} characters)"
    shown = f"file of {file.width}x{file.height}, {file.n_frames} frames at {file.fps:g} fps"
    return [ids, "duplicate", "poll", shown, "view", "list", "failed jobs (400, 404, 500, 503)"]


async def forgotten(address: str, log: Path) -> list[str]:
    """The server was started again in the middle of a job: that is lost after ten minutes, and not made again."""
    posts = len(_requests(log))
    with closing(sqlite3.connect(LEDGER)) as db:
        (task_id,) = db.execute("SELECT task_id FROM videos ORDER BY number DESC LIMIT 1").fetchone()
    async with opened(address, TOLD.get("SORA_MODEL")) as client:
        first = await client.call_tool("get_video", {"task_id": task_id})
        assert first.is_error, first
        assert (first.structured_content or {})["error"]["kind"] == "not_found", first
        with closing(sqlite3.connect(LEDGER)) as db, db:  # as if that had been ten minutes ago
            db.execute(
                "UPDATE videos SET missed_since = missed_since - 700, created_at = created_at - 700,"
                " looked_at = NULL, not_before = NULL WHERE task_id = ?",
                [task_id],
            )
        lost = await ask(client, "get_video", task_id=task_id)
        assert lost["state"] == "lost", lost
    assert len(_requests(log)) == posts
    return ["a job lost in a restart"]


async def main() -> None:
    """Run a step."""
    step, address, log = sys.argv[1:]
    steps = {each.__name__: each for each in (bodies, references, talk, forgotten)}
    shown = await steps[step](address, Path(log))
    sys.stdout.write(json.dumps({"eras": [], "shown": shown}) + "\n")


if __name__ == "__main__":
    asyncio.run(main())
