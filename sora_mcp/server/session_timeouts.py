"""How long the hosts of this server let a call wait, for each session."""

from __future__ import annotations

from sora_mcp.tools import HostTimeout

MAX_SESSIONS = 1000
"""Sessions that are stored; beyond that the one that called first is dropped."""


class SessionTimeouts:
    """What is known about the time-outs of each session."""

    def __init__(self) -> None:
        self._by_session: dict[tuple[str, str], HostTimeout] = {}

    def get(self, session_id: str | None, owner: str = "") -> HostTimeout:
        """Return what is known about an owner's session. For a call outside a session nothing is known or stored."""
        if session_id is None:
            return HostTimeout()
        host_timeout = self._by_session.setdefault((owner, session_id), HostTimeout())
        while len(self._by_session) > MAX_SESSIONS:
            del self._by_session[next(iter(self._by_session))]
        return host_timeout
