"""What stands in a batch file: which lines are taken, what a line is known by, and what is said of the others."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from sora_mcp import dialects
from sora_mcp.cli.batch_files import MAX_LINES, Request, read
from sora_mcp.config.settings import load
from sora_mcp.core.errors import InvalidInput
from sora_mcp.tools.arguments import MAX_CHARACTERS

LIMITS = dialects.configured(load({})).capabilities


def batch(folder: Path, content: bytes | str, name: str = "films.jsonl") -> list[Request]:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return all_of(str(path))


def all_of(path: str) -> list[Request]:
    """The requests of a file in which no line is wrong."""
    requests, bad = read(path, LIMITS)
    assert bad == []
    return requests


def lines(*requests: object) -> str:
    return "".join(json.dumps(each) + "\n" for each in requests)


def keys(requests: list[Request]) -> list[str]:
    return [each.line.key for each in requests]


def wrong(folder: Path, content: bytes | str) -> dict[int, str]:
    """What is said of each bad line."""
    path = folder / "films.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    _, bad = read(str(path), LIMITS)
    return {line.number: line.error.message for line in bad}


def test_a_line_has_the_arguments_of_its_operation_and_create_is_the_usual_one(tmp_path: Path) -> None:
    requests = batch(
        tmp_path,
        lines(
            {"prompt": "fox"},
            {"operation": "storyboard", "actions": [{"time": "0s", "description": "a door"}]},
            {"operation": "remix", "source_generation_id": "task_1", "prompt": "night"},
            {"operation": "blend_videos", "inpaint_items": [{"generation_id": "gen_1"}, {"generation_id": "gen_2"}]},
            {"operation": "simple_compose", "prompt": "fox", "name": " a name "},
        ),
    )
    assert [each.tool for each in requests] == [
        *("create_video", "storyboard_video", "remix_video", "blend_videos", "create_video"),
    ]
    assert [each.name for each in requests] == [None, None, None, None, "a name"]


@pytest.mark.parametrize(
    "content",
    [
        b'\xef\xbb\xbf{"prompt": "fox"}\r\n\r\n   \r\n{"prompt":"boat"}\r\n',
        b'{"prompt": "fox"}\n\n\n{"prompt":"boat"}',
    ],
)
def test_a_mark_at_the_beginning_blank_lines_and_any_end_of_a_line_are_taken(tmp_path: Path, content: bytes) -> None:
    requests = batch(tmp_path, content)
    assert [(each.number, each.arguments.prompt) for each in requests] == [(1, "fox"), (4, "boat")]


def test_a_line_is_known_by_its_name_wherever_it_stands_and_whatever_it_says(tmp_path: Path) -> None:
    first = batch(tmp_path, lines({"prompt": "fox", "name": "one"}))
    assert keys(first) == keys(batch(tmp_path, lines({"prompt": "cat"}, {"prompt": "dog", "name": "one"}), "b"))[1:]
    assert keys(batch(tmp_path, lines({"prompt": "fox", "name": 7}))) == keys(
        batch(tmp_path, lines({"prompt": "fox", "name": "7"}))
    )
    assert keys(batch(tmp_path, lines({"prompt": "fox", "name": "caf\u00e9"}))) == keys(
        batch(tmp_path, lines({"prompt": "fox", "name": "cafe\u0301"}))
    )


def test_a_line_without_a_name_is_known_by_file_content_and_count(tmp_path: Path) -> None:
    fox, same, boat = (
        {"prompt": "fox", "width": 480},
        {"width": "480", "prompt": "fox", "model": None},
        {"prompt": "boat"},
    )
    first = keys(batch(tmp_path, lines(fox, fox, boat)))
    assert len(set(first)) == 3
    assert set(keys(batch(tmp_path, lines(boat, same, fox)))) == set(first)
    assert keys(batch(tmp_path, lines(fox | {"allow_duplicate": True}))) == first[:1]
    assert keys(batch(tmp_path, lines(fox), "folder/films.jsonl")) == first[:1]
    assert keys(batch(tmp_path, lines(fox), "others.jsonl")) != first[:1]
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "folder" / "films.jsonl")
    assert [request.line.key for request in all_of(str(tmp_path / "link.jsonl"))] == first[:1]


@pytest.mark.skipif(os.name == "nt", reason="names of files are always text there")
def test_a_file_whose_name_is_no_text_is_taken(tmp_path: Path) -> None:
    (path := tmp_path / os.fsdecode(b"f\xff.jsonl")).write_text(lines({"prompt": "fox"}))
    assert all_of(str(path))[0].line.file == r"f\xff.jsonl"


def test_every_bad_line_is_named_and_what_is_right_instead(tmp_path: Path) -> None:
    content = [
        b'{"prompt": "fox"}',
        b'{"prompt": "fox"',
        b"[1]",
        b'{"promt": "fox"}',
        b'{"prompt": "fox", "nmae": "x"}',
        b'{"prompt": "fox", "operation": "stroyboard"}',
        b'{"prompt": "fox", "operation": 7}',
        b'{"prompt": "fox", "prompt": "cat"}',
        b'{"prompt": "fox", "width": NaN}',
        b'{"prompt": "f\xff"}',
        b'{"prompt": "\\ud800"}',
        b'{"prompt": "fox", "dry_run": true}',
        b'{"prompt": "fox", "seconds": 10}',
        b'{"prompt": "fox", "name": "a\\nb"}',
        b'{"prompt": "fox", "name": ["x"]}',
        b'{"prompt": "fox", "name": "' + b"x" * 201 + b'"}',
        b"[" * 100_000,
        b'{"width": ' + b"9" * 5000 + b"}",
        b"{'prompt': 'fox'}",
        b'{"prompt": "fox", "beats": []}',
        b'{"prompt": "fox", "task_id": "task_1"}',
        b'{"prompt": "fox", "wait": true}',
    ]
    said = wrong(tmp_path, b"\n".join(content))
    assert set(said) == set(range(2, len(content) + 1))
    words = {
        2: "ends too early",
        3: "not an object",
        4: "did you mean prompt?",
        5: "did you mean name?",
        6: "did you mean storyboard?",
        7: "create, storyboard, remix, blend",
        8: "twice",
        9: "NaN is not JSON; allowed: a number",
        10: "UTF-8",
        11: "half a character",
        12: "--dry-run",
        13: "n_frames 300",
        14: "invisible characters",
        16: "200 characters",
        17: "nested",
        19: "not JSON",
        20: 'use "operation": "storyboard" with actions for beats',
        21: 'use "operation": "remix" with source_generation_id to change a finished video',
        22: "use `sora-mcp get` to wait",
    }
    assert {number: each for number, each in words.items() if each not in said[number]} == {}


def test_a_name_that_stands_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    said = wrong(tmp_path, lines({"prompt": "a", "name": "x"}, {"prompt": "b"}, {"prompt": "c", "name": "x "}))
    assert list(said) == [3]
    assert "line 1" in said[3]


def test_a_line_that_is_too_long_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    long = json.dumps({"prompt": "x" * MAX_CHARACTERS})
    said = wrong(tmp_path, f"{long}\n{long}\n[2]\n")
    assert list(said) == [1, 2, 3]
    assert "8,000,000 bytes" in said[1]


@pytest.mark.parametrize("content", [b"", b"\n \r\n", b"\xef\xbb\xbf"])
def test_a_file_without_a_request_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(InvalidInput, match="contains no requests"):
        batch(tmp_path, content)


def test_a_file_of_another_encoding_and_one_with_too_many_lines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="UTF-16"):
        batch(tmp_path, lines({"prompt": "fox"}).encode("utf-16"))
    with pytest.raises(InvalidInput, match="10,000"):
        batch(tmp_path, '{"prompt": "fox"}\n' * (MAX_LINES + 1))


def test_what_is_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", None)  # as Python has it where it is closed
    with pytest.raises(InvalidInput, match="is closed"):
        read("-", LIMITS)
    for path in (tmp_path, tmp_path / "none.jsonl", "a\0b"):
        with pytest.raises(InvalidInput, match="cannot be read"):
            read(str(path), LIMITS)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_from_what_is_no_kept_file_each_line_needs_a_name() -> None:
    for content, has_name in (({"prompt": "a"}, False), ({"prompt": "a", "name": "x"}, True)):
        end, pipe = os.pipe()
        os.write(pipe, lines(content).encode())
        os.close(pipe)
        try:
            if has_name:
                assert all_of(f"/dev/fd/{end}")[0].name == "x"
            else:
                assert len(read(f"/dev/fd/{end}", LIMITS)[1]) == 1
        finally:
            os.close(end)
