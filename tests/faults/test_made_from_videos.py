"""What is made from earlier videos: their files are got first, then the same rules hold as for every paid call."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import ACCEPTED_NEXT, environment
from calls import ask
from clips import children
from fault_gateway import NEXT_ID, Answer, FaultGateway, Hold, fault_gateway, says
from faults import CASES, Case
from mcp import Client
from wire import host

from sora_mcp.config.settings import Settings, load
from sora_mcp.media.render import Scene, render
from sora_mcp.server import build

pytestmark = pytest.mark.anyio

VIDEOS = "/v1/videos"
CONTENT = f"{VIDEOS}/video_a/content"
OBJECT = {"object": "video", "status": "queued", "progress": 0}
REMIX = ("remix_video", {"source_generation_id": "video_a", "prompt": "at night"})
_ITEMS = [{"generation_id": "video_a"}, {"generation_id": "video_b"}]
BLEND = ("blend_videos", {"inpaint_items": _ITEMS, "prompt": "one into the other"})
MODELS = {"remix_video": "Wan-AI/Wan2.1-VACE-14B", "blend_videos": "MiniMaxAI/MiniMax-H3"}
AT_THE_POST = [case for case in CASES if case.target == "gateway" and not case.greeting]
A_FEW = [case for case in AT_THE_POST if case.fault in {"reset", "stall", "plain 500", "400"}]
AGREES = {"accepted": {"submitted"}, "unknown": {"unknown"}, "rejected": {"rejected"}, "not_submitted": {"rejected"}}


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    render(Scene(width=320, height=192, n_frames=17, prompt="fly man", fps=16), path)
    return path.read_bytes()


def set_up(gateway: FaultGateway, film: bytes, answer: Answer) -> None:
    """Two finished videos, and how a create is answered."""
    gateway.create_path = VIDEOS
    gateway.on("POST", VIDEOS, answer)
    gateway.on("GET", "/v1/models", says({"data": []}))
    for name in ("video_a", "video_b"):
        gateway.on("GET", f"{VIDEOS}/{name}", says(OBJECT | {"id": name, "status": "completed"}))
        gateway.on("GET", f"{VIDEOS}/{name}/content", Answer(200, film, {"Content-Type": "video/mp4"}))


ACCEPTED = says(OBJECT | {"id": NEXT_ID.decode()})


def rows(ledger: Path) -> list[str]:
    """The states of what was paid for here."""
    with closing(sqlite3.connect(ledger)) as db:
        return [row[0] for row in db.execute("SELECT state FROM videos WHERE fingerprint IS NOT NULL ORDER BY number")]


@pytest.fixture
async def gateway(film: bytes) -> AsyncIterator[FaultGateway]:
    async with fault_gateway() as opened:
        set_up(opened, film, ACCEPTED)
        yield opened


async def measure(case: Case, tool: str, arguments: dict[str, Any], film: bytes, folder: Path) -> tuple[int, str, str]:
    """How many tasks the gateway made of a call, what was told, and what is recorded."""
    answer = replace(case.answer, body=ACCEPTED.body) if case.answer.body == ACCEPTED_NEXT.body else case.answer
    patience = 3.0 if case.fault in {"stall", "drip"} else 20.0
    async with fault_gateway() as opened:
        set_up(opened, film, answer)
        settings = load(
            {},
            base_url=opened.address,
            home=folder,
            create_timeout=patience,
            dialect="videos:vllm-omni",
            model=MODELS[tool],
        )
        async with Client(build(settings)) as client:
            told = await client.call_tool(tool, arguments)
        recorded = await anyio.to_thread.run_sync(rows, folder / "ledger.sqlite3")
        return len(opened.accepted()), (told.structured_content or {})["outcome"], ", ".join(recorded)


@pytest.mark.parametrize(("call", "cases"), [(REMIX, AT_THE_POST), (BLEND, A_FEW)], ids=["remix", "blend"])
async def test_a_paid_call_that_breaks_is_accepted_once_at_most_and_told_as_it_is(
    call: tuple[str, dict[str, Any]], cases: list[Case], film: bytes, tmp_path: Path
) -> None:
    measured: dict[int, tuple[int, str, str]] = {}
    at_once = anyio.CapacityLimiter(8)

    async def run(number: int) -> None:
        async with at_once:
            measured[number] = await measure(cases[number], *call, film, tmp_path / str(number))

    async with anyio.create_task_group() as group:
        for number in range(len(cases)):
            group.start_soon(run, number)
    for number, (accepted, told, recorded) in measured.items():
        case = cases[number]
        assert accepted <= 1, case
        assert recorded in AGREES[told], (case, told, recorded)
        assert (told in {"accepted", "unknown"}) if accepted else (told != "accepted"), case


@pytest.mark.parametrize(("tool", "arguments"), [REMIX, BLEND], ids=["remix", "blend"])
async def test_the_same_call_at_the_same_time_is_paid_for_once(
    tool: str, arguments: dict[str, Any], gateway: FaultGateway, make_settings: Callable[..., Settings]
) -> None:
    settings = make_settings(base_url=gateway.address, dialect="videos:vllm-omni", model=MODELS[tool])
    told: list[Any] = []
    async with Client(build(settings)) as client, Client(build(settings)) as other:

        async def call(who: Client) -> None:
            told.append((await ask(who, tool, arguments)).data)

        async with anyio.create_task_group() as calls:
            for who in (client, other, client):
                calls.start_soon(call, who)
    assert len({each["task_id"] for each in told}) == 1
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize(("tool", "arguments"), [REMIX, BLEND], ids=["remix", "blend"])
async def test_a_call_that_is_given_up_while_its_source_is_fetched_pays_nothing(
    tool: str, arguments: dict[str, Any], film: bytes, gateway: FaultGateway, make_settings: Callable[..., Settings]
) -> None:
    hold = Hold()
    gateway.on("GET", CONTENT, Answer(200, film, {"Content-Type": "video/mp4"}, hold=hold))
    settings = make_settings(base_url=gateway.address, dialect="videos:vllm-omni", model=MODELS[tool])
    async with Client(build(settings)) as client:
        with anyio.fail_after(20):
            async with anyio.create_task_group() as calls:
                calls.start_soon(ask, client, tool, arguments)
                await hold.reached.wait()
                calls.cancel_scope.cancel()
        hold.release.set()
        listed = await ask(client, "list_videos", {})
        assert gateway.creates() == []
        assert {each["task_id"] for each in listed.data["videos"]} <= {"video_a", "video_b"}
        assert (await ask(client, tool, arguments)).data["outcome"] == "accepted"
    assert len(gateway.creates()) == 1


async def test_a_server_that_is_killed_while_it_fetches_has_paid_nothing_and_pays_once_later(
    film: bytes, gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("GET", CONTENT, Answer(200, film, {"Content-Type": "video/mp4"}, hold=hold))
    tool, arguments = REMIX
    settings = environment(tmp_path, gateway, DIALECT="videos:vllm-omni", MODEL=MODELS[tool])
    with anyio.fail_after(60):
        async with host(settings) as server:
            await server.start()
            await server.call(tool, arguments)
            await hold.reached.wait()
            await server.kill()
        hold.release.set()
        assert gateway.creates() == []
        async with host(settings) as server:
            await server.start()
            told = await server.use(tool, **arguments)
            again = await server.use(tool, **arguments)
    assert (told["outcome"], again["duplicate"], again["task_id"]) == ("accepted", True, told["task_id"])
    assert len(gateway.creates()) == 1


async def test_the_server_itself_decodes_nothing_of_what_it_sends(gateway: FaultGateway, tmp_path: Path) -> None:
    tool, arguments = BLEND
    async with host(environment(tmp_path, gateway, DIALECT="videos:vllm-omni", MODEL=MODELS[tool])) as server:
        with anyio.fail_after(40):
            await server.start()
            known = children(server.pid)
            assert (await server.use(tool, **arguments))["outcome"] == "accepted"
            assert children(server.pid) == known
        loaded = await anyio.Path(f"/proc/{server.pid}/maps").read_text()
    assert "libavcodec" not in loaded
    assert "_imaging" not in loaded
