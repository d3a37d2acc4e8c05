"""The source of an installation whose environment will be deleted, so that a client can start the same package again.

uvx and `pipx run` create environments in caches that are cleaned, and mark those with CACHEDIR.TAG. The installer
records what it installed and from where in direct_url.json (PEP 610). Nothing is ever fetched from an index by name
alone.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sora_mcp.core.advice import Do
from sora_mcp.core.errors import FileProblem
from sora_mcp.distribution.manifests.product import NAME, Launch

_EXTRAS = {"keyring": "keyring", "media": "av"}
"""Each extra, and a package that shows that it is installed."""

_PERMANENT = Do(
    "Install it in a folder that stays (python3 -m venv FOLDER, then FOLDER/bin/pip install with the same source; or "
    "uv tool install, or pipx install), and run install from there."
)


def disposable_folder(prefix: Path) -> Path | None:
    """Return the cache or temporary folder that contains an environment; None for a permanent environment.

    An environment inside the checkout it was installed from lasts as long as the checkout.
    """
    prefix = prefix.resolve()
    for parent in prefix.parents:
        if (parent / "CACHEDIR.TAG").is_file():
            return parent
    checkout = _checkout()
    if checkout is not None and checkout in prefix.parents:
        return None
    return next((folder for folder in _temporary_folders() if folder in prefix.parents), None)


def _temporary_folders() -> Iterator[Path]:
    folder = Path(tempfile.gettempdir())
    if folder != Path.cwd():  # its fallback
        yield folder.resolve()
    yield from (Path(name).resolve() for name in ("/tmp", "/var/tmp", "/dev/shm"))  # noqa: S108 - nothing is written


def _checkout() -> Path | None:
    """Return the folder that this was installed from, or None if it was none."""
    record = _record()
    if record is None or "dir_info" not in record:
        return None
    return _folder_from(str(record.get("url", "")))


def fetch_launch(folder: Path, environ: Mapping[str, str]) -> Launch:
    """Return how uvx or pipx starts this package from its recorded source. Raises FileProblem if that is not known."""
    requirement = f"{NAME}{_extras()} @ {_source(folder)}"
    path = environ.get("PATH", "")
    if uv := environ.get("UV"):  # set by uv to its own path
        path = f"{Path(uv).parent}:{path}"
    if (uvx := shutil.which("uvx", path=path)) is not None:
        return Launch(str(Path(uvx).absolute()), ("--from", requirement, NAME))
    if (pipx := shutil.which("pipx", path=path)) is not None:
        return Launch(str(Path(pipx).absolute()), ("run", "--spec", requirement, NAME))
    raise _problem(folder, "neither uvx nor pipx was found, which could start it again")


def _extras() -> str:
    names = [extra for extra, package in _EXTRAS.items() if _is_installed(package)]
    return f"[{','.join(names)}]" if names else ""


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _record() -> dict[str, Any] | None:
    """Return the installer's record of the source; None if it came from an index, or the record is unreadable."""
    try:
        text = metadata.distribution(NAME).read_text("direct_url.json")
        record = json.loads(text) if text else None
    except (metadata.PackageNotFoundError, ValueError, OSError):
        return None
    return record if isinstance(record, dict) else None


def _source(folder: Path) -> str:
    """Return the recorded source as in a requirement. Raises FileProblem if it is unknown, or not permanent."""
    record = _record()
    if record is None:
        raise _problem(folder, "where it came from was not recorded, and its name is not published")
    url = str(record.get("url", ""))
    parts = urlsplit(url)
    if parts.password or parts.query or (parts.username and parts.username != "git"):
        raise _problem(folder, "the address it came from may hold a password, which no client's file should")
    if parts.scheme == "file":
        source = _folder_from(url)
        if source is None or not source.exists():
            raise _problem(folder, "what it was installed from no longer exists")
        if any(each in source.parents for each in _temporary_folders()):
            raise _problem(folder, "what it was installed from is in a temporary folder, too")
    elif parts.scheme not in {"https", "ssh"}:
        raise _problem(folder, "where it came from cannot be fetched safely again")
    return _pin(url, record)


def _pin(url: str, record: dict[str, Any]) -> str:
    """Return the address pinned to its commit or hash."""
    subdirectory = record.get("subdirectory")
    fragments = [f"subdirectory={subdirectory}"] if isinstance(subdirectory, str) else []
    if isinstance(vcs := record.get("vcs_info"), dict):
        url = f"{vcs.get('vcs')}+{url}@{vcs.get('commit_id')}"
    elif isinstance(archive := record.get("archive_info"), dict):
        hashes = archive.get("hashes")
        fragments += [f"{name}={value}" for name, value in (hashes or {}).items()][:1]
    return f"{url}#{'&'.join(fragments)}" if fragments else url


def _folder_from(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    return Path(url2pathname(parts.path)).resolve()


def _problem(folder: Path, reason: str) -> FileProblem:
    return FileProblem(
        f"Nothing was written: this sora-mcp is installed in {folder}, which is a cache or temporary folder, "
        f"and {reason}.",
        _PERMANENT,
    )
