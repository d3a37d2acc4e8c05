"""Everything that can be set: one frozen object read from `SORA_*` environment variables.

Nothing else reads the environment. (A plain dataclass: every command starts with this, and the models of pydantic
alone would take longer than the shortest of them.) A value that is a literal `${…}` (a host that did not expand a
variable) counts as missing; quotes round a value are taken off, which some hosts leave there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sora_mcp.config import converters as kinds
from sora_mcp.config.converters import Kind, Secret
from sora_mcp.config.endpoint import SORA, UPSTREAMS, Endpoint, NotSet, endpoint_of, is_sandbox, upstream_at
from sora_mcp.config.spelling import PREFIX, UnknownVariable, unknown_variables, variable_of
from sora_mcp.core.advice import AskUser, Do, LogIn, Message, Restart
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import NotConfigured

if TYPE_CHECKING:
    from sora_mcp.config.logins import Login, Stored

_RESTART = Do("Correct it and start again.")


def _about(description: str, kind: Kind) -> dict[str, Any]:
    return {"description": description, "kind": kind}


def _data_folder() -> Path:
    from sora_mcp.config.folders import data_folder  # noqa: PLC0415 - only where no folder is named

    return data_folder()


def _video_folder() -> Path:
    from sora_mcp.config.folders import video_folder  # noqa: PLC0415 - likewise

    return video_folder()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings; the field names are the environment variables without `SORA_`. Made by `load`, which checks them.

    `explicit` names those that were set; the others have their defaults, or are those of the login that is `stored`.
    `unknown` are variables that look like settings and are none.
    """

    base_url: str | None = field(
        default=None,
        metadata=_about("Address of the gateway (https://…), or `sandbox` for the built-in stand-in.", kinds.text()),
    )
    api_key: Secret | None = field(
        default=None, metadata=_about("The gateway's key. Sent as a Bearer header, nowhere else.", kinds.secret())
    )
    dialect: str = field(
        default=SORA,
        metadata=_about(
            "What the upstream speaks: `sora`, `openrouter` (the default at openrouter.ai), or `videos:…` for a server "
            "with `/v1/videos`.",
            kinds.choice(*UPSTREAMS),
        ),
    )
    model: str | None = field(
        default=None,
        metadata=_about(
            "The upstream's name of the model, where it has several (not with `sora`).",
            kinds.text(r"[!-~]{1,200}", "1 to 200 letters, digits or signs without spaces"),
        ),
    )
    home: Path = field(
        default_factory=_data_folder,
        metadata=_about(
            "Folder of the ledger and the sandbox's videos. Default: the platform's data folder.", kinds.folder()
        ),
    )
    ledger_url: Secret | None = field(
        default=None,
        metadata=_about(
            "PostgreSQL database of the ledger, for several servers that share it: "
            "`postgresql://USER:PASSWORD@HOST:PORT/DATABASE`. Default: a file in SORA_HOME.",
            kinds.database(),
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
    max_cost_per_call: Cost | None = field(
        default=None,
        metadata=_about(
            "Most that one call may cost: a relative cost such as `3`, or money such as `5 USD`. Default: no cap.",
            kinds.cost(above_0=True),
        ),
    )
    max_cost_per_day: Cost | None = field(
        default=None,
        metadata=_about(
            "Most that 24 hours may cost: a relative cost such as `3`, or money such as `5 USD`. Default: no cap.",
            kinds.cost(above_0=True),
        ),
    )
    max_cost_per_owner: Cost | None = field(
        default=None,
        metadata=_about("Most that 24 hours may cost one person of a team. Default: no cap.", kinds.cost(above_0=True)),
    )
    ask_above_cost: Cost | None = field(
        default=None,
        metadata=_about(
            "Cost (`3`, or `5 USD`) above which the user is asked first, where that is possible. Default: never.",
            kinds.cost(),
        ),
    )
    max_running: int | None = field(
        default=None, metadata=_about("Most videos under way at once. Default: no cap.", kinds.whole(least=1))
    )
    max_calls_per_day: int | None = field(
        default=None,
        metadata=_about(
            "Most videos submitted in 24 hours; the one cap that holds where no price is known. Default: no cap.",
            kinds.whole(least=1),
        ),
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
    seed: int | None = field(
        default=None,
        metadata=_about(
            "A whole number that makes a model repeat itself, where it can (`openrouter`). Default: none.",
            kinds.whole(least=0),
        ),
    )
    generate_audio: bool | None = field(
        default=None,
        metadata=_about(
            "Whether videos get sound, where the model makes any (`openrouter`). Default: as the model does.",
            kinds.yes_no(),
        ),
    )
    owner: str | None = field(
        default=None,
        metadata=_about(
            "Whose videos these are, where several people share a key and a ledger; each sees only their own.",
            kinds.text(r"[A-Za-z0-9._@-]{1,64}|https?://[!-~]+#[ -~]+", "1 to 64 letters, digits or . _ @ -"),
        ),
    )
    public_url: str | None = field(
        default=None,
        metadata=_about("Address that links to files begin with. Default: as the request.", kinds.public_address()),
    )
    auth: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            "Who may use this server over HTTP, for a team: whoever has one of its `tokens` (`sora-mcp token add`), a "
            "token of an issuer (`oauth`), or either (`tokens,oauth`). Default: nobody is asked, on this machine only.",
            kinds.choices("tokens", "oauth"),
        ),
    )
    oauth_issuer: str | None = field(
        default=None,
        metadata=_about(
            "Address of the OAuth issuer, exactly as its tokens name it (`iss`), with SORA_AUTH=oauth.",
            kinds.https_address(),
        ),
    )
    oauth_audience: str | None = field(
        default=None,
        metadata=_about(
            "Public address of this server's MCP endpoint, such as `https://videos.example.org/mcp`: tokens have to be "
            "made for it (`aud`), with SORA_AUTH=oauth.",
            kinds.https_address(),
        ),
    )
    allowed_hosts: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            "Names under which clients reach this server over HTTP, such as `videos.example.org`, separated by `,`. "
            "Default: this machine only.",
            kinds.hosts(),
        ),
    )
    allowed_origins: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            "Web pages that may use this server over HTTP, such as `https://chat.example.org`, separated by `,`. "
            "Default: this machine's.",
            kinds.origins(),
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
    is_shared: bool = False  # of one of several people who share a server: see `config.sharing`
    personal_cap: Cost | None = None  # theirs for 24 hours; the other caps hold for all of them together
    videos_root: Path | None = None  # SORA_OUTPUT_DIR itself, where `output_dir` is a folder in it, or another
    explicit: frozenset[str] = field(default=frozenset(), compare=False)
    stored: Stored | None = field(default=None, compare=False)
    unknown: tuple[UnknownVariable, ...] = field(default=(), compare=False)

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.home / "ledger.sqlite3"

    @property
    def shared_folder(self) -> Path | None:
        """The folder that servers share which share a ledger; None where one server has a file for itself."""
        return None if self.ledger_url is None else self.videos_root or self.output_dir

    @property
    def login(self) -> Login | None:
        """The login that says what the environment does not."""
        return None if self.stored is None else self.stored.login

    @property
    def dialect_is_implied(self) -> bool:
        """Whether the dialect was not set, but taken from the host of the base address."""
        return "dialect" not in self.explicit and self.dialect == upstream_at(self.base_url)

    @property
    def key_to_strike(self) -> str:
        """What of the key must never be shown: all but the word Bearer that people paste along; empty without a key,
        and as long as one of a login was not read."""
        words = self.api_key.known.split() if self.api_key is not None else []
        return kinds.unquoted(words[-1]) if words else ""

    def check_guards_spelling(self) -> None:
        """Raise NotConfigured where a variable is set that may be meant as a cap or another guard, but is none."""
        suspects = [each for each in self.unknown if each.guards]
        if suspects:
            raise NotConfigured(
                f"{' '.join(map(str, suspects[:3]))} Nothing that costs money is submitted while a guard against costs "
                "may be misspelt.",
                AskUser(("correct its name or remove it, then ", Restart())),
            )

    def endpoint(self) -> Endpoint:
        """Where requests go. Raises NotConfigured, naming the setting, where that is missing or cannot be right."""
        try:
            return endpoint_of(self.base_url, self.api_key, upstream=self.dialect)
        except NotSet as error:
            if self.stored is None:
                raise
            if self.stored.trouble is not None:
                raise self.stored.trouble from None
            if self.base_url is None or not self.stored.others:
                raise
            others = " and for ".join(self.stored.others[:3])
            words = f" There is a login for {others}; its key is sent to no other address."
            raise NotSet((*error.parts, words), LogIn()) from None


