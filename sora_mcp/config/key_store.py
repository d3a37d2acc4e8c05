"""The system's key store, through `keyring`: each call runs in a process that is killed after a few seconds."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from sora_mcp.config.spelling import PREFIX

SERVICE = "sora_mcp"
"""The service name in the key store; the account name is the gateway's address."""

TIMEOUT_S = 3.0
"""For one call: without a desktop a key store may wait for ever to be unlocked."""

UNLOCK_TIMEOUT_S = 30.0
"""The same if a person at the terminal can unlock it."""

_PROGRAM = Path(__file__).with_name("keyring_program.py")

Problem = Literal["absent", "locked", "silent", "failed"]


class KeyStoreProblem(Exception):
    """The key store is `absent` (or keyring is not installed), `locked`, `silent` for too long, or `failed`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


DESCRIPTIONS: dict[Problem, str] = {
    "absent": "there is no key store on this machine, or the package keyring is not installed",
    "locked": "the system's key store is locked",
    "silent": "the system's key store did not answer in time",
    "failed": "the system's key store failed",
}
"""Each problem as a clause."""


def get_key(address: str) -> str | None:
    """Return the key for an address, or None. Raises KeyStoreProblem."""
    key = _ask("get", address, TIMEOUT_S).get("key")
    return key if isinstance(key, str) and key else None


def store_key(address: str, key: str, *, timeout_s: float = TIMEOUT_S) -> bool:
    """Store a key; return whether another process can read it back, since a null backend stores nothing.

    Raises KeyStoreProblem.
    """
    _ask("set", address, timeout_s, key=key)
    return get_key(address) == key


def delete_key(address: str) -> None:
    """Delete the key for an address, if there is one. Raises KeyStoreProblem."""
    _ask("delete", address, TIMEOUT_S)


def _ask(action: str, address: str, timeout_s: float, **extra: str) -> dict[str, Any]:
    question = {"do": action, "service": SERVICE, "address": address, "seconds": timeout_s + 1} | extra
    answer = _run_program(json.dumps(question).encode(), timeout_s)
    if "problem" in answer:
        raise KeyStoreProblem(answer["problem"])
    return answer


def _run_program(question: bytes, timeout_s: float) -> dict[str, Any]:
    """Run `keyring_program` on one question and return its answer. Raises KeyStoreProblem.

    It gets a session of its own, so that it cannot prompt at this terminal, and its children are killed with it.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)},
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # exists on Windows only
        )
    except OSError:
        raise KeyStoreProblem("failed") from None
    try:
        output, _ = process.communicate(question, timeout=timeout_s)
        answer: dict[str, Any] = json.loads(output)
    except subprocess.TimeoutExpired:
        raise KeyStoreProblem("silent") from None
    except (OSError, ValueError):
        raise KeyStoreProblem("failed") from None
    finally:
        _kill(process)
    return answer


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process and its children; nothing more is read from them."""
    with suppress(OSError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(1)
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
