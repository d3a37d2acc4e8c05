"""What servers keep beside the ledger: in files, or in the database that they share. Both keep the same promises."""

from __future__ import annotations

import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial

import pytest
from ledgers import STORES
from postgres import Cluster, running_cluster
from postgres_faults import database_name

from sora_mcp.config.converters import Secret
from sora_mcp.config.documents import Documents
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem
from sora_mcp.identity.scopes import READ
from sora_mcp.identity.tokens import Tokens, TokenStore
from sora_mcp.identity.upstream_keys import UpstreamKeys
from sora_mcp.ledger import open_documents
from sora_mcp.ledger.postgres.documents import WatchedDocuments
from sora_mcp.server.links.keys import PROPAGATION_DELAY_S, ROTATION_INTERVAL_S, LinkKeys
from sora_mcp.server.links.signing import LINK_TTL_S, Signer, UnusableLink

GATEWAY = "https://gateway.example"
Open = Callable[..., Documents]


@pytest.fixture(params=STORES)
def settings(request: pytest.FixtureRequest, make_settings: Callable[..., Settings]) -> Settings:
    """Of one kind of place, with nothing in it."""
    in_postgres = request.param == "postgres"
    return make_settings(ledger_url=request.getfixturevalue("cluster").database() if in_postgres else None)


@pytest.fixture
def shared(cluster: Cluster, make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(ledger_url=cluster.database())


@pytest.fixture
def open_in() -> Iterator[Open]:
    """Opens the documents that settings name, as one more process would."""
    made: list[Documents] = []

    def make(settings: Settings, *, watched: bool = False) -> Documents:
        made.append(open_documents(settings, watched=watched))
        return made[-1]

    yield make
    for documents in made:
        documents.close()


@pytest.fixture
def opened(settings: Settings, open_in: Open) -> Open:
    """The same for each kind of place."""
    return partial(open_in, settings)


def until(holds: Callable[[], object], within_s: float = 6.0) -> None:
    """Wait until something holds."""
    give_up_at = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def test_people_who_are_added_and_taken_out_at_once_by_several_are_all_kept(opened: Open) -> None:
    gone, names = [f"gone{number}" for number in range(6)], [f"person{number}" for number in range(12)]
    for name in gone:
        TokenStore(opened()).add(name, None, None)

    def act(name: str) -> str | None:
        people = TokenStore(opened())
        if name in names:
            return people.add(name, None, None)
        people.revoke(name)
        return None

    with ThreadPoolExecutor(6) as threads:
        tokens = list(threads.map(act, [*names[:6], *gone, *names[6:]]))
    assert sorted(each.name for each in TokenStore(opened()).grants()) == sorted(names)
    known = Tokens(TokenStore(opened()))
    assert all(known.grant(token) for token in tokens if token)


def test_only_the_hash_of_a_token_is_kept(opened: Open, settings: Settings) -> None:
    token = TokenStore(opened()).add("alice", (READ,), None)
    text = json.dumps(opened().named("tokens").read())
    assert "alice" in text
    assert token.removeprefix("sora_mcp_") not in text
    assert (settings.home / "tokens.json").exists() == (settings.ledger_url is None)


def test_a_change_that_fails_midway_changes_nothing(opened: Open) -> None:
    document = opened().named("tokens")
    with document.change() as content:
        content["tokens"] = []
    before = document.read()

    def fail() -> None:
        with document.change() as content:
            content["tokens"] = [1]
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert document.read() == before == {"tokens": []}


def test_a_server_that_runs_hears_of_every_change_within_seconds(opened: Open) -> None:
    tokens = Tokens(TokenStore(opened(watched=True)))
    keys = UpstreamKeys(opened(watched=True))
    people = TokenStore(opened())
    alice = people.add("alice", None, None)
    until(lambda: tokens.grant(alice))
    grant = tokens.grant(alice)
    assert grant is not None
    UpstreamKeys(opened()).store("alice", GATEWAY, Secret("sk-alice"))
    until(lambda: keys.get("alice", GATEWAY) == Secret("sk-alice"))
    people.revoke("alice")
    until(lambda: not tokens.is_current(grant))
    assert tokens.grant(alice) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 2}', '{"format": 1, "tokens": [{"name": "eve"}]}'])
def test_a_document_that_somebody_spoilt_in_the_database_lets_nobody_in(
    open_in: Open, shared: Settings, cluster: Cluster, content: str
) -> None:
    people = TokenStore(open_in(shared))
    token = people.add("alice", None, None)
    tokens = Tokens(TokenStore(open_in(shared, watched=True)))
    assert tokens.grant(token)
    assert shared.ledger_url is not None
    database = database_name(shared.ledger_url.get_secret_value())
    cluster.sql(f"UPDATE documents SET content = '{content}'", database)  # noqa: S608

    until(lambda: is_problem(lambda: tokens.grant(token)))
    for act in (lambda: tokens.grant(token), lambda: people.add("bob", None, None), lambda: people.revoke("alice")):
        with pytest.raises(FileProblem, match="damaged"):
            act()


def is_problem(act: Callable[[], object]) -> bool:
    try:
        act()
    except FileProblem:
        return True
    return False


# --- the keys of links ----------------------------------------------------------------------------


