"""Images that come in by a signed link: what is taken, what is not, and how much of it."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import httpx
import pytest
from bench import PNG
from photos import HEIC
from signed_links import LinkServer

from sora_mcp.core.errors import InvalidInput
from sora_mcp.server.links import receiving
from sora_mcp.studio import uploads
from sora_mcp.studio.images import MAX_IMAGE_BYTES
from sora_mcp.studio.uploads import Uploads

pytestmark = pytest.mark.anyio

OTHER = PNG[:40] + b"other" + PNG[40:]
JPEG = bytes.fromhex("ffd8ffc0000b080001000101011100ffda000801010000003f00") + b"\x12\x34" + b"\xff\xd9"


def folder(room: LinkServer, owner: str = "alice") -> Path:
    [path] = [each for each in (room.settings.home / "uploads").iterdir() if each.name.startswith(owner)]
    return path


def kept(room: LinkServer) -> list[Path]:
    """What lies in everybody's folders, but for marks of links that were used."""
    files = (room.settings.home / "uploads").glob("*/*")
    return [path for path in files if path.suffix != ".link"]


async def in_parts(content: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(content), size):
        yield content[start : start + size]


# --- what is taken --------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("content", [PNG, JPEG, HEIC], ids=["png", "jpg", "heic"])
@pytest.mark.parametrize("headers", [{}, {"Content-Type": "image/png"}, {"Content-Type": "application/octet-stream"}])
async def test_an_image_gets_a_name_that_leads_to_its_very_bytes(
    room: LinkServer, http: httpx.AsyncClient, method: str, content: bytes, headers: dict[str, str]
) -> None:
    answer = await http.request(method, await room.for_image(), content=content, headers=headers)
    assert answer.status_code == 201, answer.text
    about = answer.json()
    assert about["bytes"] == len(content)
    assert about["url"] in about["next_step"]
    assert folder(room).joinpath(about["url"].removeprefix("upload:")).read_bytes() == content
    image = Uploads(room.settings.home, "alice").read(about["url"], "url")
    assert image.kind == about["kind"]


async def test_an_image_leads_nowhere_for_anybody_else(room: LinkServer, http: httpx.AsyncClient) -> None:
    name = (await http.put(await room.for_image("alice"), content=PNG)).json()["url"]
    bobs = Uploads(room.settings.home, "bob")
    assert not bobs.has(name)
    with pytest.raises(InvalidInput) as of_another:
        bobs.read(name, "url")
    with pytest.raises(InvalidInput) as unknown:
        bobs.read("upload:" + "0" * 32, "url")
    assert of_another.value.message == unknown.value.message


async def test_the_same_bytes_have_the_same_name(room: LinkServer, http: httpx.AsyncClient) -> None:
    names = {(await http.put(await room.for_image(), content=PNG)).json()["url"] for _ in range(3)}
    assert len(names) == 1
    assert len(kept(room)) == 1


async def test_files_and_folders_are_the_servers_alone(room: LinkServer, http: httpx.AsyncClient) -> None:
    await http.put(await room.for_image(), content=PNG)
    assert folder(room).stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in kept(room)} == {0o600}


# --- a link that is used again --------------------------------------------------------------------


async def test_a_link_takes_one_image_which_may_be_sent_again(room: LinkServer, http: httpx.AsyncClient) -> None:
    """A client that lost the answer sends the same once more; whoever else has the link sends nothing."""
    link = await room.for_image()
    first = await http.put(link, content=PNG)
    assert (await http.put(link, content=PNG)).json() == first.json()
    refused = await http.put(link, content=OTHER)
    assert refused.status_code == 409
    assert [path.read_bytes() for path in kept(room)] == [PNG]


async def test_of_two_images_that_come_by_one_link_at_once_one_is_kept(
    room: LinkServer, http: httpx.AsyncClient
) -> None:
    link, answers = await room.for_image(), list[int]()

    async def send(content: bytes) -> None:
        answers.append((await http.put(link, content=in_parts(content, 50))).status_code)

    async with anyio.create_task_group() as tasks:
        for content in (PNG, OTHER):
            tasks.start_soon(send, content)
    assert sorted(answers) == [201, 409]
    assert len(kept(room)) == 1


