"""What is known of the servers with `/v1/videos`: data, one entry for each. To add one, add an entry here, and its name
to `sora_mcp.config.endpoint`.

Taken from the sources and documentation of vLLM-Omni 0.30, SGLang Diffusion 0.5.23, TensorRT-LLM and new-api (2026-11);
none was tried on a GPU. `generic` is what they share with OpenAI's own, closed, Videos API.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from msgspec import Struct, field

from sora_mcp.dialects.shots import SHOT_TEMPLATE


class Family(Struct, frozen=True, kw_only=True):
    """What a family of models makes: `step` * k + `rest` frames at `fps`, which last from `min_s` to `max_s` seconds;
    sides that are multiples of `multiple` pixels.

    `name_parts`: the model's name contains one of them (in lower case). `sizes` are replaced by others before that;
    `size` and `n_frames` are its defaults. `takes_last_image`: an image may be the last frame. `follows_image`: without
    a size a video has the shape of its first image. `ratios`: one of these is sent if there is no image.
    `image_is_reference`: it takes an image not as a frame but as a reference for what is to be seen.
    """

    name_parts: tuple[str, ...]
    fps: int
    step: int
    multiple: int
    size: tuple[int, int]
    n_frames: int
    rest: int = 1
    min_s: float = 0
    max_s: float | None = None
    sizes: Mapping[tuple[int, int], tuple[int, int]] = field(default_factory=dict)
    takes_last_image: bool = False
    follows_image: bool = False
    image_is_reference: bool = False
    ratios: tuple[str, ...] = ()


WAN_5B = Family(name_parts=("ti2v-5b",), fps=24, step=4, multiple=32, size=(1280, 704), n_frames=121)
WAN = Family(
    name_parts=("wan",),
    fps=16,
    step=4,
    multiple=16,
    size=(832, 480),
    n_frames=81,
    sizes={(854, 480): (832, 480), (480, 854): (480, 832)},
)
VACE = Family(
    name_parts=("vace",),
    fps=16,
    step=4,
    multiple=16,
    size=(832, 480),
    n_frames=81,
    sizes=WAN.sizes,
    image_is_reference=True,
)
"""Its pipeline in vLLM-Omni takes an image as a reference of the subject (R2V), and a video to be edited (V2V)."""
HUNYUAN = Family(name_parts=("hunyuan",), fps=24, step=4, multiple=16, size=(832, 480), n_frames=121)
LTX = Family(name_parts=("ltx",), fps=24, step=8, multiple=32, size=(768, 512), n_frames=121)
MINIMAX_H3 = Family(
    name_parts=("minimax-h3", "minimax_h3", "minimaxh3"),
    fps=24,
    step=17,
    rest=5,
    min_s=4,
    max_s=15,
    multiple=32,
    size=(1344, 768),
    n_frames=209,
    takes_last_image=True,
    follows_image=True,
    ratios=("21:9", "16:9", "4:3", "1:1", "3:4", "9:16"),
)
"""Without an image it needs one of its ratios; its frame rate is fixed."""
MODELS = (WAN_5B, HUNYUAN, LTX, WAN)
"""The first one with a name part in the model's name counts; Wan if none has, or if no model is named."""


class Profile(Struct, frozen=True, kw_only=True):
    """One type of server.

    `needs_model`: it refuses a request without a model's name. `models`: lengths are in frames, by these rules, in the
    fields `frames_field` and `fps_field`; without any, in whole seconds. `variants_field`: how many to make, up to
    `max_variants`. `has_remix`: it has `/remix`. `image_bytes`: the largest image in the form. `in_memory`: it loses
    its jobs when it stops. `shot_template`: the format of a beat in the prompt.

    `video_field`: the file of the form for an earlier video to be changed, of `video_bytes` at most; only for models
    whose name contains one of `video_models` (if there are any), and none of `no_video_models`.
    """

    name: str
    needs_model: bool = False
    models: tuple[Family, ...] = ()
    frames_field: str = "num_frames"
    fps_field: str = "fps"
    variants_field: str = ""
    max_variants: int = 1
    has_remix: bool = False
    image_bytes: int = 20_000_000
    video_field: str = ""
    video_bytes: int = 50_000_000
    video_models: tuple[str, ...] = ()
    no_video_models: tuple[str, ...] = ()
    in_memory: bool = False
    can_list: bool = False
    can_stop: bool = False
    shot_template: str = SHOT_TEMPLATE

    def family(self, model: str | None) -> Family | None:
        """Return the rule for a model; None if lengths are in seconds."""
        return next(self._matching(model), self.models[-1] if self.models else None)

    def has_rule_for(self, model: str | None) -> bool:
        """Whether a named model's own rule is known, or none is needed."""
        return not self.models or model is None or next(self._matching(model), None) is not None

    def takes_video(self, model: str | None) -> bool:
        """Whether an earlier video can be sent to be changed."""
        name = (model or "").lower()
        is_allowed = not self.video_models or any(part in name for part in self.video_models)
        return bool(self.video_field) and is_allowed and not any(part in name for part in self.no_video_models)

    def _matching(self, model: str | None) -> Iterator[Family]:
        name = (model or "").lower()
        return (rule for rule in self.models if any(part in name for part in rule.name_parts))


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(name="generic", needs_model=True),
        Profile(
            name="vllm-omni",
            models=(VACE, MINIMAX_H3, *MODELS),
            video_field="input_reference",  # a `video_reference` reaches VACE in 0.30 as a path, opened as an image
            video_models=("vace",),
            in_memory=True,
            can_list=True,
            can_stop=True,
        ),
        Profile(
            name="sglang",
            models=MODELS,
            variants_field="n",
            max_variants=10,
            video_field="video_reference",
            no_video_models=("t2v", "i2v", "hunyuan", "ltx"),
            in_memory=True,
            can_list=True,
        ),
        Profile(name="tensorrt-llm", models=MODELS, fps_field="frame_rate", in_memory=True, can_list=True),
        Profile(name="new-api", needs_model=True, has_remix=True),
    )
}
