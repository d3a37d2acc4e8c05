"""docs/deploy and the image, run as they stand where there is no container engine: the same commands as processes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx
import httpx2
import pytest
from bench import COMMAND, ERAS, PNG, Era, address_of, over_http
from deployed import DEPLOY, ROOT, alone, instructions, last, settings_file
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from nginx import CONFIGURATION, NAME, NGINX, Front, front
from ports import free_port
from tls_front import HOST
from warm import warm_command

from sora_mcp.config.settings import load
from sora_mcp.config.variables import variables

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="it is deployed on Linux"),
]


def token(environ: dict[str, str], name: str = "anna") -> str:
    done = subprocess.run(  # noqa: S603 - our own command
        [*warm_command(), "token", "add", name, "--json"], env=environ, capture_output=True, check=True
    )
    return str(json.loads(done.stdout)["token"])


# nginx


@pytest.fixture
async def deployed(tmp_path: Path) -> AsyncIterator[tuple[Front, str]]:
    """A server with nginx in front of it, and a token."""
    if NGINX is None:
        pytest.skip("nginx is not installed")
    environ = alone(tmp_path)
    async with over_http(environ) as (address, _), front(tmp_path / "nginx", urlsplit(address).netloc) as nginx:
        yield nginx, token(environ)


@pytest.mark.parametrize("era", ERAS)
async def test_a_conversation_through_the_proxy_has_its_progress(deployed: tuple[Front, str], era: Era) -> None:
    nginx, secret = deployed
    heard: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001 - its type
        heard.append(time.monotonic())

    with anyio.fail_after(120):
        async with nginx.client(Authorization=f"Bearer {secret}") as http:
            transport = streamable_http_client(f"https://{NAME}/mcp", http_client=http)
            async with Client(transport, mode=era) as client:
                made = (await client.call_tool("create_video", {"prompt": "fly man"})).structured_content or {}
                arguments = {"task_id": made["task_id"], "wait_seconds": 50}
                done = await client.call_tool("get_video", arguments, progress_callback=hear)
                ended = time.monotonic()
                listed = (await client.call_tool("list_videos", {})).structured_content or {}
                seen = await client.call_tool("view_video", {"task_id": made["task_id"]})
    assert (done.structured_content or {})["state"] == "succeeded"
    assert len(heard) >= 3
    assert ended - heard[0] > 1  # it came while the video was made, not all together with the answer
    assert [video["task_id"] for video in listed["videos"]] == [made["task_id"]]
    assert any(content.type == "image" for content in seen.content)


async def test_the_proxy_lets_in_what_is_meant_for_it_and_logs_no_secret(deployed: tuple[Front, str]) -> None:
    nginx, secret = deployed
    with anyio.fail_after(60):
        async with nginx.client() as client:
            assert (await client.get(f"https://{NAME}/healthz")).json() == {"alive": True}
            assert (await client.post(f"https://{NAME}/mcp?token={secret}")).status_code == 401
            assert (await client.get(f"https://{NAME}/videos/{secret}/a.mp4?signature={secret}")).status_code == 403
            for path in ("/metrics", "/readyz"):
                assert (await client.get(f"https://{NAME}{path}")).status_code == 404
            assert (await client.post(f"https://{NAME}/mcp", content=b"x" * 23_000_000)).status_code == 413
            evil = {"Origin": "https://evil.example"}
            assert (await client.get(f"https://{NAME}/healthz", headers=evil)).status_code == 403
        async with httpx.AsyncClient(verify=False) as stranger:  # noqa: S501 - it is about the name
            with pytest.raises(httpx.ConnectError):
                await stranger.get(f"https://{HOST}:{nginx.port}/healthz")
            moved = await stranger.get(f"http://{HOST}:{nginx.plain_port}/x", headers={"Host": NAME})
    assert (moved.status_code, moved.headers["Location"]) == (301, f"https://{NAME}/x")
    log = nginx.log.read_text(encoding="utf-8")
    assert "POST /mcp 401" in log
    assert "GET /videos 403" in log
    assert secret not in log


async def test_signed_links_work_through_the_proxy_which_logs_none_even_where_something_goes_wrong(
    deployed: tuple[Front, str],
) -> None:
    nginx, secret = deployed
    with anyio.fail_after(120):
        async with nginx.client(Authorization=f"Bearer {secret}") as http, nginx.client() as anybody:
            transport = streamable_http_client(f"https://{NAME}/mcp", http_client=http)
            async with Client(transport) as client:
                made = (await client.call_tool("create_video", {"prompt": "fly man"})).structured_content or {}
                video = {"task_id": made["task_id"]}
                await client.call_tool("get_video", video | {"wait_seconds": 50})
                saved = (await client.call_tool("download_video", video)).structured_content or {}
                image = {"prompt": "fly man", "inpaint_items": [{"url": "/home/anna/cat.png"}]}
                refused = str((await client.call_tool("create_video", image)).structured_content)
            link = re.search(rf"https://{NAME}/images/[^\s`]+", refused)
            assert link is not None
            part = await anybody.get(saved["url"], headers={"Range": "bytes=4-7"})
            sent = await anybody.put(link[0], content=_png(20_000_000))
            again = [await anybody.put(link[0], content=b"x" * 23_000_000) for _ in range(2)]
    assert saved["url"].startswith(f"https://{NAME}/videos/")
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert (sent.status_code, sent.json()["bytes"]) == (201, 20_000_000)
    assert [answer.status_code for answer in again] == [413, 413]
    logs = "".join(path.read_text(encoding="utf-8") for path in nginx.log.parent.glob("*.log"))
    assert not any(urlsplit(each).path.split("/")[2] in logs for each in (saved["url"], link[0]))


def _png(size: int) -> bytes:
    """An image of so many bytes: a chunk that says nothing fills it."""
    chunk = b"prVt" + b"x" * (size - len(PNG) - 12)
    ending = PNG.index(b"IEND") - 4
    filling = (len(chunk) - 4).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
    return PNG[:ending] + filling + PNG[ending:]


# The image


def test_the_image_is_nobodys_but_sora_and_says_whether_it_is_well() -> None:
    assert last("USER") == "sora"
    assert json.loads(last("ENTRYPOINT")) == ["sora-mcp"]
    assert not [word for word, _ in instructions() if word in {"CMD", "HEALTHCHECK"}]  # one person's, over stdio
    assert json.loads(last("CMD", "server"))[:3] == ["serve", "--transport", "streamable-http"]
    assert "/healthz" in last("HEALTHCHECK", "server")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """What the image holds: the program as its RUN installs it, from what its COPY takes and nothing else.

    What it depends on is taken from here: those packages are not what is looked at.
    """
    source, program = tmp_path / "source", tmp_path / "program"
    for word, rest in instructions("server"):
        if word == "COPY":
            *names, target = rest.split()
            there = tmp_path / target.strip("/")
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, there, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    there.mkdir(exist_ok=True)
                    shutil.copy(ROOT / name, there)
    requirement = shlex.split(last("RUN", "server").split("&&")[0])[-1]
    assert requirement.startswith("/source[")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - pip
    if done.returncode:
        pytest.skip(f"pip cannot build here: {done.stderr[-200:]}")
    return program


NOBODY = 65534


def python_of_others() -> str:
    """A Python that an ordinary user may run, and that can load the packages of this one."""
    same = f"/usr/bin/python3.{sys.version_info.minor}"
    for program in (sys.executable, same):
        with suppress(OSError):
            done = subprocess.run([program, "-c", ""], user=NOBODY, group=NOBODY, check=False)  # noqa: S603 - a Python
            if done.returncode == 0:
                return program
    pytest.skip("no Python here is for others than root")


@pytest.fixture
def ordinary_user(tmp_path: Path, image: Path) -> dict[str, str]:
    """The environment of an ordinary user, as the image sets it; /data is a folder of the test's own, which is all
    that they can write to."""
    data = tmp_path / "data"
    data.mkdir()
    os.chown(data, NOBODY, NOBODY)
    for folder in (tmp_path, *list(tmp_path.parents)[:3]):
        folder.chmod(folder.stat().st_mode | 0o055)
    values = dict(pair.split("=", 1) for pair in last("ENV", "server").split())
    packages = [str(image), *(path for path in sys.path if path.endswith("site-packages"))]
    return {
        **{name: value.replace("/data", str(data)) for name, value in values.items()},
        **{name: value for name, value in settings_file().items() if name != "SORA_LEDGER_URL"},
        "SORA_SANDBOX_SECONDS": "0.2",
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(packages),
    }


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can become somebody else")
async def test_the_image_runs_as_an_ordinary_user_with_a_tree_that_it_cannot_write(
    ordinary_user: dict[str, str], image: Path
) -> None:
    """As its ENTRYPOINT, CMD and HEALTHCHECK say, but for the port."""
    python = python_of_others()
    port = str(free_port())
    arguments = [word.replace("8000", port) for word in json.loads(last("CMD", "server"))]
    check = [word.replace("8000", port) for word in json.loads(last("HEALTHCHECK", "server").partition("CMD ")[2])]
    files = files_in(image)

    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(  # noqa: S603 - as above
            [python, *command],
            env=ordinary_user,
            cwd="/",
            user=NOBODY,
            group=NOBODY,
            capture_output=True,
            text=True,
            check=False,
        )

    made = json.loads(run("-m", "sora_mcp", "token", "add", "anna", "--json").stdout)
    command = [python, "-m", "sora_mcp", *arguments]
    process = await anyio.open_process(command, env=ordinary_user, cwd="/", user=NOBODY, group=NOBODY)
    async with process:
        try:
            assert process.stderr is not None
            with anyio.fail_after(60):
                while b"Serving" not in await process.stderr.receive():
                    pass
                assert run(*check[1:]).returncode == 0
                headers = {"Authorization": f"Bearer {made['token']}"}
                async with httpx2.AsyncClient(headers=headers, timeout=30) as http:
                    transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
                    async with Client(transport) as client:
                        created = await client.call_tool("create_video", {"prompt": "fly man"})
        finally:
            process.terminate()
    assert (created.structured_content or {})["outcome"] == "accepted"
    assert run(*check[1:]).returncode == 1
    assert files_in(image) == files


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


# Settings


def test_the_settings_that_are_deployed_are_settings() -> None:
    text = (DEPLOY / "settings.env").read_text(encoding="utf-8")
    named = set(re.findall(r"^#?(SORA_\w+)=", text, re.MULTILINE))
    assert named <= {variable.name for variable in variables()}
    settings = load(settings_file())
    assert settings.unknown == ()
    assert settings.auth
    assert f"server_name {settings.allowed_hosts[0]};" in CONFIGURATION.read_text(encoding="utf-8")


# systemd


def unit() -> Iterator[tuple[str, str]]:
    for line in (DEPLOY / "sora-mcp@.service").read_text(encoding="utf-8").splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            yield name, value


async def test_the_units_command_serves_with_its_settings(tmp_path: Path) -> None:
    command = shlex.split(dict(unit())["ExecStart"])
    assert command[0] == "/opt/sora-mcp/bin/sora-mcp"
    port = str(free_port())
    own = [*COMMAND, *(word.replace("%i", port) for word in command[1:])]
    values = dict(pair.split("=", 1) for pair in dict(unit())["Environment"].replace("%i", port).split())
    folders = dict(unit())["StateDirectory"].replace("%i", port).split()
    assert {value.removeprefix("/var/lib/") for value in values.values()} <= set(folders)
    environ = alone(tmp_path) | {
        name: value.replace("/var/lib/sora-mcp", str(tmp_path / "state")) for name, value in values.items()
    }
    async with await anyio.open_process(own, env=environ) as process:
        try:
            address = await address_of(process)
            async with httpx.AsyncClient() as client:
                assert (await client.get(address.replace("/mcp", "/healthz"))).status_code == 200
                assert (await client.post(address)).status_code == 401
        finally:
            process.terminate()


def test_the_unit_is_one_and_is_hardened(tmp_path: Path) -> None:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd-analyze is not installed")
    copy = tmp_path / "sora-mcp@8001.service"
    text = (DEPLOY / "sora-mcp@.service").read_text(encoding="utf-8")
    copy.write_text(text.replace("/opt/sora-mcp/bin/sora-mcp", sys.executable), encoding="utf-8")

    def analyze(*arguments: str) -> str:
        done = subprocess.run([program, *arguments, copy], capture_output=True, text=True, check=False)  # noqa: S603
        assert done.returncode == 0, done
        return done.stderr

    assert "sora-mcp@8001.service" not in analyze("verify")
    analyze("security", "--offline=true", "--threshold=20")
