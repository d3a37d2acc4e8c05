"""Create signed links to an owner's videos and for their images, and the routes that serve them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from anyio import to_thread
from msgspec import Struct
from starlette.requests import Request
from starlette.routing import Route

from sora_mcp.config.documents import Documents
from sora_mcp.config.settings import Settings
from sora_mcp.config.sharing import common_folder
from sora_mcp.core.advice import AskUser, Setting, TryAgain
from sora_mcp.core.errors import FileProblem, NotConfigured
from sora_mcp.core.results import Download
from sora_mcp.gateway.folder import Silent, check_mounted, run_in_folder
from sora_mcp.server.links.answers import Endpoint, LinkVerifier, route_path
from sora_mcp.server.links.keys import LinkKeys
from sora_mcp.server.links.receiving import Images
from sora_mcp.server.links.serving import SavedFile, Videos, stat_file, video_subject
from sora_mcp.server.links.signing import LINK_TTL_S, Signer, Subject, Use
from sora_mcp.studio.uploads import Uploads
from sora_mcp.tools.remote import ForRemoteAgents

T = TypeVar("T")

_HOST = re.compile(r"(?:[a-z0-9_](?:[a-z0-9._-]*[a-z0-9])?|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE)


class Links:
    """All links of one server."""

    def __init__(
        self,
        settings: Settings,
        documents: Documents,
        saved_file: SavedFile,
        has_access: Callable[[str], bool],
        clock: Callable[[], float] | None = None,
    ) -> None:
        clock = clock or documents.now
        self._saved_file = saved_file
        self._folder = common_folder(settings)
        self._shared_folder = settings.shared_folder
        audience = (settings.oauth_audience or "").rstrip("/").removesuffix("/mcp").rstrip("/")
        self._base_url = settings.public_url or audience or None
        self._verifier = LinkVerifier(Signer(LinkKeys(documents, clock).read, clock), has_access)

    def routes(self) -> list[Route]:
        """Return the routes of links. The app that mounts them has to check Host and Origin."""
        videos = Endpoint(Videos(self._verifier, self._saved_file, self._shared_folder).answer)
        images = Endpoint(Images(self._verifier, self._folder, is_shared=self._shared_folder is not None).answer)
        return [
            Route(route_path("videos"), videos, methods=["GET", "HEAD"]),
            Route(route_path("images"), images, methods=["PUT", "POST"]),
        ]

    def for_owner(self, owner: str, request: Request) -> OwnerLinks:
        """Return the links of an owner whose request is being served; its Host was found to be allowed."""
        base_url = self._base_url or _base_url(request)
        is_shared = self._shared_folder is not None
        return OwnerLinks(owner, base_url, self._verifier.signer, self._folder, is_shared)


def _base_url(request: Request) -> str | None:
    """Return the address at which the client reaches this server, from its request; None if the Host is invalid."""
    host = request.headers.get("host", "")
    return f"{request.scope['scheme']}://{host}" if _HOST.fullmatch(host) else None


class OwnerLinks(Struct, frozen=True):
    """The links of one owner, each valid for `ttl_s` seconds. `base_url`: their beginning, None if it is not known.

    `folder`: that of all owners' images, see `common_folder`. `is_shared`: it may be one that has to be mounted.
    """

    owner: str
    base_url: str | None
    signer: Signer
    folder: Path
    is_shared: bool
    ttl_s: int = LINK_TTL_S
    wording: type[ForRemoteAgents] = ForRemoteAgents

    async def to_video(self, download: Download) -> str:
        """Return a link to a saved video. Raise FileProblem or NotConfigured."""
        path = Path(download.path or "")
        stat_result = await _in_folder("The folder of videos", partial(stat_file, path))
        if stat_result is None:
            raise FileProblem("The file was removed just now.", AskUser("call again"))
        subject = video_subject(download.task_id, download.variant, stat_result)
        return await self._signed("videos", subject, re.sub(r"[^A-Za-z0-9._-]", "_", path.name))

    async def for_image(self) -> str:
        """Return a link for sending one image. Raise FileProblem or NotConfigured."""
        return await self._signed("images", (secrets.token_hex(8),), "")

    async def _signed(self, use: Use, subject: Subject, name: str) -> str:
        if self.base_url is None:
            address = ("this server's own address is not known (setting ", Setting("public_url"), ").")
            raise NotConfigured(("No link can be created: ", *address), AskUser("have whoever runs this server set it"))
        path = await to_thread.run_sync(self.signer.sign, use, self.owner, subject, name)
        return f"{self.base_url}{path}"

    async def has_image(self, name: str) -> bool:
        """Return whether the owner has sent the image with this name. Raise FileProblem."""
        return await _in_folder("The folder of images that people send", partial(self._has_image, name))

    def _has_image(self, name: str) -> bool:
        if Uploads(self.folder, self.owner).has(name):
            return True
        if self.is_shared:
            check_mounted(self.folder)
        return False


async def _in_folder(folder: str, work: Callable[[], T]) -> T:
    """Run `work` and return its result. Raise FileProblem if its folder does not respond, or cannot be used."""
    try:
        return await run_in_folder(work)
    except Silent:
        raise FileProblem(f"{folder} does not answer.", TryAgain()) from None
    except OSError as error:
        message = f"{folder} cannot be used: {error.strerror or 'the disk refuses'}."
        raise FileProblem(message, AskUser(("check ", Setting("output_dir")))) from None
