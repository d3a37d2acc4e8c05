"""Where requests go, with which key, and in which dialect."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from msgspec import Struct

from sora_mcp.config.addresses import normalize_address
from sora_mcp.config.converters import Secret, StoredKey, strip_quotes
from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import AskUser, Configure
from sora_mcp.core.errors import NotConfigured

SORA = "sora"
VIDEOS = "videos"
OPENROUTER = "openrouter"
PROFILES = ("generic", "vllm-omni", "sglang", "tensorrt-llm", "new-api")
"""Names of the profiles of servers that speak `/v1/videos`."""


UPSTREAMS = (SORA, *(f"{VIDEOS}:{profile}" for profile in PROFILES), OPENROUTER)
"""The values of SORA_DIALECT."""


_HOSTS = {"openrouter.ai": OPENROUTER}
"""Hosts that speak a single dialect."""


def upstream_at(base_url: str | None) -> str | None:
    """Return the dialect spoken at an address if its host alone determines it, else None."""
    try:
        host = (urlsplit((base_url or "").strip()).hostname or "").removesuffix(".")
    except ValueError:
        return None
    return next((upstream for name, upstream in _HOSTS.items() if host == name or host.endswith(f".{name}")), None)


def needs_key(upstream: str, *, is_local: bool) -> bool:
    """Whether an upstream requires a key: self-hosted servers on this machine or network mostly have none."""
    return upstream == SORA or not is_local


SANDBOX = "sandbox"
IN_PROCESS = "http://sandbox"
"""The address of the sandbox in this process; it is never connected to."""
SANDBOX_HEADER = "x-sora-sandbox"
"""The header by which every answer of the sandbox identifies it, also when it is served over HTTP."""
NOTICE = "This is the sandbox: pictures are drawn placeholders, and nothing is charged."
NOTICE_EXPLAINED = (
    "A prompt appears only as a caption: what it asks for is not drawn, so the pictures say nothing about a prompt or "
    "a model. Costs are counted as at a real gateway, to try out caps. For real videos a person sets "
    f"{variable_of('base_url')} and {variable_of('api_key')}."
)
_KEY = variable_of("api_key")


class Endpoint(Struct, frozen=True):
    """Where requests go. `base_url` has no trailing slash; `local` means loopback, a private host or the sandbox.

    With an empty `api_key` no key is sent.
    """

    base_url: str
    api_key: Secret
    local: bool
    sandbox: bool

    @property
    def label(self) -> str:
        """The gateway's display name: its host and path, or `sandbox`."""
        return label_of(self.base_url)

    @property
    def notice(self) -> str | None:
        """A caveat on everything made there; None if there is none."""
        return NOTICE if self.sandbox else None

    @property
    def description(self) -> str:
        """A clause for a gateway that answers."""
        if self.sandbox:
            return "the built-in sandbox; nothing real is made and nothing is charged"
        return f"{self.base_url} answers"


def is_sandbox(base_url: str | None) -> bool:
    """Whether the setting names the built-in sandbox instead of an address."""
    return base_url is not None and base_url.strip().lower() == SANDBOX


class NotSet(NotConfigured):
    """The gateway's address or its key is not set."""


def label_of(base_url: str) -> str:
    """Return the display name of the gateway at an address."""
    return SANDBOX if base_url == IN_PROCESS else base_url.partition("://")[2]


def make_endpoint(base_url: str | None, api_key: Secret | None, upstream: str) -> Endpoint:
    """Build the endpoint from the settings. Raises NotConfigured, naming the setting that is missing or invalid."""
    if base_url is None:
        raise NotSet(("No gateway is configured: ", variable_of("base_url"), " is not set."), Configure())
    if is_sandbox(base_url):
        return Endpoint(IN_PROCESS, Secret("sk-sandbox"), local=True, sandbox=True)
    address, local = _normalize_address(base_url, upstream)
    if not isinstance(api_key, StoredKey):  # a stored key was validated before it was stored
        api_key = normalize_key(api_key, is_needed=needs_key(upstream, is_local=local))
    return Endpoint(address, api_key, local=local, sandbox=False)


def gateway_address(base_url: str, upstream: str) -> str:
    """Return the gateway's address in canonical form. Raises NotConfigured."""
    return _normalize_address(base_url, upstream)[0]


def _normalize_address(base_url: str, upstream: str) -> tuple[str, bool]:
    address, local = normalize_address(base_url)
    if upstream == OPENROUTER:
        address = re.sub(r"(/+api)?(/+v1/+videos/+models)?$", "", address)  # the dialect's paths begin with /api
    return address, local


def normalize_key(api_key: Secret | None, *, is_needed: bool) -> Secret:
    """Return the key without pasted spaces, quotes or the word Bearer. Raises NotConfigured."""
    key = (api_key.get_secret_value() if api_key else "").strip()
    key = strip_quotes(re.sub(r"^bearer(\s+|$)", "", key, flags=re.IGNORECASE))
    if not key and not is_needed:
        return Secret("")
    if not key:
        raise NotSet((_KEY, " is not set."), Configure())
    if "${" in key:
        raise NotConfigured((_KEY, " holds ${…}: a variable in it was not expanded."), Configure())
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise NotConfigured(
            (_KEY, " holds spaces, line breaks or characters that no key has."), AskUser("set it again")
        )
    return Secret(key)
