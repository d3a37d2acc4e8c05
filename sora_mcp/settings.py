"""Everything that can be set: one frozen object read from `SORA_*` environment variables.

Nothing else reads the environment. (pydantic alone does it: pydantic-settings would add a third to the
start of every command, for the one loop in `load`.) A value that is a literal `${…}` (a host that did not expand a
variable) counts as missing.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator
from pydantic.fields import FieldInfo

from sora_mcp.errors import NotConfigured
from sora_mcp.models import Limits

PREFIX = "SORA_"
SANDBOX = "sandbox"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_DOCUMENTATION_HOSTS = ("apifox.cn", "apifox.com")
_NEXT_STEP = (
    "Ask the user to set SORA_BASE_URL (the gateway's address) and SORA_API_KEY (its key) for this server, "
    "or SORA_BASE_URL=sandbox to try everything without a gateway."
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. `base_url` has no trailing slash; `local` means loopback, a private host or the sandbox."""

    base_url: str
    api_key: SecretStr
    local: bool
    sandbox: bool


class Settings(BaseModel):
    """All settings; the field names are the environment variables without `SORA_`.

    Raises pydantic's ValidationError on a value outside the stated range; `load` turns that into
    NotConfigured.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    base_url: str | None = Field(
        None, description="Address of the gateway (https://…), or `sandbox` for the built-in stand-in."
    )
    api_key: SecretStr | None = Field(None, description="The gateway's key. Sent as a Bearer header, nowhere else.")
    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("sora-mcp"),
        description="Folder of the ledger and the sandbox's videos. Default: the platform's data folder.",
    )
    output_dir: Path = Field(
        default_factory=lambda: platformdirs.user_videos_path() / "sora",
        description="Folder that videos are downloaded to. Default: `sora` in the user's video folder.",
    )
    image_dirs: tuple[Path, ...] = Field(
        (),
        description="Folders whose images may be uploaded, separated by `:` (on Windows `;`). Default: none.",
    )
    connect_timeout: float = Field(10, gt=0, le=60, description="Seconds to reach the gateway.")
    create_timeout: float = Field(
        120, gt=0, le=600, description="Seconds to wait for the answer to a create; later its outcome is unknown."
    )
    query_timeout: float = Field(20, gt=0, le=50, description="Seconds for one free request (state, upload).")
    download_timeout: float = Field(50, gt=0, le=3600, description="Seconds for one download; many hosts stop at 60.")
    download_max_mb: int = Field(500, gt=0, description="Largest video to download, in megabytes.")
    duplicate_window: float = Field(
        10, ge=0, le=1440, description="Minutes within which the same request is not paid for twice; 0 turns that off."
    )
    max_cost_per_call: float | None = Field(None, gt=0, description="Most relative cost of one call. Default: no cap.")
    max_cost_per_day: float | None = Field(None, gt=0, description="Most relative cost in 24 hours. Default: no cap.")
    max_running: int | None = Field(None, ge=1, description="Most videos under way at once. Default: no cap.")
    max_variants: int = Field(4, ge=1, description="Most variants in one call (no maximum is documented).")
    extra_sizes: tuple[tuple[int, int], ...] = Field(
        (), description="Sizes the gateway offers beyond the documented ones, such as `1080x1080,1920x1080`."
    )
    extra_frames: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (), description="Lengths in frames the gateway offers beyond 150 and 300, such as `450,600`."
    )
    sdedit_source: Literal["nested", "top"] = Field(
        "nested", description="Where a remix names its source: inside `sdedit`, or `top` (beside it)."
    )
    sandbox_seconds: float = Field(3, ge=0, le=600, description="How long a video of the sandbox takes to make.")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("WARNING", description="What is logged to stderr.")

    @field_validator("home", "output_dir", mode="after")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return _expanded(value).absolute()

    @field_validator("image_dirs", mode="before")
    @classmethod
    def _folders(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(_expanded(Path(part)) for part in value.split(os.pathsep) if part.strip())

    @field_validator("extra_sizes", mode="before")
    @classmethod
    def _sizes(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [
            re.fullmatch(r"\s*([1-9]\d{1,4})x([1-9]\d{1,4})\s*", part) for part in value.split(",") if part.strip()
        ]
        if not all(pairs):
            raise ValueError("sizes look like 1080x1080,1920x1080")
        return tuple((int(pair[1]), int(pair[2])) for pair in pairs if pair)

    @field_validator("extra_frames", mode="before")
    @classmethod
    def _frames(cls, value: object) -> object:
        return tuple(part for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("log_level", mode="before")
    @classmethod
    def _level(cls, value: object) -> object:
        return value.strip().upper() if isinstance(value, str) else value

    @property
    def limits(self) -> Limits:
        """The documented tables, with what these settings add."""
        return Limits(self.extra_sizes, self.extra_frames, self.max_variants)

    def endpoint(self) -> Endpoint:
        """Where requests go. Raises NotConfigured, naming the setting, where that is missing or cannot be right."""
        if self.base_url is None:
            raise NotConfigured("No gateway is configured: SORA_BASE_URL is not set.", _NEXT_STEP)
        if self.base_url.strip().lower() == SANDBOX:
            return Endpoint("http://sandbox", SecretStr("sk-sandbox"), local=True, sandbox=True)
        base_url, local = _checked_address(self.base_url)
        return Endpoint(base_url, self._checked_key(), local=local, sandbox=False)

    def _checked_key(self) -> SecretStr:
        key = (self.api_key.get_secret_value() if self.api_key else "").strip()
        key = re.sub(r"^bearer(\s+|$)", "", key, flags=re.IGNORECASE)
        if not key:
            raise NotConfigured("SORA_API_KEY is not set.", _NEXT_STEP)
        if "${" in key:
            raise NotConfigured("SORA_API_KEY holds ${…}: a variable in it was not expanded.", _NEXT_STEP)
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            raise NotConfigured(
                "SORA_API_KEY holds spaces, line breaks or characters that no key has.", "Ask the user to set it again."
            )
        return SecretStr(key)


def load(environ: Mapping[str, str] = os.environ, **values: Any) -> Settings:
    """The settings of this process; `values` stand above the environment. Raises NotConfigured naming the variable."""
    given = {name: environ.get(f"{PREFIX}{name.upper()}", "") for name in Settings.model_fields} | values
    try:
        return Settings.model_validate({name: value for name, value in given.items() if not _is_missing(value)})
    except ValidationError as error:
        where = error.errors(include_url=False, include_input=False, include_context=False)[0]["loc"]
        raise _unusable(str(where[0]) if where else "") from None


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting as the world knows it: README, manifests, `doctor` and hosts' configurations are made from these.

    `default` is empty where there is none that can be said beforehand.
    """

    name: str
    field: str
    description: str
    format: Literal["string", "number", "filepath"]
    default: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False
    secret: bool = False


