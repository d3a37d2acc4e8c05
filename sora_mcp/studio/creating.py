"""The paid path up to the POST: a draft is resolved, checked, previewed, confirmed and passed to the submitter."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from sora_mcp import media
from sora_mcp.config.endpoint import SORA
from sora_mcp.config.settings import Settings
from sora_mcp.core.advice import Note, TryAgain, WouldBeRefused
from sora_mcp.core.caps import CostsNotKnown, OverCap, OverTeamCap, TooManyRunning
from sora_mcp.core.errors import (
    BadReply,
    Declined,
    InvalidInput,
    Problem,
    Refused,
    SoraError,
    unexpected,
)
from sora_mcp.core.models import VideoRequest
from sora_mcp.core.pictures import PictureFormat
from sora_mcp.core.records import EarlierMatches
from sora_mcp.core.results import Submission
from sora_mcp.core.tasks import UNDER_WAY, quoted
from sora_mcp.dialects.protocol import Call, Picture, create_call, estimate_of, plan_of
from sora_mcp.ledger import Entry, Intent, Ledger, SpendingPolicy
from sora_mcp.studio import preview, report
from sora_mcp.studio.connector import NOT_CONFIGURED, Connector
from sora_mcp.studio.costs import spending_policy
from sora_mcp.studio.lookup import Lookup
from sora_mcp.studio.outputs import Outputs
from sora_mcp.studio.poller import MAX_REFRESHED, Poller
from sora_mcp.studio.sources import Resolved, load_local_images, resolve
from sora_mcp.studio.submitter import Submitter, still_unknown_error
from sora_mcp.studio.upstream import Upstream

if TYPE_CHECKING:
    from sora_mcp.core.batches import BatchLine
    from sora_mcp.gateway import Gateway
    from sora_mcp.media.child import Slots
    from sora_mcp.media.converting import Converter

logger = logging.getLogger(__name__)

ANSWER_TIMEOUT_S = 50.0
"""Seconds after which a paid call answers that it is still sending (hosts time out after 60); the POST goes on."""
PREPARE_TIMEOUT_S = 15.0
"""Seconds for each step before the POST."""
Confirm = Callable[[str, str], Awaitable[None]]
"""Ask the user a question about the request with this fingerprint. Raises Declined unless they agree."""


class Creator:
    """Submits drafts. Calls `on_submitted` once something may be under way. Raises SoraError and nothing else."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        *,
        connector: Connector,
        poller: Poller,
        outputs: Outputs,
        submitter: Submitter,
        slots: Slots,
        on_submitted: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._ledger = ledger
        self._connector = connector
        self._poller = poller
        self._outputs = outputs
        self._submitter = submitter
        self._on_submitted = on_submitted
        self._slots = slots
        self._lookup = Lookup(connector, poller, is_owned=bool(settings.owner))

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
        """Submit the request once, or show what that would do; see `Studio.submit`."""
        deadline = anyio.current_time() + ANSWER_TIMEOUT_S
        policy = self._policy(allow_duplicate=allow_duplicate)
        declined: Declined | None = None
        with _mark_not_submitted():
            ready = replace(await self._resolve(draft), line=line)
            if dry_run:
                return await self._with_board(await self._dry_run(ready, policy, confirm), ready, board)
            self._check_call(ready, policy)
            if answers and not policy.asks_about(ready.cost):
                policy = self._policy()  # the question no longer applies, or its yes was used already
            connection = await self._connector.connect()
            await self._check_model(connection, ready.plan.model)
            intent = self._intent(connection, ready)
            (same, refused), intent = await self._find_same(connection, intent, policy, confirm)
            notes = [*self._request_notes(ready), *self._refusal_notes(refused)]
            if same is None or intent.settles or line:  # a duplicate costs nothing; for a line the ledger decides
                policy = self._policy() if intent.settles else policy
                connection.gateway.prepare()
                is_asked = answers or intent.settles or policy.asks_about(ready.cost)
                try:
                    deadline += await self._ask_user(ready, confirm if is_asked else None, intent.settles)
                except Declined as error:
                    if not intent.settles:
                        raise
                    declined = error
                else:
                    ready, call, body = await self._prepare_call(connection, ready)
                    intent = replace(intent, body=body, adjusted=ready.plan.adjusted)
                    await anyio.lowlevel.checkpoint_if_cancelled()  # waiting for the ledger cannot be cancelled
        if same is not None and declined is not None:
            raise still_unknown_error(same, declined)
        if same is not None and not (intent.settles or line):
            entry, is_new = await self._submitter.join(same, deadline=deadline), False
        else:
            entry, is_new = await self._send(connection, call, intent, ready, policy=policy, deadline=deadline)
        self._on_submitted()
        submission = report.submission(
            ready.request,
            connection.label,
            "accepted",
            entry,
            estimate=ready.estimate,
            sources=ready.sources,
            plan=ready.plan,
            dialect=connection.dialect,
            is_new=is_new,
        )
        return submission.model_copy(update={"notes": tuple(notes) if is_new else ()})

    async def _send(
        self,
        connection: Upstream,
        call: Call,
        intent: Intent,
        ready: Resolved,
        *,
        policy: SpendingPolicy,
        deadline: float,
    ) -> tuple[Entry, bool]:
        """Call `Submitter.submit`. A refusal gets advice: what kind of server it is if it lacks the path, and what its
        models take now if it refuses a value."""
        try:
            return await self._submitter.submit(connection.gateway, call, intent, policy, deadline=deadline)
        except Refused as error:
            if self._settings.dialect == SORA and error.http_status in {404, 405}:
                error.advice = (*await connection.identify_server(), *error.advice)
            if connection.catalogue is not None and error.http_status in {400, 404}:
                error.advice = (*await connection.catalogue.explain_refusal(ready.request), *error.advice)
            raise

    async def _resolve(self, draft: VideoRequest) -> Resolved:
        """Return the request with its sources resolved, checked against the tables."""
        await self._connector.load_models(PREPARE_TIMEOUT_S)
        dialect, limits = self._connector.dialect, self._connector.dialect.capabilities
        with_images = await load_local_images(draft, self._settings, self._ledger.owns, PREPARE_TIMEOUT_S)
        dialect.check(with_images.request)
        if with_images.images:
            from sora_mcp.studio import pictures  # noqa: PLC0415 - most requests have none

            with_images = await pictures.convert_images(with_images, self._converter, limits.image_bytes)
        ready = await resolve(with_images, self._lookup, opaque_ids=limits.opaque_ids, timeout_s=PREPARE_TIMEOUT_S)
        if ready is not with_images:
            dialect.check(ready.request)
        plan = plan_of(dialect, ready.request, ready.source)
        if any(need.kind != "address" for need in plan.needs):
            media.require_installed()
        return replace(ready, plan=plan, estimate=estimate_of(dialect, ready.request))

    @cached_property
    def _converter(self) -> Converter:
        from sora_mcp.media.converting import Converter  # noqa: PLC0415 - most requests have no images

        return Converter(self._slots)

    async def _prepare_call(self, connection: Upstream, ready: Resolved) -> tuple[Resolved, Call, dict[str, Any]]:
        """Upload and fetch what is sent with the request; return it, the paid call and the body that the ledger
        records.

        Raises TimeoutError and what an upload or a fetch raises.
        """
        dialect, pictures, source, checked = self._connector.dialect, dict[int, Picture](), ready.source, ready
        max_bytes = dialect.capabilities.image_bytes
        if max_bytes is None:
            request = await _with_uploads(connection.gateway, ready)
        else:
            from sora_mcp.studio.pictures import load_pictures  # noqa: PLC0415 - as above

            request, links = ready.with_addresses(ready.paths), dialect.capabilities.image_links
            with anyio.fail_after(PREPARE_TIMEOUT_S):
                pictures = await load_pictures(
                    connection.gateway,
                    ready,
                    self._converter,
                    max_bytes=max_bytes,
                    timeout_s=PREPARE_TIMEOUT_S - 1,
                    links=links,
                )
        if ready.plan.needs:
            material = await self._outputs.material(connection, ready)
            pictures, source = pictures | material.images, material.source
            ready = replace(ready, plan=plan_of(dialect, request, source))
        body = {name: value for name, value in request.body().items() if name not in ready.plan.left_open}
        call = create_call(dialect, request, pictures, source)
        if connection.catalogue is not None:
            checked.check_unchanged(dialect)
        return ready, call, body

    async def _find_same(
        self, connection: Upstream, intent: Intent, policy: SpendingPolicy, confirm: Confirm | None
    ) -> tuple[EarlierMatches, Intent]:
        """Return earlier requests for the same; and the intent, which settles those with an unknown outcome first if
        nothing else blocks it, and the user can be asked about them."""
        unknown: list[Entry] = []
        settling = intent
        with suppress(OverCap):
            while confirm is not None:
                before = await self._query_same(connection, settling, self._policy())
                if before.duplicate is None and unknown:
                    return before._replace(duplicate=unknown[0]), settling
                if before.duplicate is None or before.duplicate.state != "unknown":
                    break
                unknown.append(before.duplicate)
                settling = replace(intent, settles=tuple(entry.request_id for entry in unknown))
        return await self._query_same(connection, intent, policy), intent

    async def _query_same(self, connection: Upstream, intent: Intent, policy: SpendingPolicy) -> EarlierMatches:
        """Return earlier requests for the same, after querying the gateway about those that block this one."""
        try:
            before = await self._ledger.find_earlier(intent, policy)
            if before.duplicate is None or before.duplicate.state not in UNDER_WAY:
                return before
            await self._poller.refresh(connection, [before.duplicate])
        except (TooManyRunning, CostsNotKnown, OverTeamCap):
            unfinished = await self._ledger.page(connection.account, limit=MAX_REFRESHED, states=UNDER_WAY)
            await self._poller.refresh(connection, unfinished)
        return await self._ledger.find_earlier(intent, policy)

    def _intent(self, connection: Upstream, ready: Resolved) -> Intent:
        """Return what will be sent, except its images, which are not uploaded yet."""
        return Intent(
            connection.account,
            ready.request.operation,
            {},
            ready.fingerprint,
            ready.sources,
            ready.cost,
            other_fingerprint=ready.legacy_fingerprint,
            sent_fingerprint=ready.sent_fingerprint,
            dialect=self._settings.dialect,
            adjusted=ready.plan.adjusted,
            line=ready.line,
        )

    def _question(self, ready: Resolved, settles: Sequence[str]) -> str:
        return report.question(ready.request, self._connector.label, ready.cost, settles, plan=ready.plan)

    def _policy(self, *, allow_duplicate: bool = False) -> SpendingPolicy:
        return spending_policy(self._settings, self._connector.dialect.capabilities, allow_duplicate=allow_duplicate)

    def _check_call(self, ready: Resolved, policy: SpendingPolicy) -> None:
        self._settings.check_guards_spelling()
        policy.check_call(ready.cost)

    async def _check_model(self, connection: Upstream, model: str | None) -> None:
        """Raise InvalidInput for a model that the upstream does not list; without a list, or if it is empty, nothing is
        checked."""
        if model is not None and model not in (known := await connection.models()) and known:
            name = quoted(model, 60)
            raise InvalidInput([Problem("model", f"the server has no {name}", preview.format_models(model, known))])

    async def _ask_user(self, ready: Resolved, confirm: Confirm | None, settles: Sequence[str]) -> float:
        """Ask the user about a request, which may settle earlier ones; return the seconds that took. Raises
        Declined."""
        if confirm is None:
            return 0
        started_at = anyio.current_time()
        await confirm(self._question(ready, settles), ready.sent_fingerprint or ready.fingerprint)
        return anyio.current_time() - started_at

    async def _with_board(
        self, submission: Submission, ready: Resolved, picture_format: PictureFormat | None
    ) -> Submission:
        """Return the dry run of a storyboard with a picture of its plan, or with a note why there is none."""
        if ready.request.operation != "storyboard" or picture_format is None:
            return submission
        try:
            return submission.model_copy(update={"board": await self._outputs.board(ready, picture_format)})
        except SoraError as error:
            return submission.model_copy(update={"notes": (*submission.notes, preview.no_board(error))})

    async def _dry_run(self, ready: Resolved, policy: SpendingPolicy, confirm: Confirm | None) -> Submission:
        submission = report.submission(
            ready.request,
            self._connector.label,
            "not_submitted",
            estimate=ready.estimate,
            sources=ready.sources,
            plan=ready.plan,
            dialect=self._connector.dialect,
        )
        request = ready.with_addresses(ready.paths)
        pictures = preview.named_pictures(request) | preview.needed_pictures(ready)
        body = create_call(self._connector.dialect, request, pictures, ready.source).display_body
        same: Entry | None = None
        notes: list[Note] = [*self._request_notes(ready), *preview.need_notes(ready)]
        if self._connector.label != NOT_CONFIGURED:
            same, more_notes = await self._preview_call(ready, policy, confirm)
            notes += more_notes
        update: dict[str, object] = {"body": body, "notes": tuple(notes)}
        if same is not None:
            update |= {"duplicate_of": same.id, "advice": report.advice(same, self._connector.dialect)}
        elif any(isinstance(note, WouldBeRefused) for note in notes):
            update |= {"advice": ()}  # the note says what to do first
        return submission.model_copy(update=update)

    def _request_notes(self, ready: Resolved) -> list[Note]:
        """Return the notes about the request itself."""
        has_amount = self._connector.dialect.capabilities.amount
        return [
            *self._connector.notes,
            *(preview.amount_notes(ready.request) if has_amount else ()),
            *preview.source_notes(ready),
        ]

    async def _preview_call(
        self, ready: Resolved, policy: SpendingPolicy, confirm: Confirm | None
    ) -> tuple[Entry | None, list[Note]]:
        """Return the request that a real call would duplicate, and notes on everything else that it would meet."""
        notes: list[Note] = []
        same: Entry | None = None
        try:
            self._check_call(ready, policy)
            connection = await self._connector.connect()
            await self._check_model(connection, ready.plan.model)
            intent = self._intent(connection, ready)
            if self._ledger.exists():
                (same, refused), intent = await self._find_same(connection, intent, policy, confirm)
                notes += self._refusal_notes(refused)
        except SoraError as error:
            return None, [*notes, preview.refusal(error)]
        if same is not None and not intent.settles:
            return same, [preview.duplicate(same)]
        if confirm is not None and (intent.settles or policy.asks_about(ready.cost)):
            notes.append(preview.question(self._question(ready, intent.settles)))
        return same, notes

    def _refusal_notes(self, before: Entry | None) -> list[str]:
        """Return the note that the same request was rejected, failed or blocked before."""
        return [] if before is None else [preview.refused_before(before, self._ledger.now())]


@contextmanager
def _mark_not_submitted() -> Iterator[None]:
    """Turn every exception into a SoraError with the outcome *not_submitted*."""
    try:
        yield
    except TimeoutError:
        raise _not_submitted(BadReply("Getting the sources of the video took too long.", TryAgain())) from None
    except SoraError as error:
        raise _not_submitted(error) from None
    except Exception as error:
        logger.exception("a request failed before anything was sent")
        message = "Something failed unexpectedly before anything was sent."
        raise _not_submitted(unexpected(error, message)) from None


def _not_submitted(error: SoraError) -> SoraError:
    error.outcome = "not_submitted"
    return error


async def _with_uploads(gateway: Gateway, ready: Resolved) -> VideoRequest:
    """Upload the images and return the request with their addresses. Raises TimeoutError and what an upload raises."""
    if not ready.images:
        return ready.request
    with anyio.fail_after(PREPARE_TIMEOUT_S):
        addresses = {i: await gateway.upload(image.name, image.content) for i, image in ready.images.items()}
    return ready.with_addresses(addresses)
