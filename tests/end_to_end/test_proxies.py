"""Company proxies: what is asked through them, and what never goes there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from bench import KEY
from downloads import MP4, Reach, fetch_refused, save, video
from fault_gateway import Answer, FaultGateway, fault_gateway

from sora_mcp import dialects
from sora_mcp.config.endpoint import Endpoint
from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import GatewayError, NotConfigured
from sora_mcp.gateway import Gateway

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("no_proxy")]

PUBLIC = "https://gateway.example"


@pytest.fixture
async def proxy(no_proxy: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FaultGateway]:  # noqa: ARG001
    """What the environment names as the proxy for everything."""
    async with fault_gateway() as opened:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.delenv(name.lower(), raising=False)
            monkeypatch.setenv(name, opened.address)
        yield opened


async def test_the_key_for_a_local_gateway_never_goes_to_a_proxy(
    proxy: FaultGateway, gateway: FaultGateway, reach: Reach
) -> None:
    gateway.on("GET", "/v1/models", Answer(200, b'{"data": []}'))
    async with reach() as client:
        await client.probe()
    assert len(gateway.received) == 1
    assert proxy.connections == 0


async def test_a_gateway_elsewhere_is_asked_through_a_tunnel(proxy: FaultGateway, reach: Reach) -> None:
    async with reach(PUBLIC) as client:
        with pytest.raises(GatewayError):
            await client.probe()
    assert {(r.method, r.path) for r in proxy.received} == {("CONNECT", "gateway.example:443")}
    assert KEY not in str(proxy.received)


async def test_through_a_proxy_the_video_keeps_the_name_of_its_host(
    proxy: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    proxy.on("GET", "http://cdn.example/v.mp4", video(MP4))
    async with reach(PUBLIC) as client:
        assert (await save(client, "http://cdn.example/v.mp4", tmp_path)).read_bytes() == MP4
    assert [(r.method, r.path) for r in proxy.received] == [("GET", "http://cdn.example/v.mp4")]


async def test_a_tunnel_to_the_video_is_asked_for_by_name(proxy: FaultGateway, reach: Reach, tmp_path: Path) -> None:
    async with reach(PUBLIC) as client:
        await fetch_refused(client, "https://cdn.example/v.mp4", tmp_path)
    assert [(r.method, r.path) for r in proxy.received] == [("CONNECT", "cdn.example:443")]


INSIDE = ["http://10.0.0.1/v", "https://127.0.0.1/v", "http://localhost/v", "http://2130706433/v", "http://intranet/v"]


@pytest.mark.parametrize("address", [*INSIDE, "http://[::1]/v", "http://wiki.internal/v"])
async def test_through_a_proxy_nothing_inside_is_fetched_either(
    address: str, proxy: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    async with reach(PUBLIC) as client:
        await fetch_refused(client, address, tmp_path)
    assert proxy.connections == 0


PACKED = ["64:ff9b::a00:1", "2002:a00:1::", "::10.0.0.1", "::ffff:10.0.0.1", "fec0::1", "ff02::1"]
"""Addresses that look public, or carry an inner one that is not."""


@pytest.mark.parametrize("address", [*INSIDE[:4], *(f"http://[{each}]/v" for each in PACKED), "http://224.0.0.1/v"])
async def test_without_a_proxy_nothing_inside_is_fetched(address: str, reach: Reach, tmp_path: Path) -> None:
    async with reach(PUBLIC) as client:
        assert "private network" in str(await fetch_refused(client, address, tmp_path))


@pytest.mark.parametrize("host", ["8.8.8.8", "[2606:4700::1111]", "[64:ff9b::808:808]", "[::ffff:8.8.8.8]"])
async def test_a_public_address_is_fetched(proxy: FaultGateway, reach: Reach, tmp_path: Path, host: str) -> None:
    async with reach(PUBLIC) as client:
        assert "status 404" in str(await fetch_refused(client, f"http://{host}/v.mp4", tmp_path))
    assert len(proxy.received) == 1


async def test_a_host_that_needs_no_proxy_is_connected_to_directly(
    proxy: FaultGateway, reach: Reach, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "cdn.example,.gateway.example")
    async with reach("https://api.gateway.example") as client:
        await fetch_refused(client, "http://cdn.example/v.mp4", tmp_path)
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
        Gateway(endpoint, settings, dialects.configured(settings))
    assert address not in str(caught.value)


@pytest.mark.parametrize("address", ["http://127.0.0.1:{}", "127.0.0.1:{}"])
async def test_a_proxy_may_be_named_without_its_scheme(
    address: str, gateway: FaultGateway, reach: Reach, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", address.format(gateway.address.rpartition(":")[2]))
    async with reach(PUBLIC) as client:
        with pytest.raises(GatewayError):
            await client.probe()
    assert {r.method for r in gateway.received} == {"CONNECT"}
