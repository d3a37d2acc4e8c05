"""A server's signed links without the server."""

from __future__ import annotations

from pathlib import Path

import httpx
from bench import MP4
from starlette.applications import Starlette
from starlette.requests import Request

from sora_mcp.config.private_file import PrivateFiles
from sora_mcp.config.settings import Settings, load
from sora_mcp.core.results import Download
from sora_mcp.server.links import Links

CONTENT = MP4 + bytes(range(256)) * 400
BASE = "https://videos.example.org"


class LinkServer:
    """A server's links, one video for each owner, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.now = 1_800_000_000.0
        self.settings: Settings = load({}, base_url="sandbox", home=folder / "home", public_url=BASE)
        self.files = {owner: folder / owner / "task_1.v1.mp4" for owner in ("alice", "bob")}
        for owner, path in self.files.items():
            path.parent.mkdir()
            path.write_bytes(CONTENT + owner.encode())
        self.allowed = {"alice", "bob"}
        self.error: Exception | None = None
        """Raised when access is checked."""
        self.links = Links(
            self.settings, PrivateFiles(self.settings.home), self.saved_file, self.has_access, lambda: self.now
        )

    def has_access(self, owner: str) -> bool:
        if self.error is not None:
            raise self.error
        return owner in self.allowed

    async def saved_file(self, owner: str, video_id: str, variant: int) -> Path | None:
        return self.files.get(owner) if (video_id, variant) == ("task_1", 1) else None

    async def to_video(self, owner: str = "alice") -> str:
        path = self.files[owner]
        download = Download(
            gateway="g", task_id="task_1", variant=1, path=str(path), bytes=path.stat().st_size, outcome="saved"
        )
        return await self.links.for_owner(owner, request_to("videos.example.org")).to_video(download)

    async def for_image(self, owner: str = "alice") -> str:
        return await self.links.for_owner(owner, request_to("videos.example.org")).for_image()

    def client(self) -> httpx.AsyncClient:
        """A client of the routes of the links."""
        app = Starlette(routes=self.links.routes())
        return httpx.AsyncClient(transport=httpx.ASGITransport(app, raise_app_exceptions=True))


def request_to(host: str, scheme: str = "https") -> Request:
    return Request({"type": "http", "scheme": scheme, "path": "/mcp", "headers": [(b"host", host.encode())]})
