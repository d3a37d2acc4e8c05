"""What can be done with videos: each method is one call to the module that does it. All wiring is here."""

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
from sora_mcp.core.records import RecordedLine
from sora_mcp.core.results import Download, Filters, Stills, Submission, UsageReport, Video, VideoList
from sora_mcp.core.tasks import State
from sora_mcp.dialects.protocol import ListedTask
from sora_mcp.ledger import Entry, Ledger, Servers, open_ledger
from sora_mcp.media.child import Slots
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
from sora_mcp.studio.waiter import LEDGER_TIMEOUT_S, Waiter, WaitProgress
from sora_mcp.studio.watcher import Followed, Notify, WantedIds, Watcher

if TYPE_CHECKING:
    from sora_mcp.core.batches import BatchLine
    from sora_mcp.studio.readiness import Readiness, ReadinessCheck
    from sora_mcp.studio.sums import Sums

KeyLookup = Callable[[str, str], Secret | None]
"""Return an owner's own upstream key (owner, base address), or None. Raises FileProblem."""

_CapAndKey = tuple[Cost | None, Secret | None]  # the cap and the key of an owner with which their studio was created

MAX_CACHED_STUDIOS = 1000
"""Owners whose studios are cached; beyond that the oldest is dropped, and created again when needed."""


class _Parts(NamedTuple):
    """What all studios of a shared server have in common."""

    connector: Connector
    submitter: Submitter
    watcher: Watcher
    viewer: Viewer
    slots: Slots


