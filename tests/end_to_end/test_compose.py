"""compose.yaml of docs/deploy, run as it stands where there is no container engine: its database, servers and proxy as
processes."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import jsonschema
import psycopg
import pytest
from bench import ERAS, Era
from deployed import DEPLOY, Deployment, compose, database, deployment, instructions, last, replicas
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
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


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def deployed(tmp_path_factory: pytest.TempPathFactory, database_of_compose: Cluster) -> AsyncIterator[Deployment]:
    """For all tests: each leaves its servers running."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    async with deployment(tmp_path_factory.mktemp("deployed"), database_of_compose) as running:
        yield running


Tool = Callable[..., Awaitable[dict[str, Any]]]
"""Calls a tool by its name with arguments; gives its result."""


@asynccontextmanager
async def person(deployed: Deployment, name: str, era: Era = "auto") -> AsyncIterator[Tool]:
    """Somebody with a token, whose client has one session from the beginning to the end."""
    http = deployed.front.client(Authorization=f"Bearer {deployed.token(name)}")
    transport = streamable_http_client(f"https://{NAME}/mcp", http_client=http)
    async with http, Client(transport, mode=era) as client:

        async def call(tool: str, **arguments: Any) -> dict[str, Any]:
            return (await client.call_tool(tool, arguments)).structured_content or {}

        yield call


