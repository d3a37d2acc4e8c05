"""Addresses of videos: what counts as one, and where the replies of the family hold them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from sora_mcp.dialects.protocol import WEB
from sora_mcp.dialects.replies import parse_nested_json
from sora_mcp.dialects.sora.fields import Fields

MAX_ADDRESS_LENGTH = 4096
"""Characters of the longest address that is accepted from a reply."""
MAX_ADDRESSES = 16
"""Addresses that are read from one place; further ones are left out."""

IsAddress = Callable[[object], bool]
"""What counts as an address: `is_http`, or what `address_check` returns."""

_SINGLE_FIELDS = ("video_url", "url", "uri", "path", "result_url")
"""Fields of an object with the address of one video."""
_RAW_TASK_FIELDS = ("video_url", "url", "output", "outputs", "result_url")
_TASK_FIELDS = ("result_url", "video_url", "url", "output", "outputs")
"""The first fields to read in the raw task, and in the task around it."""
_LIST_FIELDS = ("output", "outputs", "videos", "video", "urls", "result", "results", "result_urls", "result_json")
"""Fields with addresses as a text, an object, or a list of these."""

_MAX_DEPTH = 5


def is_http(value: object) -> bool:
    """Whether a value is an address to fetch and show: no spaces, control, invisible or broken characters; short."""
    if not isinstance(value, str) or len(value) > MAX_ADDRESS_LENGTH or not value.isprintable():
        return False
    return re.fullmatch(r"https?://[^/\s]+\S*", value, re.IGNORECASE) is not None


def address_check(schemes: frozenset[str]) -> IsAddress:
    """Return the check for addresses that can be opened: http(s), and complete ones of the other `schemes`."""
    others = tuple(f"{scheme}:///" for scheme in sorted(schemes - WEB))
    if not others:
        return is_http
    return lambda value: (
        is_http(value) or (isinstance(value, str) and value.startswith(others) and len(value) <= MAX_ADDRESS_LENGTH)
    )


def as_address(value: object, is_address: IsAddress) -> str | None:
    """Return a text as an address, None if it is not one. Blanks around it are stripped, those inside its path are
    percent-encoded, and an address without a scheme gets https."""
    if not isinstance(value, str) or len(value) > 2 * MAX_ADDRESS_LENGTH:
        return None
    text = value.strip()
    text = f"https:{text}" if text.startswith("//") else text
    text = text.replace(" ", "%20") if re.match(r"https?://[^/?#\s]+[/?#]", text, re.IGNORECASE) else text
    return text if is_address(text) else None


def addresses_in(task: Any, raw: Any, is_address: IsAddress) -> list[str]:
    """Return the addresses of a finished task outside its `generations`, in the order of its variants.

    The most trusted place that holds any counts: the raw task, then the task around it, and last `fail_reason`, which
    later versions of new-api use for it.
    """
    outer = Fields(task)
    data = parse_nested_json(outer.get("data"))
    listed = data if isinstance(data, list | str) else None
    for place in (
        listed,
        *_places(Fields(raw), _RAW_TASK_FIELDS),
        *_places(outer, _TASK_FIELDS),
        outer.get("fail_reason"),
    ):
        addresses = list(dict.fromkeys(_addresses(place, is_address, _MAX_DEPTH)))
        if addresses:
            return addresses[:MAX_ADDRESSES]
    return []


def _places(fields: Fields, first: tuple[str, ...]) -> Iterator[Any]:
    """Yield the values of a task's object that may hold addresses, most trusted first."""
    for name in (*first, *_LIST_FIELDS, "uri"):
        yield fields.get(name)
    yield Fields(fields.get("metadata")).get("url")
    yield fields.get("task_result")


def _addresses(value: Any, is_address: IsAddress, depth: int) -> Iterator[str]:
    """Yield the addresses in a text, an object, or a list of these; of an object with its own address, only that."""
    value = parse_nested_json(value)
    if isinstance(value, str):
        if (address := as_address(value, is_address)) is not None:
            yield address
    elif isinstance(value, list) and depth:
        for each in value[: 4 * MAX_ADDRESSES]:
            yield from _addresses(each, is_address, depth - 1)
    elif isinstance(value, dict) and depth:
        fields = Fields(value)
        for name in _SINGLE_FIELDS:
            if address := next(_addresses(fields.get(name), is_address, 0), None):
                yield address
                return
        for name in (*_SINGLE_FIELDS, *_LIST_FIELDS):
            if addresses := list(_addresses(fields.get(name), is_address, depth - 1)):
                yield from addresses
                return
