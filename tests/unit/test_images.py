"""Local images: which paths are allowed, and what is an image."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from bench import killed_on_failure
from hypothesis import given
from hypothesis import strategies as st
from photos import FILM, corner
from PIL import Image

from sora_mcp.core.errors import InvalidInput
from sora_mcp.ledger import open_ledger
from sora_mcp.studio import image_files, images


def picture(kind: str, side: int = 40, **options: object) -> bytes:
    """A real image, noisy so that it has a body."""
    chance = random.Random(side)  # noqa: S311 - the same picture in every run
    written = io.BytesIO()
    Image.frombytes("RGB", (side, side), chance.randbytes(3 * side * side)).save(written, kind, **options)
    return written.getvalue()


WHOLE = {
    "a PNG": (picture("PNG"), "image.png"),
    "a tiny PNG": (picture("PNG", 1), "image.png"),
    "a JPEG": (picture("JPEG"), "image.jpg"),
    "a progressive JPEG with EXIF": (picture("JPEG", progressive=True, exif=Image.Exif()), "image.jpg"),
    "a JPEG with a comment and a thumbnail": (picture("JPEG", comment=b"x\xff\xd9" * 3000), "image.jpg"),
    "a lossy WebP": (picture("WEBP"), "image.webp"),
    "a lossless WebP": (picture("WEBP", 33, lossless=True), "image.webp"),
    "a WebP with EXIF": (picture("WEBP", exif=b"Exif\0\0" + bytes(9)), "image.webp"),
}
SECRET = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" * 20
NO_IMAGES = {
    "a PNG's signature before a text": b"\x89PNG\r\n\x1a\n" + SECRET,
    "half a PNG": picture("PNG")[:900],
    "a JPEG's first bytes before a text": b"\xff\xd8\xff\xe0" + SECRET,
    "a JPEG's first and last bytes around a text": b"\xff\xd8\xff\xe0" + SECRET + b"\xff\xd9",
    "half a JPEG": picture("JPEG", 200)[:900],
    "an empty JPEG": b"\xff\xd8\xff\xd9",
    "filling without end": b"\xff\xd8" + b"\xff" * 1000,
    "a WebP's first bytes before a text": b"RIFF\x10\0\0\0WEBPVP8 " + SECRET,
    "half a WebP": picture("WEBP")[:200],
}


def read(text: str, folders: tuple[Path, ...]) -> images.Image:
    return images.read(text, folders, "url", lambda _path: False)


@pytest.mark.parametrize(("content", "name"), WHOLE.values(), ids=WHOLE)
def test_a_whole_image_is_taken_as_it_is(tmp_path: Path, content: bytes, name: str) -> None:
    (tmp_path / "given").write_bytes(content)
    image = read(str(tmp_path / "given"), (tmp_path,))
    assert (image.name, image.content) == (name, content)


BEHIND = {
    "a key": SECRET,
    "a phone's film": FILM,
    "a phone's trailer": b"SEFT" * 50,
    "a byte": b"\0",
    "zeros": bytes(5000),
    "another image": picture("PNG", 5),
    "a JPEG": picture("JPEG", 5),
}


@pytest.mark.parametrize("behind", BEHIND.values(), ids=BEHIND)
@pytest.mark.parametrize(("content", "name"), WHOLE.values(), ids=WHOLE)
def test_what_stands_behind_an_image_is_left_out(tmp_path: Path, content: bytes, name: str, behind: bytes) -> None:
    (tmp_path / "given").write_bytes(content + behind)
    image = read(str(tmp_path / "given"), (tmp_path,))
    assert (image.name, image.content) == (name, content)
    assert image.digest == hashlib.sha256(content + behind).hexdigest()
    assert [note for note in image.notes if "after the end" in note] == list(image.notes)
    assert bool(image.notes) == (len(behind) > images.MAX_UNREPORTED_BYTES)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_read_as_pillow_reads_it(kind: str, orientation: int) -> None:
    content = corner(kind, orientation)
    with Image.open(io.BytesIO(content)) as image:
        assert image.getexif().get(0x0112, 1) == orientation
    assert image_files.orientation_of(content) == orientation


@given(st.sampled_from(["PNG", "JPEG", "WEBP"]), st.data())
def test_a_damaged_image_is_refused_or_taken_in_bounds(kind: str, data: st.DataObject) -> None:
    content = bytearray(corner(kind, 6))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    damaged = bytes(content[: data.draw(st.integers(0, len(content)))])
    end = image_files.trim(damaged)
    assert end is None or damaged.startswith(end)
    assert 1 <= image_files.orientation_of(damaged) <= 8
    assert min(image_files.size_of(damaged)) >= 0


@pytest.mark.parametrize("content", NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_only_begins_as_an_image_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key.png").write_bytes(content)
    with pytest.raises(InvalidInput, match="but is incomplete"):
        read(str(tmp_path / "key.png"), (tmp_path,))


def test_a_path_outside_names_the_folders_that_are_allowed(tmp_path: Path) -> None:
    folders = (tmp_path / "one", tmp_path / "two")
    with pytest.raises(InvalidInput, match="lies outside the allowed folders") as told:
        read("/etc/passwd", folders)
    assert f"{folders[0]}, {folders[1]} (setting image_dirs)" in told.value.message


def test_a_relative_path_is_looked_for_in_the_allowed_folders_before_where_the_server_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {name: picture("PNG", side) for side, name in enumerate(("one", "two", "here"), 5)}
    for name, image in content.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.png").write_bytes(image)
    (tmp_path / "here" / "two.png").write_bytes(content["here"])
    monkeypatch.chdir(tmp_path / "here")
    folders = tuple(tmp_path / name for name in content)
    for name, image in content.items():
        assert read(f"{name}.png", folders).content == image


@pytest.mark.parametrize("given", ["../private.png", "link.png", "folder/../../private.png"])
def test_a_relative_path_does_not_lead_out_of_an_allowed_folder(tmp_path: Path, given: str) -> None:
    folder = tmp_path / "pictures"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "private.png").write_bytes(picture("PNG"))
    (folder / "link.png").symlink_to(tmp_path / "private.png")
    with pytest.raises(InvalidInput, match="lies outside the allowed folders"):
        read(given, (folder,))


SWAP = """
import itertools, os, sys
folder, aside, outside = sys.argv[1:]
os.write(1, b"x")
for _ in itertools.repeat(None, 2_000_000):
    os.rename(folder, aside)
    os.symlink(outside, folder)
    os.unlink(folder)
    os.rename(aside, folder)
