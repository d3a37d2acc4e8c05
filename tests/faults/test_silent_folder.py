"""The folder that several servers share does not answer any more, or another lies in its place: whoever needs it is
told, and all else goes on."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from bench import ACCEPTED_NEXT, MP4, PNG, finished
from calls import create, item
from disks import silent_at
from fault_gateway import CREATE, Answer, FaultGateway
from mcp import Client
from postgres import Cluster
from server_group import server_group

from sora_mcp.gateway.folder import MAX_CONCURRENT

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


async def use(client: Client, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return dict((await client.call_tool(tool, arguments)).structured_content or {})


async def link_for_image(client: Client) -> str:
    refused = await use(client, *item(url="cat.png"))
    return str(re.findall(r"https?://\S+/images/[\w.-]+", refused["error"]["next_step"])[0])


@asynccontextmanager
async def anns(
    cluster: Cluster, gateway: FaultGateway, folder: Path
) -> AsyncIterator[tuple[Client, httpx.AsyncClient]]:
    """A server of a team whose videos are finished at once: what Ann's agent calls, and what opens her links."""
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, finished(f"{gateway.address}/video.mp4"))
    gateway.on("GET", "/video.mp4", Answer(200, MP4, {"Content-Type": "video/mp4"}))
    async with (
        server_group(folder, cluster.database(), gateway, number=1, AUTH="tokens") as servers,
        servers.client("ann", at=0) as client,
        httpx.AsyncClient(timeout=30, trust_env=False) as web,
    ):
        yield client, web


async def test_who_needs_the_folder_is_told_in_time_and_all_else_goes_on(
    cluster: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    answers: dict[str, Any] = {}
    async with anns(cluster, gateway, tmp_path) as (client, web):
        for number in (1, 2):
            await use(client, "create_video", {"prompt": f"number {number}"})
            await use(client, "get_video", {"task_id": f"task_{number}", "wait_seconds": 20})
        video = (await use(client, "download_video", {"task_id": "task_1"}))["url"]
        image = await link_for_image(client)

        async def ask(name: str, call: partial[Any]) -> None:
            answers[name] = await call()

        with silent_at(tmp_path / "videos"):
            with anyio.fail_after(35):
                async with anyio.create_task_group() as asking:
                    asking.start_soon(ask, "create", partial(use, client, *item(url=f"upload:{'0' * 32}")))
                    asking.start_soon(ask, "download", partial(use, client, "download_video", {"task_id": "task_1"}))
                    asking.start_soon(ask, "image", partial(web.put, image, content=PNG))
                    for number in range(MAX_CONCURRENT):
                        asking.start_soon(ask, f"link {number}", partial(web.get, video))
            created = answers.pop("create")
            assert created["outcome"] == "not_submitted", created
            assert "Nothing was submitted" in created["error"]["message"]
            assert "does not answer" in answers.pop("download")["error"]["message"]
            assert [(each.status_code, "does not answer" in each.text) for each in answers.values()] == [
                (503, True)
            ] * (MAX_CONCURRENT + 1)
            with anyio.fail_after(15):
                shown = await use(client, "view_video", {"task_id": "task_2"})
                assert "holds no video that can be shown" in shown["error"]["message"]  # it was fetched
                assert (await use(client, "create_video", {"prompt": "number 3"}))["outcome"] == "accepted"
        assert (await web.get(video)).content == MP4
        assert (await web.put(image, content=PNG)).status_code == 201
    assert len(gateway.creates()) == 3


@asynccontextmanager
async def unmounted(tmp_path: Path) -> AsyncIterator[None]:
    """Have an empty folder in the place of the videos' folder, in which nothing may be put."""
    folder, away = anyio.Path(tmp_path / "videos"), anyio.Path(tmp_path / "away")
    await folder.rename(away)
    await folder.mkdir()
    yield
    await folder.rmdir()
    await away.rename(folder)


async def test_a_folder_that_is_gone_since_the_start_gets_nothing_and_is_used_again_once_it_is_back(
    cluster: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    async with anns(cluster, gateway, tmp_path) as (client, web):
        await use(client, "create_video", {"prompt": "fly man"})
        await use(client, "get_video", {"task_id": "task_1", "wait_seconds": 20})
        image = await link_for_image(client)
        async with unmounted(tmp_path):
            told = await use(client, "download_video", {"task_id": "task_1"})
            assert "may not be mounted" in told["error"]["message"]
            sent = await web.put(image, content=PNG)
            assert (sent.status_code, "may not be mounted" in sent.text) == (507, True)
        assert (await use(client, "download_video", {"task_id": "task_1"}))["outcome"] == "saved"
        assert (await web.put(image, content=PNG)).status_code == 201


async def test_what_lies_in_a_folder_that_is_not_mounted_is_not_said_to_be_gone(
    cluster: Cluster, gateway: FaultGateway, tmp_path: Path
) -> None:
    async with anns(cluster, gateway, tmp_path) as (client, web):
        await use(client, "create_video", {"prompt": "fly man"})
        await use(client, "get_video", {"task_id": "task_1", "wait_seconds": 20})
        video = (await use(client, "download_video", {"task_id": "task_1"}))["url"]
        image = (await web.put(await link_for_image(client), content=PNG)).json()["url"]
        async with unmounted(tmp_path):
            assert (await web.get(video)).status_code == 503
            refused = await use(client, *item(url=image))
            assert refused["outcome"] == "not_submitted"
            assert "may not be mounted" in refused["error"]["message"]
            assert "send it again" not in str(refused).lower()
        assert (await web.get(video)).content == MP4
        planned = await use(client, *create(inpaint_items=[{"url": image}], dry_run=True))
        assert "error" not in planned
        await anyio.Path(next((tmp_path / "videos").rglob("*.mp4"))).unlink()  # by hand
        assert (await web.get(video)).status_code == 404
    assert len(gateway.creates()) == 1
