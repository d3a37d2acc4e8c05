"""Images from this machine: only images in the allowed folders are uploaded, once, before the create."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest
from bench import ACCEPTED, KEY, PNG, Connect, Run
from calls import ToolReply, ask, assert_accepted, assert_refused, create, item
from fault_gateway import CREATE, Answer, FaultGateway, Hold, says
from photos import FILM, HEIC, corner, find_corner

from sora_mcp.studio import image_files

pytestmark = pytest.mark.anyio

FILES = "/v1/files"
UPLOADED = "https://files.example/image.png"


@pytest.fixture
async def gateway(gateway: FaultGateway) -> FaultGateway:
    gateway.on("POST", FILES, says({"id": "file-1", "object": "file", "url": UPLOADED}))
    return gateway


@pytest.fixture
def connect(connect: Connect, pictures: Path) -> Connect:
    return partial(connect, image_dirs=(pictures,))


def _outside(pictures: Path) -> Path:
    path = pictures.parent / "private.png"
    path.write_bytes(PNG)
    return path


def _past_the_folder(pictures: Path) -> Path:
    return pictures / ".." / _outside(pictures).name


def _link(pictures: Path) -> Path:
    path = pictures / "link.png"
    path.symlink_to(_outside(pictures))
    return path


def _linked_folder(pictures: Path) -> Path:
    (pictures / "door").symlink_to(pictures.parent, target_is_directory=True)
    return pictures / "door" / _outside(pictures).name


def _link_to_itself(pictures: Path) -> Path:
    path = pictures / "loop.png"
    path.symlink_to(path)
    return path


def _text(pictures: Path) -> Path:
    path = pictures / "key.png"
    path.write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    return path


def _empty(pictures: Path) -> Path:
    path = pictures / "empty.png"
    path.touch()
    return path


def _folder(pictures: Path) -> Path:
    path = pictures / "folder.png"
    path.mkdir()
    return path


def _fifo(pictures: Path) -> Path:
    path = pictures / "fifo.png"
    os.mkfifo(path)
    return path


def _huge(pictures: Path) -> Path:
    path = pictures / "huge.png"
    path.write_bytes(PNG)
    os.truncate(path, 20_000_001)
    return path


def _absent(pictures: Path) -> Path:
    return pictures / "absent.png"


NO_FILES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "outside the folder": (_outside, "outside the allowed folders"),
    "past the folder": (_past_the_folder, "outside the allowed folders"),
    "a link out of it": (_link, "outside the allowed folders"),
    "through a linked folder": (_linked_folder, "outside the allowed folders"),
    "a link to itself": (_link_to_itself, "inpaint_items[0].url"),
    "a text named .png": (_text, "is not an image"),
    "an empty file": (_empty, "is not an image"),
    "a folder": (_folder, "not a regular file"),
    "a pipe": (_fifo, "not a regular file"),
    "more than 20 MB": (_huge, "up to 20 MB"),
    "nothing": (_absent, "is not a file that can be read"),
}


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


@pytest.mark.skipif(sys.platform == "win32", reason="links and pipes need privileges there")
@pytest.mark.parametrize(("make", "words"), NO_FILES.values(), ids=NO_FILES)
async def test_a_file_that_is_no_allowed_image_is_never_uploaded(
    make: Callable[[Path], Path], words: str, gateway: FaultGateway, pictures: Path, connect: Connect
) -> None:
    path, open_before = make(pictures), open_files()
    async with connect() as client:
        told = await assert_refused(client, *item(url=str(path)), "inpaint_items[0].url", words)
    assert "OPENSSH" not in told.text
    assert gateway.connections == 0
    assert open_files() == open_before


@pytest.mark.skipif(sys.platform == "win32", reason="there an open file is in nobody's way, and its locks stay")
@pytest.mark.parametrize("name", ["ledger.sqlite3", "ledger.sqlite3-wal", "ledger.sqlite3-shm", "writers/*"])
async def test_a_file_of_the_ledger_is_not_even_opened_for_that_would_free_its_locks(
    name: str, gateway: FaultGateway, tmp_path: Path, connect: Connect, run: Run
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED, hold=hold))
    async with connect(image_dirs=(tmp_path,)) as client, anyio.create_task_group() as calls:
        calls.start_soon(ask, client, *create())
        await hold.reached.wait()
        path = min((tmp_path / "home").glob(name))
        other_name = tmp_path / "door.png"
        other_name.hardlink_to(path)
        for each in (path, other_name):
            await assert_refused(client, *item(url=str(each)), "belongs to the ledger")
        listed = await anyio.to_thread.run_sync(partial(run, "list", BASE_URL=gateway.address, API_KEY=KEY))
        hold.release.set()
    assert "sending" in listed.stdout, listed.stdout + listed.stderr


async def test_without_allowed_folders_no_file_is_read(gateway: FaultGateway, pictures: Path, connect: Connect) -> None:
    (pictures / "door.png").write_bytes(PNG)
    async with connect(image_dirs=()) as client:
        await assert_refused(client, *item(url=str(pictures / "door.png")), "SORA_IMAGE_DIRS")
    assert gateway.connections == 0


async def test_a_local_image_is_uploaded_once_and_its_address_is_sent(
    gateway: FaultGateway, pictures: Path, connect: Connect
) -> None:
    (pictures / "my private name.png").write_bytes(PNG)
    async with connect() as client:
        await assert_accepted(client, *item(url=str(pictures / "my private name.png"), frame_index=0))
    [upload] = gateway.requests("POST", FILES)
    assert PNG in upload.body
    assert b"private" not in upload.body
    assert upload.headers["content-type"].startswith("multipart/form-data")
    [sent] = gateway.creates()
    assert sent.json()["inpaint_items"] == [{"url": UPLOADED, "frame_index": 0}]


NO_UPLOAD = {
    "500": says({"message": "disk full"}, 500),
    "401": says({"error": {"message": "bad key", "type": "new_api_error"}}, 401),
    "no address": says({"id": "file-1"}),
    "an address that is none": says({"id": "file-1", "url": "file-1.png"}),
    "cut off": Answer(fault="close"),
}


@pytest.mark.parametrize("answer", NO_UPLOAD.values(), ids=NO_UPLOAD)
async def test_an_image_that_cannot_be_uploaded_leaves_nothing_submitted(
    answer: Answer, gateway: FaultGateway, pictures: Path, connect: Connect
) -> None:
    gateway.on("POST", FILES, answer)
    (pictures / "door.png").write_bytes(PNG)
    async with connect() as client:
        await assert_refused(client, *item(url=str(pictures / "door.png")))
    assert gateway.creates() == []


# --- as phones make them --------------------------------------------------------------------------


async def uploaded(connect: Connect, gateway: FaultGateway, path: Path, content: bytes) -> tuple[ToolReply, bytes]:
    """What is told of a request with this image, and the bytes that were uploaded."""
    await anyio.Path(path).write_bytes(content)
    async with connect() as client:
        told = await assert_accepted(client, *item(url=str(path)))
    [upload] = gateway.requests("POST", FILES)
    head, _, rest = upload.body.partition(b"\r\n\r\n")
    assert b'filename="image.' in head
    boundary = b"\r\n--" + upload.headers["content-type"].partition("boundary=")[2].encode()
    return told, rest.partition(boundary)[0]


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_a_film_behind_an_image_is_not_uploaded(
    kind: str, gateway: FaultGateway, pictures: Path, connect: Connect
) -> None:
    told, content = await uploaded(connect, gateway, pictures / "motion.jpg", corner(kind) + FILM)
    assert content == corner(kind)
    assert " kB after the end of the picture are not sent" in told.text


UPRIGHT = {1: "upper left", 3: "lower right", 6: "upper right", 8: "lower left"}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
async def test_an_image_is_uploaded_upright(
    kind: str, orientation: int, gateway: FaultGateway, pictures: Path, connect: Connect
) -> None:
    told, content = await uploaded(connect, gateway, pictures / "photo", corner(kind, orientation) + FILM)
    assert find_corner(content) == ((48, 64) if orientation in {6, 8} else (64, 48), UPRIGHT[orientation])
    assert image_files.orientation_of(content) == 1
    assert ("is sent rotated upright" in told.text) == (orientation != 1)
    assert b"private film" not in content


async def test_heic_is_uploaded_as_a_jpeg(gateway: FaultGateway, pictures: Path, connect: Connect) -> None:
    told, sent = await uploaded(connect, gateway, pictures / "IMG_0001.HEIC", HEIC + FILM)
    assert sent.startswith(b"\xff\xd8\xff")
    assert find_corner(sent) == ((64, 48), "upper left")
    assert "inpaint_items[0].url: is HEIC and is sent as JPEG" in told.text
    assert "pi_heif" not in sys.modules


@pytest.mark.parametrize("orientation", UPRIGHT)
async def test_avif_is_uploaded_as_an_upright_jpeg(
    orientation: int, gateway: FaultGateway, pictures: Path, connect: Connect
) -> None:
    _, sent = await uploaded(connect, gateway, pictures / "a.avif", corner("AVIF", orientation))
    assert (sent[:3], find_corner(sent)[1]) == (b"\xff\xd8\xff", UPRIGHT[orientation])


@pytest.mark.parametrize("content", [HEIC[:300], HEIC[:40], HEIC[:60] + bytes(400)], ids=["cut", "a head", "zeros"])
async def test_a_damaged_heic_is_refused_and_nothing_is_sent(
    content: bytes, gateway: FaultGateway, pictures: Path, connect: Connect
) -> None:
    (pictures / "a.heic").write_bytes(content)
    async with connect() as client:
        await assert_refused(client, *item(url=str(pictures / "a.heic")), "inpaint_items[0].url", "damaged", "JPEG")
    assert gateway.connections == 0


async def test_the_same_photo_is_a_duplicate_whatever_is_made_of_it(
    gateway: FaultGateway, pictures: Path, connect: Connect
) -> None:
    (pictures / "a.jpg").write_bytes(corner("JPEG", 6) + FILM)
    async with connect() as client:
        await assert_accepted(client, *item(url=str(pictures / "a.jpg")))
        assert (await ask(client, *item(url=str(pictures / "a.jpg")))).data["duplicate"]
    assert len(gateway.creates()) == 1


async def test_without_what_reads_heic_it_is_refused_with_how_to_get_it(
    gateway: FaultGateway, pictures: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    (pictures / "a.heic").write_bytes(HEIC)
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    async with connect() as client:
        await assert_refused(
            client, *item(url=str(pictures / "a.heic")), "is HEIC", "JPEG", "-m pip install", "pi-heif"
        )
    assert gateway.connections == 0


async def test_without_the_extra_a_photo_is_sent_as_it_is_stored_and_that_is_said(
    gateway: FaultGateway, pictures: Path, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = corner("JPEG", 6)
    monkeypatch.setitem(sys.modules, "PIL", None)
    told, content = await uploaded(connect, gateway, pictures / "photo.jpg", photo + FILM)
    assert content == photo
    assert "may show it sideways" in told.text


async def test_a_dry_run_says_what_would_be_made_of_an_image_and_sends_nothing(
    gateway: FaultGateway, pictures: Path, connect: Connect
) -> None:
    (pictures / "photo.jpg").write_bytes(corner("JPEG", 8))
    async with connect() as client:
        tool, arguments = item(url=str(pictures / "photo.jpg"))
        told = await ask(client, tool, arguments | {"dry_run": True})
    assert "is sent rotated upright" in told.text
    assert gateway.requests("POST", FILES) == []
