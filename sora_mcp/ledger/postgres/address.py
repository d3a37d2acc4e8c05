"""Parses the address of a database, and describes it without its user and password."""

from __future__ import annotations

from itertools import cycle

import psycopg
from psycopg.conninfo import conninfo_to_dict

from sora_mcp.core.advice import AskUser, Setting
from sora_mcp.core.errors import FileProblem

_PORT = "5432"


def describe_database(url: str) -> str:
    """Return the database, the hosts and the ports of an address as text. Raises FileProblem if it is invalid."""
    values = parse_address(url)
    hosts = str(values.get("host") or values.get("hostaddr") or "").split(",")
    ports = str(values.get("port") or _PORT).split(",")
    servers = ", ".join(_server(host, port or _PORT) for host, port in zip(hosts, cycle(ports), strict=False))
    name = values.get("dbname")
    return f"database {name} at {servers}" if name else f"the user's own database at {servers}"


def parse_address(url: str) -> dict[str, object]:
    """Return the parts of an address. Raises FileProblem, which quotes nothing of it, if it is invalid."""
    try:
        return dict(conninfo_to_dict(url))
    except psycopg.Error:
        raise FileProblem(
            "The address of the ledger in PostgreSQL cannot be read.",
            AskUser(
                (
                    "set ",
                    Setting("ledger_url"),
                    " to postgresql://USER:PASSWORD@HOST:PORT/DATABASE",
                    ", with nothing behind a ? but parameters that libpq knows, such as sslmode",
                )
            ),
        ) from None


def _server(host: str, port: str) -> str:
    if not host or host.startswith(("/", "@")):
        return f"the socket in {host}, port {port}" if host else f"this machine's socket, port {port}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
