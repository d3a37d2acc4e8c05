"""Text in any script: choice of fonts, visual order and line breaks.

A text is split into graphemes: a letter with its marks, or an emoji sequence. Consecutive graphemes that one font draws
in one direction form a run. Letters that no font of this machine has are replaced: "[no font for Japanese]".
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from functools import cache, lru_cache
from itertools import groupby

from msgspec import Struct
from msgspec.structs import replace
from PIL import Image, ImageDraw, features

from sora_mcp.media.fonts import DEFAULT_FACE, INVISIBLE, Face, face_for

Rgba = tuple[int, int, int, int]

WHITE: Rgba = (255, 255, 255, 255)

LINE_SPACING = 1.25
"""Font sizes from one line to the next."""
_EMOJI_SCALE = 1.1
"""The height of an emoji, relative to the letters beside it."""

_EMOJI = "\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935\u2b05-\u2b55"
_EMOJI += "\U0001f000-\U0001faff"
_EMOJI_PRESENTATION = re.compile(
    "[\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615\u2648-\u2653\u267f\u2693\u26a1\u26aa\u26ab\u26bd\u26be"
    "\u26c4\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5\u26fa\u26fd\u2705\u270a\u270b\u2728\u274c\u274e\u2753-\u2755\u2757"
    "\u2795-\u2797\u27b0\u27bf\u2b1b\u2b1c\u2b50\u2b55\U0001f004\U0001f0cf\U0001f18e-\U0001f19a\U0001f1e6-\U0001f1ff"
    "\U0001f201-\U0001faff]|.+[\ufe0f\u20e3]"
)
"""Graphemes drawn as emoji: by default (Unicode's Emoji_Presentation), or because a selector says so."""
_SKIN_TONE = "\U0001f3fb-\U0001f3ff"
_SINGLE_EMOJI = f"[{_EMOJI}](?:\ufe0f|[{_SKIN_TONE}])?"
_GRAPHEME = re.compile(
    f"[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_SINGLE_EMOJI}(?:\u200d{_SINGLE_EMOJI})*|.", re.DOTALL
)


class Run(Struct, frozen=True):
    """Letters that one font draws in one direction; `is_emoji` if they are drawn in colour."""

    text: str
    face: Face
    is_rtl: bool = False
    is_emoji: bool = False

    def has_same_style(self, other: Run) -> bool:
        """Whether another run differs in its text only."""
        return replace(self, text="") == replace(other, text="")


def graphemes(text: str) -> list[str]:
    """Split a text into the parts that are never divided."""
    parts: list[str] = []
    for piece in _GRAPHEME.findall(text):
        if parts and (piece in INVISIBLE or unicodedata.category(piece[0])[0] == "M"):
            parts[-1] += piece
        else:
            parts.append(piece)
    return parts


@lru_cache(maxsize=512)
def drawable(text: str) -> str:
    """Replace letters that no font has by a notice; only one if nothing but signs is between them."""
    text = unicodedata.normalize("NFC", text)
    language, parts = _language(text), graphemes(text)
    main = _main_face(parts)
    pieces = [""]
    for grapheme in parts:
        piece = grapheme if _face_for(grapheme, main, language) else _substitute(grapheme, main, language)
        is_notice = len(piece) > len(grapheme) and piece.startswith("[")
        if is_notice and len(pieces) > 1 and pieces[-2] == piece and not re.search(r"\w", pieces[-1]):
            pieces[-1] = ""
        elif is_notice:
            pieces += [piece, ""]
        else:
            pieces[-1] += piece
    return "".join(pieces)


@lru_cache(maxsize=512)
def runs(text: str) -> tuple[Run, ...]:
    """The runs of one line in visual order, left to right (Unicode's UAX #9, simplified)."""
    text = drawable(text)
    language, parts = _language(text), graphemes(text)
    main = _main_face(parts)
    line: list[Run] = []
    for grapheme, is_rtl in zip(parts, _directions(parts), strict=True):
        run = Run(
            grapheme,
            _face_for(grapheme, main, language) or DEFAULT_FACE,
            is_rtl,
            _EMOJI_PRESENTATION.match(grapheme) is not None,
        )
        if line and line[-1].has_same_style(run):
            line[-1] = replace(run, text=line[-1].text + grapheme)
        else:
            line.append(run)
    return tuple(_visual_order(line, base_is_rtl=_is_rtl(text)))


def _face_for(grapheme: str, main: Face, language: str) -> Face | None:
    """The font for a grapheme; None if there is none."""
    if _EMOJI_PRESENTATION.match(grapheme):
        return face_for(grapheme, "emoji", "", colour=True)
    if main.covers(grapheme):
        return main
    script = _script(grapheme[0], language)
    return face_for(grapheme, script, language if script in _EAST_ASIAN else "")


def _substitute(grapheme: str, main: Face, language: str) -> str:
    """The replacement for a grapheme that no font has: the same without accents, or a notice."""
    is_emoji = _EMOJI_PRESENTATION.match(grapheme) is not None
    plain = _SUBSTITUTES.get(grapheme) or "".join(
        c for c in unicodedata.normalize("NFKD", grapheme) if not unicodedata.combining(c)
    )
    if plain and not is_emoji and main.covers(plain):
        return plain
    return f"[no font for {'emoji' if is_emoji else _script(grapheme[0], language)}]"


_SUBSTITUTES = dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-") | {
    "\u2192": "->",
    "\u00d7": "x",
    "\u20ac": "EUR",
}
"""Replacements for signs that no font has."""


