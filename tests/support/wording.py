"""Errors as worded for agents."""

from sora_mcp.core.errors import SoraError
from sora_mcp.tools.agent_wording import FOR_AGENTS


def message(error: SoraError) -> str:
    """The message of an error."""
    return FOR_AGENTS.message(error.parts)


def next_step(error: SoraError) -> str:
    """The advice of an error."""
    return FOR_AGENTS.next_step(error)
