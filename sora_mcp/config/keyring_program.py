"""The program that queries the system's key store, in a separate process: a key store may hang, print or start threads.

It reads one question as JSON from stdin, `{"do": "get" | "set" | "delete", "service", "address", "seconds"}` with a
`key` to set, and answers on stdout with `{"key": … | null}` or `{"problem": "absent" | "locked" | "failed"}`. It is
started by its path and imports nothing from this package.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
from typing import Any


def _answer(question: dict[str, Any]) -> dict[str, Any]:
    try:
        import keyring  # noqa: PLC0415 - it may not be installed
        from keyring.errors import KeyringLocked, NoKeyringError, PasswordDeleteError  # noqa: PLC0415
    except ImportError:
        return {"problem": "absent"}
    entry = question["service"], question["address"]
    try:
        if question["do"] == "set":
            keyring.set_password(*entry, question["key"])
        elif question["do"] == "delete":
            keyring.delete_password(*entry)
        else:
            return {"key": keyring.get_password(*entry)}
    except NoKeyringError:
        return {"problem": "absent"}
    except KeyringLocked:
        return {"problem": "locked"}
    except PasswordDeleteError:  # there was no key
        return {"key": None}
    except Exception:  # noqa: BLE001 - each key store has errors of its own
        return {"problem": "failed"}
    return {"key": None}


def _exit_after(seconds: float) -> None:
    """End this process and what a key store started after `seconds`, even if the parent process no longer exists."""
    timer = threading.Timer(seconds, _kill_all)
    timer.daemon = True
    timer.start()
    faulthandler.dump_traceback_later(seconds + 1, exit=True, file=sys.stderr)  # in case no Python thread can run


def _kill_all() -> None:
    if sys.platform != "win32" and os.getpgrp() == os.getpid():  # the rest of this group was started from here
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Answer one question; exit by force if that takes longer than its `seconds`."""
    question = json.loads(sys.stdin.buffer.read())
    _exit_after(question["seconds"])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a key store prints is no answer
    answers.write(json.dumps(_answer(question)).encode())
    answers.flush()
    os._exit(0)  # a key store may leave threads behind


if __name__ == "__main__":
    main()
