"""`sora-mcp token`, beside a server that runs; and what `doctor` says of callers."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from bench import KEY, Run, over_http
from callers import ACCEPT, META, bearer, begin_session, message
from issuer import Issuer, issuing
from warm import warm_command

pytestmark = pytest.mark.anyio

PUBLIC = "https://videos.example.org/mcp"


def test_a_token_is_shown_once_and_only_its_hash_is_kept(run: Run, tmp_path: Path) -> None:
    scopes = ("--scopes", "videos:read,videos:create")
    added = json.loads(run("token", "add", "alice", *scopes, "--cap", "5 USD", "--json").stdout)
    assert added["scopes"] == ["videos:read", "videos:create"]
    assert added["max_cost_per_day"] == "5 USD"
    listed = run("token", "list")
    assert "alice: videos:read, videos:create, at most 5 USD a day" in listed.stdout
    everything = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert added["token"].encode() not in everything
    assert added["token"].removeprefix("sora_mcp_").encode() not in everything
    assert json.loads(run("token", "list", "--json").stdout)["tokens"][0]["name"] == "alice"


def test_for_a_person_the_token_alone_is_on_stdout(run: Run) -> None:
    done = run("token", "add", "alice")
    assert done.stdout.startswith("sora_mcp_")
    assert len(done.stdout.split()) == 1
    assert "It is not shown again" in done.stderr


@pytest.mark.parametrize("option", ["", "--json"])
def test_a_token_that_nobody_saw_is_said_with_the_way_to_another(
    environment: dict[str, str], run: Run, option: str
) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    command = f"{sys.executable} -m sora_mcp token add alice {option} > /dev/full"
    lost = subprocess.run(["bash", "-c", command], check=False, capture_output=True, text=True, env=environment)  # noqa: S603, S607
    assert lost.returncode != 0
    assert "could not be shown. Make another: sora-mcp token add alice --replace" in lost.stderr
    assert run("token", "add", "alice", "--replace").returncode == 0


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("add", "a/b"), "A name has 1 to 64 letters"),
        (("add", ""), "A name has 1 to 64 letters"),
        (("add", "alice"), "alice has a token already"),
        (("add", "bob", "--scopes", "videos:watch"), "allowed: videos:read, videos:create"),
        (("add", "bob", "--scopes", ","), "allowed: videos:read, videos:create"),
        (("add", "bob", "--cap", "0"), "a number, above 0"),
        (("add", "bob", "--cap", "free"), "a number, above 0"),
        (("revoke", "bob"), 'No token of this name: "bob". Names: alice'),
        (("key", "bob"), 'There is no token for "bob"'),
        (("key", "alice"), "That is not a key"),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_said(run: Run, tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    run("token", "add", "alice")
    before = (tmp_path / "home" / "tokens.json").read_bytes()
    done = run("token", *words)
    assert done.returncode in {2, 3}
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "home" / "tokens.json").read_bytes() == before


def test_a_persons_key_of_the_gateways_comes_from_standard_input_and_is_never_shown(
    environment: dict[str, str], run: Run, tmp_path: Path
) -> None:
    run("token", "add", "alice")
    words = [*warm_command(), "token", "key", "alice"]
    done = subprocess.run(words, env=environment, input=f"{KEY}\n", capture_output=True, text=True, check=True)  # noqa: S603
    assert KEY not in done.stdout + done.stderr
    file = tmp_path / "home" / "upstream-keys.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text(encoding="utf-8"))["keys"] == {"alice": {"http://sandbox": KEY}}
    assert "with their own gateway key: alice" in run("doctor", AUTH="tokens").stdout
    assert "To delete it: sora-mcp token key alice --remove" in run("token", "revoke", "alice").stdout
    assert "was deleted" in run("token", "key", "alice", "--remove").stdout
    assert KEY not in file.read_text(encoding="utf-8")
    run("token", "add", "alice")
    assert json.loads(run("token", "revoke", "alice", "--json").stdout) == {"revoked": "alice", "has_key": False}


async def test_a_running_server_takes_a_new_token_and_refuses_a_revoked_one(
    environment: dict[str, str], run: Run
) -> None:
    async with over_http(environment | {"SORA_AUTH": "tokens"}) as (address, _):
        assert (await begin_session(address, "auto", None)).status_code == 401
        token = json.loads(run("token", "add", "alice", "--json").stdout)["token"]
        assert (await begin_session(address, "auto", token)).status_code == 200
        listen = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
        body = message("subscriptions/listen", notifications={"resourcesListChanged": True}, _meta=META)
        async with (
            httpx.AsyncClient(timeout=20, trust_env=False) as http,
            http.stream("POST", address, headers=ACCEPT | listen | bearer(token), content=body) as response,
        ):
            run("token", "revoke", "alice")
            with anyio.fail_after(6):
                async for _ in response.aiter_raw():
                    pass
        assert (await begin_session(address, "auto", token)).status_code == 401


# --- doctor ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as served:
        yield served


def looked(run: Run, **settings: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(run("doctor", "--json", **settings).stdout)["checks"]}


def test_the_doctor_says_nothing_of_callers_where_nobody_is_asked(run: Run) -> None:
    assert not {"tokens", "oauth"} & looked(run).keys()


def test_the_doctor_says_who_has_a_token(run: Run, tmp_path: Path) -> None:
    assert looked(run, AUTH="tokens")["tokens"]["message"] == "nobody has one yet"
    run("token", "add", "alice")
    assert looked(run, AUTH="tokens")["tokens"] == {
        "name": "tokens",
        "verdict": "ok",
        "message": "alice",
        "next_step": "",
    }
    assert looked(run)["tokens"]["verdict"] == "note"
    (tmp_path / "home" / "tokens.json").chmod(0o644)
    spoilt = looked(run, AUTH="tokens")["tokens"]
    assert spoilt["verdict"] == "wrong"
    assert "chmod 600" in spoilt["next_step"]


def test_the_doctor_asks_the_issuer(run: Run, issuer: Issuer) -> None:
    oauth = {"AUTH": "oauth", "OAUTH_ISSUER": issuer.address, "OAUTH_AUDIENCE": PUBLIC}
    assert looked(run, **oauth)["oauth"]["message"] == f"{issuer.address} has 1 key; tokens are for {PUBLIC}"
    assert "name another issuer" in looked(run, **oauth | {"OAUTH_ISSUER": f"{issuer.address}/"})["oauth"]["message"]
    assert "cannot be reached" in looked(run, **oauth | {"OAUTH_ISSUER": "http://127.0.0.1:1"})["oauth"]["message"]
    assert "SORA_OAUTH_AUDIENCE is not set" in looked(run, **oauth | {"OAUTH_AUDIENCE": ""})["oauth"]["message"]
    assert looked(run, **oauth | {"AUTH": "tokens"})["oauth"]["verdict"] == "note"
