"""Where requests go, with which key, and what is spoken there."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from msgspec import Struct

from sora_mcp.config.addresses import checked_address
from sora_mcp.config.converters import Secret, StoredKey, unquoted
from sora_mcp.config.spelling import variable_of
from sora_mcp.core.advice import AskUser, Configure
from sora_mcp.core.errors import NotConfigured

SORA = "sora"
VIDEOS = "videos"
OPENROUTER = "openrouter"
PROFILES = ("generic", "vllm-omni", "sglang", "tensorrt-llm", "new-api")
"""What is known of the servers that speak `/v1/videos`, by name."""


UPSTREAMS = (SORA, *(f"{VIDEOS}:{profile}" for profile in PROFILES), OPENROUTER)
"""The values of the setting."""


_HOSTS = {"openrouter.ai": OPENROUTER}
"""Hosts that speak one thing only."""


def upstream_at(base_url: str | None) -> str | None:
    """What is spoken at an address, where its host alone tells that."""
    try:
        host = (urlsplit((base_url or "").strip()).hostname or "").removesuffix(".")
    except ValueError:
        return None
    return next((upstream for name, upstream in _HOSTS.items() if host == name or host.endswith(f".{name}")), None)


def needs_key(upstream: str, *, is_local: bool) -> bool:
    """Whether an upstream has to be given a key: servers of one's own, on this machine or network, mostly have none."""
    return upstream == SORA or not is_local


SANDBOX = "sandbox"
IN_PROCESS = "http://sandbox"
"""The address of a gateway in this process: nothing outside opens what stands there."""
SANDBOX_HEADER = "x-sora-sandbox"
"""With it the sandbox says in every answer what it is, also where it is served."""
NOTICE = "This is the sandbox: pictures are drawn placeholders, and nothing is charged."
NOTICE_EXPLAINED = (
    "A prompt appears only as a caption: what it asks for is not drawn, so the pictures say nothing about a prompt or "
    "a model. Costs are counted as at a real gateway, to try out caps. For real videos a person sets "
    f"{variable_of('base_url')} and {variable_of('api_key')}."
)
_KEY = variable_of("api_key")


class Endpoint(Struct, frozen=True):
    """Where requests go. `base_url` has no trailing slash; `local` means loopback, a private host or the sandbox.

    An empty `api_key` is none, and none is sent.
    """

    base_url: str
    api_key: Secret
    local: bool
    sandbox: bool

    @property
    def label(self) -> str:
        """The gateway's name for people: its host and path, or `sandbox`."""
        return label_of(self.base_url)

    @property
    def notice(self) -> str | None:
        """What is to be known of everything that is made there; None where that is just what was asked for."""
        return NOTICE if self.sandbox else None

    @property
    def about(self) -> str:
        """What to say of it where it answers."""
        if self.sandbox:
            return "the built-in sandbox; nothing real is made and nothing is charged"
        return f"{self.base_url} answers"


def is_sandbox(base_url: str | None) -> bool:
    """Whether the built-in sandbox is named instead of an address."""
    return base_url is not None and base_url.strip().lower() == SANDBOX


class NotSet(NotConfigured):
    """The gateway's address, or its key, is nowhere set."""


def label_of(base_url: str) -> str:
    """The name for people of the gateway at an address."""
    return SANDBOX if base_url == IN_PROCESS else base_url.partition("://")[2]


def endpoint_of(base_url: str | None, api_key: Secret | None, upstream: str = SORA) -> Endpoint:
    """The endpoint that the settings name. Raises NotConfigured, naming the setting that is missing or wrong."""
    if base_url is None:
        raise NotSet(("No gateway is configured: ", variable_of("base_url"), " is not set."), Configure())
    if is_sandbox(base_url):
        return Endpoint(IN_PROCESS, Secret("sk-sandbox"), local=True, sandbox=True)
    address, local = _address(base_url, upstream)
    if not isinstance(api_key, StoredKey):  # that one was checked before it was kept
        api_key = checked_key(api_key, is_needed=needs_key(upstream, is_local=local))
    return Endpoint(address, api_key, local=local, sandbox=False)


def address_of(base_url: str, upstream: str) -> str:
    """The gateway's address in its one spelling. Raises NotConfigured."""
    return _address(base_url, upstream)[0]


def _address(base_url: str, upstream: str) -> tuple[str, bool]:
    address, local = checked_address(base_url)
    if upstream == OPENROUTER:
        address = re.sub(r"(/+api)?(/+v1/+videos/+models)?$", "", address)  # its paths begin with /api themselves
    return address, local


def checked_key(api_key: Secret | None, *, is_needed: bool) -> Secret:
    """The key without what people paste along: spaces, quotes, the word Bearer. Raises NotConfigured."""
    key = (api_key.get_secret_value() if api_key else "").strip()
    key = unquoted(re.sub(r"^bearer(\s+|$)", "", key, flags=re.IGNORECASE))
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
