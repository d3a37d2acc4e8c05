"""Every transcript of README and the pages in docs, replayed against the sandbox."""

from __future__ import annotations

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import anyio
import mcp_types as types
import pytest
from bench import COMMAND, environment, killed_on_failure, over_http
from documentation import block, blocks
from fault_gateway import CREATE, FaultGateway, fault_gateway, says
from mcp import Client

from sora_mcp.config.settings import Settings
from sora_mcp.server import build


class Ids:
    """Puts the last task's id where a page writes `task_…` or `gen-vid-…`, and takes ids out of what is shown."""

    def __init__(self) -> None:
        self._last = "task_none"

    def fill(self, text: str) -> str:
        return re.sub("task_…|gen-vid-…", self._last, text)

    def strip(self, text: str) -> str:
        seen = [match[0] for match in re.finditer(_ID, text)]
        self._last = seen[-1] if seen else self._last
        return re.sub(_ID, r"\1…", text)


_ID = r"\b(task_(?=[0-9a-z]{26})|gen-vid-(?=[0-9]))[0-9A-Za-z-]+"


def matches(shown: str, written: str) -> bool:
    """Whether what was shown is what is written, `…` standing for anything."""
    pattern = ".*".join(re.escape(part) for part in written.strip().split("…"))
    return re.fullmatch(pattern, shown.strip(), re.DOTALL) is not None


def first_line(text: str) -> str:
    return text.partition("\n")[0][:40]


@pytest.mark.anyio
@pytest.mark.parametrize("transcript", blocks("text [a-z]+"), ids=first_line)
async def test_the_conversations_happen_as_written(make_settings: Callable[..., Settings], transcript: str) -> None:
    ids = Ids()
    lines = transcript.strip().splitlines()
    async with Client(build(make_settings())) as client:
        for asked, answered in zip(lines[::2], lines[1::2], strict=True):
            name, _, arguments = asked.removeprefix("→ ").partition(" ")
            result = await client.call_tool(name, json.loads(ids.fill(arguments)))
            assert isinstance(result.content[0], types.TextContent)
            assert ids.strip(result.content[0].text) == answered.removeprefix("← ")


@pytest.fixture(name="environment")
def _environment(environment: dict[str, str]) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return environment | {"PATH": path}


@pytest.mark.parametrize("transcript", blocks("console"), ids=first_line)
def test_the_shell_does_as_written(environment: dict[str, str], tmp_path: Path, transcript: str) -> None:
    ids = Ids()
    for step in re.split(r"^\$ ", transcript, flags=re.MULTILINE)[1:]:
        command, _, written = step.partition("\n")
        if command.startswith("export "):
            environment |= dict(word.split("=", 1) for word in shlex.split(command)[1:])
            continue
        done = subprocess.run(  # noqa: S603
            ["bash", "-c", ids.fill(command)],  # noqa: S607
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        shown = ids.strip(done.stdout)
        assert matches(shown, written), f"{command}\n{shown}"


@pytest.fixture
def automation(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the automation example against a server of its own, for another prompt perhaps."""

    def run(environment: dict[str, str], prompt: str) -> subprocess.CompletedProcess[str]:
        serving = [*COMMAND, "serve", "--transport", "streamable-http", "--port", "0"]
        with (
            subprocess.Popen(serving, env=environment, stderr=subprocess.PIPE, text=True) as server,  # noqa: S603
            killed_on_failure(server),
        ):
            assert server.stderr is not None
            url = server.stderr.readline().split()[-1]
            example = block("python").replace("http://127.0.0.1:8000/mcp", url).replace(PROMPT, prompt)
            (tmp_path / "automation.py").write_text(example)
            command = [sys.executable, str(tmp_path / "automation.py")]
            done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)  # noqa: S603
            server.terminate()
        return done

    return run


PROMPT = "A paper boat in the rain"


@pytest.mark.parametrize(
    ("prompt", "shown"),
    [
        (PROMPT, r"succeeded \['file:///\S+\.mp4'\]\n"),
        (f"{PROMPT} [fail]", r"failed .+\n"),
        (f"{PROMPT} [blocked]", r"blocked .+\n"),
    ],
)
def test_the_automation_example_runs_as_written(
    automation: Callable[..., subprocess.CompletedProcess[str]], environment: dict[str, str], prompt: str, shown: str
) -> None:
    done = automation(environment, prompt)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(shown, done.stdout)


@pytest.mark.anyio
async def test_the_automation_example_ends_where_the_server_has_lost_the_video(tmp_path: Path) -> None:
    job = {"id": "video_1", "object": "video", "status": "queued", "progress": 0}
    with anyio.fail_after(60):
        async with fault_gateway() as gateway:
            gateway.on("POST", "/v1/videos", says(job))
            gateway.on("GET", "/v1/videos", says({"detail": "Video not found"}, 404))
            environ = environment(tmp_path, gateway, DIALECT="videos:vllm-omni")
            async with over_http(environ) as (address, _):
                example = block("python").replace("http://127.0.0.1:8000/mcp", address)
                async with await anyio.open_process([sys.executable, "-c", example]) as process:
                    while process.returncode is None:
                        with (
                            suppress(sqlite3.Error),
                            closing(sqlite3.connect(tmp_path / "home/ledger.sqlite3")) as db,
                            db,
                        ):
                            db.execute("UPDATE videos SET missed_since = missed_since - 700, not_before = NULL")
                        with anyio.move_on_after(0.1):
                            await process.wait()
                    assert process.stdout is not None
                    assert (await process.stdout.receive()).startswith(b"lost ")


@pytest.mark.anyio
async def test_the_automation_example_ends_where_the_gateway_refuses(
    automation: Callable[..., subprocess.CompletedProcess[str]], gateway: FaultGateway, tmp_path: Path
) -> None:
    gateway.on("GET", CREATE, says({"error": {"message": "wrong key", "type": "new_api_error"}}, 401))
    done = await anyio.to_thread.run_sync(automation, environment(tmp_path, gateway), PROMPT)
    assert done.returncode == 1
    assert done.stderr == "The gateway refused the request (status 401).\n"


def test_the_replay_is_strict() -> None:
    assert matches("a 1 b", "a … b")
    assert not matches("a 1 b c", "a … b")
