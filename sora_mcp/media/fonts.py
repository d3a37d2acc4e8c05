"""Fonts of this machine for letters that Pillow's own has not: found, not shipped.

Fontconfig is asked where it is installed; elsewhere the folders are looked through in which systems keep them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from msgspec import Struct
from PIL import ImageFont
from PIL.ImageFont import FreeTypeFont

INVISIBLE = frozenset("\u200c\u200d\ufe0e\ufe0f")
"""What joins letters or chooses their form: a font need not have it."""

_ASK_WITHIN = 3.0
"""Seconds that fontconfig has for an answer."""
_SEARCH_WITHIN = 2.0
"""Seconds in which folders are looked through for one script."""
_MOST_FILES = 3000
_BITMAP_SIZES = (109, 160, 136, 128, 96, 64)
"""Pixels: fonts of coloured pictures have one size or a few (Noto's, Apple's)."""
_NOWHERE = "\U0010ffff"
"""No character: what a font shows for it, it shows for all that it has not."""

_USUAL = (
    *("NotoSans-Regular", "DejaVuSans", "Arial Unicode", "arial", "segoeui", "seguisym"),
    *("NotoColorEmoji", "Apple Color Emoji", "seguiemj"),
    *("NotoSansCJK-Regular", "PingFang", "Hiragino Sans GB", "msyh", "simsun"),
    *("ヒラギノ角ゴシック W3", "YuGothR", "msgothic", "AppleSDGothicNeo", "malgun"),
    *("NotoNaskhArabic-Regular", "NotoSansArabic-Regular", "GeezaPro", "SFArabic", "Nirmala", "LeelawUI"),
)
"""Names of files that are tried first, without their endings."""
_SPECIAL = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "condensed")
"""Words in the names of those that are tried last."""


class Face(Struct, frozen=True):
    """A font in a file; without one, Pillow's own. `index` counts the fonts of a collection."""

    file: str = ""
    index: int = 0

    def covers(self, text: str) -> bool:
        """Whether it has every letter of a text."""
        return all(letter in INVISIBLE or _has(self, letter) for letter in text)

    def sized(self, size: int) -> tuple[FreeTypeFont, float]:
        """The font, `size` pixels high or in the nearest size that it has; and by what that is to be multiplied.

        Raises OSError.
        """
        return _sized(self, size)


OWN = Face()
"""Pillow's own: the same on every machine; it has the letters of English."""


@cache
def _sized(face: Face, size: int) -> tuple[FreeTypeFont, float]:
    if not face.file:
        own = ImageFont.load_default(size)
        assert isinstance(own, FreeTypeFont)
        return own, 1.0
    for attempt in (size, *_BITMAP_SIZES):
        try:
            return ImageFont.truetype(face.file, attempt, face.index), size / attempt
        except OSError:
            if attempt == _BITMAP_SIZES[-1]:
                raise
    raise AssertionError


@cache
def _has(face: Face, letter: str) -> bool:
    """Whether a font shows something else for a letter than for one that it has not."""
    try:
        font = _simple(face)
        return letter.isspace() or _shape(font, letter) != _shape(font, _NOWHERE)
    except OSError:
        return False


@cache
def _simple(face: Face) -> FreeTypeFont:
    """A font that draws one letter as one: shaping makes those that are missing out of others."""
    font, _ = face.sized(24)
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


def _shape(font: FreeTypeFont, letter: str) -> bytes:
    mask = font.getmask(letter)
    return bytes(mask) + repr(mask.size).encode()


_found: dict[tuple[str, str, bool], list[Face]] = {}
"""Fonts that were found, by script, language and whether they are for coloured pictures."""
_without: set[tuple[str, str, bool]] = set()
"""Scripts for which a letter was not found: nothing is looked for again."""


def face_for(letters: str, script: str, language: str, *, colour: bool = False) -> Face | None:
    """A font that has all of `letters`; None where none was found.

    `script` is what it is kept for, `language` (`ja`, …) decides between fonts that have the same letters, `colour`
    prefers coloured pictures.
    """
    key = (script, language, colour)
    known = _found.setdefault(key, [])
    for face in known:
        if face.covers(letters):
            return face
    if key in _without:
        return None
    for face in _candidates(letters, language, colour=colour):
        if face.covers(letters):
            known.append(face)
            return face
    _without.add(key)
    return None


def _candidates(letters: str, language: str, *, colour: bool) -> Iterator[Face]:
    program = shutil.which("fc-match")
    if program is not None:
        yield from _asked(program, letters, language, colour=colour)
        return
    until = time.monotonic() + _SEARCH_WITHIN
    for path in _files():
        if time.monotonic() > until:
            return
        yield Face(str(path), _cjk_index(path, language))


def _asked(program: str, letters: str, language: str, *, colour: bool) -> Iterator[Face]:
    """What fontconfig takes for these letters: its first choice, in colour where that is wanted, else in any."""
    charset = " ".join(f"{ord(letter):x}" for letter in letters if letter not in INVISIBLE)
    for more in (":color=true", "") if colour else (":color=false", ""):
        pattern = f"sans-serif:charset={charset}{more}" + (f":lang={language}" if language else "")
        try:
            done = subprocess.run(  # noqa: S603
                [program, "-f", "%{file}\n%{index}\n", pattern],
                check=True,
                capture_output=True,
                timeout=_ASK_WITHIN,
            )
        except (OSError, subprocess.SubprocessError):
            return
        file, index = [*os.fsdecode(done.stdout).splitlines(), "", ""][:2]
        if file:
            yield Face(file, int(index) if index.isdecimal() else 0)


def _cjk_index(path: Path, language: str) -> int:
    """Which font of Noto's collection draws the characters as a language does."""
    order = {"ja": 0, "ko": 1, "zh-cn": 2, "zh-tw": 3}
    return order.get(language, 0) if "CJK" in path.name and path.suffix == ".ttc" else 0


@cache
def _files() -> list[Path]:
    """Font files in the usual folders, the usual ones first, slanted and heavy ones last."""
    files = (path for folder in _folders() for path in _below(folder))
    ends = {".ttf", ".ttc", ".otf"}
    kept = [path for path, _ in zip(files, range(_MOST_FILES), strict=False) if path.suffix.lower() in ends]
    return sorted(kept, key=_rank)


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names))


def _rank(path: Path) -> tuple[int, bool, str]:
    usual = _USUAL.index(path.stem) if path.stem in _USUAL else len(_USUAL)
    is_special = any(word in path.stem.lower() for word in _SPECIAL)
    return usual, is_special, path.name


def _folders() -> list[Path]:
    """Where a system keeps its fonts, and a user theirs."""
    home = Path.home()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", str(home / "AppData" / "Local"))
        return [
            Path(os.environ.get("WINDIR", r"C:\Windows")) / "Fonts",
            Path(local) / "Microsoft" / "Windows" / "Fonts",
        ]
    if sys.platform == "darwin":
        return [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library" / "Fonts"]
    return [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts", home / ".fonts"]
