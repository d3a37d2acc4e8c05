"""Errors in the words that an agent reads."""

from sora_mcp.core.errors import SoraError
from sora_mcp.tools.agent_wording import FOR_AGENTS


def message(error: SoraError) -> str:
    """What went wrong."""
    return FOR_AGENTS.message(error.parts)


def next_step(error: SoraError) -> str:
    """What to do next."""
    return FOR_AGENTS.next_step(error)
