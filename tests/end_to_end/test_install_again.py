"""Installing where the server is installed already: what is ours is brought up to date, what somebody added stays."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from machines import (
    GATEWAY,
    LOCAL,
    MOVED,
    PROGRAMS,
    all_files,
    calls,
    client_file,
    configure_server,
    configured_server,
    machine,
    program,
)

from sora_mcp.core.errors import FileProblem
from sora_mcp.distribution.install import install, uninstall
from sora_mcp.distribution.manifests.clients import BY_NAME


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_second_time_changes_what_is_ours_and_keeps_what_was_added_to_it(home: Path, name: str) -> None:
    program(home, PROGRAMS[name])
    configure_server(home, name, command="/old/sora-mcp", args=[], startup_timeout_sec=60, disabled=True)
    install(BY_NAME[name], machine(home, SORA_BASE_URL="https://gateway.example"), MOVED)
    install(BY_NAME[name], machine(home), MOVED)  # from a shell where nothing is set
    server = configured_server(home, name)
    assert server["command"] == MOVED.command
    assert (server["startup_timeout_sec"], server["disabled"]) == (60, True)
    assert server["env"]["SORA_BASE_URL"] == "https://gateway.example"


def test_variables_that_somebody_has_codex_forward_are_forwarded_still(home: Path) -> None:
    program(home, "codex")
    configure_server(home, "codex", command="/old/sora-mcp", env_vars=["HTTPS_PROXY", "SORA_API_KEY"])
    install(BY_NAME["codex"], machine(home, **GATEWAY), LOCAL)
    assert configured_server(home, "codex")["env_vars"].count("SORA_API_KEY") == 1
    assert "HTTPS_PROXY" in configured_server(home, "codex")["env_vars"]


OURS: dict[str, dict[str, Any]] = {
    "the script": {"command": "sora-mcp"},
    "the script of another folder": {"command": "/x/.venv/bin/sora-mcp", "args": []},
    "the script on Windows": {"command": "C:\\x\\Scripts\\Sora-MCP.EXE"},
    "the module": {"command": "/x/bin/python3", "args": ["-m", "sora_mcp"]},
    "the published form": {"command": "uvx", "args": ["--from", "sora-mcp[media]==0.0.1", "sora-mcp"]},
}


@pytest.mark.parametrize("case", OURS)
@pytest.mark.parametrize("name", [*PROGRAMS, "cursor"])
def test_an_entry_that_starts_our_server_is_ours(home: Path, name: str, case: str) -> None:
    client_file(home)
    configure_server(home, name, **OURS[case])
    install(BY_NAME[name], machine(home), LOCAL)
    server = configured_server(home, name)
    assert (server["command"], server["args"]) == (LOCAL.command, [])


@pytest.mark.parametrize("name", [*PROGRAMS, "cursor"])
def test_a_key_typed_by_hand_stays_and_is_handed_to_no_program(home: Path, name: str) -> None:
    program(home, PROGRAMS.get(name, "x"))
    configure_server(
        home, name, command="/old/sora-mcp", args=["serve"], env={"SORA_API_KEY": "sk-typed-by-hand", "X": "1"}
    )
    install(BY_NAME[name], machine(home, **GATEWAY), LOCAL)
    server = configured_server(home, name)
    assert server["env"] == {"SORA_API_KEY": "sk-typed-by-hand", "X": "1", "SORA_BASE_URL": "https://gateway.example"}
    assert (server["command"], server["args"]) == (LOCAL.command, ["serve"])
    assert "SORA_API_KEY" not in server.get("env_vars", [])
    assert "sk-typed" not in json.dumps(calls(home))


@pytest.mark.parametrize("name", ["claude-code", "gemini-cli", "vscode", "cursor"])
def test_the_sandbox_takes_our_reference_to_the_key_away_again(home: Path, name: str) -> None:
    configure_server(home, name, command="/old/sora-mcp")
    install(BY_NAME[name], machine(home), LOCAL)
    assert "SORA_API_KEY" in configured_server(home, name)["env"]
    install(BY_NAME[name], machine(home, SORA_BASE_URL="sandbox"), LOCAL)
    assert configured_server(home, name)["env"] == {"SORA_BASE_URL": "sandbox"}


@pytest.mark.parametrize("entry", [None, {"command": "sora-mcp", "env": None, "args": None}])
def test_null_where_something_could_stand_is_nothing(home: Path, entry: Any) -> None:
    path = client_file(home)
    path.write_text(json.dumps({"mcpServers": {"sora": entry}, "theme": "dark"}))
    install(BY_NAME["cursor"], machine(home, SORA_BASE_URL="sandbox"), LOCAL)
    assert configured_server(home, "cursor")["env"] == {"SORA_BASE_URL": "sandbox"}
    assert configured_server(home, "cursor")["command"] == LOCAL.command


@pytest.mark.parametrize("name", [*PROGRAMS, "cursor"])
def test_a_dry_run_where_it_is_installed_says_whether_anything_would_change(home: Path, name: str) -> None:
    configure_server(home, name, command="/old/sora-mcp")
    install(BY_NAME[name], machine(home), LOCAL)
    before = all_files(home)
    assert "nothing would be changed" in install(BY_NAME[name], machine(home), LOCAL, dry_run=True)
    assert "would be changed to" in install(BY_NAME[name], machine(home), MOVED, dry_run=True)
    assert all_files(home) == before


CODEX = """\
# mine
[mcp_servers.other]  # kept
command = "y"

