"""What a request at OpenRouter is estimated at, as far as its model's entry tells that."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sora_mcp.config.settings import load
from sora_mcp.core.cost import Cost, Estimate
from sora_mcp.core.models import SDEdit, VideoRequest
from sora_mcp.dialects import configured
from sora_mcp.dialects.protocol import Pricing

TIERS = {"duration_seconds": "0.10", "duration_seconds_1080p": "0.50"}
TOKENS = {"video_tokens": "0.00001"}
SIZED: dict[str, Any] = {
    "supported_sizes": ["1280x720", "1920x1080", "720x1280"],
    "supported_durations": [4, 8, 6],
    "allowed_passthrough_parameters": ["previous_job_id"],
}
OPEN: dict[str, Any] = {"supported_durations": [4, 8, 6], "allowed_passthrough_parameters": ["previous_job_id"]}


def estimate(entry: dict[str, Any], skus: dict[str, str], **asked: Any) -> Estimate | None:
    dialect = configured(load({}, dialect="openrouter", model="maker/one"))
    assert isinstance(dialect, Pricing)
    dialect.load_catalogue(json.dumps([{"id": "maker/one", "pricing_skus": skus} | entry]))  # type: ignore[attr-defined]
    request = VideoRequest(**({"operation": "simple_compose", "prompt": "fly man"} | asked))
    dialect.check(request)
    return dialect.estimate(request)


REMIX: dict[str, Any] = {"operation": "remix", "sdedit": SDEdit(source_generation_id="gen-vid-1")}
HD: dict[str, Any] = {"width": 1280, "height": 720}


@pytest.mark.parametrize(
    ("entry", "skus", "asked", "amount"),
    [
        (SIZED, TIERS, REMIX, "4"),
        (SIZED, TIERS, REMIX | {"n_frames": 120}, "2"),
        (SIZED, TIERS, REMIX | HD, "0.80"),
        (SIZED, TIERS, REMIX | HD | {"n_frames": 120}, "0.40"),
        (SIZED, TOKENS, REMIX, "4.86"),
        (SIZED, TOKENS, REMIX | HD, "2.16"),
        (OPEN, TIERS, REMIX, "4"),
        (OPEN, TIERS, {"n_frames": 120}, "2"),
        (SIZED, TIERS, {"n_frames": 120}, "0.40"),
    ],
    ids=str,
)
def test_what_a_request_leaves_open_is_estimated_as_the_most_that_the_model_makes(
    entry: dict[str, Any], skus: dict[str, str], asked: dict[str, Any], amount: str
) -> None:
    made = estimate(entry, skus, **asked)
    assert made is not None
    assert made.cost == Cost.of(amount, "USD")


def test_the_formula_of_a_remix_says_what_was_guessed() -> None:
    made = estimate(SIZED, TIERS, **REMIX)
    assert made is not None
    why = "(the highest price, since the resolution is not known)"
    assert made.formula == f"8 s (the model's longest) x 0.50 USD a second {why} = 4 USD"
    stated = estimate(SIZED, TIERS, **REMIX, **HD, n_frames=120)
    assert stated is not None
    assert stated.formula == "4 s x 0.10 USD a second = 0.40 USD"


@pytest.mark.parametrize(
    ("entry", "skus"),
    [(OPEN | {"supported_durations": None}, TIERS), (OPEN, TOKENS), (SIZED, {"generation": "0.35"})],
    ids=str,
)
def test_where_nothing_bounds_what_a_remix_becomes_it_has_no_estimate(
    entry: dict[str, Any], skus: dict[str, str]
) -> None:
    assert estimate(entry, skus, **REMIX) is None
