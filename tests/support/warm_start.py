"""`python -I -S warm_start.py SOCKET ARGUMENT...`: a command of ours, by the process of `warm` that listens there."""

import json
import os
import signal
import socket
import sys
from contextlib import suppress
from types import FrameType

path, *arguments = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as warm:
    warm.connect(path)
    socket.send_fds(warm, [b"\0"], [0, 1, 2])
    os.umask(umask := os.umask(0))
    start = {
        "arguments": arguments,
        "environ": dict(os.environ),
        "folder": os.getcwd(),  # noqa: PTH109 - pathlib takes long to import
        "umask": umask,
        "leads_session": os.getsid(0) == os.getpid(),
    }
    warm.sendall(json.dumps(start).encode() + b"\n")
    answers = warm.makefile()
    process = int(answers.readline())
    if process == 0:
        os.execv(sys.executable, [sys.executable, "-m", "sora_mcp", *arguments])  # noqa: S606 - ours

    def forward_signal(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(process, number)

    for each in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(each, forward_signal)
    os.closerange(0, 3)
    status = int(answers.readline())
if status < 0:
    signal.signal(-status, signal.SIG_DFL)
    os.kill(os.getpid(), -status)
os._exit(status)
