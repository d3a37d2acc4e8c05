"""What can be done with videos, each method one call to the module that does it. All wiring is here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import anyio
from anyio.abc import TaskGroup

from sora_mcp.config.converters import Secret
from sora_mcp.config.settings import Settings
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.cost import Cost
from sora_mcp.core.description import Description
from sora_mcp.core.errors import SoraError
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.pictures import PictureFormat, View
from sora_mcp.core.records import KnownLine
from sora_mcp.core.results import Download, Filters, Stills, Submission, UsageReport, Video, VideoList
from sora_mcp.core.tasks import State
from sora_mcp.dialects.protocol import ListedTask
from sora_mcp.ledger import Entry, Ledger, Servers, open_ledger
from sora_mcp.media.child import Turns
from sora_mcp.media.viewer import Viewer
from sora_mcp.studio.connector import Connector
from sora_mcp.studio.creating import Confirm, Creator
from sora_mcp.studio.describing import Describer
from sora_mcp.studio.listing import ListProgress, Lists
from sora_mcp.studio.outputs import Outputs
from sora_mcp.studio.poller import Poller
from sora_mcp.studio.settling import Settler
from sora_mcp.studio.submitter import Submitter
from sora_mcp.studio.upstream import Upstream
from sora_mcp.studio.waiter import LEDGER_WITHIN, Waiter, WaitProgress
from sora_mcp.studio.watcher import Followed, Told, Wanted, Watcher

if TYPE_CHECKING:
    from sora_mcp.core.batches import BatchLine
    from sora_mcp.studio.readiness import Readiness, ReadinessCheck
    from sora_mcp.studio.sums import Sums

KeyOf = Callable[[str, str], Secret | None]
"""The upstream key of one of those who share a server (owner, base address), None where they have none of their own.
Raises FileProblem."""

_MadeFor = tuple[Cost | None, Secret | None]  # the cap and the key of an owner for which their studio was made

MOST_OWNERS = 1000
"""People whose studios are kept; beyond that the one that was made first is made again when they come back."""


class _Parts(NamedTuple):
    """What the studios of all who share a server have in common."""

    connector: Connector
    submitter: Submitter
    watcher: Watcher
    viewer: Viewer
    converting: Turns


class Studio:
    """Everything that can be done; made by `Studio.open`. All methods raise SoraError and nothing else."""

    def __init__(
        self, settings: Settings, ledger: Ledger, background: TaskGroup, *, parts: _Parts | None = None
    ) -> None:
        self.settings = settings
        self._ledger = ledger
        self._background = background
        poller = Poller(ledger, adopts=not settings.is_shared)
        self._parts = parts or _Parts(
            Connector(settings, ledger), Submitter(ledger, background), Watcher(ledger, poller), Viewer(), Turns()
        )
        connector, self._submitter, self._watcher, viewer, converting = self._parts
        if settings.is_shared:
            connector, viewer, converting = connector.for_owner(settings), viewer.for_one(), converting.for_one()
        self._connector = connector
        self._of_owners: dict[str, tuple[_MadeFor, Studio]] = {}
        self._key_of: KeyOf | None = None
        self._waiter = Waiter(poller, settings.query_timeout + LEDGER_WITHIN)
        self._outputs = Outputs(
            settings, ledger, connector=connector, poller=poller, waiter=self._waiter, viewer=viewer
        )
        self._creator = Creator(
            settings,
            ledger,
            connector=connector,
            poller=poller,
            outputs=self._outputs,
            submitter=self._submitter,
            converting=converting,
            submitted=self._watcher.wake,
        )
        self._lists = Lists(ledger, connector, poller)
        self._settler = Settler(ledger, connector, poller, is_shared=settings.is_shared)
        self._describer = Describer(settings, ledger, connector, poller)

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings, *, watch: bool = False, key_of: KeyOf | None = None) -> AsyncIterator[Self]:
        """A studio; on leaving, POSTs under way are awaited (bounded by their time-out) and recorded.

        With `watch` it follows everything that is under way in the background, for as long as it is open. With `key_of`
        several people share it: each works in the studio that `for_owner` gives, and nobody in this one.
        """
        ledger = open_ledger(settings.ledger, url=settings.ledger_url, folder=settings.shared_folder)
        studio: Self | None = None
        try:
            async with anyio.create_task_group() as background:
                studio = cls(settings, ledger, background)
                studio._key_of = key_of
                watching = anyio.CancelScope()
                if watch:
                    background.start_soon(studio._watch, watching)
                try:
                    yield studio
                finally:
                    watching.cancel()
                    studio._submitter.left.set()
        finally:
            if studio is not None:
                with anyio.CancelScope(shield=True):
                    await studio._connector.aclose()
            ledger.close()

    def for_owner(self, owner: str, cap: Cost | None = None) -> Studio:
        """The studio of one of those who share this one, who sees their own videos and nobody else's.

        `cap`: the most that 24 hours may cost them, None for what holds for everybody. Raises FileProblem where it is
        not known whether they have a key of their own.
        """
        key = self._key_of(owner, self._base_url) if self._key_of else None
        made_for, studio = self._of_owners.get(owner, (None, None))
        if studio is None or made_for != (cap, key):
            from sora_mcp.config.sharing import settings_for_owner  # noqa: PLC0415 - most servers have one person

            settings = settings_for_owner(self.settings, owner, cap=cap, api_key=key)
            studio = Studio(settings, self._ledger, self._background, parts=self._parts)
            self._of_owners[owner] = ((cap, key), studio)
            while len(self._of_owners) > MOST_OWNERS:
                del self._of_owners[next(iter(self._of_owners))]
        return studio

    @cached_property
    def _base_url(self) -> str:
        """The gateway's address, empty where none is configured."""
        from sora_mcp.config.sharing import endpoint_without_key  # noqa: PLC0415 - likewise

        try:
            return endpoint_without_key(self.settings).base_url
        except SoraError:
            return ""

    async def _watch(self, scope: anyio.CancelScope) -> None:
        save = self._save if self.settings.save_finished else None
        with scope:
            await self._watcher.run(self._followed, save)

    async def _followed(self) -> Followed:
        """Whose videos are followed: the account's; where people share this, everybody's at this gateway."""
        if self._key_of is None:
            return Followed.of_one(await self._connector.connect())
        from sora_mcp.config.sharing import endpoint_without_key  # noqa: PLC0415 - likewise

        return Followed.of_team(endpoint_without_key(self.settings), self._upstream_of)

    async def _upstream_of(self, owner: str) -> Upstream:
        return await self._whose(owner)._connector.connect()  # noqa: SLF001 - another of these

    def _whose(self, owner: str) -> Studio:
        """The studio in which the videos of an owner are followed: this one for those that were made without one."""
        if self._key_of is None or not owner:
            return self
        return self.for_owner(owner, self._of_owners[owner][0][0] if owner in self._of_owners else None)

    async def _save(self, entry: Entry) -> None:
        await self._whose(entry.account.owner)._outputs.save_all(entry)  # noqa: SLF001 - likewise

    async def submit(
        self,
        draft: VideoRequest,
        *,
        dry_run: bool = False,
        allow_duplicate: bool = False,
        confirm: Confirm | None = None,
        answers: bool = False,
        board: PictureFormat | None = None,
        line: BatchLine | None = None,
    ) -> Submission:
        """Submit the request once and return its task id; with `dry_run` send nothing and return the body, and of a
        storyboard a picture where `board` says how it is to be written.

        The same request within the duplicate window is not sent again (its first task is returned), unless
        `allow_duplicate`. In `draft` a source may be a `task_…` id and an image a local path. What costs more than
        SORA_ASK_ABOVE_COST is asked about first (`confirm`). A call that `answers` a question is for what was asked
        about and nothing else: without a yes to it nothing is sent, and duplicates count. A `line` of a batch file is
        sent once, see `Ledger.begin`.

        Nothing was submitted where it raises InvalidInput, NotConfigured, NotFound, NotReady, OverCap, Declined or
        FileProblem. Raises Unreachable, Refused or OutcomeUnknown, too.
        """
        return await self._creator.submit(
            draft,
            dry_run=dry_run,
            allow_duplicate=allow_duplicate,
            confirm=confirm,
            answers=answers,
            board=board,
            line=line,
        )

    def _sums(self) -> Sums:
        from sora_mcp.studio.sums import Sums  # noqa: PLC0415 - for the shell only

        return Sums(self.settings, self._ledger, self._connector)

    async def lines(self, keys: Sequence[str]) -> dict[str, KnownLine]:
        """What became of lines of batch files, by their keys. Raises NotConfigured, FileProblem."""
        return await self._sums().lines(keys)

    async def check_sum(self, costs: Sequence[Cost | None]) -> bool:
        """Whether the user is to be asked before videos of these costs are paid together. Raises OverCap where they
        may not be paid within this day."""
        return await self._sums().check(costs)

    async def usage(self, days: int) -> UsageReport:
        """What was spent in the last `days` days, today among them, by the owner that is set, or else by everybody.
        Raises FileProblem."""
        return await self._sums().usage(days)

    async def get(self, video_id: str, *, wait_seconds: float = 0, on_progress: WaitProgress | None = None) -> Video:
        """The video as it is now, or as it is when it has finished or `wait_seconds` (0..50) are over.

        `video_id` is a `task_…` or our `req_…` id; a task made elsewhere with the same key is adopted. While there is
        time, trouble that may pass is waited out; what the ledger knows is then told with the last of it.
        Raises NotFound, Refused, BadReply, Unreachable, NotConfigured.
        """
        video = await self._waiter.wait(await self._connector.connect(), video_id, wait_seconds, on_progress)
        return await self._settler.with_candidates(video)

    async def list_videos(
        self,
        *,
        query: str | None = None,
        states: tuple[State, ...] = (),
        limit: int = 20,
        cursor: str | None = None,
        wait_seconds: float = 0,
        on_progress: ListProgress | None = None,
    ) -> VideoList:
        """The caller's videos at this gateway, newest first, after the newest unfinished ones were asked about.

        `query`: only those whose prompt or beats hold this text. With `wait_seconds` (0..50) it waits until all that
        are under way, in whichever of `states`, have finished, or these are over.
        """
        filters = Filters(query=query, states=states)
        return await self._lists.page(
            filters, limit=limit, cursor=cursor, wait_seconds=wait_seconds, on_progress=on_progress
        )

    async def view(
        self,
        video_id: str,
        view: View | None = None,
        *,
        variant: int = 1,
        all_variants: bool = False,
        beside: str | None = None,
        picture_format: PictureFormat = "jpeg",
    ) -> Stills:
        """Stills in one picture: of one variant (`task_…#2` names one, too), of all, or with the video `beside` it.

        Raises InvalidInput, NotReady, FileProblem, NotConfigured and what `get` raises.
        """
        return await self._outputs.view(
            video_id,
            view or View(),
            variant=variant,
            all_variants=all_variants,
            beside=beside,
            picture_format=picture_format,
        )

    def close_viewer(self) -> None:
        """End every `view` that is under way: the server is to end."""
        self._outputs.close()

    async def download(
        self,
        video_id: str,
        *,
        variant: int = 1,
        on_bytes: Callable[[int, int | None], Awaitable[None]] | None = None,
        save_as: Path | None = None,
    ) -> Download:
        """Save one variant in the output folder, once, or as the new file `save_as`.

        Nothing is overwritten. Raises NotReady, FileProblem and what `get` raises.
        """
        return await self._outputs.download(video_id, variant=variant, on_bytes=on_bytes, save_as=save_as)

    async def read(self, video_id: str, *, variant: int = 1, max_bytes: int) -> bytes:
        """One variant as it is, saved or not. Raises FileProblem where it is larger, NotReady and what `get` raises."""
        return await self._outputs.read(video_id, variant=variant, max_bytes=max_bytes)

    async def saved_file(self, owner: str, video_id: str, variant: int) -> Path | None:
        """Where an owner's variant is saved; None where it is not, or they have no such video. Nobody is asked. Raises
        NotConfigured or FileProblem."""
        _, studio = self._of_owners.get(owner) or (None, self.for_owner(owner))
        return await studio._outputs.saved_file(video_id, variant)  # noqa: SLF001 - of this class

    async def recent(self, *, limit: int, states: tuple[State, ...] = ()) -> VideoList:
        """The newest videos as the ledger has them: the gateway is not asked, and where none is set there are none."""
        return await self._lists.recent(limit=limit, states=states)

    def on_change(self, tell: Told, wanted: Wanted) -> Callable[[], None]:
        """Have every row of the caller's told that changes while this studio watches; the result ends that.

        Somebody waits for the videos whose ids are `wanted`: `wake` is called when there are more.
        """
        return self._watcher.listen(self.settings.owner or "", tell, wanted)

    def wake(self) -> None:
        """Look at once for what somebody waits for now."""
        self._watcher.wake()

    async def full_id(self, text: str, field: str) -> str:
        """The whole id that `last` (the newest video) or the unique beginning of one stands for; else what it is.

        `field` is the argument that it is given for. Raises InvalidInput where several ids begin so, NotFound where
        there is no video yet, and what connecting raises.
        """
        from sora_mcp.studio.short_ids import ShortIds  # noqa: PLC0415 - only a person shortens ids

        return await ShortIds(self._ledger, self._connector).full(text, field)

    async def settle(self, request_id: str, task_id: str | None) -> Video:
        """A person looked at the gateway's own log: an *unknown* request became `task_id`, or (None) nothing.

        The gateway is asked first: it has to know `task_id`. A request that has a task is given up by None where the
        gateway knows nothing of it any more, or a day after it was made. Raises NotFound where there is no such
        request, or no such task.
        """
        return await self._settler.settle(request_id, task_id)

    async def describe(self, model: str | None = None) -> Description:
        """What the gateway is, what can be asked for there, the caps, and what was spent; it is asked for its models.

        `model`: what this one takes is told in full; raises InvalidInput where the gateway doesn't list that or not
        this one. Raises nothing where it is down, refuses the key or is not configured: what is known is told.
        """
        return await self._describer.describe(model)

    @property
    def servers(self) -> Servers:
        """What the servers have in common that share the ledger."""
        return self._ledger

    async def readiness(self) -> Readiness:
        """Whether paid calls could be made now; asked again after a few seconds at the earliest. Raises nothing."""
        return await self._readiness.look()

    @cached_property
    def _readiness(self) -> ReadinessCheck:
        from sora_mcp.studio.readiness import ReadinessCheck  # noqa: PLC0415 - only over HTTP somebody asks

        return ReadinessCheck(self.settings, self._ledger, self._connector)

    async def states(self) -> dict[State, int]:
        """How many videos of the ledger stand in each state, of all owners. Raises FileProblem."""
        return await self._ledger.states() if self._ledger.exists() else {}

    async def candidates(self, request_id: str) -> list[ListedTask]:
        """The tasks that may have come of an unknown request, as far as the upstream lists any: likeliest first."""
        return await self._settler.candidates(request_id)

    @property
    def sent(self) -> Entry | None:
        """The row of what was last sent to the gateway from here, and paid for perhaps."""
        return self._submitter.sent

    @property
    def capabilities(self) -> Capabilities:
        """What can be asked for, and what it costs."""
        return self._connector.dialect.capabilities

    @property
    def label(self) -> str:
        """The gateway's name for people: its host, `sandbox`, or that none is configured."""
        return self._connector.label

    @property
    def notice(self) -> str | None:
        """What is to be known of everything that the gateway makes, in a few words; None where there is nothing."""
        return self._connector.notice
