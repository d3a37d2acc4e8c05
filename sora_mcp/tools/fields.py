"""Arguments that several tools share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

TaskId = Annotated[str, Field(description="task_… id (or req_… of a call).")]
VariantNumber = Annotated[int, Field(ge=1, description="Which variant.")]
