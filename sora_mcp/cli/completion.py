"""`sora-mcp completion`: what makes a shell complete our commands, printed or set up for the user."""

from __future__ import annotations

import os
from pathlib import Path

import click

SHELLS = ("bash", "zsh", "fish")
_COMPLETE_VAR = "_SORA_MCP_COMPLETE"


def your_shell() -> str:
    """The shell that the user is logged in with. Raises UsageError where that is none of these."""
    name = Path(os.environ.get("SHELL", "")).name
    if name not in SHELLS:
        raise click.UsageError(f"Name the shell: {', '.join(SHELLS)}.")
    return name


def script(shell: str, root: click.Command) -> str:
    """The script, in the words of that shell."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415 - for this command only

    completer = get_completion_class(shell)
    assert completer is not None
    # bash is asked for its version by `source`, which a machine without bash cannot answer
    made = completer(root, {}, "sora-mcp", _COMPLETE_VAR)
    return (made.source_template % made.source_vars()).strip()


def install_script(shell: str, root: click.Command) -> str:
    """Write the script to a file of its own, and have the shell read it. Returns what was done, in sentences.

    fish reads a folder by itself; to the end of `.bashrc` or `.zshrc` two lines are added, once. Raises ClickException
    where that cannot be done.
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
        file = _folder("XDG_CONFIG_HOME", home / ".config") / "fish" / "completions" / "sora-mcp.fish"
        _write(file, text)
        return f"Wrote {file}, which fish reads by itself. To undo it, remove that file."
    file = _folder("XDG_DATA_HOME", home / ".local" / "share") / "sora-mcp" / f"completion.{shell}"
    _write(file, text)
    rc = home / ".bashrc" if shell == "bash" else _folder("ZDOTDIR", home) / ".zshrc"
    lines = _lines(shell, file)
    before = rc.read_bytes() if rc.exists() else b""
    if lines in before:
        return f"Wrote {file}, which {rc} reads already. Open a new shell to use it."
    end = b"" if not before or before.endswith(b"\n") else b"\n"
    with rc.open("ab") as opened:  # whatever else stands there, in whatever encoding, stays
        opened.write(end + lines)
    return (
        f"Wrote {file}, and added two lines to the end of {rc} that read it. Open a new shell to use it."
        f" To undo it, remove those lines, which begin with `{_MARK}`, and that file."
    )


_MARK = "# sora-mcp completion"


def _lines(shell: str, file: Path) -> bytes:
    quoted = b"'" + os.fsencode(file).replace(b"'", b"'\\''") + b"'"
    needs = b"autoload -Uz compinit && (( $+functions[compdef] )) || compinit; " if shell == "zsh" else b""
    return _MARK.encode() + b"\n[ -f " + quoted + b" ] && { " + needs + b". " + quoted + b"; }\n"


def _folder(variable: str, default: Path) -> Path:
    """The folder that an absolute path in the environment names (XDG Base Directory Specification), or the usual."""
    named = os.environ.get(variable, "")
    return Path(named) if os.path.isabs(named) else default  # noqa: PTH117 - text from the environment


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
