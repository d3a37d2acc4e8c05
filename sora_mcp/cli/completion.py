"""`sora-mcp completion`: print or install the script that completes our commands in a shell."""

from __future__ import annotations

import os
from pathlib import Path

import click

SHELLS = ("bash", "zsh", "fish")
_COMPLETE_VAR = "_SORA_MCP_COMPLETE"


def login_shell() -> str:
    """Return the user's login shell. Raise UsageError if it is not one of SHELLS."""
    name = Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise click.UsageError(f"Name the shell: {', '.join(SHELLS)}.")
    return name


def script(shell: str, root: click.Command) -> str:
    """Return the completion script for `shell`."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - for this command only

    completer_class = get_completion_class(shell)
    assert completer_class is not None
    # `source()` would run bash to ask for its version, which fails on a machine without bash
    completer = completer_class(root, {}, "sora-mcp", _COMPLETE_VAR)
    return (completer.source_template % completer.source_vars()).strip()


def install_script(shell: str, root: click.Command) -> str:
    """Write the script to its own file and make the shell read it. Return sentences that say what was done.

    fish reads its completions folder by itself; for bash and zsh, two lines are appended to `.bashrc` or `.zshrc`
    unless they are already there. Raise ClickException if a file cannot be written.
    """
    try:
        home = Path.home()
    except RuntimeError:
        raise click.ClickException("The home folder of this user is not known: set HOME.") from None
    try:
        return _install(shell, home, f"{script(shell, root)}\n")
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be written: {error.strerror}.") from None


def _install(shell: str, home: Path, text: str) -> str:
    if shell == "fish":
        file = _config_folder("XDG_CONFIG_HOME", home / ".config") / "fish" / "completions" / "sora-mcp.fish"
        _write(file, text)
        return f"Wrote {file}, which fish loads automatically. To undo this, remove that file."
    file = _config_folder("XDG_DATA_HOME", home / ".local" / "share") / "sora-mcp" / f"completion.{shell}"
    _write(file, text)
    rc = home / ".bashrc" if shell == "bash" else _config_folder("ZDOTDIR", home) / ".zshrc"
    lines = _rc_lines(shell, file)
    content = rc.read_bytes() if rc.exists() else b""
    if lines in content:
        return f"Wrote {file}, which {rc} already loads. Open a new shell to use it."
    separator = b"" if not content or content.endswith(b"\n") else b"\n"
    with rc.open("ab") as rc_file:  # in bytes: the rest of the file stays as it is, in any encoding
        rc_file.write(separator + lines)
    return (
        f"Wrote {file}, and added two lines to the end of {rc} that load it. Open a new shell to use it."
        f" To undo this, remove those lines, which begin with `{_MARK}`, and that file."
    )


_MARK = "# sora-mcp completion"


def _rc_lines(shell: str, file: Path) -> bytes:
    quoted = b"'" + os.fsencode(file).replace(b"'", b"'\\''") + b"'"
    setup = b"autoload -Uz compinit && (( $+functions[compdef] )) || compinit; " if shell == "zsh" else b""
    return _MARK.encode() + b"\n[ -f " + quoted + b" ] && { " + setup + b". " + quoted + b"; }\n"


def _config_folder(variable: str, default: Path) -> Path:
    """Return the folder in an environment variable if its path is absolute (XDG Base Directory), else `default`."""
    value = os.environ.get(variable, "")
    return Path(value) if os.path.isabs(value) else default  # noqa: PTH117 - text from the environment


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
