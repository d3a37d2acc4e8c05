"""What is known of the servers that speak `/v1/videos`: data, one entry for each. To add one is to add an entry here,
and its name to `sora_mcp.config.endpoint`.

Read in the sources and documentation of vLLM-Omni 0.30, SGLang Diffusion 0.5.23, TensorRT-LLM and new-api (2026-11);
none was tried on a GPU. `generic` is what they share with OpenAI's own, closed, Videos API.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sora_mcp.dialects.shots import SHOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """What a family of models makes: `step` times k, and one, frames at `fps`; sides of multiples of `multiple` pixels.

    `words`: its model's name holds one of them (in small letters). `sizes` become others before that; `size` and
    `n_frames` are its defaults.
    """

    words: tuple[str, ...]
    fps: int
    step: int
    multiple: int
    size: tuple[int, int]
    n_frames: int
    sizes: Mapping[tuple[int, int], tuple[int, int]] = field(default_factory=dict)


WAN_5B = Frames(words=("ti2v-5b",), fps=24, step=4, multiple=32, size=(1280, 704), n_frames=121)
WAN = Frames(
    words=("wan",),
    fps=16,
    step=4,
    multiple=16,
    size=(832, 480),
    n_frames=81,
    sizes={(854, 480): (832, 480), (480, 854): (480, 832)},
)
HUNYUAN = Frames(words=("hunyuan",), fps=24, step=4, multiple=16, size=(832, 480), n_frames=121)
LTX = Frames(words=("ltx",), fps=24, step=8, multiple=32, size=(768, 512), n_frames=121)
MODELS = (WAN_5B, HUNYUAN, LTX, WAN)
"""The first whose word is in the model's name counts; Wan's where none is, and where no model is named."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One kind of server.

    `needs_model`: a request without a model's name is refused there. `models`: how long videos are is said in frames,
    by these rules, in the fields `frames_field` and `fps_field`; without any, in whole seconds. `variants_field`: how
    many to make, up to `max_variants`. `has_remix`: it has `/remix`. `image_bytes`: the largest image in the form.
    `in_memory`: its jobs are gone when it ends. `shot`: how a beat stands in the prompt.
    """

    name: str
    needs_model: bool = False
    models: tuple[Frames, ...] = ()
    frames_field: str = "num_frames"
    fps_field: str = "fps"
    variants_field: str = ""
    max_variants: int = 1
    has_remix: bool = False
    image_bytes: int = 20_000_000
    in_memory: bool = False
    can_list: bool = False
    can_stop: bool = False
    shot: str = SHOT

    def frames(self, model: str | None) -> Frames | None:
        """The rule for a model; None where lengths are said in seconds."""
        name = (model or "").lower()
        fitting = (rule for rule in self.models if any(word in name for word in rule.words))
        return next(fitting, self.models[-1] if self.models else None)


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(name="generic", needs_model=True),
        Profile(name="vllm-omni", models=MODELS, in_memory=True, can_list=True, can_stop=True),
        Profile(name="sglang", models=MODELS, variants_field="n", max_variants=10, in_memory=True, can_list=True),
        Profile(name="tensorrt-llm", models=MODELS, fps_field="frame_rate", in_memory=True, can_list=True),
        Profile(name="new-api", needs_model=True, has_remix=True),
    )
}
