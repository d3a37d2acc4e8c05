"""What every command of ours has: an example at the end of its help, and a word for what was mistyped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sora_mcp.cli.terminal import has_surrogates


class EndsWithExample(click.Command):
    """A command whose `epilog` ends with `Example: ` and a line to type, in which `…` stands for the rest of an id."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the line as it is: one that is folded cannot be copied."""
        words, _, line = (self.epilog or "").rpartition("Example: ")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(f"{words}\n\n\b\nExample:\n  {line}".strip("\n"))


class Command(EndsWithExample):
    """A command. Arguments that are no text are refused before anything is done."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what was given. Raises click.UsageError."""
        words = list(args)
        try:
            rest = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hidden = {option for param in self.params if getattr(param, "hidden", False) for option in param.opts}
            shown = [each for each in error.possibilities or () if each not in hidden]
            raise self.meant(ctx, error, words) or click.NoSuchOption(
                error.option_name, error.message, shown, ctx
            ) from None
        for param in self.params:
            if type(param.type) is click.types.StringParamType and any(map(has_surrogates, _texts(ctx, param))):
                raise click.UsageError(_NO_TEXT.format(_name_of(param)), ctx)
        return rest

    def meant(self, ctx: click.Context, error: click.NoSuchOption, words: list[str]) -> click.UsageError | None:
        """What an option that we do not have is here; None where that is not known."""
        options = {option for param in self.params for option in param.opts}
        for word in words:
            name = word.partition("=")[0]
            if name.startswith(error.option_name) and f"-{name}" in options:
                return click.UsageError(f"No such option '{name}'. Did you mean '-{name}'?", ctx)
        return None


def named_file(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """The file that an option names: `-` would be a file of that name. Raises click's error of usage."""
    if path == Path("-"):
        raise click.BadParameter("It is not written to standard output: name a file.")
    return path


class SourceType(click.types.StringParamType):
    """A path, an address or an id: the name of a file may be text in no encoding."""


_NO_TEXT = (
    "{} holds bytes that are no text in the encoding of this shell's locale. Set LC_ALL to one with UTF-8, such as"
    " C.UTF-8, or to the encoding that you type in. Nothing was sent."
)


def _name_of(param: click.Parameter) -> str:
    return param.opts[0] if isinstance(param, click.Option) else param.human_readable_name.strip("[]")


def _texts(ctx: click.Context, param: click.Parameter) -> Iterator[str]:
    value: Any = ctx.params.get(param.name or "")
    for each in value if isinstance(value, tuple | list) else [value]:
        if isinstance(each, str):
            yield each
