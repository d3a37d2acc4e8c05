"""Adding the server to a client's own file and taking it out again: the rest keeps its bytes, on three systems."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import GATEWAY, LAYOUTS, LOCAL, MOVED, all_files, client_file, machine
from wording import next_step

from sora_mcp.core.errors import FileProblem, NotConfigured
from sora_mcp.distribution.install import install, uninstall
from sora_mcp.distribution.install.entries import with_entry, with_items, without_entry, without_items
from sora_mcp.distribution.manifests.clients import BY_NAME


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize(("name", "platform"), LAYOUTS)
def test_a_client_without_a_file_gets_one_and_is_left_without_one(home: Path, name: str, platform: str) -> None:
    path = client_file(home, name, platform)
    done = install(BY_NAME[name], machine(home, platform), LOCAL)
    assert str(path) in done
    assert json.loads(path.read_text())["mcpServers"]["sora"]["command"] == LOCAL.command
    assert path.stat().st_mode & 0o777 == 0o600
    uninstall(BY_NAME[name], machine(home, platform))
    assert all_files(home) == {}


@pytest.mark.parametrize(("name", "platform"), LAYOUTS)
def test_a_clients_file_is_put_back_as_it_was(home: Path, name: str, platform: str) -> None:
    path = client_file(home, name, platform)
    path.write_text('{\n    "theme": "dark",\n    "mcpServers": {\n        "other": {"command": "x"}\n    }\n}')
    before = all_files(home)
    install(BY_NAME[name], machine(home, platform), LOCAL)
    assert set(json.loads(path.read_text())["mcpServers"]) == {"other", "sora"}
    uninstall(BY_NAME[name], machine(home, platform))
    assert all_files(home) == before


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
    assert all_files(home) == {path: original}


def after_entry(written: bytes) -> Any:
    entry = json.loads(written.decode("utf-8-sig"))["mcpServers"]["sora"]
    assert entry["command"] == LOCAL.command
    return entry


def test_installing_twice_changes_nothing(home: Path) -> None:
    client_file(home).write_bytes(STYLES["tabs"])
    install(BY_NAME["cursor"], machine(home), LOCAL)
    before = all_files(home)
    assert "already" in install(BY_NAME["cursor"], machine(home), LOCAL)
    assert all_files(home) == before


@pytest.mark.parametrize("style", ["two spaces", "blank", "not asked yet"])
def test_a_moved_script_replaces_the_entry_and_the_first_backup_stays(home: Path, style: str) -> None:
    path = client_file(home)
    path.write_bytes(STYLES[style])
    install(BY_NAME["cursor"], machine(home), LOCAL)
    install(BY_NAME["cursor"], machine(home, **GATEWAY), MOVED)
    assert json.loads(path.read_text())["mcpServers"]["sora"]["command"] == MOVED.command
    uninstall(BY_NAME["cursor"], machine(home))
    assert all_files(home) == {path: STYLES[style]}


def test_a_moved_script_in_a_file_of_ours_alone_leaves_nothing_behind(home: Path) -> None:
    client_file(home)
    install(BY_NAME["cursor"], machine(home), LOCAL)
    install(BY_NAME["cursor"], machine(home), MOVED)
    uninstall(BY_NAME["cursor"], machine(home))
    assert all_files(home) == {}


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
    [backup] = set(all_files(home)) - {path}
    assert backup.read_bytes() == original
    uninstall(BY_NAME["cursor"], machine(home))
    assert path.read_text() == '{"mcpServers": {"other": {}}}'


def test_uninstalling_what_is_not_there_changes_nothing(home: Path) -> None:
    path = client_file(home)
    assert "is not in" in uninstall(BY_NAME["cursor"], machine(home))
    path.write_bytes(STYLES["tabs"])
    assert "is not in" in uninstall(BY_NAME["cursor"], machine(home))
    assert all_files(home) == {path: STYLES["tabs"]}


REFUSED = {
    "a comment": b'{\n  // mine\n  "mcpServers": {}\n}',
    "a comma too many": b'{"mcpServers": {},}',
    "cut off": b'{"mcpServers": {',
    "a list": b"[]",
    "servers in a list": b'{"mcpServers": []}',
    "null for servers": b'{"mcpServers": null}',
    "null for ours": b'{"mcpServers": {"sora": 0}}',
    "no object of this name": b'{"mcpServers": {"sora": "sora-mcp"}}',
    "a key twice": b'{"mcpServers": {}, "mcpServers": {"sora": {"command": "sora-mcp"}}}',
    "not UTF-8": '{"mcpServers": {}}'.encode("utf-16"),
    "nested without end": b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_file_that_is_not_understood_is_left_alone_with_the_snippet_to_paste(home: Path, case: str) -> None:
    client_file(home).write_bytes(REFUSED[case])
    before = all_files(home)
    with pytest.raises(FileProblem, match="was not changed") as refused:
        install(BY_NAME["cursor"], machine(home), LOCAL)
    pasted = json.loads(next_step(refused.value).partition("\n\n")[2])
    assert pasted["mcpServers"]["sora"]["command"] == LOCAL.command
    with pytest.raises(FileProblem, match="was not changed"):
        uninstall(BY_NAME["cursor"], machine(home))
    assert all_files(home) == before


STRANGERS = [
    {"command": "someone-elses"},
    {"command": "npx", "args": ["serve", "not-sora-mcp-at-all"]},
    {"command": ["sora-mcp"]},
    {"url": "https://elsewhere.example/sora-mcp"},
]


@pytest.mark.parametrize("stranger", STRANGERS, ids=str)
def test_somebody_elses_server_of_our_name_stays_and_the_way_out_is_said(home: Path, stranger: dict[str, Any]) -> None:
    client_file(home).write_text(json.dumps({"mcpServers": {"sora": stranger}}))
    before = all_files(home)
    for dry_run in (True, False):
        with pytest.raises(FileProblem, match="another server") as refused:
            install(BY_NAME["cursor"], machine(home), LOCAL, dry_run=dry_run)
        assert "Rename or remove" in next_step(refused.value)
        with pytest.raises(FileProblem, match="another server") as refused:
            uninstall(BY_NAME["cursor"], machine(home), dry_run=dry_run)
        assert "nothing to remove" in next_step(refused.value)
    assert all_files(home) == before


def test_a_read_only_file_is_left_alone_both_ways(home: Path) -> None:
    path = client_file(home)
    path.write_bytes(STYLES["tabs"])
    path.chmod(0o444)
    for dry_run in (True, False):
        with pytest.raises(FileProblem, match="read-only"):
            install(BY_NAME["cursor"], machine(home), LOCAL, dry_run=dry_run)
    assert all_files(home) == {path: STYLES["tabs"]}
    path.chmod(0o644)
    install(BY_NAME["cursor"], machine(home), LOCAL)
    path.chmod(0o444)
    before = all_files(home)
    for dry_run in (True, False):
        with pytest.raises(FileProblem, match="read-only"):
            uninstall(BY_NAME["cursor"], machine(home), dry_run=dry_run)
    assert all_files(home) == before


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
    before = all_files(home)
    with pytest.raises(NotConfigured):
        install(BY_NAME["cursor"], machine(home, SORA_BASE_URL=address), LOCAL)
    assert all_files(home) == before


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


def test_a_link_to_nothing_is_written_through_and_points_to_nothing_again(home: Path) -> None:
    path, real = client_file(home), home / "dotfiles.json"
    path.symlink_to(real)
    install(BY_NAME["cursor"], machine(home), LOCAL)
    assert "sora" in json.loads(real.read_text())["mcpServers"]
    uninstall(BY_NAME["cursor"], machine(home))
    assert path.is_symlink()
    assert not real.exists()


def test_a_pipe_in_the_files_place_is_left_alone(home: Path) -> None:
    path = client_file(home)
    os.mkfifo(path)
    with pytest.raises(FileProblem, match="not a regular file"):
        install(BY_NAME["cursor"], machine(home), LOCAL)
    with pytest.raises(FileProblem, match="not a regular file"):
        uninstall(BY_NAME["cursor"], machine(home))


def test_a_backup_that_cannot_be_read_keeps_nobody_from_uninstalling(home: Path) -> None:
    path = client_file(home)
    path.write_text('{"theme": "dark"}')
    install(BY_NAME["cursor"], machine(home), LOCAL)
    path.with_name("mcp.json.before-sora-mcp").write_bytes(b"\xff")
    uninstall(BY_NAME["cursor"], machine(home))
    assert path.read_text() == '{"theme": "dark"}'


def test_a_file_too_large_to_be_a_configuration_is_left_alone(home: Path) -> None:
    path = client_file(home)
    with path.open("wb") as file:
        file.truncate(50_000_001)
    with pytest.raises(FileProblem, match="larger than 50 MB"):
        install(BY_NAME["cursor"], machine(home), LOCAL)


class Meanwhile:
    """Another program, which writes a file whenever a new one was just begun beside it: at the worst of moments."""

    def __init__(self) -> None:
        self.path: Path | None = None
        self.texts: list[str] = []
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "tempfile.mkstemp" and self.texts and self.path and self.path.name in str(arguments[0]):
            self.path.write_text(self.texts.pop(0))


MEANWHILE = Meanwhile()


def test_what_another_program_writes_meanwhile_is_kept(home: Path) -> None:
    MEANWHILE.path = path = client_file(home)
    path.write_text('{"theme": "dark"}')
    MEANWHILE.texts = ['{"theme": "light"}', '{"theme": "blue"}']
    install(BY_NAME["cursor"], machine(home), LOCAL)
    assert json.loads(path.read_text())["theme"] == "blue"
    MEANWHILE.texts = [path.read_text().replace("blue", "red")]
    uninstall(BY_NAME["cursor"], machine(home))
    assert path.read_text() == '{"theme": "red"}'


def test_a_file_that_another_program_keeps_writing_is_left_to_it(home: Path) -> None:
    MEANWHILE.path = path = client_file(home)
    path.write_text("{}")
    MEANWHILE.texts = [json.dumps({"n": n}) for n in range(100)]
    with pytest.raises(FileProblem, match="keeps writing it"):
        install(BY_NAME["cursor"], machine(home), LOCAL)
    MEANWHILE.texts = []
    assert list(json.loads(path.read_text())) == ["n"]
    assert [each.name for each in path.parent.iterdir() if each.name.startswith(".")] == []


def test_what_is_disabled_or_added_to_our_entry_stays_so(home: Path) -> None:
    path = client_file(home)
    install(BY_NAME["cursor"], machine(home, **GATEWAY), LOCAL)
    held = json.loads(path.read_text())
    held["mcpServers"]["sora"] |= {"disabled": True, "timeout": 5}
    held["mcpServers"]["sora"]["env"] |= {"HTTPS_PROXY": "http://proxy"}
    path.write_text(json.dumps(held))
    install(BY_NAME["cursor"], machine(home), MOVED)  # from a shell where nothing is set
    held["mcpServers"]["sora"]["command"] = MOVED.command
    assert json.loads(path.read_text()) == held


@pytest.mark.parametrize("before", [{"theme": "dark"}, {"mcpServers": {}, "theme": "dark"}], ids=str)
def test_only_a_table_that_we_made_goes_with_our_entry(home: Path, before: dict[str, Any]) -> None:
    path = client_file(home)
    path.write_text(json.dumps(before))
    install(BY_NAME["cursor"], machine(home), LOCAL)
    path.write_text(path.read_text().replace("dark", "light"))
    uninstall(BY_NAME["cursor"], machine(home))
    assert json.loads(path.read_text()) == before | {"theme": "light"}


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


@given(st.lists(VALUES, min_size=1, max_size=3), st.sampled_from([None, 0, 2, "\t"]))
def test_any_list_takes_items_once_and_gives_them_back(others: list[Any], indent: int | str | None) -> None:
    text, added_items = json.dumps({"inputs": others}, indent=indent), [{"id": "sora-a"}, {"id": "sora-b"}]
    added = with_items(text, "inputs", added_items)
    assert json.loads(added) == {"inputs": [*others, *added_items]}
    assert with_items(added, "inputs", added_items) == added
    assert without_items(added, "inputs", ["sora-b", "sora-a"]) == text
