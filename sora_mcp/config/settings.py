"""Everything that can be set: one frozen object read from `SORA_*` environment variables.

Nothing else reads the environment. (A plain dataclass: every command starts with this, and the models of pydantic
alone would take longer than the shortest of them.) A value that is a literal `${…}` (a host that did not expand a
variable) counts as missing; quotes round a value are taken off, which some hosts leave there.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from sora_mcp.config import converters as kinds
from sora_mcp.config.converters import Format, Kind, Secret
from sora_mcp.config.spelling import PREFIX, UnknownVariable, unknown_variables
from sora_mcp.core.errors import NotConfigured

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
    api_key: Secret
    local: bool
    sandbox: bool

    @property
    def label(self) -> str:
        """The gateway's name for people: its host and path, or `sandbox`."""
        return SANDBOX if self.sandbox else self.base_url.partition("://")[2]

    @property
    def about(self) -> str:
        """What to say of it where it answers."""
        if self.sandbox:
            return "the built-in sandbox; nothing real is made and nothing is charged"
        return f"{self.base_url} answers"


def _about(description: str, kind: Kind) -> dict[str, Any]:
    return {"description": description, "kind": kind}


def _data_folder() -> Path:
    with _known_home("SORA_HOME"):
        import platformdirs  # noqa: PLC0415 - only where no folder is named

        return platformdirs.user_data_path("sora-mcp")


def _video_folder() -> Path:
    with _known_home("SORA_OUTPUT_DIR"):
        import platformdirs  # noqa: PLC0415

        return platformdirs.user_videos_path() / "sora"


