"""Adding the server to a client and taking it out again, on the three systems' layouts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sora_mcp.errors import FileProblem, NotConfigured
from sora_mcp.install import install, uninstall
from sora_mcp.install.entries import with_entry, without_entry
from sora_mcp.install.machine import Machine
from sora_mcp.manifests.clients import BY_NAME, CLIENTS
from sora_mcp.manifests.product import Launch

LOCAL = Launch("/opt/venv/bin/sora-mcp")
MOVED = Launch("/elsewhere/bin/sora-mcp")
KEY = "sk-canary-0123456789"
GATEWAY = {"SORA_BASE_URL": "https://gateway.example", "SORA_API_KEY": KEY}

LAYOUTS = {
    ("claude-desktop", "darwin"): "Library/Application Support/Claude/claude_desktop_config.json",
    ("claude-desktop", "win32"): "AppData/Roaming/Claude/claude_desktop_config.json",
    ("claude-desktop", "linux"): ".config/Claude/claude_desktop_config.json",
    ("cursor", "darwin"): ".cursor/mcp.json",
    ("cursor", "win32"): ".cursor/mcp.json",
    ("cursor", "linux"): ".cursor/mcp.json",
    ("windsurf", "darwin"): ".codeium/windsurf/mcp_config.json",
    ("windsurf", "win32"): ".codeium/windsurf/mcp_config.json",
    ("windsurf", "linux"): ".codeium/windsurf/mcp_config.json",
}

PROGRAM = """\
#!{python}
import json, os, pathlib, sys
home = pathlib.Path(os.environ["HOME"])
with (home / "calls.jsonl").open("a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
held = home / "held"
match sys.argv[1:]:
    case ["mcp", "add", *_] if held.exists() and {refuses_twice}:
        sys.exit("sora already exists")
    case ["mcp", "add", *rest] | ["--add-mcp", *rest]:
        held.write_text(" ".join(rest))
        {then}
    case ["mcp", "get", *_]:
        sys.exit(0 if held.exists() and not print(held.read_text()) else 1)
    case ["mcp", "remove", *_]:
        held.unlink()
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


def machine(home: Path, platform: str = "linux", **environ: str) -> Machine:
    return Machine(platform, home, {"HOME": str(home), "PATH": str(home / "bin"), **environ})


def program(home: Path, name: str, *, refuses_twice: bool = False, then: str = "pass") -> None:
    """Put a client's program in place: it notes its calls, and holds what was added to it."""
    path = home / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(PROGRAM.format(python=sys.executable, refuses_twice=refuses_twice, then=then))
    path.chmod(0o755)


def calls(home: Path) -> list[list[str]]:
    return [json.loads(line) for line in (home / "calls.jsonl").read_text().splitlines()]


def client_file(home: Path, name: str = "cursor", platform: str = "linux") -> Path:
    path = home / LAYOUTS[name, platform]
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def everything(home: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}


# Files


@pytest.mark.parametrize(("name", "platform"), LAYOUTS)
def test_a_client_without_a_file_gets_one_and_is_left_without_one(home: Path, name: str, platform: str) -> None:
    path = client_file(home, name, platform)
    done = install(BY_NAME[name], machine(home, platform), LOCAL)
    assert str(path) in done
    assert json.loads(path.read_text())["mcpServers"]["sora"]["command"] == LOCAL.command
    assert path.stat().st_mode & 0o777 == 0o600
    uninstall(BY_NAME[name], machine(home, platform))
    assert everything(home) == {}


@pytest.mark.parametrize(("name", "platform"), LAYOUTS)
def test_a_clients_file_is_put_back_as_it_was(home: Path, name: str, platform: str) -> None:
    path = client_file(home, name, platform)
    path.write_text('{\n    "theme": "dark",\n    "mcpServers": {\n        "other": {"command": "x"}\n    }\n}')
    before = everything(home)
    install(BY_NAME[name], machine(home, platform), LOCAL)
    assert set(json.loads(path.read_text())["mcpServers"]) == {"other", "sora"}
    uninstall(BY_NAME[name], machine(home, platform))
    assert everything(home) == before


def test_the_systems_own_variables_name_the_folders(home: Path) -> None:
    for platform, variable in {"win32": "APPDATA", "linux": "XDG_CONFIG_HOME"}.items():
        moved = home / platform
        (moved / "Claude").mkdir(parents=True)
        install(BY_NAME["claude-desktop"], machine(home, platform, **{variable: str(moved)}), LOCAL)
        assert (moved / "Claude" / "claude_desktop_config.json").is_file()


STYLES = {
    "two spaces": b'{\n  "mcpServers": {\n    "other": {\n      "command": "x"\n    }\n  },\n  "b": 1\n}\n',
    "tabs": b'{\n\t"mcpServers": {\n\t\t"other": {"command": "x"}\n\t}\n}\n',
    "windows": b'\xef\xbb\xbf{\r\n  "mcpServers": {\r\n    "other": {}\r\n  }\r\n}\r\n',
    "one line": b'{"a": [1, 2, {"b": "\\u00e9 \xc3\xa9"}], "mcpServers": {"other": {"command": "x"}}}',
    "no blanks": b'{"mcpServers":{"other":{}}}',
    "no servers": b'{\n  "mcpServers": {}\n}\n',
    "no servers, blanks": b'{\n  "mcpServers": {\n  }\n}\n',
    "not asked yet": b'{\n  "theme": "dark"\n}\n',
    "numbers": b'{"big": 123456789012345678901234567890, "e": 1.50e+10, "mcpServers": {"o": {}}}\n',
    "odd names": b'{"mcpServers": {"so\\"ra": {"}": "{"}, "\xe2\x82\xac": {}}}',
    "empty object": b"{}",
    "blank": b"\n",
    "nothing": b"",
}


@pytest.mark.parametrize("style", STYLES)
def test_only_our_entry_is_added_and_the_rest_keeps_its_bytes(home: Path, style: str) -> None:
    path, original = client_file(home), STYLES[style]
    path.write_bytes(original)
    install(BY_NAME["cursor"], machine(home), LOCAL)
    written = path.read_bytes()
    before = json.loads(original.decode("utf-8-sig").strip() or "{}")
    after = json.loads(written.decode("utf-8-sig"))
    assert after.pop("mcpServers") == before.pop("mcpServers", {}) | {"sora": after_entry(written)}
    assert after == before
    if original.strip():
        same = next((i for i, (a, b) in enumerate(zip(original, written, strict=False)) if a != b), len(original))
        assert written.endswith(original[same:])  # one piece was put in, and nothing else was changed
    if b"\n" not in original.strip():
        assert written.count(b"\n") == original.count(b"\n") or not before
    assert written.count(b"\n") == written.count(b"\r\n") or b"\r" not in original
    uninstall(BY_NAME["cursor"], machine(home))
    assert everything(home) == {path: original}


def after_entry(written: bytes) -> Any:
    entry = json.loads(written.decode("utf-8-sig"))["mcpServers"]["sora"]
    assert entry["command"] == LOCAL.command
    return entry


def test_installing_twice_changes_nothing(home: Path) -> None:
    client_file(home).write_bytes(STYLES["tabs"])
    install(BY_NAME["cursor"], machine(home), LOCAL)
    before = everything(home)
    assert "already" in install(BY_NAME["cursor"], machine(home), LOCAL)
    assert everything(home) == before


@pytest.mark.parametrize("style", ["two spaces", "blank", "not asked yet"])
def test_a_moved_script_replaces_the_entry_and_the_first_backup_stays(home: Path, style: str) -> None:
    path = client_file(home)
    path.write_bytes(STYLES[style])
    install(BY_NAME["cursor"], machine(home), LOCAL)
    install(BY_NAME["cursor"], machine(home, **GATEWAY), MOVED)
    assert json.loads(path.read_text())["mcpServers"]["sora"]["command"] == MOVED.command
    uninstall(BY_NAME["cursor"], machine(home))
    assert everything(home) == {path: STYLES[style]}


def test_a_moved_script_in_a_file_of_ours_alone_leaves_nothing_behind(home: Path) -> None:
    client_file(home)
    install(BY_NAME["cursor"], machine(home), LOCAL)
    install(BY_NAME["cursor"], machine(home), MOVED)
    uninstall(BY_NAME["cursor"], machine(home))
    assert everything(home) == {}


def test_what_was_changed_since_is_kept_when_our_entry_goes(home: Path) -> None:
    path = client_file(home)
    path.write_bytes(STYLES["two spaces"])
    install(BY_NAME["cursor"], machine(home), LOCAL)
    path.write_text(path.read_text().replace('"b": 1', '"b": 2').replace('"other"', '"mine": {}, "other"'))
    expected = path.read_text()
    uninstall(BY_NAME["cursor"], machine(home))
    assert json.loads(path.read_text()) == {"mcpServers": {"mine": {}, "other": {"command": "x"}}, "b": 2}
    assert [line for line in path.read_text().splitlines() if line not in expected.splitlines()] == []


def test_an_entry_of_ours_from_before_is_kept_in_the_backup_and_gone_after_uninstalling(home: Path) -> None:
    path = client_file(home)
    path.write_text('{"mcpServers": {"sora": {"command": "sora-mcp"}, "other": {}}}')
    original = path.read_bytes()
    install(BY_NAME["cursor"], machine(home), LOCAL)
    [backup] = set(everything(home)) - {path}
    assert backup.read_bytes() == original
    uninstall(BY_NAME["cursor"], machine(home))
    assert path.read_text() == '{"mcpServers": {"other": {}}}'


def test_uninstalling_what_is_not_there_changes_nothing(home: Path) -> None:
    path = client_file(home)
    assert "does not stand" in uninstall(BY_NAME["cursor"], machine(home))
    path.write_bytes(STYLES["tabs"])
    assert "does not stand" in uninstall(BY_NAME["cursor"], machine(home))
    assert everything(home) == {path: STYLES["tabs"]}


REFUSED = {
    "a comment": b'{\n  // mine\n  "mcpServers": {}\n}',
    "a comma too many": b'{"mcpServers": {},}',
    "cut off": b'{"mcpServers": {',
    "a list": b"[]",
    "servers in a list": b'{"mcpServers": []}',
    "null for servers": b'{"mcpServers": null}',
    "another server of this name": b'{"mcpServers": {"sora": {"command": "someone-elses"}}}',
    "no object of this name": b'{"mcpServers": {"sora": "sora-mcp"}}',
    "a key twice": b'{"mcpServers": {}, "mcpServers": {"sora": {"command": "sora-mcp"}}}',
    "not UTF-8": '{"mcpServers": {}}'.encode("utf-16"),
    "nested without end": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_not_understood_is_left_alone_with_the_snippet_to_paste(home: Path, case: str) -> None:
    client_file(home).write_bytes(REFUSED[case])
    before = everything(home)
    with pytest.raises(FileProblem, match="left untouched") as refused:
        install(BY_NAME["cursor"], machine(home), LOCAL)
    pasted = json.loads(refused.value.next_step.partition("\n\n")[2])
    assert pasted["mcpServers"]["sora"]["command"] == LOCAL.command
    with pytest.raises(FileProblem, match="left untouched"):
        uninstall(BY_NAME["cursor"], machine(home))
    assert everything(home) == before


def test_a_read_only_file_is_left_alone_both_ways(home: Path) -> None:
    path = client_file(home)
    path.write_bytes(STYLES["tabs"])
    path.chmod(0o444)
    with pytest.raises(FileProblem, match="read-only"):
        install(BY_NAME["cursor"], machine(home), LOCAL)
    assert everything(home) == {path: STYLES["tabs"]}
    path.chmod(0o644)
    install(BY_NAME["cursor"], machine(home), LOCAL)
    path.chmod(0o444)
    before = everything(home)
    with pytest.raises(FileProblem, match="read-only"):
        uninstall(BY_NAME["cursor"], machine(home))
    assert everything(home) == before


def test_a_folder_in_the_files_place_is_left_alone(home: Path) -> None:
    client_file(home).mkdir()
    with pytest.raises(FileProblem, match="cannot be read"):
        install(BY_NAME["cursor"], machine(home), LOCAL)


def test_a_client_that_is_not_there_gets_no_folder(home: Path) -> None:
    with pytest.raises(FileProblem, match="not found"):
        install(BY_NAME["cursor"], machine(home), LOCAL)
    assert list(home.iterdir()) == []


def test_a_key_that_somebody_put_into_our_entry_stays_there(home: Path) -> None:
    file = client_file(home, "claude-desktop")
    client = BY_NAME["claude-desktop"]
    install(client, machine(home), LOCAL)
    held = json.loads(file.read_text())
    held["mcpServers"]["sora"].setdefault("env", {})["SORA_API_KEY"] = "sk-typed-by-hand"
    file.write_text(json.dumps(held))
    install(client, machine(home, SORA_BASE_URL="https://gw.example"), LOCAL)
    env = json.loads(file.read_text())["mcpServers"]["sora"]["env"]
    assert (env["SORA_API_KEY"], env["SORA_BASE_URL"]) == ("sk-typed-by-hand", "https://gw.example")


@pytest.mark.parametrize("address", ["https://u:sk-secret@gw.example", "https://gw.example/?key=sk-secret"])
def test_an_address_that_holds_a_secret_is_written_nowhere(home: Path, address: str) -> None:
    before = everything(home)
    with pytest.raises(NotConfigured):
        install(BY_NAME["cursor"], machine(home, SORA_BASE_URL=address), LOCAL)
    assert everything(home) == before


def test_a_link_stays_a_link_and_the_permissions_stay(home: Path) -> None:
    path, real = client_file(home), home / "dotfiles.json"
    real.write_bytes(STYLES["tabs"])
    real.chmod(0o640)
    path.symlink_to(real)
    install(BY_NAME["cursor"], machine(home), LOCAL)
    assert path.is_symlink()
    assert "sora" in json.loads(real.read_text())["mcpServers"]
    assert real.stat().st_mode & 0o777 == 0o640
    uninstall(BY_NAME["cursor"], machine(home))
    assert path.is_symlink()
    assert real.read_bytes() == STYLES["tabs"]
    assert real.stat().st_mode & 0o777 == 0o640


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=12,
)
OTHERS = st.dictionaries(st.text(max_size=6).filter(lambda name: name != "sora"), VALUES, min_size=1, max_size=3)


@given(OTHERS, st.dictionaries(st.text(max_size=6), VALUES, max_size=3), st.sampled_from([None, 0, 1, 2, 4, "\t"]))
def test_any_file_takes_an_entry_and_gives_it_back(others: Any, rest: Any, indent: int | str | None) -> None:
    document = rest | {"mcpServers": others}
    text = json.dumps(document, indent=indent, ensure_ascii=indent == 1)
    added = with_entry(text, "mcpServers", "sora", {"command": "sora-mcp"})
    assert json.loads(added) == document | {"mcpServers": {**others, "sora": {"command": "sora-mcp"}}}
    assert without_entry(added, "mcpServers", "sora") == text


# Keys and settings


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: str(client.name))
def test_no_key_is_written_said_or_handed_to_a_program(home: Path, client: Any) -> None:
    for name in ("claude", "gemini", "code"):
        program(home, name)
    program(home, "codex", then=CODEX_WRITES)
    for name in ("claude-desktop", "cursor", "windsurf"):
        client_file(home, name)
    here = machine(home, **GATEWAY)
    said = install(client, here, LOCAL) + install(client, here, LOCAL, dry_run=True)
    assert KEY not in said
    assert [path for path, content in everything(home).items() if KEY.encode() in content] == []


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
    ),
    "gemini-cli": (
        "gemini",
        ["mcp", "add", "--scope", "user", *REFERENCED, "SORA_API_KEY=${SORA_API_KEY}", "sora", LOCAL.command],
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_client_with_a_command_of_its_own_is_asked_through_it(home: Path, name: str) -> None:
    command, arguments = COMMANDS[name]
    program(home, command)
    install(BY_NAME[name], machine(home, **GATEWAY), LOCAL)
    assert calls(home)[-1] == arguments
    uninstall(BY_NAME[name], machine(home))
    assert calls(home)[-1] == ["mcp", "remove", "--scope", "user", "sora"]


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
                "description": "The gateway's key. Sent as a Bearer header, nowhere else.",
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
        '{\n\t"servers": {\n\t\t"other": {},\n\t\t"sora": {"command": "/x/sora-mcp"}\n\t},\n\t"inputs": []\n}'
    )
    program(home, "code")
    uninstall(BY_NAME["vscode"], machine(home, platform))
    assert path.read_text() == '{\n\t"servers": {\n\t\t"other": {}\n\t},\n\t"inputs": []\n}'


