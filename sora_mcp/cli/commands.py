"""The commands. Heavy modules are imported only when a command needs them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from sora_mcp import __version__
from sora_mcp.cli.command import require_file_name
from sora_mcp.cli.completion import SHELLS
from sora_mcp.cli.group import Group
from sora_mcp.cli.loading import load_settings, loading
from sora_mcp.cli.terminal import is_terminal
from sora_mcp.cli.token_commands import token
from sora_mcp.core.tasks import quoted

if TYPE_CHECKING:
    from sora_mcp.cli.login import Store
    from sora_mcp.config.settings import Settings


@click.group(
    cls=Group,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 success; 2 usage error; 3 refused or failed; 4 outcome unknown; 130 interrupted or "
    "not confirmed.\n\n"
    'Example: SORA_BASE_URL=sandbox sora-mcp create "a paper boat in the rain" --wait --download',
)
@click.version_option(__version__, "-V", "--version", prog_name="sora-mcp")
@click.pass_context
def main(ctx: click.Context) -> None:
    """Make videos at a Sora-format gateway: as an MCP server for agents, or with commands at a shell.

    Without a command, it serves one MCP client over stdin and stdout. Settings are SORA_… environment variables. Set
    SORA_BASE_URL=sandbox to try everything without a gateway.
    """
    if ctx.invoked_subcommand is None:
        _serve_stdio()


@main.command(epilog="Example: sora-mcp serve --transport streamable-http --port 8000")
@click.option("--transport", type=click.Choice(["stdio", "streamable-http"]), default="stdio", show_default=True)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="An address that other machines can reach needs SORA_AUTH, SORA_ALLOWED_HOSTS and SORA_ALLOWED_ORIGINS.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 picks a free port.")
@click.pass_context
def serve(ctx: click.Context, transport: str, host: str, port: int) -> None:
    """Serve MCP over stdio, or over streamable HTTP at http://HOST:PORT/mcp."""
    if transport == "stdio":
        for name in ("host", "port"):
            if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT:
                raise click.UsageError(f"--{name} goes with --transport streamable-http.")
        _serve_stdio()
        return
    settings = load_settings()
    with loading():
        from sora_mcp.server import serve_http  # noqa: PLC0415

    host = host.strip("[] ")
    _check_host(settings, host)
    with _explain_bind_error(host, port):
        serve_http(settings, host, port, lambda url: click.echo(f"Serving MCP at {url}", err=True))


def _check_host(settings: Settings, host: str) -> None:
    """Raise UsageError if the server may not listen on `host`; a port in use is a UsageError, too."""
    from sora_mcp.cli.wording import FOR_SHELL  # noqa: PLC0415
    from sora_mcp.config.binding import check_host  # noqa: PLC0415
    from sora_mcp.core.errors import NotConfigured  # noqa: PLC0415

    try:
        check_host(settings, host)
    except NotConfigured as error:
        raise click.UsageError(f"{FOR_SHELL.message(error.parts)} {FOR_SHELL.next_step(error)}") from None


@contextmanager
def _explain_bind_error(host: str, port: int) -> Iterator[None]:
    """Raise UsageError instead of OSError if the port cannot be bound."""
    try:
        yield
    except OSError as error:
        problem = f"The server cannot listen at {host}, port {port}: {error.strerror}."
        raise click.UsageError(f"{problem} Name another with --port; 0 picks a free port.") from None


@main.command(epilog="Example: sora-mcp sandbox --port 8765")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 picks a free port.")
def sandbox(port: int) -> None:
    """Serve the sandbox gateway on this machine: set SORA_BASE_URL to its address, and any SORA_API_KEY=sk-…."""
    settings = load_settings()
    from sora_mcp import dialects  # noqa: PLC0415
    from sora_mcp.sandbox import serve  # noqa: PLC0415

    def ready(base_url: str) -> None:
        click.echo(f"The sandbox gateway listens at {base_url}", err=True)

    home, seconds = settings.home / "sandbox", settings.sandbox_seconds
    with _explain_bind_error("127.0.0.1", port):
        capabilities = dialects.configured(settings).capabilities
        serve(
            home,
            port=port,
            seconds=seconds,
            capabilities=capabilities,
            dialect=settings.dialect,
            model=settings.model,
            ready=ready,
        )


