"""How long the hosts of this server let a call wait, by session."""

from __future__ import annotations

from sora_mcp.tools import Patience

MOST_SESSIONS = 1000
"""Sessions that are remembered; beyond that the one that called first is forgotten."""


class PatienceOfSessions:
    """What each session's time-outs have shown."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Patience] = {}

    def of(self, session_id: str | None, owner: str = "") -> Patience:
        """The patience of an owner's session; of a call that belongs to none, nothing is known and nothing is kept."""
        if session_id is None:
            return Patience()
        patience = self._known.setdefault((owner, session_id), Patience())
        while len(self._known) > MOST_SESSIONS:
            del self._known[next(iter(self._known))]
        return patience
