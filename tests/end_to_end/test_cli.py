"""The command line, as a person meets it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest
from bench import killed_on_failure
from PIL import Image
from warm import warm_command

from sora_mcp import media


def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [*warm_command(), *arguments]
    return subprocess.run(  # noqa: S603
        command, check=False, capture_output=True, text=True, env={**os.environ, **settings}, stdin=subprocess.DEVNULL
    )


def test_help_cuts_no_sentence() -> None:
    assert "Make a token for NAME and show it once; only its hash is kept." in " ".join(
        run("token", "--help").stdout.split()
    )


def test_help_says_what_there_is() -> None:
    done = run("--help")
    assert done.returncode == 0
    for command in ("serve", "sandbox", "demo", "manifests"):
        assert command in done.stdout


def test_an_unknown_command_is_refused() -> None:
    done = run("severe")
    assert done.returncode == 2
    assert "did you mean serve?" in done.stderr


@pytest.mark.parametrize("name", ["SORA_CREATE_TIMEOUT", "SORA_EXTRA_SIZES", "SORA_LOG_LEVEL"])
def test_a_setting_that_cannot_be_used_is_named_without_a_traceback(name: str) -> None:
    done = run(**{name: "nonsense"})
    assert done.returncode == 2
    assert name in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_only_loopback_addresses_are_offered() -> None:
    assert run("serve", "--transport", "streamable-http", "--host", "0.0.0.0").returncode == 2  # noqa: S104


def test_a_person_at_a_terminal_is_told_what_it_waits_for(tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sora_mcp"], stdin=end, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert process.stdout is not None
    with process, killed_on_failure(process):
        assert "waits for an MCP client" in process.stderr.readline()
        process.terminate()
        assert process.wait(timeout=20) in {0, -15}
        assert process.stdout.read() == ""
    os.close(terminal)
    os.close(end)
    assert list(tmp_path.iterdir()) == []


def test_the_demo_leaves_real_videos_and_a_contact_sheet(tmp_path: Path) -> None:
    done = run("demo", "--out", str(tmp_path / "demo"))
    assert done.returncode == 0, done.stderr
    for tool in ("create_video", "storyboard_video", "remix_video", "blend_videos", "view_video", "download_video"):
        assert f"agent → {tool}" in done.stdout
    assert "480x1280 is not a documented size" in done.stdout
    found = [media.probe(path) for path in (tmp_path / "demo").glob("*.mp4")]
    assert [(v.codec, v.width, v.height, v.n_frames) for v in found] == [("h264", 854, 480, 150)] * 4
    assert (tmp_path / "demo" / "contact-sheet.png").read_bytes().startswith(b"\x89PNG")
    with Image.open(tmp_path / "demo" / "demo.webp") as moving:
        assert (moving.format, getattr(moving, "n_frames", 1)) == ("WEBP", 4 * 23)
    assert (tmp_path / "demo" / "demo.webp").stat().st_size <= 1_500_000


def test_the_demo_at_openrouters_face_goes_through_each_model_and_says_what_it_costs(tmp_path: Path) -> None:
    done = run("demo", "--dialect", "openrouter", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    with_aurora, with_brook, with_cinder = re.split("agent → create_video .*dry_run.*", done.stdout)[1:]
    assert "Estimate: 5 s x 0.04 USD a second = 0.20 USD" in with_aurora
    assert "0.20 USD, as stated by the gateway" in with_aurora
    assert "a bridge from the last frame of the first video to the first frame of the second" in with_aurora
    assert "480x480 is not a size of sandbox/brook-mini; allowed: 640x480 is nearest" in with_brook
    assert "n_frames not given → 4 s" in with_brook
    assert "size not given → 1280x720" in with_cinder
    assert "cost not known" in with_cinder
    assert "0.35 USD, as stated by the gateway" in with_cinder
    assert "9 videos at sandbox: 9 succeeded; cost 1.92 USD" in with_cinder
    sizes = sorted((about.width, about.n_frames) for about in map(media.probe, tmp_path.glob("*.mp4")))
    assert sizes == [*[(854, 96)] * 2, *[(854, 120)] * 4, (854, 144), *[(1280, 120)] * 2]
    sheets = {path.stem for path in tmp_path.glob("*-*.jpg")}
    assert {f"{model}-create" for model in ("aurora-2", "brook-mini", "cinder")} <= sheets
    assert (tmp_path / "contact-sheet.png").is_file()


@pytest.mark.parametrize("size", ["853x481", "11x11", "3000x10", "10x3000"])
def test_the_sandbox_makes_any_size_that_the_settings_add_even_at_once(tmp_path: Path, size: str) -> None:
    width, _, height = size.partition("x")
    settings = {"SORA_BASE_URL": "sandbox", "SORA_HOME": str(tmp_path), "SORA_OUTPUT_DIR": str(tmp_path)}
    settings |= {"SORA_SANDBOX_SECONDS": "0", "SORA_EXTRA_SIZES": size, "SORA_EXTRA_FRAMES": "7"}
    shape = ("--width", width, "--height", height, "--n-frames", "7")
    made = json.loads(run("create", "a boat", *shape, "--wait", "--download", "--json", **settings).stdout)
    assert made["state"] == "succeeded"
    about = media.probe(Path(made["path"]))
    assert (about.width, about.height, about.n_frames) == (int(width), int(height), 7)
    assert run("view", made["task_id"], "--out", str(tmp_path / "x.png"), **settings).returncode == 0


def test_without_the_extra_the_demo_says_how_to_install_it(tmp_path: Path) -> None:
    (tmp_path / "av.py").write_text("raise ImportError")
    done = run("demo", "--out", str(tmp_path / "demo"), PYTHONPATH=str(tmp_path))
    assert done.returncode == 2
    assert "the extra `media`" in done.stderr
    assert f"{sys.executable} -m pip install av pillow" in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="/proc is where nobody, not even root, can write")
def test_a_demo_that_cannot_write_says_so_in_one_sentence() -> None:
    done = run("demo", "--out", "/proc/x")
    assert done.returncode == 3
    assert "Error: " in done.stderr
    assert "/proc/x" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
