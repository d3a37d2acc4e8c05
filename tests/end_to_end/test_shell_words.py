"""What a person at a shell is told is about what they typed: files, options and commands, not a tool's fields."""

from __future__ import annotations

import json

import pytest
from bench import Run


@pytest.mark.parametrize("source", ["./no pe.png", "nope.PNG", "/nowhere/x", "~/x", "..\\x.jpg"])
def test_a_source_that_is_meant_as_a_file_and_is_not_there_is_said_to_be_missing(run: Run, source: str) -> None:
    done = run("blend", source, "last")
    assert done.returncode == 2
    assert f"There is no file {source!r}. Nothing was submitted." in done.stderr
    assert "inpaint_items" not in done.stderr


@pytest.mark.parametrize("sources", [(), ("task_1",), ("task_1", "task_2", "task_3")], ids=len)
def test_a_blend_of_any_number_but_two_says_that_it_takes_two_sources(run: Run, sources: tuple[str, ...]) -> None:
    done = run("blend", *sources)
    assert done.returncode == 2
    assert f"It takes two sources, and you named {len(sources) or 'none'}" in done.stderr
    said = json.loads(run("blend", *sources, "--json").stdout)
    assert (said["outcome"], said["error"]["kind"]) == ("not_submitted", "invalid_input")


def test_the_help_says_what_a_blend_makes(run: Run) -> None:
    said = " ".join(run("blend", "--help").stdout.split())
    assert "Make one new video in which the first turns into the second. Costs money." in said
