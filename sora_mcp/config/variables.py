"""The settings as published: README, manifests, `doctor` and hosts' configurations are generated from these."""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass
from typing import Any

from sora_mcp.config.converters import Converter, Format
from sora_mcp.config.settings import FIELDS
from sora_mcp.config.spelling import PREFIX


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting. `default` is empty if there is none, or if it depends on the machine."""

    name: str
    field: str
    description: str
    format: Format
    default: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False
    secret: bool = False


def variables() -> tuple[Variable, ...]:
    """Return all settings in display order."""
    return tuple(_variable(name, each) for name, each in FIELDS.items())


def _variable(name: str, setting: Field[Any]) -> Variable:
    converter: Converter = setting.metadata["converter"]
    return Variable(
        name=f"{PREFIX}{name.upper()}",
        field=name,
        description=setting.metadata["description"],
        format=converter.format,
        default=_format_default(setting.default),
        choices=converter.choices,
        required=name in {"base_url", "api_key"},
        secret=converter.secret,
    )


def _format_default(default: object) -> str:
    """Format a default as it would be written in the environment."""
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default in {None, (), MISSING} else str(default)