@main.command(epilog="Example: sora-mcp demo --out sora-demo")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("sora-demo"), show_default=True)
@click.option("--dialect", default="sora", show_default=True, help="The sandbox's dialect, such as videos:vllm-omni.")
def demo(out: Path, dialect: str) -> None:
    """Run a whole conversation with the server against the sandbox, and save the videos in a folder."""
    from sora_mcp.config.endpoint import UPSTREAMS  # noqa: PLC0415

    if dialect not in UPSTREAMS:
        raise click.UsageError(f"There is no dialect {quoted(dialect)}; there are {', '.join(UPSTREAMS)}.")
    with loading():
        from sora_mcp.demo import run  # noqa: PLC0415

    run(out.absolute(), dialect)


@main.command("doctor", epilog="Example: sora-mcp doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else.")
def diagnose(as_json: bool) -> None:
    """Check the settings, gateway, key, folders, ledger and extras. Costs nothing."""
    with loading():
        from sora_mcp.cli.doctor import show  # noqa: PLC0415

    raise SystemExit(show(as_json=as_json))


def _refuse_key(_ctx: click.Context, _param: click.Parameter, key: str | None) -> None:
    """Raise UsageError if a key is given as an option, without repeating the key."""
    if key is not None:
        raise click.UsageError(
            "A key is never an argument: other programs can read those, and the shell keeps them. Leave it out: it is "
            "asked for, or read from standard input."
        )


def _refuse_arguments(_ctx: click.Context, _param: click.Parameter, arguments: tuple[str, ...]) -> None:
    """Raise UsageError for any argument, without repeating it: it may be a key."""
    if arguments:
        raise click.UsageError("Name the gateway with --base-url. A key is asked for, or read from standard input.")


