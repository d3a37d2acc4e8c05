"""Fetching a video from the address that the gateway gave: streamed, bounded, and only from where it may come.

An address in a reply is data from outside. It is fetched without the key, over http(s), from public
addresses only (unless the gateway itself is local), and the address that was checked is the one that
is connected to, at every redirect.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx

from sora_mcp.errors import BadReply, FileProblem
from sora_mcp.gateway import Gateway

MAX_REDIRECTS = 5
_CHUNK = 256 * 1024

Progress = Callable[[int, int | None], Awaitable[None]]
"""Told bytes so far and bytes in all (None where the sender does not say)."""


async def _no_progress(_done: int, _total: int | None) -> None: ...


async def fetch(
    gateway: Gateway,
    url: str,
    target: Path,
    *,
    max_bytes: int,
    seconds: float,
    on_progress: Progress = _no_progress,
) -> int:
    """Save `url` as `target` and return its size in bytes; `target` must not exist and is never overwritten.

    Written beside `target` under a name of its own, checked, synced, then linked into place, so that
    `target` is either whole or absent. Raises BadReply (cut off, refused, not a video, too large, too
    slow) or FileProblem (the disk).
    """
    part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
    try:
        with anyio.fail_after(seconds):
            async with _open(gateway, url) as response:
                size = await _write(response, part, max_bytes, on_progress)
        await anyio.to_thread.run_sync(_put_in_place, part, target)
    except TimeoutError:
        raise BadReply(f"The video could not be downloaded within {seconds:g} s.", _LATER) from None
    except httpx.HTTPError:
        raise BadReply("The connection broke while the video was downloaded.", _LATER) from None
    except OSError as error:
        raise FileProblem(
            f"The video cannot be saved in {target.parent}: {error.strerror or 'the disk refuses'}.",
            "Ask the user to check the folder (setting SORA_OUTPUT_DIR) and the free space.",
        ) from None
    finally:
        part.unlink(missing_ok=True)
    return size


_LATER = "Call again; nothing half is left behind, and downloading costs nothing."


@asynccontextmanager
async def _open(gateway: Gateway, url: str) -> AsyncIterator[httpx.Response]:
    for _ in range(MAX_REDIRECTS + 1):
        async with _request(gateway, url) as response:
            if not response.has_redirect_location:
                if response.status_code != 200:
                    raise BadReply(
                        f"The video's address answered with status {response.status_code}.",
                        _LATER,
                        http_status=response.status_code,
                    )
                yield response
                return
            url = str(httpx.URL(url).join(response.headers["location"]))
    raise BadReply(f"The video's address redirects more than {MAX_REDIRECTS} times.", _LATER)


@asynccontextmanager
async def _request(gateway: Gateway, url: str) -> AsyncIterator[httpx.Response]:
    try:
        target = httpx.URL(url)
    except httpx.InvalidURL:
        raise BadReply("The gateway gave an address for the video that cannot be read.", _LATER) from None
    if gateway.endpoint.sandbox and target.scheme == "file":
        # In process the sandbox names files, for people to open; it serves the same ones by their names.
        target = httpx.URL(f"{gateway.endpoint.base_url}/media/{target.path.rpartition('/')[2]}")
    if target.scheme not in {"http", "https"} or not target.host:
        raise BadReply("The gateway gave an address for the video that is not http(s).", "Tell the user.")
    headers: dict[str, str] = {}
    extensions: dict[str, Any] = {}
    if not gateway.endpoint.local:
        address = await _public_address(target.host, target.port or (443 if target.scheme == "https" else 80))
        headers["Host"] = target.netloc.decode("ascii")
        extensions["sni_hostname"] = target.host
        target = target.copy_with(host=address)
    async with gateway.client.stream("GET", target, headers=headers, extensions=extensions) as response:
        yield response


async def _public_address(host: str, port: int) -> str:
    """The address to connect to. Raises BadReply where any address of the host is not public."""
    try:
        found = await anyio.getaddrinfo(host, port)
    except OSError:
        raise BadReply("The host of the video's address is not known.", _LATER) from None
    addresses = [str(each[4][0]) for each in found]
    if not addresses or not all(ipaddress.ip_address(address.split("%")[0]).is_global for address in addresses):
        raise BadReply(
            "The gateway gave an address for the video that lies inside a private network; it was not fetched.",
            "Tell the user.",
        )
    return addresses[0]


async def _write(response: httpx.Response, part: Path, max_bytes: int, on_progress: Progress) -> int:
    declared = response.headers.get("content-length", "")
    total = int(declared) if declared.isdecimal() else None
    too_large = BadReply(
        f"The video is larger than {max_bytes // 1_000_000} MB.", "The setting SORA_DOWNLOAD_MAX_MB allows more."
    )
    if total is not None and total > max_bytes:
        raise too_large
    done = 0
    async with await anyio.open_file(part, "xb") as file:
        async for chunk in response.aiter_bytes(_CHUNK):
            if done == 0 and not _is_video(chunk):
                raise BadReply("What stands at the video's address is not a video.", "Ask get_video for a new address.")
            done += len(chunk)
            if done > max_bytes:
                raise too_large
            await file.write(chunk)
            await on_progress(done, total)
        await file.flush()
        await anyio.to_thread.run_sync(os.fsync, file.wrapped.fileno())
    if done == 0 or (total is not None and done != total):
        raise BadReply("The video was cut off while it was downloaded.", _LATER)
    return done


def _is_video(start: bytes) -> bool:
    """MP4 and MOV (`ftyp` box) or WebM and Matroska (EBML), by their first bytes."""
    return start[4:8] == b"ftyp" or start[:4] == b"\x1a\x45\xdf\xa3"


def _put_in_place(part: Path, target: Path) -> None:
    """Give the finished file its name; unlike a rename, a link never replaces a file that is there."""
    try:
        target.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if target.exists():
            raise FileExistsError(17, "the file exists") from None
        part.rename(target)
