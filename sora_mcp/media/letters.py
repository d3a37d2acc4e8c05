"""Words in any script: which font draws which part of a text, in which order, and where a line ends.

A text is cut into units: a letter with its marks, or an emoji with all that belongs to it. Units that one font draws in
one direction make a run. Letters that no font of this machine has are said in words: "[no font for Japanese]".
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

from sora_mcp.media.fonts import INVISIBLE, OWN, Face, face_for

Ink = tuple[int, int, int, int]

WHITE: Ink = (255, 255, 255, 255)

LINE = 1.25
"""Heights of a letter from one line to the next."""
_EMOJI_SCALE = 1.1
"""An emoji is so much higher than the letters beside it."""

_PICTURES = (
    "\u203c\u2049\u2122\u2139\u2194-\u21aa\u231a-\u23ff\u24c2\u25aa-\u25fe\u2600-\u27bf\u2934\u2935\u2b05-\u2b55"
)
_PICTURES += "\U0001f000-\U0001faff"
_SHOWN_AS_PICTURE = re.compile(
    "[\u231a\u231b\u23e9-\u23ec\u23f0\u23f3\u25fd\u25fe\u2614\u2615\u2648-\u2653\u267f\u2693\u26a1\u26aa\u26ab\u26bd\u26be"
    "\u26c4\u26c5\u26ce\u26d4\u26ea\u26f2\u26f3\u26f5\u26fa\u26fd\u2705\u270a\u270b\u2728\u274c\u274e\u2753-\u2755\u2757"
    "\u2795-\u2797\u27b0\u27bf\u2b1b\u2b1c\u2b50\u2b55\U0001f004\U0001f0cf\U0001f18e-\U0001f19a\U0001f1e6-\U0001f1ff"
    "\U0001f201-\U0001faff]|.+[\ufe0f\u20e3]"
)
"""Emoji that are pictures even without a character that says so (Unicode's Emoji_Presentation)."""
_TONE = "\U0001f3fb-\U0001f3ff"
_ONE = f"[{_PICTURES}](?:\ufe0f|[{_TONE}])?"
_PIECE = re.compile(f"[\U0001f1e6-\U0001f1ff]{{2}}|[0-9#*]\ufe0f?\u20e3|{_ONE}(?:\u200d{_ONE})*|.", re.DOTALL)


class Run(Struct, frozen=True):
    """Letters that one font draws in one direction; `is_emoji`: as coloured pictures, where it has such."""

    text: str
    face: Face
    is_rtl: bool = False
    is_emoji: bool = False

    def goes_on(self, other: Run) -> bool:
        """Whether another run can be drawn as one with this."""
        return replace(self, text="") == replace(other, text="")


def units(text: str) -> list[str]:
    """The parts of a text that are never cut apart."""
    parts: list[str] = []
    for piece in _PIECE.findall(text):
        if parts and (piece in INVISIBLE or unicodedata.category(piece[0])[0] == "M"):
            parts[-1] += piece
        else:
            parts.append(piece)
    return parts


@lru_cache(maxsize=512)
def said(text: str) -> str:
    """A line as it can be drawn: where no font has letters, that is said, once if only signs stand between them."""
    text = unicodedata.normalize("NFC", text)
    language, parts = _language(text), units(text)
    main = _main_face(parts)
    pieces = [""]
    for unit in parts:
        piece = unit if _face(unit, main, language) else _in_words(unit, main, language)
        is_notice = len(piece) > len(unit) and piece.startswith("[")
        if is_notice and len(pieces) > 1 and pieces[-2] == piece and not re.search(r"\w", pieces[-1]):
            pieces[-1] = ""
        elif is_notice:
            pieces += [piece, ""]
        else:
            pieces[-1] += piece
    return "".join(pieces)


@lru_cache(maxsize=512)
def runs(text: str) -> tuple[Run, ...]:
    """The runs of one line, in the order in which they stand from left to right (Unicode's UAX #9, simplified)."""
    text = said(text)
    language, parts = _language(text), units(text)
    main = _main_face(parts)
    line: list[Run] = []
    for unit, is_rtl in zip(parts, _directions(parts), strict=True):
        run = Run(unit, _face(unit, main, language) or OWN, is_rtl, _SHOWN_AS_PICTURE.match(unit) is not None)
        if line and line[-1].goes_on(run):
            line[-1] = replace(run, text=line[-1].text + unit)
        else:
            line.append(run)
    return tuple(_in_order(line, base_is_rtl=_is_rtl(text)))


def _face(unit: str, main: Face, language: str) -> Face | None:
    """The font that draws a unit; None where none has it."""
    if _SHOWN_AS_PICTURE.match(unit):
        return face_for(unit, "emoji", "", colour=True)
    if main.covers(unit):
        return main
    script = _script(unit[0], language)
    return face_for(unit, script, language if script in _EAST_ASIAN else "")


def _in_words(unit: str, main: Face, language: str) -> str:
    """What is drawn for a unit that no font has: the same without accents, or that there is none."""
    is_picture = _SHOWN_AS_PICTURE.match(unit) is not None
    plain = _PLAIN.get(unit) or "".join(c for c in unicodedata.normalize("NFKD", unit) if not unicodedata.combining(c))
    if plain and not is_picture and main.covers(plain):
        return plain
    return f"[no font for {'emoji' if is_picture else _script(unit[0], language)}]"


_PLAIN = dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-") | {"\u2192": "->", "\u00d7": "x", "\u20ac": "EUR"}
"""What is drawn for a sign that no font has, besides letters without their accents."""


def _main_face(parts: Sequence[str]) -> Face:
    """Pillow's own font, or one that has more, where letters of a text that are like its own are missing in it."""
    missing = [unit for unit in parts if _script(unit[0], "") in _LIKE_OURS and not OWN.covers(unit)]
    if not missing:
        return OWN
    every = "".join(dict.fromkeys(missing))
    return face_for(every, "Latin", "") or face_for(missing[0], "Latin", "") or OWN


_LIKE_OURS = ("Latin", "Greek", "Cyrillic")
_EAST_ASIAN = ("Chinese", "Japanese", "Korean")


def _language(text: str) -> str:
    """Of a text with Chinese characters: which language's forms of them it wants."""
    if re.search("[\u3040-\u30ff\uff66-\uff9d]", text):
        return "ja"
    return "ko" if re.search("[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]", text) else "zh-cn"


@cache
def _script(letter: str, language: str) -> str:
    """The script of a letter, as a person calls it."""
    if unicodedata.east_asian_width(letter) in "WF":
        return {"ja": "Japanese", "ko": "Korean"}.get(language, "Chinese")
    kind = unicodedata.category(letter)
    if kind[0] in "SP":
        return "symbols" if kind[0] == "S" else "punctuation"
    return unicodedata.name(letter, "this").split()[0].split("-")[0].capitalize()


def _is_rtl(text: str) -> bool:
    """Whether the first letter that has a direction goes from right to left."""
    strong = (each for c in text if (each := unicodedata.bidirectional(c)) in {"L", "R", "AL"})
    return next(strong, "L") != "L"


def _directions(parts: Sequence[str]) -> list[bool]:
    """For each unit, whether it goes from right to left; spaces and signs go as what stands around them."""
    base = _is_rtl("".join(parts))
    own = [_DIRECTION.get(unicodedata.bidirectional(unit[0])) for unit in parts]
    resolved: list[bool] = []
    before = base
    for at, kind in enumerate(own):
        if kind == "number":
            resolved.append(False)
            before = base
        elif kind is not None:
            resolved.append(kind == "rtl")
            before = resolved[-1]
        else:
            after = next((each for each in own[at:] if each is not None), None)
            same = base if after in {None, "number"} else after == "rtl"
            resolved.append(before if before == same else base)
    return resolved


_DIRECTION = {"L": "ltr", "R": "rtl", "AL": "rtl", "EN": "number", "AN": "number"}
"""Of Unicode's classes; the others have none of their own."""


def _in_order(line: Sequence[Run], *, base_is_rtl: bool) -> list[Run]:
    """From left to right: what runs against the line is turned around as a whole."""
    groups = [list(group) for _, group in groupby(line, key=lambda run: run.is_rtl)]
    turned = [group[::-1] if group[0].is_rtl else group for group in groups]
    return [run for group in (turned[::-1] if base_is_rtl else turned) for run in group]


@cache
def has_shaping() -> bool:
    """Whether letters can be joined as Arabic's are, and emoji to one (Pillow with Raqm and FriBiDi)."""
    return bool(features.check_feature("raqm"))


def _as_taken(run: Run) -> tuple[str, str | None]:
    """The text as Pillow takes it, and the direction, where it knows any."""
    if has_shaping() and run.face.file:  # Pillow's own has no shapes to choose from
        return run.text, "rtl" if run.is_rtl else "ltr"
    parts = ["".join(letter for letter in unit if letter not in INVISIBLE) for unit in units(run.text)]
    return "".join(reversed(parts)).translate(_MIRRORED) if run.is_rtl else "".join(parts), None


_MIRRORED = str.maketrans("()[]{}<>\u00ab\u00bb", ")(][}{><\u00bb\u00ab")


@lru_cache(maxsize=2048)
def _length(run: Run, size: int) -> float:
    font, scale = run.face.sized(_height(run, size))
    text, direction = _as_taken(run)
    return font.getlength(text, direction=direction) * scale


def _height(run: Run, size: int) -> int:
    return round(size * _EMOJI_SCALE) if run.is_emoji else size


def text_width(text: str, size: int) -> float:
    """Pixels of one line in letters of `size` pixels."""
    return sum(_length(run, size) for run in runs(text))


def write(
    image: Image.Image,
    xy: tuple[float, float],
    text: str,
    size: int,
    *,
    fill: Ink = WHITE,
    anchor: str = "la",
) -> None:
    """Draw words on an image, in lines where `text` has several.

    `anchor` as Pillow has it: left, middle or right of `x`; ascender, middle or descender at `y`.
    """
    rows = text.split("\n")
    ascent, descent = OWN.sized(size)[0].getmetrics()
    step = size * LINE
    above = {"a": 0.0, "m": (len(rows) - 1) / 2 * step, "d": (len(rows) - 1) * step}[anchor[1]]
    baseline = xy[1] - above + {"a": ascent, "m": (ascent - descent) / 2, "d": -descent}[anchor[1]]
    pen = ImageDraw.Draw(image, "RGBA") if image.mode == "RGB" else ImageDraw.Draw(image)
    for row in rows:
        x = xy[0] - {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]] * text_width(row, size)
        for run in runs(row):
            if run.is_emoji:
                _paste(image, (x, baseline), run, size)
            else:
                words, direction = _as_taken(run)
                font, _ = run.face.sized(size)
                pen.text((x, baseline), words, fill=fill, font=font, anchor="ls", direction=direction)
            x += _length(run, size)
        baseline += step


