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
from bench import KEY, PNG, TAKEN, Connect, Run
from calls import ask, assert_accepted, assert_refused, create, item
from fault_gateway import CREATE, Answer, FaultGateway, Hold, says

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
    gateway.on("POST", CREATE, replace(TAKEN, hold=hold))
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
