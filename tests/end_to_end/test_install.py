"""Adding the server to a client through its own program, keys and settings, and `install` at a shell."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from machines import (
    CLIENT_FILES,
    FETCHED,
    GATEWAY,
    KEY,
    LOCAL,
    PROGRAMS,
    all_files,
    calls,
    client_file,
    configure_server,
    configured_server,
    machine,
    program,
)
from warm import warm_command
from wording import next_step

from sora_mcp.config.logins import LoginFile
from sora_mcp.core.errors import FileProblem, NotConfigured
from sora_mcp.distribution.install import install, uninstall
from sora_mcp.distribution.install.machine import installed_launch
from sora_mcp.distribution.manifests.clients import BY_NAME, CLIENTS


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


# Keys and settings


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: str(client.name))
def test_no_key_is_written_said_or_handed_to_a_program(home: Path, client: Any) -> None:
    for name in ("claude", "codex", "gemini", "copilot", "code", "qwen", "opencode"):
        program(home, name)
    for name in ("claude-desktop", "cursor", "windsurf"):
        client_file(home, name)
    (home / CLIENT_FILES["cline"][0]).parent.mkdir(parents=True)
    here = machine(home, **GATEWAY)
    said = install(client, here, LOCAL) + install(client, here, LOCAL, dry_run=True)
    assert KEY not in said
    assert [path for path, content in all_files(home).items() if KEY.encode() in content] == []


def test_what_is_set_and_no_secret_is_told_and_what_was_not_expanded_is_not(home: Path) -> None:
    path = client_file(home)
    environ = {**GATEWAY, "SORA_MAX_RUNNING": "2", "SORA_HOME": "${HOME}/sora", "SORA_LOG_LEVEL": " "}
    install(BY_NAME["cursor"], machine(home, **environ), LOCAL)
    assert json.loads(path.read_text())["mcpServers"]["sora"]["env"] == {
        "SORA_BASE_URL": "https://gateway.example",
        "SORA_MAX_RUNNING": "2",
        "SORA_API_KEY": "${env:SORA_API_KEY}",
    }


def test_a_folder_is_told_by_its_whole_path(home: Path) -> None:
    path = client_file(home)
    install(BY_NAME["cursor"], machine(home, SORA_HOME="videos", SORA_OUTPUT_DIR="~/videos"), LOCAL)
    env = json.loads(path.read_text())["mcpServers"]["sora"]["env"]
    assert env["SORA_HOME"] == str(Path.cwd() / "videos")
    assert env["SORA_OUTPUT_DIR"] == "~/videos"


def test_several_folders_are_each_told_by_their_whole_path(home: Path) -> None:
    path = client_file(home)
    install(BY_NAME["cursor"], machine(home, SORA_IMAGE_DIRS=os.pathsep.join(["a", "~/b", "/c"])), LOCAL)
    env = json.loads(path.read_text())["mcpServers"]["sora"]["env"]
    assert env["SORA_IMAGE_DIRS"] == os.pathsep.join([str(Path.cwd() / "a"), "~/b", "/c"])


@pytest.mark.parametrize("setting", ["SORA_OUTPUT_DIR", "SORA_OWNER", "SORA_BASE_URL", "SORA_IMAGE_DIRS"])
def test_a_key_that_stands_in_another_setting_is_written_nowhere(home: Path, setting: str) -> None:
    client_file(home)
    before = all_files(home)
    for value in (KEY, f"https://gateway.example/{KEY}"):
        with pytest.raises(NotConfigured) as refused:
            install(BY_NAME["cursor"], machine(home, **{**GATEWAY, setting: value}), LOCAL)
        assert KEY not in str(refused.value)
    assert all_files(home) == before


def test_claude_desktops_entry_has_no_key_and_the_person_is_told_how(home: Path) -> None:
    path = client_file(home, "claude-desktop")
    said = install(BY_NAME["claude-desktop"], machine(home, **GATEWAY), LOCAL)
    assert json.loads(path.read_text())["mcpServers"]["sora"]["env"] == {"SORA_BASE_URL": "https://gateway.example"}
    assert "add SORA_API_KEY" in said
    assert "SORA_BASE_URL is not set" in install(BY_NAME["claude-desktop"], machine(home), LOCAL)


def test_the_sandbox_needs_no_key_anywhere(home: Path) -> None:
    here = machine(home, SORA_BASE_URL="sandbox")
    client_file(home)
    assert "needs no key" in install(BY_NAME["cursor"], here, LOCAL)
    goose = install(BY_NAME["goose"], here, LOCAL).partition("\n\n")[2].rpartition("\n\n")[0]
    assert yaml.safe_load(goose)["extensions"]["sora"]["env_keys"] == []


# Programs

REFERENCED = ["--env", "SORA_BASE_URL=https://gateway.example", "--env"]
COMMANDS = {
    "claude-code": (
        "claude",
        ["mcp", "add", "--scope", "user", "sora", *REFERENCED, "SORA_API_KEY=${SORA_API_KEY:-}", "--", LOCAL.command],
        ["mcp", "remove", "--scope", "user", "sora"],
    ),
    "gemini-cli": (
        "gemini",
        ["mcp", "add", "--scope", "user", *REFERENCED, "SORA_API_KEY=${SORA_API_KEY}", "sora", LOCAL.command],
        ["mcp", "remove", "--scope", "user", "sora"],
    ),
    "copilot-cli": (
        "copilot",
        ["mcp", "add", "sora", *REFERENCED, "SORA_API_KEY=${SORA_API_KEY}", "--", LOCAL.command],
        ["mcp", "remove", "sora"],
    ),
    "qwen-code": (
        "qwen",
        ["mcp", "add", "--scope", "user", "sora", LOCAL.command, *REFERENCED, "SORA_API_KEY=${SORA_API_KEY}"],
        ["mcp", "remove", "--scope", "user", "sora"],
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_client_with_a_command_of_its_own_is_asked_through_it(home: Path, name: str) -> None:
    command, arguments, removed = COMMANDS[name]
    program(home, command)
    install(BY_NAME[name], machine(home, **GATEWAY), LOCAL)
    assert calls(home)[-1] == arguments
    uninstall(BY_NAME[name], machine(home))
    assert calls(home)[-1] == removed


def test_vs_code_is_handed_the_entry_and_what_to_ask_for(home: Path) -> None:
    program(home, "code")
    install(BY_NAME["vscode"], machine(home, **GATEWAY), LOCAL)
    [[option, told]] = calls(home)
    assert option == "--add-mcp"
    assert json.loads(told) == {
        "name": "sora",
        "type": "stdio",
        "command": LOCAL.command,
        "args": [],
        "env": {"SORA_BASE_URL": "https://gateway.example", "SORA_API_KEY": "${input:sora-api-key}"},
        "inputs": [
            {
                "type": "promptString",
                "id": "sora-api-key",
                "description": "The gateway's key. Sent only as a Bearer header.",
                "password": True,
            }
        ],
    }


@pytest.mark.parametrize(
    ("platform", "folder"),
    {"darwin": "Library/Application Support", "win32": "AppData/Roaming", "linux": ".config"}.items(),
)
def test_vs_code_has_no_command_to_remove_so_its_file_loses_our_entry(home: Path, platform: str, folder: str) -> None:
    path = home / folder / "Code" / "User" / "mcp.json"
    path.parent.mkdir(parents=True)
    path.write_text(
        '{\n\t"servers": {\n\t\t"other": {},\n\t\t"sora": {"command": "/x/sora-mcp"}\n\t},\n\t"inputs": [\n\t\t'
        '{"id": "mine"},\n\t\t{"id": "sora-api-key", "password": true}\n\t]\n}'
    )
    program(home, "code")
    uninstall(BY_NAME["vscode"], machine(home, platform))
    assert path.read_text() == ('{\n\t"servers": {\n\t\t"other": {}\n\t},\n\t"inputs": [\n\t\t{"id": "mine"}\n\t]\n}')


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize(
    "stranger",
    [
        {"command": "someone-elses"},
        {"command": "npx", "args": ["serve", "not-sora-mcp-at-all"]},
        {"command": "/x/my-sora-mcp-proxy", "args": ["sora_mcp"]},
        {"command": "uvx", "args": ["sora-mcp-of-somebody"]},
        {"command": "uvx", "args": ["--from", "git+https://elsewhere.example/x", "sora-mcp"]},
        {"url": "https://elsewhere.example/sora-mcp"},
        {"command": "python", "args": "-m sora_mcp"},
    ],
    ids=str,
)
def test_somebody_elses_server_of_this_name_is_left_alone_both_ways(
    home: Path, name: str, stranger: dict[str, Any]
) -> None:
    program(home, PROGRAMS[name])
    configure_server(home, name, **stranger)
    before = all_files(home)
    with pytest.raises(FileProblem, match="another server"):
        install(BY_NAME[name], machine(home), LOCAL)
    with pytest.raises(FileProblem, match="another server"):
        install(BY_NAME[name], machine(home), LOCAL, dry_run=True)
    for dry_run in (True, False):
        with pytest.raises(FileProblem, match="another server") as refused:
            uninstall(BY_NAME[name], machine(home), dry_run=dry_run)
        assert "nothing to remove" in next_step(refused.value)
    assert all_files(home) == before


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_client_that_fails_to_add_has_what_it_had(home: Path, name: str) -> None:
    program(home, PROGRAMS[name], failing=f"echo 'no luck with {KEY}' >&2; exit 7")
    before = all_files(home)
    with pytest.raises(FileProblem, match="no luck with \\[key\\]") as refused:
        install(BY_NAME[name], machine(home, **{**GATEWAY, "SORA_API_KEY": f"Bearer {KEY} "}), LOCAL)
    assert LOCAL.command in next_step(refused.value)
    assert all_files(home) == before


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_client_without_our_server_is_left_alone(home: Path, name: str) -> None:
    program(home, PROGRAMS[name])
    before = all_files(home)
    assert "no server called sora" in (said := uninstall(BY_NAME[name], machine(home))) or "is not in" in said
    assert all_files(home) == before


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_was_added_is_gone_again_with_everything_else_as_it_was(home: Path, name: str) -> None:
    program(home, PROGRAMS[name])
    install(BY_NAME[name], machine(home, **GATEWAY), LOCAL)
    assert configured_server(home, name)["command"] == LOCAL.command
    planned = uninstall(BY_NAME[name], machine(home), dry_run=True)
    assert configured_server(home, name)["command"] == LOCAL.command
    assert "sora" in planned
    uninstall(BY_NAME[name], machine(home))
    file = home / CLIENT_FILES[name][0]
    assert "sora" not in (file.read_text() if file.exists() else "")


def test_codex_is_told_to_forward_the_variables_and_nothing_else_in_its_file_changes(home: Path) -> None:
    program(home, "codex")
    file = home / ".codex" / "config.toml"
    file.parent.mkdir()
    file.write_text('# mine\n[mcp_servers.other]\ncommand = "y"\n')
    install(BY_NAME["codex"], machine(home, **GATEWAY), LOCAL)
    address = "SORA_BASE_URL=https://gateway.example"
    assert calls(home) == [["mcp", "add", "sora", "--env", address, "--", LOCAL.command]]
    told = tomllib.loads(file.read_text())["mcp_servers"]
    forwarded = told["sora"].pop("env_vars")
    assert forwarded[0] == "SORA_API_KEY"
    assert "SORA_BASE_URL" not in forwarded
    entry = {"command": LOCAL.command, "args": [], "env": {"SORA_BASE_URL": "https://gateway.example"}}
    assert told == {"other": {"command": "y"}, "sora": entry}


def test_a_codex_file_in_another_form_is_left_alone_with_the_snippet(home: Path) -> None:
    path = home / ".codex" / "config.toml"
    path.parent.mkdir()
    path.write_text('mcp_servers.sora = { command = "/old/sora-mcp" }\n')
    program(home, "codex", failing=":")
    with pytest.raises(FileProblem, match="another form") as refused:
        install(BY_NAME["codex"], machine(home, **GATEWAY), LOCAL)
    assert "env_vars" in next_step(refused.value)
    assert path.read_text() == 'mcp_servers.sora = { command = "/old/sora-mcp" }\n'


@pytest.mark.parametrize("name", ["claude-code", "gemini-cli", "codex", "vscode", "copilot-cli"])
def test_a_clients_file_that_is_not_understood_is_left_alone(home: Path, name: str) -> None:
    program(home, PROGRAMS[name])
    file = home / CLIENT_FILES[name][0]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{ // mine\n}")
    before = all_files(home)
    with pytest.raises(FileProblem, match="was not changed") as refused:
        install(BY_NAME[name], machine(home), LOCAL)
    assert LOCAL.command in next_step(refused.value)
    assert all_files(home) == before


@pytest.mark.parametrize(("name", "command"), [("codex", "codex"), ("gemini-cli", "gemini"), ("vscode", "code")])
def test_a_program_that_fails_is_quoted_and_the_snippet_given(home: Path, name: str, command: str) -> None:
    program(home, command, failing="printf 'no such \\033[31mluck' >&2; exit 7")
    with pytest.raises(FileProblem, match='"no such luck"') as refused:
        install(BY_NAME[name], machine(home), LOCAL)
    assert LOCAL.command in next_step(refused.value)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: str(client.name))
def test_a_dry_run_shows_and_writes_nothing(home: Path, client: Any) -> None:
    for name in ("claude", "codex", "gemini", "code"):
        program(home, name)
    client_file(home).write_text('{"theme": "dark"}')
    before = all_files(home)
    assert LOCAL.command in install(client, machine(home), LOCAL, dry_run=True)
    assert all_files(home) == before


@pytest.mark.parametrize("name", ["zed", "goose", "lm-studio", "continue"])
def test_the_rest_get_a_snippet_in_their_own_format(home: Path, name: str) -> None:
    said = install(BY_NAME[name], machine(home, **GATEWAY), LOCAL)
    document = yaml.safe_load(said.partition("\n\n")[2].rpartition("\n\n")[0])  # JSON is YAML too
    assert LOCAL.command in json.dumps(document)
    assert "sora" in uninstall(BY_NAME[name], machine(home))
    assert all_files(home) == {}


@pytest.mark.parametrize("odd", ["env_vars = 5", 'env_vars = "SORA_API_KEY"', 'env = "x"', "env = 7"])
def test_an_entry_of_codex_that_holds_something_odd_is_left_alone(home: Path, odd: str) -> None:
    program(home, "codex")
    file = home / ".codex" / "config.toml"
    file.parent.mkdir()
    file.write_text(f'[mcp_servers.sora]\ncommand = "/old/sora-mcp"\n{odd}\n')
    before = all_files(home)
    for dry_run in (True, False):
        with pytest.raises(FileProblem, match="was not changed"):
            install(BY_NAME["codex"], machine(home), LOCAL, dry_run=dry_run)
    assert all_files(home) == before


@pytest.mark.parametrize("setting", [{"SORA_MAX_COST_PER_DAY": "abc"}, {"SORA_LOG_LEVEL": "loud"}], ids=str)
def test_a_setting_with_which_the_server_would_not_start_is_not_written(home: Path, setting: dict[str, str]) -> None:
    client_file(home)
    before = all_files(home)
    with pytest.raises(NotConfigured, match=next(iter(setting))):
        install(BY_NAME["cursor"], machine(home, **GATEWAY, **setting), LOCAL)
    assert all_files(home) == before


def test_opencode_adds_by_its_own_command_and_loses_our_entry_from_its_file(home: Path) -> None:
    program(home, "opencode")
    here = machine(home, **GATEWAY)
    install(BY_NAME["opencode"], here, FETCHED)
    key = "SORA_API_KEY={env:SORA_API_KEY}"
    assert calls(home) == [["mcp", "add", "sora", *REFERENCED, key, "--", FETCHED.command, *FETCHED.args]]
    assert "Changed in" in install(BY_NAME["opencode"], machine(home, SORA_BASE_URL="sandbox"), LOCAL)
    assert configured_server(home, "opencode") == {
        "type": "local",
        "command": [LOCAL.command],
        "environment": {"SORA_BASE_URL": "sandbox"},
        "enabled": True,
    }
    uninstall(BY_NAME["opencode"], here)
    assert configured_server(home, "opencode") is None


def test_opencodes_other_file_is_the_one_where_it_is_there(home: Path) -> None:
    program(home, "opencode")
    file = home / ".config" / "opencode" / "opencode.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"mcp": {"sora": {"type": "local", "command": ["/old/sora-mcp"]}}}))
    install(BY_NAME["opencode"], machine(home, SORA_BASE_URL="sandbox"), LOCAL)
    assert calls(home) == []
    assert json.loads(file.read_text())["mcp"]["sora"]["command"] == [LOCAL.command]


def test_cline_is_given_time(home: Path) -> None:
    file = home / CLIENT_FILES["cline"][0]
    file.parent.mkdir(parents=True)
    file.write_text('{"mcpServers": {"other": {"transport": {"type": "stdio"}}}}')
    install(BY_NAME["cline"], machine(home, **GATEWAY), LOCAL)
    assert configured_server(home, "cline") == {
        "command": LOCAL.command,
        "args": [],
        "env": {"SORA_BASE_URL": "https://gateway.example"},
        "timeout": 60,
    }
    uninstall(BY_NAME["cline"], machine(home))
    assert json.loads(file.read_text()) == {"mcpServers": {"other": {"transport": {"type": "stdio"}}}}


@pytest.mark.parametrize("name", ["claude-code", "codex", "copilot-cli", "cursor", "gemini-cli", "qwen-code"])
def test_what_fetches_the_package_is_ours_as_well(home: Path, name: str) -> None:
    program(home, PROGRAMS.get(name, "x"))
    client_file(home)
    install(BY_NAME[name], machine(home), FETCHED)
    assert [configured_server(home, name)["command"], *configured_server(home, name)["args"]] == [
        FETCHED.command,
        *FETCHED.args,
    ]
    install(BY_NAME[name], machine(home), LOCAL)
    assert [configured_server(home, name)["command"], *configured_server(home, name)["args"]] == [LOCAL.command]
    install(BY_NAME[name], machine(home), FETCHED)
    uninstall(BY_NAME[name], machine(home))


# With a login


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: str(client.name))
def test_after_a_login_no_client_is_asked_or_told_for_a_key(home: Path, client: Any) -> None:
    for name in PROGRAMS.values():
        program(home, name)
    program(home, "opencode")
    for name in ("claude-desktop", "cursor", "windsurf"):
        client_file(home, name)
    (home / CLIENT_FILES["cline"][0]).parent.mkdir(parents=True)
    LoginFile(home / "data").add("https://gateway.example", "sora", KEY, in_key_store=False)
    for chosen in ({}, {"SORA_BASE_URL": "https://gateway.example/v1"}):
        said = install(client, machine(home, SORA_HOME=str(home / "data"), **chosen), LOCAL)
        assert "It uses the login for https://gateway.example" in said
        rest = home / "calls.jsonl"
        written = "".join(path.read_text() for path in home.rglob("*.json*") if "login" not in str(path))
        assert KEY not in said + written
        assert "SORA_API_KEY" not in said + written
        assert not rest.exists() or "SORA_API_KEY" not in rest.read_text()
    said = install(client, machine(home, SORA_HOME=str(home / "data"), SORA_BASE_URL="https://other.example"), LOCAL)
    assert "It uses the login" not in said


# At the shell


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*warm_command(), *arguments]
    environ = {**os.environ, "HOME": str(home), "PATH": str(home / "bin"), "XDG_CONFIG_HOME": ""}
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environ)  # noqa: S603


def test_a_person_installs_and_uninstalls_the_script_that_runs(home: Path) -> None:
    path = client_file(home)
    done = run(home, "install", "Cursor")
    assert (done.returncode, done.stderr) == (0, "")
    script = json.loads(path.read_text())["mcpServers"]["sora"]["command"]
    assert Path(script).is_absolute()
    version = subprocess.run([script, "--version"], check=True, capture_output=True, text=True)  # noqa: S603
    assert version.stdout.startswith("sora-mcp")
    assert run(home, "uninstall", "cursor").returncode == 0
    assert all_files(home) == {}


def test_what_cannot_be_installed_ends_with_the_snippet_and_3(home: Path) -> None:
    for name in ("claude-code", "claude-desktop"):
        done = run(home, "install", name)
        assert (done.returncode, done.stdout) == (3, "")
        assert "not found" in done.stderr
        assert '"mcpServers"' in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("action", ["install", "uninstall"])
def test_the_shell_completes_the_names_of_clients(action: str) -> None:
    asked = {"_SORA_MCP_COMPLETE": "bash_complete", "COMP_WORDS": f"sora-mcp {action} C", "COMP_CWORD": "2"}
    done = subprocess.run(  # noqa: S603
        [installed_launch().command], check=True, capture_output=True, text=True, env={**os.environ, **asked}
    )
    assert [line.partition(",")[2] for line in done.stdout.splitlines()] == [
        client.name for client in CLIENTS if client.name.startswith("c")
    ]


def test_what_uninstalling_would_do_is_shown_and_not_done(home: Path) -> None:
    path = client_file(home)
    run(home, "install", "cursor")
    before = all_files(home)
    done = run(home, "uninstall", "cursor", "--dry-run")
    assert (done.returncode, str(path) in done.stdout) == (0, True)
    assert all_files(home) == before


def test_an_unknown_client_is_answered_with_the_list(home: Path) -> None:
    for action in ("install", "uninstall"):
        done = run(home, action, "windsrf")
        assert done.returncode == 2
        assert "did you mean windsurf?" in done.stderr
        assert all(client.name in done.stderr for client in CLIENTS)
