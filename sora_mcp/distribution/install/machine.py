"""The machine to install on: its system, folders, programs and settings."""

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
from sora_mcp.distribution.install.origin import disposable_folder, fetch_launch
from sora_mcp.distribution.manifests.clients import Values
from sora_mcp.distribution.manifests.product import NAME, Launch

_TIMEOUT_S = 60
_MAX_OUTPUT_LENGTH = 10_000
"""How much of a program's output is read."""


class Machine(Struct, frozen=True):
    """`platform` as in `sys.platform`; `environ` holds the settings and names of folders and programs."""

    platform: str
    home: Path
    environ: Mapping[str, str]

    @property
    def configuration(self) -> Path:
        """The folder for programs' configuration on this system."""
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        if self.platform == "win32":
            return Path(self.environ.get("APPDATA") or self.home / "AppData" / "Roaming")
        return Path(self.environ.get("XDG_CONFIG_HOME") or self.home / ".config")

    @property
    def plain_settings(self) -> Values:
        """The non-secret settings that are set here, as they are written for a client. Raises NotConfigured."""
        plain = [variable for variable in variables() if not variable.secret]
        environ = {v.name: _portable(v, self.environ.get(v.name, "").strip()) for v in plain}
        address = environ["SORA_BASE_URL"]
        if address and address.lower() != SANDBOX and "${" not in address:
            normalize_address(address)  # it could hold a password
        for name, value in environ.items():
            if self.redact(value) != value:
                raise NotConfigured(f"The value of {name} holds the key; it was written nowhere.", Do("Correct it."))
        values = Values({name: value for name, value in environ.items() if value and "${" not in value})
        login = load(values).login  # raises for an invalid setting, with which the server would not start
        values.login = None if login is None else login.address
        return values

    def redact(self, text: str) -> str:
        """Return the text without the secrets that are set here."""
        values = [self.environ.get(variable.name, "") for variable in variables() if variable.secret]
        secrets = [each.strip().rpartition(" ")[2] for each in values]  # without a pasted "Bearer"
        for secret in secrets:
            text = text.replace(secret, "[key]") if len(secret) >= MIN_KEY_LENGTH else text
        return text

    def find(self, program: str) -> str | None:
        return shutil.which(program, path=self.environ.get("PATH", ""))

    def run(self, path: str, arguments: list[str]) -> tuple[bool, str]:
        """Run a client's program; return whether it succeeded, and its output, cleaned and cut."""
        try:
            process = subprocess.run(  # noqa: S603 - the user named the program
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
        return process.returncode == 0, self.redact(clean(f"{process.stdout}\n{process.stderr}", _MAX_OUTPUT_LENGTH))


def _portable(variable: Variable, value: str) -> str:
    """Return the value with absolute paths: a client starts the server in another folder."""
    if variable.format == "filepath":
        return _absolute(value)
    if variable.field == "image_dirs":
        return os.pathsep.join(map(_absolute, value.split(os.pathsep)))
    return value


def _absolute(folder: str) -> str:
    return str(Path(folder).absolute()) if folder and not folder.startswith(("~", "$")) else folder


def installed_launch() -> Launch:
    """Return how to start the script beside this Python, by its absolute path: safe from hijacking, and without PATH.

    For an environment that will be deleted, return how to fetch the same package again. Raises FileProblem if its
    source is not known.
    """
    if (folder := disposable_folder(Path(sys.prefix))) is not None:
        return fetch_launch(folder, os.environ)
    path = shutil.which(NAME, path=sysconfig.get_path("scripts"))
    if path is None:
        raise FileProblem(
            "The sora-mcp script is not installed beside this Python.", Do("Install the package with pip.")
        )
    return Launch(path)
