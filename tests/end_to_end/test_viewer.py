"""Looking at videos that take for ever: it is bounded, ends with whoever asked for it, and leaves no process behind."""

from __future__ import annotations

import io
import os
import signal
import sys
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import COMMAND, KEY, Connect, Era, environment, finished, over_http
from clips import children, hostile, is_running, new_child, wait_until_exited
from fault_gateway import CREATE, Answer, FaultGateway
from mcp import Client
from PIL import Image
from warm import warm_command
from wire import host

from sora_mcp.core.errors import FileProblem, NotConfigured
from sora_mcp.core.pictures import View
from sora_mcp.media.child import MAX_CONCURRENT
from sora_mcp.media.render import Scene, render
from sora_mcp.media.stills import Reel, Sheet
from sora_mcp.media.viewer import Viewer

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc"),
    pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning"),
]


async def sheet_of(viewer: Viewer, video: Path, frames: int, name: str, **limits: Any) -> Sheet:
    """Evenly spaced stills of one video."""
    return await viewer.sheet([Reel(video)], View(frames=frames), [name], **limits)


VIEW = {"task_id": "task_new", "frames": 4}


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of a few MB that takes minutes to decode."""
    return hostile(tmp_path_factory.mktemp("clips") / "endless.mp4")


@pytest.fixture
def short(tmp_path: Path) -> Path:
    """A video as the sandbox makes them."""
    path = tmp_path / "short.mp4"
    render(Scene(width=240, height=136, n_frames=30, prompt="a quiet forest"), path)
    return path


@pytest.fixture
def viewer() -> Viewer:
    return Viewer()


@pytest.fixture
def gateway(gateway: FaultGateway, endless: Path) -> FaultGateway:
    """Its one video takes minutes to decode."""
    gateway.on("GET", CREATE, finished(f"{gateway.address}/endless.mp4"))
    gateway.on("GET", "/endless.mp4", Answer(200, endless.read_bytes(), {"Content-Type": "video/mp4"}))
    return gateway


# --- a video that is shown ------------------------------------------------------------------------


async def test_a_contact_sheet_is_drawn_by_a_process_that_is_gone_afterwards(viewer: Viewer, short: Path) -> None:
    known = children(os.getpid())
    sheet = await sheet_of(viewer, short, 4, "It")
    assert (len(sheet.stills), sheet.probe.n_frames, sheet.probe.width) == (4, 30, 240)
    assert Image.open(io.BytesIO(sheet.picture)).format == "JPEG"
    assert children(os.getpid()) == known


async def test_the_server_itself_loads_nothing_that_decodes(gateway: FaultGateway, short: Path, tmp_path: Path) -> None:
    gateway.on("GET", "/endless.mp4", Answer(200, await anyio.Path(short).read_bytes()))
    async with host(environment(tmp_path, gateway)) as server:
        with anyio.fail_after(30):
            await server.start()
            await server.use("create_video", prompt="fly man")
            seen = await server.use("view_video", **VIEW)
        assert seen["n_frames"] == 30
        loaded = await anyio.Path(f"/proc/{server.pid}/maps").read_text()
    assert "libavcodec" not in loaded
    assert "_imaging" not in loaded


async def test_a_long_video_of_very_many_pixels_that_can_be_sought_in_is_shown(viewer: Viewer, tmp_path: Path) -> None:
    long = hostile(tmp_path / "long.mp4", n_frames=20_000, can_seek=True)
    sheet = await sheet_of(viewer, long, 6, "It", seconds=30)  # it takes two, on a machine that does nothing else
    assert (len(sheet.stills), sheet.probe.n_frames) == (6, 20_000)
    assert len(sheet.picture) <= 60_000
    apart = [after.frame - before.frame for before, after in pairwise(sheet.stills)]
    assert min(apart) > 3_900


# --- one that is not ------------------------------------------------------------------------------


async def test_a_video_that_takes_for_ever_is_refused_within_ten_seconds(connect: Connect) -> None:
    known = children(os.getpid())
    async with connect() as client:
        await client.call_tool("create_video", {"prompt": "fly man"})
        began = anyio.current_time()
        seen = await client.call_tool("view_video", VIEW)
        took = anyio.current_time() - began
    assert took < 13
    assert seen.is_error
    error = seen.structured_content["error"]
    assert error["message"] == "Variant 1 of task_new is too large to be viewed within 10 s."
    assert "download_video" in error["next_step"]
    assert error["retryable"] is False
    assert children(os.getpid()) == known


@pytest.mark.parametrize("megabytes", [320, 360, 400])
async def test_a_video_that_takes_too_much_memory_is_refused_and_not_taken_for_damaged(
    megabytes: int, viewer: Viewer, endless: Path
) -> None:
    with pytest.raises(FileProblem, match=r"^It is too large to be viewed: it takes too much memory\.$"):
        await sheet_of(viewer, endless, 4, "It", seconds=60, memory_bytes=megabytes * 1_000_000)


@pytest.mark.parametrize("content", [b"", b"not a video", b"\x00\x00\x00\x18ftypmp42" + b"\x00" * 100])
async def test_what_is_no_video_is_refused_in_our_words(viewer: Viewer, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    with pytest.raises(FileProblem, match=r"^It (cannot be read as a|holds no) video"):
        await sheet_of(viewer, path, 4, "It")


async def test_a_file_that_is_gone_is_refused_in_our_words(viewer: Viewer, tmp_path: Path) -> None:
    with pytest.raises(FileProblem, match="cannot be read as a video"):
        await sheet_of(viewer, tmp_path / "gone.mp4", 4, "It")


async def test_without_the_extra_it_is_said_what_to_install(
    viewer: Viewer, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(NotConfigured, match="extra `media`"):
        await sheet_of(viewer, short, 4, "It")


async def test_an_extra_that_cannot_be_loaded_counts_as_missing(
    viewer: Viewer, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text("raise ImportError\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(NotConfigured, match="extra `media`"):
        await sheet_of(viewer, short, 4, "It")


async def test_modules_in_the_folder_where_the_server_was_started_are_not_run(
    viewer: Viewer, short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "av.py").write_text("raise ImportError\n")
    monkeypatch.chdir(tmp_path)
    assert (await sheet_of(viewer, short, 4, "It")).stills


async def test_a_process_that_is_killed_from_outside_is_told(viewer: Viewer, endless: Path) -> None:
    known = children(os.getpid())
    async with anyio.create_task_group() as calls:

        async def kill() -> None:
            os.kill(await new_child(os.getpid(), known), signal.SIGKILL)

        calls.start_soon(kill)
        with pytest.raises(FileProblem, match="ended unexpectedly") as caught:
            await sheet_of(viewer, endless, 4, "It")
    assert caught.value.can_retry


async def test_the_process_gets_no_key(viewer: Viewer, endless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORA_API_KEY", KEY)
    known = children(os.getpid())
    async with anyio.create_task_group() as calls:
        calls.start_soon(sheet_of, viewer, endless, 4, "It")
        child = await new_child(os.getpid(), known)
        told = await anyio.Path(f"/proc/{child}/environ").read_bytes()
        calls.cancel_scope.cancel()
    assert KEY.encode() not in told


# --- at once --------------------------------------------------------------------------------------


async def test_no_more_than_two_are_looked_at_at_once_and_the_next_one_follows(viewer: Viewer, endless: Path) -> None:
    known, most = children(os.getpid()), 0
    ended: list[str] = []

    async def look() -> None:
        with pytest.raises(FileProblem, match="unexpectedly"):
            await sheet_of(viewer, endless, 4, "It")
        ended.append("killed")

    with anyio.fail_after(60):
        async with anyio.create_task_group() as calls:
            for _ in range(MAX_CONCURRENT + 1):
                calls.start_soon(look)
            for number in range(MAX_CONCURRENT + 1):
                while not (running := children(os.getpid()) - known) or (not number and len(running) < MAX_CONCURRENT):
                    await anyio.lowlevel.checkpoint()
                most = max(most, len(running))
                first = running.pop()
                os.kill(first, signal.SIGKILL)
                await wait_until_exited(first, 5)
                while len(ended) <= number:
                    await anyio.lowlevel.checkpoint()
    assert most == MAX_CONCURRENT
    assert children(os.getpid()) == known


async def test_a_viewer_that_is_closed_ends_what_goes_on_and_begins_nothing(
    viewer: Viewer, endless: Path, short: Path
) -> None:
    known = children(os.getpid())

    async def look(video: Path) -> None:
        with pytest.raises(FileProblem, match="this server is being stopped") as caught:
            await sheet_of(viewer, video, 4, "It")
        assert caught.value.can_retry

    with anyio.fail_after(10):
        async with anyio.create_task_group() as calls:
            for _ in range(MAX_CONCURRENT + 1):
                calls.start_soon(look, endless)
            while len(children(os.getpid()) - known) < MAX_CONCURRENT:
                await anyio.lowlevel.checkpoint()
            viewer.close()
        await look(short)
    assert children(os.getpid()) == known


async def test_a_call_that_was_given_up_while_it_waited_takes_no_turn(
    viewer: Viewer, endless: Path, short: Path
) -> None:
    known = children(os.getpid())
    async with anyio.create_task_group() as calls:
        for _ in range(MAX_CONCURRENT):
            calls.start_soon(sheet_of, viewer, endless, 4, "It")
        while len(children(os.getpid()) - known) < MAX_CONCURRENT:
            await anyio.lowlevel.checkpoint()
        with anyio.move_on_after(0) as waiting:
            await sheet_of(viewer, short, 4, "It")
        assert waiting.cancelled_caught
        calls.cancel_scope.cancel()
    with anyio.fail_after(10):
        assert (await sheet_of(viewer, short, 4, "It")).stills


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["tool", "resource"])
async def test_a_call_that_is_cancelled_ends_the_process(era: Era, what: str, connect: Connect) -> None:
    async with connect(era) as client:
        await client.call_tool("create_video", {"prompt": "fly man"})
        known = children(os.getpid())
        with anyio.fail_after(30):
            async with anyio.create_task_group() as calls:
                if what == "tool":
                    calls.start_soon(client.call_tool, "view_video", VIEW)
                else:
                    calls.start_soon(client.read_resource, "sora://videos/task_new/contact-sheet.png")
                child = await new_child(os.getpid(), known)
                calls.cancel_scope.cancel()
        await wait_until_exited(child, 1)


async def test_a_client_that_goes_away_ends_the_process(gateway: FaultGateway, era: Era, tmp_path: Path) -> None:
    async with over_http(environment(tmp_path, gateway), COMMAND) as (address, server):
        with anyio.fail_after(30):
            async with Client(address, mode=era) as client, anyio.create_task_group() as calls:
                await client.call_tool("create_video", {"prompt": "fly man"})
                calls.start_soon(client.call_tool, "view_video", VIEW)
                child = await new_child(server.pid, set())
                calls.cancel_scope.cancel()
        await wait_until_exited(child, 2)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda how: how.name)
async def test_a_server_that_is_ended_ends_the_process_and_goes(
    how: signal.Signals, gateway: FaultGateway, tmp_path: Path
) -> None:
    async with host(environment(tmp_path, gateway)) as server:
        with anyio.fail_after(30):
            await server.start()
            await server.use("create_video", prompt="fly man")
            await server.call("view_video", VIEW)
            child = await new_child(server.pid, set())
        os.kill(server.pid, how)
        await wait_until_exited(server.pid, 2)
        await wait_until_exited(child, 1)


async def test_a_server_over_http_that_is_ended_ends_the_process_and_goes(
    gateway: FaultGateway, tmp_path: Path
) -> None:
    async with over_http(environment(tmp_path, gateway), COMMAND) as (address, server):
        with anyio.fail_after(30), suppress(BaseExceptionGroup):  # the client's: its server is gone
            async with Client(address) as client, anyio.create_task_group() as calls:
                await client.call_tool("create_video", {"prompt": "fly man"})
                calls.start_soon(client.call_tool, "view_video", VIEW)
                child = await new_child(server.pid, set())
                server.terminate()
                await wait_until_exited(server.pid, 4)
        assert server.returncode is not None or not is_running(server.pid)
        await wait_until_exited(child, 1)


async def test_a_command_that_is_ended_ends_the_process_and_goes(gateway: FaultGateway, tmp_path: Path) -> None:
    environ = environment(tmp_path, gateway)
    await anyio.run_process([*warm_command(), "create", "fly man"], env=environ)
    command = [*COMMAND, "view", "task_new", "--out", str(tmp_path / "sheet.png")]
    async with await anyio.open_process(command, env=environ) as process:
        child = await new_child(process.pid, set())
        process.terminate()
        await wait_until_exited(child, 2)
        with anyio.fail_after(5):
            assert await process.wait() == 130
