"""Positions in a video as callers write them: `110` or `frame 110`, `7.3s` or `0:07.3`, `2s-5s`."""

from __future__ import annotations

import re

from sora_mcp.core.pictures import Moment
from sora_mcp.core.tasks import quoted

ALLOWED = 'a frame ("110"), a time ("7.3s"), a range ("2s-5s"), or "beats"'

_FRAME = re.compile(r"(?:frame |f)?(\d{1,9})")
_SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,9})?) ?s(?:ec(?:ond)?s?)?")
_CLOCK = re.compile(r"(?:(\d{1,3}):)?(\d{1,3}):(\d{1,2}(?:\.\d{1,9})?)")
_RANGE_SEPARATOR = re.compile(r" ?(?:-|–|—|\.\.\.?| to ) ?")
_FRACTION = re.compile(r"\d{1,9}\.\d{1,9}")


class InvalidMoment(ValueError):
    """A text is not a position in a video; the message says what is allowed."""


def parse(text: str) -> Moment | tuple[Moment, Moment]:
    """Parse a frame, a time or a range of either. Raises InvalidMoment."""
    plain = " ".join(text.lower().split())
    ends = _RANGE_SEPARATOR.split(plain)
    if len(ends) > 2:
        raise _invalid(text)
    if len(ends) == 1:
        return _moment(plain, text)
    if _SECONDS.fullmatch(ends[1]) and not _SECONDS.fullmatch(ends[0]):
        ends[0] = ends[0] if _CLOCK.fullmatch(ends[0]) else f"{ends[0]}s"
    start, end = (_moment(each, text) for each in ends)
    if (start.frame is None) != (end.frame is None):
        raise InvalidMoment(
            'the range goes from a frame to a time; allowed: both as frames ("60-150") or as times ("2s-5s")'
        )
    if (start.frame or start.second) >= (end.frame or end.second):
        raise InvalidMoment('the range ends before it begins; allowed: one such as "2s-5s"')
    return start, end


def _moment(text: str, whole: str) -> Moment:
    if frame := _FRAME.fullmatch(text):
        return Moment(frame=int(frame[1]))
    if seconds := _SECONDS.fullmatch(text):
        return Moment(second=float(seconds[1]))
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, rest = clock.groups()
        return Moment(second=int(hours or 0) * 3600 + int(minutes) * 60 + float(rest))
    if _FRACTION.fullmatch(text):
        raise InvalidMoment(f'{text} is not a whole frame; allowed: "{text}s", if you meant seconds')
    raise _invalid(whole)


def _invalid(text: str) -> InvalidMoment:
    return InvalidMoment(f"{quoted(text, 40)} is not accepted; allowed: {ALLOWED}")
