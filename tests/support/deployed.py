"""The deployment of docs/deploy and the image, read from their files and run as processes, without containers."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import yaml
from anyio.abc import Process
from bench import COMMAND, environment
from nginx import Front, front
from ports import free_port
from postgres import Cluster, programs, running_cluster
from tls_front import HOST
from warm import warm_command

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "docs" / "deploy"
PASSWORDS = {"DATABASE_PASSWORD": "of-the-servers-7f3d", "DATABASE_ADMIN_PASSWORD": "of-the-administrator-1c9b"}
"""The contents of the user's file .env."""

# --- the files ------------------------------------------------------------------------------------


def settings_file() -> dict[str, str]:
    """settings.env as systemd and Compose read it."""
    lines = (DEPLOY / "settings.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def alone(folder: Path, **more: str) -> dict[str, str]:
    """The deployed settings, for a single server with its own ledger and folders."""
    values = {name.removeprefix("SORA_"): value for name, value in settings_file().items()}
    del values["LEDGER_URL"]
    return environment(folder, None, **values | {"SANDBOX_SECONDS": "2"} | more)


def instructions(target: str | None = None) -> list[tuple[str, str]]:
    """The Dockerfile's instructions for a target (the last one if none is named), those of its base first."""
    text = (ROOT / "manifests" / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", "")
    stages: dict[str, list[tuple[str, str]]] = {}
    stage: list[tuple[str, str]] = []
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = list(stages.get(base, []))
            stages[name] = stage
        else:
            stage.append((word, rest.strip()))
    return stages[target or ""]


def last(word: str, target: str | None = None) -> str:
    """The arguments of the last such instruction."""
    return [rest for each, rest in instructions(target) if each == word][-1]


def compose(passwords: Mapping[str, str] = PASSWORDS) -> dict[str, Any]:
    """compose.yaml, with `passwords` where it names them."""

    def value(match: re.Match[str]) -> str:
        return passwords[match[1]]

    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+):\?[^}]+\}", value, text))
    return document


def replicas() -> dict[str, dict[str, Any]]:
    """The services of compose.yaml that are servers."""
    return {name: each for name, each in compose()["services"].items() if name.startswith("server-")}


# --- run as processes -----------------------------------------------------------------------------


@dataclass
class Replica:
    """A server of compose.yaml: its command, settings and health check, except for ports and folders."""

    service: dict[str, Any]
    folder: Path
    database_port: int
    port: int = field(default_factory=free_port)
    process: Process | None = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    @property
    def log(self) -> Path:
        """The log of all servers."""
        return self.folder / "servers.log"

    @property
    def environment(self) -> dict[str, str]:
        """The environment from the image, settings.env and compose.yaml; each volume is a folder."""
        image = dict(pair.split("=", 1) for pair in last("ENV", "server").split())
        values = {name: str(self._volume_folder(path)) for name, path in image.items()}
        values |= settings_file() | self.service["environment"]
        url = values["SORA_LEDGER_URL"]
        assert "@database:5432/" in url
        values["SORA_LEDGER_URL"] = url.replace("@database:5432/", f"@{HOST}:{self.database_port}/")
        return os.environ | values | {"SORA_SANDBOX_SECONDS": "2"}

    def _volume_folder(self, path: str) -> Path:
        volumes: list[list[str]] = [volume.split(":") for volume in self.service["volumes"]]
        name, mounted = max((each for each in volumes if path.startswith(each[1])), key=lambda each: len(each[1]))
        folder = self.folder / name / path.removeprefix(mounted).strip("/")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    async def start(self) -> None:
        """Start it, and wait until it is healthy."""
        replacements = {"8000": str(self.port), "0.0.0.0": HOST}  # noqa: S104 - it is replaced
        command = [*COMMAND, *(replacements.get(word, word) for word in json.loads(last("CMD", "server")))]
        with self.log.open("ab") as log:
            self.process = await anyio.open_process(command, env=self.environment, stderr=log, stdout=log)
        with anyio.fail_after(90):
            while not await self.is_healthy():
                assert self.process.returncode is None, self.log.read_text(encoding="utf-8")
        assert self.process.returncode is None, self.log.read_text(encoding="utf-8")

    async def is_healthy(self) -> bool:
        """The result of its health check."""
        check = json.loads(last("HEALTHCHECK", "server").partition("CMD ")[2])
        command = [COMMAND[0], *(word.replace("8000", str(self.port)) for word in check[1:])]
        return (await anyio.run_process(command, check=False)).returncode == 0

    async def stop(self) -> None:
        """Stop it as Compose does, and wait for its exit."""
        assert self.process is not None
        self.process.terminate()
        with anyio.fail_after(60):
            await self.process.wait()

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    def run(self, *words: str) -> str:
        """The output of one of our commands, run in its container."""
        result = subprocess.run(  # noqa: S603 - our own command
            [*warm_command(), *words], env=self.environment, capture_output=True, text=True, check=True
        )
        return result.stdout


@dataclass
class Deployment:
    """Everything that compose.yaml starts."""

    front: Front
    replicas: list[Replica]

    def token(self, name: str) -> str:
        """A new person's token."""
        return str(json.loads(self.replicas[0].run("token", "add", name, "--json"))["token"])


@contextmanager
def database() -> Iterator[Cluster]:
    """The database of compose.yaml: its settings, its user with a password, made as database.sql makes it."""
    words = compose()["services"]["database"]["command"]
    options = [value for flag, value in pairwise(words) if flag == "-c"]
    assert words[0] == "postgres"
    with running_cluster(*options) as cluster:
        add_database(cluster)
        yield cluster


def add_database(cluster: Cluster) -> None:
    """Run database.sql, and ask its user for the password, as the image of PostgreSQL does."""
    folder = programs()
    assert folder is not None
    address = f"host={HOST} port={cluster.port} user=sora dbname=postgres"
    subprocess.run(  # noqa: S603 - psql
        [str(folder / "psql"), "-q", address, "-f", str(DEPLOY / "database.sql")],
        env=os.environ | PASSWORDS,
        check=True,
        capture_output=True,
    )
    rules = cluster.data / "pg_hba.conf"
    rule = "host all sora_mcp 127.0.0.1/32 scram-sha-256\n"
    rules.write_text(rule + rules.read_text(encoding="utf-8"), encoding="utf-8")
    cluster.sql("SELECT pg_reload_conf()")


@asynccontextmanager
async def deployment(folder: Path, cluster: Cluster) -> AsyncIterator[Deployment]:
    """The servers and the proxy of compose.yaml as processes."""
    servers = [Replica(service, folder, cluster.port) for service in replicas().values()]
    async with AsyncExitStack() as stack:
        for server in servers:
            stack.push_async_callback(_end, server)
        async with anyio.create_task_group() as starting:
            for server in servers:
                starting.start_soon(server.start)
        nginx = await stack.enter_async_context(front(folder / "nginx", *(each.address for each in servers)))
        yield Deployment(nginx, servers)


async def _end(server: Replica) -> None:
    if server.process is not None and server.process.returncode is None:
        await server.kill()
