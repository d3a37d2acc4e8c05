"""The machine that something is installed on: its system, its folders, its programs and its settings."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from sora_mcp.config.addresses import normalize_address
from sora_mcp.config.converters import MIN_KEY_LENGTH
from sora_mcp.config.endpoint import SANDBOX
from sora_mcp.config.settings import load
from sora_mcp.config.variables import Variable, variables
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem, NotConfigured
from sora_mcp.core.tasks import clean
from sora_mcp.distribution.install.origin import fetching, throw_away
from sora_mcp.distribution.manifests.clients import Values
from sora_mcp.distribution.manifests.product import NAME, Launch

_TIMEOUT_S = 60
_SAID = 10_000
"""So much of what a program said is read, in characters."""


class Machine(Struct, frozen=True):
    """`platform` as in `sys.platform`; `environ` holds the settings, and what names folders and programs."""

    platform: str
    home: Path
    environ: Mapping[str, str]

    @property
    def configuration(self) -> Path:
        """The folder in which this system's programs keep their configuration."""
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        if self.platform == "win32":
            return Path(self.environ.get("APPDATA") or self.home / "AppData" / "Roaming")
        return Path(self.environ.get("XDG_CONFIG_HOME") or self.home / ".config")

    @property
    def plain_settings(self) -> Values:
        """The settings that are set here and no secret: a client is told these as they are. Raises NotConfigured."""
        plain = [variable for variable in variables() if not variable.secret]
        named = {v.name: _lasting(v, self.environ.get(v.name, "").strip()) for v in plain}
        address = named["SORA_BASE_URL"]
        if address and address.lower() != SANDBOX and "${" not in address:
            normalize_address(address)  # it could hold a password
        for name, value in named.items():
            if self.struck(value) != value:
                raise NotConfigured(f"The value of {name} holds the key; it was written nowhere.", Do("Correct it."))
        values = {name: value for name, value in named.items() if value and "${" not in value}
        login = load(values).login  # with what cannot be used the server would not start
        settings = Values(values)
        settings.login = None if login is None else login.address
        return settings

    def struck(self, text: str) -> str:
        """The text without any secret that is set here."""
        named = [self.environ.get(variable.name, "") for variable in variables() if variable.secret]
        secrets = [each.strip().rpartition(" ")[2] for each in named]  # without the word Bearer that people paste along
        for secret in secrets:
            text = text.replace(secret, "[key]") if len(secret) >= MIN_KEY_LENGTH else text
        return text

    def find(self, program: str) -> str | None:
        return shutil.which(program, path=self.environ.get("PATH", ""))

    def run(self, path: str, arguments: list[str]) -> tuple[bool, str]:
        """Run a client's program; whether it said that all went well, and what it said, cleaned and cut."""
        try:
            done = subprocess.run(  # noqa: S603 - the program was asked for by name
                [path, *arguments],
                check=False,
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                stdin=subprocess.DEVNULL,
                env=dict(self.environ),
                timeout=_TIMEOUT_S,
            )
        except subprocess.TimeoutExpired:
            return False, f"no answer in {_TIMEOUT_S} seconds"
        except OSError as error:
            return False, error.strerror or "it did not start"
        return done.returncode == 0, self.struck(clean(f"{done.stdout}\n{done.stderr}", _SAID))


def _lasting(variable: Variable, value: str) -> str:
    """The value, a folder by its whole path: a client starts the server somewhere else."""
    if variable.format == "filepath":
        return _whole(value)
    if variable.field == "image_dirs":
        return os.pathsep.join(map(_whole, value.split(os.pathsep)))
    return value


def _whole(folder: str) -> str:
    return str(Path(folder).absolute()) if folder and not folder.startswith(("~", "$")) else folder


def this_machine(environ: Mapping[str, str]) -> Machine:
    return Machine(sys.platform, Path.home(), environ)


def installed(environ: Mapping[str, str] = os.environ) -> Launch:
    """The script beside this Python. By its absolute path: nobody else can take that over, and no PATH is needed.

    From where it will not stay, what was really run is written instead. Raises FileProblem where that is not known.
    """
    if (folder := throw_away(Path(sys.prefix))) is not None:
        return fetching(folder, environ)
    path = shutil.which(NAME, path=sysconfig.get_path("scripts"))
    if path is None:
        raise FileProblem(
            "The sora-mcp script is not installed beside this Python.", Do("Install the package with pip.")
        )
    return Launch(path)
