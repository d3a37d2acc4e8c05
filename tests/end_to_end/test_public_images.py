"""Images that stand on public hosts: fetched over real sockets, in a network of its own where there can be one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from bench import KEY
from calls import ask, assert_accepted, assert_refused
from fault_gateway import Answer, FaultGateway, fault_gateway, says
from mcp import Client
from PIL import Image

from sora_mcp.config.settings import Settings
from sora_mcp.server import build

PROGRAM = Path(__file__).parents[1] / "support" / "public_host.py"
ALONE = ["unshare", "--map-root-user", "--net", "--mount"]
"""Runs a program in a network (and with a view of the disk) of its own, where the system lets anybody do that."""


def _may_be_alone() -> bool:
    try:
        subprocess.run([*ALONE, "ip", "link", "set", "lo", "up"], capture_output=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not _may_be_alone():
        pytest.skip("no network of its own can be made here")
    folder = tmp_path_factory.mktemp("public")
    Image.new("RGB", (64, 48), "green").save(folder / "picture.png")
    plain = {name: text for name, text in os.environ.items() if not name.lower().endswith("_proxy")}
    environment = plain | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(  # noqa: S603
        [*ALONE, sys.executable, str(PROGRAM), str(folder)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.png", "moved", "by number"])
def test_an_image_on_a_public_host_is_fetched_and_sent(name: str, fetched: dict[str, Any]) -> None:
    outcome = fetched["outcomes"][name]
    assert (outcome["outcome"], outcome["posts"], outcome["has_picture"]) == ("accepted", 1, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("inside", "not public"),
        ("loop", "leads nowhere"),
        ("gone", "status 404"),
        ("page", "complete image"),
        ("large", "larger than the 20 MB"),
        ("cut", "could not be fetched"),
        ("stall", "could not be fetched"),
        ("both", "not public"),
        ("inside name", "not public"),
        ("nowhere", "not public, or not known"),
    ],
)
def test_one_that_cannot_be_had_is_refused_before_anything_is_sent(
    name: str, words: str, fetched: dict[str, Any]
) -> None:
    outcome = fetched["outcomes"][name]
    assert (outcome["outcome"], outcome["posts"]) == ("not_submitted", 0)
    assert words in outcome["text"]


@pytest.mark.slow
def test_the_key_stays_and_the_hosts_name_goes_along(fetched: dict[str, Any]) -> None:
    assert fetched["keys"] == [False]
    assert fetched["hosts"] == ["93.184.216.34", "images.test"]
    assert fetched["inside"] == 0


# --- through a proxy, which knows the names of the outside ----------------------------------------


@pytest.fixture
async def proxy(no_proxy: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultGateway]:  # noqa: ARG001
    async with fault_gateway() as opened:
        monkeypatch.setenv("HTTP_PROXY", opened.address)
        yield opened


@pytest.fixture
def serve(make_settings: Callable[..., Settings], gateway: FaultGateway) -> Callable[..., Client]:
    gateway.on("POST", "/v1/videos", says({"object": "video", "id": "video_1", "status": "queued"}))
    gateway.on("GET", "/v1/models", says({"data": []}))
    values = {"base_url": gateway.address, "api_key": KEY, "dialect": "videos:vllm-omni"}
    return lambda: Client(build(make_settings(**values)))


ASKED = {"prompt": "fly man", "inpaint_items": [{"url": "http://images.example/a.png"}]}


@pytest.mark.anyio
async def test_through_a_proxy_an_image_is_fetched_without_the_key(
    proxy: FaultGateway, serve: Callable[..., Client], gateway: FaultGateway, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 48), "green").save(tmp_path / "a.png")
    picture = (tmp_path / "a.png").read_bytes()
    proxy.on("GET", "http://images.example/a.png", Answer(200, picture, {"Content-Type": "image/png"}))
    async with serve() as client:
        await ask(client, "create_video", ASKED | {"dry_run": True})
        assert proxy.received == []
        await assert_accepted(client, "create_video", ASKED)
    (post,) = gateway.requests("POST")
    assert picture in post.body
    assert [(each.method, each.path, "authorization" in each.headers) for each in proxy.received] == [
        ("GET", "http://images.example/a.png", False)
    ]


@pytest.mark.anyio
async def test_through_a_proxy_a_redirect_to_this_network_is_not_followed(
    proxy: FaultGateway, serve: Callable[..., Client], gateway: FaultGateway
) -> None:
    proxy.on("GET", "http://images.example", Answer(302, b"", {"Location": f"{gateway.address}/v1/models"}))
    async with serve() as client:
        await assert_refused(client, "create_video", ASKED, "not public")
    assert gateway.requests("POST") == []
