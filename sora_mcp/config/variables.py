"""The settings as the world knows them: README, manifests, `doctor` and hosts' configurations are made from these."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass
from typing import Any

from sora_mcp.config.converters import Format, Kind
from sora_mcp.config.settings import FIELDS
from sora_mcp.config.spelling import PREFIX


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting. `default` is empty where there is none that can be said beforehand."""

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
    return tuple(_variable(name, each) for name, each in FIELDS.items())


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
