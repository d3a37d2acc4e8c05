"""Viewing finished videos: one, its variants, or two beside each other, at the same times."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from sora_mcp import media
from sora_mcp.core import plans
from sora_mcp.core.advice import Save
from sora_mcp.core.errors import InvalidInput, Problem
from sora_mcp.core.pictures import MAX_STILLS, PictureFormat, View
from sora_mcp.core.results import OtherSheetVideo, SheetBeat, SheetStill, SheetVideo, Stills
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import clean
from sora_mcp.ledger import Entry
from sora_mcp.media.film import Probe
from sora_mcp.media.stills import Reel
from sora_mcp.media.viewer import Viewer
from sora_mcp.studio.generations import chosen_variant, usable_generation
from sora_mcp.studio.ids import variant_of

if TYPE_CHECKING:
    from sora_mcp.studio.files import Files

_MAX_BEAT_LENGTH = 120
"""Characters of a beat that are drawn or returned."""


class Shot(Struct, frozen=True):
    """One variant of a video, and the `title` that marks its stills if there are several."""

    entry: Entry
    variant: int
    title: str = ""

    @property
    def name(self) -> str:
        """Its name in errors."""
        return f"Variant {self.variant} of {self.entry.id}"


async def find_shots(
    find: Callable[[str], Awaitable[Entry]],
    video_id: str,
    *,
    variant: int,
    all_variants: bool,
    beside: str | None,
) -> list[Shot]:
    """Return the finished variants to view. Raises NotReady, InvalidInput and what `find` raises."""
    if all_variants and beside is not None:
        raise InvalidInput([Problem("beside", "cannot be combined with all_variants", "one of the two")])
    entry = await find(video_id)
    variant = chosen_variant(video_id, variant, entry)
    if all_variants:
        usable_generation(entry, min((each.variant for each in entry.generations), default=1), "task_id")
        variants = [each.variant for each in entry.generations if each.url is not None or each.variant in entry.files]
        numbers = variants[:MAX_STILLS] or [variant]
        return [Shot(entry, number, f"#{number}" if len(numbers) > 1 else "") for number in numbers]
    usable_generation(entry, variant, "task_id")
    if beside is None:
        return [Shot(entry, variant)]
    try:
        other = await find(beside)
    except InvalidInput as error:
        raise InvalidInput([replace(each, field="beside") for each in error.problems]) from None
    other_variant = variant_of(beside, "beside", other) or 1
    usable_generation(other, other_variant, "beside")
    if (other.request_id, other_variant) == (entry.request_id, variant):
        raise InvalidInput([Problem("beside", "is the same video", "another one, or another variant as task_…#2")])
    return [Shot(entry, variant, "A"), Shot(other, other_variant, "B")]


async def draw(
    shots: Sequence[Shot], view: View, files: Files, label: str, *, viewer: Viewer, picture_format: PictureFormat
) -> Stills:
    """Draw a contact sheet. A video that is not saved is fetched temporarily.

    Raises NotReady, InvalidInput, FileProblem, NotConfigured, BadReply and what fetching raises.
    """
    beats = [plans.beats(shot.entry.body) for shot in shots]
    if view.at_beats and not beats[0]:
        problem = f"{shots[0].entry.id} has no storyboard, so no beats"
        raise InvalidInput([Problem("at", problem, 'a frame, a time such as "7.3s", or a range such as "2s-5s"')])
    if not all([await files.is_saved(shot.entry, shot.variant) for shot in shots]):
        media.require_installed()  # before a whole video is fetched in vain
    async with AsyncExitStack() as stack:
        reels = []
        for shot, shot_beats in zip(shots, beats, strict=True):
            path = await stack.enter_async_context(files.local_file(shot.entry, shot.variant))
            own_beats = tuple((beat.frame / FPS, clean(beat.description, _MAX_BEAT_LENGTH)) for beat in shot_beats)
            reels.append(Reel(Path(path), shot.title, own_beats))
        try:
            sheet = await viewer.sheet(reels, view, [shot.name for shot in shots], picture_format=picture_format)
        except media.Unviewable as error:
            if error.may_be_played:
                error.advice = (*error.advice, *dict.fromkeys(Save(shot.entry.id) for shot in shots))
            raise
    for shot, probe in zip(shots, sheet.probes, strict=True):
        await files.record_shape(shot.entry, shot.variant, probe)
    return _stills(shots, view, sheet, reels[0], label)


def _stills(shots: Sequence[Shot], view: View, sheet: media.Sheet, first: Reel, label: str) -> Stills:
    videos = [_seen_video(shot, probe) for shot, probe in zip(shots, sheet.probes, strict=True)]
    beats = [
        SheetBeat(frame=frame, seconds=round(second, 2), description=text)
        for frame, (second, text) in zip(sheet.beats, first.beats, strict=True)
    ]
    drawn = {still.beat for still in sheet.stills if still.reel == 0}
    hidden = [number for number in range(1, len(beats) + 1) if number not in drawn] if view.at_beats else []
    seen_stills = [
        (still.reel, SheetStill(frame=still.frame, seconds=still.seconds, beat=still.beat)) for still in sheet.stills
    ]
    stills = [[still for reel, still in seen_stills if reel == number] for number in range(len(videos))]
    return Stills(
        **videos[0].model_dump(),
        gateway=label,
        frames=len(seen_stills),
        missing=sheet.missing or None,
        stills=stills[0],
        others=[_beside(videos[0], stills[0], *each) for each in zip(videos[1:], stills[1:], strict=True)] or None,
        videos=videos,
        all_stills=seen_stills,
        beats=beats,
        hidden_beats=hidden,
        is_large=view.at is not None,
        picture=sheet.picture,
    )


def _beside(
    first: SheetVideo, first_stills: list[SheetStill], video: SheetVideo, stills: list[SheetStill]
) -> OtherSheetVideo:
    """Return a further video, with the fields in which it differs from the first."""
    fields = video.model_dump()
    other = {name: value for name, value in fields.items() if value != getattr(first, name)}
    other |= {"name": video.name or "", "variant": video.variant}
    return OtherSheetVideo(**other, stills=None if stills == first_stills else stills)


def _seen_video(shot: Shot, probe: Probe) -> SheetVideo:
    return SheetVideo(
        name=shot.title or None,
        task_id=shot.entry.task_id or shot.entry.request_id,
        variant=shot.variant,
        width=probe.width,
        height=probe.height,
        n_frames=probe.n_frames,
        fps=None if probe.is_variable else round(probe.fps, 3),
        seconds=round(probe.duration_s, 2),
    )
