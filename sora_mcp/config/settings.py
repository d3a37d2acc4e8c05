"""All settings: one frozen object, read from `SORA_*` environment variables.

Nothing else reads the environment. (A plain dataclass, because every command loads it, and pydantic's models alone take
longer than the shortest command.) A literal `${…}` (a host did not expand a variable) counts as missing; quotes around
a value, which some hosts leave there, are stripped.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sora_mcp.config import converters as convert
from sora_mcp.config.converters import Converter, Secret
from sora_mcp.config.endpoint import SORA, UPSTREAMS, Endpoint, NotSet, is_sandbox, make_endpoint, upstream_at
from sora_mcp.config.spelling import PREFIX, UnknownVariable, unknown_variables, variable_of
from sora_mcp.core.advice import AskUser, Do, LogIn, Message, Restart
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import NotConfigured

if TYPE_CHECKING:
    from sora_mcp.config.logins import Login, StoredLogins

_RESTART = Do("Correct it and start again.")


def _meta(description: str, converter: Converter) -> dict[str, Any]:
    return {"description": description, "converter": converter}


def _data_folder() -> Path:
    from sora_mcp.config.folders import data_folder  # noqa: PLC0415 - only if no folder is set

    return data_folder()


def _video_folder() -> Path:
    from sora_mcp.config.folders import video_folder  # noqa: PLC0415 - likewise

    return video_folder()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings. Field names are the environment variables without `SORA_`. Created by `load`, which validates them.

    `explicit`: names of the fields that were set; the others have defaults, or come from the login in `stored`.
    `unknown`: variables that look like settings but are not.
    """

    base_url: str | None = field(
        default=None,
        metadata=_meta("Address of the gateway (https://…), or `sandbox` for the built-in stand-in.", convert.text()),
    )
    api_key: Secret | None = field(
        default=None, metadata=_meta("The gateway's key. Sent only as a Bearer header.", convert.secret())
    )
    dialect: str = field(
        default=SORA,
        metadata=_meta(
            "The upstream's API: `sora`, `openrouter` (the default at openrouter.ai), or `videos:…` for a server "
            "with `/v1/videos`.",
            convert.choice(*UPSTREAMS),
        ),
    )
    model: str | None = field(
        default=None,
        metadata=_meta(
            "The upstream's name for the model, if it has several (not with `sora`).",
            convert.text(r"[!-~]{1,200}", "1 to 200 letters, digits or signs without spaces"),
        ),
    )
    home: Path = field(
        default_factory=_data_folder,
        metadata=_meta(
            "Folder for the ledger and the sandbox's videos. Default: the platform's data folder.", convert.folder()
        ),
    )
    ledger_url: Secret | None = field(
        default=None,
        metadata=_meta(
            "PostgreSQL database for a ledger that several servers share: "
            "`postgresql://USER:PASSWORD@HOST:PORT/DATABASE`. Default: a file in SORA_HOME.",
            convert.database(),
        ),
    )
    output_dir: Path = field(
        default_factory=_video_folder,
        metadata=_meta(
            "Folder that videos are downloaded to. Default: `sora` in the user's video folder.", convert.folder()
        ),
    )
    image_dirs: tuple[Path, ...] = field(
        default=(),
        metadata=_meta(
            "Folders whose images may be uploaded, separated by `:` (on Windows `;`). Default: none.", convert.folders()
        ),
    )
    connect_timeout: float = field(
        default=10, metadata=_meta("Seconds to wait for a connection to the gateway.", convert.number(gt=0, le=60))
    )
    create_timeout: float = field(
        default=120,
        metadata=_meta(
            "Seconds to wait for the answer to a create; then its outcome is unknown.", convert.number(gt=0, le=600)
        ),
    )
    query_timeout: float = field(
        default=20, metadata=_meta("Seconds for one free request (state, upload).", convert.number(gt=0, le=50))
    )
    download_timeout: float = field(
        default=50,
        metadata=_meta("Seconds for one download; many hosts give up after 60.", convert.number(gt=0, le=3600)),
    )
    download_max_mb: int = field(
        default=500, metadata=_meta("Largest video to download, in megabytes.", convert.integer(gt=0))
    )
    save_finished: bool = field(
        default=False,
        metadata=_meta("Whether finished videos are saved automatically in SORA_OUTPUT_DIR.", convert.boolean()),
    )
    duplicate_window: float = field(
        default=10,
        metadata=_meta(
            "Minutes within which the same request is not paid for twice; 0 turns that off.",
            convert.number(ge=0, le=1440),
        ),
    )
    max_cost_per_call: Cost | None = field(
        default=None,
        metadata=_meta(
            "The most that one call may cost: a relative cost such as `3`, or money such as `5 USD`. Default: no cap.",
            convert.cost(positive=True),
        ),
    )
    max_cost_per_day: Cost | None = field(
        default=None,
        metadata=_meta(
            "The most that 24 hours may cost: a relative cost such as `3`, or money such as `5 USD`. Default: no cap.",
            convert.cost(positive=True),
        ),
    )
    max_cost_per_owner: Cost | None = field(
        default=None,
        metadata=_meta(
            "The most that one person of a team may spend in 24 hours. Default: no cap.", convert.cost(positive=True)
        ),
    )
    ask_above_cost: Cost | None = field(
        default=None,
        metadata=_meta(
            "Cost (`3` or `5 USD`) above which the user is asked first, where possible. Default: never.", convert.cost()
        ),
    )
    max_running: int | None = field(
        default=None, metadata=_meta("The most videos under way at once. Default: no cap.", convert.integer(ge=1))
    )
    max_calls_per_day: int | None = field(
        default=None,
        metadata=_meta(
            "The most videos submitted in 24 hours; the one cap that works where no price is known. Default: no cap.",
            convert.integer(ge=1),
        ),
    )
    max_prompt_length: int = field(
        default=10_000,
        metadata=_meta("The most characters in a prompt, or in a beat's description.", convert.integer(ge=1)),
    )
    max_variants: int = field(
        default=4, metadata=_meta("The most variants in one call (no maximum is documented).", convert.integer(ge=1))
    )
    extra_sizes: tuple[tuple[int, int], ...] = field(
        default=(),
        metadata=_meta(
            "Sizes the gateway offers beyond the documented ones, such as `1080x1080,1920x1080`.", convert.sizes()
        ),
    )
    extra_frames: tuple[int, ...] = field(
        default=(),
        metadata=_meta("Lengths in frames the gateway offers beyond 150 and 300, such as `450,600`.", convert.frames()),
    )
    sdedit_source: Literal["nested", "top"] = field(
        default="nested",
        metadata=_meta(
            "Where a remix names its source: in `sdedit` (`nested`) or beside it (`top`).",
            convert.choice("nested", "top"),
        ),
    )
    seed: int | None = field(
        default=None,
        metadata=_meta(
            "A whole number that makes a model's output repeatable, if it supports that (`openrouter`). Default: none.",
            convert.integer(ge=0),
        ),
    )
    generate_audio: bool | None = field(
        default=None,
        metadata=_meta(
            "Whether videos get sound, if the model can make it (`openrouter`). Default: the model decides.",
            convert.boolean(),
        ),
    )
    owner: str | None = field(
        default=None,
        metadata=_meta(
            "Whose videos these are, if several people share a key and a ledger. Each sees only their own.",
            convert.text(r"[A-Za-z0-9._@-]{1,64}|https?://[!-~]+#[ -~]+", "1 to 64 letters, digits or . _ @ -"),
        ),
    )
    public_url: str | None = field(
        default=None,
        metadata=_meta("Address that links to files begin with. Default: the request's.", convert.public_address()),
    )
    auth: tuple[str, ...] = field(
        default=(),
        metadata=_meta(
            "How a team's callers authenticate over HTTP: with this server's `tokens` (`sora-mcp token add`), "
            "an issuer's (`oauth`), or either (`tokens,oauth`). Default: no authentication, this machine only.",
            convert.choices("tokens", "oauth"),
        ),
    )
    oauth_issuer: str | None = field(
        default=None,
        metadata=_meta(
            "With SORA_AUTH=oauth: address of the OAuth issuer, exactly as its tokens name it (`iss`).",
            convert.https_address(),
        ),
    )
    oauth_audience: str | None = field(
        default=None,
        metadata=_meta(
            "With SORA_AUTH=oauth: public address of this server's MCP endpoint, such as "
            "`https://videos.example.org/mcp`, for which tokens must be issued (`aud`).",
            convert.https_address(),
        ),
    )
    allowed_hosts: tuple[str, ...] = field(
        default=(),
        metadata=_meta(
            "Host names by which clients reach this server over HTTP, such as `videos.example.org`, separated by `,`. "
            "Default: this machine only.",
            convert.hosts(),
        ),
    )
    allowed_origins: tuple[str, ...] = field(
        default=(),
        metadata=_meta(
            "Web pages that may use this server over HTTP, such as `https://chat.example.org`, separated by `,`. "
            "Default: this machine's pages.",
            convert.origins(),
        ),
    )
    sandbox_seconds: float = field(
        default=3,
        metadata=_meta("Seconds that the sandbox takes to make a video.", convert.number(ge=0, le=600)),
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = field(
        default="WARNING",
        metadata=_meta("Lowest level that is logged to stderr.", convert.choice("DEBUG", "INFO", "WARNING", "ERROR")),
    )
    is_shared: bool = False  # these are one person's settings on a shared server: see `config.sharing`
    personal_cap: Cost | None = None  # that person's cap for 24 hours; the other caps cover all people together
    videos_root: Path | None = None  # SORA_OUTPUT_DIR itself, if `output_dir` is one person's folder
    explicit: frozenset[str] = field(default=frozenset(), compare=False)
    stored: StoredLogins | None = field(default=None, compare=False)
    unknown: tuple[UnknownVariable, ...] = field(default=(), compare=False)

    @property
    def ledger(self) -> Path:
        """The ledger's file."""
        return self.home / "ledger.sqlite3"

    @property
    def shared_folder(self) -> Path | None:
        """The folder shared by all servers with the same ledger; None if the ledger is one server's own file."""
        return None if self.ledger_url is None else self.videos_root or self.output_dir

    @property
    def login(self) -> Login | None:
        """The login that supplies what the environment does not set."""
        return None if self.stored is None else self.stored.login

    @property
    def dialect_is_implied(self) -> bool:
        """Whether the dialect was not set, but inferred from the host of the base URL."""
        return "dialect" not in self.explicit and self.dialect == upstream_at(self.base_url)

    @property
    def key_to_redact(self) -> str:
        """The key to redact, without a pasted "Bearer"; empty if there is none, or a login's has not been read yet."""
        parts = self.api_key.known.split() if self.api_key is not None else []
        return convert.strip_quotes(parts[-1]) if parts else ""

    def check_guards_spelling(self) -> None:
        """Raise NotConfigured if an unknown variable is set that may be a misspelt cap or other guard."""
        suspects = [each for each in self.unknown if each.may_be_guard]
        if suspects:
            raise NotConfigured(
                f"{' '.join(map(str, suspects[:3]))} Nothing that costs money is submitted while a guard against costs "
                "may be misspelt.",
                AskUser(("correct its name or remove it, then ", Restart())),
            )

    def endpoint(self) -> Endpoint:
        """Return where requests go. Raises NotConfigured, naming the setting, if it is missing or invalid."""
        try:
            return make_endpoint(self.base_url, self.api_key, self.dialect)
        except NotSet as error:
            if self.stored is None:
                raise
            if self.stored.problem is not None:
                raise self.stored.problem from None
            if self.base_url is None or not self.stored.others:
                raise
            others = " and for ".join(self.stored.others[:3])
            hint = f" There is a login for {others}; its key is sent to no other address."
            raise NotSet((*error.parts, hint), LogIn()) from None


FIELDS: dict[str, Field[Any]] = {each.name: each for each in fields(Settings) if each.metadata}
"""All settings in display order; the metadata hold each one's description and converter."""


def load(environ: Mapping[str, str] = os.environ, **values: Any) -> Settings:
    """Load this process's settings; `values` override the environment. Raises NotConfigured naming the variable."""
    raw = {name: environ.get(f"{PREFIX}{name.upper()}", "") for name in FIELDS} | values
    explicit = {name: _read(name, value) for name, value in raw.items() if not _is_missing(value)}
    stored = _stored_logins(explicit)
    return Settings(
        **_implied(explicit, stored.login if stored else None) | explicit,
        explicit=frozenset(explicit),
        stored=stored,
        unknown=_unknown(environ),
    )


def _stored_logins(explicit: Mapping[str, Any]) -> StoredLogins | None:
    """Read the stored logins; None if the environment sets the address and the key, or the sandbox."""
    base_url = explicit.get("base_url")
    if is_sandbox(base_url) or (base_url is not None and "api_key" in explicit):
        return None
    from sora_mcp.config.logins import choose_login  # noqa: PLC0415 - not needed if the environment sets both

    return choose_login(explicit.get("home") or _data_folder(), base_url, explicit.get("dialect"))


def _implied(explicit: Mapping[str, Any], login: Login | None) -> dict[str, Any]:
    """Return the settings that follow from the login, or else from the address alone."""
    if login is not None:
        return {"base_url": login.address, "dialect": login.dialect, "api_key": login.key}
    upstream = upstream_at(explicit.get("base_url"))
    return {} if upstream is None else {"dialect": upstream}


def _unknown(environ: Mapping[str, str]) -> tuple[UnknownVariable, ...]:
    """Return the variables that look like settings but are not; empty ones are ignored."""
    prefixed = [name for name in environ if name.lstrip()[:4].upper() == PREFIX[:4]]
    names = sorted(name for name in prefixed if not _is_missing(environ[name]))
    return tuple(unknown_variables(names, (f"{PREFIX}{name.upper()}" for name in FIELDS)))


def load_valid(environ: Mapping[str, str] = os.environ) -> tuple[Settings, list[NotConfigured]]:
    """Load the valid settings, and return one error for each of the others, which count as not set."""
    usable: dict[str, str] = {}
    errors: list[NotConfigured] = []
    for name in FIELDS:
        variable = f"{PREFIX}{name.upper()}"
        value = environ.get(variable, "")
        try:
            if not _is_missing(value):
                _read(name, value)
                usable[variable] = value
        except NotConfigured as error:
            errors.append(error)
    return replace(load(usable), unknown=_unknown(environ)), errors


def _read(name: str, value: object) -> Any:
    if name not in FIELDS:
        raise NotConfigured(("There is no setting ", variable_of(name), "."), Do("Remove it and start again."))
    metadata = FIELDS[name].metadata
    converter: Converter = metadata["converter"]
    try:
        return converter.read(convert.strip_quotes(value) if isinstance(value, str) else value)
    except (ValueError, TypeError, AttributeError, OSError):  # the value is not quoted: it may be a key
        problem = f" cannot be used; allowed: {converter.allowed}. Its meaning: {metadata['description']}"
        message: Message = ("The value of ", variable_of(name), problem)
        if convert.holds_variable(str(value)):
            message = (variable_of(name), " holds a variable that was not expanded: write out what it stands for.")
        raise NotConfigured(message, _RESTART) from None


def _is_missing(value: object) -> bool:
    """Whether a value is absent: None, blank, or a variable that a host did not expand."""
    text = convert.strip_quotes(value).strip() if isinstance(value, str) else value
    return text in (None, "") or (isinstance(text, str) and re.fullmatch(r"\$\{.*\}", text) is not None)
