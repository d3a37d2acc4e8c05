"""A team's server over HTTP: who is let in, what their token allows, and what becomes of it when it holds no longer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from bench import ACCEPTED_NEXT, KEY, Era
from callers import ACCEPT, META, authorized_client, bearer, begin_session, message, post, team_server
from fault_gateway import CREATE, FaultGateway, Hold
from issuer import Issuer, issuing
from mcp import MCPError
from mcp.shared.exceptions import MCPError as ProtocolError

from sora_mcp.config.private_file import PrivateFile
from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import NotConfigured
from sora_mcp.identity.tokens import TokenStore
from sora_mcp.ledger import open_documents
from sora_mcp.server.authentication import Authentication
from sora_mcp.tools import TOOLS

pytestmark = pytest.mark.anyio

PUBLIC = "https://videos.example.org/mcp"
BOTH = 'scope="videos:read videos:create"'
METADATA = 'resource_metadata="https://videos.example.org/.well-known/oauth-protected-resource/mcp"'


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with issuing() as served:
        yield served


@pytest.fixture
def settings(make_settings: Callable[..., Settings], issuer: Issuer) -> Settings:
    return make_settings(auth="tokens,oauth", oauth_issuer=issuer.address, oauth_audience=PUBLIC)


@pytest.fixture
def people(settings: Settings) -> TokenStore:
    return TokenStore(open_documents(settings))


@pytest.fixture
async def address(settings: Settings) -> AsyncIterator[str]:
    async with team_server(settings) as address:
        yield address


# --- who is let in --------------------------------------------------------------------------------


async def test_without_a_token_a_client_is_told_where_to_get_one(address: str, era: Era) -> None:
    answer = await begin_session(address, era, None)
    challenge = answer.headers["www-authenticate"]
    assert answer.status_code == 401
    assert challenge.startswith("Bearer ")
    assert BOTH in challenge
    assert METADATA in challenge
    assert "error=" not in challenge
    assert "Authorization: Bearer TOKEN" in answer.json()["error_description"]


async def test_with_static_tokens_alone_no_issuer_is_named(make_settings: Callable[..., Settings], era: Era) -> None:
    async with team_server(make_settings(auth="tokens")) as address:
        answer = await begin_session(address, era, None)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == f"Bearer {BOTH}"


async def test_a_good_token_of_either_kind_opens(address: str, era: Era, people: TokenStore, issuer: Issuer) -> None:
    for token in (people.add("alice", None, None), issuer.token(PUBLIC), issuer.token(f"{PUBLIC}/")):
        assert (await begin_session(address, era, token)).status_code == 200


@pytest.mark.parametrize(
    "token",
    ["x", "sora_mcp_", "sora_mcp_" + "0" * 64, "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "x" * 30_000, '"', "Bearer x"],
    ids=lambda token: token[:20],
)
async def test_what_is_no_token_is_refused(address: str, era: Era, token: str) -> None:
    answer = await begin_session(address, era, token)
    assert answer.status_code == 401
    assert 'error="invalid_token"' in answer.headers["www-authenticate"]
    assert BOTH in answer.headers["www-authenticate"]
    assert token not in answer.text.replace('"', "'")[:200] or len(token) < 10


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"aud": "https://other.example/mcp"}, "issued for another server"),
        ({"exp": 1}, "has expired"),
        ({"iss": "https://evil.example"}, "another issuer"),
    ],
    ids=str,
)
async def test_a_refusal_says_why(address: str, era: Era, issuer: Issuer, claims: dict[str, Any], reason: str) -> None:
    answer = await begin_session(address, era, issuer.token(PUBLIC, **claims))
    assert answer.status_code == 401
    assert reason in answer.headers["www-authenticate"]
    assert reason in answer.json()["error_description"]


async def test_a_token_is_taken_from_the_one_header_only(address: str, era: Era, people: TokenStore) -> None:
    token = people.add("alice", None, None)
    for elsewhere in (f"{address}?access_token={token}", f"{address}?token={token}"):
        assert (await begin_session(elsewhere, era, None)).status_code == 401
    assert (await begin_session(address, era, None, Authorization=f"Basic {token}")).status_code == 401
    assert (await begin_session(address, era, None, Cookie=f"access_token={token}")).status_code == 401
    assert (await begin_session(address, era, None, Authorization=f"bearer  {token}")).status_code == 200
    headers = [*ACCEPT.items(), ("Authorization", f"Bearer {token}"), ("authorization", "Bearer other")]
    answer = await post(address, headers, message("ping"))
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_no_other_spelling_of_the_path_leads_in(address: str) -> None:
    headers = ACCEPT | {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/list"}
    for path in ("/mcp%0a", "/mcp%0A", "/mcp/", "//mcp", "/%6dcp", "/mcp%20", "/mcp/..%2fmcp", "/MCP", "/mcp;x"):
        target = httpx.URL(address).copy_with(raw_path=path.encode())
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.post(target, headers=headers, content=message("tools/list", _meta=META))
        assert answer.status_code in {401, 404, 405, 307}, path


async def test_a_host_that_is_not_ours_is_refused_whoever_asks(address: str, era: Era, people: TokenStore) -> None:
    token = people.add("alice", None, None)
    assert (await begin_session(address, era, token, Host="evil.example")).status_code == 421
    assert (await begin_session(address, era, token, Origin="https://evil.example")).status_code == 403


async def test_the_metadata_name_the_issuer_at_both_addresses(address: str, issuer: Issuer) -> None:
    root = address.removesuffix("/mcp")
    async with httpx.AsyncClient(trust_env=False) as http:
        for path in ("", "/mcp"):
            answer = await http.get(f"{root}/.well-known/oauth-protected-resource{path}")
            assert answer.status_code == 200
            assert answer.headers["access-control-allow-origin"] == "*"
            assert answer.json() == {
                "resource": PUBLIC,
                "authorization_servers": [issuer.address],
                "scopes_supported": ["videos:read", "videos:create"],
                "bearer_methods_supported": ["header"],
                "resource_name": "Sora videos",
            }


# --- what is wrong at the server's side -----------------------------------------------------------


async def test_a_spoilt_file_of_tokens_lets_nobody_in_and_is_logged(
    address: str,
    era: Era,
    people: TokenStore,
    issuer: Issuer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = people.add("alice", None, None)
    assert isinstance(people.document, PrivateFile)
    path = people.document.path
    path.chmod(0o644)
    for _ in range(3):
        answer = await begin_session(address, era, token)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "whoever runs it has to repair them" in answer.json()["error_description"]
        assert str(path) not in answer.text
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "open to other users" in line
    assert (await begin_session(address, era, issuer.token(PUBLIC))).status_code == 200
    path.chmod(0o600)
    assert (await begin_session(address, era, token)).status_code == 200


async def test_where_an_issuer_was_never_reached_a_client_is_to_come_again(
    make_settings: Callable[..., Settings], era: Era, issuer: Issuer
) -> None:
    settings = make_settings(auth="oauth", oauth_issuer="http://127.0.0.1:1", oauth_audience=PUBLIC)
    async with team_server(settings) as address:
        answer = await begin_session(address, era, issuer.token(PUBLIC))
        assert answer.status_code == 503
        assert "cannot fetch the issuer's keys" in answer.json()["error_description"]


@pytest.mark.parametrize("missing", ["oauth_issuer", "oauth_audience"])
def test_oauth_without_a_setting_is_refused_at_the_start(make_settings: Callable[..., Settings], missing: str) -> None:
    values = {"oauth_issuer": "https://issuer.example", "oauth_audience": PUBLIC} | {missing: ""}
    with pytest.raises(NotConfigured, match=f"SORA_{missing.upper()} is not set"):
        Authentication.from_settings(make_settings(auth="oauth", **values))


# --- scopes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("tool", TOOLS, ids=lambda tool: tool.name)
@pytest.mark.parametrize("scope", ["videos:read", "videos:create"])
async def test_each_tool_needs_its_scope(address: str, era: Era, people: TokenStore, tool: Any, scope: str) -> None:
    token = people.add("alice", (scope,), None)
    needed = "videos:create" if tool.paid else "videos:read"
    async with authorized_client(address, token, era) as client:
        result = await client.call_tool(tool.name, {"surely_wrong": 1})
    error = (result.structured_content or {}).get("error") or {}
    if scope == needed:
        assert error.get("kind") != "not_allowed"
        return
    assert result.is_error
    assert error["kind"] == "not_allowed"
    assert needed in error["message"]
    if tool.paid:
        assert result.structured_content is not None
        assert result.structured_content["outcome"] == "not_submitted"
        assert "Nothing was submitted" in error["message"]


async def test_resources_prompts_and_completions_need_to_read(address: str, era: Era, people: TokenStore) -> None:
    async with authorized_client(address, people.add("alice", ("videos:create",), None), era) as client:
        await client.list_tools()
        for ask in (
            client.list_resources,
            client.list_resource_templates,
            client.list_prompts,
            lambda: client.read_resource("sora://videos"),
            lambda: client.get_prompt("make_a_video"),
        ):
            with pytest.raises((MCPError, ProtocolError), match="videos:read"):
                await ask()


def call(era: Era, tool: str, **arguments: Any) -> tuple[dict[str, str], bytes]:
    modern = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": tool}
    headers = ACCEPT | (modern if era == "auto" else {"MCP-Protocol-Version": "2025-11-25"})
    meta = {"_meta": META} if era == "auto" else {}
    return headers, message("tools/call", name=tool, arguments=arguments, **meta)


async def test_an_issuers_token_that_lacks_a_scope_is_to_be_changed_for_a_better_one(
    address: str, era: Era, issuer: Issuer
) -> None:
    token = issuer.token(PUBLIC, scope="videos:read")
    headers, body = call(era, "create_video", prompt="a boat")
    answer = await post(address, headers | bearer(token), body)
    challenge = answer.headers["www-authenticate"]
    assert answer.status_code == 403
    assert 'error="insufficient_scope"' in challenge
    assert "lacks the scope videos:create" in challenge
    assert BOTH in challenge
    assert METADATA in challenge


@pytest.mark.parametrize("body", [b"", b"[" * 100_000, b"\xff", b"[]", b'{"method": 7}', b'{"method": "tools/call"}'])
async def test_a_body_that_cannot_be_looked_into_is_refused_as_ever(address: str, issuer: Issuer, body: bytes) -> None:
    answer = await post(address, ACCEPT | bearer(issuer.token(PUBLIC, scope="videos:create")), body)
    assert answer.status_code in {400, 403, 413}


async def test_a_token_without_any_of_our_scopes_opens_nothing(address: str, era: Era, issuer: Issuer) -> None:
    answer = await begin_session(address, era, issuer.token(PUBLIC, scope="openid profile"))
    assert answer.status_code == 403
    assert BOTH in answer.headers["www-authenticate"]


# --- sessions, streams and revocation ---------------------------------------------------------------


async def test_a_session_is_one_persons_own(address: str, people: TokenStore) -> None:
    alice, bob = people.add("alice", None, None), people.add("bob", None, None)
    session = (await begin_session(address, "legacy", alice)).headers["mcp-session-id"]
    of_session = ACCEPT | {"Mcp-Session-Id": session, "MCP-Protocol-Version": "2025-11-25"}
    assert (await post(address, of_session | bearer(bob), message("tools/list"))).status_code == 404
    assert (await post(address, of_session | bearer(alice), message("tools/list"))).status_code == 200


async def test_a_session_gives_a_weaker_token_of_the_same_person_no_more(address: str, issuer: Issuer) -> None:
    session = (await begin_session(address, "legacy", issuer.token(PUBLIC))).headers["mcp-session-id"]
    of_session = {"Mcp-Session-Id": session}
    headers, body = call("legacy", "list_videos")
    weaker = issuer.token(PUBLIC, scope="videos:create")
    assert (await post(address, headers | of_session | bearer(weaker), body)).status_code == 403


async def test_a_revoked_token_is_refused_at_once(address: str, era: Era, people: TokenStore) -> None:
    token = people.add("alice", None, None)
    assert (await begin_session(address, era, token)).status_code == 200
    people.revoke("alice")
    assert (await begin_session(address, era, token)).status_code == 401


async def test_an_open_stream_ends_with_its_token(address: str, era: Era, people: TokenStore) -> None:
    token = people.add("alice", None, None)
    async with httpx.AsyncClient(timeout=20, trust_env=False) as http:
        if era == "legacy":
            session = (await begin_session(address, era, token)).headers["mcp-session-id"]
            headers = {"Accept": "text/event-stream", "Mcp-Session-Id": session}
            headers |= {"MCP-Protocol-Version": "2025-11-25"}
            stream = http.stream("GET", address, headers=headers | bearer(token))
        else:
            listen = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
            body = message("subscriptions/listen", notifications={"resourcesListChanged": True}, _meta=META)
            stream = http.stream("POST", address, headers=ACCEPT | listen | bearer(token), content=body)
        async with stream as response:
            assert response.status_code == 200
            people.revoke("alice")
            with anyio.fail_after(6):
                async for _ in response.aiter_raw():
                    pass
    assert (await begin_session(address, era, token)).status_code == 401


async def test_an_open_stream_ends_when_its_token_expires(address: str, era: Era, issuer: Issuer) -> None:
    """It holds a minute longer than it says, because clocks differ: this one has two seconds of that left."""
    import time  # noqa: PLC0415

    token = issuer.token(PUBLIC, exp=int(time.time()) - 58)
    headers, body = call(era, "list_videos")
    listen = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
    asked = message("subscriptions/listen", notifications={"resourcesListChanged": True}, _meta=META)
    assert (await begin_session(address, era, token)).status_code == 200
    async with (
        httpx.AsyncClient(timeout=20, trust_env=False) as http,
        http.stream("POST", address, headers=ACCEPT | listen | bearer(token), content=asked) as response,
    ):
        assert response.status_code == 200
        with anyio.fail_after(8):
            async for _ in response.aiter_raw():
                pass
    assert (await post(address, headers | bearer(token), body)).status_code == 401


async def test_a_call_that_is_being_paid_for_is_recorded_though_its_token_is_revoked(
    make_settings: Callable[..., Settings], gateway: FaultGateway, era: Era
) -> None:
    settings = make_settings(base_url=gateway.address, api_key=KEY, auth="tokens")
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    people = TokenStore(open_documents(settings))
    token = people.add("alice", None, None)
    async with team_server(settings) as address:
        headers, body = call(era, "create_video", prompt="a boat")
        if era == "legacy":
            headers = headers | {"Mcp-Session-Id": (await begin_session(address, era, token)).headers["mcp-session-id"]}
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(post, address, headers | bearer(token), body)
                await hold.reached.wait()
                people.revoke("alice")
        hold.release.set()
        async with authorized_client(address, people.add("alice", None, None), era) as client:
            with anyio.fail_after(10):
                while True:
                    listed = await client.call_tool("list_videos", {})
                    assert listed.structured_content is not None
                    (video,) = listed.structured_content["videos"]
                    if video["state"] != "sending":
                        break
        assert video["task_id"].startswith("task_")
    assert len(gateway.creates()) == 1


async def test_a_call_is_not_told_that_its_token_is_bad_where_nobody_can_tell(
    make_settings: Callable[..., Settings], gateway: FaultGateway, era: Era, caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(base_url=gateway.address, api_key=KEY, auth="tokens")
    hold = Hold()
    gateway.on("POST", CREATE, replace(ACCEPTED_NEXT, hold=hold))
    people = TokenStore(open_documents(settings))
    token = people.add("alice", None, None)
    assert isinstance(people.document, PrivateFile)
    async with team_server(settings) as address:
        headers, body = call(era, "create_video", prompt="a boat")
        if era == "legacy":
            headers = headers | {"Mcp-Session-Id": (await begin_session(address, era, token)).headers["mcp-session-id"]}
        statuses: list[int] = []

        async def ask() -> None:
            statuses.append((await post(address, headers | bearer(token), body)).status_code)

        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await hold.reached.wait()
                people.document.path.chmod(0o644)
        hold.release.set()
        people.document.path.chmod(0o600)
    assert statuses in ([200], [503])  # a stream that has begun only ends
    assert "a request of alice is ended: This server cannot read its stored tokens now" in caplog.text


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


# --- the gateway's side ---------------------------------------------------------------------------


async def test_a_callers_token_never_goes_to_the_gateway(
    make_settings: Callable[..., Settings], gateway: FaultGateway, era: Era, issuer: Issuer
) -> None:
    settings = make_settings(
        base_url=gateway.address, api_key=KEY, auth="tokens,oauth", oauth_issuer=issuer.address, oauth_audience=PUBLIC
    )
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    static, oauth = TokenStore(open_documents(settings)).add("alice", None, None), issuer.token(PUBLIC)
    async with team_server(settings) as address:
        for number, token in enumerate((static, oauth)):
            async with authorized_client(address, token, era) as client:
                made = await client.call_tool("create_video", {"prompt": f"boat {number}"})
                assert made.structured_content is not None
                assert made.structured_content["outcome"] == "accepted"
                await client.call_tool("get_video", {"task_id": made.structured_content["task_id"]})
    assert len(gateway.received) >= 3
    for request in gateway.received:
        assert request.headers["authorization"] == f"Bearer {KEY}"
        everything = f"{request.path} {request.headers} {request.body!r}"
        assert static not in everything
        assert oauth not in everything
    kept = contents(settings.home)
    assert static.encode() not in kept
    assert oauth.encode() not in kept
