"""Work in the folder of videos, which may stand still, or be another one from one day to the next."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import anyio
import pytest

from sora_mcp.gateway.folder import (
    MARKER_NAME,
    MAX_CONCURRENT,
    NotMounted,
    Silent,
    check_mounted,
    put_in_place,
    run_in_folder,
    run_within,
)

pytestmark = pytest.mark.anyio


async def test_a_folder_that_does_not_answer_is_given_up_and_holds_up_nothing_else() -> None:
    is_back = threading.Event()
    try:
        with anyio.fail_after(10):
            for _ in range(MAX_CONCURRENT + 2):  # the last ones get no thread
                with pytest.raises(Silent, match="does not answer"):
                    await run_within(0.05, is_back.wait)
            assert await anyio.to_thread.run_sync(lambda: "the rest goes on") == "the rest goes on"
            standing = [each for each in threading.enumerate() if each.name.startswith("sora-folder")]
            assert len(standing) <= MAX_CONCURRENT
    finally:
        is_back.set()
    assert await run_in_folder(lambda: "back") == "back"


async def test_whoever_gives_up_waits_until_the_work_is_done() -> None:
    begun, may_end, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        may_end.wait(5)
        done.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_in_folder, work)
        await anyio.to_thread.run_sync(begun.wait)
        tasks.cancel_scope.cancel()
        may_end.set()
    assert done.is_set()


def test_a_shared_folder_is_known_again(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    check_mounted(folder)
    check_mounted(folder)
    assert [each.name for each in folder.iterdir()] == [MARKER_NAME]
    away = folder.rename(tmp_path / "away")
    with pytest.raises(NotMounted):
        check_mounted(folder)
    assert not folder.exists()
    folder.mkdir()
    with pytest.raises(NotMounted, match="may not be mounted"):
        check_mounted(folder)
    folder.rmdir()
    away.rename(folder)
    check_mounted(folder)


def test_a_link_that_was_made_though_its_answer_was_lost_counts(tmp_path: Path) -> None:
    part, target = tmp_path / "part", tmp_path / "target"
    part.write_text("whole")
    os.link(part, target)  # what an NFS server has done when its client asks again
    put_in_place(part, target)
    other = tmp_path / "other"
    other.write_text("another")
    with pytest.raises(FileExistsError):
        put_in_place(other, target)
    assert target.read_text() == "whole"
