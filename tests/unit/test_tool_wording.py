"""A lint for what models read of the tools: when to call one, what it costs, and what each argument means."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from msgspec.structs import replace
from pydantic import BaseModel, Field

from sora_mcp import tools

each_tool = pytest.mark.parametrize("tool", tools.TOOLS, ids=lambda tool: str(tool.name))
Tool = tools.Tool[Any, Any]

EMPTY = {"a", "an", "the", "of", "to", "is", "it", "its", "in", "at", "this", "that", "value", "argument", "optional"}
"""Words that say nothing of what an argument means."""


def words(text: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", text.lower().replace("_", " ")))


def arguments(schema: dict[str, Any], where: str = "") -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every argument and every field of an item: where it stands, its name, and its node."""
    for name, node in schema.get("properties", {}).items():
        yield f"{where}{name}", name, node
        yield from arguments(node, f"{where}{name}.")
        yield from arguments(node.get("items", {}), f"{where}{name}[].")


def problems(tool: Tool) -> Iterator[str]:
    """What a model would miss in a tool's definition."""
    text = tool.description
    if ("Costs money" if tool.paid else "Free") not in text:
        yield "its cost"
    if not any(other.name in text for other in tools.TOOLS if other.name != tool.name):
        yield "which other tool to use instead"
    if not re.search(r"\bReturns? ", text):
        yield "what it returns"
    if tool.paid and not ("at once" in text and "get_video" in text):
        yield "that the video comes later"
    if tool.summary == text or len(tool.summary) > 180:
        yield "its purpose in a first sentence"
    for where, name, node in arguments(tool.input_schema):
        if len(words(node.get("description", "")) - words(name) - EMPTY) < 2:
            yield f"what {where} means"


@each_tool
def test_a_definition_says_what_a_model_has_to_know(tool: Tool) -> None:
    assert list(problems(tool)) == []


@each_tool
def test_arguments_of_one_name_mean_the_same_wherever_they_stand(tool: Tool) -> None:
    """Save where a default is another one: in what is made from a source."""
    everywhere = {
        where: node["description"] for other in tools.TOOLS for where, _, node in arguments(other.input_schema)
    }
    shared = {"n_variants", "style", "model", "dry_run", "allow_duplicate", "task_id", "variant"}
    for where, _, node in arguments(tool.input_schema):
        if where in shared:
            assert node["description"] == everywhere[where]


def test_this_lint_sees_what_is_missing() -> None:
    bare = replace(tools.TABLE["create_video"], description="Makes a video.", arguments=Bare)
    assert list(problems(bare)) == [
        "its cost",
        "which other tool to use instead",
        "what it returns",
        "that the video comes later",
        "its purpose in a first sentence",
        "what task_id means",
    ]


class Bare(BaseModel):
    """An argument that is described by its name."""

    task_id: Annotated[str, Field(description="The task id.")]