@contextmanager
def _known_home(setting: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError:
        raise NotConfigured("The home folder of this user is not known.", f"Set HOME, or {setting}.") from None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings; the field names are the environment variables without `SORA_`. Made by `load`, which checks them.

    `given` names those that were set; the others have their defaults. `unknown` are variables that look like settings
    and are none.
    """

    base_url: str | None = field(
        default=None,
        metadata=_about("Address of the gateway (https://…), or `sandbox` for the built-in stand-in.", kinds.text()),
    )
    api_key: Secret | None = field(
        default=None, metadata=_about("The gateway's key. Sent as a Bearer header, nowhere else.", kinds.secret())
    )
    home: Path = field(
        default_factory=_data_folder,
        metadata=_about(
            "Folder of the ledger and the sandbox's videos. Default: the platform's data folder.", kinds.folder()
        ),
    )
    output_dir: Path = field(
        default_factory=_video_folder,
        metadata=_about(
            "Folder that videos are downloaded to. Default: `sora` in the user's video folder.", kinds.folder()
        ),
    )
    image_dirs: tuple[Path, ...] = field(
        default=(),
        metadata=_about(
            "Folders whose images may be uploaded, separated by `:` (on Windows `;`). Default: none.", kinds.folders()
        ),
    )
    connect_timeout: float = field(
        default=10, metadata=_about("Seconds to reach the gateway.", kinds.number(above=0, most=60))
    )
    create_timeout: float = field(
        default=120,
        metadata=_about(
            "Seconds to wait for the answer to a create; later its outcome is unknown.", kinds.number(above=0, most=600)
        ),
    )
    query_timeout: float = field(
        default=20, metadata=_about("Seconds for one free request (state, upload).", kinds.number(above=0, most=50))
    )
    download_timeout: float = field(
        default=50,
        metadata=_about("Seconds for one download; many hosts stop at 60.", kinds.number(above=0, most=3600)),
    )
    download_max_mb: int = field(
        default=500, metadata=_about("Largest video to download, in megabytes.", kinds.whole(above=0))
    )
    save_finished: bool = field(
        default=False,
        metadata=_about("Whether finished videos are saved by themselves, in SORA_OUTPUT_DIR.", kinds.yes_no()),
    )
    duplicate_window: float = field(
        default=10,
        metadata=_about(
            "Minutes within which the same request is not paid for twice; 0 turns that off.",
            kinds.number(least=0, most=1440),
        ),
    )
    max_cost_per_call: float | None = field(
        default=None, metadata=_about("Most relative cost of one call. Default: no cap.", kinds.number(above=0))
    )
    max_cost_per_day: float | None = field(
        default=None, metadata=_about("Most relative cost in 24 hours. Default: no cap.", kinds.number(above=0))
    )
    ask_above_cost: float | None = field(
        default=None,
        metadata=_about(
            "Relative cost above which the user is asked first, in hosts that can ask. Default: never.",
            kinds.number(least=0),
        ),
    )
    max_running: int | None = field(
        default=None, metadata=_about("Most videos under way at once. Default: no cap.", kinds.whole(least=1))
    )
    max_prompt_length: int = field(
        default=10_000,
        metadata=_about("Most characters of a prompt, or of a beat's description.", kinds.whole(least=1)),
    )
    max_variants: int = field(
        default=4, metadata=_about("Most variants in one call (no maximum is documented).", kinds.whole(least=1))
    )
    extra_sizes: tuple[tuple[int, int], ...] = field(
        default=(),
        metadata=_about(
            "Sizes the gateway offers beyond the documented ones, such as `1080x1080,1920x1080`.", kinds.sizes()
        ),
    )
    extra_frames: tuple[int, ...] = field(
        default=(),
        metadata=_about("Lengths in frames the gateway offers beyond 150 and 300, such as `450,600`.", kinds.frames()),
    )
    sdedit_source: Literal["nested", "top"] = field(
        default="nested",
        metadata=_about(
            "Where a remix names its source: inside `sdedit`, or `top` (beside it).", kinds.choice("nested", "top")
        ),
    )
    owner: str | None = field(
        default=None,
        metadata=_about(
            "Whose videos these are, where several people share a key and a ledger; each sees only their own.",
            kinds.text(r"[A-Za-z0-9._@-]{1,64}", "1 to 64 letters, digits or . _ @ -"),
        ),
    )
    sandbox_seconds: float = field(
        default=3,
        metadata=_about("How long a video of the sandbox takes to make.", kinds.number(least=0, most=600)),
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = field(
        default="WARNING",
        metadata=_about("What is logged to stderr.", kinds.choice("DEBUG", "INFO", "WARNING", "ERROR")),
    )
    given: frozenset[str] = field(default=frozenset(), compare=False)
    unknown: tuple[UnknownVariable, ...] = field(default=(), compare=False)

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.home / "ledger.sqlite3"

    @property
    def key_to_strike(self) -> str:
        """What of the key must never be shown: all but the word Bearer that people paste along; empty without a key."""
        words = self.api_key.get_secret_value().split() if self.api_key else []
        return kinds.unquoted(words[-1]) if words else ""

    def check_guards_spelling(self) -> None:
        """Raise NotConfigured where a variable is set that may be meant as a cap or another guard, but is none."""
        suspects = [each for each in self.unknown if each.guards]
        if suspects:
            raise NotConfigured(
                f"{' '.join(map(str, suspects[:3]))} Nothing that costs money is submitted while a guard against costs "
                "may be misspelt.",
                "Ask the user to correct its name, or to remove it, and to start this server again.",
            )

    def endpoint(self) -> Endpoint:
        """Where requests go. Raises NotConfigured, naming the setting, where that is missing or cannot be right."""
        if self.base_url is None:
            raise NotConfigured("No gateway is configured: SORA_BASE_URL is not set.", _NEXT_STEP)
        if self.base_url.strip().lower() == SANDBOX:
            return Endpoint("http://sandbox", Secret("sk-sandbox"), local=True, sandbox=True)
        base_url, local = checked_address(self.base_url)
        return Endpoint(base_url, self._checked_key(), local=local, sandbox=False)

    def _checked_key(self) -> Secret:
        key = (self.api_key.get_secret_value() if self.api_key else "").strip()
        key = kinds.unquoted(re.sub(r"^bearer(\s+|$)", "", key, flags=re.IGNORECASE))
        if not key:
            raise NotConfigured("SORA_API_KEY is not set.", _NEXT_STEP)
        if "${" in key:
            raise NotConfigured("SORA_API_KEY holds ${…}: a variable in it was not expanded.", _NEXT_STEP)
        if not re.fullmatch(r"[\x21-\x7e]+", key):
            raise NotConfigured(
                "SORA_API_KEY holds spaces, line breaks or characters that no key has.", "Ask the user to set it again."
            )
        return Secret(key)


_FIELDS: dict[str, Field[Any]] = {each.name: each for each in fields(Settings) if each.metadata}


def load(environ: Mapping[str, str] = os.environ, **values: Any) -> Settings:
    """The settings of this process; `values` stand above the environment. Raises NotConfigured naming the variable."""
    found = {name: environ.get(f"{PREFIX}{name.upper()}", "") for name in _FIELDS} | values
    given = {name: _read(name, value) for name, value in found.items() if not _is_missing(value)}
    return Settings(**given, given=frozenset(given), unknown=_unknown(environ))


def _unknown(environ: Mapping[str, str]) -> tuple[UnknownVariable, ...]:
    """The variables that look like ours and are none; one without a value says nothing."""
    ours = [name for name in environ if name.lstrip()[:4].upper() == PREFIX[:4]]
    names = sorted(name for name in ours if not _is_missing(environ[name]))
    return tuple(unknown_variables(names, (f"{PREFIX}{name.upper()}" for name in _FIELDS)))


def load_what_can_be(environ: Mapping[str, str] = os.environ) -> tuple[Settings, list[NotConfigured]]:
    """The settings as far as they can be used, and what is wrong with the others, which count as not set."""
    usable: dict[str, str] = {}
    wrong: list[NotConfigured] = []
    for name in _FIELDS:
        variable = f"{PREFIX}{name.upper()}"
        given = environ.get(variable, "")
        try:
            if not _is_missing(given):
                _read(name, given)
                usable[variable] = given
        except NotConfigured as error:
            wrong.append(error)
    return replace(load(usable), unknown=_unknown(environ)), wrong


def _read(name: str, value: object) -> Any:
    if name not in _FIELDS:
        raise NotConfigured(f"There is no setting {PREFIX}{name.upper()}.", "Take it away and start again.")
    metadata = _FIELDS[name].metadata
    kind: Kind = metadata["kind"]
    try:
        return kind.read(kinds.unquoted(value) if isinstance(value, str) else value)
    except (ValueError, TypeError, AttributeError, OSError):  # of the value nothing is said: it may be a key
        if "${" in str(value):
            message = f"{PREFIX}{name.upper()} holds ${{…}}: a variable in it was not expanded."
            raise NotConfigured(message, "Correct it and start again.") from None
        raise NotConfigured(
            f"The value of {PREFIX}{name.upper()} cannot be used; allowed: {kind.allowed}. "
            f"Its meaning: {metadata['description']}",
            "Correct it and start again.",
        ) from None


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting as the world knows it: README, manifests, `doctor` and hosts' configurations are made from these.

    `default` is empty where there is none that can be said beforehand.
    """

    name: str
    field: str
    description: str
    format: Format
    default: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False
    secret: bool = False


def variables() -> tuple[Variable, ...]:
    """Every setting, in the order in which they are shown."""
    return tuple(_variable(name, each) for name, each in _FIELDS.items())


def _variable(name: str, about: Field[Any]) -> Variable:
    kind: Kind = about.metadata["kind"]
    return Variable(
        name=f"{PREFIX}{name.upper()}",
        field=name,
        description=about.metadata["description"],
        format=kind.format,
        default=_shown(about.default),
        choices=kind.choices,
        required=name in {"base_url", "api_key"},
        secret=kind.secret,
    )


def _shown(default: object) -> str:
    """A default as it would be written in the environment."""
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default in {None, (), MISSING} else str(default)


def _is_missing(value: object) -> bool:
    """Not given: nothing, blank, or a variable that a host did not expand."""
    text = kinds.unquoted(value).strip() if isinstance(value, str) else value
    return text in (None, "") or (isinstance(text, str) and re.fullmatch(r"\$\{.*\}", text) is not None)


def checked_address(given: str) -> tuple[str, bool]:
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
    if not {".", ".."}.isdisjoint(parts.path.split("/")):
        raise NotConfigured(wrong + "its path must not hold . or .. as a part.", _NEXT_STEP)
    with suppress(ValueError):
        host = ipaddress.ip_address(host).compressed
    path = re.sub(r"(/+sora)?(/+v1(/+videos)?)?$", "", parts.path.rstrip("/")).rstrip("/")
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
