"""The committed files are what the code says, and what the official schemas accept."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sora_mcp import __version__, manifests, tools
from sora_mcp.settings import variables

ROOT = Path(__file__).parent.parent
SCHEMAS = ROOT.parent / "shared" / "schemas"


def read(name: str) -> Any:
    return json.loads((ROOT / "manifests" / name).read_text(encoding="utf-8"))


def test_the_committed_files_are_what_the_code_says() -> None:
    assert manifests.drift(ROOT / "manifests") == []


def test_the_published_surface_is_the_table() -> None:
    assert read("tools.json") == tools.listing()


def test_a_changed_file_is_named_and_written_anew(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    command = [sys.executable, "-m", "sora_mcp", "manifests", "--out", str(folder)]
    subprocess.run(command, check=True)  # noqa: S603
    (folder / "server.json").write_text("{}")
    checked = subprocess.run([*command, "--check"], check=False, capture_output=True, text=True)  # noqa: S603
    assert checked.returncode == 3
    assert "server.json" in checked.stderr
    subprocess.run(command, check=True)  # noqa: S603
    assert manifests.drift(folder) == []


def test_the_registry_manifest_fits_the_official_schema_and_knows_no_other_keys() -> None:
    schema_file = SCHEMAS / "server.2025-12-11.schema.json"
    if not schema_file.exists():
        pytest.skip("the official schemas are not beside this checkout")
    schema = json.loads(schema_file.read_text(encoding="utf-8"))
    document = read("server.json")
    jsonschema.validate(document, schema)
    assert set(document) <= set(schema["definitions"]["ServerDetail"]["properties"])
    assert len(document["description"]) <= 100


def test_the_registry_manifest_names_every_setting_once_and_only_the_key_as_secret() -> None:
    listed = read("server.json")["packages"][0]["environmentVariables"]
    assert [v["name"] for v in listed] == [variable.name for variable in variables()]
    assert [v["name"] for v in listed if v["isSecret"]] == ["SORA_API_KEY"]
    assert [v["name"] for v in listed if v["isRequired"]] == ["SORA_BASE_URL", "SORA_API_KEY"]


def test_the_readme_carries_the_registry_name_and_the_version_stands_once() -> None:
    document = read("server.json")
    assert f"<!-- mcp-name: {document['name']} -->" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert document["version"] == document["packages"][0]["version"] == __version__
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dynamic"] == ["version"]


def test_the_project_configuration_holds_no_key() -> None:
    server = read(".mcp.json")["mcpServers"]["sora"]
    assert server["env"] == {"SORA_BASE_URL": "${SORA_BASE_URL}", "SORA_API_KEY": "${SORA_API_KEY}"}
