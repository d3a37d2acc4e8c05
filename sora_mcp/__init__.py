"""sora_mcp: an MCP server through which agents make videos at a Sora-format gateway."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sora_mcp.toolkit import Toolkit as Toolkit
else:

    def __getattr__(name: str) -> Any:
        """`Toolkit`, loaded when it is asked for: `import sora_mcp` alone loads nothing."""
        if name == "Toolkit":
            from sora_mcp.toolkit import Toolkit  # noqa: PLC0415 - the server and --help do without it

            return Toolkit
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
