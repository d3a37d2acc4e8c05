"""Tools that other servers have and this one does not: what to call instead, or that this API cannot do it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection

from sora_mcp.core.advice import Call, Do, Message
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.tasks import clean


class UnknownTool(InvalidInput):
    """There is no tool of this name. `instead`: the intended one, if that is clear.

    `limits`: what can be requested at the gateway. `impossible`: no tool is to be called instead, and `sentence` says
    why.
    """

    def __init__(self, name: str, known: Collection[str], limits: Capabilities | None = None) -> None:
        words = _split_name(name)

        def is_named(verbs: str) -> bool:
            return bool(words & set(verbs.split()))

        refusal = next((_compose(parts, limits) for verbs, parts in _IMPOSSIBLE.items() if is_named(verbs)), None)
        text = refusal or next((hint for verbs, hint in _NOT_NEEDED.items() if is_named(verbs)), None)
        candidates = (tool for verbs, tool in _EQUIVALENTS.items() if is_named(verbs) and tool in known)
        self.impossible = text is not None
        self.sentence = None if text is None else _message(text)
        self.instead = None if self.impossible else _correct_spelling(name, known) or next(candidates, None)
        reason = "unknown tool"
        if self.impossible:
            reason = "there is no such tool" + (", and this API cannot do that" if refusal else "")
        elif self.instead:
            reason = f"unknown tool (did you mean {self.instead}?)"
        super().__init__(
            [Problem(clean(name, 60), reason, "" if self.impossible or self.instead else ", ".join(known))]
        )
        if self.sentence is not None:
            self.advice = (Do(self.sentence),)


def _message(text: str) -> Message:
    """Parse a text in which tools are in braces."""
    return tuple(Call(part) if number % 2 else part for number, part in enumerate(re.split("[{}]", text)))


def _correct_spelling(name: str, known: Collection[str]) -> str | None:
    """Return the tool whose name this is except for a letter or two. "video" does not count: most names have it."""
    cores = {_core(each): each for each in known}
    matches = difflib.get_close_matches(_core(name[:200]), cores, n=1, cutoff=_MIN_SIMILARITY)
    return cores[matches[0]] if matches else None


_MIN_SIMILARITY = 0.85
"""Similarity (0..1) above which a name counts as misspelt: a tool that costs money must not be suggested for less."""


def _core(name: str) -> str:
    return re.sub(r"videos?|[^a-z0-9]", "", name.lower())


def _split_name(name: str) -> set[str]:
    """Return the words of a name: `cancelVideo` and `cancel-video` have the same, `text2video` has two."""
    separated = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[a-z]{3})2(?=[a-z]{3})", " ", name[:200])
    return set(re.findall(r"[a-z0-9]+", separated.lower()))


_Parts = str | tuple[str | tuple[str, str], ...]
"""A text, or its parts. A part may come with its condition: an operation that must be possible, or `ranges` of earlier
videos as items."""


def _compose(parts: _Parts, limits: Capabilities | None) -> str:
    """Join the parts whose conditions hold at this gateway."""
    if isinstance(parts, str):
        return parts
    return "".join(
        part if isinstance(part, str) else part[1] if limits is None or _is_possible(part[0], limits) else ""
        for part in parts
    )


def _is_possible(needed: str, limits: Capabilities) -> bool:
    return limits.images == "any" if needed == "ranges" else limits.can(needed)


_IMPOSSIBLE: dict[str, _Parts] = {
    "cancel stop abort kill terminate interrupt pause halt": (
        "A video that was submitted cannot be cancelled: it runs to its end and is paid for. {get_video} shows its "
        "state."
    ),
    "delete remove erase purge destroy discard trash clear forget wipe": (
        "Videos cannot be deleted, and the record of what was paid for is kept. Saved files can be removed by hand."
    ),
    "extend lengthen prolong continue continuation elongate": (
        "A video cannot be extended: its length is fixed when it is made.",
        (
            "ranges",
            (
                " {storyboard_video} can start a new one from a range of it (inpaint_items: generation_id, "
                "source_start_frame, source_end_frame)."
            ),
        ),
    ),
    "trim cut crop split concat concatenate join stitch merge append splice": (
        "Files cannot be cut or joined.",
        ("blend", " {blend_videos} makes a new video in which one becomes another"),
        ("ranges", "; {storyboard_video} places ranges of earlier ones in a new one"),
        ("blend", "."),
    ),
    "undo revert rollback refund": (
        "A paid call cannot be undone: the video runs to its end and is paid for. {get_video} shows its state."
    ),
    "loop loops looping": (
        "A video cannot be made to loop. The prompt of a new one can ask for a last frame that matches the first."
    ),
    "upscale enhance interpolate resize": (
        "A finished video cannot be enlarged: set its width and height when it is made",
        ("ranges", ", or in {remix_video}"),
        ".",
    ),
    "audio sound music voice voiceover narration speech lipsync subtitle subtitles": (
        "Sound and subtitles cannot be added."
    ),
    "rename share publish favorite favourite star tag organize": (
        "Videos have no names and no public pages; {download_video} saves the file."
    ),
}
"""Verbs of what cannot be done, and what can be done instead."""

_NOT_NEEDED = {
    "retry rerun resubmit resend redo repeat regenerate restart again": (
        "First check with {get_video} or {list_videos} what became of the earlier call: it may have made a video. If "
        "it made none, call the same tool with the same arguments; that costs as much as a new video."
    ),
    "resume unpause": "A video runs by itself until it has finished: {get_video} waits for it.",
}
"""Verbs for which no tool is needed, and what to do."""

_EQUIVALENTS = {
    "remix edit modify change variation variations vary restyle transform": "remix_video",
    "blend combine morph mix transition": "blend_videos",
    "storyboard storyboards scenes shots timeline beats": "storyboard_video",
    "view show look watch preview display frames frame thumbnail screenshot": "view_video",
    "download save fetch export": "download_video",
    "list history search find recent": "list_videos",
    "models capabilities limits pricing cost costs balance usage spending": "describe_gateway",
    "get status check wait poll query retrieve progress": "get_video",
    "create generate make new text txt t2v image img i2v animate produce render": "create_video",
}
"""Verbs of other servers' tools, and the equivalent tool here."""
