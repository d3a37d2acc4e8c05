"""What the tests share: a clean environment, settings in a folder of their own, a gateway, and a real client."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import stamina
from bench import ACCEPTED, ERAS, KEY, RUNNING, Connect, Era, Run, environment
from downloads import Reach
from fault_gateway import CREATE, FaultGateway, fault_gateway
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from ledgers import STORES, OpenLedger, Store, in_file
from mcp import Client
from mcp.client.session import ElicitationFnT
from postgres import Cluster, running_cluster
from warm import warm_command

from sora_mcp import dialects
from sora_mcp.config.settings import Settings, load
from sora_mcp.gateway import Gateway
from sora_mcp.ledger import Ledger
from sora_mcp.server import build
from sora_mcp.server.surface import SoraServer

if TYPE_CHECKING:
    from signed_links import LinkServer

hypothesis_settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
hypothesis_settings.load_profile("busy")  # the machine may be busy: how long an example takes says nothing


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=24, help="how often the kill loop kills a server (24)")
    parser.addoption("--seed", type=int, default=None, help="what the kill loop's choices are drawn from (random)")


def pytest_configure(config: pytest.Config) -> None:
    # What a shell starts in the background ignores SIGINT, and so would every program that a test interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # Else each command that a test starts would compile all of ours again.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    config.addinivalue_line("markers", "chaos: clocks that jump, slow TLS, a full disk")


STARTS_PROCESSES = {"run", "environment", "cluster"}
"""Fixtures through which a test starts a server or a command in a process of its own."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests that start processes, PostgreSQL among them, out of the fast loop; others that take long are marked
    where they stand. The kill loop may take as long as its number of kills does."""
    for item in items:
        if item.path.stem == "test_kills":
            item.add_marker(pytest.mark.timeout(300 + 5 * config.getoption("--kills")))
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if STARTS_PROCESSES & set(getattr(item, "fixturenames", ())) or "postgres" in parameters:
            item.add_marker(pytest.mark.slow)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SORA_")]:
        monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _no_backoff() -> Iterator[None]:
    """The next attempt is made at once; there are no more of them than else."""
    with stamina.set_testing(True, attempts=100, cap=True):
        yield


@pytest.fixture
def make_settings(tmp_path: Path) -> Callable[..., Settings]:
    """Settings whose folders lie in the test's own folder; the sandbox unless another gateway is named."""

    def make(**values: Any) -> Settings:
        defaults: dict[str, Any] = {"base_url": "sandbox", "sandbox_seconds": 0.3}
        folders = {"home": tmp_path / "home", "output_dir": tmp_path / "videos"}
        return load({}, **(defaults | folders | values))

    return make


@pytest.fixture(params=ERAS)
def era(request: pytest.FixtureRequest) -> Era:
    """Each of the protocol's eras."""
    found: Era = request.param
    return found


@pytest.fixture
async def client(era: Era, make_settings: Callable[..., Settings]) -> AsyncIterator[Client]:
    """A client of a server that works against the sandbox."""
    async with Client(build(make_settings()), mode=era) as opened:
        yield opened


@pytest.fixture
async def gateway() -> AsyncIterator[FaultGateway]:
    """A gateway that accepts every create as `task_new`, which runs."""
    async with fault_gateway() as opened:
        opened.on("POST", CREATE, ACCEPTED)
        opened.on("GET", CREATE, RUNNING)
        yield opened


@pytest.fixture
def remote(make_settings: Callable[..., Settings], gateway: FaultGateway) -> Callable[..., SoraServer]:
    """A server that is set to the gateway; `values` change the settings."""

    def make(**values: Any) -> SoraServer:
        return build(make_settings(**({"base_url": gateway.address, "api_key": KEY} | values)))

    return make


@pytest.fixture
def connect(remote: Callable[..., SoraServer]) -> Connect:
    """A client of such a server; `user` is who answers its questions."""

    def make(era: Era = "auto", user: ElicitationFnT | None = None, **values: Any) -> Client:
        return Client(remote(**values), mode=era, elicitation_callback=user)

    return make


@pytest.fixture
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names no proxy."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def reach(no_proxy: None, make_settings: Callable[..., Settings], gateway: FaultGateway) -> Reach:  # noqa: ARG001
    """The real client of a gateway."""

    @asynccontextmanager
    async def opened(base_url: str = gateway.address, **values: Any) -> AsyncIterator[Gateway]:
        settings = make_settings(**({"base_url": base_url, "api_key": KEY} | values))
        made = Gateway(settings.endpoint(), settings, dialects.configured(settings))
        try:
            yield made
        finally:
            await made.aclose()

    return opened


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """The one folder whose images may be uploaded."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


@pytest.fixture(name="environment")
def _environment(tmp_path: Path) -> dict[str, str]:
    """Of a process that works against the sandbox, in the test's own folder."""
    return environment(tmp_path)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL for all tests of this process, with a database for each."""
    with running_cluster() as started:
        yield started


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """One kind of ledger, empty."""
    if request.param == "sqlite":
        yield in_file(tmp_path)
        return
    cluster: Cluster = request.getfixturevalue("cluster")
    store = cluster.store(tmp_path)
    yield store
    cluster.drop(store.values["ledger_url"])


@pytest.fixture
def open_ledger(store: Store) -> Iterator[OpenLedger]:
    """Opens the ledger of one store; each call is another connection to the same record."""
    opened: list[Ledger] = []

    def make(clock: Callable[[], float] = time.time) -> Ledger:
        opened.append(store.open(clock))
        return opened[-1]

    yield make
    for ledger in opened:
        ledger.close()


@pytest.fixture
def ledger(open_ledger: OpenLedger) -> Ledger:
    return open_ledger()


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Runs a command in the test's own folder."""

    def run(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        environ = environment | {f"SORA_{name}": value for name, value in settings.items()}
        command = [*warm_command(), *arguments]
        return subprocess.run(  # noqa: S603
            command, check=False, capture_output=True, text=True, env=environ, cwd=tmp_path, timeout=60
        )

    return run


@pytest.fixture
def room(tmp_path: Path) -> LinkServer:
    """A server's signed links without the server."""
    from signed_links import LinkServer  # noqa: PLC0415 - few tests need the links

    return LinkServer(tmp_path)


@pytest.fixture
async def http(room: LinkServer) -> AsyncIterator[httpx.AsyncClient]:
    """Whoever has a link of the room."""
    async with room.client() as client:
        yield client
