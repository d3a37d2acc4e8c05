"""Several servers share a ledger and a folder, behind a balancer that knows no sessions: any may answer any call.

The folder is mounted at another place by each of them.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import mcp_types as types
import pytest
from bench import ACCEPTED_NEXT, Era, finished, task_reply
from callers import ACCEPT, INITIALIZE_PARAMS
from fault_gateway import CREATE, Answer, FaultGateway, Hold, fault_gateway
from films import film
from listeners import ChangeListener
from mcp import Client
from mcp.client.context import ClientRequestContext
from photos import corner
from postgres import Cluster
from server_group import ServerGroup, server_group

from sora_mcp.gateway.folder import MARKER_NAME

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning"),
]

DEAR = {"width": 1280, "height": 720}
SPARE = 2
"""A server that a test may kill; the balancer gives it nothing."""
RUNS = task_reply("IN_PROGRESS", progress="40%")


@dataclass
class House:
    """Two servers, their gateway, and the folder that they share."""

    servers: ServerGroup
    gateway: FaultGateway
    videos: Path

    def client(self, name: str, era: Era = "auto", **values: Any) -> Client:
        return self.servers.client(name, era, **values)

    def finish(self) -> None:
        """Every task has succeeded from now on."""
        self.gateway.on("GET", CREATE, finished(f"{self.gateway.address}/film.mp4"))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def at_home(tmp_path_factory: pytest.TempPathFactory, cluster: Cluster) -> AsyncIterator[House]:
    folder = tmp_path_factory.mktemp("any-server")
    (folder / "videos").mkdir()
    for number in range(SPARE + 1):
        (folder / f"mount_{number}").symlink_to(folder / "videos")
    film(folder / "film.mp4", [number / 10 for number in range(20)])
    settings = {"AUTH": "tokens", "ASK_ABOVE_COST": "1.25", "OUTPUT_DIR": str(folder / "mount_{n}")}
    async with fault_gateway() as gateway:
        gateway.on("POST", CREATE, ACCEPTED_NEXT)
        gateway.on("GET", "/film.mp4", Answer(200, (folder / "film.mp4").read_bytes(), {"Content-Type": "video/mp4"}))
        async with server_group(folder, cluster.database(), gateway, number=SPARE + 1, **settings) as servers:
            servers.balancer.servers = servers.servers[:SPARE]
            yield House(servers, gateway, folder / "videos")


@pytest.fixture
def house(at_home: House) -> House:
    """The same, whose tasks run."""
    at_home.gateway.on("GET", CREATE, RUNS)
    at_home.servers.balancer.served.clear()
    return at_home


async def call(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    return dict(result.structured_content or {"content": result.content})


async def made(client: Client, prompt: str, **arguments: Any) -> str:
    """The task of a create."""
    return str((await call(client, "create_video", prompt=prompt, **arguments))["task_id"])


class User:
    """Says yes."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def __call__(self, context: ClientRequestContext, params: types.ElicitRequestParams) -> types.ElicitResult:  # noqa: ARG002 - the callback names them
        self.asked.append(params.message)
        return types.ElicitResult(action="accept", content={"pay": True})


async def test_a_whole_conversation_with_both(house: House, era: Era) -> None:
    updates: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - likewise
        updates.append(progress)

    with anyio.fail_after(60):
        async with house.client("ann", era) as ann:
            task_id = await made(ann, f"whole {era}")
            await ann.call_tool("get_video", {"task_id": task_id, "wait_seconds": 2}, progress_callback=hear)
            house.finish()
            assert (await call(ann, "get_video", task_id=task_id, wait_seconds=30))["state"] == "succeeded"
            assert (await call(ann, "view_video", task_id=task_id))["content"]
            assert (await call(ann, "download_video", task_id=task_id))["outcome"] == "saved"
            assert task_id in [each["task_id"] for each in (await call(ann, "list_videos"))["videos"]]
    assert updates
    assert set(house.servers.balancer.served) == {0, 1}


async def test_whichever_server_asks_the_user_is_asked_once_and_their_yes_counts_once(house: House, era: Era) -> None:
    for turns in range(4):
        user, before = User(), len(house.gateway.creates())
        with anyio.fail_after(60):
            async with house.client("ann", era, user=user) as ann:
                for _ in range(turns):
                    await ann.list_tools()
                await made(ann, f"dear {era} {turns}", **DEAR)
        assert len(user.asked) == 1
        assert len(house.gateway.creates()) == before + 1


