"""A team's servers and their ledger, as processes that can be disturbed: killed, stopped, started again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from processes import SORA, Env, Process, serving

sys.path.append(str(Path(__file__).parents[1] / "support"))

from postgres import NOT_INSTALLED, Cluster, programs, running_cluster

SERVE = (*SORA, "serve", "--transport", "streamable-http", "--port")


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger of the servers. `postgres` is set if it was started here, and so can be disturbed."""

    url: str | None = None
    postgres: Cluster | None = None


@contextmanager
def open_ledger(kind: str) -> Iterator[Ledger]:
    """A file, or a database: that of SORA_LEDGER_URL, or a new one. Exits the program if there is none."""
    if kind == "sqlite":
        yield Ledger()
    elif url := os.environ.get("SORA_LEDGER_URL"):
        yield Ledger(url)
    elif (postgres := own_postgres()) is None:
        sys.exit(f"{NOT_INSTALLED}; or set SORA_LEDGER_URL to an empty database")
    else:
        with postgres as cluster:
            yield Ledger(cluster.database(), cluster)


def own_postgres() -> AbstractContextManager[Cluster] | None:
    """A new PostgreSQL; None if it is not installed."""
    return running_cluster("max_connections=200", on_disk=True) if programs() is not None else None


class Replicas:
    """Servers that share a ledger, each at an address that it keeps. With a file they share SORA_HOME as well."""

    def __init__(self, number: int, folder: Path, env: Env, ledger: Ledger) -> None:
        shared = {} if ledger.url is None else {"SORA_LEDGER_URL": ledger.url}
        homes = [folder / (f"home{each}" if ledger.url else "home") for each in range(number)]
        self._folder = folder
        self.env = [{**env, **shared, "SORA_HOME": str(home)} for home in homes]
        self._homes = homes
        self.urls: list[str] = []
        self._processes: list[Process] = []

    def __enter__(self) -> Self:
        for number in range(len(self.env)):
            self._processes.append(self._start_process(number, "0"))
            self.urls.append(self._processes[number].address())
            self._processes[number].drain(self._log(number))
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.end()

    def kill(self, number: int) -> None:
        """Kill one server."""
        self._processes[number].end()

    def start(self, number: int) -> None:
        """Start it again at its address, and wait until it serves."""
        process = self._start_process(number, str(urlsplit(self.urls[number]).port))
        process.address()
        process.drain(self._log(number))
        self._processes[number] = process

    @property
    def home(self) -> Path:
        """The folder of the first one."""
        return self._homes[0]

    def process(self, number: int) -> Process:
        return self._processes[number]

    def usage(self) -> list[Mapping[str, float]]:
        """Megabytes and descriptors of each server now; empty for one that is not running."""
        usages: list[Mapping[str, float]] = []
        for process in self._processes:
            try:
                usages.append({"mb": process.memory_bytes / 1e6, "descriptors": process.descriptors})
            except (OSError, IndexError):
                usages.append({})
        return usages

    def _start_process(self, number: int, port: str) -> Process:
        return serving((*SERVE, port), self.env[number])

    def _log(self, number: int) -> Path:
        return self._folder / f"server{number}.log"
