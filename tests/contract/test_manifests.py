"""The committed files are what the code says, what the official schemas accept, and hold no key."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

import jsonschema
import pytest
import yaml
from warm import warm_command

from sora_mcp import __version__, tools
from sora_mcp.config.variables import variables
from sora_mcp.core.errors import FileProblem
from sora_mcp.distribution import manifests
from sora_mcp.distribution.manifests import clients

ROOT = Path(__file__).parents[2]
SCHEMAS = ROOT.parent / "shared" / "schemas"
REQUIRED = [variable.name for variable in variables() if variable.required]
UVX = ["uvx", "--from", f"sora-mcp[media]=={__version__}", "sora-mcp"]


def read(name: str) -> Any:
    """A generated file as plain data."""
    text = (ROOT / "manifests" / name).read_text(encoding="utf-8")
    return {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}[name.rpartition(".")[2]](text)


def official(name: str) -> Any:
    path = SCHEMAS / name
    if not path.exists():
        pytest.skip("the official schemas are not beside this checkout")
    return json.loads(path.read_text(encoding="utf-8"))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*warm_command(), "manifests", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A freshly written folder of manifests."""
    written = tmp_path / "manifests"
    manifests.write(written)
    return written


# Writing and checking


def test_the_committed_files_are_what_the_code_says() -> None:
    assert [str(each) for each in manifests.drift(ROOT / "manifests")] == []