def test_claude_code_refuses_a_second_one_so_ours_is_replaced(home: Path) -> None:
    program(home, "claude", refuses_twice=True)
    install(BY_NAME["claude-code"], machine(home), LOCAL)
    install(BY_NAME["claude-code"], machine(home), MOVED)
    assert (home / "held").read_text().endswith(MOVED.command)


def test_somebody_elses_server_of_this_name_stays_in_claude_code(home: Path) -> None:
    program(home, "claude", refuses_twice=True)
    (home / "held").write_text("someone-elses")
    with pytest.raises(FileProblem, match="left alone"):
        install(BY_NAME["claude-code"], machine(home), LOCAL)
    assert (home / "held").read_text() == "someone-elses"


def test_somebody_elses_server_of_this_name_is_not_removed(home: Path) -> None:
    program(home, "codex")
    (home / "held").write_text("someone-elses")
    with pytest.raises(FileProblem, match="left alone"):
        uninstall(BY_NAME["codex"], machine(home))
    assert (home / "held").exists()


def test_claude_code_without_our_server_is_left_alone(home: Path) -> None:
    program(home, "claude")
    assert "no server called sora" in uninstall(BY_NAME["claude-code"], machine(home))
    assert calls(home) == [["mcp", "get", "sora"]]


CODEX_WRITES = (
    "(home / '.codex').mkdir(exist_ok=True); (home / '.codex/config.toml').write_text('# mine\\n[mcp_servers.sora]\\n'"
    '\'command = "x"\\n\\n[mcp_servers.other]\\ncommand = "y"\\n\')'
)


