"""compose.yaml of docs/deploy, run as it stands where there is no container engine: its database, servers and proxy as
processes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx2
import jsonschema
import pytest
from bench import ERAS, Era
from deployed import DEPLOY, Deployment, compose, database, deployment, instructions, last, replicas
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from nginx import CONFIGURATION, NAME, NGINX, front
from postgres import Cluster
from tls_front import HOST

from sora_mcp.config.settings import load

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it is deployed on Linux"),
]


@pytest.fixture(scope="module")
def database_of_compose() -> Iterator[Cluster]:
    with database() as cluster:
        yield cluster


@pytest.fixture
async def deployed(tmp_path: Path, database_of_compose: Cluster) -> AsyncIterator[Deployment]:
    if NGINX is None:
        pytest.skip("nginx is not installed")
    async with deployment(tmp_path, database_of_compose) as running:
        yield running


class Person:
    """Somebody with a client that goes on, whatever becomes of a call."""

    def __init__(self, deployed: Deployment, name: str, era: Era = "auto") -> None:
        self._front, self._era = deployed.front, era
        self._secret = deployed.token(name)

    async def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """What a tool answers. Raises MCPError where the call itself fails."""
        async with self._front.client(Authorization=f"Bearer {self._secret}") as http:
            transport = streamable_http_client(f"https://{NAME}/mcp", http_client=http)
            async with Client(transport, mode=self._era) as client:
                return (await client.call_tool(tool, arguments)).structured_content or {}


# The conversation


@pytest.mark.parametrize("era", ERAS)
async def test_a_conversation_goes_on_while_one_server_after_the_other_is_killed(
    deployed: Deployment, era: Era
) -> None:
    first, second = deployed.replicas
    with anyio.fail_after(300):
        secret = deployed.token(f"anna-{era}")
        async with deployed.front.client(Authorization=f"Bearer {secret}") as http:
            transport = streamable_http_client(f"https://{NAME}/mcp", http_client=http)
            async with Client(transport, mode=era) as client:

                async def call(tool: str, **arguments: Any) -> dict[str, Any]:
                    return (await client.call_tool(tool, arguments)).structured_content or {}

                made = await call("create_video", prompt="fly man")
                await first.kill()
                done = await call("get_video", task_id=made["task_id"], wait_seconds=50)
                saved = await call("download_video", task_id=made["task_id"])
                await first.start()
                await second.kill()
                again = await call("create_video", prompt="fly man")
                remixed = await call("remix_video", source_generation_id=made["task_id"], prompt="at night")
                await second.start()
                ended = await call("get_video", task_id=remixed["task_id"], wait_seconds=50)
                listed = await call("list_videos")
        async with deployed.front.client() as anybody:
            parts = [await anybody.get(saved["url"], headers={"Range": "bytes=4-7"}) for _ in range(4)]
    assert (done["state"], ended["state"]) == ("succeeded", "succeeded")
    assert again["task_id"] == made["task_id"]  # the guard against duplicates holds across servers
    assert {video["task_id"] for video in listed["videos"]} == {made["task_id"], remixed["task_id"]}
    assert [part.content for part in parts] == [b"ftyp"] * 4


async def test_servers_are_restarted_one_after_the_other_without_a_failed_call(deployed: Deployment) -> None:
    calls: dict[str, int] = {}
    ended = anyio.Event()

    async def go_on(person: Person) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            made = await person.call("create_video", prompt=f"film {number}")
            calls[made["outcome"]] = calls.get(made["outcome"], 0) + 1
            told = await person.call("get_video", task_id=made["task_id"])
            assert told["task_id"] == made["task_id"]
            assert made["task_id"] in str(await person.call("list_videos"))

    with anyio.fail_after(300):
        people = [Person(deployed, name) for name in ("anna", "ben", "cleo")]
        async with anyio.create_task_group() as everybody:
            for person in people:
                everybody.start_soon(go_on, person)
            for server in deployed.replicas:
                await server.stop()
                await server.start()
            ended.set()
    assert set(calls) == {"accepted"}
    assert calls["accepted"] > 10


# The proxy


async def test_a_call_goes_to_the_next_server_only_where_it_reached_none(tmp_path: Path) -> None:
    if NGINX is None:
        pytest.skip("nginx is not installed")
    arrived: list[bytes] = []

    async def take_and_close(connection: anyio.abc.SocketStream) -> None:
        async with connection:
            arrived.append(await connection.receive())

    listener = await anyio.create_tcp_listener(local_host=HOST, local_port=0)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    with anyio.fail_after(30):
        async with listener, anyio.create_task_group() as serving:
            serving.start_soon(listener.serve, take_and_close)
            async with front(tmp_path / "nginx", f"{HOST}:1", f"{HOST}:{port}") as nginx, nginx.client() as client:
                # Both are asked in turn: nothing listens at the first, and the second ends without an answer.
                answers = [await client.post(f"https://{NAME}/mcp", content=b"paid") for _ in range(4)]
            serving.cancel_scope.cancel()
    assert {answer.status_code for answer in answers} == {502}
    assert 1 <= len(arrived) <= len(answers)  # none of them came twice


def test_composes_command_points_the_proxy_to_every_server(tmp_path: Path) -> None:
    [shell, flag, command] = compose()["services"]["proxy"]["command"]
    there = command.replace("/sora-mcp.conf", str(CONFIGURATION)).replace("/etc/nginx/conf.d", str(tmp_path))
    done = subprocess.run([shell, flag, there.partition(" && exec")[0]], check=False)  # noqa: S603 - its own command
    assert done.returncode == 0
    text = (tmp_path / "default.conf").read_text(encoding="utf-8")
    assert "resolver 127.0.0.11" in text
    assert re.findall(r"^    server (\S+) resolve ", text, re.MULTILINE) == [f"{name}:8000" for name in replicas()]