def test_writing_twice_gives_the_same_bytes(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    manifests.write(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_a_changed_value_is_named_by_file_and_key_and_written_anew(folder: Path) -> None:
    path = folder / "server.json"
    path.write_text(path.read_text().replace('"uvx"', '"pipx"'))
    checked = run("--check", "--out", str(folder))
    assert checked.returncode == 3
    assert "server.json: packages[0].runtimeHint" in checked.stderr
    assert run("--out", str(folder)).returncode == 0
    assert run("--check", "--out", str(folder)).returncode == 0


@pytest.mark.parametrize(
    ("name", "old", "new", "where"),
    [
        ("mcpb/manifest.json", '"display_name"', '"displayed_name"', "display_name"),
        ("clients/codex.toml", '"uvx"', '"uv"', "mcp_servers.sora.command"),
        ("clients/goose.yaml", "cmd: uvx", "cmd: uv", "line 7: cmd: uvx"),
        ("clients/cursor.json", "\n", "\r\n", "the layout"),
        ("Dockerfile", "USER sora\n", "", "line 7: USER sora"),
        ("tools/anthropic.json", '"create_video"', '"make_video"', "[0].name"),
        ("server.json", "{", "", "not readable as JSON"),
    ],
)
def test_what_was_edited_by_hand_is_named(folder: Path, name: str, old: str, new: str, where: str) -> None:
    path = folder / name
    path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
    [found] = manifests.drift(folder)
    assert found.path == path
    assert where in found.location


def test_missing_unreadable_and_left_over_files_are_named(folder: Path) -> None:
    (folder / "server.json").unlink()
    (folder / "clients" / "zed.json").write_bytes(b"\xff\xfe[]")
    (folder / "Dockerfile").unlink()
    (folder / "Dockerfile").mkdir()
    (folder / "clients" / "netscape.json").write_text("{}")
    (folder / "clients" / "gone.json").symlink_to(folder / "nowhere.json")
    (folder / "clients" / "away").symlink_to(folder.parent)
    for name in ("demo.png", "demo.webp"):
        (folder / name).write_bytes(b"")  # README's pictures: nothing generates them, and they stay
    found = {each.path.relative_to(folder).as_posix(): each.location for each in manifests.drift(folder)}
    assert found == {
        "server.json": "it is missing",
        "clients/zed.json": "it cannot be read",
        "Dockerfile": "it cannot be read",
        "clients/away": "nothing generates it; delete it",
        "clients/gone.json": "nothing generates it; delete it",
        "clients/netscape.json": "nothing generates it; delete it",
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project that is what the code says: pages with tables, the package's surface, the manifests."""
    (tmp_path / "sora_mcp" / "tools").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    for page in PAGES:
        (tmp_path / page).write_bytes((ROOT / page).read_bytes())
    manifests.write(tmp_path / "manifests")
    return tmp_path


PAGES = {"README.md": "tools", "docs/settings.md": "settings"}
"""The pages that hold a generated table, with its name."""

DAMAGE: dict[str, Callable[[bytes, str], bytes | None]] = {
    "no beginning": lambda text, name: text.replace(f"<!-- {name}: generated -->".encode(), b""),
    "no end": lambda text, name: text.replace(f"<!-- /{name} -->".encode(), b""),
    "not UTF-8": lambda text, _: text + b"\xff",
    "nothing": lambda *_: b"",
    "gone": lambda *_: None,
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_that_cannot_hold_its_table_fails_the_check_and_is_not_written_over(
    project: Path, name: str, damage: str
) -> None:
    page, out = project / name, project / "manifests"
    assert manifests.drift(out) == []
    changed = DAMAGE[damage](page.read_bytes(), PAGES[name])
    page.unlink()
    if changed is not None:
        page.write_bytes(changed)
    for act in (manifests.drift, manifests.write):
        with pytest.raises(FileProblem, match=re.escape(str(page))):
            act(out)
    assert (page.read_bytes() if page.exists() else None) == changed


@pytest.mark.slow
def test_a_page_that_cannot_hold_its_table_is_told_in_a_sentence(project: Path) -> None:
    (project / "docs" / "settings.md").unlink()
    for arguments in (("--check",), ()):
        done = run(*arguments, "--out", str(project / "manifests"))
        assert done.returncode == 3
        assert "settings.md is missing" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("name", "old", "new", "where"),
    [
        ("README.md", b"| `list_videos` | no", b"| `list_videos` | yes", "list_videos"),
        ("docs/settings.md", b"| `SORA_OWNER` |", b"| `SORA_PAYER` |", "SORA_OWNER"),
    ],
)
@pytest.mark.slow
def test_a_table_that_was_edited_by_hand_is_named_and_written_anew(
    project: Path, name: str, old: bytes, new: bytes, where: str
) -> None:
    page, out = project / name, str(project / "manifests")
    original = page.read_bytes()
    page.write_bytes(original.replace(old, new))
    checked = run("--check", "--out", out)
    assert checked.returncode == 3
    assert where in checked.stderr
    assert run("--out", out).returncode == 0
    assert page.read_bytes() == original


def test_a_readme_beside_another_folder_is_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(b"\xff")
    manifests.write(tmp_path / "manifests")
    assert manifests.drift(tmp_path / "manifests") == []


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = run("--out", str(tmp_path / "file" / "manifests"))
    assert done.returncode == 3
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


# The registry


def test_the_registry_manifest_fits_the_official_schema_and_knows_no_other_keys() -> None:
    schema = official("server.2025-12-11.schema.json")
    document = read("server.json")
    jsonschema.validate(document, schema)
    known = schema["definitions"]
    assert set(document) <= set(known["ServerDetail"]["properties"])
    [package] = document["packages"]
    assert set(package) <= set(known["Package"]["properties"])
    assert len(document["description"]) <= 100


def test_the_registry_manifest_names_every_setting_once_and_what_is_secret() -> None:
    listed = read("server.json")["packages"][0]["environmentVariables"]
    assert [v["name"] for v in listed] == [variable.name for variable in variables()]
    assert [v["name"] for v in listed if v["isSecret"]] == ["SORA_API_KEY", "SORA_LEDGER_URL"]
    assert [v["name"] for v in listed if v["isRequired"]] == ["SORA_BASE_URL", "SORA_API_KEY"]


def test_the_readme_carries_the_registry_name_and_the_version_stands_once() -> None:
    document = read("server.json")
    assert f"<!-- mcp-name: {document['name']} -->" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert document["version"] == document["packages"][0]["version"] == __version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dynamic"] == ["version"]


def test_the_published_surface_is_the_table() -> None:
    surface = ROOT / "sora_mcp" / "tools" / "surface.json"
    assert json.loads(surface.read_text(encoding="utf-8")) == tools.listing()


@pytest.mark.parametrize("name", ["openai-responses", "openai-chat", "anthropic", "gemini"])
def test_every_tool_is_declared_for_every_model_api(name: str) -> None:
    text = json.dumps(read(f"tools/{name}.json"))
    for tool in tools.TOOLS:
        assert f'"name": "{tool.name}"' in text


# Bundles


def test_the_bundle_fits_the_official_schema_and_asks_for_every_setting() -> None:
    document = read("mcpb/manifest.json")
    jsonschema.validate(document, official("mcpb-manifest-v0.4.schema.json"))  # it refuses unknown keys itself
    assert list(document["user_config"]) == [variable.field for variable in variables()]
    assert [name for name, asked in document["user_config"].items() if asked["sensitive"]] == ["api_key", "ledger_url"]
    started = document["server"]["mcp_config"]
    assert started["env"] == {v.name: f"${{user_config.{v.field}}}" for v in variables()}


@pytest.mark.slow
def test_the_bundle_holds_what_its_manifest_starts() -> None:
    document = read("mcpb/manifest.json")
    program = ROOT / "manifests" / "mcpb" / document["server"]["entry_point"]
    assert document["server"]["mcp_config"]["args"][-1] == program.name
    done = subprocess.run(  # noqa: S603
        [sys.executable, str(program)], check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert read("mcpb/pyproject.toml")["project"]["dependencies"] == [f"sora-mcp[media]=={__version__}"]


def test_the_plugin_asks_for_what_is_needed_and_its_marketplace_names_it() -> None:
    plugin = read("claude-plugin/.claude-plugin/plugin.json")
    known = {"name", "version", "description", "author", "license", "keywords", "mcpServers", "userConfig"}
    assert set(plugin) == known
    server = plugin["mcpServers"]["sora"]
    assert [server["command"], *server["args"]] == UVX
    assert server["env"] == {v.name: f"${{user_config.{v.field}}}" for v in variables() if v.required}
    assert {name: asked["sensitive"] for name, asked in plugin["userConfig"].items()} == {
        "base_url": False,
        "api_key": True,
    }
    market = read("claude-plugin/.claude-plugin/marketplace.json")
    assert set(market) == {"name", "owner", "metadata", "plugins"}
    assert [(entry["name"], entry["source"]) for entry in market["plugins"]] == [(plugin["name"], "./")]


def test_the_gemini_extension_asks_for_what_is_needed() -> None:
    document = read("gemini-extension.json")
    assert set(document) == {"name", "version", "description", "mcpServers", "settings"}
    assert [(each["envVar"], each["sensitive"]) for each in document["settings"]] == [
        ("SORA_BASE_URL", False),
        ("SORA_API_KEY", True),
    ]
    assert document["mcpServers"]["sora"]["env"] == {name: f"${{{name}}}" for name in REQUIRED}


def test_dockers_entry_keeps_the_key_a_secret_and_lists_the_tools() -> None:
    document = read("docker/server.yaml")
    assert set(document) == {"name", "image", "type", "meta", "about", "source", "run", "config"}
    assert [each["env"] for each in document["config"]["secrets"]] == ["SORA_API_KEY", "SORA_LEDGER_URL"]
    parameters = document["config"]["parameters"]
    for each in document["config"]["env"]:
        assert each["value"].removeprefix("{{sora-mcp.").removesuffix("}}") in parameters["properties"]
    assert set(parameters["required"]) <= set(parameters["properties"])
    assert (ROOT / document["source"]["dockerfile"]).is_file()
    listed = read("docker/tools.json")
    assert [tool["name"] for tool in listed] == [tool.name for tool in tools.TOOLS]
    assert all(argument["desc"] for tool in listed for argument in tool["arguments"])


def test_the_image_is_built_from_files_that_are_there() -> None:
    lines = (ROOT / "manifests" / "Dockerfile").read_text(encoding="utf-8").splitlines()
    copied = [name for line in lines if line.startswith("COPY") for name in line.split()[1:-1]]
    assert copied
    for name in copied:
        assert (ROOT / name).exists()


# Clients


CONFIGURATIONS = {
    "claude-desktop.json": ["mcpServers"],
    "claude-code.json": ["mcpServers"],
    "cursor.json": ["mcpServers"],
    "windsurf.json": ["mcpServers"],
    "gemini-cli.json": ["mcpServers"],
    "copilot-cli.json": ["mcpServers"],
    "lm-studio.json": ["mcpServers"],
    "vscode.json": ["inputs", "servers"],
    "zed.json": ["context_servers"],
    "codex.toml": ["mcp_servers"],
    "goose.yaml": ["extensions"],
    "opencode.json": ["$schema", "mcp"],
    "qwen-code.json": ["mcpServers"],
    "cline.json": ["mcpServers"],
    "continue.yaml": ["name", "version", "schema", "mcpServers"],
}
"""Each configuration, with the top-level keys that its client knows."""


def ours(servers: Any) -> dict[str, Any]:
    """Our server among those of a client; Continue has them in a list."""
    entry: dict[str, Any] = servers[0] if isinstance(servers, list) else servers["sora"]
    return entry


def started(entry: dict[str, Any]) -> list[str]:
    command = entry.get("command") or entry["cmd"]
    return command if isinstance(command, list) else [command, *entry["args"]]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_every_client_is_told_of_the_pinned_server_in_its_own_words(name: str) -> None:
    document = read(f"clients/{name}")
    assert list(document) == CONFIGURATIONS[name]
    assert started(ours(document[CONFIGURATIONS[name][-1]])) == UVX


def test_every_client_has_a_configuration() -> None:
    assert {f"{client.name}.{client.format}" for client in clients.CLIENTS} == set(CONFIGURATIONS)


REFERENCES = {
    "claude-code.json": "${%s:-}",
    "cursor.json": "${env:%s}",
    "windsurf.json": "${env:%s}",
    "gemini-cli.json": "${%s}",
    "copilot-cli.json": "${%s}",
    "opencode.json": "{env:%s}",
    "qwen-code.json": "${%s}",
    "continue.yaml": "${{ secrets.%s }}",
}


@pytest.mark.parametrize("name", REFERENCES)
def test_where_a_file_can_name_a_variable_the_key_is_named(name: str) -> None:
    entry = ours(read(f"clients/{name}")[CONFIGURATIONS[name][-1]])
    assert entry.get("env", entry.get("environment")) == {each: REFERENCES[name] % each for each in REQUIRED}


def test_the_other_clients_ask_forward_or_leave_the_key_out() -> None:
    vscode = read("clients/vscode.json")
    assert [(each["id"], each["password"]) for each in vscode["inputs"]] == [
        ("sora-base-url", False),
        ("sora-api-key", True),
    ]
    assert vscode["servers"]["sora"]["env"]["SORA_API_KEY"] == "${input:sora-api-key}"
    codex = read("clients/codex.toml")["mcp_servers"]["sora"]
    assert codex["env_vars"] == [variable.name for variable in variables()]
    assert codex["startup_timeout_sec"] == 60
    goose = read("clients/goose.yaml")["extensions"]["sora"]
    assert (goose["type"], goose["env_keys"]) == ("stdio", REQUIRED)
    for name in ("claude-desktop", "lm-studio"):
        assert read(f"clients/{name}.json")["mcpServers"]["sora"]["env"] == {"SORA_BASE_URL": "sandbox"}
    assert read("clients/zed.json")["context_servers"]["sora"]["env"] == {}


def test_the_projects_configuration_is_claude_codes() -> None:
    assert read(".mcp.json") == read("clients/claude-code.json")


def test_the_links_decode_to_the_configurations() -> None:
    links = read("clients/links.json")
    assert list(links) == ["cursor", "vscode", "lm-studio", "goose"]
    for name in ("cursor", "lm-studio"):
        query = parse_qs(urlsplit(links[name]).query, strict_parsing=True)
        assert query["name"] == ["sora"]
        assert json.loads(base64.b64decode(query["config"][0])) == read(f"clients/{name}.json")["mcpServers"]["sora"]
    scheme, _, config = links["vscode"].partition("?")
    assert scheme == "vscode:mcp/install"
    vscode = read("clients/vscode.json")
    entry = vscode["servers"]["sora"]
    assert json.loads(unquote(config)) == {"name": "sora", **entry, "inputs": vscode["inputs"]}


def test_gooses_link_carries_the_command_and_what_to_ask_for() -> None:
    link = urlsplit(read("clients/links.json")["goose"])
    assert (link.scheme, link.netloc) == ("goose", "extension")
    told = parse_qsl(link.query, strict_parsing=True)
    assert [value for name, value in told if name in {"cmd", "arg"}] == UVX
    assert [value.partition("=")[0] for name, value in told if name == "env"] == REQUIRED
    assert dict(told)["id"] == "sora"


def test_no_generated_file_names_a_folder_of_this_machine() -> None:
    for path in (ROOT / "manifests").rglob("*"):
        if path.is_file() and path.suffix not in {".png", ".webp"}:
            text = path.read_text(encoding="utf-8")
            assert str(ROOT) not in text
            assert str(Path.home()) + "/" not in text
