"""The form fields that each kind of server accepts, and what the sandbox draws for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from sora_mcp.core.tables import FPS

_COMMON_FIELDS = frozenset({"prompt", "model", "size", "seconds", "input_reference"})
_FRAME_FIELDS = frozenset({"num_frames", "fps"})


class Face(Struct, frozen=True, kw_only=True):
    """One kind of server. `fields` are those of its form; `refuses_unknown` is the status and code for others. `files`
    are the fields that are files; with `takes_video`, the image field also accepts a video.

    `model` is the name of its one model ("": any name is accepted); `needs_model`: it has to be given. `size`, `fps`
    and `seconds` are the defaults.
    """

    fields: frozenset[str]
    files: frozenset[str] = frozenset({"input_reference"})
    takes_video: bool = False
    refuses_unknown: tuple[int, str] | None = None
    model: str = ""
    needs_model: bool = False
    takes_json: bool = True
    has_openai_errors: bool = False
    failed_is_500: bool = False
    can_list: bool = True
    has_remix: bool = False
    variants_field: str = ""
    fps_field: str = "fps"
    accepted_status: int = 200
    not_ready_status: int = 404
    owned_by: str = "sandbox"
    prefix: str = "video_"
    size: tuple[int, int] = (832, 480)
    fps: int = 24
    seconds: int = 4


_VLLM_OMNI_FIELDS = frozenset(
    [
        *("image_reference", "video_reference", "audio_reference", "user", "width", "height", "aspect_ratio", "lora"),
        *("short_edge", "num_outputs_per_prompt", "start_time_seconds", "quality", "num_inference_steps", "seed"),
        *("guidance_scale", "guidance_scale_2", "boundary_ratio", "flow_shift", "true_cfg_scale", "generate_sound"),
        *("negative_prompt", "extra_params"),
    ]
)
_WAN = "Wan-AI/Wan2.2-T2V-A14B-Diffusers"
FACES = {
    "vllm-omni": Face(
        fields=_COMMON_FIELDS | _FRAME_FIELDS | _VLLM_OMNI_FIELDS,
        model=_WAN,
        takes_json=False,
        takes_video=True,
        failed_is_500=True,
        owned_by="vllm",
        prefix="video_gen_",
    ),
    "generic": Face(
        fields=_COMMON_FIELDS,
        refuses_unknown=(400, "unknown_parameter"),
        needs_model=True,
        has_openai_errors=True,
        fps=FPS,
    ),
    "sglang": Face(
        fields=_COMMON_FIELDS | _FRAME_FIELDS | {"n", "seed", "negative_prompt", "video_reference"},
        files=frozenset({"input_reference", "video_reference"}),
        variants_field="n",
        owned_by="sglang",
    ),
    "tensorrt-llm": Face(
        fields=_COMMON_FIELDS | {"num_frames", "frame_rate", "seed", "negative_prompt"},
        refuses_unknown=(422, "extra_forbidden"),
        accepted_status=202,
        not_ready_status=400,
        fps_field="frame_rate",
        owned_by="tensorrt_llm",
    ),
    "new-api": Face(
        fields=_COMMON_FIELDS,
        needs_model=True,
        has_openai_errors=True,
        has_remix=True,
        can_list=False,
        fps=FPS,
        prefix="task_",
    ),
}


MAX_PIXELS = 10**9
"""Of all frames together, which takes a few seconds to draw."""


class FieldError(Exception):
    """A server does not accept this value of a field."""

    def __init__(self, status: int, message: str, field: str, code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.field, self.code = status, message, field, code


def body_from_fields(face: Face, fields: Mapping[str, str], model: str) -> tuple[dict[str, Any], int]:
    """Convert a form to the documented body, and return it with the frames per second. Raises FieldError."""
    invalid_status = 400 if face.has_openai_errors else 422
    unknown = sorted(set(fields) - face.fields)
    if unknown and face.refuses_unknown:
        status, code = face.refuses_unknown
        raise FieldError(status, f"Unknown parameter: '{unknown[0]}'.", unknown[0], code)
    if not fields.get("prompt", "").strip():
        raise FieldError(invalid_status, "Field required", "prompt", "missing")
    if face.needs_model and not fields.get("model"):
        raise FieldError(invalid_status, "Field required", "model", "missing")
    if "model" in fields and face.model and fields["model"] != model:
        raise FieldError(400, f"Model mismatch: this server serves {model}.", "model")
    size = _parse_numbers(r"([0-9]{1,5})x([0-9]{1,5})", fields, "size", invalid_status)
    seconds = _parse_numbers(r"([1-9][0-9]{0,3})", fields, "seconds", invalid_status)
    rate = _parse_numbers(r"([1-9][0-9]{0,2})(?:\.0*)?", fields, face.fps_field, invalid_status)
    frames = _parse_numbers(r"([1-9][0-9]{0,4})", fields, "num_frames", invalid_status)
    count = _parse_numbers(r"([1-9]|10)", fields, face.variants_field, invalid_status)
    width, height = size or face.size
    if not width or not height:
        raise FieldError(invalid_status, "must not be zero", "size")
    fps = rate[0] if rate else face.fps
    n_frames = frames[0] if frames else (seconds[0] if seconds else face.seconds) * fps
    if width * height * n_frames > MAX_PIXELS:
        raise FieldError(invalid_status, "This is more than the sandbox draws.", "size")
    shape = {"width": width, "height": height, "n_frames": n_frames, "n_variants": count[0] if count else 1}
    return body_from_prompt(fields["prompt"], fps) | shape | {"inpaint_items": []}, fps


def _parse_numbers(pattern: str, fields: Mapping[str, str], name: str, status: int) -> tuple[int, ...]:
    if name not in fields:
        return ()
    match = re.fullmatch(pattern, fields[name])
    if match is None:
        raise FieldError(status, "the value is not valid", name, "string_pattern_mismatch")
    return tuple(map(int, match.groups()))


_SHOT = re.compile(r"Shot [0-9]+ \(([0-9.]+)-[0-9.]+ s\): (.*)")


def body_from_prompt(prompt: str, fps: int) -> dict[str, Any]:
    """Convert a prompt with shots to a storyboard whose beats become captions; any other prompt stays as it is."""
    lines = prompt.splitlines()
    shots = [match for line in lines if (match := _SHOT.fullmatch(line))]
    rest = "\n".join(line for line in lines if not _SHOT.fullmatch(line)).strip()
    if not shots:
        return {"operation": "simple_compose", "prompt": prompt}
    beats = [{"time": round(float(shot[1]) * fps), "description": shot[2]} for shot in shots]
    return {"operation": "storyboard", "prompt": rest or shots[0][2], "actions": beats}
