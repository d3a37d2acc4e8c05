"""A sheet fills its rectangle, whatever the number and the shape of its stills."""

from __future__ import annotations

import pytest

from sora_mcp.media.layout import GAP, MAX_HEIGHT, MAX_WIDTH, arrange, row_lengths

SHAPES = {"landscape": (854, 480), "portrait": (480, 854), "square": (480, 480), "wide": (1280, 720)}


@pytest.mark.parametrize(
    ("shape", "count", "rows"),
    [
        ("landscape", 1, [1]),
        ("landscape", 2, [2]),
        ("landscape", 3, [3]),
        ("landscape", 4, [2, 2]),
        ("landscape", 5, [2, 3]),
        ("landscape", 6, [3, 3]),
        ("landscape", 8, [4, 4]),
        ("landscape", 9, [3, 3, 3]),
        ("landscape", 12, [4, 4, 4]),
        ("landscape", 16, [4, 4, 4, 4]),
        ("portrait", 1, [1]),
        ("portrait", 4, [4]),
        ("portrait", 6, [6]),
        ("portrait", 16, [8, 8]),
        ("square", 4, [2, 2]),
        ("square", 6, [3, 3]),
    ],
)
def test_stills_stand_in_rows_that_are_full(shape: str, count: int, rows: list[int]) -> None:
    width, height = SHAPES[shape]
    assert row_lengths(count, width / height) == rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("videos", [1, 2, 4])
@pytest.mark.parametrize("times", range(1, 17))
def test_a_sheet_is_full_and_nothing_on_it_overlaps(shape: str, videos: int, times: int) -> None:
    caption_height = 40
    layout = arrange([SHAPES[shape]] * videos, times, caption_height)
    assert len(layout.places) == videos * times
    assert layout.width <= MAX_WIDTH
    assert layout.height <= MAX_HEIGHT
    for i, one in enumerate(layout.places):
        assert one.x >= 0
        assert one.x + one.width <= layout.width
        assert one.y + one.height + caption_height <= layout.height
        for other in layout.places[:i]:
            apart_x = one.x >= other.x + other.width or other.x >= one.x + one.width
            apart_y = one.y >= other.y + other.height + caption_height or other.y >= one.y + one.height + caption_height
            assert apart_x or apart_y
    covered = sum(place.width * (place.height + caption_height) for place in layout.places)
    gaps = GAP * (layout.width + layout.height) * (times + videos)
    assert covered + gaps >= 0.94 * layout.width * layout.height


@pytest.mark.parametrize("shape", [(4000, 2), (2, 4000), (1, 1), (853, 481)], ids=str)
def test_a_sheet_of_any_shape_is_bounded(shape: tuple[int, int]) -> None:
    layout = arrange([shape], 6, 20)
    assert layout.width <= MAX_WIDTH
    assert layout.height <= MAX_HEIGHT


def test_landscape_videos_stand_below_each_other_and_portrait_ones_side_by_side() -> None:
    above, below = arrange([SHAPES["landscape"]] * 2, 1, 20).places
    assert (above.x, above.width) == (below.x, below.width)
    left, right = arrange([SHAPES["portrait"]] * 2, 1, 20).places
    assert (left.y, left.height) == (right.y, right.height)
    one, other = arrange([SHAPES["landscape"], SHAPES["portrait"]], 1, 20).places
    assert one.height == other.height
    assert one.width > 2 * other.width