def _main_face(parts: Sequence[str]) -> Face:
    """Pillow's built-in font, or a more complete one if it lacks European letters of the text."""
    missing = [
        grapheme
        for grapheme in parts
        if _script(grapheme[0], "") in _EUROPEAN_SCRIPTS and not DEFAULT_FACE.covers(grapheme)
    ]
    if not missing:
        return DEFAULT_FACE
    all_missing = "".join(dict.fromkeys(missing))
    return face_for(all_missing, "Latin", "") or face_for(missing[0], "Latin", "") or DEFAULT_FACE


_EUROPEAN_SCRIPTS = ("Latin", "Greek", "Cyrillic")
_EAST_ASIAN = ("Chinese", "Japanese", "Korean")


def _language(text: str) -> str:
    """The language in whose forms the Chinese characters of a text are drawn."""
    if re.search("[\u3040-\u30ff\uff66-\uff9d]", text):
        return "ja"
    return "ko" if re.search("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]", text) else "zh-cn"


@cache
def _script(letter: str, language: str) -> str:
    """The common name of a letter's script."""
    if unicodedata.east_asian_width(letter) in "WF":
        return {"ja": "Japanese", "ko": "Korean"}.get(language, "Chinese")
    kind = unicodedata.category(letter)
    if kind[0] in "SP":
        return "symbols" if kind[0] == "S" else "punctuation"
    return unicodedata.name(letter, "this").split()[0].split("-")[0].capitalize()


def _is_rtl(text: str) -> bool:
    """Whether the first letter with a strong direction is right-to-left."""
    strong = (each for c in text if (each := unicodedata.bidirectional(c)) in {"L", "R", "AL"})
    return next(strong, "L") != "L"


def _directions(parts: Sequence[str]) -> list[bool]:
    """For each grapheme, whether it is right-to-left; spaces and signs follow their neighbours."""
    base = _is_rtl("".join(parts))
    directions = [_DIRECTIONS.get(unicodedata.bidirectional(grapheme[0])) for grapheme in parts]
    resolved: list[bool] = []
    previous = base
    for at, kind in enumerate(directions):
        if kind == "number":
            resolved.append(False)
            previous = base
        elif kind is not None:
            resolved.append(kind == "rtl")
            previous = resolved[-1]
        else:
            following = next((each for each in directions[at:] if each is not None), None)
            following_is_rtl = base if following in {None, "number"} else following == "rtl"
            resolved.append(previous if previous == following_is_rtl else base)
    return resolved


_DIRECTIONS = {"L": "ltr", "R": "rtl", "AL": "rtl", "EN": "number", "AN": "number"}
"""By Unicode's bidirectional class; other classes are neutral."""


def _visual_order(line: Sequence[Run], *, base_is_rtl: bool) -> list[Run]:
    """Order runs from left to right: a sequence against the direction of the line is reversed as a whole."""
    groups = [list(group) for _, group in groupby(line, key=lambda run: run.is_rtl)]
    reversed_groups = [group[::-1] if group[0].is_rtl else group for group in groups]
    return [run for group in (reversed_groups[::-1] if base_is_rtl else reversed_groups) for run in group]


@cache
def has_shaping() -> bool:
    """Whether Arabic letters and emoji sequences can be joined (Pillow with Raqm and FriBiDi)."""
    return bool(features.check_feature("raqm"))


def _pillow_text(run: Run) -> tuple[str, str | None]:
    """The text for Pillow, and its direction, or None if Pillow cannot shape it."""
    if has_shaping() and run.face.file:  # Pillow's built-in font has no alternative glyphs
        return run.text, "rtl" if run.is_rtl else "ltr"
    parts = ["".join(letter for letter in grapheme if letter not in INVISIBLE) for grapheme in graphemes(run.text)]
    return "".join(reversed(parts)).translate(_MIRRORED) if run.is_rtl else "".join(parts), None


_MIRRORED = str.maketrans("()[]{}<>\u00ab\u00bb", ")(][}{><\u00bb\u00ab")


@lru_cache(maxsize=2048)
def _run_width(run: Run, size: int) -> float:
    font, scale = run.face.load(_font_size(run, size))
    text, direction = _pillow_text(run)
    return font.getlength(text, direction=direction) * scale


def _font_size(run: Run, size: int) -> int:
    return round(size * _EMOJI_SCALE) if run.is_emoji else size


def text_width(text: str, size: int) -> float:
    """The width in pixels of one line in a font of `size` pixels."""
    return sum(_run_width(run, size) for run in runs(text))


