"""Addresses of resources: what stands in an address at the place of each variable of its template (RFC 6570)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from sora_mcp.core.ids import is_id, quoted

VIDEOS = "sora://videos/"


class Variable(Struct, frozen=True):
    """A variable of a template: how it is written in an address, and what it may stand for once decoded."""

    pattern: str
    is_valid: Callable[[str], bool] = bool


VARIABLES: Mapping[str, Variable] = {
    "task_id": Variable(r"[^/?#\s]+", is_id),
    "variant": Variable(r"[1-9][0-9]{0,2}"),
}


def variables(template: str) -> list[str]:
    """The names of a template's variables; none for the address of one resource. Those of its query come last."""
    path, options = _taken_apart(template)
    return [*re.findall(r"\{(\w+)\}", path), *options]


def match(template: str, uri: str) -> dict[str, str] | None:
    """The values of a template's variables in an address, decoded; None where it is no address of the template's.

    Where the template has a query (`{?a,b}`), whatever the address's holds is among them, also what has another name.
    """
    path, options = _taken_apart(template)
    address, question_mark, query = uri.partition("?") if options else (uri, "", "")
    parts = _pattern(path).fullmatch(address)
    if parts is None or (question_mark and not query):
        return None
    values = {name: unquote(text, errors="replace") for name, text in parts.groupdict().items()}
    if not all(VARIABLES[name].is_valid(value) for name, value in values.items()):
        return None
    return dict(parse_qsl(query, keep_blank_values=True)) | values


def _taken_apart(template: str) -> tuple[str, list[str]]:
    """The path of a template, and the names in its query."""
    path, _, query = template.partition("{?")
    return path, query.rstrip("}").split(",") if query else []


@cache
def _pattern(path: str) -> re.Pattern[str]:
    literals = [re.escape(each) for each in re.split(r"\{\w+\}", path)]
    groups = [f"(?P<{name}>{VARIABLES[name].pattern})" for name in variables(path)]
    return re.compile("".join(part for pair in zip(literals, [*groups, ""], strict=True) for part in pair))


def video_uri(video_id: str) -> str:
    """Where the state of a video stands; its id is percent-encoded."""
    return f"{VIDEOS}{quoted(video_id)}"
