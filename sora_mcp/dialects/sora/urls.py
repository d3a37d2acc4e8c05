"""Addresses of videos: what is one, and where the replies of the family hold it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from sora_mcp.dialects.protocol import WEB
from sora_mcp.dialects.replies import from_text
from sora_mcp.dialects.sora.words import Fields

MAX_ADDRESS = 4096
"""Characters of the longest address that is taken from a reply."""
MOST_ADDRESSES = 16
"""Addresses that are read from one place; further ones are left out."""

IsAddress = Callable[[object], bool]
"""What counts as an address: `is_http`, or what `opened_by` gives."""

_ONE = ("video_url", "url", "uri", "path", "result_url")
"""Where an object holds the address of one video."""
_IN_RAW = ("video_url", "url", "output", "outputs", "result_url")
_IN_TASK = ("result_url", "video_url", "url", "output", "outputs")
"""Where the raw task, and the task around it, hold addresses first of all."""
_MANY = ("output", "outputs", "videos", "video", "urls", "result", "results", "result_urls", "result_json")
"""Where addresses stand as a text, an object, or a list of these."""

_DEPTH = 5


def is_http(value: object) -> bool:
    """An address that can be fetched and shown: no spaces, control, invisible or broken characters, no megabytes."""
    if not isinstance(value, str) or len(value) > MAX_ADDRESS or not value.isprintable():
        return False
    return re.fullmatch(r"https?://[^/\s]+\S*", value, re.IGNORECASE) is not None


def opened_by(schemes: frozenset[str]) -> IsAddress:
    """What counts as an address where the connection opens these schemes: besides http(s), whole ones of the others."""
    others = tuple(f"{scheme}:///" for scheme in sorted(schemes - WEB))
    if not others:
        return is_http
    return lambda value: (
        is_http(value) or (isinstance(value, str) and value.startswith(others) and len(value) <= MAX_ADDRESS)
    )


def address_of(value: object, is_address: IsAddress) -> str | None:
    """The address that a text is, mended: blanks around it are stripped, those inside its path are percent-encoded,
    and one without a scheme gets https. None where it is none."""
    if not isinstance(value, str) or len(value) > 2 * MAX_ADDRESS:
        return None
    text = value.strip()
    text = f"https:{text}" if text.startswith("//") else text
    text = text.replace(" ", "%20") if re.match(r"https?://[^/?#\s]+[/?#]", text, re.IGNORECASE) else text
    return text if is_address(text) else None


def addresses_in(task: Any, raw: Any, is_address: IsAddress) -> list[str]:
    """The addresses of a finished task outside its `generations`, in the order of its variants.

    The most trusted place that holds any counts: the raw task, then the task around it, and last `fail_reason`, where
    later versions of new-api put it.
    """
    outer = Fields(task)
    data = from_text(outer.get("data"))
    listed = data if isinstance(data, list | str) else None
    for place in (listed, *_places(Fields(raw), _IN_RAW), *_places(outer, _IN_TASK), outer.get("fail_reason")):
        addresses = list(dict.fromkeys(_addresses(place, is_address, _DEPTH)))
        if addresses:
            return addresses[:MOST_ADDRESSES]
    return []


def _places(fields: Fields, first: tuple[str, ...]) -> Iterator[Any]:
    """Where an object that is a task holds addresses, most trusted first."""
    for name in (*first, *_MANY, "uri"):
        yield fields.get(name)
    yield Fields(fields.get("metadata")).get("url")
    yield fields.get("task_result")


def _addresses(value: Any, is_address: IsAddress, depth: int) -> Iterator[str]:
    """The addresses in a text, an object, or a list of these; of an object with an address of its own, that one."""
    value = from_text(value)
    if isinstance(value, str):
        if (address := address_of(value, is_address)) is not None:
            yield address
    elif isinstance(value, list) and depth:
        for each in value[: 4 * MOST_ADDRESSES]:
            yield from _addresses(each, is_address, depth - 1)
    elif isinstance(value, dict) and depth:
        fields = Fields(value)
        for name in _ONE:
            if own := next(_addresses(fields.get(name), is_address, 0), None):
                yield own
                return
        for name in (*_ONE, *_MANY):
            if addresses := list(_addresses(fields.get(name), is_address, depth - 1)):
                yield from addresses
                return
