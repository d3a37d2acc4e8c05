"""The definition of a tool: its arguments (a model), its result, its description and one call into the studio."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

from msgspec import Struct
from pydantic import BaseModel, Field

from sora_mcp.studio import Studio
from sora_mcp.tools import schema
from sora_mcp.tools.caller import Caller
from sora_mcp.tools.failures import Failure
from sora_mcp.tools.wording import Wording

A = TypeVar("A", bound=BaseModel)
R = TypeVar("R", bound=BaseModel)

TaskId = Annotated[str, Field(description="task_… or req_… id (see list_videos).")]
"""An argument that several tools share, as is `VariantNumber`."""
VariantNumber = Annotated[int, Field(ge=1, description="Which variant, from 1.")]

EXAMPLE_ID, OTHER_EXAMPLE_ID = "task_01k2zq5v9rf3x8m4c7d1w6hj0t", "task_01k2zr7b4ye6n9s2g5a8p3kq1u"
"""Ids in the tools' examples."""


class Tool(Struct, Generic[A, R], frozen=True):
    """One tool. `render` turns its result into a sentence. `picture`, `file`: the picture or the file that is the
    result; `board`: a picture in addition to the structured result, if there is one.

    `paid`: a call costs money. `read_only`, `idempotent`: MCP's hints; no tool is destructive.
    """

    name: str
    title: str
    description: str
    arguments: type[A]
    result: type[BaseModel]
    run: Callable[[Studio, A, Caller], Awaitable[R]]
    render: Callable[[R, Wording], str]
    paid: bool = False
    read_only: bool = True
    idempotent: bool = True
    picture: Callable[[R], bytes] | None = None
    board: Callable[[R], bytes | None] | None = None
    file: Callable[[R], Path] | None = None
    examples: tuple[dict[str, Any], ...] = ()
    """Arguments that show a model how to use the tool: valid, and as few as possible."""

    @property
    def summary(self) -> str:
        """The first sentence of its description."""
        return f"{self.description.split('. ')[0].removesuffix('.')}."

    @property
    def input_schema(self) -> schema.Schema:
        return schema.emit(self.arguments)

    @property
    def output_schema(self) -> schema.Schema | None:
        """The result, or an `error`; a paid tool always says its `outcome`.

        None for a tool that returns a picture: some hosts show the model only the structured result if there is one.
        """
        if self.picture is not None:
            return None
        emitted = schema.emit(self.result, describe=False)
        emitted["properties"]["error"] = schema.emit(Failure, describe=False) | {"required": []}  # tokens, in each tool
        if self.paid:
            emitted["properties"]["notice"] = {"type": "string"}
        emitted["required"] = ["outcome"] if self.paid else []
        return emitted

    @property
    def annotations(self) -> dict[str, bool]:
        """MCP's four hints."""
        return {
            "readOnlyHint": self.read_only,
            "destructiveHint": False,
            "idempotentHint": self.idempotent,
            "openWorldHint": True,
        }
