"""The group of all commands; the video commands are built on demand."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import click

from sora_mcp.cli import terminal
from sora_mcp.cli.command import Command, EndsWithExample
from sora_mcp.cli.command_lines import command
from sora_mcp.cli.loading import loading
from sora_mcp.cli.output import USAGE, run_command
from sora_mcp.core.tasks import quoted

_VIDEO_COMMANDS = {
    "create": "Make a new video from a prompt, an image, or both. Costs money.",
    "storyboard": "Make a video from timed beats. Costs money.",
    "remix": "Make a changed copy of a finished video. Costs money.",
    "blend": "Make a video in which one video or image turns into another. Costs money.",
    "get": "See whether a video is ready, or wait until it is.",
    "list": "List your videos, newest first.",
    "view": "Save a contact sheet of a finished video.",
    "download": "Save a finished video.",
    "gateway": "Show the gateway, what it accepts, the caps, and what was spent.",
}
"""Summaries for `--help`, which so does not load what the commands are built from, in `cli.videos`."""
_PAID_COMMANDS = {"batch", *(name for name, summary in _VIDEO_COMMANDS.items() if summary.endswith("Costs money."))}


class SubGroup(EndsWithExample, click.Group):
    """A command with subcommands."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands, each with its complete summary, which click would truncate."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(160)) for name, each in sorted(self.commands.items())])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            from sora_mcp.tools.arguments import did_you_mean  # noqa: PLC0415

            explanation = self.explain_unknown(args[0])
            suffix = explanation or f"{did_you_mean(args[0], known)}."
            raise click.UsageError(f"There is no command {quoted(args[0])}{suffix}", ctx)
        return super().resolve_command(ctx, args)

    def explain_unknown(self, name: str) -> str | None:  # noqa: ARG002
        """Return the end of the error about an unknown command if other APIs have that name, else None."""
        return None


class Group(SubGroup):
    """Builds the video commands on demand, and reports errors as sentences, without a traceback."""

    group_class = SubGroup

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*_VIDEO_COMMANDS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VIDEO_COMMANDS:
            return super().get_command(ctx, cmd_name)
        with loading():
            from sora_mcp.cli.videos import video_command  # noqa: PLC0415

        return video_command(cmd_name, _VIDEO_COMMANDS[cmd_name])

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own = {name: self.commands[name].get_short_help_str(160) for name in super().list_commands(ctx)}
        for title, rows in (("Videos", _VIDEO_COMMANDS), ("Other commands", own)):
            with formatter.section(title):
                formatter.write_dl(list(rows.items()))

    def explain_unknown(self, name: str) -> str | None:
        from sora_mcp.tools.unknown_tool import UnknownTool  # noqa: PLC0415

        if " " in name:
            return f". To make a video: {command('create', name)}"
        from sora_mcp.cli.wording import FOR_SHELL  # noqa: PLC0415

        sentence = UnknownTool(name, ()).sentence
        return f". {FOR_SHELL.message(sentence)}" if sentence else None

    def main(
        self, args: Sequence[str] | None = None, *positional: Any, standalone_mode: bool = True, **kwargs: Any
    ) -> Any:
        """Run the command in `args` and exit with its exit code."""
        arguments = list(sys.argv[1:] if args is None else args)
        terminal.prepare()
        if terminal.is_colour_disabled():
            kwargs["color"] = False
        run = partial(super().main, arguments, *positional, standalone_mode=False, **kwargs)
        if not standalone_mode:
            return run()
        if sys.stdout is None and arguments[:1] not in (["serve"], ["sandbox"]):
            click.echo("sora-mcp: stdout is closed: nothing could be shown, so nothing was done.", err=True)
            sys.exit(USAGE)
        paid, dry_run = not _PAID_COMMANDS.isdisjoint(arguments[:1]), "--dry-run" in arguments
        sys.exit(run_command(run, as_json="--json" in arguments, paid=paid, dry_run=dry_run))
