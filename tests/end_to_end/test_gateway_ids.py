"""Ids that are not `task_…`: whatever a gateway calls a task, it is found again, and its id does no harm anywhere."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import anyio
import mcp_types as types
import pytest
from bench import KEY, MP4, Connect, create_accepted, task_reply
from calls import ToolReply, ask, create
from fault_gateway import CREATE, Answer, FaultGateway, says
from hypothesis import given
from hypothesis import strategies as st
from mcp import Client
from resources import text

from sora_mcp.core.ids import is_id
from sora_mcp.dialects.sora import Sora
from sora_mcp.server import build
from sora_mcp.server.addresses import video_uri
from sora_mcp.server.resources import FILE, find, video_id_from
from sora_mcp.studio.ids import file_stem

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]

PLAIN = [
    "17",
    "job:1+2=3/4",
    "0b8f1f0e-6a0e-4c43-9d4d-2d2f6f1f8b11",
    "req_abc",
    "gen_abc",
    "CON",
    "...",
    "-rf",
    "x" * 100,
]
STRANGE = [
    "a/b?c=d&e",
    "a#2",
    "job#x",
    "é",
    "视频1",
    "%2e%2e",
    "...",
    "-rf",
    "~a",
    'a"b"',
    "it's",
    "<b>",
    "x" * 300,
    "a\\b",
    "`id`",
]
IDS = [*PLAIN, *STRANGE]


def made(gateway: FaultGateway, task_id: str) -> str:
    """The gateway calls the next task so, and has finished it; the path of its state."""
    generation = {"id": "source#1", "url": f"{gateway.address}/v.mp4", "width": 480, "height": 480, "n_frames": 150}
    gateway.on("POST", CREATE, says({"task_id": task_id}), create_accepted("task_other"))
    gateway.on("GET", CREATE, task_reply("SUCCESS", task_id=task_id, data={"generations": [generation]}))
    gateway.on("GET", "/v.mp4", Answer(200, MP4))
    return Sora().query(task_id).path


async def submitted(client: Client, task_id: str) -> ToolReply:
    told = await ask(client, *create())
    assert (told.data["outcome"], told.data["task_id"]) == ("accepted", task_id), told.text
    return told


@pytest.mark.parametrize("task_id", IDS, ids=ascii)
async def test_a_task_of_any_id_is_found_shown_saved_and_remixed(
    connect: Connect, gateway: FaultGateway, tmp_path: Path, task_id: str
) -> None:
    path, uri = made(gateway, task_id), f"sora://videos/{quote(task_id, safe='')}"
    async with connect() as client:
        created = await ask(client, *create())
        seen = await ask(client, "get_video", {"task_id": task_id})
        resource = await text(client, uri)
        listed = [each.uri for each in (await client.list_resources()).resources]
        saved = await ask(client, "download_video", {"task_id": task_id})
        remixed = await ask(client, "remix_video", {"source_generation_id": task_id, "prompt": "at night"})
    assert (created.data["outcome"], created.data["task_id"]) == ("accepted", task_id)
    assert task_id in PLAIN or f" {task_id} " not in created.text  # it could be a sentence
    assert (seen.data["state"], seen.data["task_id"]) == ("succeeded", task_id), seen.text
    assert path.count("/") == 4
    assert path in {request.path for request in gateway.requests("GET")} <= {path, "/v.mp4"}
    assert (resource["task_id"], listed[3:]) == (task_id, [uri])
    await assert_saved_in(tmp_path / "videos", saved)
    assert remixed.data["outcome"] == "accepted", remixed.text
    assert gateway.creates()[1].json()["sdedit"]["source_generation_id"] == "source#1"


async def assert_saved_in(folder: Path, saved: ToolReply) -> None:
    """The file lies in the folder itself, under a name that every file system takes."""
    path = Path(saved.data["path"])
    assert path.parent == folder, saved.text
    assert len(path.name) <= 110
    assert path.name.replace("-", "").replace("_", "").replace(".", "").isalnum()
    assert await anyio.Path(path).read_bytes() == MP4


@pytest.mark.parametrize("source", ["source#1", "17#1", "17"])
async def test_a_source_may_be_named_with_its_variant_or_by_its_generation(
    connect: Connect, gateway: FaultGateway, source: str
) -> None:
    made(gateway, "17")
    async with connect() as client:
        await submitted(client, "17")
        await ask(client, "get_video", {"task_id": "17"})
        told = await ask(client, "remix_video", {"source_generation_id": source, "prompt": "at night"})
    assert told.data["outcome"] == "accepted", told.text
    assert gateway.creates()[1].json()["sdedit"]["source_generation_id"] == "source#1"


@pytest.mark.parametrize("source", ["18", "18#1", "17#2", "17#x", "..", "a b"])
async def test_a_source_that_nobody_knows_is_refused(connect: Connect, gateway: FaultGateway, source: str) -> None:
    made(gateway, "17")
    async with connect() as client:
        await submitted(client, "17")
        await ask(client, "get_video", {"task_id": "17"})
        told = await ask(client, "remix_video", {"source_generation_id": source, "prompt": "at night"})
    assert told.data["outcome"] == "not_submitted", told.text
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize(
    ("task_id", "is_kept"),
    [
        ("task_1", True),
        ("A.b-C_9", True),
        ("x" * 100, True),
        ("x" * 101, False),
        (".hidden", False),
        ("...", False),
        ("a:b", False),
        ("a/b", False),
        ("con", False),
        ("CON.tar", False),
        ("Lpt1", False),
        ("console", True),
        ("com10", True),
        ("é", False),
    ],
)
def test_a_file_is_named_after_an_id_that_every_file_system_takes(task_id: str, is_kept: bool) -> None:
    named: Any = SimpleNamespace(task_id=task_id, request_id="req_1")
    stem = file_stem(named)
    assert (stem == task_id) is is_kept
    assert is_kept or stem.startswith("video-")


@given(st.text(st.characters(), min_size=1, max_size=320))
def test_every_id_survives_its_address(task_id: str) -> None:
    if is_id(task_id):
        assert video_id_from(video_uri(task_id)) == task_id
        assert find(f"{video_uri(task_id)}/2.mp4") == (FILE, {"task_id": task_id, "variant": "2"})


async def test_further_ids_of_an_answer_are_shown_and_kept(connect: Connect, gateway: FaultGateway) -> None:
    gateway.on("POST", CREATE, says({"code": "success", "data": [{"task_id": "a1"}, {"task_id": "b2"}]}))
    async with connect() as client:
        told = await submitted(client, "a1")
        looked = await ask(client, "get_video", {"task_id": "a1"})
    assert "b2" in told.text
    assert looked.data["other_ids"] == ["b2"]


@pytest.mark.parametrize("task_id", [".", "..", "a b", "x" * 301, "a\u202eb", " "])
async def test_what_is_no_id_is_refused_in_words(connect: Connect, gateway: FaultGateway, task_id: str) -> None:
    async with connect() as client:
        told = await ask(client, "get_video", {"task_id": task_id})
    assert told.data["error"]["kind"] == "invalid_input"
    assert gateway.received == []


async def test_a_subscriber_may_spell_the_address_in_its_own_way(make_settings: Any, gateway: FaultGateway) -> None:
    gateway.on("POST", CREATE, says({"task_id": "a/b"}))
    gateway.on("GET", CREATE, task_reply("IN_PROGRESS", task_id="a/b", progress="40%"))
    uri, told = "sora://videos/a%2fb", anyio.Event()

    async def hear(message: object) -> None:
        if isinstance(message, types.ResourceUpdatedNotification) and message.params.uri == uri:
            told.set()

    server = build(make_settings(base_url=gateway.address, api_key=KEY))
    async with Client(server, mode="legacy", message_handler=hear) as client:
        await client.session.subscribe_resource(uri)
        await ask(client, *create())
        gateway.on("GET", CREATE, task_reply("SUCCESS", task_id="a/b"))
        with anyio.fail_after(30):
            await told.wait()