def test_codex_is_told_to_forward_the_variables_and_nothing_else_in_its_file_changes(home: Path) -> None:
    program(home, "codex", then=CODEX_WRITES)
    install(BY_NAME["codex"], machine(home, **GATEWAY), LOCAL)
    assert calls(home) == [
        ["mcp", "get", "sora"],
        ["mcp", "add", "sora", "--env", "SORA_BASE_URL=https://gateway.example", "--", LOCAL.command],
    ]
    text = (home / ".codex" / "config.toml").read_text()
    forwarded = tomllib.loads(text)["mcp_servers"]["sora"].pop("env_vars")
    assert forwarded[0] == "SORA_API_KEY"
    assert "SORA_BASE_URL" not in forwarded
    written = [line for line in text.splitlines() if not line.startswith("env_vars")]
    assert written == ["# mine", "[mcp_servers.sora]", 'command = "x"', "", "[mcp_servers.other]", 'command = "y"']


def test_a_codex_file_in_another_form_is_left_alone_with_the_snippet(home: Path) -> None:
    (home / ".codex").mkdir()
    path = home / ".codex" / "config.toml"
    path.write_text('mcp_servers.sora = { command = "x" }\n')
    program(home, "codex")
    with pytest.raises(FileProblem, match="forward") as refused:
        install(BY_NAME["codex"], machine(home, **GATEWAY), LOCAL)
    assert "env_vars" in refused.value.next_step
    assert path.read_text() == 'mcp_servers.sora = { command = "x" }\n'