FIELDS: dict[str, Field[Any]] = {each.name: each for each in fields(Settings) if each.metadata}
"""What can be set, in the order in which it is shown; the metadata say what it means and how it is read."""


def load(environ: Mapping[str, str] = os.environ, **values: Any) -> Settings:
    """The settings of this process; `values` stand above the environment. Raises NotConfigured naming the variable."""
    raw = {name: environ.get(f"{PREFIX}{name.upper()}", "") for name in FIELDS} | values
    explicit = {name: _read(name, value) for name, value in raw.items() if not _is_missing(value)}
    stored = _stored(explicit)
    return Settings(
        **_implied(explicit, stored.login if stored else None) | explicit,
        explicit=frozenset(explicit),
        stored=stored,
        unknown=_unknown(environ),
    )


def _stored(explicit: Mapping[str, Any]) -> Stored | None:
    """What the logins say; nothing where the environment names the address and the key, or the sandbox."""
    base_url = explicit.get("base_url")
    if is_sandbox(base_url) or (base_url is not None and "api_key" in explicit):
        return None
    from sora_mcp.config.logins import chosen  # noqa: PLC0415 - not where the environment says all

    return chosen(explicit.get("home") or _data_folder(), base_url, explicit.get("dialect"))


def _implied(explicit: Mapping[str, Any], login: Login | None) -> dict[str, Any]:
    """What follows from the login, or from the address alone, where nothing is set."""
    if login is not None:
        return {"base_url": login.address, "dialect": login.dialect, "api_key": login.key}
    upstream = upstream_at(explicit.get("base_url"))
    return {} if upstream is None else {"dialect": upstream}


