"""Plain data as JSON, YAML and TOML text, and where two of them differ."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9 ._/@%-]*(?<! )")
_YAML_WORDS = {"true", "false", "null", "yes", "no", "on", "off"}


def to_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def to_yaml(value: dict[str, Any]) -> str:
    """Objects, lists, texts, numbers and booleans in YAML's block style; enough for what is written here."""
    return "\n".join(_yaml_lines(value)) + "\n"


def _yaml_lines(value: dict[str, Any] | list[Any]) -> list[str]:
    lines: list[str] = []
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        head = f"{key}:" if isinstance(value, dict) else "-"
        if not isinstance(item, dict | list) or not item:
            lines.append(f"{head} {_yaml_scalar(item)}")
        elif isinstance(value, dict):
            lines += [head, *(f"  {line}" for line in _yaml_lines(item))]
        else:
            first, *rest = _yaml_lines(item)
            lines += [f"- {first}", *(f"  {line}" for line in rest)]
    return lines


def _yaml_scalar(value: object) -> str:
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def to_toml(value: dict[str, Any]) -> str:
    """Objects as tables; a text, a number and a list of texts are written in TOML as in JSON."""
    return "\n\n".join(_toml_tables(value, "")) + "\n"


def _toml_tables(value: dict[str, Any], name: str) -> Iterator[str]:
    inner = {key: item for key, item in value.items() if isinstance(item, dict)}
    plain = [f"{key} = {json.dumps(value[key], ensure_ascii=False)}" for key in value if key not in inner]
    if plain:
        yield "\n".join([f"[{name}]", *plain])
    for key, item in inner.items():
        yield from _toml_tables(item, f"{name}.{key}".lstrip("."))


def difference(suffix: str, expected: str, actual: str) -> str:
    """Where a file differs from what it should be: the key in JSON and TOML, the line elsewhere. Empty if nowhere."""
    if expected == actual:
        return ""
    read = {".json": json.loads, ".toml": tomllib.loads}.get(suffix)
    if read is not None:
        try:
            key = _first_key(read(expected), read(actual), "")
        except (ValueError, RecursionError):
            return f"it is not readable as {suffix[1:].upper()}"
        return key or "the layout (the values are the same)"
    for number, (wanted, theirs) in enumerate(zip(expected.splitlines(), actual.splitlines(), strict=False), start=1):
        if wanted != theirs:
            return f"line {number}: {wanted.strip()[:60]}"
    return f"line {min(len(expected.splitlines()), len(actual.splitlines())) + 1}: the rest"


def _first_key(expected: object, actual: object, where: str) -> str:
    if type(expected) is not type(actual):
        return where or "the outermost value"
    if isinstance(expected, dict) and isinstance(actual, dict):
        pairs = {key: (expected.get(key, _NOTHING), actual.get(key, _NOTHING)) for key in [*expected, *actual]}
        inner = (_first_key(a, b, f"{where}.{key}".lstrip(".")) for key, (a, b) in pairs.items())
    elif isinstance(expected, list) and isinstance(actual, list):
        longest = max(len(expected), len(actual))
        padded = (each + [_NOTHING] * (longest - len(each)) for each in (expected, actual))
        inner = (_first_key(a, b, f"{where}[{i}]") for i, (a, b) in enumerate(zip(*padded, strict=True)))
    else:
        return "" if expected == actual else where or "the outermost value"
    return next(filter(None, inner), "")


_NOTHING = object()
