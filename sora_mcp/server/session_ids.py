"""The ids of sessions that any of several servers can serve: an id holds what its client declared, and whose it is."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from typing import Any

from mcp_types.version import HANDSHAKE_PROTOCOL_VERSIONS
from msgspec import Struct

_PREFIX = "any."
_MODES = ("form", "url")


class SessionClient(Struct, frozen=True):
    """What a client declared in `initialize`. `modes`: those in which its user can be asked, None if none."""

    version: str
    modes: tuple[str, ...] | None

    @classmethod
    def from_params(cls, params: dict[str, Any]) -> SessionClient:
        """Create it from the params of `initialize`."""
        capabilities = params.get("capabilities")
        elicitation = capabilities.get("elicitation") if isinstance(capabilities, dict) else None
        modes = tuple(mode for mode in _MODES if mode in elicitation) if isinstance(elicitation, dict) else None
        version = params.get("protocolVersion")
        return cls(version if version in HANDSHAKE_PROTOCOL_VERSIONS else HANDSHAKE_PROTOCOL_VERSIONS[-1], modes)

    @property
    def initialize_request(self) -> dict[str, Any]:
        """The request with which the client would open its session again."""
        capabilities: dict[str, Any] = {} if self.modes is None else {"elicitation": {mode: {} for mode in self.modes}}
        client_info = {"name": "client", "version": "1"}
        params = {"protocolVersion": self.version, "capabilities": capabilities, "clientInfo": client_info}
        return {"jsonrpc": "2.0", "id": "open", "method": "initialize", "params": params}


def encode_id(client: SessionClient, owner: str) -> str:
    """Return a new id for a session of this client and owner."""
    nonce = secrets.token_hex(16)
    modes = None if client.modes is None else list(client.modes)
    text = json.dumps([nonce, _owner_digest(nonce, owner), client.version, modes], separators=(",", ":"))
    return _PREFIX + base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def decode_id(session_id: str, owner: str) -> SessionClient | None:
    """Return the client that opened a session; None if the id is invalid, or belongs to another owner."""
    text = session_id.removeprefix(_PREFIX)
    if text == session_id or len(text) > 1000:
        return None
    try:
        nonce, digest, version, modes = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if digest != _owner_digest(nonce, owner) or version not in HANDSHAKE_PROTOCOL_VERSIONS:
            return None
        return SessionClient(version, None if modes is None else tuple(mode for mode in _MODES if mode in modes))
    except (ValueError, TypeError):
        return None


def _owner_digest(nonce: str, owner: str) -> str:
    """Return a digest of a session's owner. It need not be secret: callers authenticate with their token."""
    return hashlib.sha256(f"{nonce} {owner}".encode()).hexdigest()[:32]