def draw_text(
    image: Image.Image,
    xy: tuple[float, float],
    text: str,
    size: int,
    *,
    fill: Rgba = WHITE,
    anchor: str = "la",
) -> None:
    """Draw one or more lines of text on an image.

    `anchor` is as in Pillow: left, middle or right of `x`; ascender, middle or descender at `y`.
    """
    rows = text.split("\n")
    ascent, descent = DEFAULT_FACE.load(size)[0].getmetrics()
    step = size * LINE_SPACING
    above = {"a": 0.0, "m": (len(rows) - 1) / 2 * step, "d": (len(rows) - 1) * step}[anchor[1]]
    baseline = xy[1] - above + {"a": ascent, "m": (ascent - descent) / 2, "d": -descent}[anchor[1]]
    pen = ImageDraw.Draw(image, "RGBA") if image.mode == "RGB" else ImageDraw.Draw(image)
    for row in rows:
        x = xy[0] - {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * text_width(row, size)
        for run in runs(row):
            if run.is_emoji:
                _paste_emoji(image, (x, baseline), run, size)
            else:
                run_text, direction = _pillow_text(run)
                font, _ = run.face.load(size)
                pen.text((x, baseline), run_text, fill=fill, font=font, anchor="ls", direction=direction)
            x += _run_width(run, size)
        baseline += step


def _paste_emoji(image: Image.Image, at: tuple[float, float], run: Run, size: int) -> None:
    """Paste emoji on an image, their left end and baseline at a point."""
    font, scale = run.face.load(_font_size(run, size))
    text, direction = _pillow_text(run)
    left, top, right, bottom = font.getbbox(text, anchor="ls", direction=direction)
    if right <= left or bottom <= top:
        return
    picture = Image.new("RGBA", (round(right - left), round(bottom - top)))
    pen = ImageDraw.Draw(picture)
    pen.text((-left, -top), text, fill=WHITE, font=font, anchor="ls", embedded_color=True, direction=direction)
    if scale != 1:
        picture = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
    corner = (round(at[0] + left * scale), round(at[1] + top * scale))
    image.paste(picture, corner, picture)


def truncate(text: str, size: int, width: float) -> str:
    """Shorten `text` to one line of at most `width` pixels, with an ellipsis if anything is cut."""
    text = " ".join(text.split())
    if text_width(text, size) <= width:
        return text
    parts = graphemes(drawable(text[: max(1, int(width))]))  # hardly a letter is narrower than a pixel
    n_fitting = bisect_right(range(1, len(parts) + 1), width, key=lambda n: text_width(_with_ellipsis(parts[:n]), size))
    return _with_ellipsis(parts[: max(1, n_fitting)])


def _with_ellipsis(parts: Sequence[str]) -> str:
    return "".join(parts).rstrip(" …") + "…"


_OPENING, _CLOSING = {"Ps", "Pi"}, {"Pe", "Pf", "Po", "Lm", "Pd"}


def _breakable_parts(text: str) -> list[str]:
    """Split a text into parts between which a line may break: words, spaces, single Chinese or Japanese characters."""
    parts: list[str] = []
    last = ""
    for grapheme in graphemes(" ".join(text.split())):
        if grapheme == " ":
            parts.append(grapheme)
        elif parts and not _may_break(last, grapheme):
            parts[-1] += grapheme
        else:
            parts.append(grapheme)
        last = grapheme
    return parts


def _may_break(last: str, grapheme: str) -> bool:
    """Whether a line may break between two graphemes without a space."""
    if last == " " or not last or unicodedata.category(last[-1]) in _OPENING:
        return False
    wide = any(unicodedata.east_asian_width(each[0]) in "WF" for each in (last, grapheme))
    return wide and unicodedata.category(grapheme[0]) not in _CLOSING


def wrap(text: str, size: int, width: float, lines: int) -> str:
    """Break `text` into at most `lines` lines of at most `width` pixels; an ellipsis marks a cut in the last one."""
    rows = [""]
    for word in _breakable_parts(drawable(text[: int(width) * (lines + 1)])):
        joined = rows[-1] + word if rows[-1] else word.lstrip()
        if text_width(joined, size) <= width:
            rows[-1] = joined
            continue
        if rows[-1]:
            rows.append("")
        rows[-1:] = _split_word(word.lstrip(), size, width, lines + 1)
        if len(rows) > lines:
            break
    if len(rows) > lines:
        rows = [*rows[: lines - 1], truncate(rows[lines - 1] + "……", size, width)]
    return "\n".join(rows)


def _split_word(word: str, size: int, width: float, limit: int) -> list[str]:
    """Split a word that is wider than a line into parts that fit, at most `limit`."""
    rows: list[str] = []
    parts = graphemes(word)
    while parts and len(rows) < limit:
        n_fitting = bisect_right(range(1, len(parts) + 1), width, key=lambda n: text_width("".join(parts[:n]), size))
        rows.append("".join(parts[: max(1, n_fitting)]))
        parts = parts[max(1, n_fitting) :]
    return rows or [""]
