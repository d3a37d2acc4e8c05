"""The tasks that the gateway runs: their states, what a query returns, and making the gateway's text safe to show.

Plain data, so that code that only reads the record imports nothing heavy. The states and replies follow the query
page of the API (2025-02-22).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any, Literal

from msgspec import Struct

from sora_mcp.core.cost import Cost

State = Literal[
    "sending", "submitted", "queued", "running", "succeeded", "failed", "blocked", "lost", "rejected", "unknown"
]
"""The state of a video, as callers see it. `sending` to `running` may still change; `unknown`: a job may exist; `lost`:
the gateway kept the task in memory and no longer knows it."""

UNDER_WAY: tuple[State, ...] = ("submitted", "queued", "running")
"""States of a task that the gateway has not finished."""

FINAL: frozenset[State] = frozenset({"succeeded", "failed", "blocked", "lost", "rejected"})
"""States that the gateway is unlikely to change."""


class Generation(Struct, frozen=True):
    """One variant of a finished video. `url` may be short-lived, and is a path if it is at the gateway's own address.
    Sizes are in pixels, lengths in frames. `fps`: frames per second of its file, if that was read."""

    variant: int
    generation_id: str | None = None
    url: str | None = None
    width: int | None = None
    height: int | None = None
    n_frames: int | None = None
    fps: float | None = None


class Task(Struct, frozen=True):
    """One reply to a query, read tolerantly. Everything except `state` may be missing.

    `progress` is 0..100 and never decides a state. `body` holds the fields of the request that the reply repeats.
    `gateway_message` is the gateway's message about a failed task, `failure_code` its code or moderation's. `withheld`:
    how many variants of a finished task moderation withheld. `cost`: the cost that the gateway states, if any.
    """

    state: State
    progress: int | None = None
    gateway_state: str = ""
    enhanced_prompt: str | None = None
    failure_reason: str | None = None
    failure_code: str | None = None
    gateway_message: str | None = None
    withheld: int | None = None
    generations: tuple[Generation, ...] = ()
    body: dict[str, Any] | None = None
    created_at: int | None = None
    cost: Cost | None = None


def is_plain_id(text: str) -> bool:
    """Whether an id may appear in a sentence, or in a command to paste: any other could be a sentence, an option or
    something that a shell expands."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:+=/@-]{0,99}", text) is not None


def is_plain_code(code: str | None) -> bool:
    """Whether a gateway's code may appear in our sentences: anything else could be an instruction."""
    return code is not None and re.fullmatch(r"[a-z0-9_.-]{1,40}", code) is not None


_JOINERS = re.compile(
    "(?<![\u0600-\u109f\u1780-\u18af\u2190-\u2bff\ufb50-\ufdff\ufe0f\ufe70-\ufefc\U0001f000-\U0001faff])[\u200c\u200d]"
)
"""Zero-width joiners and non-joiners that have no meaning: not after a letter of Arabic or a related script, of a
script of India or its neighbours, nor after an emoji (see RFC 5892, appendix A.1 and A.2)."""


def clean(text: str, limit: int = 500) -> str:
    """Make foreign text safe to show: no control, ANSI, bidi or zero-width characters, at most `limit` characters.

    Joiners stay if they are part of how a word or an emoji is written.
    """
    text = text[: limit * 4]
    if not text.isprintable():
        text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)", "", text)
        text = "".join(" " if c in "\n\r\t" else c for c in text if _is_visible(c))
        text = _JOINERS.sub("", text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quoted(text: str, limit: int = 200) -> str:
    """Quote foreign text for use in our sentences: cleaned, capped, and with its own quotation marks made single."""
    return f'"{clean(text, limit).replace(chr(34), chr(39))}"'


def quoted_at_end(text: str) -> str:
    """Quote foreign text at the end of a sentence, which gets one full stop."""
    quotation = quoted(text)
    return quotation if quotation[-2:-1] in {".", "!", "?", "…"} else f"{quotation}."


def counted(number: int, noun: str) -> str:
    """Return a number of things, such as `2 videos`."""
    return f"{number} {noun}{'s' * (number != 1)}"


def format_size(n_bytes: int) -> str:
    """Format the size of a file for people."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 100_000 else f"{n_bytes / 1e3:.1f} kB"


def _is_visible(character: str) -> bool:
    """Whether a character may be shown, or affects how others are shown."""
    return character in "\n\r\t\u200c\u200d" or unicodedata.category(character)[0] != "C"
