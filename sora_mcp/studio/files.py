"""Videos as files: saving them, and local copies to read."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import anyio

from sora_mcp import media
from sora_mcp.config.endpoint import SORA
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Advice, AskUser, CheckAgain, Do, LocalText, Save, Setting, TellUser
from sora_mcp.core.errors import BadReply, FileProblem, Gone, NotConfigured, NotFound, SoraError
from sora_mcp.core.pictures import View
from sora_mcp.core.results import Download
from sora_mcp.core.tasks import Generation, Task
from sora_mcp.gateway import Gateway
from sora_mcp.gateway.container import HEAD_BYTES, is_video, is_whole
from sora_mcp.gateway.download import Progress, copy_new, fetch
from sora_mcp.gateway.folder import FSYNC_TIMEOUT_S, Silent, check_mounted, on_local_disk, run_in_folder, run_within
from sora_mcp.ledger import Entry, Ledger
from sora_mcp.media.film import Probe
from sora_mcp.media.viewer import Viewer
from sora_mcp.studio.generations import usable_generation
from sora_mcp.studio.ids import file_stem

logger = logging.getLogger(__name__)

Refresh = Callable[[Entry], Awaitable[Entry]]
"""Query the gateway again for a row: addresses are short-lived."""


async def _ignore_progress(_done: int, _total: int | None) -> None: ...


class Files:
    """The videos of one gateway as files, for one call; its download time (SORA_DOWNLOAD_TIMEOUT) starts now."""

    def __init__(self, settings: Settings, gateway: Gateway, ledger: Ledger, refresh: Refresh) -> None:
        self._settings = settings
        self._gateway = gateway
        self._ledger = ledger
        self._refresh = refresh
        self._deadline = anyio.current_time() + settings.download_timeout

    @property
    def is_local(self) -> bool:
        """Whether the gateway is on this machine or network."""
        return self._gateway.endpoint.local

    async def save(
        self,
        entry: Entry,
        variant: int,
        label: str,
        on_progress: Progress | None = None,
        *,
        save_as: Path | None = None,
    ) -> Download:
        """Save one variant in the output folder, once, or as the new file `save_as`.

        Raises NotReady, InvalidInput, BadReply or FileProblem.
        """
        usable_generation(entry, variant, "task_id")
        try:
            path, is_new = await self._find_saved(entry, variant), False
        except Silent as error:
            if save_as is None:
                raise _folder_problem(self._settings.output_dir, error) from None
            path, is_new = None, False
        if save_as is not None:
            await self._save_as(entry, variant, save_as, path, on_progress or _ignore_progress)
            path, is_new = save_as, True
        elif path is None:
            path, is_new = await self._save_new(entry, variant, on_progress or _ignore_progress)
            await self._ledger.record_saved(entry.request_id, variant, path)
        return Download(
            gateway=label,
            task_id=entry.task_id or entry.request_id,
            variant=variant,
            path=str(path),
            bytes=await _size(path),
            outcome="saved" if is_new else "already_saved",
        )

    async def read(self, entry: Entry, variant: int, max_bytes: int) -> bytes:
        """Return the bytes of one variant, fetched temporarily if it is not saved. Raises FileProblem if larger."""
        async with self.bounded_file(entry, variant, max_bytes) as path:
            try:
                return await run_in_folder(Path(path).read_bytes)
            except OSError as error:
                raise FileProblem((LocalText(str(path), "The file"), f" cannot be read: {error.strerror}.")) from None

    @asynccontextmanager
    async def bounded_file(
        self, entry: Entry, variant: int, max_bytes: int, *, if_larger: Advice | None = None
    ) -> AsyncIterator[anyio.Path]:
        """Open the file of one variant, fetched temporarily if it is not saved. Raises FileProblem if larger."""
        usable_generation(entry, variant, "task_id")

        async def check(done: int, total: int | None = None) -> None:
            if max(done, total or 0) > max_bytes:
                raise FileProblem(
                    f"Variant {variant} of {entry.id} is larger than {max_bytes / 1e6:g} MB.",
                    if_larger or Save(entry.id),
                )

        async with self.local_file(entry, variant, check) as path:
            try:
                await check((await run_in_folder(Path(path).stat)).st_size)
            except OSError as error:
                raise FileProblem((LocalText(str(path), "The file"), f" cannot be read: {error.strerror}.")) from None
            yield path

    async def read_shape(self, entry: Entry, variant: int, viewer: Viewer) -> None:
        """Read size, length and rate from a saved file and record them, if the gateway does not state them."""
        path = None if _knows_shape(entry, variant) else await self._find_reachable(entry, variant)
        if path is None:
            return
        try:
            name = f"Variant {variant} of {entry.id}"
            sheet = await viewer.sheet([media.Reel(path)], View(frames=1), [name])
        except (media.Unviewable, NotConfigured) as error:
            logger.info("the saved file cannot be inspected: %s", error.message)
        else:
            await self.record_shape(entry, variant, sheet.probe)

    async def record_shape(self, entry: Entry, variant: int, probe: Probe) -> None:
        """Record the shape of a file, if the gateway does not state it."""
        if not _knows_shape(entry, variant):
            generation = Generation(
                variant=variant, width=probe.width, height=probe.height, n_frames=probe.n_frames, fps=probe.fps
            )
            task = Task(state="succeeded", gateway_state=entry.gateway_state or "", generations=(generation,))
            await self._ledger.record(entry, task, None)

    @asynccontextmanager
    async def local_file(
        self, entry: Entry, variant: int, on_progress: Progress = _ignore_progress
    ) -> AsyncIterator[anyio.Path]:
        """Open the file of one variant; if it is not saved, it is fetched and removed afterwards."""
        if (saved := await self._find_reachable(entry, variant)) is not None:
            yield anyio.Path(saved)
            return
        with temporary_folder() as folder:
            path = folder / f"{file_stem(entry)}.v{variant}.mp4"
            with on_local_disk():
                await self._fetch(entry, variant, path, on_progress)
            yield anyio.Path(path)

    async def is_saved(self, entry: Entry, variant: int) -> bool:
        """Whether one variant is saved in a file that can be reached."""
        return await self._find_reachable(entry, variant) is not None

    async def _find_reachable(self, entry: Entry, variant: int) -> Path | None:
        """Return the saved file of one variant; None if there is none, or its folder does not answer."""
        try:
            return await self._find_saved(entry, variant)
        except Silent:
            return None

    async def _find_saved(self, entry: Entry, variant: int) -> Path | None:
        """Return the saved file of one variant, or None. Raises Silent.

        A file that is no longer where it was saved may have moved with the output folder: it has the same name there.
        """
        path = entry.files.get(variant)
        if path is None or await run_in_folder(_is_file, path):
            return path
        moved = self._settings.output_dir / path.name
        if not await self._is_own_video(entry, moved):
            return None
        await self._ledger.record_saved(entry.request_id, variant, moved)
        return moved

    async def _save_as(self, entry: Entry, variant: int, path: Path, saved: Path | None, on_progress: Progress) -> None:
        """Save one variant under the caller's name; a saved file is copied."""
        try:
            if saved is not None:
                await run_within(FSYNC_TIMEOUT_S, partial(copy_new, saved, path))
                return
            await self._fetch(entry, variant, path, on_progress)
        except FileProblem as error:
            raise FileProblem(error.parts, AskUser("check the folder and the free space")) from None
        except Silent as error:
            raise _folder_problem(path.parent, error) from None
        await self._ledger.record_saved(entry.request_id, variant, path)

    async def _save_new(self, entry: Entry, variant: int, on_progress: Progress) -> tuple[Path, bool]:
        """Save one variant that is not recorded; return its file, and whether it was fetched now.

        A complete file with the right name is reused: another process, or one that was killed, has saved it.
        """
        folder, stem = self._settings.output_dir, f"{file_stem(entry)}.v{variant}"
        target = folder / f"{stem}.mp4"
        try:
            shared = self._settings.shared_folder
            if shared is not None and folder.is_relative_to(shared):
                await run_in_folder(check_mounted, shared)
            path = await run_in_folder(_free_name, folder, stem)
            if path != target and await self._is_own_video(entry, target):
                return target, False
        except OSError as error:
            raise _folder_problem(folder, error) from None
        try:
            await self._fetch(entry, variant, path, on_progress)
        except FileProblem:
            if not await self._is_own_video(entry, path):
                raise
            return path, False
        return path, True

    async def _is_own_video(self, entry: Entry, path: Path) -> bool:
        """Whether a file of the right name is a complete video, and no other row's: two gateways may use the same
        id."""
        return await run_in_folder(_is_whole_video, path) and not await self._ledger.is_file_of_another(
            entry.request_id, path
        )

    async def _fetch(self, entry: Entry, variant: int, path: Path, on_progress: Progress) -> None:
        """Fetch one variant; if its address fails, query the gateway once for a new one, if there is time.

        Raises Gone if the address has expired and there is no other.
        """
        try:
            return await self._fetch_once(entry, variant, path, on_progress)
        except BadReply as error:
            failure = error
        with anyio.CancelScope(deadline=self._deadline):
            refreshed = await self._query_again(entry, failure)
            if _address(refreshed, variant) in {None, _address(entry, variant)}:
                raise _expired_error(entry, failure) if _is_refusal(failure, _address(entry, variant)) else failure
            try:
                return await self._fetch_once(refreshed, variant, path, on_progress)
            except BadReply as error:
                raise (
                    _expired_error(entry, error) if _is_refusal(error, _address(refreshed, variant)) else error
                ) from None
        raise failure

    async def _query_again(self, entry: Entry, failure: BadReply) -> Entry:
        """Return the row after another query. Raises `failure` if that fails."""
        try:
            return await self._refresh(entry)
        except NotFound as error:
            was_known = (_address(entry, 1) or "").startswith("/")  # the gateway that served the file has forgotten it
            if (error.can_retry and not was_known) or not _is_refusal(failure, _address(entry, 1)):
                raise failure from None
            raise _expired_error(entry, failure) from None
        except SoraError as error:
            logger.info("the gateway could not be asked for a new address: %s", error.message)
            raise failure from None

    async def _fetch_once(self, entry: Entry, variant: int, path: Path, on_progress: Progress) -> None:
        url = usable_generation(entry, variant, "task_id").url
        if url is None:
            raise BadReply(f"The gateway gave no address for {entry.id}.", CheckAgain(entry.id))
        await fetch(
            self._gateway,
            url,
            path,
            max_bytes=self._settings.download_max_mb * 1_000_000,
            timeout_s=self._deadline - anyio.current_time(),
            on_progress=on_progress,
        )


