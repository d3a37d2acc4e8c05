"""The file of the logins: which one is chosen, and what is said of a file that cannot be used."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from wording import next_step

from sora_mcp.config.logins import LoginFile
from sora_mcp.config.settings import Settings, load
from sora_mcp.core.errors import FileProblem, NotConfigured

KEY = "sk-canary-0123456789"
ADDRESS = "https://api.example"

Keep = Callable[..., None]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def keep(home: Path) -> Keep:
    def add(address: str = ADDRESS, dialect: str = "sora", key: str | None = KEY) -> None:
        LoginFile(home).add(address, dialect, key, in_key_store=False)

    return add


def settings(home: Path, **values: str) -> Settings:
    return load({f"SORA_{name.upper()}": value for name, value in values.items()}, home=home)


def test_the_last_login_is_the_gateway_with_its_dialect_and_key(home: Path, keep: Keep) -> None:
    keep("https://old.example", key="sk-old")
    keep(dialect="videos:generic")
    chosen = settings(home)
    assert (chosen.dialect, chosen.endpoint().base_url) == ("videos:generic", ADDRESS)
    assert chosen.endpoint().api_key.get_secret_value() == KEY
    keep("https://old.example", key="sk-new")
    assert settings(home).endpoint().api_key.get_secret_value() == "sk-new"


@pytest.mark.parametrize(
    "base_url",
    [ADDRESS, f"{ADDRESS}/", f"{ADDRESS}:443/v1", "HTTPS://API.example./sora/v1/videos", f" '{ADDRESS}' "],
)
def test_an_address_is_known_however_it_is_written(home: Path, keep: Keep, base_url: str) -> None:
    keep()
    keep("https://new.example", key="sk-new")
    assert settings(home, base_url=base_url).endpoint().api_key.get_secret_value() == KEY


@pytest.mark.parametrize(
    "base_url",
    [
        "https://api.example:8443",
        "https://api.example/team",
        "https://api.example.evil.example",
        "https://api2.example",
        "https://example",
    ],
)
def test_an_address_that_only_looks_alike_gets_no_key(home: Path, keep: Keep, base_url: str) -> None:
    keep()
    with pytest.raises(NotConfigured, match=f"There is a login for {ADDRESS}") as refused:
        settings(home, base_url=base_url).endpoint()
    assert "sora-mcp login" in next_step(refused.value)
    assert KEY not in str(refused.value)


def test_plain_http_is_another_address(home: Path, keep: Keep) -> None:
    keep("https://127.0.0.1:8000")
    with pytest.raises(NotConfigured):
        settings(home, base_url="http://127.0.0.1:8000").endpoint()


def test_a_dialect_that_makes_it_another_address_gets_no_key(home: Path, keep: Keep) -> None:
    keep("https://api.example/api")
    assert settings(home, dialect="videos:generic").endpoint().api_key.get_secret_value() == KEY
    with pytest.raises(NotConfigured):
        settings(home, dialect="openrouter").endpoint()


def test_an_address_of_openrouter_is_known_as_people_write_it(home: Path, keep: Keep) -> None:
    keep("https://mirror.example", dialect="openrouter")
    chosen = settings(home, base_url="https://mirror.example/api/v1")
    assert (chosen.dialect, chosen.endpoint().base_url) == ("openrouter", "https://mirror.example")


def test_a_key_of_the_environment_wins_and_is_sent_where_the_login_is(home: Path, keep: Keep) -> None:
    keep()
    assert settings(home, api_key="sk-mine").endpoint().api_key.get_secret_value() == "sk-mine"


def test_the_sandbox_is_given_no_stored_key(home: Path, keep: Keep) -> None:
    keep()
    assert settings(home, base_url="sandbox").endpoint().api_key.get_secret_value() != KEY


def test_a_wrong_address_is_said_to_be_one_also_beside_logins(home: Path, keep: Keep) -> None:
    keep()
    with pytest.raises(NotConfigured, match="is not an address"):
        settings(home, base_url="api.example").endpoint()


GARBAGE: Mapping[str, bytes] = {
    "nothing": b"",
    "no JSON": b"{not json",
    "no UTF-8": b"\xff\xfe\x00",
    "another shape": b'{"logins": {"https://api.example": "sk-1"}}',
    "a list": b'["sk-1"]',
    "a login without a dialect": b'{"logins": [{"address": "https://api.example", "key": "sk-1"}]}',
    "a dialect of another release": b'{"logins": [{"address": "https://api.example", "dialect": "x", "key": "sk-1"}]}',
    "a dialect that is none": b'{"logins": [{"address": "https://api.example", "dialect": [], "key": "sk-1"}]}',
    "a key that is none": b'{"logins": [{"address": "https://api.example", "dialect": "sora", "key": 7}]}',
    "nested deep": b"[" * 100_000,
    "endless": b" " * 2_000_000,
}


def write(home: Path, content: bytes) -> Path:
    path = LoginFile(home).path
    path.parent.mkdir(parents=True, mode=0o700)
    path.write_bytes(content)
    path.chmod(0o600)
    return path


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_a_file_that_holds_something_else_gives_no_key_and_is_left_alone(home: Path, content: bytes) -> None:
    path = write(home, content)
    with pytest.raises(NotConfigured, match="no key was read") as refused:
        settings(home).endpoint()
    assert f"Delete {path}" in next_step(refused.value)
    assert "sk-1" not in str(refused.value)
    for change in (lambda: LoginFile(home).add(ADDRESS, "sora", KEY, in_key_store=False), LoginFile(home).read):
        with pytest.raises(NotConfigured):
            change()
    assert path.read_bytes() == content


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
@pytest.mark.parametrize(
    ("name", "mode"),
    [("logins.json", 0o640), ("logins.json", 0o604), ("logins.json", 0o620), (".", 0o770), (".", 0o707)],
)
def test_a_file_that_others_could_read_or_change_gives_no_key(home: Path, keep: Keep, name: str, mode: int) -> None:
    keep()
    (LoginFile(home).path.parent / name).chmod(mode)
    with pytest.raises(NotConfigured, match="open to other users") as refused:
        settings(home).endpoint()
    assert "chmod" in next_step(refused.value)


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX")
def test_the_file_is_for_this_user_alone_whatever_the_mask_says(home: Path, keep: Keep) -> None:
    before = os.umask(0)
    try:
        keep()
    finally:
        os.umask(before)
    path = LoginFile(home).path
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert {each.name for each in path.parent.iterdir()} == {"lock", "logins.json"}


@pytest.mark.skipif(os.name != "posix", reason="links need a right on Windows")
def test_of_a_file_that_is_a_link_no_old_key_is_left_behind(home: Path, keep: Keep) -> None:
    keep()
    path, elsewhere = LoginFile(home).path, home / "elsewhere.json"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    keep("https://other.example", key="sk-other-0123456789")
    LoginFile(home).remove(ADDRESS)
    assert path.is_symlink()
    assert KEY not in elsewhere.read_text()
    assert [login.address for login in LoginFile(home).read()] == ["https://other.example"]
    home.chmod(0o777)
    stored = settings(home).stored
    assert stored is not None
    assert stored.problem is not None


def test_of_many_logins_at_once_none_is_lost(home: Path, keep: Keep) -> None:
    addresses = [f"https://{number}.example" for number in range(20)]
    with ThreadPoolExecutor(len(addresses)) as people:
        list(people.map(keep, addresses))
    assert {login.address for login in LoginFile(home).read()} == set(addresses)


def test_a_folder_that_cannot_be_made_is_said(home: Path) -> None:
    home.write_text("a file")
    with pytest.raises(FileProblem, match="cannot be written"):
        LoginFile(home).add(ADDRESS, "sora", KEY, in_key_store=False)


def test_a_login_without_a_key_is_the_gateway_all_the_same(home: Path, keep: Keep) -> None:
    keep("http://localhost:8091", dialect="videos:vllm-omni", key=None)
    assert settings(home).endpoint().api_key.get_secret_value() == ""
    assert "key" not in json.loads(LoginFile(home).path.read_text())["logins"][0]


def test_a_stored_key_is_shown_nowhere(home: Path, keep: Keep) -> None:
    keep()
    chosen = settings(home)
    assert KEY not in repr(chosen) + str(chosen.stored) + repr(chosen.endpoint())
    assert chosen.key_to_redact == KEY
