"""Static tokens: what the file holds, who may read it, and what becomes of one that is spoilt."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sora_mcp.config.converters import Secret
from sora_mcp.config.private_file import PrivateFile, PrivateFiles
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import FileProblem, NotConfigured, NotFound
from sora_mcp.identity.scopes import CREATE, READ
from sora_mcp.identity.tokens import Tokens, TokenStore
from sora_mcp.identity.upstream_keys import UpstreamKeys


@pytest.fixture
def file(tmp_path: Path) -> TokenStore:
    return TokenStore(PrivateFiles(tmp_path / "home"))


def path_of(store: TokenStore) -> Path:
    assert isinstance(store.document, PrivateFile)
    return store.document.path


def test_a_token_is_known_by_its_hash_alone(file: TokenStore) -> None:
    token = file.add("alice", (READ,), Cost.of(5, "USD"))
    assert re.fullmatch(r"sora_mcp_[0-9a-f]{64}", token)
    text = path_of(file).read_text(encoding="utf-8")
    assert token not in text
    assert token.removeprefix("sora_mcp_") not in text
    assert path_of(file).stat().st_mode & 0o777 == 0o600
    grant = Tokens(file).grant(token)
    assert grant is not None
    assert (grant.name, grant.scopes, str(grant.max_cost_per_day)) == ("alice", (READ,), "5 USD")


def test_without_scopes_a_token_gives_all(file: TokenStore) -> None:
    file.add("alice", None, None)
    assert file.grants()[0].scopes == (READ, CREATE)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".alice",
        "alice.",
        "a/b",
        "a\\b",
        "a:b",
        "a#b",
        "a b",
        "a\n",
        "a" * 65,
        "é",
        "\ud800",
        "-x",
        "a\0",
    ],
    ids=ascii,
)
def test_a_name_is_plain(file: TokenStore, name: str) -> None:
    with pytest.raises(NotConfigured, match="A name has 1 to 64 letters"):
        file.add(name, None, None)
    assert not path_of(file).exists()


@pytest.mark.parametrize("name", ["a", "alice", "alice@example.org", "a.b_c-d", "A" * 64, "7"])
def test_names_that_can_be(file: TokenStore, name: str) -> None:
    file.add(name, None, None)
    assert [each.name for each in file.grants()] == [name]


@pytest.mark.parametrize("again", ["alice", "Alice"])
def test_a_name_has_one_token(file: TokenStore, again: str) -> None:
    file.add("alice", None, None)
    with pytest.raises(NotConfigured, match="alice has a token already"):
        file.add(again, None, None)


def test_a_token_that_is_replaced_keeps_scopes_and_cap_and_the_old_one_is_refused(file: TokenStore) -> None:
    old = file.add("alice", (READ,), Cost.of(3))
    new = file.add("alice", None, None, replace=True)
    tokens = Tokens(file)
    assert tokens.grant(old) is None
    grant = tokens.grant(new)
    assert grant is not None
    assert (grant.scopes, grant.max_cost_per_day) == ((READ,), Cost.of(3))


def test_who_is_not_there_cannot_be_revoked(file: TokenStore) -> None:
    file.add("alice", None, None)
    with pytest.raises(NotFound, match=r'"bob". Names: alice'):
        file.revoke("bob")
    assert len(file.grants()) == 1


def test_a_running_server_sees_what_another_process_changed(file: TokenStore) -> None:
    tokens = Tokens(file)
    assert tokens.grant("sora_mcp_" + "0" * 64) is None
    alice, bob = file.add("alice", None, None), file.add("bob", None, None)
    grant = tokens.grant(alice)
    assert grant is not None
    assert tokens.is_current(grant)
    file.revoke("alice")
    assert tokens.grant(alice) is None
    assert not tokens.is_current(grant)
    assert tokens.grant(bob) is not None
    path_of(file).unlink()
    assert tokens.grant(bob) is None


@pytest.mark.parametrize(
    "token", ["", "sora_mcp_", "sora_mcp_" + "g" * 64, "sora_mcp_" + "0" * 65, "x" * 1_000_000, "é"]
)
def test_what_is_no_token_is_none(file: TokenStore, token: str) -> None:
    file.add("alice", None, None)
    assert Tokens(file).grant(token) is None


def spoil(becomes: Callable[[str], str] | str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        text = becomes if isinstance(becomes, str) else becomes(path.read_text(encoding="utf-8"))
        path.write_text(text, encoding="utf-8")

    return write


ENTRY = {"name": "eve", "sha256": "0" * 64, "scopes": [READ], "created_at": ""}
TEXTS: dict[str, Callable[[str], str] | str] = {
    "half written": lambda text: text[: len(text) // 2],
    "empty": "",
    "no object": "[]",
    "endlessly deep": "[" * 100_000,
    "another format": lambda text: text.replace('"format": 1', '"format": 2'),
    "a scope of a newer release": lambda text: text.replace(READ, "videos:watch"),
    "a key of a newer release": lambda text: text.replace('"created_at"', '"expires_at"'),
    "a name that is a path": lambda text: text.replace('"alice"', '"../alice"'),
    "a hash that is none": lambda text: text.replace('"sha256": "', '"sha256": "x'),
}
ENTRIES: dict[str, object] = {
    "twice": [ENTRY, ENTRY],
    "one hash, two names": [ENTRY, ENTRY | {"name": "bob"}],
    "no list": {"eve": ENTRY},
    "a cap that is none": [ENTRY | {"max_cost_per_day": "-1"}],
}
TEXTS |= {name: json.dumps({"format": 1, "tokens": entries}) for name, entries in ENTRIES.items()}


def instead_of(path: Path, make: Callable[[Path], None]) -> None:
    path.unlink()
    make(path)


SPOILT: dict[str, Callable[[Path], object]] = {name: spoil(change) for name, change in TEXTS.items()}
SPOILT |= {
    "open to the group": lambda path: path.chmod(0o640),
    "unreadable": lambda path: path.chmod(0),
    "open to all": lambda path: path.chmod(0o604),
    "a folder": lambda path: instead_of(path, Path.mkdir),
    "a pipe": lambda path: instead_of(path, lambda here: os.mkfifo(here, 0o600)),
    "too large": lambda path: path.write_bytes(b" " * 5_000_001),
    "no UTF-8": lambda path: path.write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_spoilt_file_lets_nobody_in_and_is_not_written_over(file: TokenStore, what: str) -> None:
    token = file.add("alice", None, None)
    tokens = Tokens(file)
    grant = tokens.grant(token)
    assert grant is not None
    SPOILT[what](path_of(file))
    for act in (
        lambda: tokens.grant(token),
        lambda: tokens.is_current(grant),
        lambda: file.add("bob", None, None),
        lambda: file.revoke("alice"),
    ):
        with pytest.raises(FileProblem, match=r"tokens\.json") as caught:
            act()
        assert token not in str(caught.value)


def test_a_file_that_was_mended_lets_people_in_again(file: TokenStore) -> None:
    token = file.add("alice", None, None)
    tokens = Tokens(file)
    path_of(file).chmod(0o644)
    with pytest.raises(FileProblem, match="open to other users"):
        tokens.grant(token)
    path_of(file).chmod(0o600)
    assert tokens.grant(token) is not None


@pytest.mark.skipif(os.name == "nt", reason="there is no such limit on Windows")
def test_a_moment_without_descriptors_locks_nobody_out_for_longer(file: TokenStore) -> None:
    import resource  # noqa: PLC0415 - not on Windows

    token = file.add("alice", None, None)
    tokens, limits = Tokens(file), resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(FileProblem, match="cannot be read"):
            tokens.grant(token)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert tokens.grant(token) is not None


def test_people_who_are_added_at_once_are_all_kept(file: TokenStore) -> None:
    names = [f"person{number}" for number in range(24)]
    with ThreadPoolExecutor(8) as threads:
        tokens = list(threads.map(lambda name: file.add(name, None, None), names))
    known = Tokens(file)
    assert sorted(each.name for each in file.grants()) == sorted(names)
    assert all(known.grant(token) is not None for token in tokens)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="files of two users")
def test_a_lock_that_is_another_users_lets_nobody_write(file: TokenStore) -> None:
    file.add("alice", None, None)
    path, nobody = path_of(file), 65534
    for each in (path, path.parent):
        os.chown(each, nobody, -1)
    for folder in path.parents[1:]:
        folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(nobody)
    try:
        with pytest.raises(FileProblem, match=r"cannot be written \(tokens.lock beside it belongs to another user\)"):
            file.revoke("alice")
        assert [each.name for each in file.grants()] == ["alice"]
    finally:
        os.seteuid(0)


# --- people's own keys ----------------------------------------------------------------------------


def test_a_key_is_its_owners_and_goes_to_one_gateway_only(tmp_path: Path) -> None:
    keys = UpstreamKeys(PrivateFiles(tmp_path))
    assert keys.get("alice", "https://gateway.example") is None
    keys.store("alice", "https://gateway.example", Secret("sk-alice"))
    keys.store("format", "https://gateway.example", Secret("sk-format"))
    assert (tmp_path / "upstream-keys.json").stat().st_mode & 0o777 == 0o600
    assert keys.get("alice", "https://gateway.example") == Secret("sk-alice")
    assert keys.get("alice", "https://other.example") is None
    assert keys.get("bob", "https://gateway.example") is None
    assert UpstreamKeys(PrivateFiles(tmp_path)).get("format", "https://gateway.example") == Secret("sk-format")
    assert keys.remove("alice")
    assert not keys.remove("alice")
    assert keys.get("alice", "https://gateway.example") is None


def test_where_the_file_of_keys_cannot_be_read_nobody_pays_with_anothers(tmp_path: Path) -> None:
    keys = UpstreamKeys(PrivateFiles(tmp_path))
    keys.store("alice", "https://gateway.example", Secret("sk-alice"))
    (tmp_path / "upstream-keys.json").write_text('{"format": 1, "keys": {"alice": "sk-alice"}}', encoding="utf-8")
    for _ in range(2):
        with pytest.raises(FileProblem, match="damaged") as caught:
            keys.get("alice", "https://gateway.example")
        assert "sk-alice" not in str(caught.value)
