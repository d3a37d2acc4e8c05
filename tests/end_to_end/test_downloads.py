"""Fetching over real sockets: redirects that lead nowhere, files that are cut off, downloads that go on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import anyio
import pytest
from anyio.lowlevel import checkpoint
from bench import KEY
from downloads import (
    EBML,
    FTYP,
    MP4,
    SEGMENT,
    WEBM,
    Reach,
    box,
    element,
    fetch_refused,
    leftovers,
    long_box,
    save,
    video,
)
from fault_gateway import CREATE, Answer, FaultGateway, Hold, says
from wording import next_step

from sora_mcp.core.errors import BadReply, Refused
from sora_mcp.dialects.protocol import Call
from sora_mcp.gateway import Gateway
from sora_mcp.gateway.download import fetch

pytestmark = pytest.mark.anyio

# --- redirects ------------------------------------------------------------------------------------

NOWHERE = ["javascript:1", "http://[::1", "http://", "https://xn--.com/", "http://8.8.8.8:99999/", "//[", "\\\\", "?"]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("location", NOWHERE)
async def test_a_create_redirected_to_no_address_created_nothing(
    location: str, status: int, gateway: FaultGateway, reach: Reach
) -> None:
    gateway.on("POST", CREATE, Answer(status, b"", {"Location": location}))
    async with reach() as client:
        with pytest.raises(Refused) as caught:
            await client.create(Call(method="POST", path=CREATE, json={"prompt": "fly man"}), checkpoint)
    assert (caught.value.outcome, caught.value.http_status) == ("rejected", status)
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("location", NOWHERE)
async def test_a_query_redirected_to_no_address_is_refused(location: str, gateway: FaultGateway, reach: Reach) -> None:
    gateway.on("GET", CREATE, Answer(302, b"", {"Location": location}))
    async with reach() as client:
        with pytest.raises(Refused, match="redirects"):
            await client.query("task_1")


@pytest.mark.parametrize("location", NOWHERE)
async def test_a_download_redirected_to_no_address_is_a_bad_reply(
    location: str, gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", Answer(302, b"", {"Location": location}))
    async with reach() as client:
        await fetch_refused(client, f"{gateway.address}/v.mp4", tmp_path)


@pytest.mark.parametrize("address", NOWHERE[1:5])
async def test_a_download_from_no_address_is_a_bad_reply(address: str, reach: Reach, tmp_path: Path) -> None:
    for base_url in ("https://gateway.example", "http://127.0.0.1:9"):
        async with reach(base_url) as client:
            await fetch_refused(client, address, tmp_path)


async def test_a_download_follows_redirects(gateway: FaultGateway, reach: Reach, tmp_path: Path) -> None:
    gateway.on("GET", "/a", Answer(302, b"", {"Location": "/b?x=1"}))
    gateway.on("GET", "/b", Answer(307, b"", {"Location": f"{gateway.address}/c"}))
    gateway.on("GET", "/c", video(MP4))
    async with reach() as client:
        assert (await save(client, f"{gateway.address}/a", tmp_path)).read_bytes() == MP4
    assert not [request for request in gateway.received if "authorization" in request.headers]


@pytest.mark.parametrize("headers", [{}, {"Location": ""}], ids=str)
async def test_a_redirect_without_a_place_is_no_video(
    headers: dict[str, str], gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", Answer(302, b"", headers))
    async with reach() as client:
        assert (await fetch_refused(client, f"{gateway.address}/v.mp4", tmp_path)).http_status == 302


async def test_the_key_is_struck_from_the_address_of_a_redirect(gateway: FaultGateway, reach: Reach) -> None:
    gateway.on("POST", CREATE, Answer(302, b"", {"Location": f"https://login.example/{KEY}/in"}))
    async with reach() as client:
        with pytest.raises(Refused) as caught:
            await client.create(Call(method="POST", path=CREATE, json={}), checkpoint)
    assert KEY not in f"{caught.value} {next_step(caught.value)}"
    assert "https://login.example/[key]/in" in str(caught.value)


# --- many at once ---------------------------------------------------------------------------------


async def test_nothing_that_is_paid_for_waits_behind_downloads(
    gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    holds = [Hold() for _ in range(30)]
    gateway.on("GET", "/v.mp4", *(replace(video(MP4), hold=hold, at="in_reply_body") for hold in holds))
    gateway.on("POST", CREATE, says({"code": 0, "data": {"id": "task_1"}}))
    async with reach(connect_timeout=2) as client, anyio.create_task_group() as downloads:
        for number in range(30):
            target = tmp_path / f"{number}.mp4"
            downloads.start_soon(partial(_fetch_in_vain, client, f"{gateway.address}/v.mp4", target))
        for hold in holds[:20]:
            await hold.reached.wait()
        created = await client.create(Call(method="POST", path=CREATE, json={"prompt": "fly man"}), checkpoint)
        downloads.cancel_scope.cancel()
    assert created.task_id == "task_1"


async def _fetch_in_vain(client: Gateway, url: str, target: Path) -> None:
    with suppress(BadReply):
        await fetch(client, url, target, max_bytes=1_000_000, timeout_s=20)


async def test_creates_that_a_gateway_is_slow_with_do_not_wait_for_each_other(
    gateway: FaultGateway, reach: Reach
) -> None:
    holds = [Hold() for _ in range(50)]
    accepted = says({"code": 0, "data": {"id": "task_1"}})
    gateway.on("POST", CREATE, *(replace(accepted, hold=hold) for hold in holds))
    async with reach(connect_timeout=5) as client, anyio.create_task_group() as creates:
        for _ in holds:
            creates.start_soon(client.create, Call(method="POST", path=CREATE, json={"prompt": "fly man"}), checkpoint)
        for hold in holds:
            await hold.reached.wait()
        for hold in holds:
            hold.release.set()
    assert len(gateway.creates()) == len(holds)


# --- files that are cut off -----------------------------------------------------------------------

FILM = box(b"moov", b"m" * 500) + box(b"mdat", b"v" * 3000)
FRAGMENTED = FTYP + box(b"moov", b"m" * 500) + (box(b"moof", b"f" * 90) + box(b"mdat", b"v" * 900)) * 3

WHOLE = {
    "boxes": MP4,
    "`free` first": box(b"free", b"f" * 90) + MP4,
    "`skip` first": box(b"skip") + MP4,
    "`wide` first, no `ftyp`": box(b"wide") + box(b"mdat", b"v" * 3000) + box(b"moov", b"m" * 500),
    "no `ftyp`": FILM,
    "no `ftyp`, the pictures first": box(b"mdat", b"v" * 3000) + box(b"moov", b"m" * 500),
    "zeros behind": MP4 + bytes(4001),
    "a byte behind": MP4 + b"\0",
    "a text behind": MP4 + b"-- end of file, written by a camera --\n",
    "a phone's trailer behind": MP4 + b"\0\0\x0a\x08\x17\0\0\0Image_UTC_DataSEFH" + b"x" * 50 + b"SEFT",
    "a box behind that is no part of the film, and cut off": MP4 + box(b"udta", b"u" * 90)[:-40],
    "padding behind that is cut off": MP4 + box(b"free", size=70_000),
    "fragments": FRAGMENTED,
    "fragments with an index, and bytes behind": FRAGMENTED + box(b"mfra", b"i" * 50) + b"\0\0\0",
    "fragments with a text behind": FRAGMENTED + b"written by a camera",
    "WebM with bytes behind": WEBM + bytes(99),
    "WebM with a text behind": WEBM + b"written by a camera",
    "a 64-bit size": FTYP + long_box(b"mdat", b"v" * 999) + box(b"moov"),
    "a box to the end": FTYP + box(b"moov", b"m" * 50) + box(b"mdat", b"v" * 999, size=0),
    "larger than one piece": FTYP + box(b"mdat", b"v" * 1_000_000) + box(b"moov", b"m" * 50),
    "WebM": WEBM,
    "WebM, of a length that it does not say": element(EBML, b"") + element(SEGMENT, b"w" * 1000, b"\x01" + b"\xff" * 7),
    "WebM, with a length of one byte": element(EBML, b"", b"\x80") + element(SEGMENT, b"w" * 100, b"\xe4"),
}


@pytest.mark.parametrize("body", WHOLE.values(), ids=WHOLE)
async def test_a_whole_file_is_kept(body: bytes, gateway: FaultGateway, reach: Reach, tmp_path: Path) -> None:
    gateway.on("GET", "/v.mp4", video(body))
    async with reach() as client:
        assert (await save(client, f"{gateway.address}/v.mp4", tmp_path)).read_bytes() == body


CUT_OFF = {
    "`wide` first, in the last box": (box(b"wide") + FILM)[:-1],
    "no `ftyp`, in the last box": FILM[:-1],
    "no `ftyp`, in a table at the end": (box(b"mdat", b"v" * 3000) + box(b"moov", b"m" * 500))[:-1],
    "in the second of two boxes of pictures": MP4 + box(b"mdat", b"v" * 3000)[:-1],
    "in a fragment": FRAGMENTED[:-1],
    "in a fragment's table": FRAGMENTED + box(b"moof", b"f" * 90)[:-1],
    "in the head of a fragment": FRAGMENTED + box(b"moof")[:3],
    "before a fragment": FRAGMENTED + box(b"styp", b"s" * 20)[:-1],
    "in the last box": MP4[:-1],
    "in the first box": FTYP[:-1],
    "in a box's head": FTYP + box(b"moov", b"m" * 50) + b"\0\0\0",
    "in a 64-bit size": FTYP + long_box(b"mdat", b"v")[:12],
    "in a long box": FTYP + long_box(b"mdat", b"v" * 999)[:-1],
    "a size past any file": FTYP + long_box(b"mdat", b"v" * 99, size=2**64 - 1),
    "a size below its head": FTYP + box(b"mdat", b"v" * 99, size=7),
    "a 64-bit size below its head": FTYP + long_box(b"mdat", b"v" * 99, size=15),
    "in a WebM's segment": WEBM[:-1],
    "in the head of a WebM's segment": WEBM[:18],
    "between a WebM's elements": WEBM[:12],
    "in a WebM's first element": WEBM[:9],
    "a WebM's size that is none": element(EBML, b"") + SEGMENT + b"\0" * 100,
}


@pytest.mark.parametrize("body", CUT_OFF.values(), ids=CUT_OFF)
async def test_a_file_whose_last_box_is_cut_off_gets_no_name(
    body: bytes, gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", video(body))
    async with reach() as client:
        assert "is incomplete" in str(await fetch_refused(client, f"{gateway.address}/v.mp4", tmp_path))


async def test_a_file_of_endless_small_boxes_is_not_walked_to_its_end(
    gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", video(FTYP + box(b"free") * 200_000))
    async with reach() as client:
        assert "not a video" in str(await fetch_refused(client, f"{gateway.address}/v.mp4", tmp_path))


@pytest.mark.parametrize(
    "text", ["The free plan has ended.", "\n\n\n\nwide is the gate", "    skip this", "{'a':moov}"]
)
async def test_a_text_whose_words_are_names_of_boxes_is_no_video(
    text: str, gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", video(text.encode()))
    async with reach() as client:
        assert "not a video" in str(await fetch_refused(client, f"{gateway.address}/v.mp4", tmp_path))


async def test_a_download_that_ends_before_its_length_is_cut_off(
    gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", replace(video(MP4), fault="truncate"))
    async with reach() as client:
        assert (await fetch_refused(client, f"{gateway.address}/v.mp4", tmp_path)).can_retry


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
    reach: Reach,
    tmp_path: Path,
) -> None:
    first = replace(cut(known_by), fault=fault)  # without a fault it stalls: the rest never comes
    kept = CUT_AT // 2 if fault == "reset_in_reply" else CUT_AT
    gateway.on("GET", "/v.mp4", first, rest(kept, known_by))
    async with reach(query_timeout=0.5) as client:
        assert (await save(client, f"{gateway.address}/v.mp4", tmp_path)).read_bytes() == MP4
    assert asked(gateway) == [(None, None), (f"bytes={kept}-", known_by.get("ETag", DATED["Last-Modified"]))]


NOT_ASKED_FOR = {
    "the whole, because it changed": replace(video(WEBM), headers={"ETag": '"v2"'}),
    "the whole again": video(MP4),
}


@pytest.mark.parametrize("answer", NOT_ASKED_FOR.values(), ids=NOT_ASKED_FOR)
async def test_where_the_whole_is_sent_again_the_first_part_is_forgotten(
    answer: Answer, gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", cut(ETAG), answer)
    async with reach() as client:
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
    answer: Answer, gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", cut(ETAG), answer, video(MP4))
    async with reach() as client:
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
    headers: dict[str, str], gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", cut(headers), video(MP4))
    async with reach() as client:
        assert (await save(client, f"{gateway.address}/v.mp4", tmp_path)).read_bytes() == MP4
    assert asked(gateway) == [(None, None), (None, None)]


async def test_a_video_that_is_cut_again_and_again_comes_in_pieces_and_its_progress_never_falls(
    gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    announced = {"Content-Length": str(len(MP4) - 2000), "Content-Range": f"bytes 2000-{len(MP4) - 1}/{len(MP4)}"}
    third = Answer(206, MP4[2000:3000], announced, fault="truncate")
    gateway.on("GET", "/v.mp4", cut(ETAG, at=2000), Answer(503), third, rest(3000))
    told: list[tuple[int, int | None]] = []

    async def tell(done: int, total: int | None) -> None:
        told.append((done, total))

    async with reach() as client:
        target = tmp_path / "video.mp4"
        await fetch(client, f"{gateway.address}/v.mp4", target, max_bytes=10_000, timeout_s=20, on_progress=tell)
    assert target.read_bytes() == MP4
    assert [part for part, _ in asked(gateway)] == [None, "bytes=2000-", "bytes=2000-", "bytes=3000-"]
    assert told == sorted(set(told))
    assert told[-1] == (len(MP4), len(MP4))


async def test_after_a_new_start_progress_is_told_only_from_where_it_was(
    gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", cut(), cut(at=500), video(MP4))
    told: list[int] = []

    async def tell(done: int, _: int | None) -> None:
        told.append(done)

    async with reach() as client:
        target = tmp_path / "video.mp4"
        await fetch(client, f"{gateway.address}/v.mp4", target, max_bytes=10_000, timeout_s=20, on_progress=tell)
    assert told == sorted(set(told))
    assert told[-1] == len(MP4)


@pytest.mark.parametrize("lost", ["moov", "mdat"])
async def test_a_cut_between_two_boxes_without_a_length_is_seen_and_mended(
    lost: str, gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    boxes = {"moov": box(b"moov", b"m" * 500), "mdat": box(b"mdat", b"v" * 3000)}
    last = boxes.pop(lost)
    start = FTYP + b"".join(boxes.values())
    whole = start + last
    part = Answer(200, start, {"Content-Type": "video/mp4"} | ETAG, fault="no_length")
    gateway.on("GET", "/v.mp4", part, rest(len(start), body=whole))
    async with reach() as client:
        assert (await save(client, f"{gateway.address}/v.mp4", tmp_path)).read_bytes() == whole


@pytest.mark.parametrize("kinds", [[b"moov"], [b"mdat"], [b"free"]], ids=str)
async def test_a_file_without_pictures_or_their_table_gets_no_name(
    kinds: list[bytes], gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", video(FTYP + b"".join(box(kind, b"x" * 50) for kind in kinds)))
    async with reach() as client:
        assert "is incomplete" in str(await fetch_refused(client, f"{gateway.address}/v.mp4", tmp_path))
    assert len(gateway.received) == 1  # its length was right: asking again would bring the same


async def test_a_download_that_is_cut_every_time_ends_with_nothing_left(
    gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", cut(ETAG), replace(rest(), body=b"", fault="reset_in_reply"))
    async with reach() as client:
        assert (await fetch_refused(client, f"{gateway.address}/v.mp4", tmp_path)).can_retry
    assert len(gateway.received) == 4


@pytest.mark.parametrize(("status", "requests"), [(403, 1), (404, 1), (429, 1), (408, 4), (502, 4)])
async def test_a_refused_download_is_told_at_once_and_trouble_is_waited_out_a_while(
    status: int, requests: int, gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", Answer(status))
    async with reach() as client:
        assert (await fetch_refused(client, f"{gateway.address}/v.mp4", tmp_path)).http_status == status
    assert len(gateway.received) == requests


async def test_the_size_limit_holds_over_all_pieces(gateway: FaultGateway, reach: Reach, tmp_path: Path) -> None:
    part = Answer(200, MP4[:2000], {"Content-Type": "video/mp4"} | ETAG, fault="no_length")
    gateway.on("GET", "/v.mp4", part, replace(rest(2000), headers={"Content-Range": "bytes 2000-9999/*"}))
    async with reach() as client:
        with pytest.raises(BadReply, match="larger than"):
            await fetch(client, f"{gateway.address}/v.mp4", tmp_path / "video.mp4", max_bytes=3000, timeout_s=20)
    assert leftovers(tmp_path) == []


async def test_the_time_limit_holds_over_all_attempts(gateway: FaultGateway, reach: Reach, tmp_path: Path) -> None:
    gateway.on("GET", "/v.mp4", cut(ETAG), replace(rest(), fault="stall"))
    async with reach() as client:
        with anyio.fail_after(5), pytest.raises(BadReply):
            await fetch(client, f"{gateway.address}/v.mp4", tmp_path / "video.mp4", max_bytes=10_000, timeout_s=1)
    assert leftovers(tmp_path) == []


async def test_no_file_of_this_machine_stands_at_an_address(
    gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on("GET", "/v.mp4", Answer(302, b"", {"Location": "file:///etc/passwd"}))
    async with reach() as client:
        for address in ("file:///etc/passwd", f"{gateway.address}/v.mp4"):
            assert "not http(s)" in str(await fetch_refused(client, address, tmp_path))


async def test_what_is_no_video_is_not_read_to_its_end(gateway: FaultGateway, reach: Reach, tmp_path: Path) -> None:
    gateway.on("GET", "/v.mp4", Answer(200, b"<html>" * 1000, fault="stall", at="in_reply_body"))
    async with reach() as client:
        assert "is not a video" in str(await fetch_refused(client, f"{gateway.address}/v.mp4", tmp_path))


async def test_each_attempt_follows_and_checks_its_redirects_anew(
    gateway: FaultGateway, reach: Reach, tmp_path: Path
) -> None:
    gateway.on(
        "GET", "/start", Answer(302, b"", {"Location": "/v.mp4"}), Answer(302, b"", {"Location": "ftp://inside/"})
    )
    gateway.on("GET", "/v.mp4", cut(ETAG))
    async with reach() as client:
        assert "not http(s)" in str(await fetch_refused(client, f"{gateway.address}/start", tmp_path))
    assert [r.path for r in gateway.received] == ["/start", "/v.mp4", "/start"]
