"""Resource addresses: match them against URI templates (RFC 6570) and read the values of their variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from urllib.parse import parse_qsl, unquote

from msgspec import Struct

from sora_mcp.core.ids import is_id, path_segment

VIDEOS = "sora://videos/"


class Variable(Struct, frozen=True):
    """A template variable: the pattern of its encoded form, and a check of its decoded value."""

    pattern: str
    is_valid: Callable[[str], bool] = bool


VARIABLES: Mapping[str, Variable] = {
    "task_id": Variable(r"[^/?#\s]+", is_id),
    "variant": Variable(r"[1-9][0-9]{0,2}"),
}


def variables(template: str) -> list[str]:
    """Return the names of a template's variables, those of its query last; none if it is a plain address."""
    path, options = _split_template(template)
    return [*re.findall(r"\{(\w+)\}", path), *options]


def match(template: str, uri: str) -> dict[str, str] | None:
    """Return the decoded values of a template's variables in an address, or None if the address does not match.

    If the template has a query (`{?a,b}`), all parameters of the address's query are included, even unknown ones.
    """
    path, options = _split_template(template)
    address, question_mark, query = uri.partition("?") if options else (uri, "", "")
    parts = _pattern(path).fullmatch(address)
    if parts is None or (question_mark and not query):
        return None
    values = {name: unquote(text, errors="replace") for name, text in parts.groupdict().items()}
    if not all(VARIABLES[name].is_valid(value) for name, value in values.items()):
        return None
    return dict(parse_qsl(query, keep_blank_values=True)) | values


def _split_template(template: str) -> tuple[str, list[str]]:
    """Return the path of a template, and the names in its query."""
    path, _, query = template.partition("{?")
    return path, query.rstrip("}").split(",") if query else []


@cache
def _pattern(path: str) -> re.Pattern[str]:
    literals = [re.escape(each) for each in re.split(r"\{\w+\}", path)]
    groups = [f"(?P<{name}>{VARIABLES[name].pattern})" for name in variables(path)]
    return re.compile("".join(part for pair in zip(literals, [*groups, ""], strict=True) for part in pair))


def video_uri(video_id: str) -> str:
    """Return the address of a video's state, with its id percent-encoded."""
    return f"{VIDEOS}{path_segment(video_id)}"