[mcp_servers.sora]
# mine, too
command = "/old/sora-mcp"
enabled = false

[mcp_servers.sora.tools.create_video]
approval_mode = "approve"

[mcp_servers.sora.env]
SORA_BASE_URL = "https://old.example"  # here

[tui]
theme = 'dark'
"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_only_the_lines_of_our_own_change_in_codexs_file(home: Path, line_end: str) -> None:
    path = home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_bytes(CODEX.replace("\n", line_end).encode())
    install(BY_NAME["codex"], machine(home, **GATEWAY), MOVED)
    written = path.read_bytes().decode()
    added = {
        'command = "/elsewhere/bin/sora-mcp"',
        "args = []",
        'SORA_BASE_URL = "https://gateway.example"',
        next(line for line in written.split(line_end) if line.startswith("env_vars = ")),
    }
    assert set(written.split(line_end)) - set(CODEX.split("\n")) == added
    expected = tomllib.loads(CODEX)["mcp_servers"]["sora"]
    held = configured_server(home, "codex")
    assert (held["enabled"], held["tools"]) == (False, expected["tools"])
    assert "already" in install(BY_NAME["codex"], machine(home, **GATEWAY), MOVED)


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_change_of_what_the_client_itself_added_leaves_no_copies(home: Path, name: str) -> None:
    configure_server(home, name, command="/old/sora-mcp")
    before = set(all_files(home))
    assert "Changed" in install(BY_NAME[name], machine(home), LOCAL)
    assert set(all_files(home)) == before


def test_codex_variables_in_a_form_that_is_not_known_here_are_left_alone(home: Path) -> None:
    path = home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text('[mcp_servers.sora]\ncommand = "/old/sora-mcp"\nenv_vars = [{ name = "X", source = "remote" }]\n')
    before = all_files(home)
    with pytest.raises(FileProblem, match="another form"):
        install(BY_NAME["codex"], machine(home), LOCAL)
    assert all_files(home) == before


@pytest.mark.parametrize("text", ["mcp_servers = 5\n", "[mcp_servers]\nsora = 5\n", "a = [", "\ufeffa = 1\n"])
def test_a_codex_file_in_which_nobody_can_tell_is_left_alone(home: Path, text: str) -> None:
    program(home, "codex")
    path = home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileProblem, match="was not changed"):
        install(BY_NAME["codex"], machine(home), LOCAL)
    with pytest.raises(FileProblem, match="was not changed"):
        uninstall(BY_NAME["codex"], machine(home))
    assert path.read_text(encoding="utf-8") == text
    assert calls(home) == []


def test_what_vs_code_is_to_ask_for_comes_with_the_entry_and_goes_where_nobody_else_uses_it(home: Path) -> None:
    configure_server(home, "vscode", command="sora-mcp")
    install(BY_NAME["vscode"], machine(home), LOCAL)
    path = home / ".config" / "Code" / "User" / "mcp.json"
    held = json.loads(path.read_text())
    assert [each["id"] for each in held["inputs"]] == ["sora-base-url", "sora-api-key"]
    held["servers"]["mine"] = {"command": "x", "env": {"KEY": "${input:sora-api-key}"}}
    path.write_text(json.dumps(held))
    uninstall(BY_NAME["vscode"], machine(home))
    left = json.loads(path.read_text())
    assert [each["id"] for each in left["inputs"]] == ["sora-api-key"]
    assert list(left["servers"]) == ["mine"]
    assert left["theme"] == "dark"


@pytest.mark.parametrize(
    ("name", "variable"), [("gemini-cli", "GEMINI_CLI_HOME"), ("claude-code", "CLAUDE_CONFIG_DIR")]
)
def test_a_client_whose_folder_is_elsewhere_is_looked_for_there(home: Path, name: str, variable: str) -> None:
    configure_server(home / "moved", name, command="someone-elses")
    with pytest.raises(FileProblem, match="another server"):
        install(BY_NAME[name], machine(home, **{variable: str(home / "moved")}), LOCAL)


@pytest.mark.parametrize("name", [*PROGRAMS, "cursor"])
def test_settings_that_cannot_be_used_do_not_keep_anybody_from_uninstalling(home: Path, name: str) -> None:
    program(home, PROGRAMS.get(name, "x"))
    configure_server(home, name, command="sora-mcp")
    uninstall(BY_NAME[name], machine(home, SORA_BASE_URL="not an address"))
    assert configured_server(home, name) is None