def _paste(image: Image.Image, at: tuple[float, float], run: Run, size: int) -> None:
    """Put coloured pictures on an image, their left end and their baseline at a point."""
    font, scale = run.face.sized(_height(run, size))
    text, direction = _as_taken(run)
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


def cut(text: str, size: int, width: float) -> str:
    """One line of at most `width` pixels: the beginning of `text`, with an ellipsis where it is cut."""
    text = " ".join(text.split())
    if text_width(text, size) <= width:
        return text
    parts = units(said(text[: max(1, int(width))]))  # hardly a letter is narrower than a pixel
    fitting = bisect_right(range(1, len(parts) + 1), width, key=lambda n: text_width(_shortened(parts[:n]), size))
    return _shortened(parts[: max(1, fitting)])


def _shortened(parts: Sequence[str]) -> str:
    return "".join(parts).rstrip(" …") + "…"


_OPENING, _CLOSING = {"Ps", "Pi"}, {"Pe", "Pf", "Po", "Lm", "Pd"}


def _words(text: str) -> list[str]:
    """Parts between which a line may end, with the space before each: words, and Chinese and Japanese characters."""
    words: list[str] = []
    last = ""
    for unit in units(" ".join(text.split())):
        if unit == " ":
            words.append(unit)
        elif words and not _may_break(last, unit):
            words[-1] += unit
        else:
            words.append(unit)
        last = unit
    return words


