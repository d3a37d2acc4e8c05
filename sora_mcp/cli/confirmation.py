"""Ask for confirmation at the terminal before an expensive call is paid for."""

from __future__ import annotations

import sys

import click

from sora_mcp.cli.terminal import is_terminal
from sora_mcp.core.errors import Declined


def can_ask() -> bool:
    """Whether a user can read a question and answer it: stdin and stderr are terminals."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def ask_yes_no(question: str) -> bool:
    """Ask a yes/no question. No answer, Ctrl-C and end of input mean no."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        return False


class Asker:
    """Asks about one paid call, as MCP hosts do: the call ends with the question and is made again after a yes.

    So nothing is open or locked while the user thinks, and Ctrl-C and SIGTERM work as usual.
    """

    def __init__(self) -> None:
        self._question: tuple[str, str] | None = None
        self.has_agreed = False

    async def confirm(self, text: str, fingerprint: str) -> None:
        """Raise Declined unless the user has said yes to this question about this request."""
        is_confirmed = self.has_agreed and self._question == (text, fingerprint)
        self._question, self.has_agreed = (text, fingerprint), False
        if not is_confirmed:
            raise Declined("Not confirmed.")
        self._question = None

    def ask(self) -> bool:
        """Ask the question that the call ended with, if any. Return whether to make the call again."""
        self.has_agreed = self._question is not None and ask_yes_no(self._question[0])
        return self.has_agreed