@pytest.mark.parametrize(("name", "command"), [("codex", "codex"), ("gemini-cli", "gemini"), ("vscode", "code")])
def test_a_program_that_fails_is_quoted_and_the_snippet_given(home: Path, name: str, command: str) -> None:
    path = home / "bin" / command
    path.parent.mkdir()
    path.write_text("#!/bin/sh\nprintf 'no such \\033[31mluck' >&2\nexit 7\n")
    path.chmod(0o755)
    with pytest.raises(FileProblem, match="'no such luck'") as refused:
        install(BY_NAME[name], machine(home), LOCAL)
    assert LOCAL.command in refused.value.next_step


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: str(client.name))
def test_a_dry_run_shows_and_writes_nothing(home: Path, client: Any) -> None:
    for name in ("claude", "codex", "gemini", "code"):
        program(home, name)
    client_file(home).write_bytes(STYLES["tabs"])
    before = everything(home)
    assert LOCAL.command in install(client, machine(home), LOCAL, dry_run=True)
    assert everything(home) == before


@pytest.mark.parametrize("name", ["zed", "goose", "lm-studio", "opencode"])
def test_the_rest_get_a_snippet_in_their_own_format(home: Path, name: str) -> None:
    said = install(BY_NAME[name], machine(home, **GATEWAY), LOCAL)
    document = yaml.safe_load(said.partition("\n\n")[2].rpartition("\n\n")[0])  # JSON is YAML too
    assert LOCAL.command in json.dumps(document)
    assert "sora" in uninstall(BY_NAME[name], machine(home))
    assert everything(home) == {}


# At the shell


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sora_mcp", *arguments]
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
    assert everything(home) == {}


def test_what_cannot_be_installed_ends_with_the_snippet_and_3(home: Path) -> None:
    for name in ("claude-code", "claude-desktop"):
        done = run(home, "install", name)
        assert (done.returncode, done.stdout) == (3, "")
        assert "not found" in done.stderr
        assert '"mcpServers"' in done.stderr
        assert "Traceback" not in done.stderr


def test_an_unknown_client_is_answered_with_the_list(home: Path) -> None:
    for action in ("install", "uninstall"):
        done = run(home, action, "windsrf")
        assert done.returncode == 2
        assert "did you mean windsurf?" in done.stderr
        assert all(client.name in done.stderr for client in CLIENTS)
