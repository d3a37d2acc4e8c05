"""Loading, before a paid request is sent, all that it may need until its answer is recorded.

Python imports codecs, and libraries import some of their parts, when they are first used. A process that has used up
its file descriptors cannot: the import fails, and with it the reading of an answer that held the id of a paid task.
"""

from __future__ import annotations

import codecs
from functools import cache

CODECS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "cp1252", "idna")
"""What an answer, or a name in it, may have to be decoded with; ASCII, Latin-1 and UTF-8 need no import."""


@cache
def preload() -> None:
    """Import it all, once. Takes about 30 ms, so it is done before the first paid request, not at the start.

    Raises OSError or ImportError if that fails; nothing was sent then.
    """
    for name in CODECS:
        codecs.lookup(name)
    from stamina.instrumentation import set_on_retry_hooks  # noqa: PLC0415 - as said above

    set_on_retry_hooks([])  # the first retry would look for some, and import prometheus_client for them