class Server:
    """The links of one server among several."""

    def __init__(self, documents: Documents, clock: Callable[[], float]) -> None:
        self.signer = Signer(LinkKeys(documents, clock).read, clock)

    def link(self) -> str:
        return self.signer.sign("images", "alice", (secrets.token_hex(8),)).removeprefix("/images/")

    def takes(self, link: str) -> bool:
        try:
            return self.signer.read("images", link).owner == "alice"
        except UnusableLink:
            return False


def keys_in(documents: Documents) -> list[str]:
    return [each["key"] for each in documents.named("link-keys").read()["keys"]]


def test_keys_rotate_while_every_link_that_lives_is_served_by_all(
    open_in: Open, make_settings: Callable[..., Settings]
) -> None:
    now, opened = 1_800_000_000.0, partial(open_in, make_settings())
    servers = [Server(opened(), lambda: now) for _ in range(3)]
    seen: list[tuple[float, str]] = []
    signed_with = set[str]()
    step = LINK_TTL_S / 3
    end = now + 3 * ROTATION_INTERVAL_S + 4 * LINK_TTL_S
    while now < end:
        # A day is passed over in one step, once all that follows a new key is over.
        seen = [(at, link) for at, link in seen if now - at < LINK_TTL_S] + [(now, each.link()) for each in servers]
        assert all(server.takes(link) for server in servers for _, link in seen)
        keys = keys_in(opened())
        signed_with |= set(keys)
        assert len(keys) <= 2
        newest = opened().named("link-keys").read()["keys"][0]["made_at"]
        now = (
            newest + ROTATION_INTERVAL_S - step
            if 3 * LINK_TTL_S < now - newest < ROTATION_INTERVAL_S - 2 * step
            else now + step
        )
    assert len(signed_with) == 4


def test_a_new_key_signs_nothing_before_every_server_knows_it(opened: Open) -> None:
    now = 1_800_000_000.0
    early, late = opened(), Server(opened(), lambda: now)
    server = Server(early, lambda: now)
    first = LinkKeys(early, lambda: now).read()[0].hex()
    now += ROTATION_INTERVAL_S + 1
    assert server.takes(server.link())
    assert len(keys_in(early)) == 2
    assert LinkKeys(early, lambda: now).read()[0].hex() == first
    now += PROPAGATION_DELAY_S
    assert LinkKeys(early, lambda: now).read()[0].hex() == keys_in(early)[0] != first
    assert late.takes(server.link())


def test_servers_that_rotate_at_once_make_one_key(opened: Open) -> None:
    now = 1_800_000_000.0
    LinkKeys(opened(), lambda: now).read()
    now += ROTATION_INTERVAL_S + 1
    with ThreadPoolExecutor(6) as threads:
        read = list(threads.map(lambda _: LinkKeys(opened(), lambda: now).read(), range(12)))
    assert all(keys == read[0] for keys in read)
    assert len(keys_in(opened())) == 2


# --- without the database -------------------------------------------------------------------------


def test_without_the_database_who_is_known_stays_so_for_a_while_and_nobody_is_called_a_stranger(
    open_in: Open, make_settings: Callable[..., Settings]
) -> None:
    with running_cluster() as cluster:
        settings = make_settings(ledger_url=cluster.database())
        people = TokenStore(open_in(settings))
        alice = people.add("alice", None, None)
        assert settings.ledger_url is not None
        url = settings.ledger_url.get_secret_value()
        with closing(WatchedDocuments(url, cache_ttl_s=4.5)) as brief, closing(WatchedDocuments(url)) as usual:
            tokens, of_usual = Tokens(TokenStore(brief)), Tokens(TokenStore(usual))
            grant = tokens.grant(alice)
            assert grant is not None
            cluster.stop("immediate")
            until(lambda: is_problem(lambda: tokens.grant("sora_mcp_" + "0" * 64)))
            assert tokens.is_current(grant)
            until(lambda: is_problem(lambda: tokens.is_current(grant)))
            assert is_problem(lambda: tokens.grant(alice))
            with pytest.raises(FileProblem, match="cannot be used") as caught:
                people.revoke("alice")
            assert Do("Nothing was changed.") in caught.value.advice
            assert of_usual.grant(alice) == grant
            with closing(WatchedDocuments(url)) as late:
                assert is_problem(lambda: Tokens(TokenStore(late)).grant(alice))
            cluster.start()
            until(lambda: not is_problem(lambda: tokens.grant(alice)))
            people.revoke("alice")
            until(lambda: tokens.grant(alice) is None and of_usual.grant(alice) is None)


def test_a_connection_on_which_nothing_is_answered_is_given_up(
    open_in: Open, shared: Settings, cluster: Cluster
) -> None:
    """As where a database was stopped and another has taken its place: the old one holds its connections."""
    people = TokenStore(open_in(shared))
    alice = people.add("alice", None, None)
    tokens = Tokens(TokenStore(open_in(shared, watched=True)))
    assert tokens.grant(alice)
    assert shared.ledger_url is not None
    database = database_name(shared.ledger_url.get_secret_value())
    ((pid,),) = cluster.sql(f"SELECT pid FROM pg_stat_activity WHERE datname = '{database}'")  # noqa: S608
    os.kill(pid, signal.SIGSTOP)
    try:
        people.revoke("alice")
        until(lambda: tokens.grant(alice) is None)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_the_clock_is_the_databases(open_in: Open, shared: Settings) -> None:
    for watched in (False, True):
        assert abs(open_in(shared, watched=watched).now() - time.time()) < 5
