"""Several servers share a ledger, behind a balancer that knows no sessions: any may answer any call, on both eras."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import mcp_types as types
import pytest
from bench import TAKEN_NEXT, Era, about, finished
from fault_gateway import CREATE, Answer, FaultGateway
from films import film
from mcp.client.context import ClientRequestContext
from postgres import Cluster
from several import Several, several

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning"),
]

DEAR = {"prompt": "fly man", "width": 1280, "height": 720}


@pytest.fixture
async def servers(tmp_path: Path, cluster: Cluster, gateway: FaultGateway) -> AsyncIterator[Several]:
    """Two servers that ask before what costs more than 1.25."""
    gateway.on("POST", CREATE, TAKEN_NEXT)
    async with several(tmp_path, cluster.database(), gateway, AUTH="tokens", ASK_ABOVE_COST="1.25") as made:
        yield made


async def call(client: Any, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content[0].text
    return dict(result.structured_content or {"content": result.content})


async def test_a_whole_conversation_with_both(
    servers: Several, gateway: FaultGateway, era: Era, tmp_path: Path
) -> None:
    film(tmp_path / "film.mp4", [number / 10 for number in range(20)])
    gateway.on("GET", "/film.mp4", Answer(200, (tmp_path / "film.mp4").read_bytes(), {"Content-Type": "video/mp4"}))
    gateway.on("GET", CREATE, about("IN_PROGRESS", progress="40%"))
    heard: list[float] = []

    async def progress(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
        heard.append(progress)

    with anyio.fail_after(60):
        async with servers.client("ann", era) as ann:
            made = await call(ann, "create_video", prompt="fly man")
            gateway.on("GET", CREATE, about("IN_PROGRESS", progress="40%"))
            await ann.call_tool(
                "get_video", {"task_id": made["task_id"], "wait_seconds": 2}, progress_callback=progress
            )
            gateway.on("GET", CREATE, finished(f"{gateway.address}/film.mp4"))
            assert (await call(ann, "get_video", task_id=made["task_id"], wait_seconds=30))["state"] == "succeeded"
            assert (await call(ann, "view_video", task_id=made["task_id"]))["content"]
            saved = await call(ann, "download_video", task_id=made["task_id"])
            listed = await call(ann, "list_videos")
            assert [each["task_id"] for each in listed["videos"]] == [made["task_id"]]
            assert saved["outcome"] == "saved"
    assert heard
    assert set(servers.balancer.served) == {0, 1}


class User:
    """Says yes, after `before`."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:  # noqa: ARG002
        self.asked.append(params.message)
        return types.ElicitResult(action="accept", content={"pay": True})


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
async def test_whichever_server_is_asked_and_answered_the_user_is_asked_once(
    servers: Several, gateway: FaultGateway, era: Era, turns: int
) -> None:
    user = User()
    with anyio.fail_after(60):
        async with servers.client("ann", era, user=user) as ann:
            for _ in range(turns):
                await ann.list_tools()
            made = await call(ann, "create_video", **DEAR)
            assert made["outcome"] == "accepted"
    assert len(user.asked) == 1
    assert len(gateway.creates()) == 1
