"""Arguments that several tools share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

TaskId = Annotated[str, Field(description="task_… or req_… id (see list_videos).")]
VariantNumber = Annotated[int, Field(ge=1, description="Which of its n_variants, from 1.")]

EXAMPLE_ID, OTHER_EXAMPLE_ID = "task_01k2zq5v9rf3x8m4c7d1w6hj0t", "task_01k2zr7b4ye6n9s2g5a8p3kq1u"
"""Ids in the tools' examples."""
