"""A PostgreSQL for the tests: started from Debian's or other programs in its own folder, on loopback."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from ledgers import Store
from ports import free_port

NOT_INSTALLED = "PostgreSQL is not installed (Debian: postgresql)"


_IN_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing that matters lies there
_MIN_FREE_BYTES = 8 * 1024**3
"""Clusters are kept in memory if this much is free."""


def programs() -> Path | None:
    """The folder of PostgreSQL's newest programs; None if there are none."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: -float(folder.parent.name))
    folders += [Path(initdb).parent] if (initdb := shutil.which("initdb")) else []
    return next((folder for folder in folders if (folder / "pg_ctl").exists()), None)


class Cluster:
    """One PostgreSQL, with as many databases as tests need."""

    def __init__(self, folder: Path, *, settings: tuple[str, ...] = ()) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = free_port()
        self._settings = ("listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", *settings)
        self._number = count(1)

    def run(self, program: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs, as a user that it accepts: it does not run as root."""
        folder = programs()
        assert folder is not None
        command = [str(folder / program), *arguments]
        user = pwd.getpwnam("postgres").pw_uid if os.getuid() == 0 else None
        return subprocess.run(  # noqa: S603
            command, check=check, capture_output=True, text=True, user=user, cwd=self.folder, timeout=120
        )

    def make(self) -> None:
        """Create its data folder, without starting it."""
        if os.getuid() == 0:
            shutil.chown(self.folder, "postgres")
        self.run("initdb", "-D", str(self.data), "-U", "sora", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = " ".join(f"-c {each}" for each in self._settings)
        log = str(self.folder / "log")
        self.run("pg_ctl", "-D", str(self.data), "-l", log, "-w", "-o", f"-p {self.port} {options}", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop it: `fast` closes its connections, `immediate` is a crash."""
        self.run("pg_ctl", "-D", str(self.data), "-w", "-m", mode, "stop", check=False)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Suspend all its processes, as on a machine that hangs. Linux only."""
        leader = int((self.data / "postmaster.pid").read_text(encoding="ascii").split()[0])
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text(encoding="ascii").split()
        processes = [leader, *map(int, children)]
        try:
            for each in processes:
                with suppress(ProcessLookupError):  # a process that served a connection has just exited
                    os.kill(each, signal.SIGSTOP)
            yield
        finally:
            for each in processes:
                with suppress(ProcessLookupError):
                    os.kill(each, signal.SIGCONT)

    def sql(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        with psycopg.connect(
            f"postgresql://sora@127.0.0.1:{self.port}/{database}?connect_timeout=30", autocommit=True
        ) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self) -> str:
        """The address of a new, empty database."""
        name = f"ledger_{next(self._number)}"
        self.sql(f"CREATE DATABASE {name}")
        return f"postgresql://sora@127.0.0.1:{self.port}/{name}"

    def store(self, folder: Path) -> Store:
        """A ledger in a new database."""
        return Store(folder, self.database())

    def drop(self, url: str) -> None:
        """Drop a database, which would leave some 300 files otherwise."""
        with suppress(psycopg.Error):  # it was removed, or the cluster does not run
            self.sql(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")


@contextmanager
def running_cluster(*settings: str, on_disk: bool = False) -> Iterator[Cluster]:
    """A new cluster, stopped and removed afterwards. Skips if PostgreSQL is not installed. It may be in memory, where a
    commit does not wait, unless it has to be `on_disk`."""
    if programs() is None:
        pytest.skip(NOT_INSTALLED)
    parent = None if on_disk else _cluster_parent()
    with tempfile.TemporaryDirectory(prefix="sora-pg-", dir=parent, ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder), settings=settings)
        cluster.make()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop("immediate")


def _cluster_parent() -> Path | None:
    """The parent folder of clusters: in memory if there is room, so that tests do not wait for a disk; None: the
    default for temporary folders."""
    with suppress(OSError):
        if min(shutil.disk_usage(_IN_MEMORY).free, _free_memory_bytes()) > _MIN_FREE_BYTES:
            return _IN_MEMORY
    return None


def _free_memory_bytes() -> int:
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