async def test_the_first_of_several_answers_counts_though_another_server_passes_them_on(house: House) -> None:
    no, yes = {"action": "decline"}, {"action": "accept", "content": {"pay": True}}
    asked, heard = (each.address for each in house.servers.servers[:2])
    headers = ACCEPT | {"Authorization": f"Bearer {house.servers.token('gus')}"}
    async with httpx.AsyncClient(headers=headers, timeout=20, trust_env=False) as http:

        async def answer(question_id: str, result: dict[str, Any]) -> None:
            await http.post(heard, json={"jsonrpc": "2.0", "id": question_id, "result": result})

        hello = INITIALIZE_PARAMS | {"capabilities": {"elicitation": {}}}
        opened = await http.post(asked, json={"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello})
        http.headers["Mcp-Session-Id"] = opened.headers["mcp-session-id"]
        for number in range(5):
            arguments = DEAR | {"prompt": f"first no, then yes {number}"}
            params = {"name": "create_video", "arguments": arguments}
            message = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}
            async with http.stream("POST", asked, json=message) as stream, anyio.create_task_group() as tasks:
                async for line in stream.aiter_lines():
                    reply = json.loads(line.removeprefix("data:")) if line.startswith("data: {") else {}
                    if reply.get("method") == "elicitation/create":
                        await answer(reply["id"], no)
                        for _ in range(10):
                            tasks.start_soon(answer, reply["id"], yes)
                    elif "result" in reply:
                        assert reply["result"]["structuredContent"]["outcome"] == "not_submitted", reply


@pytest.mark.parametrize("turns", [0, 1])
async def test_a_subscriber_at_one_is_told_of_what_another_found_out(house: House, era: Era, turns: int) -> None:
    listener = ChangeListener()
    with anyio.fail_after(60):
        async with (
            house.client("ann", era, message_handler=listener) as ann,
            house.client("ann", at=turns) as elsewhere,
        ):
            for _ in range(turns):
                await ann.list_tools()
            task_id = await made(elsewhere, f"told {era} {turns}")
            async with listener.subscribed(ann, f"sora://videos/{task_id}"):
                count = len(listener.received)
                house.finish()
                await call(elsewhere, "get_video", task_id=task_id, wait_seconds=30)
                await listener.wait_for(f"sora://videos/{task_id}", count + 1)
                await listener.wait_until_succeeded(ann, f"sora://videos/{task_id}")


async def test_a_wait_at_one_ends_when_another_finds_out(house: House) -> None:
    with anyio.fail_after(60):
        async with house.client("ann", at=0) as here, house.client("ann", at=1) as there:
            task_id = await made(here, "waited for")
            states: list[str] = []

            async def wait() -> None:
                states.append((await call(here, "get_video", task_id=task_id, wait_seconds=40))["state"])

            async with anyio.create_task_group() as waiting:
                waiting.start_soon(wait)
                house.finish()
                await call(there, "get_video", task_id=task_id, wait_seconds=40)
            assert states == ["succeeded"]


async def test_a_session_is_its_owners_and_ends_everywhere(house: House) -> None:
    opening = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE_PARAMS}
    listing = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
    first, second = (each.address for each in house.servers.servers[:SPARE])
    with anyio.fail_after(60):
        async with httpx.AsyncClient(headers=ACCEPT, timeout=20, trust_env=False) as http:
            ann, ben = ({"Authorization": f"Bearer {house.servers.token(name)}"} for name in ("ann", "ben"))
            answer = await http.post(first, json=opening, headers=ann)
            session = {"Mcp-Session-Id": answer.headers["mcp-session-id"]}
            assert (await http.post(second, json=listing, headers=ann | session)).status_code == 200
            assert (await http.post(second, json=listing, headers=ben | session)).status_code == 404
            for wrong in ("any.", "any.WzFd", "0" * 32, session["Mcp-Session-Id"][:-2]):
                answer = await http.post(second, json=listing, headers=ann | {"Mcp-Session-Id": wrong})
                assert answer.status_code == 404
                assert "Initialize again" in answer.text
            assert (await http.delete(first, headers=ann | session)).status_code == 200
            while (await http.post(second, json=listing, headers=ann | session)).status_code != 404:  # noqa: ASYNC110 - it is on its way
                await anyio.sleep(0.01)


# --- files ------------------------------------------------------------------------------------------


async def finished_video(house: House, prompt: str) -> str:
    """A video that has been made."""
    async with house.client("ann") as ann:
        task_id = await made(ann, prompt)
        house.finish()
        assert (await call(ann, "get_video", task_id=task_id, wait_seconds=30))["state"] == "succeeded"
    return task_id


def files_of(house: House, task_id: str) -> list[Path]:
    return list(house.videos.rglob(f"*{task_id}*"))


async def test_what_one_has_saved_another_finds_though_its_mount_is_another(house: House) -> None:
    with anyio.fail_after(60):
        task_id = await finished_video(house, "saved once")
        outcomes: list[str] = []
        for at in (0, 1):
            async with house.client("ann", at=at) as ann:
                outcomes.append((await call(ann, "download_video", task_id=task_id))["outcome"])
        assert outcomes == ["saved", "already_saved"]
        (file,) = files_of(house, task_id)
        file.unlink()  # by hand
        async with house.client("ann", at=1) as ann:
            assert (await call(ann, "download_video", task_id=task_id))["outcome"] == "saved"
            link = (await call(ann, "download_video", task_id=task_id))["url"]
        here, there = (each.address.removesuffix("/mcp") for each in house.servers.servers[:SPARE])
        async with httpx.AsyncClient(trust_env=False) as http:
            for address in (here, there):
                assert (await http.get(link.replace(there, address))).content == file.read_bytes()