async def each(people: list[Tool], tool: str, arguments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What each is told who calls the tool with arguments of their own."""
    return [await call(tool, **own) for call, own in zip(people, arguments, strict=True)]


# The conversation


async def test_conversations_go_on_while_one_server_after_the_other_is_killed(deployed: Deployment) -> None:
    first, second = deployed.replicas
    film = [{"prompt": "fly man"}] * len(ERAS)
    with anyio.fail_after(300):
        async with AsyncExitStack() as stack:
            people = [await stack.enter_async_context(person(deployed, f"anna-{era}", era)) for era in ERAS]
            made = await each(people, "create_video", film)
            await first.kill()
            videos = [{"task_id": answer["task_id"]} for answer in made]
            done = await each(people, "get_video", [video | {"wait_seconds": 50} for video in videos])
            saved = await each(people, "download_video", videos)
            await first.start()
            await second.kill()
            again = await each(people, "create_video", film)
            at_night = [{"source_generation_id": video["task_id"], "prompt": "at night"} for video in videos]
            remixed = await each(people, "remix_video", at_night)
            await second.start()
            remixes = [{"task_id": answer["task_id"]} for answer in remixed]
            ended = await each(people, "get_video", [video | {"wait_seconds": 50} for video in remixes])
            listed = await each(people, "list_videos", [{} for _ in people])
        async with deployed.front.client() as anybody:
            parts = [await anybody.get(saved[0]["url"], headers={"Range": "bytes=4-7"}) for _ in range(4)]
    assert {answer["state"] for answer in (*done, *ended)} == {"succeeded"}
    assert [{"task_id": answer["task_id"]} for answer in again] == videos  # the guard holds across servers
    for told, *own in zip(listed, videos, remixes, strict=True):
        assert {video["task_id"] for video in told["videos"]} == {video["task_id"] for video in own}
    assert [part.content for part in parts] == [b"ftyp"] * 4


async def test_servers_are_restarted_one_after_the_other_without_a_failed_call(deployed: Deployment) -> None:
    outcomes: Counter[str] = Counter()
    ended = anyio.Event()

    async def go_on(call: Tool) -> None:
        number = 0
        while not ended.is_set():
            number += 1
            made = await call("create_video", prompt=f"film {number % 5}")  # from the sixth on it is a duplicate
            outcomes[made["outcome"]] += 1
            assert "task_id" in made, made
            told = await call("get_video", task_id=made["task_id"])
            assert told["task_id"] == made["task_id"]
            assert made["task_id"] in str(await call("list_videos"))

    with anyio.fail_after(300):
        async with AsyncExitStack() as stack:
            people = [await stack.enter_async_context(person(deployed, name)) for name in ("anna", "ben", "cleo")]
            everybody = await stack.enter_async_context(anyio.create_task_group())
            for call in people:
                everybody.start_soon(go_on, call)
            for server in deployed.replicas:
                await server.stop()
                await server.start()
            ended.set()
    assert set(outcomes) == {"accepted"}
    assert outcomes["accepted"] > 10


# The proxy


async def test_a_call_goes_to_the_next_server_only_where_it_reached_none(tmp_path: Path) -> None:
    if NGINX is None:
        pytest.skip("nginx is not installed")
    arrived: list[bytes] = []

    async def take_and_close(connection: anyio.abc.SocketStream) -> None:
        async with connection:
            arrived.append(await connection.receive())

    listener = await anyio.create_tcp_listener(local_host=HOST, local_port=0)
    port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no Django
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


# The file


_WORDS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_DURATION = {"type": "string", "pattern": r"^(\d+(s|m|h))+$"}
_NAMES = {"type": "array", "items": {"type": "string", "pattern": r"^[a-z]+$"}}
_SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image", "networks", "read_only", "cap_drop", "security_opt", "restart", "stop_grace_period"],
    "properties": {
        "image": {"type": "string", "pattern": r"^(sora-mcp|[a-z]+:\d+(\.\d+)?-[a-z]+)$"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["context", "dockerfile", "target"],
            "properties": {name: {"type": "string"} for name in ("context", "dockerfile", "target")},
        },
        "user": {"type": "string"},
        "command": _WORDS,
        "depends_on": {
            "type": "object",
            "additionalProperties": {"const": {"condition": "service_healthy"}},
        },
        "env_file": {"type": "string"},
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "required": ["test", "interval", "timeout"],
            "properties": {"test": _WORDS, "interval": _DURATION, "timeout": _DURATION, "start_period": _DURATION},
        },
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^\d+:\d+$"}},
        "volumes": {"type": "array", "items": {"type": "string", "pattern": r"^[\w./-]+:/[\w./-]+(:ro)?$"}},
        "networks": _NAMES,
        "read_only": {"const": True},
        "tmpfs": {"type": "array", "items": {"type": "string", "pattern": "^/"}},
        "cap_drop": {"const": ["ALL"]},
        "cap_add": {"type": "array", "items": {"type": "string", "pattern": "^[A-Z_]+$"}},
        "security_opt": {"const": ["no-new-privileges:true"]},
        "pids_limit": {"type": "integer"},
        "mem_limit": {"type": "string", "pattern": r"^\d+[mg]$"},
        "shm_size": {"type": "string", "pattern": r"^\d+[mg]$"},
        "restart": {"const": "unless-stopped"},
        "stop_grace_period": _DURATION,
    },
}
_COMPOSE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["name", "services", "networks", "volumes"],
    "properties": {
        "name": {"type": "string"},
        "services": {"type": "object", "additionalProperties": _SERVICE},
        "networks": {"type": "object", "additionalProperties": {"enum": [None, {"internal": True}]}},
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
    },
    "patternProperties": {"^x-": {}},
}
"""What is used of the Compose specification: https://github.com/compose-spec/compose-spec/blob/main/spec.md"""


def test_the_file_is_one_and_names_only_what_is_there() -> None:
    document = compose()
    jsonschema.validate(document, _COMPOSE)
    services = document["services"]
    assert len(replicas()) >= 2
    for name, service in services.items():
        assert set(service.get("depends_on", ())) <= set(services), name
        assert set(service["networks"]) <= set(document["networks"]), name
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            is_there = source in document["volumes"] or (DEPLOY / source).exists()
            assert is_there or source == "./tls", source  # which is the user's own
    assert [name for name, service in services.items() if "ports" in service] == ["proxy"]  # nobody passes by it
    assert not set(services["database"]["networks"]) & set(services["proxy"]["networks"])


def test_a_password_that_is_missing_is_said_to_be_and_none_stands_in_the_file() -> None:
    named = set(re.findall(r"\$\{(\w+):\?is missing", (DEPLOY / "compose.yaml").read_text(encoding="utf-8")))
    assert named == {"DATABASE_PASSWORD", "DATABASE_ADMIN_PASSWORD"}
    assert "$" not in (DEPLOY / "compose.yaml").read_text(encoding="utf-8").replace("${DATABASE_", "")
    ignored = (DEPLOY.parents[1] / ".gitignore").read_text(encoding="utf-8").split()
    assert {"docs/deploy/.env", "docs/deploy/tls/"} <= set(ignored)
    owners = {name for name, each in compose()["services"].items() if "DATABASE" in str(each.get("environment"))}
    assert owners == {"database"}


def test_servers_are_alike_but_for_their_homes_and_share_the_folder_of_videos() -> None:
    servers = list(replicas().values())
    for server in servers:
        build = server["build"]
        assert ((DEPLOY / build["context"]).resolve() / build["dockerfile"]).is_file()
        assert instructions(build["target"])
        assert (DEPLOY / server["env_file"]).is_file()
        assert [volume.split(":")[1] for volume in server["volumes"]] == [last("VOLUME"), "/data/videos"]
        assert int(server["stop_grace_period"].removesuffix("m")) >= 3
        assert load(server["environment"]).ledger_url is not None
    homes, videos = ({server["volumes"][place].split(":")[0] for server in servers} for place in (0, 1))
    assert (len(homes), len(videos)) == (len(servers), 1)
    assert len({str(server | {"volumes": None}) for server in servers}) == 1
    assert "SORA_OUTPUT_DIR=/data/videos" in last("ENV")
    assert "/data/videos" in last("RUN").split()  # else the volume is root's


def test_the_image_has_the_extras_that_servers_need() -> None:
    for text in (last("RUN"), (DEPLOY / "README.md").read_text(encoding="utf-8")):
        [extras] = set(re.findall(r"\[((?:media|metrics|postgres|,)+)\]", text))
        assert set(extras.split(",")) == {"media", "metrics", "postgres"}


def test_the_database_is_as_safe_and_as_healthy_as_it_has_to_be(database_of_compose: Cluster) -> None:
    service = compose()["services"]["database"]
    shown = {name: database_of_compose.sql(f"SHOW {name}")[0][0] for name in ("fsync", "synchronous_commit")}
    assert shown == {"fsync": "on", "synchronous_commit": "on"}
    _, program, *words = service["healthcheck"]["test"]
    replaced = [word.replace("5432", str(database_of_compose.port)) for word in words]
    assert database_of_compose.run(program, *replaced, check=False).returncode == 0
    [[is_superuser]] = database_of_compose.sql("SELECT rolsuper FROM pg_roles WHERE rolname = 'sora_mcp'")
    assert is_superuser is False
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(f"postgresql://sora_mcp:wrong@{HOST}:{database_of_compose.port}/sora_mcp")


async def test_the_proxys_health_check_tells_whether_it_answers(tmp_path: Path) -> None:
    if NGINX is None or shutil.which("curl") is None:
        pytest.skip("nginx or curl is not installed")
    _, *words = compose()["services"]["proxy"]["healthcheck"]["test"]
    async with front(tmp_path / "nginx", f"{HOST}:1") as nginx:
        check = [word.replace(":80/", f":{nginx.plain_port}/") for word in words]
        assert (await anyio.run_process(check, check=False)).returncode == 0
    assert (await anyio.run_process(check, check=False)).returncode != 0


def test_the_steps_name_files_services_and_commands_that_are_there() -> None:
    text = (DEPLOY / "README.md").read_text(encoding="utf-8")
    services = set(compose()["services"])
    for line in re.findall(r"^docker compose (.+)$", text, re.MULTILINE):
        command, *words = shlex.split(line)
        assert command in {"up", "exec", "build"}
        named = [word for word in words if not word.startswith("-")]
        assert set(named if command == "up" else named[: command == "exec"]) <= services, line
    for name in re.findall(r"docs/deploy/([\w@.-]+)", text):
        assert (DEPLOY / name).exists(), name
