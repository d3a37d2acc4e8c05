"""Fetching a video from the address that the gateway gave: streamed, bounded, and only from where it may come.

An address in a reply is data from outside. It is fetched without the key, over http(s), from public
addresses only (unless the gateway itself is local), and the address that was checked is the one that
is connected to, at every redirect.

Behind a proxy the last part does not hold: the proxy is told the host's name (TLS needs it) and looks it up
again. What the name means here is still checked; a name that only the proxy knows is left to the proxy.
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
from sora_mcp.gateway import Gateway, location_of
from sora_mcp.settings import is_local_host

MAX_REDIRECTS = 5
MAX_BOXES = 100_000
"""Boxes of an MP4 file that are looked at; a fragmented video of an hour has a few thousand."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
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
            await anyio.to_thread.run_sync(_check_boxes, part, size)
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
async def _open(gateway: Gateway, address: str) -> AsyncIterator[httpx.Response]:
    url = _read(gateway, httpx.URL(), address)
    for _ in range(MAX_REDIRECTS + 1):
        async with _request(gateway, url) as response:
            location = location_of(response)
            if response.status_code not in _REDIRECTS or not location:
                if response.status_code != 200:
                    raise BadReply(
                        f"The video's address answered with status {response.status_code}.",
                        _LATER,
                        http_status=response.status_code,
                    )
                yield response
                return
            url = _read(gateway, url, location)
    raise BadReply(f"The video's address redirects more than {MAX_REDIRECTS} times.", _LATER)


def _read(gateway: Gateway, base: httpx.URL, address: str) -> httpx.URL:
    """An address that may be relative to `base`, as an http(s) one with a host. Raises BadReply."""
    try:
        url = base.join(address)
        host, port = url.host, url.port or 0
    except (httpx.InvalidURL, ValueError):
        raise BadReply("The gateway gave an address for the video that cannot be read.", _LATER) from None
    if gateway.endpoint.sandbox and url.scheme == "file":
        # In process the sandbox names files, for people to open; it serves the same ones by their names.
        return httpx.URL(f"{gateway.endpoint.base_url}/media/{url.path.rpartition('/')[2]}")
    if url.scheme not in {"http", "https"} or not host or port > 65535:
        raise BadReply("The gateway gave an address for the video that is not http(s).", "Tell the user.")
    return url


@asynccontextmanager
async def _request(gateway: Gateway, url: httpx.URL) -> AsyncIterator[httpx.Response]:
    headers: dict[str, str] = {}
    extensions: dict[str, Any] = {}
    client = gateway.client_for(url)
    if not gateway.endpoint.local:
        proxied = gateway.proxy_for(url) is not None
        address = await _public_address(url, proxied=proxied)
        if not proxied:
            headers["Host"] = url.netloc.decode("ascii")
            extensions["sni_hostname"] = url.host
            url = url.copy_with(host=address)
    async with client.stream("GET", url, headers=headers, extensions=extensions) as response:
        yield response


async def _public_address(url: httpx.URL, *, proxied: bool) -> str:
    """The address to connect to. Raises BadReply where any address of the host is not public, or there is none.

    A host that is not known here is left to the proxy: company networks know no names of the outside. It is empty then.
    """
    try:
        found = await anyio.getaddrinfo(url.host, url.port or (443 if url.scheme == "https" else 80))
    except (OSError, ValueError):
        if proxied and not is_local_host(url.host):
            return ""
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
        raise _cut_off()
    return done


def _cut_off() -> BadReply:
    return BadReply("The video was cut off while it was downloaded.", _LATER)


def _check_boxes(path: Path, size: int) -> None:
    """Walk the top-level boxes of an MP4 file of `size` bytes (ISO/IEC 14496-12 §4.2). Raises BadReply.

    A size of 1 is followed by one of 64 bits; a size of 0 means: to the end. Other kinds of video pass.
    """
    at = 0
    with path.open("rb") as file:
        for _ in range(MAX_BOXES):
            if at == size:
                return
            file.seek(at)
            head = file.read(16)
            length, least = int.from_bytes(head[:4], "big"), 8
            if at == 0 and head[4:8] != b"ftyp":
                return
            if length == 1:
                length, least = int.from_bytes(head[8:16], "big"), 16
            elif length == 0:
                length = size - at
            at += length
            if len(head) < least or length < least or at > size:
                raise _cut_off()
    raise BadReply("What stands at the video's address is not a video.", "Tell the user.")


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
