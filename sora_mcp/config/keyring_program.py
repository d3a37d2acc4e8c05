"""The program that asks the system's key store, in a process of its own: it may hang, print, or bring threads along.

It reads one question as JSON from stdin, `{"do": "get" | "set" | "delete", "service", "address", "seconds"}` with a
`key` to set, and answers on stdout with `{"key": … | null}` or `{"problem": "absent" | "locked" | "failed"}`. It is
started by its path and imports nothing of ours.
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
        import keyring  # noqa: PLC0415 - where it is not installed, that is the answer
        from keyring.errors import KeyringLocked, NoKeyringError, PasswordDeleteError  # noqa: PLC0415
    except ImportError:
        return {"problem": "absent"}
    place = question["service"], question["address"]
    try:
        if question["do"] == "set":
            keyring.set_password(*place, question["key"])
        elif question["do"] == "delete":
            keyring.delete_password(*place)
        else:
            return {"key": keyring.get_password(*place)}
    except NoKeyringError:
        return {"problem": "absent"}
    except KeyringLocked:
        return {"problem": "locked"}
    except PasswordDeleteError:  # there was none
        return {"key": None}
    except Exception:  # noqa: BLE001 - each key store has errors of its own
        return {"problem": "failed"}
    return {"key": None}


def _end_after(seconds: float) -> None:
    """End this process and what a key store started, also where whoever asked is gone by then."""
    timer = threading.Timer(seconds, _end_all)
    timer.daemon = True
    timer.start()
    faulthandler.dump_traceback_later(seconds + 1, exit=True, file=sys.stderr)  # should no thread of Python's run


def _end_all() -> None:
    if sys.platform != "win32" and os.getpgrp() == os.getpid():  # the others of this group were started from here
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


def main() -> None:
    """Answer one question; end by force where that takes longer than its `seconds`."""
    question = json.loads(sys.stdin.buffer.read())
    _end_after(question["seconds"])
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a key store prints is no answer
    answers.write(json.dumps(_answer(question)).encode())
    answers.flush()
    os._exit(0)  # a key store may leave threads behind


if __name__ == "__main__":
    main()
