"""A newcomer's path, as the README has it: log in, install, and the client makes a film; the key stays in its store."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import COMMAND, environment
from documentation import README, blocks
from mcp import Client, StdioServerParameters
from mcp.client.stdio import get_default_environment, stdio_client

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SUPPORT = Path(__file__).parents[1] / "support"
KEY = "sk-newcomer-0123456789abcdef"
CONFIGURATION = ".config/Claude/claude_desktop_config.json"


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    """Of the sandbox, served: it wants a key, as any gateway does."""
    settings = environment(tmp_path / "gateway")
    async with await anyio.open_process([*COMMAND, "sandbox", "--port", "0"], env=settings) as process:
        try:
            assert process.stderr is not None
            with anyio.fail_after(60):
                yield (await process.stderr.receive()).decode().split()[-1]
        finally:
            process.terminate()


@pytest.fixture
def user(tmp_path: Path) -> Path:
    """The home folder of somebody who has Claude Desktop and a key store that keeps."""
    home = tmp_path / "user"
    (home / CONFIGURATION).parent.mkdir(parents=True)
    keyring = home / ".config" / "python_keyring" / "keyringrc.cfg"
    keyring.parent.mkdir(parents=True)
    keyring.write_text(f"[backend]\ndefault-keyring=key_stores.Keeping\nkeyring-path={SUPPORT}\n")
    return home


def environ_of(home: Path) -> dict[str, str]:
    """What every program of this user is started with; nothing of ours is set."""
    return get_default_environment() | {"HOME": str(home), "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}


async def at_the_shell(home: Path, command: str, *options: str, typed: str = "") -> str:
    """Run a command of the README, of the environment that the tests run in; what it says."""
    program, *words = shlex.split(command)
    program_path = Path(sys.executable).with_name(Path(program).name)
    done = await anyio.run_process(
        [str(program_path), *words, *options],
        input=typed.encode(),
        env=environ_of(home),
        stderr=subprocess.STDOUT,
        check=False,
    )
    said = done.stdout.decode()
    assert done.returncode == 0, said
    assert KEY not in said
    return said


def is_film(path: str) -> bool:
    return Path(path).read_bytes()[4:8] == b"ftyp"


async def as_claude_desktop(home: Path, stderr: Path) -> list[str]:
    """Start the server exactly as the client's file says, and make a film; everything that it answers."""
    [entry] = json.loads((home / CONFIGURATION).read_text())["mcpServers"].values()
    assert entry["env"] == {}
    server = StdioServerParameters(command=entry["command"], args=entry["args"], env=environ_of(home) | entry["env"])
    said = []
    with stderr.open("w") as log:
        async with Client(stdio_client(server, errlog=log)) as client:

            async def call(tool: str, **arguments: Any) -> dict[str, Any]:
                result = await client.call_tool(tool, arguments)
                said.append(result.model_dump_json())
                assert not result.is_error, said[-1]
                structured: dict[str, Any] = result.structured_content or {}
                return structured

            task_id = (await call("create_video", prompt="A lighthouse at sunset"))["task_id"]
            assert (await call("get_video", task_id=task_id, wait_seconds=30))["state"] == "succeeded"
            assert is_film((await call("download_video", task_id=task_id))["path"])
            await call("describe_gateway")
    return said


def files_with(key: str, folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]


NO_KEY_STORE = "[backend]\ndefault-keyring=keyring.backends.null.Keyring\n"


@pytest.mark.parametrize("has_key_store", [True, False])
async def test_login_and_install_and_claude_desktop_makes_a_film(
    address: str, user: Path, tmp_path: Path, has_key_store: bool
) -> None:
    if not has_key_store:
        (user / ".config/python_keyring/keyringrc.cfg").write_text(NO_KEY_STORE)
    login, install = (text.strip() for text in blocks("sh", README)[:2])
    assert (login, install) == (".venv/bin/sora-mcp login", ".venv/bin/sora-mcp install claude-desktop")
    await at_the_shell(user, login, "--base-url", address, typed=f"{KEY}\n")
    said = await at_the_shell(user, install)
    assert f"It uses the login for {address}" in said
    answers = await as_claude_desktop(user, tmp_path / "stderr")
    store = "key-store.json" if has_key_store else ".local/share/sora-mcp/login/logins.json"
    assert files_with(KEY, tmp_path) == [user / store]
    assert KEY not in "".join(answers)