@main.command(epilog="Example: sora-mcp login --base-url https://api.example.com < key.txt")
@click.argument("arguments", nargs=-1, metavar="", callback=_refuse_arguments, expose_value=False)
@click.option("--base-url", metavar="URL", help="The gateway's address.")
@click.option("--dialect", metavar="NAME", help="Its dialect, such as videos:vllm-omni.  [default: sora]")
@click.option("--store", type=click.Choice(["key-store", "file"]), help="Where to keep the key.")
@click.option("--no-check", is_flag=True, help="Save the login without checking it (a check is free).")
@click.option("--api-key", "--key", metavar="KEY", callback=_refuse_key, expose_value=False, hidden=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else.")
def login(base_url: str | None, dialect: str | None, store: Store | None, no_check: bool, as_json: bool) -> None:
    """Save a gateway's address and key, for this shell and for the server of every client.

    At a terminal, it asks for both; otherwise it reads the key from standard input. The key is kept in the system's key
    store or, if there is none, in a file that only you can read. The last login is the default; SORA_BASE_URL selects
    another, and SORA_API_KEY overrides them all.
    """
    from sora_mcp.config.endpoint import UPSTREAMS  # noqa: PLC0415

    if dialect is not None and dialect.lower() not in UPSTREAMS:
        raise click.UsageError(f"There is no dialect {quoted(dialect)}; there are {', '.join(UPSTREAMS)}.")
    with loading():
        from sora_mcp.cli.login import LoginRequest, log_in  # noqa: PLC0415

    log_in(LoginRequest(base_url, dialect and dialect.lower(), store, check=not no_check), as_json=as_json)


@main.command(epilog="Example: sora-mcp logout https://api.example.com")
@click.argument("address", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else.")
def logout(address: str | None, as_json: bool) -> None:
    """Delete a login and its key: the login for ADDRESS, or the only one."""
    with loading():
        from sora_mcp.cli.login import log_out  # noqa: PLC0415

    log_out(address, as_json=as_json)


@main.command(epilog="Example: sora-mcp settle req_… --none")
@click.argument("request_id")
@click.option("--task", "task_id", metavar="TASK_ID", help="The task that the request became.")
@click.option("--none", "nothing", is_flag=True, help="The request became nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else.")
def settle(request_id: str, task_id: str | None, nothing: bool, as_json: bool) -> None:
    """Settle an unknown outcome after checking the gateway's own log: --task TASK_ID or --none.

    --none also gives up a task that the gateway has forgotten. Without either option, it shows the tasks that the
    gateway lists around that time, if it can list them.
    """
    if task_id is not None and nothing:
        raise click.UsageError("Give either --task TASK_ID or --none.")
    if task_id is None and not nothing:
        with loading():
            from sora_mcp.cli.tool_calls import offer_tasks  # noqa: PLC0415

        offer_tasks(load_settings(), request_id, as_json=as_json)
        return
    with loading():
        from sora_mcp.cli.tool_calls import settle as settle_request  # noqa: PLC0415

    settle_request(load_settings(), request_id, task_id, as_json=as_json)


@main.command(epilog="Example: sora-mcp batch films.jsonl --at-once 2")
@click.argument("file", type=click.Path(allow_dash=True), metavar="FILE.jsonl")
@click.option(
    "--at-once", type=click.IntRange(1, 50), default=4, show_default=True, help="Most videos under way at once."
)
@click.option("--dry-run", is_flag=True, help="Check every line and show the costs; send and write nothing.")
@click.option("--retry-failed", is_flag=True, help="Send lines again that were rejected, failed, blocked or lost.")
@click.option("--yes", is_flag=True, help="Do not ask before a batch that costs more than SORA_ASK_ABOVE_COST.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    callback=require_file_name,
    metavar="FILE",
    help="Write the results to this file, in the order of the lines.",
)
@click.option(
    "--download", type=click.Path(file_okay=False, path_type=Path), metavar="FOLDER", help="Save the videos there."
)
def batch(file: str, **options: Any) -> None:
    """Make many videos, one request per line, such as {"prompt": "a fox in the snow"}. Costs money.

    Each line holds the arguments of create or, with an "operation", of storyboard, remix or blend. It may have a
    "name". Every line is checked before the first is sent. Run the same command again to continue where it stopped: no
    line is sent twice. Results are JSON, one object per line, or text at a terminal. If FILE is -, the lines are read
    from standard input, and each needs a name.
    """
    settings = load_settings()
    with loading():
        from sora_mcp.cli.batch import Options, run  # noqa: PLC0415

    raise SystemExit(run(settings, Options(file, **options)))


@main.command(epilog="Example: sora-mcp usage --days 7")
@click.option(
    "--days", type=click.IntRange(1, 3660), default=30, show_default=True, help="Days to show, including today."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else.")
def usage(days: int, as_json: bool) -> None:
    """Show what was spent, by day, by operation and by gateway, with a separate sum for each unit."""
    settings = load_settings()
    with loading():
        from sora_mcp.cli.usage import show  # noqa: PLC0415

    show(settings, days, as_json=as_json)


main.add_command(token)


@main.group(epilog="Example: sora-mcp ledger new --yes")
def ledger() -> None:
    """Manage the record of paid requests: a file in SORA_HOME, or PostgreSQL (SORA_LEDGER_URL)."""


@ledger.command("new", epilog="Example: sora-mcp ledger new --yes")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else.")
def new_ledger(yes: bool, as_json: bool) -> None:
    """Start a new ledger if the old one is lost, and keep what is left of it in a folder beside it.

    Videos made so far are no longer listed, and the same request may be paid for again.
    """
    settings = load_settings()
    from sora_mcp.cli.ledger_commands import start_new_ledger  # noqa: PLC0415

    start_new_ledger(settings, yes=yes, as_json=as_json)


@ledger.command("copy", epilog="Example: SORA_LEDGER_URL=postgresql://… sora-mcp ledger copy --dry-run")
@click.option("--dry-run", is_flag=True, help="Write and compare everything, then roll it back.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@click.option("--again", is_flag=True, help="Copy again if the database of an earlier copy is lost.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout, and nothing else.")
def copy_ledger(dry_run: bool, yes: bool, again: bool, as_json: bool) -> None:
    """Move the ledger from SORA_HOME to the PostgreSQL database in SORA_LEDGER_URL.

    All rows are written and compared in one transaction: if it is interrupted, run it again. The file is not changed
    and can still be read, but nothing more is submitted from it.
    """
    settings = load_settings()
    with loading():
        from sora_mcp.cli.ledger_commands import copy  # noqa: PLC0415

    copy(settings, dry_run=dry_run, yes=yes, again=again, as_json=as_json)


@main.command(epilog="Example: sora-mcp manifests --check")
@click.option("--check", is_flag=True, help="Write nothing; fail if a file differs.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=Path("manifests"), show_default=True)
def manifests(check: bool, out: Path) -> None:
    """Generate the manifests, the published surface and the tables in the docs from the tools and settings."""
    from sora_mcp.distribution.manifests import drift, write  # noqa: PLC0415

    if not check:
        write(out)
        return
    differing = drift(out)
    for each in differing:
        click.echo(f"sora-mcp: {each}", err=True)
    if differing:
        click.echo("These files are out of date; run sora-mcp manifests.", err=True)
        raise SystemExit(3)


def _complete_client(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete CLIENT in a shell."""
    from sora_mcp.distribution.manifests.clients import BY_NAME  # noqa: PLC0415

    return [name for name in BY_NAME if name.startswith(incomplete.lower())]


@main.command(epilog="Example: sora-mcp install claude-code --dry-run")
@click.argument("client", shell_complete=_complete_client)
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing.")
def install(client: str, dry_run: bool) -> None:
    """Add this server to a client: claude-desktop, claude-code, vscode, cursor, codex and others.

    The settings of this shell are written into the client's configuration, except secrets; the key is never written.
    """
    from sora_mcp.cli.client_commands import add  # noqa: PLC0415

    add(client, dry_run=dry_run)


@main.command(epilog="Example: sora-mcp uninstall claude-code --dry-run")
@click.argument("client", shell_complete=_complete_client)
@click.option("--dry-run", is_flag=True, help="Show what would be done; write nothing.")
def uninstall(client: str, dry_run: bool) -> None:
    """Remove this server from a client; the rest of its configuration stays."""
    from sora_mcp.cli.client_commands import remove  # noqa: PLC0415

    remove(client, dry_run=dry_run)


@main.command(epilog="Example: sora-mcp completion bash --install")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", "install_it", is_flag=True, help="Install it for this user, and print what was written.")
def completion(shell: str | None, install_it: bool) -> None:
    """Print or install a completion script for bash, zsh or fish (by default, for your shell)."""
    from sora_mcp.cli.completion import install_script, login_shell, script  # noqa: PLC0415

    shell = shell or login_shell()
    click.echo(install_script(shell, main) if install_it else script(shell, main))


@main.command(epilog="Example: sora-mcp version")
def version() -> None:
    """Show the version."""
    click.echo(f"sora-mcp, version {__version__}")


@main.command("help", epilog="Example: sora-mcp help create")
@click.argument("names", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def show_help(ctx: click.Context, names: tuple[str, ...]) -> None:
    """List the commands, or show help for one."""
    assert ctx.parent is not None
    context = ctx.parent
    for name in names:
        group = context.command
        if not isinstance(group, click.Group):
            raise click.UsageError(f"{quoted(context.command_path)} has no commands of its own.", context)
        _, subcommand, _ = group.resolve_command(context, [name])
        assert subcommand is not None
        context = subcommand.context_class(subcommand, info_name=name, parent=context)
    click.echo(context.get_help())


def _serve_stdio() -> None:
    settings = load_settings()
    if is_terminal(sys.stdin):
        click.echo("sora-mcp waits for an MCP client on stdin (Ctrl-C ends it). See sora-mcp --help.", err=True)
    with loading():
        from sora_mcp.server import serve_stdio  # noqa: PLC0415

    serve_stdio(settings)