def test_the_same_image_may_come_by_one_link_several_times_at_once(tmp_path: Path) -> None:
    def send(link: str) -> None:
        mine = Uploads(tmp_path, "alice")
        part = mine.begin(len(PNG))
        part.file.write(PNG)
        mine.store(part, link)
        part.discard()

    with ThreadPoolExecutor(8) as senders:
        list(senders.map(send, [f"link {number // 8}" for number in range(160)]))


async def test_a_link_by_which_nothing_came_can_still_be_used(room: LinkServer, http: httpx.AsyncClient) -> None:
    link = await room.for_image()
    assert (await http.put(link, content=b"no image at all")).status_code == 415
    assert (await http.put(link, content=PNG)).status_code == 201


# --- what is not taken ----------------------------------------------------------------------------

NO_IMAGES = {
    "nothing": b"",
    "text": b"-----BEGIN OPENSSH PRIVATE KEY-----" * 20,
    "a web page": b"<html><script>alert(1)</script>" * 20,
    "a drawing": b"<svg xmlns='http://www.w3.org/2000/svg'/>" * 20,
    "an animation": b"GIF89a" + bytes(500),
    "half an image": PNG[:100],
    "the beginning of one": PNG[:8],
    "a form": b'--x\r\nContent-Disposition: form-data; name="f"\r\n\r\n' + PNG + b"\r\n--x--",
}


@pytest.mark.parametrize("what", NO_IMAGES)
@pytest.mark.parametrize("size", [7, 100_000])
async def test_what_is_no_image_is_not_kept(room: LinkServer, http: httpx.AsyncClient, what: str, size: int) -> None:
    answer = await http.put(await room.for_image(), content=in_parts(NO_IMAGES[what], size))
    assert answer.status_code == 415
    assert "mage" in answer.json()["error"]
    assert kept(room) == []


TYPES = ["text/html", "application/json", "multipart/form-data; boundary=x", "application/x-www-form-urlencoded"]


@pytest.mark.parametrize("kind", [*TYPES, "video/mp4", "x"])
async def test_a_body_that_says_it_is_something_else_is_not_taken(
    room: LinkServer, http: httpx.AsyncClient, kind: str
) -> None:
    answer = await http.put(await room.for_image(), content=PNG, headers={"Content-Type": kind})
    assert answer.status_code == 415
    assert "curl -T" in answer.json()["error"]


@pytest.mark.parametrize("header", [{"Content-Encoding": "gzip"}, {"Content-Range": "bytes 0-5/10"}])
async def test_a_part_of_an_image_or_a_compressed_one_is_not_taken(
    room: LinkServer, http: httpx.AsyncClient, header: dict[str, str]
) -> None:
    assert (await http.put(await room.for_image(), content=PNG, headers=header)).status_code in {400, 415}


@pytest.mark.parametrize("is_declared", [True, False])
async def test_a_body_of_100_mb_is_refused_and_never_held(
    room: LinkServer, http: httpx.AsyncClient, *, is_declared: bool
) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield PNG[:300]
        for _ in range(100):
            sent += 1_000_000
            yield bytes(1_000_000)

    headers = {"Content-Length": "100000300"} if is_declared else {}
    answer = await http.put(await room.for_image(), content=body(), headers=headers)
    assert answer.status_code == 413
    assert "20 MB" in answer.json()["error"]
    if is_declared:
        assert not (room.settings.home / "uploads").exists()
    else:
        assert kept(room) == []


async def test_an_image_as_large_as_may_be_is_taken(room: LinkServer, http: httpx.AsyncClient) -> None:
    content = PNG + bytes(MAX_IMAGE_BYTES - len(PNG))
    answer = await http.put(await room.for_image(), content=in_parts(content, 1_000_000))
    assert answer.status_code == 201
    assert (await http.put(await room.for_image(), content=content + b"x")).status_code == 413