"""
"""A folder is a link for half of the time, until somebody ends this."""


@pytest.mark.skipif(sys.platform == "win32", reason="links need privileges there")
@pytest.mark.parametrize("name", ["sub/door.png", "alias/door.png"])
@pytest.mark.slow
def test_a_folder_that_is_swapped_for_a_link_meanwhile_does_not_lead_out(tmp_path: Path, name: str) -> None:
    inside, outside, sub = tmp_path / "pictures", tmp_path / "private", tmp_path / "pictures" / "sub"
    images_of = {folder: picture("PNG", side) for side, folder in enumerate((sub, outside), 5)}
    for folder, image in images_of.items():
        folder.mkdir(parents=True)
        (folder / "door.png").write_bytes(image)
    (inside / "alias").symlink_to("sub")
    command = [sys.executable, "-c", SWAP, str(sub), str(tmp_path / "aside"), str(outside)]
    read_from = dict.fromkeys(images_of, 0)
    assert read(name, (inside,)).content == images_of[sub]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as swapping, killed_on_failure(swapping):  # noqa: S603
        assert swapping.stdout is not None
        swapping.stdout.read(1)
        try:
            for _ in range(2000):
                with suppress(InvalidInput):
                    content = read(name, (inside,)).content
                    read_from[next(folder for folder, image in images_of.items() if image == content)] += 1
        finally:
            swapping.kill()
    assert read_from[outside] == 0


@pytest.mark.skipif(sys.platform == "win32", reason="links need privileges there")
def test_a_link_that_stays_inside_is_followed(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "door.png").write_bytes(picture("PNG"))
    (tmp_path / "folder").symlink_to("a/b")
    (tmp_path / "door.png").symlink_to("folder/door.png")
    for name in ("a/b/door.png", "folder/door.png", "door.png", "folder/../b/door.png"):
        assert read(name, (tmp_path,)).content == picture("PNG")
    (tmp_path / "pictures").symlink_to("a")
    assert read("b/door.png", (tmp_path / "pictures",)).content == picture("PNG")


@pytest.mark.skipif(sys.platform == "win32", reason="there an open file is in nobody's way, and its locks stay")
def test_a_file_of_the_ledger_that_was_put_there_meanwhile_is_refused_and_never_closed(tmp_path: Path) -> None:
    (tmp_path / "door.png").write_bytes(picture("PNG"))
    opened: list[int] = []

    def is_ledger_file(path: Path | int) -> bool:
        opened.extend([path] if isinstance(path, int) else [])
        return bool(opened)

    with pytest.raises(InvalidInput, match="belongs to the ledger"):
        images.read("door.png", (tmp_path,), "url", is_ledger_file)
    assert os.path.samestat(os.fstat(opened[0]), (tmp_path / "door.png").stat())
    os.close(opened[0])


def test_the_ledger_knows_its_files_when_they_are_open(tmp_path: Path) -> None:
    with closing(open_ledger(tmp_path / "ledger.sqlite3")) as ledger:
        asyncio.run(ledger.account("https://gateway.example", "sk-1"))
        with (tmp_path / "ledger.sqlite3").open("rb") as file, (tmp_path / "other").open("w+b") as other:
            assert ledger.owns(file.fileno())
            assert not ledger.owns(other.fileno())


@pytest.mark.parametrize("given", ["file:///etc/passwd", "FILE://x/y.png", "file:x.png"])
def test_a_file_address_is_refused_with_the_hint_that_a_path_will_do(tmp_path: Path, given: str) -> None:
    assert not images.is_address(given)
    with pytest.raises(InvalidInput, match=f"as plain paths files inside {tmp_path}"):
        read(given, (tmp_path,))
