"""What to do about the gateway's address and its key: the `action` for "please" and for "ask the user to"."""

from __future__ import annotations

from sora_mcp.core.advice import CheckKey, Configure, LogIn, Message, Setting, UnlockKeyStore

GatewayAdvice = Configure | CheckKey | LogIn | UnlockKeyStore

_ADDRESS, _KEY = Setting("base_url"), Setting("api_key")
GATEWAY_ADVICE: dict[type[GatewayAdvice], Message] = {
    Configure: (
        *("set ", _ADDRESS, " (the gateway's address) and ", _KEY, " (its key), "),
        *("run `sora-mcp login`, which asks for both, or set ", _ADDRESS),
        "=sandbox to try everything without a gateway",
    ),
    CheckKey: ("check ", _KEY, ", or run `sora-mcp login` again if the key came from there"),
    LogIn: ("run `sora-mcp login` at a shell, or set ", _ADDRESS, " and ", _KEY),
    UnlockKeyStore: ("unlock the key store, run `sora-mcp login --store file`, or set ", _KEY),
}
"""An infinitive without "to", for each advice."""
