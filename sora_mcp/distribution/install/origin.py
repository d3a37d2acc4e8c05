"""Where this installation came from, for one that stands where it will not stay: how a client starts the same again.

uvx and `pipx run` keep environments in caches that are cleaned, and mark those with CACHEDIR.TAG. What was installed,
and from where, the installer recorded itself: direct_url.json (PEP 610). Nothing is ever taken from an index by its
name alone.
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
"""Our extras, and a package by which each is known to be installed."""

_LASTING = Do(
    "Install it in a folder that stays (python3 -m venv FOLDER, then FOLDER/bin/pip install with the same source; or "
    "uv tool install, or pipx install), and run install from there."
)


def throw_away(prefix: Path) -> Path | None:
    """The cache or temporary folder in which an environment stands; None for one that stays.

    One inside the very checkout that it was installed from lasts as long as that does.
    """
    prefix = prefix.resolve()
    for parent in prefix.parents:
        if (parent / "CACHEDIR.TAG").is_file():
            return parent
    checkout = _checkout()
    if checkout is not None and checkout in prefix.parents:
        return None
    return next((folder for folder in _temporary() if folder in prefix.parents), None)


def _temporary() -> Iterator[Path]:
    named = Path(tempfile.gettempdir())
    if named != Path.cwd():  # what it falls back to
        yield named.resolve()
    yield from (Path(name).resolve() for name in ("/tmp", "/var/tmp", "/dev/shm"))  # noqa: S108 - nothing is written


def _checkout() -> Path | None:
    """The folder that this was installed from, if it was one."""
    record = _record()
    if record is None or "dir_info" not in record:
        return None
    return _folder_of(str(record.get("url", "")))


def fetching(folder: Path, environ: Mapping[str, str]) -> Launch:
    """How uvx or pipx starts what runs here, from its recorded source. Raises FileProblem where nobody can tell."""
    requirement = f"{NAME}{_extras()} @ {_source(folder)}"
    path = environ.get("PATH", "")
    if uv := environ.get("UV"):  # the program that runs this, as it says itself
        path = f"{Path(uv).parent}:{path}"
    if (uvx := shutil.which("uvx", path=path)) is not None:
        return Launch(str(Path(uvx).absolute()), ("--from", requirement, NAME))
    if (pipx := shutil.which("pipx", path=path)) is not None:
        return Launch(str(Path(pipx).absolute()), ("run", "--spec", requirement, NAME))
    raise _refusal(folder, "neither uvx nor pipx was found, which could start it again")


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
    """What the installer recorded of the source; None where it came from an index, or nothing can be read."""
    try:
        text = metadata.distribution(NAME).read_text("direct_url.json")
        record = json.loads(text) if text else None
    except (metadata.PackageNotFoundError, ValueError, OSError):
        return None
    return record if isinstance(record, dict) else None


def _source(folder: Path) -> str:
    """The recorded source as a requirement has it. Raises FileProblem where it is not known, or will not stay."""
    record = _record()
    if record is None:
        raise _refusal(folder, "where it came from was not recorded, and its name is not published")
    url = str(record.get("url", ""))
    parts = urlsplit(url)
    if parts.password or parts.query or (parts.username and parts.username != "git"):
        raise _refusal(folder, "the address it came from may hold a password, which no client's file should")
    if parts.scheme == "file":
        place = _folder_of(url)
        if place is None or not place.exists():
            raise _refusal(folder, "what it was installed from is not there any more")
        if any(each in place.parents for each in _temporary()):
            raise _refusal(folder, "what it was installed from stands in a temporary folder, too")
    elif parts.scheme not in {"https", "ssh"}:
        raise _refusal(folder, "where it came from cannot be fetched safely again")
    return _pinned(url, record)


def _pinned(url: str, record: dict[str, Any]) -> str:
    """The address with what fixes its content: the commit, or the hash."""
    subdirectory = record.get("subdirectory")
    fragments = [f"subdirectory={subdirectory}"] if isinstance(subdirectory, str) else []
    if isinstance(vcs := record.get("vcs_info"), dict):
        url = f"{vcs.get('vcs')}+{url}@{vcs.get('commit_id')}"
    elif isinstance(archive := record.get("archive_info"), dict):
        hashes = archive.get("hashes")
        fragments += [f"{name}={value}" for name, value in (hashes or {}).items()][:1]
    return f"{url}#{'&'.join(fragments)}" if fragments else url


def _folder_of(url: str) -> Path | None:
    parts = urlsplit(url)
    if parts.scheme != "file":
        return None
    return Path(url2pathname(parts.path)).resolve()


def _refusal(folder: Path, why: str) -> FileProblem:
    return FileProblem(
        f"Nothing was written: this sora-mcp stands in {folder}, which is cleaned sooner or later, and {why}.", _LASTING
    )
