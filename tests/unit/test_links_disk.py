"""Signed links where the server's disk stands still, fails, or has less than it had."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
import uvicorn
from anyio import to_thread
from bench import PNG
from shared_server import Running
from signed_links import LinkServer
from starlette.applications import Starlette
from starlette.responses import FileResponse

from sora_mcp.core.errors import FileProblem
from sora_mcp.gateway import folder
from sora_mcp.gateway.folder import MAX_CONCURRENT
from sora_mcp.server.links import links

pytestmark = pytest.mark.anyio


class PathOf(type(Path())):  # type: ignore[misc] # which class it is depends on the system
    """A path at which something happens before the disk is asked."""

    happens: Callable[[], Any]

    def stat(self, **how: Any) -> os.stat_result:
        self.happens()
        about: os.stat_result = super().stat(**how)
        return about


def path_of(path: Path, happens: Callable[[], Any]) -> Path:
    made = PathOf(path)
    made.happens = happens
    return made


async def test_a_folder_that_stands_still_is_told_and_takes_no_thread_from_the_rest(
    room: LinkServer, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, is_back = await room.to_video(), threading.Event()
    room.files["alice"] = path_of(room.files["alice"], partial(is_back.wait, 10))
    monkeypatch.setattr(folder, "STEP_TIMEOUT_S", 0.1)
    answers: list[int] = []

    async def fetch() -> None:
        answers.append((await http.get(link)).status_code)

    try:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(MAX_CONCURRENT + 2):
                    tasks.start_soon(fetch)
        assert answers == [503] * (MAX_CONCURRENT + 2)
        assert to_thread.current_default_thread_limiter().borrowed_tokens == 0
    finally:
        is_back.set()
    assert (await http.get(link)).status_code == 200


async def test_no_link_is_given_to_a_folder_that_stands_still(
    room: LinkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    is_back = threading.Event()
    monkeypatch.setattr(folder, "STEP_TIMEOUT_S", 0.1)
    monkeypatch.setattr(links, "stat_file", lambda _: is_back.wait(10))
    try:
        with anyio.fail_after(10), pytest.raises(FileProblem, match="does not answer"):
            await room.to_video()
    finally:
        is_back.set()


@pytest.mark.skipif(sys.platform == "win32", reason="no pipes that have names")
async def test_an_image_is_not_waited_for_where_its_folder_stands_still(
    room: LinkServer, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = await room.for_image()
    assert (await http.put(link, content=PNG)).status_code == 201
    [mark] = (room.settings.home / "uploads").rglob("*.link")
    digest = mark.read_bytes()
    mark.unlink()
    os.mkfifo(mark)  # whoever reads it waits
    monkeypatch.setattr(folder, "STEP_TIMEOUT_S", 0.1)
    try:
        with anyio.fail_after(10):
            answer = await http.put(link, content=PNG)
    finally:
        mark.write_bytes(digest)
    assert answer.status_code == 503
    assert "does not answer" in answer.json()["error"]
    assert str(room.settings.home) not in answer.text


def fails(number: int, path: Path) -> None:
    raise OSError(number, os.strerror(number), str(path))


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
async def test_a_file_that_cannot_be_read_now_is_not_said_to_be_gone(
    room: LinkServer, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    link, path = await room.to_video(), room.files["alice"]
    monkeypatch.setattr(PathOf, "open", lambda self, *_: fails(number, self))
    room.files["alice"] = path_of(path, lambda: None)
    answer = await http.get(link)
    assert answer.status_code == 503
    assert str(path) not in answer.text


@pytest.mark.skipif(not hasattr(FileResponse, "_open_file"), reason="this starlette opens files by itself")
async def test_a_file_that_is_cut_while_it_is_sent_ends_the_download_without_a_traceback(
    room: LinkServer, caplog: pytest.LogCaptureFixture
) -> None:
    size = 30_000_000
    os.truncate(room.files["alice"], size)
    target = (await room.to_video()).removeprefix("https://videos.example.org")
    app = Starlette(routes=room.links.routes())
    server = Running(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.run_to_its_end)
        await server.is_ready.wait()
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as client:
            client.sendall(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            begun = await to_thread.run_sync(client.recv, 65536)
            os.truncate(room.files["alice"], 100_000)
            rest = await to_thread.run_sync(lambda: sum(map(len, iter(partial(client.recv, 65536), b""))))
        server.should_exit = True
    assert f"content-length: {size}".encode() in begun
    assert len(begun) + rest < size
    assert "a download was cut off" in caplog.text
    assert not [record for record in caplog.records if record.exc_info]
