"""The command line. Nothing heavy is imported before a command needs it: `--help` loads neither mcp nor httpx."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sora_mcp import __version__
from sora_mcp.errors import SoraError

if TYPE_CHECKING:
    from sora_mcp.settings import Settings

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class _Group(click.Group):
    """Says our errors as one sentence, without a traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except SoraError as error:
            click.echo(f"sora-mcp: {error.message} {error.next_step}", err=True)
            ctx.exit(2)


@click.group(cls=_Group, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sora-mcp")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Videos for agents: an MCP server for a Sora-format gateway.

    Without a command it serves one MCP client over stdin and stdout. Settings are environment
    variables SORA_…; SORA_BASE_URL=sandbox tries everything without a gateway.
    """
    if ctx.invoked_subcommand is None:
        _serve_stdio()


@main.command()
@click.option("--transport", type=click.Choice(["stdio", "streamable-http"]), default="stdio", show_default=True)
@click.option("--host", type=click.Choice(_LOOPBACK), default="127.0.0.1", show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
def serve(transport: str, host: str, port: int) -> None:
    """Serve MCP over stdio, or over streamable HTTP at http://HOST:PORT/mcp on this machine."""
    if transport == "stdio":
        _serve_stdio()
        return
    settings = _settings()
    from sora_mcp.server import serve_http  # noqa: PLC0415

    serve_http(settings, host, port, lambda url: click.echo(f"Serving MCP at {url}", err=True))


@main.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes a free one.")
def sandbox(port: int) -> None:
    """Serve the sandbox gateway on this machine, to be named in SORA_BASE_URL (any SORA_API_KEY=sk-… does)."""
    settings = _settings()
    from sora_mcp.sandbox import serve  # noqa: PLC0415

    def ready(base_url: str) -> None:
        click.echo(f"The sandbox gateway listens at {base_url}", err=True)

    serve(settings.home / "sandbox", port=port, seconds=settings.sandbox_seconds, ready=ready)


@main.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("sora-demo"), show_default=True)
def demo(out: Path) -> None:
    """Hold a whole conversation with the server, against the sandbox, and leave the videos in a folder."""
    from sora_mcp.demo import run  # noqa: PLC0415

    run(out.absolute())


@main.command()
@click.option("--check", is_flag=True, help="Write nothing; fail where a file differs.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("manifests"), show_default=True)
def manifests(check: bool, out: Path) -> None:
    """Write what is generated from the tools and the settings: manifests, the published surface, README's tables."""
    from sora_mcp.manifests import drift, write  # noqa: PLC0415

    if not check:
        write(out)
        return
    differing = drift(out)
    for path in differing:
        click.echo(f"sora-mcp: {path} is not what the code says; run sora-mcp manifests", err=True)
    if differing:
        raise SystemExit(1)


def _serve_stdio() -> None:
    settings = _settings()
    if sys.stdin is not None and sys.stdin.isatty():
        click.echo("sora-mcp waits for an MCP client on stdin (Ctrl-C ends it). See sora-mcp --help.", err=True)
    from sora_mcp.server import serve_stdio  # noqa: PLC0415

    serve_stdio(settings)


def _settings() -> Settings:
    from sora_mcp.settings import load  # noqa: PLC0415

    settings = load()
    logging.basicConfig(
        level=settings.log_level, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for noisy in ("httpx", "httpcore"):  # they log whole addresses, which may be signed
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return settings