def _unknown(environ: Mapping[str, str]) -> tuple[UnknownVariable, ...]:
    """The variables that look like ours and are none; one without a value says nothing."""
    prefixed = [name for name in environ if name.lstrip()[:4].upper() == PREFIX[:4]]
    names = sorted(name for name in prefixed if not _is_missing(environ[name]))
    return tuple(unknown_variables(names, (f"{PREFIX}{name.upper()}" for name in FIELDS)))


def load_what_can_be(environ: Mapping[str, str] = os.environ) -> tuple[Settings, list[NotConfigured]]:
    """The settings as far as they can be used, and what is wrong with the others, which count as not set."""
    usable: dict[str, str] = {}
    wrong: list[NotConfigured] = []
    for name in FIELDS:
        variable = f"{PREFIX}{name.upper()}"
        value = environ.get(variable, "")
        try:
            if not _is_missing(value):
                _read(name, value)
                usable[variable] = value
        except NotConfigured as error:
            wrong.append(error)
    return replace(load(usable), unknown=_unknown(environ)), wrong


def _read(name: str, value: object) -> Any:
    if name not in FIELDS:
        raise NotConfigured(("There is no setting ", variable_of(name), "."), Do("Remove it and start again."))
    metadata = FIELDS[name].metadata
    kind: Kind = metadata["kind"]
    try:
        return kind.read(kinds.unquoted(value) if isinstance(value, str) else value)
    except (ValueError, TypeError, AttributeError, OSError):  # of the value nothing is said: it may be a key
        wrong = f" cannot be used; allowed: {kind.allowed}. Its meaning: {metadata['description']}"
        message: Message = ("The value of ", variable_of(name), wrong)
        if "${" in str(value):
            message = (variable_of(name), " holds ${…}: a variable in it was not expanded.")
        raise NotConfigured(message, _RESTART) from None


def _is_missing(value: object) -> bool:
    """Not given: nothing, blank, or a variable that a host did not expand."""
    text = kinds.unquoted(value).strip() if isinstance(value, str) else value
    return text in (None, "") or (isinstance(text, str) and re.fullmatch(r"\$\{.*\}", text) is not None)
