"""What `view_video` shows, as text: which videos, which stills, and which stills show which beat of a storyboard."""

from __future__ import annotations

from collections.abc import Sequence

from sora_mcp.core.results import SheetBeat, SheetStill, SheetVideo, Stills
from sora_mcp.core.tasks import counted, quoted
from sora_mcp.tools.agent_wording import FOR_AGENTS
from sora_mcp.tools.wording import Wording


def render_stills(sheet: Stills, _: Wording = FOR_AGENTS) -> str:
    """Render what the picture shows, what each video is, and which stills show which beat."""
    videos = sheet.videos
    description = _describe_videos(videos)
    lengths = {video.seconds for video in videos}
    if sheet.is_large and len(videos) == 1:
        return " ".join([f"{_format_position(sheet.stills[0])} of {description}, large.", *_describe_own_beat(sheet)])
    order = ", in reading order" if sheet.frames > 1 else ""
    together = ", grouped by time" if sheet.frames > len(videos) > 1 else ""
    shorter = ""
    if len(lengths) > 1 and not sheet.is_large:
        shorter = f"They are compared up to the end of the shorter one, {min(lengths):g} s."
    damage = f"The file is damaged: {sheet.missing} more stills cannot be decoded." if sheet.missing else ""
    stills = f"{counted(sheet.frames, 'still')} of {description}{order}{together}."
    return " ".join(filter(None, [stills, damage, shorter, *_describe_beats(sheet)]))


def _describe_videos(videos: Sequence[SheetVideo]) -> str:
    """Describe one video, several variants of one, or one next to another."""
    ids, shapes = {video.task_id for video in videos}, [_describe_shape(video) for video in videos]
    if len(videos) == 1:
        return f"{videos[0].task_id}, variant {videos[0].variant} ({shapes[0]})"
    if len(ids) > 1 or videos[0].name == "A":
        named = zip(videos, shapes, strict=True)
        return " and ".join(
            f"{video.name}: {video.task_id}, variant {video.variant} ({shape})" for video, shape in named
        )
    names = [video.name or "" for video in videos]
    if len(set(shapes)) == 1:
        return f"{videos[0].task_id}, variants {', '.join(names)} ({shapes[0]} each)"
    each = [f"{name} {shape}" for name, shape in zip(names, shapes, strict=True)]
    return f"{videos[0].task_id}, variants {'; '.join(each)}"


def _describe_shape(video: SheetVideo) -> str:
    rate = "at a varying rate" if video.fps is None else f"at {video.fps:g} per second"
    frames = "1 frame" if video.n_frames == 1 else f"{video.n_frames} frames {rate}"
    return f"{video.width}x{video.height}, {video.seconds:g} s, {frames}"


def _format_position(still: SheetStill) -> str:
    return f"Frame {still.frame} ({still.seconds:.2f} s)"


_MAX_BEATS = 12
"""Beats that are listed with the stills that show them."""


def _describe_own_beat(sheet: Stills) -> list[str]:
    """Describe the beat that a single still belongs to."""
    number = sheet.stills[0].beat
    if number is None:
        return ["It comes before the first beat."] if sheet.beats else []
    return [f"It belongs to beat {_beat(number, sheet.beats[number - 1])}."]


def _describe_beats(sheet: Stills) -> list[str]:
    """Describe where each beat begins, and the stills that show it."""
    if not sheet.beats:
        return []
    stills_by_beat: dict[int, list[str]] = {}
    for number, (video, still) in enumerate(sheet.all_stills, 1):
        if still.beat is not None and sheet.videos[video].task_id == sheet.task_id:
            stills_by_beat.setdefault(still.beat, []).append(str(number))
    sentences = [
        f"{_beat(number, beat)}: {_stills(stills_by_beat.get(number, []))}"
        for number, beat in enumerate(sheet.beats[:_MAX_BEATS], 1)
    ]
    more = f"; {len(sheet.beats) - _MAX_BEATS} more" if len(sheet.beats) > _MAX_BEATS else ""
    hidden = ", ".join(map(str, sheet.hidden_beats))
    return [f"Beats: {'; '.join(sentences)}{more}.", *([f"Not on this sheet: {hidden}."] if hidden else [])]


def _beat(number: int, beat: SheetBeat) -> str:
    begins = "past the end" if beat.frame is None else f"from frame {beat.frame}"
    return f"{number} {quoted(beat.description, 60)} {begins} ({beat.seconds:.2f} s)"


def _stills(numbers: Sequence[str]) -> str:
    return f"still{'s' * (len(numbers) > 1)} {', '.join(numbers)}" if numbers else "no still"
