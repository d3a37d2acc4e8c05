"""What a finished video is used for: viewing, saving, or reading its bytes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import anyio

from sora_mcp.config.settings import Settings
from sora_mcp.core.errors import FileProblem, SoraError
from sora_mcp.core.pictures import PictureFormat, View
from sora_mcp.core.results import Download, Stills
from sora_mcp.ledger import Entry, Ledger
from sora_mcp.media.viewer import Viewer
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.generations import chosen_variant
from sora_mcp.studio.poller import Poller
from sora_mcp.studio.upstream import Upstream
from sora_mcp.studio.waiter import Waiter

if TYPE_CHECKING:
    from sora_mcp.studio.files import Files, Refresh
    from sora_mcp.studio.material import Material
    from sora_mcp.studio.sources import Resolved


class Outputs:
    """The finished videos of one studio. All methods raise SoraError and nothing else."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        connector: Connector,
        poller: Poller,
        waiter: Waiter,
        viewer: Viewer,
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._connector = connector
        self._poller = poller
        self._waiter = waiter
        self._viewer = viewer
        self._save_locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)

    async def view(
        self,
        video_id: str,
        view: View,
        *,
        variant: int,
        all_variants: bool,
        beside: str | None,
        picture_format: PictureFormat,
    ) -> Stills:
        """Stills in one picture; see `Studio.view`."""
        from sora_mcp.studio import viewing  # noqa: PLC0415 - as below

        connection = await self._connector.connect()
        files = self._files(connection)

        async def find(text: str) -> Entry:
            return await self._waiter.find(connection, text)

        shots = await viewing.find_shots(find, video_id, variant=variant, all_variants=all_variants, beside=beside)
        return await viewing.draw(
            shots, view, files, connection.label, viewer=self._viewer, picture_format=picture_format
        )

    async def board(self, ready: Resolved, picture_format: PictureFormat) -> bytes:
        """Draw a storyboard as a picture. Raises FileProblem (including Unviewable) or NotConfigured."""
        from sora_mcp.studio.boards import open_board  # noqa: PLC0415 - as above

        connection: Upstream | None = None
        if ready.sources:
            with suppress(SoraError):  # a dry run's notes report it; the rest can still be drawn
                connection = await self._connector.connect()

        async def find(video_id: str) -> Entry | None:
            return None if connection is None else await self._ledger.find(connection.account, video_id)

        files = None if connection is None else self._files(connection)
        try:
            async with open_board(ready, find, files) as board:
                return await self._viewer.board(board, picture_format=picture_format)
        except OSError as error:
            raise FileProblem(f"What a plan shows cannot be written: {error.strerror}.") from None

    def close(self) -> None:
        """End every `view` under way: the server is shutting down."""
        self._viewer.close()

    async def download(
        self,
        video_id: str,
        *,
        variant: int = 1,
        on_bytes: Callable[[int, int | None], Awaitable[None]] | None = None,
        save_as: Path | None = None,
    ) -> Download:
        """Save one variant, once; see `Studio.download`."""
        connection = await self._connector.connect()
        files = self._files(connection)
        entry = await self._waiter.find(connection, video_id)
        variant = chosen_variant(video_id, variant, entry)
        async with self._save_locks[entry.request_id]:
            entry = await self._ledger.find(connection.account, entry.request_id) or entry
            saved = await files.save(entry, variant, connection.label, on_bytes, save_as=save_as)
        entry = await self._ledger.find(connection.account, entry.request_id) or entry
        await files.read_shape(entry, variant, self._viewer)
        return saved

    async def read(self, video_id: str, *, variant: int = 1, max_bytes: int) -> bytes:
        """Return the bytes of one variant; see `Studio.read`."""
        connection = await self._connector.connect()
        files = self._files(connection)
        entry = await self._waiter.find(connection, video_id)
        return await files.read(entry, variant, max_bytes)

    async def saved_file(self, video_id: str, variant: int) -> Path | None:
        """Return where one variant is saved according to the ledger; see `Studio.saved_file`."""
        connection = await self._connector.connect()
        entry = await self._ledger.find(connection.account, video_id)
        return None if entry is None else entry.files.get(variant)

    async def material(self, connection: Upstream, ready: Resolved) -> Material:
        """Fetch what a request needs of earlier videos. Raises SoraError if that fails."""
        from sora_mcp.studio import material  # noqa: PLC0415 - as `_files`

        files, refresh = self._files(connection), self._refresh(connection)
        return await material.fetch(ready.plan.needs, ready.videos, files, refresh=refresh, viewer=self._viewer)

    async def save_all(self, entry: Entry) -> None:
        """Save every variant that can be saved; raise the first error after trying all."""
        errors: list[SoraError] = []
        for generation in entry.generations:
            if generation.url is not None and generation.variant not in entry.files:
                try:
                    await self.download(entry.request_id, variant=generation.variant)
                except SoraError as error:
                    errors.append(error)
        if errors:
            raise errors[0]

    def _files(self, connection: Upstream) -> Files:
        from sora_mcp.studio.files import Files  # noqa: PLC0415 - only downloads need it

        return Files(self._settings, connection.gateway, self._ledger, self._refresh(connection))

    def _refresh(self, connection: Upstream) -> Refresh:
        async def refresh(entry: Entry) -> Entry:
            return await self._poller.ask(connection, entry, force=True)

        return refresh