class Studio:
    """Everything that can be done; created by `Studio.open`. All methods raise SoraError and nothing else."""

    def __init__(
        self, settings: Settings, ledger: Ledger, background: TaskGroup, *, parts: _Parts | None = None
    ) -> None:
        self.settings = settings
        self._ledger = ledger
        self._background = background
        poller = Poller(ledger, adopts=not settings.is_shared)
        self._parts = parts or _Parts(
            Connector(settings, ledger), Submitter(ledger, background), Watcher(ledger, poller), Viewer(), Slots()
        )
        connector, self._submitter, self._watcher, viewer, slots = self._parts
        if settings.is_shared:
            connector, viewer, slots = connector.for_owner(settings), viewer.for_owner(), slots.for_owner()
        self._connector = connector
        self._owner_studios: dict[str, tuple[_CapAndKey, Studio]] = {}
        self._find_key: KeyLookup | None = None
        self._waiter = Waiter(poller, settings.query_timeout + LEDGER_TIMEOUT_S)
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
            slots=slots,
            on_submitted=self._watcher.wake,
        )
        self._lists = Lists(ledger, connector, poller)
        self._settler = Settler(ledger, connector, poller, is_shared=settings.is_shared)
        self._describer = Describer(settings, ledger, connector, poller)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, settings: Settings, *, watch: bool = False, find_key: KeyLookup | None = None
    ) -> AsyncIterator[Self]:
        """Open a studio; on exit, POSTs under way are awaited (bounded by their time-out) and recorded.

        With `watch` it follows everything under way in the background while it is open. With `find_key` several people
        share it: each works in the studio from `for_owner`, and none in this one.
        """
        ledger = open_ledger(settings.ledger, url=settings.ledger_url, folder=settings.shared_folder)
        studio: Self | None = None
        try:
            async with anyio.create_task_group() as background:
                studio = cls(settings, ledger, background)
                studio._find_key = find_key
                watching = anyio.CancelScope()
                if watch:
                    background.start_soon(studio._watch, watching)
                try:
                    yield studio
                finally:
                    watching.cancel()
                    studio._submitter.closing.set()
        finally:
            if studio is not None:
                with anyio.CancelScope(shield=True):
                    await studio._connector.aclose()
            ledger.close()

    def for_owner(self, owner: str, cap: Cost | None = None) -> Studio:
        """Return the studio of one owner who shares this one; it shows their own videos only.

        `cap`: the owner's maximum cost in 24 hours, None for the common one. Raises FileProblem if the owner's key
        cannot be looked up.
        """
        key = self._find_key(owner, self._base_url) if self._find_key else None
        cached_for, studio = self._owner_studios.get(owner, (None, None))
        if studio is None or cached_for != (cap, key):
            from sora_mcp.config.sharing import settings_for_owner  # noqa: PLC0415 - most servers have one person

            settings = settings_for_owner(self.settings, owner, cap=cap, api_key=key)
            studio = Studio(settings, self._ledger, self._background, parts=self._parts)
            self._owner_studios[owner] = ((cap, key), studio)
            while len(self._owner_studios) > MAX_CACHED_STUDIOS:
                del self._owner_studios[next(iter(self._owner_studios))]
        return studio

    @cached_property
    def _base_url(self) -> str:
        """The gateway's address, empty if none is configured."""
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
        """Return whose videos are followed: the account's, or in a shared studio every owner's at this gateway."""
        if self._find_key is None:
            return Followed.for_account(await self._connector.connect())
        from sora_mcp.config.sharing import endpoint_without_key  # noqa: PLC0415 - likewise

        return Followed.for_team(endpoint_without_key(self.settings), self._upstream_for)

    async def _upstream_for(self, owner: str) -> Upstream:
        return await self._studio_for(owner)._connector.connect()  # noqa: SLF001 - of this class

    def _studio_for(self, owner: str) -> Studio:
        """Return the studio that follows an owner's videos: this one for videos without an owner."""
        if self._find_key is None or not owner:
            return self
        return self.for_owner(owner, self._owner_studios[owner][0][0] if owner in self._owner_studios else None)

    async def _save(self, entry: Entry) -> None:
        await self._studio_for(entry.account.owner)._outputs.save_all(entry)  # noqa: SLF001 - likewise

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
        """Submit the request once and return its task id; with `dry_run` send nothing and return the body, and for a
        storyboard a picture of its plan in the format `board`, if given.

        The same request within the duplicate window is not sent again (its first task is returned), unless
        `allow_duplicate`. In `draft` a source may be a `task_…` id and an image a local path. The user is asked first
        (`confirm`) about what costs more than SORA_ASK_ABOVE_COST. A call that `answers` a question sends only what
        that question was about: without a yes to it nothing is sent, and duplicates count. A `line` of a batch file is
        sent once, see `Ledger.begin`.

        Nothing was submitted if it raises InvalidInput, NotConfigured, NotFound, NotReady, OverCap, Declined or
        FileProblem. Also raises Unreachable, Refused or OutcomeUnknown.
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

    async def lines(self, keys: Sequence[str]) -> dict[str, RecordedLine]:
        """Return the outcomes of lines of batch files, by their keys. Raises NotConfigured or FileProblem."""
        return await self._sums().lines(keys)

    async def check_sum(self, costs: Sequence[Cost | None]) -> bool:
        """Return whether to ask the user before paying these together. Raises OverCap if today's cap forbids that."""
        return await self._sums().check(costs)

    async def usage(self, days: int) -> UsageReport:
        """Return what was spent in the last `days` days, including today, by the configured owner, or else by all
        owners. Raises FileProblem."""
        return await self._sums().usage(days)

    async def get(self, video_id: str, *, wait_seconds: float = 0, on_progress: WaitProgress | None = None) -> Video:
        """Return the video as it is now, or when it has finished or `wait_seconds` (0..50) are over.

        `video_id` is a `task_…` or our `req_…` id; a task made elsewhere with the same key is adopted. Temporary errors
        are retried while there is time; after that, the ledger's row is returned with the last of them.
        Raises NotFound, Refused, BadReply, Unreachable or NotConfigured.
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
        """Return the caller's videos at this gateway, newest first, after querying the newest unfinished ones.

        `query`: only videos whose prompt or beats contain this text. With `wait_seconds` (0..50) it waits until all
        videos under way have finished, whatever `states` are listed, or these seconds are over.
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
        """Return stills in one picture: of one variant (also `task_…#2`), of all, or with the video `beside` it.

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
        """End every `view` under way: the server is shutting down."""
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
        """Return one variant's bytes, saved or not. Raises FileProblem if larger, NotReady and what `get` raises."""
        return await self._outputs.read(video_id, variant=variant, max_bytes=max_bytes)

    async def saved_file(self, owner: str, video_id: str, variant: int) -> Path | None:
        """Return where an owner's variant is saved; None if it is not, or there is no such video. The gateway is not
        queried. Raises NotConfigured or FileProblem."""
        _, studio = self._owner_studios.get(owner) or (None, self.for_owner(owner))
        return await studio._outputs.saved_file(video_id, variant)  # noqa: SLF001 - of this class

    async def recent(self, *, limit: int, states: tuple[State, ...] = ()) -> VideoList:
        """Return the newest videos as the ledger has them, without a query; empty if no gateway is configured."""
        return await self._lists.recent(limit=limit, states=states)

    def on_change(self, notify: Notify, wanted_ids: WantedIds) -> Callable[[], None]:
        """Call `notify` with every row of the caller's that changes while this studio watches; the result unsubscribes.

        `wanted_ids` returns the ids of videos that clients wait for; call `wake` when there are more.
        """
        return self._watcher.listen(self.settings.owner or "", notify, wanted_ids)

    def wake(self) -> None:
        """Check now for what clients wait for."""
        self._watcher.wake()

    async def full_id(self, text: str, argument: str) -> str:
        """Return the full id for `last` (the newest video) or a unique prefix; any other text as it is.

        `argument` is named in errors. Raises InvalidInput if several ids have the prefix, NotFound if there
        is no video yet, and what connecting raises.
        """
        from sora_mcp.studio.short_ids import ShortIds  # noqa: PLC0415 - only a person shortens ids

        return await ShortIds(self._ledger, self._connector).expand(text, argument)

    async def settle(self, request_id: str, task_id: str | None) -> Video:
        """Record what a person found in the gateway's own log: an *unknown* request became `task_id`, or (None)
        nothing.

        The gateway is queried first and has to know `task_id`. None gives up a request that has a task if the gateway
        has forgotten it, or a day after it was made. Raises NotFound if there is no such request or task.
        """
        return await self._settler.settle(request_id, task_id)

    async def describe(self, model: str | None = None) -> Description:
        """Describe the gateway, what can be requested there, the caps, and what was spent; fetches its models.

        `model`: tell in full what this one takes; raises InvalidInput if the gateway lists no such model. If the
        gateway is down, refuses the key or is not configured, returns what is known and raises nothing.
        """
        return await self._describer.describe(model)

    @property
    def servers(self) -> Servers:
        """What the servers that share the ledger have in common."""
        return self._ledger

    async def readiness(self) -> Readiness:
        """Return whether paid calls could be made now; cached for a few seconds. Raises nothing."""
        return await self._readiness.check()

    @cached_property
    def _readiness(self) -> ReadinessCheck:
        from sora_mcp.studio.readiness import ReadinessCheck  # noqa: PLC0415 - used over HTTP only

        return ReadinessCheck(self.settings, self._ledger, self._connector)

    async def states(self) -> dict[State, int]:
        """Return the number of videos in each state, of all owners. Raises FileProblem."""
        return await self._ledger.states() if self._ledger.exists() else {}

    async def candidates(self, request_id: str) -> list[ListedTask]:
        """Return the listed tasks that may be the result of an unknown request, likeliest first."""
        return await self._settler.candidates(request_id)

    @property
    def last_sent(self) -> Entry | None:
        """The row of the last create that was sent from here, and may have been paid for."""
        return self._submitter.last_sent

    @property
    def capabilities(self) -> Capabilities:
        """What can be requested, and what it costs."""
        return self._connector.dialect.capabilities

    @property
    def label(self) -> str:
        """The gateway's name for people: its host, `sandbox`, or that none is configured."""
        return self._connector.label

    @property
    def notice(self) -> str | None:
        """A short notice about everything that the gateway makes, or None."""
        return self._connector.notice
