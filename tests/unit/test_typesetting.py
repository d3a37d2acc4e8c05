"""Words in any script: drawn where this machine has a font for them, and otherwise said in words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from sora_mcp.media import typesetting

TEXTS = {
    "Chinese": "\u4e00\u53ea\u732b\u5077\u4e86\u5410\u53f8",
    "Japanese": "\u732b\u304c\u30c8\u30fc\u30b9\u3092\u76d7\u3080",
    "Korean": "\uace0\uc591\uc774\uac00 \ud1a0\uc2a4\ud2b8\ub97c",
    "Arabic": "\u0627\u0644\u0642\u0637\u0629 \u062a\u0633\u0631\u0642",
    "Cyrillic": "\u0421\u043d\u0435\u0433 \u043f\u0430\u0434\u0430\u0435\u0442",
    "Greek": "\u03b3\u03ac\u03c4\u03b1",
    "Devanagari": "\u092c\u093f\u0932\u094d\u0932\u0940",
    "emoji": "\U0001f469\u200d\U0001f680 \U0001f315 \U0001f1e9\U0001f1ea",
}
FC_LIST = shutil.which("fc-list")
needs_fontconfig = pytest.mark.skipif(FC_LIST is None, reason="fontconfig is not installed")
needs_shaping = pytest.mark.skipif(not typesetting.has_shaping(), reason="Pillow joins no letters here")


@cache
def has_font(script: str) -> bool:
    """Whether fontconfig knows a font with every letter of a script's text."""
    charset = " ".join(f"{ord(letter):x}" for letter in set(TEXTS[script]) if letter not in " \u200d")
    assert FC_LIST is not None
    done = subprocess.run([FC_LIST, f":charset={charset}"], check=True, capture_output=True, timeout=10)  # noqa: S603
    return bool(done.stdout.strip())


def skip_without_font(script: str) -> None:
    if not has_font(script):
        pytest.skip(f"no font for {script} here")


def ink(text: str, size: int = 24) -> Image.Image:
    """White words on black, cut to what is not black."""
    image = Image.new("RGB", (1200, 3 * size))
    typesetting.draw_text(image, (size, size), text, size)
    return image.crop(image.getbbox())


@needs_fontconfig
@pytest.mark.parametrize("script", TEXTS)
def test_words_are_drawn_where_there_is_a_font_and_else_said_to_have_none(script: str) -> None:
    text = f"a {TEXTS[script]} b"
    assert typesetting.drawable(text) == (text if has_font(script) else f"a [no font for {script}] b")
    assert all(run.face.covers(run.text) for run in typesetting.runs(text))


@needs_fontconfig
@pytest.mark.parametrize("script", TEXTS)
def test_no_two_letters_look_alike_as_boxes_would(script: str) -> None:
    skip_without_font(script)
    graphemes = {grapheme for grapheme in typesetting.graphemes(TEXTS[script]) if not grapheme.isspace()}
    assert len({ink(grapheme).tobytes() for grapheme in graphemes}) == len(graphemes)


@needs_fontconfig
@needs_shaping
def test_arabic_letters_are_joined_unless_they_are_kept_apart() -> None:
    skip_without_font("Arabic")
    beh = "\u0628"
    assert ink(beh * 3).width < 2.5 * ink(beh).width
    assert ink(f"{beh}\u200c{beh}").width > ink(beh * 2).width


@needs_fontconfig
def test_words_from_right_to_left_stand_so_and_numbers_and_other_words_in_them_do_not() -> None:
    skip_without_font("Arabic")
    first, second = TEXTS["Arabic"].split()
    for text, shown in {
        f"{first} (2024) cats": ["cats", "2024", first],
        f"one {first} {second} two": ["one", f"{first} {second}", "two"],
        f"{first} 12, {second}": [second, "12", first],
    }.items():
        words = [run.text.strip(" (),") for run in typesetting.runs(text)]
        apart = [each for each in words if each]
        assert [word for each in apart for word in (reversed(each.split()) if first in each else [each])] == [
            word for each in shown for word in (reversed(each.split()) if first in each else [each])
        ]


@needs_fontconfig
@needs_shaping
def test_emoji_are_coloured_and_those_that_belong_together_are_one() -> None:
    skip_without_font("emoji")
    astronaut = ink("\U0001f469\u200d\U0001f680")
    assert astronaut.width < 1.5 * ink("\U0001f469").width
    colours = astronaut.getcolors(100_000) or []
    assert [colour for _, colour in colours if isinstance(colour, tuple) and max(colour) - min(colour) > 60]


SHOWN = """
import json, sys
from sora_mcp.media import typesetting
print(json.dumps([[run.text for run in typesetting.runs(text)] for text in json.loads(sys.stdin.read())]))
"""


def shown_in_a_process(texts: list[str], **environment: str) -> list[list[str]]:
    environ = os.environ | environment
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", SHOWN], input=json.dumps(texts), capture_output=True, text=True, check=True, env=environ
    )
    shown: list[list[str]] = json.loads(done.stdout)
    return shown


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a script stands in for fontconfig")
def test_without_any_font_that_is_said_once_and_accents_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "fc-match").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "fc-match").chmod(0o755)
    *scripts, accents = shown_in_a_process([*TEXTS.values(), "Caf\u00e9 \u2013 \u017di\u017ekov"], PATH=str(tmp_path))
    assert scripts == [[f"[no font for {script}]"] for script in TEXTS]
    assert accents == ["Cafe - Zizkov"]


@pytest.mark.slow
def test_folders_are_looked_through_where_fontconfig_is_not_installed(tmp_path: Path) -> None:
    folder = Path("/usr/share/fonts")
    if not any(path.stem in {"DejaVuSans", "NotoSans-Regular"} for path in folder.rglob("*.ttf")):
        pytest.skip("no font here that is known to have Cyrillic")
    assert shown_in_a_process([TEXTS["Cyrillic"]], PATH=str(tmp_path)) == [[TEXTS["Cyrillic"]]]


BROKEN = {
    "words": ("a line that is broken between its words", 3),
    "Japanese": (TEXTS["Japanese"] * 4, 3),
    "emoji": (TEXTS["emoji"].replace(" ", "") * 9, 3),
    "one long word": ("x" * 500, 2),
    "nothing": ("", 1),
}


@pytest.mark.parametrize(("text", "lines"), BROKEN.values(), ids=BROKEN)
def test_lines_keep_to_their_width_and_lose_only_what_is_cut(text: str, lines: int) -> None:
    rows = typesetting.wrap(text, 20, 150, lines).split("\n")
    assert len(rows) <= lines
    assert all(typesetting.text_width(row, 20) <= 150 for row in rows)
    drawn = typesetting.drawable(text).replace(" ", "")
    assert drawn.startswith("".join(rows).replace(" ", "").removesuffix("…"))


@needs_fontconfig
def test_a_japanese_line_does_not_begin_with_a_full_stop() -> None:
    skip_without_font("Japanese")
    text = "\u732b\u304c\u76d7\u3080\u3002" * 6
    for width in range(60, 200, 7):
        assert not [row for row in typesetting.wrap(text, 20, width, 9).split("\n") if row.startswith("\u3002")]