async def test_two_that_save_the_same_video_at_once_end_with_one_whole_file(house: House) -> None:
    with anyio.fail_after(60):
        task_id = await finished_video(house, "saved twice")
        outcomes: list[str] = []

        async def save(at: int) -> None:
            async with house.client("ann", at=at) as ann:
                outcomes.append((await call(ann, "download_video", task_id=task_id))["outcome"])

        async with anyio.create_task_group() as saving:
            for at in (0, 1, 0, 1):
                saving.start_soon(save, at)
        assert set(outcomes) <= {"saved", "already_saved"}
        (file,) = files_of(house, task_id)
        assert file.stat().st_size == len(await anyio.Path(house.videos.parent / "film.mp4").read_bytes())


async def test_while_the_folder_is_not_mounted_nothing_is_saved_elsewhere_and_the_rest_goes_on(house: House) -> None:
    with anyio.fail_after(60):
        await finished_video(house, "before")
        first, second = await finished_video(house, "first"), await finished_video(house, "second")
        async with house.client("ann", at=0) as ann:
            assert (await call(ann, "download_video", task_id=first))["outcome"] == "saved"
            away = house.videos.rename(house.videos.with_name("away"))
            house.videos.mkdir()  # what lies below a mount
            try:
                answer = await ann.call_tool("download_video", {"task_id": second})
                assert answer.is_error
                assert "may not be mounted" in str(answer.content)
                assert await call(ann, "list_videos")
                assert list(house.videos.iterdir()) == []
            finally:
                house.videos.rmdir()
                away.rename(house.videos)
            assert (await call(ann, "download_video", task_id=second))["outcome"] == "saved"


async def test_a_download_that_was_killed_midway_is_made_by_another_and_its_half_goes(house: House) -> None:
    hold, spare = Hold(), house.servers.servers[SPARE].process
    whole = Answer(200, (house.videos.parent / "film.mp4").read_bytes(), {"Content-Type": "video/mp4"})
    with anyio.fail_after(90):
        task_id = await finished_video(house, "killed midway")
        house.gateway.on("GET", "/film.mp4", replace(whole, hold=hold, at="in_reply_body"), whole)
        async with anyio.create_task_group() as saving:

            async def save() -> None:
                with suppress(Exception):  # whatever a client makes of a server that was killed
                    async with house.client("ann", at=SPARE) as ann:
                        await ann.call_tool("download_video", {"task_id": task_id})

            saving.start_soon(save)
            await hold.reached.wait()
            while not files_of(house, task_id):  # noqa: ASYNC110 - the folder tells nobody
                await anyio.sleep(0.01)
            spare.kill()
            await spare.wait()
            saving.cancel_scope.cancel()
        hold.release.set()
        (half,) = files_of(house, task_id)
        assert half.suffix == ".part"
        async with house.client("ann", at=1) as ann:
            assert (await call(ann, "download_video", task_id=task_id))["outcome"] == "saved"
            assert len(files_of(house, task_id)) == 2  # whoever began it might be slow
            for each in (half, house.videos / MARKER_NAME):
                os.utime(each, times=(0, 0))
            await call(ann, "download_video", task_id=await finished_video(house, "another"))
        (file,) = files_of(house, task_id)
        assert file.suffix == ".mp4"


async def test_an_image_that_was_sent_to_one_is_used_by_another(house: House) -> None:
    with anyio.fail_after(60):
        async with house.client("ann", at=0) as here, house.client("ann", at=1) as there:
            image = [{"url": "/home/ann/cat.png"}]
            refused = await here.call_tool("create_video", {"prompt": "cat", "inpaint_items": image})
            link = re.search(r"https?://\S+/images/[\w.-]+", str(refused.content))
            assert link is not None
            async with httpx.AsyncClient(trust_env=False) as http:
                sent = (await http.put(link[0], content=corner("PNG"))).json()
            plan = await call(there, "create_video", prompt="cat", inpaint_items=[{"url": sent["url"]}], dry_run=True)
            assert plan["outcome"] == "not_submitted"


@pytest.mark.parametrize("name", ["MCP-Protocol-Version", "Mcp-Session-Id"])
async def test_headers_in_bytes_of_no_text_are_refused_in_words(house: House, name: str) -> None:
    headers = [(b"Authorization", f"Bearer {house.servers.token('ann')}".encode()), (name.encode(), b"\xff\xfe")]
    headers += [(key.encode(), value.encode()) for key, value in ACCEPT.items()]
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE_PARAMS}
    with anyio.fail_after(60):
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(house.servers.servers[0].address, headers=headers, content=json.dumps(message))
    assert 400 <= answer.status_code < 500, answer.text
