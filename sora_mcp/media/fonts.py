"""Fonts of this machine for letters that Pillow's built-in font lacks; none are shipped.

Fontconfig finds them if it is installed; otherwise the folders are searched in which systems keep fonts.
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
"""Joiners and variation selectors: a font need not have them."""

_FONTCONFIG_TIMEOUT_S = 3.0
"""Seconds."""
_SEARCH_TIMEOUT_S = 2.0
"""Seconds for one script."""
_MAX_FILES = 3000
_BITMAP_SIZES = (109, 160, 136, 128, 96, 64)
"""Pixels: colour bitmap fonts have one size or a few (Noto's, Apple's)."""
_NONCHARACTER = "\U0010ffff"
"""Not a character: a font draws it as it draws every character that it lacks."""

_PREFERRED_FILES = (
    *("NotoSans-Regular", "DejaVuSans", "Arial Unicode", "arial", "segoeui", "seguisym"),
    *("NotoColorEmoji", "Apple Color Emoji", "seguiemj"),
    *("NotoSansCJK-Regular", "PingFang", "Hiragino Sans GB", "msyh", "simsun"),
    *("ヒラギノ角ゴシック W3", "YuGothR", "msgothic", "AppleSDGothicNeo", "malgun"),
    *("NotoNaskhArabic-Regular", "NotoSansArabic-Regular", "GeezaPro", "SFArabic", "Nirmala", "LeelawUI"),
)
"""Files to try first, without their suffixes."""
_STYLE_WORDS = ("bold", "italic", "oblique", "light", "thin", "black", "mono", "condensed")
"""Files with these words in their names are tried last."""


class Face(Struct, frozen=True):
    """A font file, or Pillow's built-in font if `file` is empty. `index` selects a font of a collection."""

    file: str = ""
    index: int = 0

    def covers(self, text: str) -> bool:
        """Whether the font has every letter of a text."""
        return all(letter in INVISIBLE or _has_glyph(self, letter) for letter in text)

    def load(self, size: int) -> tuple[FreeTypeFont, float]:
        """Load the font at `size` pixels or at a size that it has, and return it with the factor to scale it by.

        Raises OSError.
        """
        return _load(self, size)


DEFAULT_FACE = Face()
"""Pillow's built-in font: the same on every machine; it covers English."""


@cache
def _load(face: Face, size: int) -> tuple[FreeTypeFont, float]:
    if not face.file:
        font = ImageFont.load_default(size)
        assert isinstance(font, FreeTypeFont)
        return font, 1.0
    for attempt in (size, *_BITMAP_SIZES):
        try:
            return ImageFont.truetype(face.file, attempt, face.index), size / attempt
        except OSError:
            if attempt == _BITMAP_SIZES[-1]:
                raise
    raise AssertionError


@cache
def _has_glyph(face: Face, letter: str) -> bool:
    """Whether a font draws a letter differently from one that it lacks."""
    try:
        font = _unshaped(face)
        return letter.isspace() or _glyph_bitmap(font, letter) != _glyph_bitmap(font, _NONCHARACTER)
    except OSError:
        return False


@cache
def _unshaped(face: Face) -> FreeTypeFont:
    """The font without shaping, which would compose missing letters from others."""
    font, _ = face.load(24)
    return font.font_variant(layout_engine=ImageFont.Layout.BASIC)


def _glyph_bitmap(font: FreeTypeFont, letter: str) -> bytes:
    mask = font.getmask(letter)
    return bytes(mask) + repr(mask.size).encode()


_faces: dict[tuple[str, str, bool], list[Face]] = {}
"""Fonts found so far, by script, language and whether they are for emoji in colour."""
_missing: set[tuple[str, str, bool]] = set()
"""Keys for which a search failed: it is not repeated."""


def face_for(letters: str, script: str, language: str, *, colour: bool = False) -> Face | None:
    """Find a font that has all of `letters`; None if there is none.

    `script` is the key that it is cached under, `language` (`ja`, …) decides between fonts that have the same letters,
    `colour` prefers colour fonts.
    """
    key = (script, language, colour)
    faces = _faces.setdefault(key, [])
    for face in faces:
        if face.covers(letters):
            return face
    if key in _missing:
        return None
    for face in _candidates(letters, language, colour=colour):
        if face.covers(letters):
            faces.append(face)
            return face
    _missing.add(key)
    return None


def _candidates(letters: str, language: str, *, colour: bool) -> Iterator[Face]:
    program = shutil.which("fc-match")
    if program is not None:
        yield from _ask_fontconfig(program, letters, language, colour=colour)
        return
    deadline = time.monotonic() + _SEARCH_TIMEOUT_S
    for path in _font_files():
        if time.monotonic() > deadline:
            return
        yield Face(str(path), _cjk_index(path, language))


def _ask_fontconfig(program: str, letters: str, language: str, *, colour: bool) -> Iterator[Face]:
    """Fontconfig's first choice for these letters: first in colour or not, as wanted, then either way."""
    charset = " ".join(f"{ord(letter):x}" for letter in letters if letter not in INVISIBLE)
    for colour_filter in (":color=true", "") if colour else (":color=false", ""):
        pattern = f"sans-serif:charset={charset}{colour_filter}" + (f":lang={language}" if language else "")
        try:
            result = subprocess.run(  # noqa: S603
                [program, "-f", "%{file}\n%{index}\n", pattern],
                check=True,
                capture_output=True,
                timeout=_FONTCONFIG_TIMEOUT_S,
            )
        except (OSError, subprocess.SubprocessError):
            return
        file, index = [*os.fsdecode(result.stdout).splitlines(), "", ""][:2]
        if file:
            yield Face(file, int(index) if index.isdecimal() else 0)


def _cjk_index(path: Path, language: str) -> int:
    """The index of the font in Noto's collection that draws characters in the forms of a language."""
    order = {"ja": 0, "ko": 1, "zh-cn": 2, "zh-tw": 3}
    return order.get(language, 0) if "CJK" in path.name and path.suffix == ".ttc" else 0


@cache
def _font_files() -> list[Path]:
    """Font files in the usual folders, preferred ones first, slanted and heavy ones last."""
    files = (path for folder in _font_folders() for path in _walk(folder))
    suffixes = {".ttf", ".ttc", ".otf"}
    fonts = [path for path, _ in zip(files, range(_MAX_FILES), strict=False) if path.suffix.lower() in suffixes]
    return sorted(fonts, key=_rank)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(parent, name) for name in sorted(names))


def _rank(path: Path) -> tuple[int, bool, str]:
    position = _PREFERRED_FILES.index(path.stem) if path.stem in _PREFERRED_FILES else len(_PREFERRED_FILES)
    is_special = any(word in path.stem.lower() for word in _STYLE_WORDS)
    return position, is_special, path.name


def _font_folders() -> list[Path]:
    """The font folders of this system and of the user."""
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
