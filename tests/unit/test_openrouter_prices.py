"""What OpenRouter's prices say of a request, and what a job cost in the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_mcp.core.cost import Cost
from sora_mcp.dialects.openrouter.prices import Job, estimate, usage_cost

JOB = Job(seconds=5, n_frames=150, width=1280, height=720, audio=True)


def usd(amount: object) -> Cost:
    return Cost.of(amount, "USD")


@pytest.mark.parametrize(
    ("skus", "formula"),
    [
        ({"duration_seconds": "0.10"}, "5 s x 0.10 USD a second = 0.50 USD"),
        ({"per-video-second": "0.5"}, "5 s x 0.50 USD a second = 2.50 USD"),
        ({"per-video-second": "0.50", "per-video-second-720p": "0.75"}, "5 s x 0.75 USD a second = 3.75 USD"),
        ({"cents_per_second_output": "12"}, "5 s x 0.12 USD a second = 0.60 USD"),
        ({"duration_seconds": "0.1", "duration_seconds_720p": "0.2"}, "5 s x 0.20 USD a second = 1 USD"),
        ({"duration_seconds": "0.1", "duration_seconds_1080p": "0.2"}, "5 s x 0.10 USD a second = 0.50 USD"),
        ({"duration_seconds": "0.1", "duration_seconds_without_audio": "0.05"}, "5 s x 0.10 USD a second = 0.50 USD"),
        ({"duration_seconds": "0.084", "duration_seconds_with_audio": "0.126"}, "5 s x 0.126 USD a second = 0.63 USD"),
        (
            {"video_tokens": "0.0000042"},
            "1280 x 720 x 150 frames / 1024 x 0.0000042 USD a token = 0.567 USD",
        ),
        (
            {"cents_per_second_output": "10", "minimum_cents_per_generation": "56"},
            "5 s x 0.10 USD a second = 0.50 USD, but at least 0.56 USD",
        ),
        ({"duration_seconds": "0.13", "reference_images": "0.04"}, "5 s x 0.13 USD a second = 0.65 USD"),
        ({"duration_seconds": "0.1", "duration_seconds_4k": "nonsense"}, "5 s x 0.10 USD a second = 0.50 USD"),
        ({"duration_seconds_720p": "0.1", "per_video_second_720p": "0.3"}, "5 s x 0.30 USD a second = 1.50 USD"),
        ({"duration_seconds": 0.1}, "5 s x 0.10 USD a second = 0.50 USD"),
    ],
    ids=str,
)
def test_an_estimate_shows_how_it_comes(skus: dict[str, Any], formula: str) -> None:
    made = estimate(skus, JOB)
    assert made is not None
    assert made.formula == formula
    assert str(made.cost) == formula.split()[-2] + " USD"


VEO = {
    "duration_seconds_with_audio": "0.12",
    "duration_seconds_without_audio": "0.10",
    "duration_seconds_with_audio_4k": "0.30",
    "duration_seconds_without_audio_4k": "0.25",
    "duration_seconds_without_audio_720p": "0.08",
}
WAN = {"text_to_video_duration_seconds_720p": "0.08", "image_to_video_duration_seconds_720p": "0.10"}
SEEDANCE = {"video_tokens": "0.000008", "video_tokens_without_audio": "0.000004", "video_tokens_with_video_input": "2"}


@pytest.mark.parametrize(
    ("skus", "changes", "amount"),
    [
        (VEO, {}, "0.60"),
        (VEO, {"audio": False}, "0.40"),
        (VEO, {"audio": None}, "0.60"),
        (VEO, {"resolution": "1080p", "audio": False}, "0.50"),
        (VEO, {"resolution": "4K"}, "1.50"),
        (VEO, {"width": 3840, "height": 2160, "audio": False}, "1.25"),
        (VEO, {"width": 720, "height": 1280, "audio": False}, "0.40"),
        (VEO, {"seconds": 4, "n_frames": 120}, "0.48"),
        (WAN, {}, "0.40"),
        (WAN, {"images": 1}, "0.50"),
        (SEEDANCE, {}, "1.08"),
        (SEEDANCE, {"audio": False}, "0.54"),
    ],
    ids=str,
)
def test_the_most_specific_price_that_fits_wins(skus: dict[str, str], changes: dict[str, Any], amount: str) -> None:
    made = estimate(skus, replace(JOB, **changes))
    assert made is not None
    assert made.cost == usd(amount)


NO_PRICES: list[object] = ["0", "-1", "nan", "inf", "1e12", "", "free", None, True, [], {}]


@pytest.mark.parametrize(
    "skus",
    [
        None,
        {},
        [],
        "0.10",
        {"generate": "0.50"},
        {"per_image": "0.04"},
        {"duration_seconds": "0.1", "fee_for_luck": "9"},
        {"duration_seconds_hd": "0.1"},
        {"duration_seconds_1080p": "0.1"},
        {"duration_seconds_without_audio": "0.1"},
        {"duration_seconds": "0.1", "duration_seconds_720p": "0"},
        {"duration_seconds": "0.1", "minimum_cents_per_generation": "much"},
        {1: "0.1"},
        *({"duration_seconds": value} for value in NO_PRICES),
        {"duration_seconds": "300000"},
        {"video_tokens": "0.00000000000000000000001", "video_tokens_720p": "0"},
    ],
    ids=str,
)
def test_anything_else_is_no_known_price(skus: object) -> None:
    assert estimate(skus, JOB) is None


def test_a_token_has_no_price_where_the_size_is_not_known() -> None:
    assert estimate({"video_tokens": "0.1"}, Job(seconds=5, n_frames=150, resolution="720p")) is None


def test_a_fee_for_each_image_is_not_left_out_of_an_estimate() -> None:
    skus = {"duration_seconds": "0.1", "reference_images": "0.04"}
    assert estimate(skus, JOB) is not None
    assert estimate(skus, replace(JOB, images=1)) is None


NAMES = st.sampled_from([*VEO, *WAN, *SEEDANCE, "duration_seconds", "cents_per_second_output", "x", "per-video-second"])
VALUES = st.sampled_from(
    [None, 0, -1, 0.1, float("nan"), "", "0", "x", "0.07", "1e400", "1e-30", "sNaN", "-inf", 10**5000, "5"]
)


@given(st.dictionaries(NAMES, VALUES), st.booleans() | st.none(), st.sampled_from([None, "480p", "720p", "4K", ""]))
def test_whatever_the_list_says_an_estimate_is_an_amount_above_0(
    skus: dict[str, Any], audio: bool | None, resolution: str | None
) -> None:
    made = estimate(skus, replace(JOB, audio=audio, resolution=resolution))
    assert made is None or (made.cost > usd(0) and made.cost.unit == "USD" and made.formula)


@pytest.mark.parametrize("amount", [0, 0.52, 3, 0.123456789])
def test_what_a_job_cost_is_read_from_its_usage(amount: float) -> None:
    assert usage_cost({"usage": {"cost": amount, "is_byok": False}}) == usd(amount)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), 1e9, "0.5", None, True, [], {}])
def test_a_usage_that_is_no_amount_is_ignored(amount: object) -> None:
    assert usage_cost({"usage": {"cost": amount}}) is None


@pytest.mark.parametrize("body", [None, [], {}, {"usage": None}, {"usage": 0.5}, {"usage": {}}, {"usage": [1]}])
def test_a_reply_without_a_usage_states_nothing(body: object) -> None:
    assert usage_cost(body) is None
