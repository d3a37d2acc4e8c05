"""Fetching and asking over real sockets: redirects that lead nowhere, files that are cut off, company proxies."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fault_gateway import CREATE, Answer, FaultGateway, fault_gateway

from sora_mcp.errors import BadReply, GatewayError, NotConfigured, Refused
from sora_mcp.gateway import Gateway
from sora_mcp.gateway.download import fetch
from sora_mcp.settings import Endpoint, Settings

pytestmark = pytest.mark.anyio

KEY = "sk-canary-7f3d1c9b2e5a"
PUBLIC = "https://gateway.example"


def box(kind: bytes, content: bytes = b"", *, size: int | None = None) -> bytes:
    """One box of an MP4 file (ISO/IEC 14496-12 §4.2); `size` is what it claims to be long."""
    return (8 + len(content) if size is None else size).to_bytes(4, "big") + kind + content


def long_box(kind: bytes, content: bytes, *, size: int | None = None) -> bytes:
    """The same with a size of 64 bits."""
    claimed = 16 + len(content) if size is None else size
    return box(kind, claimed.to_bytes(8, "big") + content, size=1)


FTYP = box(b"ftyp", b"isom\0\0\2\0isomiso2avc1mp41")
MP4 = FTYP + box(b"moov", b"m" * 500) + box(b"mdat", b"v" * 3000)
WEBM = b"\x1a\x45\xdf\xa3" + b"w" * 1000


@pytest.fixture
async def gateway() -> AsyncIterator[FaultGateway]:
    async with fault_gateway() as opened:
        yield opened


@pytest.fixture
async def proxy(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultGateway]:
    """What the environment names as the proxy for everything."""
    async with fault_gateway() as opened:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name.lower(), raising=False)
            monkeypatch.setenv(name, opened.address)
        yield opened


@pytest.fixture(autouse=True)
def _no_proxy_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


Connect = Callable[..., Any]


@pytest.fixture
def connect(make_settings: Callable[..., Settings], gateway: FaultGateway) -> Connect:
    """The real client of a gateway."""

    @asynccontextmanager
    async def opened(base_url: str = gateway.address, key: str = KEY) -> AsyncIterator[Gateway]:
        settings = make_settings(base_url=base_url, api_key=key)
        made = Gateway(settings.endpoint(), settings)
        try:
            yield made
        finally:
            await made.aclose()

    return opened


async def save(gateway: Gateway, url: str, folder: Path) -> Path:
    target = folder / "video.mp4"
    size = await fetch(gateway, url, target, max_bytes=100_000_000, seconds=20)
    assert target.stat().st_size == size
    return target


def left_in(folder: Path) -> list[Path]:
    return list(folder.glob("video*"))


async def refused(gateway: Gateway, url: str, folder: Path) -> BadReply:
    """A download that fails leaves nothing behind."""
    with pytest.raises(BadReply) as caught:
        await save(gateway, url, folder)
    assert left_in(folder) == []
    return caught.value


def video(body: bytes) -> Answer:
    return Answer(200, body, {"Content-Type": "video/mp4"})


# --- redirects ------------------------------------------------------------------------------------

NOWHERE = ["javascript:1", "http://[::1", "http://", "https://xn--.com/", "http://8.8.8.8:99999/", "//[", "\\\\", "?"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("location", NOWHERE)
async def test_a_create_redirected_to_no_address_created_nothing(
    location: str, status: int, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("POST", CREATE, Answer(status, b"", {"Location": location}))
    async with connect() as client:
        with pytest.raises(Refused) as caught:
            await client.create({"prompt": "fly man"})
    assert (caught.value.outcome, caught.value.http_status) == ("rejected", status)
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("location", NOWHERE)
async def test_a_query_redirected_to_no_address_is_refused(
    location: str, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, Answer(302, b"", {"Location": location}))
    async with connect() as client:
        with pytest.raises(Refused, match="redirects"):
            await client.query("task_1")


@pytest.mark.parametrize("location", NOWHERE)
async def test_a_download_redirected_to_no_address_is_a_bad_reply(
    location: str, gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", Answer(302, b"", {"Location": location}))
    async with connect() as client:
        await refused(client, f"{gateway.address}/v.mp4", tmp_path)


@pytest.mark.parametrize("address", NOWHERE[1:5])
async def test_a_download_from_no_address_is_a_bad_reply(address: str, connect: Connect, tmp_path: Path) -> None:
    for base_url in (PUBLIC, "http://127.0.0.1:9"):
        async with connect(base_url) as client:
            await refused(client, address, tmp_path)


async def test_a_download_follows_redirects(gateway: FaultGateway, connect: Connect, tmp_path: Path) -> None:
    gateway.on("GET", "/a", Answer(302, b"", {"Location": "/b?x=1"}))
    gateway.on("GET", "/b", Answer(307, b"", {"Location": f"{gateway.address}/c"}))
    gateway.on("GET", "/c", video(MP4))
    async with connect() as client:
        assert (await save(client, f"{gateway.address}/a", tmp_path)).read_bytes() == MP4
    assert not [request for request in gateway.received if "authorization" in request.headers]


@pytest.mark.parametrize("headers", [{}, {"Location": ""}], ids=str)
async def test_a_redirect_without_a_place_is_no_video(
    headers: dict[str, str], gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", Answer(302, b"", headers))
    async with connect() as client:
        assert (await refused(client, f"{gateway.address}/v.mp4", tmp_path)).http_status == 302


async def test_the_key_is_struck_from_the_address_of_a_redirect(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("POST", CREATE, Answer(302, b"", {"Location": f"https://login.example/{KEY}/in"}))
    async with connect() as client:
        with pytest.raises(Refused) as caught:
            await client.create({})
    assert KEY not in f"{caught.value} {caught.value.next_step}"
    assert "https://login.example/[key]/in" in str(caught.value)


# --- files that are cut off -----------------------------------------------------------------------

WHOLE = {
    "boxes": MP4,
    "a 64-bit size": FTYP + long_box(b"mdat", b"v" * 999) + box(b"moov"),
    "a box to the end": FTYP + box(b"moov", b"m" * 50) + box(b"mdat", b"v" * 999, size=0),
    "larger than one piece": FTYP + box(b"mdat", b"v" * 1_000_000) + box(b"moov", b"m" * 50),
    "WebM": WEBM,
}


@pytest.mark.parametrize("body", WHOLE.values(), ids=WHOLE)
async def test_a_whole_file_is_kept(body: bytes, gateway: FaultGateway, connect: Connect, tmp_path: Path) -> None:
    gateway.on("GET", "/v.mp4", video(body))
    async with connect() as client:
        assert (await save(client, f"{gateway.address}/v.mp4", tmp_path)).read_bytes() == body


CUT_OFF = {
    "in the last box": MP4[:-1],
    "in the first box": FTYP[:-1],
    "in a box's head": FTYP + box(b"moov", b"m" * 50) + b"\0\0\0",
    "in a 64-bit size": FTYP + long_box(b"mdat", b"v")[:12],
    "in a long box": FTYP + long_box(b"mdat", b"v" * 999)[:-1],
    "a size past any file": FTYP + long_box(b"mdat", b"v" * 99, size=2**64 - 1),
    "a size below its head": FTYP + box(b"mdat", b"v" * 99, size=7),
    "a 64-bit size below its head": FTYP + long_box(b"mdat", b"v" * 99, size=15),
}


@pytest.mark.parametrize("body", CUT_OFF.values(), ids=CUT_OFF)
async def test_a_file_whose_last_box_is_cut_off_gets_no_name(
    body: bytes, gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", video(body))
    async with connect() as client:
        assert "cut off" in str(await refused(client, f"{gateway.address}/v.mp4", tmp_path))


async def test_a_file_of_endless_small_boxes_is_not_walked_to_its_end(
    gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", video(FTYP + box(b"free") * 200_000))
    async with connect() as client:
        assert "not a video" in str(await refused(client, f"{gateway.address}/v.mp4", tmp_path))


async def test_a_download_that_ends_before_its_length_is_cut_off(
    gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", replace(video(MP4), fault="truncate"))
    async with connect() as client:
        assert (await refused(client, f"{gateway.address}/v.mp4", tmp_path)).can_retry


# --- proxies --------------------------------------------------------------------------------------


async def test_the_key_for_a_local_gateway_never_goes_to_a_proxy(
    proxy: FaultGateway, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", "/v1/models", Answer(200, b'{"data": []}'))
    async with connect() as client:
        await client.probe()
    assert len(gateway.received) == 1
    assert proxy.connections == 0


async def test_a_gateway_elsewhere_is_asked_through_a_tunnel(proxy: FaultGateway, connect: Connect) -> None:
    async with connect(PUBLIC) as client:
        with pytest.raises(GatewayError):
            await client.probe()
    assert {(r.method, r.path) for r in proxy.received} == {("CONNECT", "gateway.example:443")}
    assert KEY not in str(proxy.received)


async def test_through_a_proxy_the_video_keeps_the_name_of_its_host(
    proxy: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    proxy.on("GET", "http://cdn.example/v.mp4", video(MP4))
    async with connect(PUBLIC) as client:
        assert (await save(client, "http://cdn.example/v.mp4", tmp_path)).read_bytes() == MP4
    assert [(r.method, r.path) for r in proxy.received] == [("GET", "http://cdn.example/v.mp4")]


async def test_a_tunnel_to_the_video_is_asked_for_by_name(
    proxy: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    async with connect(PUBLIC) as client:
        await refused(client, "https://cdn.example/v.mp4", tmp_path)
    assert [(r.method, r.path) for r in proxy.received] == [("CONNECT", "cdn.example:443")]


INSIDE = ["http://10.0.0.1/v", "https://127.0.0.1/v", "http://localhost/v", "http://2130706433/v", "http://intranet/v"]


@pytest.mark.parametrize("address", [*INSIDE, "http://[::1]/v", "http://wiki.internal/v"])
async def test_through_a_proxy_nothing_inside_is_fetched_either(
    address: str, proxy: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    async with connect(PUBLIC) as client:
        await refused(client, address, tmp_path)
    assert proxy.connections == 0


@pytest.mark.parametrize("address", INSIDE[:4])
async def test_without_a_proxy_nothing_inside_is_fetched(address: str, connect: Connect, tmp_path: Path) -> None:
    async with connect(PUBLIC) as client:
        assert "private network" in str(await refused(client, address, tmp_path))


async def test_a_host_that_needs_no_proxy_is_connected_to_directly(
    proxy: FaultGateway, connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "cdn.example,.gateway.example")
    async with connect("https://api.gateway.example") as client:
        await refused(client, "http://cdn.example/v.mp4", tmp_path)
        with pytest.raises(GatewayError):
            await client.probe()
    assert proxy.connections == 0


@pytest.mark.parametrize("address", ["gopher://proxy:1", "http://[::1", "socks5://127.0.0.1:1"])
async def test_a_proxy_that_cannot_be_used_is_a_matter_of_settings(
    address: str, make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address)
    settings = make_settings(base_url=PUBLIC, api_key=KEY)
    endpoint: Endpoint = settings.endpoint()
    with pytest.raises(NotConfigured, match="proxy") as caught:
        Gateway(endpoint, settings)
    assert address not in str(caught.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:{}", "127.0.0.1:{}"])
async def test_a_proxy_may_be_named_without_its_scheme(
    address: str, gateway: FaultGateway, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address.format(gateway.address.rpartition(":")[2]))
    async with connect(PUBLIC) as client:
        with pytest.raises(GatewayError):
            await client.probe()
    assert {r.method for r in gateway.received} == {"CONNECT"}
