"""One more server that speaks `/v1/videos` is data only: the three entries of docs/architecture.md."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from bench import Run

PROJECT = Path(__file__).parents[2]
PAGE = PROJECT / "docs" / "architecture.md"
PLACES = {
    "dialects/videos/profiles.py": ('        Profile(name="new-api"', "{entry}, "),
    "config/endpoint.py": ('"new-api"', '"kiln", '),
    "sandbox/faces.py": ('    "new-api": Face(', '"kiln": {entry}, '),
}
"""In each file, the entry of another profile, and what is put before that."""


@pytest.fixture
def extended(tmp_path: Path) -> None:
    """A copy of the package, with the page's entries, where commands are run and so find it first."""
    package = tmp_path / "sora_mcp"
    shutil.copytree(PROJECT / "sora_mcp", package, ignore=shutil.ignore_patterns("__pycache__"))
    section = PAGE.read_text(encoding="utf-8").partition("## How to add a server that speaks `/v1/videos`")[2]
    steps = re.split(r"^\d\. ", section, flags=re.MULTILINE)[1:]
    assert [re.findall(r"`sora_mcp/(\S+)`", step)[0] for step in steps] == list(PLACES)
    for step, (name, (place, form)) in zip(steps, PLACES.items(), strict=True):
        entry = re.search(r"```python\n\s*(.*?)\n\s*```", step, re.DOTALL)
        file = package / name
        before, _, after = file.read_text(encoding="utf-8").partition(place)
        added = form.format(entry=entry[1] if entry else "")
        file.write_text(f"{before}{added}{place.strip()}{after}", encoding="utf-8")


@pytest.mark.usefixtures("extended")
def test_a_server_that_is_added_as_the_page_says_makes_a_video(run: Run) -> None:
    kiln = {"DIALECT": "videos:kiln", "SANDBOX_SECONDS": "0.2"}
    small = ["--width", "70", "--height", "64", "--n-frames", "30"]
    made = json.loads(run("create", "a kite", *small, "--json", **kiln).stdout)
    video = json.loads(run("get", made["task_id"], "--wait", "--json", **kiln).stdout)
    assert (made["outcome"], video["state"]) == ("accepted", "succeeded")
    assert video["adjusted"] == [
        {"field": "size", "asked": "70x64", "sent": "64x64"},
        {"field": "n_frames", "asked": "1 s", "sent": "17 frames at 16 fps"},
    ]
    dry = json.loads(run("create", "another", *small, "--dry-run", "--json", **kiln).stdout)
    assert dry["body"] == {"prompt": "another", "size": "64x64", "num_frames": "17", "frame_rate": "16"}
    checks = {each["name"]: each for each in json.loads(run("doctor", "--json", **kiln).stdout)["checks"]}
    assert "videos:kiln: create exact" in checks["dialect"]["message"]


def test_without_them_there_is_none(run: Run) -> None:
    refused = run("create", "a kite", DIALECT="videos:kiln")
    assert refused.returncode == 2
    assert "videos:vllm-omni" in refused.stderr
