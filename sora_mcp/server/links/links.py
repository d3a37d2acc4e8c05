"""Where links are made and answered: for each owner those to their videos and for their images, and the routes."""

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
from sora_mcp.gateway.folder import Silent, in_folder
from sora_mcp.server.links.answers import Endpoint, LinkVerifier, path_of
from sora_mcp.server.links.keys import LinkKeys
from sora_mcp.server.links.receiving import Images
from sora_mcp.server.links.serving import SavedFile, Videos, look_at, subject_of
from sora_mcp.server.links.signing import LASTS_S, Signer, Subject, Use
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
        is_let_in: Callable[[str], bool],
        clock: Callable[[], float] | None = None,
    ) -> None:
        clock = clock or documents.now
        self._saved_file = saved_file
        self._folder = common_folder(settings)
        self._is_shared = settings.shared_folder is not None
        audience = (settings.oauth_audience or "").rstrip("/").removesuffix("/mcp").rstrip("/")
        self._base_url = settings.public_url or audience or None
        self._verifier = LinkVerifier(Signer(LinkKeys(documents, clock).read, clock), is_let_in)

    def routes(self) -> list[Route]:
        """Where links lead. Whoever puts them into an app checks Host and Origin."""
        videos = Endpoint(Videos(self._verifier, self._saved_file).answer)
        images = Endpoint(Images(self._verifier, self._folder, is_shared=self._is_shared).answer)
        return [
            Route(path_of("videos"), videos, methods=["GET", "HEAD"]),
            Route(path_of("images"), images, methods=["PUT", "POST"]),
        ]

    def of(self, owner: str, request: Request) -> OwnersLinks:
        """The links of an owner who makes a request, whose Host was found to be allowed."""
        return OwnersLinks(owner, self._base_url or _base_url(request), self._verifier.signer, self._folder)


def _base_url(request: Request) -> str | None:
    """How the client reaches this server, as its request shows."""
    host = request.headers.get("host", "")
    return f"{request.scope['scheme']}://{host}" if _HOST.fullmatch(host) else None


class OwnersLinks(Struct, frozen=True):
    """The links of one owner, each for `lasts_s` seconds. They begin with `base_url`, None where that is not known.

    `folder`: of everybody's images, see `common_folder`.
    """

    owner: str
    base_url: str | None
    signer: Signer
    folder: Path
    lasts_s: int = LASTS_S
    wording: type[ForRemoteAgents] = ForRemoteAgents

    async def to_video(self, download: Download) -> str:
        """A link to a video that is saved. Raises FileProblem or NotConfigured."""
        path = Path(download.path or "")
        about = await _in_folder("The folder of videos", partial(look_at, path))
        if about is None:
            raise FileProblem("The file was removed just now.", AskUser("call again"))
        subject = subject_of(download.task_id, download.variant, about)
        return await self._signed("videos", subject, re.sub(r"[^A-Za-z0-9._-]", "_", path.name))

    async def for_image(self) -> str:
        """A link by which one image may be sent. Raises FileProblem or NotConfigured."""
        return await self._signed("images", (secrets.token_hex(8),), "")

    async def _signed(self, use: Use, subject: Subject, name: str) -> str:
        if self.base_url is None:
            address = ("this server's own address is not known (setting ", Setting("public_url"), ").")
            raise NotConfigured(("No link can be given: ", *address), AskUser("have whoever runs this server set it"))
        path = await to_thread.run_sync(self.signer.sign, use, self.owner, subject, name)
        return f"{self.base_url}{path}"

    async def has_image(self, name: str) -> bool:
        """Whether the owner has sent the image of this name. Raises FileProblem."""
        knows = Uploads(self.folder, self.owner).knows
        return await _in_folder("The folder of images that people send", partial(knows, name))


async def _in_folder(folder: str, work: Callable[[], T]) -> T:
    """What `work` returns. Raises FileProblem where its folder does not answer."""
    try:
        return await in_folder(work)
    except Silent:
        raise FileProblem(f"{folder} does not answer.", TryAgain()) from None
