"""Fetching and asking over real sockets: redirects that lead nowhere, files that are cut off, company proxies."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
import stamina
from fault_gateway import CREATE, Answer, FaultGateway, fault_gateway, says

from sora_mcp.errors import BadReply, GatewayError, NotConfigured, Refused, SoraError
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


# --- downloads that are cut and go on ----------------------------------------------------------------

ETAG = {"ETag": '"v1"'}
DATED = {"Last-Modified": "Sun, 22 Nov 2026 10:00:00 GMT", "Date": "Sun, 22 Nov 2026 10:00:05 GMT"}
CUT_AT = len(FTYP) + 1000


def cut(headers: Mapping[str, str] | None = None, *, at: int = CUT_AT) -> Answer:
    """The first bytes of a video whose length is announced, then the end of the connection."""
    announced = {"Content-Length": str(len(MP4))} | dict(headers or {})
    return Answer(200, MP4[:at], announced, fault="truncate")


def rest(start: int = CUT_AT, headers: Mapping[str, str] | None = None, *, body: bytes = MP4) -> Answer:
    """The part of a video that was asked for."""
    which = {"Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
    return Answer(206, body[start:], which | dict(headers or {}))


def asked(gateway: FaultGateway) -> list[tuple[str | None, str | None]]:
    """What each request for the video asked for: Range and If-Range."""
    return [(r.headers.get("range"), r.headers.get("if-range")) for r in gateway.requests("GET", "/v.mp4")]


@pytest.mark.parametrize("known_by", [ETAG, DATED], ids=["a strong tag", "a date"])
@pytest.mark.parametrize("fault", ["truncate", "reset_in_reply", None])
async def test_a_download_that_is_cut_goes_on_where_it_was(
    fault: Literal["truncate", "reset_in_reply"] | None,
    known_by: dict[str, str],
    gateway: FaultGateway,
    make_settings: Callable[..., Settings],
    tmp_path: Path,
) -> None:
    first = replace(cut(known_by), fault=fault)  # without a fault it stalls: the rest never comes
    kept = CUT_AT // 2 if fault == "reset_in_reply" else CUT_AT
    gateway.on("GET", "/v.mp4", first, rest(kept, known_by))
    settings = make_settings(base_url=gateway.address, api_key=KEY, query_timeout=0.5)
    client = Gateway(settings.endpoint(), settings)
    assert (await save(client, f"{gateway.address}/v.mp4", tmp_path)).read_bytes() == MP4
    await client.aclose()
    assert asked(gateway) == [(None, None), (f"bytes={kept}-", known_by.get("ETag", DATED["Last-Modified"]))]


NOT_ASKED_FOR = {
    "the whole, because it changed": replace(video(WEBM), headers={"ETag": '"v2"'}),
    "the whole again": video(MP4),
}


@pytest.mark.parametrize("answer", NOT_ASKED_FOR.values(), ids=NOT_ASKED_FOR)
async def test_where_the_whole_is_sent_again_the_first_part_is_forgotten(
    answer: Answer, gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", cut(ETAG), answer)
    async with connect() as client:
        assert (await save(client, f"{gateway.address}/v.mp4", tmp_path)).read_bytes() == answer.body
    assert len(asked(gateway)) == 2


USELESS = {
    "416": Answer(416, b"", {"Content-Range": f"bytes */{len(MP4)}"}),
    "another part": replace(rest(), headers={"Content-Range": f"bytes 0-{len(MP4) - CUT_AT - 1}/{len(MP4)}"}),
    "a part of a file of another length": replace(rest(), headers={"Content-Range": f"bytes {CUT_AT}-9999/10000"}),
    "a part of another file": rest(headers={"ETag": '"v2"'}),
    "a part that does not say which": replace(rest(), headers={}),
}


@pytest.mark.parametrize("answer", USELESS.values(), ids=USELESS)
async def test_a_rest_that_does_not_fit_is_not_taken_and_all_is_asked_for_again(
    answer: Answer, gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", cut(ETAG), answer, video(MP4))
    async with connect() as client:
        assert (await save(client, f"{gateway.address}/v.mp4", tmp_path)).read_bytes() == MP4
    assert asked(gateway) == [(None, None), (f"bytes={CUT_AT}-", '"v1"'), (None, None)]


UNKNOWABLE = {
    "nothing": {},
    "a weak tag": {"ETag": 'W/"v1"'} | DATED,
    "a date of this second": DATED | {"Date": DATED["Last-Modified"]},
    "a date alone": {"Last-Modified": DATED["Last-Modified"]},
    "a tag of packed bytes": ETAG | {"Content-Encoding": "br"},
}


@pytest.mark.parametrize("headers", UNKNOWABLE.values(), ids=UNKNOWABLE)
async def test_what_cannot_be_known_again_is_asked_for_from_the_start(
    headers: dict[str, str], gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", cut(headers), video(MP4))
    async with connect() as client:
        assert (await save(client, f"{gateway.address}/v.mp4", tmp_path)).read_bytes() == MP4
    assert asked(gateway) == [(None, None), (None, None)]


async def test_a_video_that_is_cut_again_and_again_comes_in_pieces_and_its_progress_never_falls(
    gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    announced = {"Content-Length": str(len(MP4) - 2000), "Content-Range": f"bytes 2000-{len(MP4) - 1}/{len(MP4)}"}
    third = Answer(206, MP4[2000:3000], announced, fault="truncate")
    gateway.on("GET", "/v.mp4", cut(ETAG, at=2000), Answer(503), third, rest(3000))
    told: list[tuple[int, int | None]] = []

    async def tell(done: int, total: int | None) -> None:
        told.append((done, total))

    async with connect() as client:
        target = tmp_path / "video.mp4"
        await fetch(client, f"{gateway.address}/v.mp4", target, max_bytes=10_000, seconds=20, on_progress=tell)
    assert target.read_bytes() == MP4
    assert [part for part, _ in asked(gateway)] == [None, "bytes=2000-", "bytes=2000-", "bytes=3000-"]
    assert told == sorted(set(told))
    assert told[-1] == (len(MP4), len(MP4))


async def test_after_a_new_start_progress_is_told_only_from_where_it_was(
    gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", cut(), cut(at=500), video(MP4))
    told: list[int] = []

    async def tell(done: int, _: int | None) -> None:
        told.append(done)

    async with connect() as client:
        target = tmp_path / "video.mp4"
        await fetch(client, f"{gateway.address}/v.mp4", target, max_bytes=10_000, seconds=20, on_progress=tell)
    assert told == sorted(set(told))
    assert told[-1] == len(MP4)


@pytest.mark.parametrize("lost", ["moov", "mdat"])
async def test_a_cut_between_two_boxes_without_a_length_is_seen_and_mended(
    lost: str, gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    boxes = {"moov": box(b"moov", b"m" * 500), "mdat": box(b"mdat", b"v" * 3000)}
    last = boxes.pop(lost)
    start = FTYP + b"".join(boxes.values())
    whole = start + last
    part = Answer(200, start, {"Content-Type": "video/mp4"} | ETAG, fault="no_length")
    gateway.on("GET", "/v.mp4", part, rest(len(start), body=whole))
    async with connect() as client:
        assert (await save(client, f"{gateway.address}/v.mp4", tmp_path)).read_bytes() == whole


@pytest.mark.parametrize("kinds", [[b"moov"], [b"mdat"], [b"free"]], ids=str)
async def test_a_file_without_pictures_or_their_table_gets_no_name(
    kinds: list[bytes], gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", video(FTYP + b"".join(box(kind, b"x" * 50) for kind in kinds)))
    async with connect() as client:
        assert "cut off" in str(await refused(client, f"{gateway.address}/v.mp4", tmp_path))
    assert len(gateway.received) == 1  # its length was right: asking again would bring the same


async def test_a_download_that_is_cut_every_time_ends_with_nothing_left(
    gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", cut(ETAG), replace(rest(), body=b"", fault="reset_in_reply"))
    async with connect() as client:
        assert (await refused(client, f"{gateway.address}/v.mp4", tmp_path)).can_retry
    assert len(gateway.received) == 4


@pytest.mark.parametrize(("status", "requests"), [(403, 1), (404, 1), (429, 1), (408, 4), (502, 4)])
async def test_a_refused_download_is_told_at_once_and_trouble_is_waited_out_a_while(
    status: int, requests: int, gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", Answer(status))
    async with connect() as client:
        assert (await refused(client, f"{gateway.address}/v.mp4", tmp_path)).http_status == status
    assert len(gateway.received) == requests


async def test_the_size_limit_holds_over_all_pieces(gateway: FaultGateway, connect: Connect, tmp_path: Path) -> None:
    part = Answer(200, MP4[:2000], {"Content-Type": "video/mp4"} | ETAG, fault="no_length")
    gateway.on("GET", "/v.mp4", part, replace(rest(2000), headers={"Content-Range": "bytes 2000-9999/*"}))
    async with connect() as client:
        with pytest.raises(BadReply, match="larger than"):
            await fetch(client, f"{gateway.address}/v.mp4", tmp_path / "video.mp4", max_bytes=3000, seconds=20)
    assert left_in(tmp_path) == []


async def test_the_time_limit_holds_over_all_attempts(gateway: FaultGateway, connect: Connect, tmp_path: Path) -> None:
    gateway.on("GET", "/v.mp4", cut(ETAG), replace(rest(), fault="stall"))
    async with connect() as client:
        with anyio.fail_after(5), pytest.raises(BadReply):
            await fetch(client, f"{gateway.address}/v.mp4", tmp_path / "video.mp4", max_bytes=10_000, seconds=1)
    assert left_in(tmp_path) == []


async def test_each_attempt_follows_and_checks_its_redirects_anew(
    gateway: FaultGateway, connect: Connect, tmp_path: Path
) -> None:
    gateway.on(
        "GET", "/start", Answer(302, b"", {"Location": "/v.mp4"}), Answer(302, b"", {"Location": "ftp://inside/"})
    )
    gateway.on("GET", "/v.mp4", cut(ETAG))
    async with connect() as client:
        assert "not http(s)" in str(await refused(client, f"{gateway.address}/start", tmp_path))
    assert [r.path for r in gateway.received] == ["/start", "/v.mp4", "/start"]


# --- free requests in passing trouble ------------------------------------------------------------------

RUNNING = says({"code": "success", "data": {"task_id": "task_1", "status": "IN_PROGRESS"}})
BROKEN = says({"code": "fail_to_fetch_task", "message": "no"}, 502)
PASSING = {
    "500": BROKEN,
    "408": Answer(408),
    "429": says({}, 429),
    "429 with a short wait": says({}, 429, Retry_After="0"),
    "cut": replace(RUNNING, fault="truncate"),
    "reset": replace(RUNNING, fault="reset_after_request"),
    "closed": replace(RUNNING, fault="close"),
}


@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
async def test_a_query_in_passing_trouble_is_sent_again(
    answer: Answer, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, answer, answer, RUNNING)
    async with connect() as client:
        assert (await client.query("task_1")).state == "running"
    assert len(gateway.received) == 3


async def test_a_query_waits_as_long_as_the_gateway_asks(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("GET", CREATE, says({}, 429, Retry_After="1"), RUNNING)
    began = anyio.current_time()
    async with connect() as client:
        with stamina.set_testing(False):
            await client.query("task_1")
    assert 1 <= anyio.current_time() - began < 3


async def test_trouble_that_stays_is_told_after_three_queries(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("GET", CREATE, BROKEN)
    async with connect() as client:
        with pytest.raises(BadReply) as caught:
            await client.query("task_1")
    assert (caught.value.http_status, len(gateway.received)) == (502, 3)


SETTLED = {
    "401": says({"error": {"message": "no", "type": "new_api_error"}}, 401),
    "403": says({}, 403),
    "404": says({}, 404),
    "no such task": says({"code": "task_not_exist"}, 400),
    "429 with a long wait": says({}, 429, Retry_After="60"),
    "503 with a long wait": says({}, 503, Retry_After="60"),
}


@pytest.mark.parametrize("answer", SETTLED.values(), ids=SETTLED)
async def test_a_query_that_waiting_does_not_help_is_sent_once(
    answer: Answer, gateway: FaultGateway, connect: Connect
) -> None:
    gateway.on("GET", CREATE, answer)
    async with connect() as client:
        with pytest.raises(SoraError):
            await client.query("task_1")
    assert len(gateway.received) == 1


async def test_a_check_of_the_key_is_sent_again_too(gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("GET", "/v1/models", BROKEN, says({"data": []}))
    async with connect() as client:
        assert (await client.probe()).models == []


@pytest.mark.parametrize("answer", [BROKEN, says({}, 429), replace(RUNNING, fault="reset_after_request")], ids=repr)
async def test_an_upload_is_never_sent_again(answer: Answer, gateway: FaultGateway, connect: Connect) -> None:
    gateway.on("POST", "/v1/files", answer)
    async with connect() as client:
        with pytest.raises(BadReply):
            await client.upload("a.png", b"x")
    assert len(gateway.received) == 1


@pytest.mark.parametrize(
    "second", [replace(RUNNING, fault="stall"), replace(RUNNING, fault="drip")], ids=["stall", "drip"]
)
async def test_all_attempts_of_a_query_together_take_no_longer_than_one_may(
    second: Answer, gateway: FaultGateway, make_settings: Callable[..., Settings]
) -> None:
    gateway.on("GET", CREATE, BROKEN, second)
    settings = make_settings(base_url=gateway.address, api_key=KEY, query_timeout=1)
    client = Gateway(settings.endpoint(), settings)
    began = anyio.current_time()
    with pytest.raises(BadReply):
        await client.query("task_1")
    await client.aclose()
    assert anyio.current_time() - began < 1.5
    assert len(gateway.received) == 2


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
