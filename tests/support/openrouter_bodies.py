"""Every kind of body that the OpenRouter dialect makes, for models that differ as the sandbox's do.

`python tests/support/openrouter_bodies.py` writes them as JSON, for proofs in environments of their own.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any

from sora_mcp.config.settings import load
from sora_mcp.core.errors import InvalidInput
from sora_mcp.core.models import Action, InpaintItem, SDEdit, VideoRequest
from sora_mcp.dialects.openrouter import OpenRouter
from sora_mcp.dialects.protocol import CannotExpress, Picture, SourceVideo
from sora_mcp.dialects.replies import Reply
from sora_mcp.sandbox.openrouter.models import MODELS

_LIST = json.dumps({"data": [model.list_entry() for model in MODELS.values()]}).encode()
_PNG = Picture("image.png", b"\x89PNG\r\n\x1a\n", "image/png")
_SOURCE = SourceVideo(name="gen-vid-1-a", address="https://openrouter.ai/signed/a.mp4?signature=1")
_SIZES: tuple[dict[str, Any], ...] = ({}, {"width": 480, "height": 480}, {"width": 1280, "height": 720})
_LENGTHS: tuple[dict[str, Any], ...] = ({}, {"n_frames": 150}, {"n_frames": 180}, {"n_frames": 300})
_BEATS = [Action(time=0, description="snow falls"), Action(time=60, description="a fox")]
_EXTRAS: tuple[dict[str, Any], ...] = ({}, {"seed": 7, "generate_audio": True}, {"generate_audio": False})


def _requests() -> Iterator[VideoRequest]:
    for size, length in product(_SIZES, _LENGTHS):
        shape = size | length
        last = length.get("n_frames", 150) - 1
        first = InpaintItem(url="https://pictures.example/a.png", frame_index=0)
        end = InpaintItem(url="https://pictures.example/b.png", frame_index=last)
        guide = InpaintItem(url="https://pictures.example/c.png")
        for images in ([], [first], [end], [first, end], [guide], [guide, guide]):
            yield VideoRequest(operation="simple_compose", prompt="fly man", inpaint_items=images, **shape)
            yield VideoRequest(operation="simple_compose", inpaint_items=images, **shape)
        yield VideoRequest(operation="storyboard", prompt="winter", actions=_BEATS, inpaint_items=[first], **shape)
        edit = SDEdit(source_generation_id="gen-vid-1-a")
        yield VideoRequest(operation="remix", prompt="at night", sdedit=edit, **shape)
        both = [InpaintItem(generation_id=f"gen-vid-1-{name}") for name in "ab"]
        yield VideoRequest(operation="blend", inpaint_items=both, **shape)


def bodies() -> list[dict[str, Any]]:
    """The bodies of everything that can be said, each once; pictures at even places are files, sent along."""
    unique: dict[str, dict[str, Any]] = {}
    for model, extras in product(MODELS, _EXTRAS):
        dialect = OpenRouter.configured(load({}, dialect="openrouter", model=model, **extras))
        dialect.load_catalogue(dialect.read_catalogue(Reply(200, {"content-type": "application/json"}, _LIST, now=0)))
        for request in _requests():
            try:
                dialect.check(request)
            except (CannotExpress, InvalidInput):
                continue
            needs = {need.item for need in dialect.plan(request).needs}
            attached = [i for i in range(len(request.inpaint_items)) if i in needs or i % 2 == 0]
            source = _SOURCE if None in needs else None
            body = dict(dialect.create(request, dict.fromkeys(attached, _PNG), source).json or {})
            unique[json.dumps(body, sort_keys=True)] = body
    return list(unique.values())


if __name__ == "__main__":
    sys.stdout.write(json.dumps(bodies()))
