"""What OpenRouter's prices say of a request, and what a job cost in the end."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

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


TIERS = {"duration_seconds": "0.10", "duration_seconds_1080p": "0.50"}
UNKNOWN: dict[str, Any] = {"width": None, "height": None}
NO_BASE = {"duration_seconds_720p": "0.10", "duration_seconds_1080p": "0.50"}
DEAR_BASE = {"duration_seconds": "0.90", "duration_seconds_1080p": "0.50"}


@pytest.mark.parametrize(
    ("skus", "changes", "amount"),
    [
        (TIERS, UNKNOWN, "2.50"),
        (TIERS, {"width": 1920, "height": 1088}, "2.50"),
        (TIERS, {"width": 1440, "height": 1440}, "2.50"),
        (TIERS, {"width": 1900, "height": 1072}, "2.50"),
        (TIERS, {"width": 2560, "height": 720}, "2.50"),
        (TIERS, {"resolution": "best"}, "2.50"),
        (TIERS, {"width": 3840, "height": 2160}, "2.50"),
        (TIERS, {"width": 1920, "height": 1080}, "2.50"),
        (TIERS, {"width": 720, "height": 720}, "0.50"),
        (TIERS, {"resolution": "720p"}, "0.50"),
        (DEAR_BASE, UNKNOWN, "4.50"),
        (NO_BASE, UNKNOWN, "2.50"),
        (VEO, UNKNOWN, "1.50"),
        (VEO, UNKNOWN | {"audio": False}, "1.25"),
        (VEO, {"width": 1440, "height": 1440}, "1.50"),
        (WAN, UNKNOWN | {"images": 1}, "0.50"),
    ],
    ids=str,
)
def test_where_it_is_not_certain_which_resolution_is_charged_the_dearest_that_may_be_counts(
    skus: dict[str, str], changes: dict[str, Any], amount: str
) -> None:
    made = estimate(skus, replace(JOB, **changes))
    assert made is not None
    assert made.cost == usd(amount)


def test_the_formula_says_that_the_dearest_price_was_taken_and_why() -> None:
    unknown, unnamed = (estimate(TIERS, replace(JOB, **size)) for size in (UNKNOWN, {"width": 1920, "height": 1088}))
    assert unknown is not None
    assert unnamed is not None
    rate = "5 s x 0.50 USD a second (the highest price, since"
    assert unknown.formula == f"{rate} the resolution is not known) = 2.50 USD"
    assert unnamed.formula == f"{rate} none is for this exact resolution) = 2.50 USD"


@pytest.mark.parametrize("changes", [UNKNOWN, {"width": 1920, "height": 1088}])
def test_a_price_that_may_be_charged_and_is_no_amount_leaves_the_estimate_unknown(changes: dict[str, Any]) -> None:
    assert estimate({"duration_seconds": "0.1", "duration_seconds_1080p": "much"}, replace(JOB, **changes)) is None


def test_a_known_resolution_has_no_price_where_all_are_for_others() -> None:
    assert estimate(NO_BASE, replace(JOB, width=3840, height=2160)) is None


def test_an_upper_guess_says_that_it_is_one() -> None:
    most = replace(JOB, is_longest=True, is_largest=True)
    by_second, by_token = estimate(TIERS, most), estimate({"video_tokens": "0.0000042"}, most)
    assert by_second is not None
    assert by_token is not None
    why = "(the highest price, since the resolution is not known)"
    assert by_second.formula == f"5 s (the model's longest) x 0.50 USD a second {why} = 2.50 USD"
    size = "1280 x 720 (the model's largest) x 150 frames (the model's longest)"
    assert by_token.formula == f"{size} / 1024 x 0.0000042 USD a token = 0.567 USD"


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


TIERED = st.sampled_from([*VEO, *WAN, *TIERS, *NO_BASE, "video_tokens", "video_tokens_1080p", "duration_seconds_1k"])
SIDES = st.sampled_from([360, 480, 720, 768, 854, 1024, 1080, 1088, 1280, 1440, 1920, 2160, 2560, 3840])


@given(st.dictionaries(TIERED, st.sampled_from(["0.00001", "0.00002", "0.5e-4"])), SIDES, SIDES, st.booleans())
def test_no_size_is_estimated_above_what_an_unknown_one_is(
    skus: dict[str, str], width: int, height: int, audio: bool
) -> None:
    job = replace(JOB, width=width, height=height, audio=audio)
    known, most = estimate(skus, job), estimate(skus, replace(job, width=3840, height=3840, is_largest=True))
    assert known is None or (most is not None and not known.cost > most.cost)


@pytest.mark.parametrize("amount", [0, 0.52, 3, 0.123456789])
def test_what_a_job_cost_is_read_from_its_usage(amount: float) -> None:
    assert usage_cost({"usage": {"cost": amount, "is_byok": False}}) == usd(amount)


@pytest.mark.parametrize("amount", [-1, float("nan"), float("inf"), 1e9, "0.5", None, True, [], {}])
def test_a_usage_that_is_no_amount_is_ignored(amount: object) -> None:
    assert usage_cost({"usage": {"cost": amount}}) is None


@pytest.mark.parametrize("body", [None, [], {}, {"usage": None}, {"usage": 0.5}, {"usage": {}}, {"usage": [1]}])
def test_a_reply_without_a_usage_states_nothing(body: object) -> None:
    assert usage_cost(body) is None


@pytest.mark.parametrize("cost", [0, 0.02])
def test_what_the_users_own_key_pays_for_is_not_what_the_job_cost(cost: float) -> None:
    assert usage_cost({"usage": {"cost": cost, "is_byok": True}}) is None
