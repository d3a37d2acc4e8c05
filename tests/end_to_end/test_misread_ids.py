"""Texts that hold an id and are none: an address, a link, an id in quotation marks. The id is named, never assumed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from bench import KEY, MP4, RUNNING, Connect, create_accepted, task_reply
from calls import ask, assert_refused, create
from fault_gateway import CREATE, Answer, FaultGateway
from mcp import Client

from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import InvalidInput
from sora_mcp.studio import Studio
from sora_mcp.studio.misread_ids import ids_within

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]

ID = "task_01k3f7q2z9"
DRESSED = [
    f"`{ID}`",
    f'"{ID}"',
    f"**{ID}**",
    f"__{ID}__",
    f"<{ID}>",
    f"\u201c{ID}\u201d",
    f"{ID}.",
    f"({ID}),",
    f"task_id={ID}",
    f"sora://videos/{ID}",
    f"https://cdn.example/{ID}/video?sig=1%2F2",
    f"https://cdn.example/v?id={ID}&sig=1",
    f"https://cdn.example/{ID}.mp4",
    f"[the video](sora://videos/{ID})",
    f"[x](https://cdn.example/{ID})",
    f"the video {ID}",
    f"/home/ann/videos/{ID}.v1.mp4",
]
VARIANTS = [
    f"{ID}/2",
    f"`{ID}#2`",
    f"sora://videos/{ID}/2.mp4",
    f"/home/ann/videos/{ID}.v2.mp4",
]
FREE_TOOLS = ["get_video", "view_video", "download_video"]


async def made(client: Client, gateway: FaultGateway, task_id: str = ID) -> None:
    """A finished video of this id, which the ledger knows; no request is counted so far."""
    generation = {"id": "gen_1", "url": f"{gateway.address}/v.mp4", "width": 480, "height": 480, "n_frames": 150}
    gateway.on("POST", CREATE, create_accepted(task_id), create_accepted("task_other"))
    gateway.on("GET", CREATE, task_reply("SUCCESS", task_id=task_id, data={"generations": [generation]}))
    gateway.on("GET", "/v.mp4", Answer(200, MP4))
    assert (await ask(client, *create(prompt=f"the video {task_id}"))).data["task_id"] == task_id
    assert (await ask(client, "get_video", {"task_id": task_id})).data["state"] == "succeeded"
    gateway.received.clear()


@pytest.mark.parametrize("text", DRESSED, ids=ascii)
async def test_an_id_inside_a_text_is_named_and_nothing_is_asked(
    connect: Connect, gateway: FaultGateway, text: str
) -> None:
    async with connect() as client:
        await made(client, gateway)
        for tool in FREE_TOOLS:
            told = await ask(client, tool, {"task_id": text})
            assert told.data["error"]["kind"] == "invalid_input", told.text
            assert f"task_id: is not an id (did you mean {ID}?); allowed: task_… or req_…." in told.text
        await refused_sources(client, text, ID)
    assert gateway.received == []


@pytest.mark.parametrize("text", VARIANTS, ids=ascii)
async def test_a_variant_that_a_text_names_is_named_too(connect: Connect, gateway: FaultGateway, text: str) -> None:
    async with connect() as client:
        await made(client, gateway)
        told = await ask(client, "get_video", {"task_id": text})
        assert f"(did you mean {ID}#2?)" in told.text
        await refused_sources(client, text, f"{ID}#2")
    assert gateway.received == []


async def refused_sources(client: Client, text: str, meant: str) -> None:
    """No paid call takes a text for the id in it."""
    remix = {"source_generation_id": text, "prompt": "at night"}
    named = f"is not an id (did you mean {meant}?); allowed: gen_…, media_…, task_… or task_…#2."
    await assert_refused(client, "remix_video", remix, f"source_generation_id: {named}")
    items = [{"generation_id": text}, {"generation_id": ID}]
    arguments = {"prompt": "one", "inpaint_items": items}
    await assert_refused(client, "blend_videos", arguments, f"inpaint_items[0].generation_id: {named}")


async def test_what_a_video_is_compared_with_is_named_as_the_argument_it_is(
    connect: Connect, gateway: FaultGateway
) -> None:
    async with connect() as client:
        await made(client, gateway)
        told = await ask(client, "view_video", {"task_id": ID, "beside": f"`{ID}`"})
    assert f"beside: is not an id (did you mean {ID}?)" in told.text


@pytest.mark.parametrize("text", ["sora://videos/task_elsewhere", "https://cdn.example/v.mp4", "[x](https://a/b)"])
async def test_an_address_without_a_known_id_is_refused_as_an_address(
    connect: Connect, gateway: FaultGateway, text: str
) -> None:
    async with connect() as client:
        await made(client, gateway)
        told = await ask(client, "get_video", {"task_id": text})
        remix = {"source_generation_id": text, "prompt": "at night"}
        await assert_refused(client, "remix_video", remix, "source_generation_id: is an address, not an id; allowed: ")
    assert "task_id: is an address, not an id; allowed: task_… or req_…." in told.text
    assert "SORA_BASE_URL" not in told.text
    assert gateway.received == []


@pytest.mark.parametrize("known", ["`17`", "17.", "17/2", f"{ID}/2", f"x:{ID}"])
async def test_a_recorded_id_wins_however_it_looks(connect: Connect, gateway: FaultGateway, known: str) -> None:
    async with connect() as client:
        for task_id in ("17", ID, known):
            await made(client, gateway, task_id)
        told = await ask(client, "get_video", {"task_id": known})
        remixed = await ask(client, "remix_video", {"source_generation_id": known, "prompt": "at night"})
    assert told.data["task_id"] == known, told.text
    assert remixed.data["outcome"] == "accepted", remixed.text


@pytest.mark.parametrize("unknown", ["18", "job:17", "17/3", "17-a", f"{ID}-b", f"a{ID}", "task_01k3f7", "a/b?c=d"])
async def test_an_unknown_id_is_asked_about_at_the_gateway(
    connect: Connect, gateway: FaultGateway, unknown: str
) -> None:
    async with connect() as client:
        await made(client, gateway, "17")
        await made(client, gateway)
        gateway.on("GET", CREATE, RUNNING)
        told = await ask(client, "get_video", {"task_id": unknown})
    assert told.data["state"] == "running", told.text
    assert len(gateway.requests("GET")) == 1


def test_a_long_text_gives_few_candidates() -> None:
    assert len(ids_within(" ".join(f"task_{number:08}" for number in range(1000)))) <= 24


async def test_what_is_settled_is_named_by_ids_alone(
    connect: Connect, gateway: FaultGateway, make_settings: Callable[..., Settings]
) -> None:
    async with connect() as client:
        await made(client, gateway)
        gateway.on("POST", CREATE, Answer(500))
        request_id = (await ask(client, *create())).data["request_id"]
    gateway.received.clear()
    task, request = f"(did you mean {ID}?); allowed: task_…", f"(did you mean {request_id}?); allowed: req_…"
    cases: list[tuple[str, str | None, str]] = []
    cases += [(request_id, text, f"task: is not an id {task}") for text in DRESSED]
    cases += [(request_id, text, f"task: is not the id of a task {task}") for text in ("gen_1", f"{ID}#2", f" {ID}")]
    cases += [(request_id, request_id, "task: is not the id of a task; allowed: task_…")]
    cases += [(request_id, "https://cdn.example/v.mp4", "task: is an address, not an id; allowed: task_…")]
    cases += [(f"`{request_id}`", None, f"request_id: is not an id {request}")]
    async with Studio.open(make_settings(base_url=gateway.address, api_key=KEY)) as studio:
        for named, text, words in cases:
            with pytest.raises(InvalidInput) as refused:
                await studio.settle(named, text)
            assert words in refused.value.message
        with pytest.raises(InvalidInput):
            await studio.candidates(f"`{request_id}`")
        assert (await studio.get(request_id)).state == "unknown"
    assert gateway.received == []


async def test_an_id_of_one_variant_means_that_variant(connect: Connect, gateway: FaultGateway) -> None:
    generations = [{"id": f"gen_{number}", "url": f"{gateway.address}/{number}.mp4"} for number in (1, 2)]
    gateway.on("POST", CREATE, create_accepted(ID))
    gateway.on("GET", CREATE, task_reply("SUCCESS", task_id=ID, data={"generations": generations}))
    gateway.on("GET", "/2.mp4", Answer(200, MP4))
    async with connect() as client:
        await ask(client, *create(n_variants=2))
        assert (await ask(client, "get_video", {"task_id": ID})).data["state"] == "succeeded"
        saved = await ask(client, "download_video", {"task_id": "gen_2"})
        assert saved.data["variant"] == 2, saved.text
        told = await ask(client, "download_video", {"task_id": "gen_2", "variant": 3})
        assert "variant: 3 cannot be combined with the id of variant 2; allowed: one of the two" in told.text
        for tool in FREE_TOOLS:
            told = await ask(client, tool, {"task_id": "gen_2#1"})
            assert "task_id: has a # after the id of one variant; allowed: gen_… or task_…#2" in told.text


@pytest.mark.parametrize("tool", FREE_TOOLS)
async def test_a_variant_that_does_not_exist_is_refused_with_those_that_do(
    connect: Connect, gateway: FaultGateway, tool: str
) -> None:
    async with connect() as client:
        await made(client, gateway)
        told = await ask(client, tool, {"task_id": f"{ID}#3"})
        assert f"task_id: {ID} has no variant 3; allowed: 1." in told.text
        told = await ask(client, tool, {"task_id": f"{ID}#second"})
        assert "task_id: has no variant number after its #; allowed: task_…#2 for the second." in told.text
    assert gateway.received == []
