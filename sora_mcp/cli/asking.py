"""Asking the person at a terminal before something dear is paid."""

from __future__ import annotations

import sys

import click

from sora_mcp.cli.terminal import is_terminal
from sora_mcp.core.errors import Declined


def can_ask() -> bool:
    """Whether somebody is there to read a question and to answer it."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def agreed(question: str) -> bool:
    """Ask a question. No answer, Ctrl-C and the end of the input are a no."""
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        return False


class Asker:
    """Asks about one paid call, as hosts do: the call ends with the question, and is made again after a yes. So nothing
    is open or held while a person thinks, and Ctrl-C and SIGTERM do what they always do."""

    def __init__(self) -> None:
        self._question: tuple[str, str] | None = None
        self.has_agreed = False

    async def confirm(self, text: str, fingerprint: str) -> None:
        """Raise Declined unless this very question about this very request was answered with yes."""
        is_answered = self.has_agreed and self._question == (text, fingerprint)
        self._question, self.has_agreed = (text, fingerprint), False
        if not is_answered:
            raise Declined("Not confirmed.")
        self._question = None

    def ask(self) -> bool:
        """Ask what the call ended with, if that is a question; whether to make it again."""
        self.has_agreed = self._question is not None and agreed(self._question[0])
        return self.has_agreed
