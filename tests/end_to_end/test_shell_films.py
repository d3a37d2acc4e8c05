"""From a sentence to a film in one command: waiting, saving, opening, and what stands in the way of each."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import ACCEPTED, COMMAND, KEY, MP4, Run, create_accepted, finished, killed_on_failure
from bench import environment as settings_of
from disks import small_disk_at
from fault_gateway import CREATE, Answer, FaultGateway
from warm import warm_command

from sora_mcp import media
from sora_mcp.config.settings import Settings
from sora_mcp.core.models import VideoRequest
from sora_mcp.studio import Studio

SMALL = ("--size", "480x480")


def told(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return dict(json.loads(done.stdout))


def paid(tmp_path: Path) -> int:
    """How many tasks the sandbox was given."""
    return len(list((tmp_path / "home" / "sandbox" / "tasks").glob("*.json")))


@pytest.fixture
def task_id(run: Run) -> str:
    return str(told(run("create", "a boat", *SMALL, "--wait", "--json"))["task_id"])


# --- one command ----------------------------------------------------------------------------------


def test_a_film_is_made_waited_for_and_saved_under_its_name(run: Run, tmp_path: Path) -> None:
    done = run("create", "a boat", "--size", "720x720", "--seconds", "10", "--out", "boat.mp4")
    assert done.returncode == 0, done.stderr
    about = media.probe(tmp_path / "boat.mp4")
    assert (about.width, about.height, about.n_frames) == (720, 720, 300)
    assert "Submitted as task_" in done.stderr
    assert "has succeeded" in done.stdout
    assert "Saved as boat.mp4" in done.stdout
    assert not (tmp_path / "videos").exists()


def test_with_json_it_is_one_object_that_names_the_file(run: Run, tmp_path: Path) -> None:
    done = run("create", "a boat", *SMALL, "--download", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    film = told(done)
    assert (film["outcome"], film["state"]) == ("accepted", "succeeded")
    assert film["files"] == [film["path"]]
    assert Path(film["path"]).parent == tmp_path / "videos"


def test_several_variants_become_files_of_their_own(run: Run, tmp_path: Path) -> None:
    assert run("create", "a boat", *SMALL, "--n-variants", "2", "--out", "boat.mp4").returncode == 0
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == ["boat.v1.mp4", "boat.v2.mp4"]
    again = run("create", "another", *SMALL, "--n-variants", "2", "--out", "boat.mp4")
    assert (again.returncode, "boat.v1.mp4 already exists" in again.stderr, paid(tmp_path)) == (2, True, 1)


def test_its_siblings_wait_and_save_as_well(run: Run, tmp_path: Path, task_id: str) -> None:
    for number, words in enumerate(
        (
            ("remix", "last", "at night"),
            ("storyboard", "--action", "0s=a door", *SMALL),
            ("blend", "last", task_id),
        )
    ):
        done = run(*words, "--out", f"{number}.mp4")
        assert (done.returncode, (tmp_path / f"{number}.mp4").is_file()) == (0, True), done.stderr


def test_the_same_request_again_saves_the_film_of_the_first(run: Run, tmp_path: Path, task_id: str) -> None:
    done = run("create", "a boat", *SMALL, "--out", "boat.mp4", "--json")
    assert (told(done)["task_id"], told(done)["duplicate"], paid(tmp_path)) == (task_id, True, 1)
    assert (tmp_path / "boat.mp4").is_file()


def test_a_dry_run_waits_for_nothing(run: Run, tmp_path: Path) -> None:
    done = run("create", "a boat", "--wait", "--download", "--open", "--dry-run", "--json")
    assert (done.returncode, told(done)["outcome"]) == (0, "not_submitted")
    assert not (tmp_path / "videos").exists()


def test_a_film_that_fails_ends_the_wait_with_its_exit_code(run: Run, tmp_path: Path) -> None:
    done = run("create", "[fail] x", *SMALL, "--out", "x.mp4", "--json")
    assert (done.returncode, told(done)["state"], (tmp_path / "x.mp4").exists()) == (3, "failed", False)
    lost = run("create", "[lost] x", "--out", "x.mp4", "--json")
    assert (lost.returncode, told(lost)["outcome"]) == (4, "unknown")


def test_what_was_saved_is_saved_again_under_another_name_and_never_over_a_file(
    run: Run, tmp_path: Path, task_id: str
) -> None:
    assert run("download", task_id).returncode == 0
    assert run("download", "last", "--out", "copy.mp4").returncode == 0
    assert (tmp_path / "copy.mp4").read_bytes() == (tmp_path / "videos" / f"{task_id}.v1.mp4").read_bytes()
    (tmp_path / "mine.mp4").write_text("mine")
    refused = run("download", "last", "--out", "mine.mp4")
    assert (refused.returncode, "already exists" in refused.stderr) == (2, True)
    assert (tmp_path / "mine.mp4").read_text() == "mine"


# --- before anything is paid ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("there.mp4", "already exists"),
        ("link.mp4", "already exists"),
        ("folder", "is a folder"),
        ("nowhere/x.mp4", "There is no folder nowhere"),
        ("there.mp4/x.mp4", "There is no folder there.mp4"),
        (f"{'a' * 300}.mp4", "cannot be written: File name too long"),
        ("/proc/x.mp4", "cannot be written"),
        ("-", "standard output"),
        ("", "is a folder"),
        ("boat.PNG", "A video is not a picture, and boat.PNG ends in .PNG: end it in .mp4."),
        ("boat.gif", "ends in .gif: end it in .mp4."),
    ],
)
def test_an_out_that_cannot_be_written_is_refused_before_anything_is_paid(
    run: Run, tmp_path: Path, out: str, words: str
) -> None:
    (tmp_path / "there.mp4").write_text("there")
    (tmp_path / "link.mp4").symlink_to(tmp_path / "away")
    (tmp_path / "folder").mkdir()
    done = run("create", "a boat", "--out", out)
    assert (done.returncode, words in " ".join(done.stderr.split()), "Nothing was submitted" in done.stderr) == (
        2,
        True,
        True,
    ), done.stderr
    assert not (tmp_path / "home").exists()
    assert (tmp_path / "there.mp4").read_text() == "there"


def test_a_folder_for_videos_that_cannot_be_used_is_said_before_anything_is_paid(run: Run, tmp_path: Path) -> None:
    done = run("create", "a boat", "--download", OUTPUT_DIR="/proc/videos")
    assert (done.returncode, "SORA_OUTPUT_DIR" in done.stderr, paid(tmp_path)) == (3, True, 0)


@pytest.mark.parametrize(
    ("written", "encoding", "prompt"),
    [
        (b"a boat\n", "utf-8", "a boat"),
        ("\ufeffmer d\u00e9mont\u00e9e\r\n".encode(), "utf-8", "mer d\u00e9mont\u00e9e"),
        ("mer d\u00e9mont\u00e9e".encode(), "cp1252", "mer d\u00e9mont\u00e9e"),
        ("mer d\u00e9mont\u00e9e".encode("cp1252"), "cp1252", "mer d\u00e9mont\u00e9e"),
        ("mer d\u00e9mont\u00e9e".encode("utf-16"), "utf-8", "mer d\u00e9mont\u00e9e"),
        (b"mer \xe9", "utf-8", None),
        (b"mer \xe9", "ascii", None),
        (b"", "utf-8", None),
        (b"a boat\r\nat sea\r\n", "utf-8", "a boat\nat sea"),
        (b" \n\n", "utf-8", None),
    ],
    ids=str,
)
def test_a_dash_reads_the_prompt_from_standard_input(
    environment: dict[str, str], written: bytes, encoding: str, prompt: str | None
) -> None:
    command = [*warm_command(), "create", "-", "--dry-run", "--json"]
    environ = environment | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, check=False, capture_output=True, input=written, env=environ)  # noqa: S603
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["outcome"]) == (2 if prompt is None else 0, "not_submitted")
    assert prompt is None or answer["body"]["prompt"] == prompt


# --- ids ------------------------------------------------------------------------------------------


def test_last_and_the_beginning_of_an_id_stand_for_it(run: Run, tmp_path: Path, task_id: str) -> None:
    request_id = told(run("get", task_id, "--json"))["request_id"]
    for short in ("last", "last#1", task_id[:-3], request_id[:12]):
        assert told(run("get", short, "--json"))["task_id"] == task_id
    newest = told(run("create", "another", *SMALL, "--wait", "--json"))["task_id"]
    assert told(run("get", "last", "--json"))["task_id"] == newest
    assert run("view", "last", "--beside", task_id[:-1]).returncode == 0
    for words in (("remix", "last", "at night"), ("blend", "last", task_id)):
        assert f"last is {newest}." in run(*words, "--dry-run").stderr.splitlines()
    ambiguous = run("remix", "task_0", "at night")
    assert (ambiguous.returncode, task_id in ambiguous.stderr, newest in ambiguous.stderr) == (2, True, True)
    assert "Nothing was submitted" in ambiguous.stderr
    assert paid(tmp_path) == 2


@pytest.mark.anyio
async def test_a_number_that_only_goes_on_is_another_id(
    make_settings: Callable[..., Settings], gateway: FaultGateway
) -> None:
    gateway.on("POST", CREATE, create_accepted("job_120"))
    async with Studio.open(make_settings(base_url=gateway.address, api_key=KEY)) as studio:
        assert await studio.full_id("job_120", "task_id") == "job_120"
        await studio.submit(VideoRequest(operation="simple_compose", prompt="a boat"))
        assert await studio.full_id("job_12", "task_id") == "job_12"
        assert await studio.full_id("job_#2", "task_id") == "job_120#2"
        assert await studio.full_id("last", "task_id") == "job_120"


@pytest.mark.anyio
async def test_an_id_of_digits_and_letters_may_break_off_before_a_digit(
    make_settings: Callable[..., Settings], gateway: FaultGateway
) -> None:
    gateway.on("POST", CREATE, create_accepted("task_01k3f7q42"))
    async with Studio.open(make_settings(base_url=gateway.address, api_key=KEY)) as studio:
        await studio.submit(VideoRequest(operation="simple_compose", prompt="a boat"))
        assert await studio.full_id("task_01k3f7q4", "task_id") == "task_01k3f7q42"


def test_last_where_there_is_none_is_said(run: Run, tmp_path: Path) -> None:
    for words in (
        ("get", "last"),
        ("view", "last"),
        ("download", "last"),
        ("remix", "last", "x"),
        ("blend", "last", "last"),
    ):
        done = run(*words)
        assert (done.returncode, "no last one" in done.stderr) == (3, True), done.stderr
        assert "`sora-mcp create " in done.stderr
        assert "sora-mcp list" not in done.stderr
    assert paid(tmp_path) == 0


def test_nothing_is_settled_by_half_an_id(run: Run) -> None:
    lost = told(run("create", "[lost] x", "--json"))["request_id"]
    for short in ("last", lost[:-1]):
        done = run("settle", short, "--none")
        assert (done.returncode, f"No request {short}" in done.stderr) == (3, True), done.stderr
    assert told(run("get", lost, "--json"))["state"] == "unknown"


# --- afterwards -----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("json_too", [False, True])
def test_an_interrupted_wait_says_the_id_and_how_to_come_back(
    environment: dict[str, str], tmp_path: Path, which: int, *, json_too: bool
) -> None:
    command = [*COMMAND, "create", "a boat", *SMALL, "--out", "my boat.mp4", *(["--json"] if json_too else [])]
    environ = environment | {"SORA_SANDBOX_SECONDS": "60", "SORA_LOG_LEVEL": "INFO"}
    with (
        subprocess.Popen(  # noqa: S603
            command, env=environ, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
        killed_on_failure(process),
    ):
        assert process.stderr is not None
        assert any("method=GET" in line for line in process.stderr)  # it waits from now on
        process.send_signal(which)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    (stored,) = (tmp_path / "home" / "sandbox" / "tasks").iterdir()
    assert f"sora-mcp download {stored.stem} --wait --out 'my boat.mp4'" in (out if json_too else err)
    if json_too:
        interrupted = json.loads(out)
        assert (interrupted["task_id"], interrupted["outcome"]) == (stored.stem, "accepted")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk_at(tmp_path / "disk", "64k") as folder:
        yield folder


@pytest.mark.anyio
async def test_a_full_disk_is_no_failure_of_the_create_and_says_how_to_save_it_later(
    gateway: FaultGateway, tmp_path: Path, small_disk: Path
) -> None:
    size = 200_000
    film = MP4[:-8] + (size - len(MP4) + 8).to_bytes(4, "big") + b"mdat" + b"v" * (size - len(MP4))
    gateway.on("POST", CREATE, ACCEPTED)
    gateway.on("GET", CREATE, finished(f"{gateway.address}/v.mp4"))
    gateway.on("GET", "/v.mp4", Answer(200, film, {"Content-Type": "video/mp4"}))
    command = [*warm_command(), "create", "a boat", "--out", str(small_disk / "boat.mp4"), "--json"]
    done = await anyio.run_process(command, check=False, env=settings_of(tmp_path, gateway))
    answer = json.loads(done.stdout)
    assert (done.returncode, answer["outcome"], answer["task_id"]) == (3, "accepted", "task_new")
    assert "No space left" in answer["error"]["message"]
    assert f"sora-mcp download task_new --wait --out {small_disk}/boat.mp4" in answer["error"]["next_step"]
    assert [path async for path in anyio.Path(small_disk).iterdir()] == []
    assert len(gateway.creates()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="xdg-open is Linux's")
@pytest.mark.parametrize(
    ("display", "opener", "words"),
    [
        ("", "exit 0", "There is no display"),
        (":9", "exit 0", ""),
        (":9", "exit 3", "could not be opened here"),
        (":9", None, "There is no program here that opens files"),
    ],
)
def test_open_says_where_the_file_is_where_nothing_opens_it_and_never_fails(
    environment: dict[str, str], tmp_path: Path, display: str, opener: str | None, words: str
) -> None:
    (tmp_path / "bin").mkdir()
    if opener is not None:
        program = tmp_path / "bin" / "xdg-open"
        program.write_text(f'#!/bin/sh\necho noise\necho "$1" > {tmp_path}/opened\n{opener}\n')
        program.chmod(0o755)
    environ = environment | {"PATH": str(tmp_path / "bin"), "DISPLAY": display, "WAYLAND_DISPLAY": ""}
    command = [*warm_command(), "create", "a boat", *SMALL, "--open"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environ)  # noqa: S603
    assert done.returncode == 0, done.stderr
    (film,) = (tmp_path / "videos").iterdir()
    assert (words in done.stdout, "noise" in done.stdout) == (True, False)
    assert not words or done.stdout.rstrip().endswith(f"the file is {film}")
    assert words or (tmp_path / "opened").read_text().strip() == str(film)
