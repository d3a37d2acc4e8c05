"""What the rooms above ask of a dialect, held to one that shares no path and no body with the documented one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self, cast

import pytest
from bench import KEY
from fault_gateway import FaultGateway, says
from mcp import Client

from sora_mcp import dialects
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Settle
from sora_mcp.core.capabilities import Capabilities, Size
from sora_mcp.core.errors import OutcomeUnknown
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tasks import Generation, Task
from sora_mcp.dialects.protocol import WEB, Call, CannotExpress, Created
from sora_mcp.dialects.replies import Reply, parse_json
from sora_mcp.server import build

pytestmark = pytest.mark.anyio


TABLES = Capabilities(sizes={(64, 64): Size("1:1", "64p", 7.0)}, lengths={30: 1.0}, max_variants=1)


@dataclass(frozen=True)
class Toy:
    """One size, one length, a prompt and nothing else."""

    capabilities: Capabilities = TABLES

    @classmethod
    def configured(cls, _: Settings) -> Self:
        return cls()

    def check(self, request: VideoRequest) -> None:
        if request.operation != "simple_compose":
            raise CannotExpress("operation", f"this gateway has no {request.operation}", "create_video")
        request.check(self.capabilities)

    def create(self, request: VideoRequest) -> Call:
        return Call(method="POST", path="/toys", json={"text": request.prompt})

    def read_created(self, reply: Reply) -> Created:
        if reply.status != 202:
            raise OutcomeUnknown(f"The gateway answered with status {reply.status}.", Settle())
        return Created(parse_json(reply)["toy"])

    def query(self, task_id: str) -> Call:
        return Call(method="GET", path=f"/toys/{task_id}")

    def read_task(self, reply: Reply, task_id: str, *, schemes: frozenset[str] = WEB) -> Task:
        assert parse_json(reply)["toy"] == task_id
        assert schemes == WEB
        return Task(state="succeeded", generations=(Generation(variant=1, url="https://cdn.example/toy.mp4"),))

    def knows_state(self, word: str) -> bool:
        raise AssertionError(word)

    def upload(self, name: str, content: bytes) -> Call:
        raise CannotExpress("inpaint_items", f"{name} ({len(content)} bytes) cannot be taken", "a text")

    def read_uploaded(self, reply: Reply) -> str:
        raise AssertionError(reply)

    def models(self) -> Call:
        return Call(method="GET", path="/toys")

    def read_models(self, reply: Reply) -> list[str]:
        return [str(parse_json(reply))]


@pytest.fixture
def toy(
    monkeypatch: pytest.MonkeyPatch, make_settings: Callable[..., Settings], gateway: FaultGateway
) -> Callable[[], Client]:
    """A client of a server whose gateway speaks the toy dialect."""
    monkeypatch.setitem(cast("dict[str, Any]", dialects.DIALECTS), "sora", Toy.configured)
    gateway.on("POST", "/toys", says({"toy": "t1"}, 202))
    gateway.on("GET", "/toys", says({"toy": "t1"}))
    return lambda: Client(build(make_settings(base_url=gateway.address, api_key=KEY)))


SMALL = {"prompt": "fly man", "width": 64, "height": 64, "n_frames": 30}


async def test_a_video_is_made_and_asked_about_in_the_dialects_words(
    toy: Callable[[], Client], gateway: FaultGateway
) -> None:
    async with toy() as client:
        made = (await client.call_tool("create_video", SMALL)).structured_content or {}
        seen = (await client.call_tool("get_video", {"task_id": "t1"})).structured_content or {}
    assert (made["task_id"], made["cost"]) == ("t1", 7.0)
    assert (seen["state"], seen["generations"][0]["url"]) == ("succeeded", "https://cdn.example/toy.mp4")
    assert (seen["prompt"], seen["width"]) == ("fly man", 64)  # the ledger keeps the request, not the dialect's body
    assert [(r.method, r.path) for r in gateway.received] == [("POST", "/toys"), ("GET", "/toys/t1")]
    assert json.loads(gateway.received[0].body) == {"text": "fly man"}


@pytest.mark.parametrize(
    ("tool", "arguments", "named"),
    [
        ("remix_video", {"prompt": "x", "source_generation_id": "gen_1", **SMALL}, ("operation", "no remix")),
        ("create_video", {"prompt": "x"}, ("width, height", "64x64")),
    ],
)
async def test_what_it_cannot_say_is_refused_before_anything_is_sent(
    tool: str, arguments: dict[str, Any], named: tuple[str, str], toy: Callable[[], Client], gateway: FaultGateway
) -> None:
    async with toy() as client:
        result = await client.call_tool(tool, arguments)
    assert result.is_error
    assert all(word in str(result.content) for word in named)
    assert gateway.received == []


async def test_an_answer_that_it_cannot_read_leaves_the_outcome_unknown(
    toy: Callable[[], Client], gateway: FaultGateway
) -> None:
    gateway.on("POST", "/toys", says({}, 202))
    async with toy() as client:
        result = await client.call_tool("create_video", SMALL)
    assert (result.structured_content or {})["outcome"] == "unknown"
    assert len(gateway.received) == 1
