"""The system's key store, by way of `keyring`: each question in a process that is ended after a few seconds."""

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
"""What our keys stand under in the key store; the account there is the gateway's address."""

WITHIN_S = 3.0
"""Seconds for one question: without a desktop a key store may wait for ever for somebody to unlock it."""

UNLOCKED_WITHIN_S = 30.0
"""The same where a person sits at the terminal, who may be asked to unlock it."""

_PROGRAM = Path(__file__).with_name("keyring_program.py")

Problem = Literal["absent", "locked", "silent", "failed"]


class KeyStoreProblem(Exception):
    """The key store is `absent` (or keyring is not installed), `locked`, `silent` for too long, or `failed`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem)
        self.problem = problem


WORDS: dict[Problem, str] = {
    "absent": "there is no key store on this machine, or the package keyring is not installed",
    "locked": "the system's key store is locked",
    "silent": "the system's key store did not answer in time",
    "failed": "the system's key store failed",
}
"""What a problem is, as a clause."""


def stored_key(address: str) -> str | None:
    """The key that is kept for an address; None where there is none. Raises KeyStoreProblem."""
    key = _asked("get", address, WITHIN_S).get("key")
    return key if isinstance(key, str) and key else None


def store_key(address: str, key: str, *, within_s: float = WITHIN_S) -> bool:
    """Keep a key, and say whether another process can read it back: a null backend keeps nothing.

    Raises KeyStoreProblem.
    """
    _asked("set", address, within_s, key=key)
    return stored_key(address) == key


def delete_key(address: str) -> None:
    """Take a key out, if one is there. Raises KeyStoreProblem."""
    _asked("delete", address, WITHIN_S)


def _asked(what: str, address: str, within_s: float, **more: str) -> dict[str, Any]:
    question = {"do": what, "service": SERVICE, "address": address, "seconds": within_s + 1} | more
    answer = _answer(json.dumps(question).encode(), within_s)
    if "problem" in answer:
        raise KeyStoreProblem(answer["problem"])
    return answer


def _answer(question: bytes, within_s: float) -> dict[str, Any]:
    """What the program says. In a session of its own: it cannot ask at this terminal, and ends with its children."""
    try:
        process = subprocess.Popen(  # noqa: S603 - a program of ours
            [sys.executable, "-P", str(_PROGRAM)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if not name.upper().startswith(PREFIX)},
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),  # of Windows
        )
    except OSError:
        raise KeyStoreProblem("failed") from None
    try:
        output, _ = process.communicate(question, timeout=within_s)
        answer: dict[str, Any] = json.loads(output)
    except subprocess.TimeoutExpired:
        raise KeyStoreProblem("silent") from None
    except (OSError, ValueError):
        raise KeyStoreProblem("failed") from None
    finally:
        _end(process)
    return answer


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process and what it started; nothing more is read from them."""
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
