"""Keeping videos on a disk that refuses: full, read-only, gone; and what a kill in the middle leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from bench import COMMAND, environment, finished
from disks import small_disk_at
from downloads import Reach
from fault_gateway import CREATE, Answer, FaultGateway, Hold, fault_gateway
from wording import next_step

from sora_mcp.core.errors import FileProblem
from sora_mcp.gateway import Gateway
from sora_mcp.gateway.download import fetch

pytestmark = pytest.mark.anyio

SIZE = 3_000_000
MP4 = b"\0\0\0\x10ftypisom\0\0\2\0" + b"\0\0\0\x08moov" + (SIZE - 24).to_bytes(4, "big") + b"mdat" + b"v" * (SIZE - 32)
WHOLE = Answer(200, MP4, {"Content-Type": "video/mp4"})
CUT = Answer(200, MP4[:1_000_000], {"Content-Length": str(SIZE), "ETag": '"v1"'}, fault="truncate")


@pytest.fixture
async def gateway() -> AsyncIterator[FaultGateway]:
    async with fault_gateway() as opened:
        url = f"{opened.address}/v.mp4"
        opened.on("GET", CREATE, finished(url))
        opened.on("GET", "/v.mp4", WHOLE)
        yield opened


@pytest.fixture
async def client(reach: Reach) -> AsyncIterator[Gateway]:
    async with reach() as opened:
        yield opened


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "disk", "256k") as folder:
        yield folder


async def refused(client: Gateway, gateway: FaultGateway, target: Path, **more: Any) -> FileProblem:
    with pytest.raises(FileProblem) as caught:
        await fetch(client, f"{gateway.address}/v.mp4", target, max_bytes=10_000_000, timeout_s=20, **more)
    assert str(target.parent) in str(caught.value)
    assert "SORA_OUTPUT_DIR" in next_step(caught.value)
    return caught.value


def names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


async def test_a_full_disk_is_told_and_nothing_half_is_left(
    client: Gateway, gateway: FaultGateway, small_disk: Path
) -> None:
    assert "No space left" in str(await refused(client, gateway, small_disk / "video.mp4"))
    assert names_in(small_disk) == set()
    assert len(gateway.requests("GET", "/v.mp4")) == 1


async def test_a_name_that_is_too_long_is_told(client: Gateway, gateway: FaultGateway, tmp_path: Path) -> None:
    assert "too long" in str(await refused(client, gateway, tmp_path / f"{'v' * 250}.mp4"))


async def test_a_folder_that_is_a_file_is_told(client: Gateway, gateway: FaultGateway, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"mine")
    await refused(client, gateway, tmp_path / "file" / "video.mp4")
    assert (tmp_path / "file").read_bytes() == b"mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is read-only to root")
async def test_a_folder_that_is_read_only_is_told(client: Gateway, gateway: FaultGateway, tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir(mode=0o500)
    await refused(client, gateway, folder / "video.mp4")
    assert names_in(folder) == set()


async def test_a_folder_that_vanishes_meanwhile_is_told(client: Gateway, gateway: FaultGateway, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()

    async def remove(_done: int, _total: int | None) -> None:
        await to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))

    await refused(client, gateway, folder / "video.mp4", on_progress=remove)
    assert not folder.exists()


# --- whole processes ------------------------------------------------------------------------------


DOWNLOAD = [*COMMAND, "download", "task_1", "--json"]


async def download(gateway: FaultGateway, folder: Path, command: list[str] = DOWNLOAD) -> tuple[int, dict[str, Any]]:
    """Its exit code and what it printed."""
    done = await anyio.run_process(command, env=environment(folder, gateway), check=False)
    return done.returncode, json.loads(done.stdout)


def kept(folder: Path) -> set[str]:
    return names_in(folder / "videos")


@pytest.mark.skipif(os.name == "nt", reason="no limit of this kind")
async def test_a_file_that_may_not_grow_is_told_and_nothing_half_is_left(gateway: FaultGateway, tmp_path: Path) -> None:
    limited = ["sh", "-c", 'ulimit -f 2048; exec "$@"', "sh", *DOWNLOAD]
    code, said = await download(gateway, tmp_path, limited)
    assert (code, said["error"]["kind"]) == (3, "file_problem")
    assert str(tmp_path / "videos") in said["error"]["message"]
    assert kept(tmp_path) == set()


async def test_half_a_file_of_a_killed_process_is_never_taken_for_a_video_and_goes_after_hours(
    gateway: FaultGateway, tmp_path: Path
) -> None:
    hold = Hold()
    gateway.on("GET", "/v.mp4", CUT, replace(WHOLE, hold=hold), WHOLE)
    videos = tmp_path / "videos"
    async with await anyio.open_process(DOWNLOAD, env=environment(tmp_path, gateway)) as killed:
        with anyio.fail_after(20):
            await hold.reached.wait()  # it asks for the rest
        killed.kill()
    [half] = kept(tmp_path)
    assert half.startswith("task_1.v1.mp4.")
    assert (videos / half).stat().st_size > 500_000
    others = {"notes.part", "task_1.v1.mp4.mine.part", "film.mp4.0123abcd.part", "task_1.v2.mp4"}
    for name in others:
        (videos / name).write_bytes(b"mine")
    assert (await download(gateway, tmp_path))[1]["outcome"] == "saved"
    assert kept(tmp_path) == {half, "task_1.v1.mp4", *others}
    assert (videos / "task_1.v1.mp4").read_bytes() == MP4

    (videos / "task_1.v1.mp4").unlink()
    for name in kept(tmp_path):
        os.utime(videos / name, (0, time.time() - 2 * 86_400))
    assert (await download(gateway, tmp_path))[1]["outcome"] == "saved"
    assert kept(tmp_path) == {"task_1.v1.mp4", *others}
