"""Run sora-mcp and log its imports and opened files, one line each: `audited.py FILE [ARGUMENT ...]`."""

from __future__ import annotations

import os
import sys

WATCHED = {"import", "open", "sqlite3.connect"}
"""Audit events (docs.python.org, library/audit_events) that use a file descriptor, or may."""


def main(file: str, *arguments: str) -> None:
    log = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write_down(event: str, details: tuple[object, ...]) -> None:
        if event in WATCHED:
            os.write(log, f"{event} {details[0]!r}\n".encode())

    sys.addaudithook(write_down)
    sys.argv = ["sora-mcp", *arguments]
    from sora_mcp.__main__ import main as run  # noqa: PLC0415 - its imports are to be logged

    run()


if __name__ == "__main__":
    main(*sys.argv[1:])
