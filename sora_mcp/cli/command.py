"""Base classes of our commands: an example at the end of the help, and suggestions for mistyped options."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from sora_mcp.cli.terminal import has_surrogates


class EndsWithExample(click.Command):
    """A command whose `epilog` ends with `Example: ` and a command line, in which `…` is the rest of an id."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the command line unwrapped, so that it can be copied."""
        text, _, line = (self.epilog or "").rpartition("Example: ")
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(f"{text}\n\n\b\nExample:\n  {line}".strip("\n"))


class Command(EndsWithExample):
    """A command. Refuses undecodable arguments before anything is done."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Raise click.UsageError."""
        arguments = list(args)
        try:
            remaining = super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hidden = {option for param in self.params if getattr(param, "hidden", False) for option in param.opts}
            visible = [each for each in error.possibilities or () if each not in hidden]
            raise self.suggest(ctx, error, arguments) or click.NoSuchOption(
                error.option_name, error.message, visible, ctx
            ) from None
        for param in self.params:
            if type(param.type) is click.types.StringParamType and any(map(has_surrogates, _text_values(ctx, param))):
                raise click.UsageError(_NOT_TEXT.format(_param_name(param)), ctx)
        return remaining

    def suggest(self, ctx: click.Context, error: click.NoSuchOption, arguments: list[str]) -> click.UsageError | None:
        """Return an error with a suggestion for an unknown option, or None."""
        options = {option for param in self.params for option in param.opts}
        for argument in arguments:
            name = argument.partition("=")[0]
            if name.startswith(error.option_name) and f"-{name}" in options:
                return click.UsageError(f"No such option '{name}'. Did you mean '-{name}'?", ctx)
        return None


def require_file_name(_ctx: click.Context, _param: click.Parameter, path: Path | None) -> Path | None:
    """Return the path of a file option. Raise BadParameter for `-`, which would be a file of that name."""
    if path == Path("-"):
        raise click.BadParameter("It is not written to standard output: name a file.")
    return path


PICTURE_ENDINGS = {".png", ".jpg", ".jpeg"}


def require_picture_name(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    """Return the path of an option for a picture. Raise BadParameter for a name that says it is something else."""
    path = require_file_name(ctx, param, path)
    if path is not None and path.suffix and path.suffix.lower() not in PICTURE_ENDINGS:
        raise click.BadParameter(
            f"A picture is a PNG or a JPEG, and {path.name} ends in {path.suffix}: end it in .png or .jpg. Nothing was"
            " written."
        )
    return path


class SourceType(click.types.StringParamType):
    """A path, an address or an id; a file name may be undecodable."""


_NOT_TEXT = (
    "{} holds bytes that are no text in the encoding of this shell's locale. Set LC_ALL to one with UTF-8, such as"
    " C.UTF-8, or to the encoding that you type in."
)


def _param_name(param: click.Parameter) -> str:
    return param.opts[0] if isinstance(param, click.Option) else param.human_readable_name.strip("[]")


def _text_values(ctx: click.Context, param: click.Parameter) -> Iterator[str]:
    value: Any = ctx.params.get(param.name or "")
    for each in value if isinstance(value, tuple | list) else [value]:
        if isinstance(each, str):
            yield each
