"""Whose requests are kept: accounts as values."""

from __future__ import annotations

import re

import pytest

from sora_mcp.core.accounts import Account, canonical_address, fingerprint

SALT = b"salt" * 4
URL = "https://gateway.example/v1"


@pytest.mark.parametrize(
    "other",
    [
        Account.for_key(SALT, URL, "sk-canary-2", "ann"),
        Account.for_key(b"another salt", URL, "sk-canary-1", "ann"),
        Account.for_key(SALT, "https://other.example/v1", "sk-canary-1", "ann"),
        Account.for_key(SALT, URL, "sk-canary-1", "ben"),
        Account.for_key(SALT, URL, "sk-canary-1"),
    ],
)
def test_accounts_differ_where_any_part_does(other: Account) -> None:
    account = Account.for_key(SALT, URL, "sk-canary-1", "ann")
    assert account == Account.for_key(SALT, URL, "sk-canary-1", "ann")
    assert account != other


def test_an_account_holds_no_key() -> None:
    assert re.fullmatch(r"[0-9a-f]{16}", fingerprint(SALT, "sk-canary-1"))
    assert "canary" not in str(Account.for_key(SALT, URL, "sk-canary-1", "ann"))


@pytest.mark.parametrize(
    ("other", "is_shared"),
    [
        (Account(URL, "1" * 16, "ann"), True),
        (Account(URL, "2" * 16, "ann"), True),
        (Account(URL, "1" * 16, "ben"), False),
        (Account(f"{URL}/", "1" * 16, "ann"), False),
    ],
)
def test_requests_are_shared_across_keys_and_not_across_owners_or_gateways(other: Account, is_shared: bool) -> None:
    assert Account(URL, "1" * 16, "ann").shares_requests_with(other) == is_shared


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "0.0.0.0", "[::1]", "[::]"])  # noqa: S104 - nothing is bound
@pytest.mark.parametrize("rest", ["", ":3000", "/api", ":3000/api"])
def test_the_names_of_this_machine_are_one_address(host: str, rest: str) -> None:
    assert canonical_address(f"http://{host}{rest}") == f"http://127.0.0.1{rest}"


@pytest.mark.parametrize("host", ["localhost.example", "127.0.0.11", "mylocalhost", "0.0.0.0.example"])
def test_no_other_name_is_taken_for_this_machine(host: str) -> None:
    assert canonical_address(f"http://{host}:3000") == f"http://{host}:3000"
