"""Three invented models that differ in what they accept, and in how they state their prices."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

from msgspec import Struct

FPS = 24
"""Frames per second of all videos of these models."""
_CREATED_AT = 1_795_000_000


class VideoModel(Struct, frozen=True, kw_only=True):
    """One model as listed. None: the list has no value.

    `has_continuation`: it accepts `previous_job_id`; `uses_videos`: it uses videos among `input_references`.
    OpenRouter's list has no fields for these two; here they are listed as passthrough parameters. `needs_prompt`: even
    if there are images. `size` and `duration` are the defaults. `dollars` is the final cost of a video, by its seconds,
    its shorter side in pixels and whether it has audio.
    """

    id: str
    name: str
    description: str
    durations: tuple[int, ...]
    resolutions: tuple[str, ...] | None
    aspect_ratios: tuple[str, ...] | None
    sizes: tuple[str, ...] | None
    frame_images: tuple[str, ...]
    generate_audio: bool | None
    seed: bool | None
    pricing_skus: Mapping[str, str] | None
    dollars: Callable[[int, int, bool], float]
    size: tuple[int, int]
    duration: int
    has_continuation: bool = False
    uses_videos: bool = False
    needs_prompt: bool = True

    @property
    def all_sizes(self) -> set[tuple[int, int]]:
        """Every size that the model supports."""
        ratios = product(self.resolutions or (), self.aspect_ratios or ())
        return {size_of(text) for text in self.sizes or ()} | {pixels(*each) for each in ratios}

    def list_entry(self) -> dict[str, Any]:
        """The entry in the list of models."""
        return {
            "id": self.id,
            "canonical_slug": f"{self.id}-20261120",
            "hugging_face_id": None,
            "name": self.name,
            "description": self.description,
            "created": _CREATED_AT,
            "supported_resolutions": self.resolutions,
            "supported_aspect_ratios": self.aspect_ratios,
            "supported_sizes": self.sizes,
            "supported_durations": self.durations,
            "supported_frame_images": self.frame_images,
            "generate_audio": self.generate_audio,
            "seed": self.seed,
            "creativity": None,
            "upscale_factor": None,
            "pricing_skus": self.pricing_skus,
            "allowed_passthrough_parameters": self._passthrough_parameters(),
        }

    def _passthrough_parameters(self) -> list[str]:
        return ["previous_job_id"] * self.has_continuation + ["input_references"] * self.uses_videos


_AURORA_SKUS = {
    "duration_seconds_480p": "0.04",
    "duration_seconds_720p": "0.08",
    "duration_seconds_without_audio_480p": "0.02",
    "duration_seconds_without_audio_720p": "0.04",
}


def _aurora_dollars(seconds: int, short_side: int, has_audio: bool) -> float:
    sound = "" if has_audio else "without_audio_"
    return seconds * float(_AURORA_SKUS[f"duration_seconds_{sound}{short_side}p"])


MODELS = {
    model.id: model
    for model in (
        VideoModel(
            id="sandbox/aurora-2",
            name="Sandbox: Aurora 2",
            description="Draws placeholders in six sizes, with first and last frames, reference images and videos, and "
            "audio that cannot be heard. Edits and extends its finished videos (previous_job_id).",
            durations=tuple(range(4, 13)),
            resolutions=("480p", "720p"),
            aspect_ratios=("16:9", "9:16", "1:1"),
            sizes=("480x480", "480x854", "854x480", "720x720", "720x1280", "1280x720"),
            frame_images=("first_frame", "last_frame"),
            generate_audio=True,
            seed=True,
            pricing_skus=_AURORA_SKUS,
            dollars=_aurora_dollars,
            size=(1280, 720),
            duration=5,
            has_continuation=True,
            uses_videos=True,
            needs_prompt=False,
        ),
        VideoModel(
            id="sandbox/brook-mini",
            name="Sandbox: Brook Mini",
            description="Draws placeholders by resolution and aspect ratio, from a first frame, or after reference "
            "images and videos. Silent.",
            durations=(4, 6, 8),
            resolutions=("480p", "720p"),
            aspect_ratios=("16:9", "9:16", "4:3", "21:9"),
            sizes=None,
            frame_images=("first_frame",),
            generate_audio=False,
            seed=False,
            pricing_skus={"cents_per_second_output": "3"},
            dollars=lambda seconds, _, __: seconds * 0.03,
            size=(854, 480),
            duration=4,
            uses_videos=True,
        ),
        VideoModel(
            id="sandbox/cinder",
            name="Sandbox: Cinder",
            description="Draws placeholders from words and reference images, in two sizes.",
            durations=(5, 10),
            resolutions=None,
            aspect_ratios=None,
            sizes=("1280x720", "720x1280"),
            frame_images=(),
            generate_audio=None,
            seed=None,
            pricing_skus={"generation": "0.35"},  # a name that no provider is known to use
            dollars=lambda _, __, ___: 0.35,
            size=(1280, 720),
            duration=5,
        ),
    )
}


def pixels(resolution: str, aspect_ratio: str) -> tuple[int, int]:
    """Width and height of, for example, 480p and 16:9: the shorter side is as named, the longer one is even."""
    short = int(resolution.removesuffix("p"))
    wide, high = map(int, aspect_ratio.split(":"))
    long = round(short * max(wide, high) / min(wide, high) / 2) * 2
    return (long, short) if wide >= high else (short, long)


def size_of(text: str) -> tuple[int, int]:
    """Width and height of a size that a model lists."""
    match = re.fullmatch(r"([0-9]+)x([0-9]+)", text)
    assert match is not None
    return int(match[1]), int(match[2])
