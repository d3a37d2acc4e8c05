"""Failures and topologies of PostgreSQL: hanging, lost answers to a commit, replicas, failover, pooling."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal

import psycopg
import pytest
from ports import free_port
from postgres import Cluster

Loss = Literal["before", "after", "swallowed", "unanswered"]
"""The fate of a COMMIT: the connection is lost before or after the server got it; or the connection stays, and the
COMMIT or its answer is dropped."""


class Proxy:
    """A proxy to a PostgreSQL that can lose the COMMIT of a change. Made by `proxy`."""

    def __init__(self, listener: socket.socket, port: int) -> None:
        self.port = int(listener.getsockname()[1])
        self.loses: Loss | None = None
        """The fate of the next COMMIT of such a change; None again afterwards."""
        self.delay: threading.Event | None = None
        """If set, the answer to the next COMMIT of such a change is held back until this event; None again
        afterwards."""
        self.delays = b""
        """If set, `delay` is for the answer to the next statement that contains this instead."""
        self.delayed = threading.Event()
        """Set once such an answer is held back."""
        self.change = b"INTO videos"
        self._listener = listener
        self._server_port = port
        self._connections: list[_Answers] = []

    def address(self, url: str) -> str:
        """The URL of the same database through this proxy."""
        return url.replace(f":{self._server_port}/", f":{self.port}/")

    def swallow(self) -> None:
        """Drop all further data on open connections, without either end noticing."""
        for each in self._connections:
            each.are_withheld = each.are_requests_withheld = True

    def run(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._server_port)) as server:
            answers = _Answers(client, server)
            self._connections.append(answers)
            answers.start()
            with suppress(OSError):
                self._forward(client, server, answers)
            _end(client, server)
            answers.join()

    def _forward(self, client: socket.socket, server: socket.socket, answers: _Answers) -> None:
        is_change = False
        while data := client.recv(65536):
            if answers.are_requests_withheld:
                continue
            is_change = is_change or self.change in data
            is_delayed = self.delays in data if self.delays else b"COMMIT" in data and is_change
            if is_delayed and self.delay is not None:
                answers.delay, self.delay = (self.delay, self.delayed), None
            if b"COMMIT" not in data or not is_change or self.loses is None:
                is_change = is_change and b"COMMIT" not in data
                server.sendall(data)
                continue
            loses, self.loses = self.loses, None
            answers.are_withheld = True
            if loses in {"after", "unanswered"}:
                server.sendall(data)
                answers.arrived.wait(10)
            if loses in {"before", "after"}:
                return
            while client.recv(65536):
                pass


class _Answers(threading.Thread):
    """Forwards the server's answers to the client, or drops them if `are_withheld`."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        super().__init__(daemon=True)
        self.are_withheld = False
        self.are_requests_withheld = False
        self.arrived = threading.Event()
        self.delay: tuple[threading.Event, threading.Event] | None = None
        self._client = client
        self._server = server

    def run(self) -> None:
        with suppress(OSError):
            while data := self._server.recv(65536):
                if self.delay is not None:
                    (until, delayed), self.delay = self.delay, None
                    delayed.set()
                    until.wait(30)
                if self.are_withheld:
                    self.arrived.set()
                else:
                    self._client.sendall(data)
            if not self.are_withheld:
                _end(self._client)


def _end(*sockets: socket.socket) -> None:
    for each in sockets:
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@contextmanager
def proxy(cluster: Cluster) -> Iterator[Proxy]:
    """A proxy to the cluster that can be disturbed."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        opened = Proxy(listener, cluster.port)
        threading.Thread(target=opened.run, daemon=True).start()
        yield opened
        _end(listener)


@contextmanager
def pgbouncer(cluster: Cluster, mode: str) -> Iterator[int]:
    """A pgbouncer in front of the cluster, in a pool mode; its port. Skips if it is not installed."""
    program = shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer")
    if program is None:
        pytest.skip("pgbouncer is not installed (Debian: pgbouncer)")
    port = free_port()
    settings = cluster.folder / f"pgbouncer-{mode}.ini"
    (cluster.folder / "users.txt").write_text('"sora" ""\n')
    settings.write_text(
        f"[databases]\n* = host=127.0.0.1 port={cluster.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
        f"listen_port = {port}\nauth_type = trust\nauth_file = {cluster.folder}/users.txt\npool_mode = {mode}\n"
        "unix_socket_dir =\n"
    )
    user = "postgres" if os.getuid() == 0 else None
    log = subprocess.DEVNULL
    with subprocess.Popen([program, str(settings)], user=user, stdout=log, stderr=log) as process:  # noqa: S603
        try:
            wait_until_open(port)
            yield port
        finally:
            process.terminate()


def wait_until_open(port: int) -> None:
    """Wait until a port accepts connections."""
    deadline = time.monotonic() + 20
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


@contextmanager
def replica_of(cluster: Cluster, name: str) -> Iterator[Cluster]:
    """A replica that follows the cluster (streaming, asynchronous unless the cluster waits for `name`)."""
    folder = cluster.folder / name
    folder.mkdir()
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
    copy = Cluster(folder)
    source = f"host=127.0.0.1 port={cluster.port} user=sora application_name={name}"
    cluster.run("pg_basebackup", "-D", str(copy.data), "-d", source, "-R", "-c", "fast", "-X", "stream")
    copy.start()
    try:
        yield copy
    finally:
        copy.stop("immediate")


def fail_over(cluster: Cluster, copy: Cluster) -> None:
    """The cluster is lost; its copy is promoted and answers at its port from now on."""
    cluster.stop("immediate")
    copy.stop()
    copy.port = cluster.port
    copy.start()
    copy.run("pg_ctl", "-D", str(copy.data), "-w", "promote")


def sessions(cluster: Cluster, database: str) -> int:
    """The number of our connections to a database."""
    rows = cluster.sql(f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'")  # noqa: S608 - our own
    return int(rows[0][0])


def database_name(url: str) -> str:
    """The name of the database in a URL."""
    return str(psycopg.conninfo.conninfo_to_dict(url)["dbname"])
