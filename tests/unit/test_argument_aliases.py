"""Values under the names of other APIs: one is only offered under our name where it would be accepted there."""

from __future__ import annotations

from typing import Any

import pytest

from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.errors import InvalidInput
from sora_mcp.dialects.sora.tables import CAPABILITIES
from sora_mcp.tools.arguments import parse
from sora_mcp.tools.table import TABLE

A, B = '{"generation_id": "task_a"}', '{"generation_id": "task_b"}'
FOX = {"prompt": "fox"}


def refusal(tool: str, arguments: dict[str, Any], limits: Capabilities = CAPABILITIES) -> str:
    with pytest.raises(InvalidInput) as caught:
        parse(TABLE[tool].arguments, arguments, limits)
    return str(caught.value)


@pytest.mark.parametrize(
    ("tool", "arguments", "said", "unsaid"),
    [
        ("blend_videos", {"from": "task_a", "to": "task_b"}, (f"from is {A}", f"to is {B}"), "url"),
        ("blend_videos", {"first": "task_a", "second": "task_b"}, (f"first is {A}", f"second is {B}"), "n_frames"),
        ("blend_videos", {"video1": "task_a", "video2": "task_b"}, (f"video1 is {A}", f"video2 is {B}"), "allowed"),
        ("blend_videos", {"images": "task_a"}, (f"images is {A}",), "[{"),
        ("blend_videos", {"images": ["task_a", "task_b"]}, (f"images is inpaint_items [{A}, {B}]",), '{"url'),
        ("blend_videos", {"task_ids": ["task_a", "task_b"]}, (f"task_ids is inpaint_items [{A}, {B}]",), '{"url'),
        ("blend_videos", {"source_ids": ["gen_a", "gen_b"]}, ('[{"generation_id": "gen_a"}',), '{"url'),
        (
            "blend_videos",
            {"videos": ["task_a", "task_b", "task_c"]},
            ("use inpaint_items, a list of 2, not 3",),
            "task_c",
        ),
        ("blend_videos", {"inpaint_items": "task_a"}, ("a list of 2", f"each such as {A}"), "[{"),
        ("blend_videos", {"seconds": "5", "inpaint_items": [{}, {}]}, ("seconds 5 is n_frames 150",), "task_"),
        ("create_video", FOX | {"images": "task_a"}, ("use inpaint_items",), "task_a"),
        ("create_video", FOX | {"image": "16:9"}, ("use inpaint_items",), "16:9"),
        ("create_video", FOX | {"image": "fox.png"}, ('image is inpaint_items [{"url": "fox.png"}]',), "generation_id"),
        ("create_video", FOX | {"n": "16:9"}, ("use n_variants", "1 to 4"), "16:9"),
        ("create_video", FOX | {"n": 10}, ("use n_variants", "1 to 4"), "n_variants 10"),
        ("create_video", FOX | {"n": 0}, ("use n_variants", "1 to 4"), "n_variants 0"),
        ("create_video", FOX | {"n": "4"}, ("n 4 is n_variants 4",), "allowed"),
        ("create_video", FOX | {"frames": 200}, ("use n_frames", "150 (5 s)"), "n_frames 200"),
        ("create_video", FOX | {"frames": 300}, ("frames 300 is n_frames 300",), "allowed"),
        ("remix_video", FOX | {"task_id": 12}, ("use source_generation_id",), "12"),
        ("list_videos", {"max": 500}, ("use limit",), "500"),
        ("list_videos", {"state": "done"}, ("use status",), "done"),
        ("view_video", {"task_id": "task_a", "number": 0}, ("use variant",), "variant 0"),
        ("view_video", {"task_id": "task_a", "count": 4}, ("count 4 is frames 4",), "variant"),
        ("download_video", {"task_id": "task_a", "n": 2}, ("n 2 is variant 2",), "frames"),
        ("create_video", FOX | {"wait": True}, ("use get_video with wait_seconds to wait",), "width"),
        ("create_video", FOX | {"wait_seconds": 50}, ("use get_video with wait_seconds to wait",), "n_frames"),
    ],
)
def test_a_value_is_only_offered_where_it_would_be_accepted(
    tool: str, arguments: dict[str, Any], said: tuple[str, ...], unsaid: str
) -> None:
    words = refusal(tool, arguments)
    for each in said:
        assert each in words
    assert unsaid not in words, words


ANY = Capabilities(sizes={}, lengths={}, any_size=True, any_length=True, max_variants=1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seconds": 7}, "seconds 7 is n_frames 210"),
        ({"seconds": "2.5s"}, "seconds 2.5s is n_frames 75"),
        ({"frames": 81}, "frames 81 is n_frames 81"),
        ({"size": "1024x576"}, "size 1024x576 is width 1024, height 576"),
        ({"resolution": "720p"}, "width and height, in pixels"),
        ({"aspect_ratio": "16:9"}, "width and height, in pixels"),
        ({"seconds": 0}, "use n_frames, 30 per second"),
    ],
)
def test_where_any_size_and_length_goes_none_is_said_not_to_be_there(arguments: dict[str, Any], said: str) -> None:
    words = refusal("create_video", FOX | arguments, ANY)
    assert said in words
    assert "is not offered here" not in words
    assert "allowed: ." not in words
    assert "n_frames 0" not in words
