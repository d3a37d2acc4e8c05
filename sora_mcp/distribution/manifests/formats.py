"""Plain data as JSON, YAML and TOML text, and where two such texts differ."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9 ._/@%-]*(?<! )")
_YAML_KEYWORDS = {"true", "false", "null", "yes", "no", "on", "off"}


def to_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def to_yaml(value: dict[str, Any]) -> str:
    """Return YAML in block style: objects, lists, texts, numbers and booleans, which is all that is needed here."""
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
    plain = isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _YAML_KEYWORDS
    return str(value) if plain else json.dumps(value, ensure_ascii=False)


def to_toml(value: dict[str, Any]) -> str:
    """Return TOML with objects as tables; a text, a number and a list of texts are the same as in JSON."""
    return "\n\n".join(_toml_tables(value, "")) + "\n"


def _toml_tables(value: dict[str, Any], name: str) -> Iterator[str]:
    inner = {key: item for key, item in value.items() if isinstance(item, dict)}
    plain = [f"{key} = {json.dumps(value[key], ensure_ascii=False)}" for key in value if key not in inner]
    if plain:
        yield "\n".join([f"[{name}]", *plain])
    for key, item in inner.items():
        yield from _toml_tables(item, f"{name}.{key}".lstrip("."))


def difference(suffix: str, expected: str, actual: str) -> str:
    """Return where a file differs from what it should be: the key in JSON and TOML, else the line. Empty if nowhere."""
    if expected == actual:
        return ""
    parse = {".json": json.loads, ".toml": tomllib.loads}.get(suffix)
    if parse is not None:
        try:
            key = _first_key(parse(expected), parse(actual), "")
        except (ValueError, RecursionError):
            return f"it is not readable as {suffix[1:].upper()}"
        return key or "the layout (the values are the same)"
    lines = zip(expected.splitlines(), actual.splitlines(), strict=False)
    for number, (expected_line, actual_line) in enumerate(lines, start=1):
        if expected_line != actual_line:
            return f"line {number}: {expected_line.strip()[:60]}"
    return f"line {min(len(expected.splitlines()), len(actual.splitlines())) + 1}: the rest"


def _first_key(expected: object, actual: object, path: str) -> str:
    if type(expected) is not type(actual):
        return path or "the outermost value"
    if isinstance(expected, dict) and isinstance(actual, dict):
        pairs = {key: (expected.get(key, _MISSING), actual.get(key, _MISSING)) for key in [*expected, *actual]}
        inner = (_first_key(a, b, f"{path}.{key}".lstrip(".")) for key, (a, b) in pairs.items())
    elif isinstance(expected, list) and isinstance(actual, list):
        length = max(len(expected), len(actual))
        padded = (each + [_MISSING] * (length - len(each)) for each in (expected, actual))
        inner = (_first_key(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(*padded, strict=True)))
    else:
        return "" if expected == actual else path or "the outermost value"
    return next(filter(None, inner), "")


_MISSING = object()