def variables() -> tuple[Variable, ...]:
    """Every setting, in the order in which they are shown."""
    return tuple(_variable(name, field) for name, field in Settings.model_fields.items())


def _variable(name: str, field: FieldInfo) -> Variable:
    annotation = field.annotation
    return Variable(
        name=f"{PREFIX}{name.upper()}",
        field=name,
        description=field.description or "",
        format="filepath" if annotation is Path else "number" if annotation in {int, float} else "string",
        default="" if field.default in {None, ()} or field.default_factory is not None else str(field.default),
        choices=get_args(annotation) if get_origin(annotation) is Literal else (),
        required=name in {"base_url", "api_key"},
        secret=SecretStr in get_args(annotation),
    )


def _unusable(name: str) -> NotConfigured:
    """What is said about a bad value: nothing of the value itself, which may be a key."""
    variable, field = f"{PREFIX}{name.upper()}", Settings.model_fields.get(name)
    if field is None:
        return NotConfigured(f"There is no setting {variable}.", "Take it away and start again.")
    return NotConfigured(
        f"The value of {variable} cannot be used; allowed: {_allowed(name)}. Its meaning: {field.description}",
        "Correct it and start again.",
    )


_KINDS = {"integer": "a whole number", "number": "a number", "array": "a list as described", "path": "a folder"}
_BOUNDS = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most"}


def _allowed(name: str) -> str:
    """The values that a setting takes, from its own declaration: choices, or a kind and its bounds."""
    declared: dict[str, Any] = Settings.model_json_schema()["properties"][name]
    about = declared | declared.get("anyOf", [{}])[0]  # the other one is null: not set
    if "enum" in about:
        *others, last = about["enum"]
        return f"{', '.join(others)} or {last}"
    kind = _KINDS.get(about.get("format", about["type"]), "a text")
    return ", ".join([kind, *(f"{words} {about[bound]}" for bound, words in _BOUNDS.items() if bound in about)])


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("no such user") from None


def _is_missing(value: object) -> bool:
    return isinstance(value, str) and (not value.strip() or re.fullmatch(r"\$\{.*\}", value.strip()) is not None)


def _checked_address(given: str) -> tuple[str, bool]:
    """The base URL in its one spelling, without what people paste along, and whether it is local.

    One spelling, because videos are remembered by it: host in small letters, no default port. Raises NotConfigured.
    """
    text = given.strip()
    wrong = "SORA_BASE_URL is not an address that can be used: "
    if "${" in text:
        raise NotConfigured(wrong + "it holds ${…}, a variable that was not expanded.", _NEXT_STEP)
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
    except ValueError:
        raise NotConfigured(wrong + "it cannot be read.", _NEXT_STEP) from None
    if parts.scheme not in {"http", "https"} or not host:
        raise NotConfigured(wrong + "it must begin with https:// and name a host.", _NEXT_STEP)
    if not text.isprintable() or " " in text:
        raise NotConfigured(wrong + "it must not hold spaces, line breaks or invisible characters.", _NEXT_STEP)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise NotConfigured(wrong + "it must not hold a user, a password, a query or a fragment.", _NEXT_STEP)
    if any(host == known or host.endswith(f".{known}") for known in _DOCUMENTATION_HOSTS):
        raise NotConfigured(
            wrong + "this is the host of the API's documentation, not of the API.",
            "Ask the user for the address of the gateway that issued the key.",
        )
    local = is_local_host(host)
    if parts.scheme == "http" and not local:
        raise NotConfigured(
            wrong + "plain http would send the key unencrypted; it is allowed only to this machine and private hosts.",
            "Ask the user to use https://.",
        )
    path = re.sub(r"(/sora)?/v1(/videos)?$", "", parts.path.rstrip("/")).rstrip("/")
    shown = f"[{host}]" if ":" in host else host
    if port is not None and port != _DEFAULT_PORTS[parts.scheme]:
        shown += f":{port}"
    return f"{parts.scheme}://{shown}{path}", local


def is_local_host(host: str) -> bool:
    """Whether a host is this machine or on a private network, by its name or address alone."""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        last = host.rsplit(".", 1)[-1].lower()
        if re.fullmatch(r"\d+|0x[0-9a-f]*", last):  # an IPv4 address in one of its old notations: 134744072, 0x08080808
            return False
        return "." not in host or last in {"localhost", "local", "internal", "lan", "home"}
    return not address.is_global