def _knows_shape(entry: Entry, variant: int) -> bool:
    """Whether a variant's shape does not have to be read from its file. Only the documented dialect states shapes, and
    not if the gateway serves files by its own paths."""
    generation = next((each for each in entry.generations if each.variant == variant), None)
    if generation is None or generation.fps is not None:
        return True
    return entry.dialect in {None, SORA} and not (generation.url or "").startswith("/")


def _address(entry: Entry, variant: int) -> str | None:
    return next((generation.url for generation in entry.generations if generation.variant == variant), None)


_TEMPORARY_STATUSES = frozenset({407, 408, 416, 423, 425, 429})
"""Refusals that say nothing about the address: by a proxy, a rate limit, or temporary (RFC 9110 §15.5, RFC 6585)."""


_MISSING_FILE_STATUSES = frozenset({404, 410, 422})
"""Statuses by which a gateway that serves files itself says there is none; others may mean the key, or not ready
yet."""


def _is_refusal(error: BadReply, address: str | None) -> bool:
    """Whether a file's host said that it has no such file, or that the address is no longer valid."""
    status = error.http_status or 0
    if (address or "").startswith("/"):
        return status in _MISSING_FILE_STATUSES
    return 400 <= status < 500 and status not in _TEMPORARY_STATUSES


def _expired_error(entry: Entry, error: BadReply) -> Gone:
    return Gone(
        f"{error.message} The video of {entry.id} is gone: its address has expired, and the gateway gives no other.",
        Do("Asking again does not help."),
        TellUser("the video can only be made again, and that costs again"),
        http_status=error.http_status,
    )


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a folder that is removed afterwards. Raises FileProblem if that fails."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="sora-mcp-", ignore_cleanup_errors=True)
    except OSError as error:
        folder_name = LocalText(tempfile.gettempdir(), "the folder for temporary files")
        message = ("Nothing can be written to ", folder_name, f": {error.strerror}.")
        raise FileProblem(message, AskUser("free up space there")) from None
    with folder:
        yield Path(folder.name)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a folder that this user may not read
        return False


def _is_whole_video(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_video(file.read(HEAD_BYTES)) and is_whole(path, path.stat().st_size)
    except (OSError, ValueError):
        return False


async def _size(path: Path) -> int:
    """Return the bytes of a file. Raises FileProblem."""
    try:
        return (await run_in_folder(path.stat)).st_size
    except OSError as error:
        raise _folder_problem(path.parent, error) from None


def _folder_problem(folder: Path, error: OSError) -> FileProblem:
    return FileProblem(
        ("The folder", LocalText(f" {folder}", " for videos"), f" cannot be used: {error.strerror}."),
        AskUser(("check ", Setting("output_dir"))),
    )


def _free_name(folder: Path, stem: str) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for suffix in ("", *(f"-{number}" for number in range(2, 100))):
            path = folder / f"{stem}{suffix}.mp4"
            if not path.exists():
                return path
    except OSError as error:
        raise _folder_problem(folder, error) from None
    problem = f" holds a hundred files of {stem} already."
    raise FileProblem((LocalText(str(folder), "The folder for videos"), problem), AskUser("tidy up"))