def _may_break(last: str, unit: str) -> bool:
    """Whether a line may end between two units without a space."""
    if last == " " or not last or unicodedata.category(last[-1]) in _OPENING:
        return False
    wide = any(unicodedata.east_asian_width(each[0]) in "WF" for each in (last, unit))
    return wide and unicodedata.category(unit[0]) not in _CLOSING


def wrapped(text: str, size: int, width: float, lines: int) -> str:
    """`text` broken into at most `lines` lines of at most `width` pixels, the last one cut with an ellipsis."""
    rows = [""]
    for word in _words(said(text[: int(width) * (lines + 1)])):
        joined = rows[-1] + word if rows[-1] else word.lstrip()
        if text_width(joined, size) <= width:
            rows[-1] = joined
            continue
        if rows[-1]:
            rows.append("")
        rows[-1:] = _broken(word.lstrip(), size, width, lines + 1)
        if len(rows) > lines:
            break
    if len(rows) > lines:
        rows = [*rows[: lines - 1], cut(rows[lines - 1] + "……", size, width)]
    return "\n".join(rows)


def _broken(word: str, size: int, width: float, most: int) -> list[str]:
    """A word that is wider than a line in parts that are not, at most so many."""
    rows: list[str] = []
    parts = units(word)
    while parts and len(rows) < most:
        fitting = bisect_right(range(1, len(parts) + 1), width, key=lambda n: text_width("".join(parts[:n]), size))
        rows.append("".join(parts[: max(1, fitting)]))
        parts = parts[max(1, fitting) :]
    return rows or [""]
