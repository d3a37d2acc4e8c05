"""What is to be done about the gateway's address and its key: what `to` is of "please" and of "ask the user"."""

from __future__ import annotations

from sora_mcp.core.advice import CheckKey, Configure, LogIn, Message, Setting, UnlockKeyStore

AboutGateway = Configure | CheckKey | LogIn | UnlockKeyStore

_ADDRESS, _KEY = Setting("base_url"), Setting("api_key")
ABOUT_GATEWAY: dict[type[AboutGateway], Message] = {
    Configure: (
        *("set ", _ADDRESS, " (the gateway's address) and ", _KEY, " (its key), "),
        *("run `sora-mcp login`, which asks for both, or set ", _ADDRESS),
        "=sandbox to try everything without a gateway",
    ),
    CheckKey: ("check ", _KEY, ", or run `sora-mcp login` again if the key came from there"),
    LogIn: ("run `sora-mcp login` at a shell, or set ", _ADDRESS, " and ", _KEY),
    UnlockKeyStore: ("unlock the key store, run `sora-mcp login --store file`, or set ", _KEY),
}
"""An infinitive without its "to", for each."""
