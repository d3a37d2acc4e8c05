"""What the gateway runs: the states of a task, what a query says of it, and its text made safe to show.

Plain data, so that what only reads the record loads nothing heavy. The states and replies follow the query
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
"""What a caller sees of a video. `sending` to `running` may still change; `unknown`: a job may exist; `lost`: the
gateway kept it in memory, and knows nothing of it any more."""

UNDER_WAY: tuple[State, ...] = ("submitted", "queued", "running")
"""States of a task that the gateway has and has not finished."""

FINAL: frozenset[State] = frozenset({"succeeded", "failed", "blocked", "lost", "rejected"})
"""States that the gateway will hardly change any more."""


class Generation(Struct, frozen=True):
    """One variant of a finished video. `url` may be short-lived, and is a path where it stands at the gateway's own
    address; sizes in pixels, length in frames. `fps`: frames per second of its file, where that was read."""

    variant: int
    generation_id: str | None = None
    url: str | None = None
    width: int | None = None
    height: int | None = None
    n_frames: int | None = None
    fps: float | None = None


class Task(Struct, frozen=True):
    """What one query reply says, read tolerantly. Everything but `state` may be missing.

    `progress` is 0..100 and never decides a state. `body` holds the fields of the request that the
    reply repeats. `gateway_message` is what the gateway says of a task that ended badly, `failure_code`
    its code for that, or moderation's. `withheld`: so many variants of a finished task moderation kept back.
    `cost`: what the gateway says that it cost, where it says that.
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
    """Whether an id may stand in a sentence, or in a command to paste: any other one could be a sentence, an option or
    something that a shell expands."""
    return re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.:+=/@-]{0,99}", text) is not None


def is_plain_code(code: str | None) -> bool:
    """Whether a gateway's code may stand in a sentence of ours: anything else could be an instruction."""
    return code is not None and re.fullmatch(r"[a-z0-9_.-]{1,40}", code) is not None


_JOINERS = re.compile(
    "(?<![\u0600-\u109f\u1780-\u18af\u2190-\u2bff\ufb50-\ufdff\ufe0f\ufe70-\ufefc\U0001f000-\U0001faff])[\u200c\u200d]"
)
"""Zero-width joiners and non-joiners where they mean nothing: not behind a letter of Arabic and its kin, of the scripts
of India and its neighbours, nor behind an emoji (after RFC 5892, appendix A.1 and A.2)."""


def clean(text: str, limit: int = 500) -> str:
    """Someone else's text made safe to show: no control, ANSI, bidi or zero-width characters, at most `limit` long.

    Joiners stay where they belong to how a word, or an emoji, is written.
    """
    text = text[: limit * 4]
    if not text.isprintable():
        text = re.sub(r"\x1b(\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(\x07|\x1b\\)?|.)", "", text)
        text = "".join(" " if c in "\n\r\t" else c for c in text if _is_shown(c))
        text = _JOINERS.sub("", text)
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def quoted(text: str, limit: int = 200) -> str:
    """Somebody else's text in a sentence of ours: data, with its own quotation marks made single, and capped."""
    return f'"{clean(text, limit).replace(chr(34), chr(39))}"'


def quotation(text: str) -> str:
    """The same at the end of a sentence, which has one full stop."""
    shown = quoted(text)
    return shown if shown[-2:-1] in {".", "!", "?", "…"} else f"{shown}."


def size_in_words(n_bytes: int) -> str:
    """The size of a file as people are told it."""
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 100_000 else f"{n_bytes / 1e3:.1f} kB"


def _is_shown(character: str) -> bool:
    """Whether a character may stand in a text that is shown, or means something there."""
    return character in "\n\r\t\u200c\u200d" or unicodedata.category(character)[0] != "C"
