"""What the OpenRouter dialect makes, held to the sandbox, which takes what a model lists and nothing else."""

from __future__ import annotations

from openrouter_bodies import bodies

from sora_mcp.sandbox.openrouter.body import BadRequestError, parse_create, shape_for


def test_a_body_that_the_dialect_makes_is_refused_only_for_what_no_list_says() -> None:
    refused = set()
    for body in bodies():
        try:
            shape_for(*parse_create(body), None)
        except BadRequestError as error:
            refused.add(str(error))
    assert refused == {"prompt: required by this model"}