async def test_a_body_that_comes_too_slowly_is_given_up(
    room: LinkServer, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "UPLOAD_TIMEOUT_S", 0.05)

    async def body() -> AsyncIterator[bytes]:
        yield PNG[:300]
        for _ in range(100):
            await anyio.sleep(0.01)
            yield b"x"

    answer = await http.put(await room.for_image(), content=body())
    assert answer.status_code == 408
    assert kept(room) == []


@pytest.mark.skipif(sys.platform == "win32", reason="the system has no limit for files")
@pytest.mark.parametrize("size", [700_000, 4_000_000])
async def test_a_disk_that_takes_no_more_is_told_and_nothing_is_left(
    room: LinkServer, http: httpx.AsyncClient, size: int
) -> None:
    import resource  # noqa: PLC0415 - not on every platform

    link = await room.for_image()
    content = PNG + bytes(size)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, before[1]))
    try:
        answer = await http.put(link, content=in_parts(content, 300_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert answer.status_code == 507
    assert answer.json()["error"].startswith("The image cannot be saved: ")
    assert "Tell whoever runs this server, and send the image again" in answer.json()["error"]
    assert kept(room) == []
    assert (await http.put(link, content=in_parts(content, 300_000))).status_code == 201


# --- how much -------------------------------------------------------------------------------------


async def test_nobody_has_more_images_here_than_may_be(
    room: LinkServer, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_IMAGES", 2)
    for number in range(2):
        assert (await http.put(await room.for_image(), content=PNG + bytes([number]))).status_code == 201
    refused = await http.put(await room.for_image(), content=PNG + b"2")
    assert refused.status_code == 429
    assert 0 < int(refused.headers["retry-after"]) <= 86_400
    assert (await http.put(await room.for_image("bob"), content=PNG)).status_code == 201
    for path in kept(room):
        os.utime(path, (1, 1))
    (room.settings.home / "uploads" / "swept").unlink()
    assert (await http.put(await room.for_image(), content=PNG)).status_code == 201
    assert len(kept(room)) == 1


async def test_nobody_has_more_bytes_here_than_may_be(
    room: LinkServer, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MAX_BYTES", 2 * len(PNG))
    assert (await http.put(await room.for_image(), content=PNG)).status_code == 201
    assert (await http.put(await room.for_image(), content=PNG + b"1")).status_code == 429
    assert (await http.put(await room.for_image(), content=in_parts(PNG + b"1"))).status_code == 429
    assert len(kept(room)) == 1


async def test_an_image_is_forgotten_after_a_day(room: LinkServer, http: httpx.AsyncClient) -> None:
    name = (await http.put(await room.for_image(), content=PNG)).json()["url"]
    [path] = kept(room)
    about = path.stat()
    later = Uploads(room.settings.home, "alice", lambda: about.st_mtime + 86_400)
    assert Uploads(room.settings.home, "alice", lambda: about.st_mtime + 86_399).has(name)
    assert not later.has(name)
    with pytest.raises(InvalidInput):
        later.read(name, "url")


NAMES = [
    "upload:",
    "upload:../x",
    "upload:" + "A" * 32,
    "upload:" + "0" * 31,
    "upload:" + "0" * 33,
    "upload:/etc/passwd",
]


@pytest.mark.parametrize("name", [*NAMES, "upload:" + "0" * 32 + "\n", "upload:swept"])
async def test_other_names_lead_nowhere(room: LinkServer, http: httpx.AsyncClient, name: str) -> None:
    await http.put(await room.for_image(), content=PNG)
    assert not Uploads(room.settings.home, "alice").has(name)


async def test_one_image_may_not_be_sent_by_any_number_of_links(
    room: LinkServer, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each link that was used is a file for a day."""
    monkeypatch.setattr(uploads, "MAX_LINKS", 3)
    answers = [await http.put(await room.for_image(), content=PNG) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [201, 201, 201, 429]
    assert 86_000 < int(answers[-1].headers["retry-after"]) <= 86_400
    assert (await http.put(await room.for_image("bob"), content=PNG)).status_code == 201
