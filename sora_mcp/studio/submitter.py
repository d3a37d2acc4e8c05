"""Paying: the intent is recorded, the POST is sent once, the outcome is recorded. The rules about money live here."""

from __future__ import annotations

import logging
from contextlib import suppress
from itertools import chain, repeat
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import anyio
from anyio.abc import TaskGroup
from msgspec import Struct, field

from sora_mcp.core.advice import AllowDuplicate, AskUser, Correct, Do, LookAgain, SeeLog, Settle, TryAgain, sentences
from sora_mcp.core.caps import OverCap
from sora_mcp.core.errors import (
    Declined,
    FileProblem,
    GatewayError,
    InternalError,
    OutcomeUnknown,
    Refused,
    SoraError,
    Unreachable,
)
from sora_mcp.core.tasks import State
from sora_mcp.dialects.protocol import Call, Created
from sora_mcp.ledger import Entry, Intent, Ledger, RowGone, SpendingPolicy

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway

logger = logging.getLogger(__name__)

RESEND_ATTEMPTS = 3
"""How often a create is tried in all, where the earlier ones provably created nothing."""
RESEND_WITHIN = 25.0
"""Seconds for all attempts together."""
RESEND_AFTER_MOST = 5.0
"""The longest Retry-After, in seconds, that is waited for; a longer one is told to the agent."""
RECORD_AGAIN_AFTER = (1, 2, 4, 8, 15, 30)
"""Seconds between attempts to record an outcome where the ledger cannot be written; the last one is repeated until
the studio is left."""
MOST_AT_ONCE = 50
"""Creates of one owner that are sent at once, half of the gateway's connections. More of theirs wait for their turn, so
that nobody else's calls wait for a connection behind all that one person sends."""
LOOK_EVERY = 0.2
"""Seconds between two looks at the ledger while a create is being sent, here or by another process."""


class _Late(FileProblem):
    """An intent was not recorded in time."""

    default_outcome = "not_submitted"
    retryable = True


class _Sending(Struct):
    """One POST under way, or done: `finished` is set when its outcome is recorded."""

    gateway: Gateway
    call: Call
    intent: Intent
    policy: SpendingPolicy
    finished: anyio.Event = field(default_factory=anyio.Event)
    entry: Entry | None = None
    is_new: bool = True
    is_waiting: bool = True
    """It has no turn yet."""
    is_given_up: bool = False
    """Nobody waits for it any more, and it was not recorded yet: it is not to be sent."""
    error: SoraError | None = None


class Submitter:
    """Sends intents in `background`, so that a call that is cancelled or slow never takes its POST with it. One that is
    cancelled before its intent is recorded is not sent."""

    def __init__(self, ledger: Ledger, background: TaskGroup) -> None:
        self._ledger = ledger
        self._background = background
        self._turns = WeakValueDictionary[str, anyio.Semaphore]()
        self.sent: Entry | None = None
        """The row of the last intent that was recorded as *sending* here, as it is now."""
        self.left = anyio.Event()
        """The studio is being left: nothing is tried for ever any more."""

    async def submit(
        self, gateway: Gateway, call: Call, intent: Intent, policy: SpendingPolicy, *, answer_by: float
    ) -> tuple[Entry, bool]:
        """Record `intent`, send its `call`, and return its row and True; for a duplicate the first one's row and False.

        Answers by `answer_by` (anyio's clock). Raises FileProblem, OverCap or Unreachable (nothing was submitted, nor
        will be), Refused, or OutcomeUnknown (also said of a POST that still goes on, and of a duplicate of an unknown
        one).
        """
        sending = _Sending(gateway, call, intent, policy)
        self._background.start_soon(self._pay, sending)
        try:
            with anyio.CancelScope(deadline=answer_by):
                await sending.finished.wait()
        finally:  # of a batch that is ended, a line that was begun is sent: run again, it goes on from there
            is_too_late = anyio.current_time() >= answer_by
            sending.is_given_up = sending.entry is None and (is_too_late or intent.line is None)
        if sending.entry is not None and not sending.is_new:
            return await self.join(sending.entry, answer_by=answer_by), False
        if sending.is_waiting:
            sending.error = Unreachable(_NO_TURN, TryAgain(30))
        return _told(sending.entry, sending.error), sending.is_new

    async def join(self, entry: Entry, *, answer_by: float) -> Entry:
        """The row of a request that was sent before, once its outcome is known. Raises as `submit` does."""
        with anyio.CancelScope(deadline=answer_by):
            entry = await self._wait_for(entry)
        return _told(entry, None, is_new=False)

    async def _wait_for(self, entry: Entry) -> Entry:
        with self._ledger.listen(entry.request_id) as listener:
            while entry.state == "sending":
                await listener.heard(LOOK_EVERY)  # that its sender is gone is told by nobody
                with suppress(FileProblem):  # it may have been paid for: keep looking until the deadline
                    entry = await self._ledger.find(entry.account, entry.request_id) or entry
        return entry

    async def _pay(self, sending: _Sending) -> None:
        """Record the intent, POST once, record the outcome. Nothing cancels it once it has begun."""
        turns = self._turns.setdefault(sending.intent.account.owner, anyio.Semaphore(MOST_AT_ONCE))
        with anyio.CancelScope(shield=True):
            try:
                async with turns:
                    sending.is_waiting = False
                    ended = None if sending.is_given_up else await self._begin_and_post(sending)
                if ended is not None and sending.entry is not None:
                    await self._keep(sending, sending.entry.request_id, *ended)
                    self.sent = sending.entry
            finally:
                sending.finished.set()

    async def _begin_and_post(self, sending: _Sending) -> tuple[Created, State] | None:
        """What a POST came to; None where none was sent that is to be recorded."""
        try:
            sending.entry, sending.is_new = await self._ledger.begin(sending.intent, sending.policy)
        except (FileProblem, OverCap) as error:
            error.outcome = "not_submitted"
            sending.error = error
        except Exception:
            logger.exception("an intent could not be recorded: something failed unexpectedly")
            sending.error = InternalError("It could not be recorded, so it was not sent.", SeeLog())
            sending.error.outcome = "not_submitted"
        else:
            if sending.is_new and sending.is_given_up:
                sending.error = Unreachable("It was not sent: the call was given up first.")
                return Created(""), "rejected"
            if sending.is_new:
                self.sent = sending.entry
                return await self._post(sending, sending.entry.request_id)
        return None

    async def _post(self, sending: _Sending, request_id: str) -> tuple[Created, State]:
        state: State = "rejected"
        created = Created("")
        began = anyio.current_time()
        try:
            created = await self._create(sending, request_id)
        except (Unreachable, Refused) as error:
            sending.error = error
        except GatewayError as error:
            sending.error, state = error, "unknown"
        except Exception:
            logger.exception("create %s failed unexpectedly", request_id)
            state = "unknown"
            sending.error = OutcomeUnknown("The create failed unexpectedly.", SeeLog())
        _log(sending, request_id, created.task_id, anyio.current_time() - began)
        return created, state

    async def _keep(self, sending: _Sending, request_id: str, created: Created, state: State) -> None:
        """Record the outcome, however often that has to be tried."""
        task_id = created.task_id
        for pause in chain(RECORD_AGAIN_AFTER, repeat(None)):
            try:
                await self._record(sending, request_id, created, state)
            except FileProblem as problem:
                logger.error("the outcome of %s could not be recorded: %s", request_id, problem.message)  # noqa: TRY400
                self._tell_of_unrecorded(sending, task_id)
            except Exception:
                logger.exception("the outcome of %s could not be recorded", request_id)
                self._tell_of_unrecorded(sending, task_id)
            else:
                return
            if pause is not None:
                await anyio.sleep(pause)
            elif self.left.is_set():
                return
            else:
                with anyio.move_on_after(RECORD_AGAIN_AFTER[-1]):
                    await self.left.wait()

    @staticmethod
    def _tell_of_unrecorded(sending: _Sending, task_id: str) -> None:
        """The agent need not wait for the ledger."""
        if task_id and sending.error is None:
            sending.error = OutcomeUnknown(
                f"The gateway accepted it as {task_id}, but the ledger cannot be written now.",
                AskUser(f"note {task_id} and to check that the ledger can be written"),
                Do("Do not submit it again."),
            )
        sending.finished.set()

    async def _record(self, sending: _Sending, request_id: str, created: Created, state: State) -> None:
        """Record the outcome: the task, or else `state` with what was said about it. Where the row is gone it is made
        again: the ledger was taken back to an earlier copy meanwhile."""
        try:
            await self._record_once(sending, request_id, created, state)
        except RowGone:
            if sending.entry is None:
                raise
            await self._ledger.restore(sending.entry)
            await self._record_once(sending, request_id, created, state)

    async def _record_once(self, sending: _Sending, request_id: str, created: Created, state: State) -> None:
        if not created.task_id:
            reason = sending.error.message if sending.error is not None else ""
            words = _gateways_words(sending.error)
            sending.entry = await self._ledger.not_accepted(request_id, state, reason, **words)
            return
        sending.entry = await self._ledger.accepted(request_id, created.task_id, created.other_ids)
        if sending.entry.state == "unknown":  # the task is another request's
            sending.error = OutcomeUnknown(_sentence(sending.entry.failure_reason), Settle())

    async def _create(self, sending: _Sending, request_id: str) -> Created:
        """One accepted POST at most: sent again only where it provably never arrived or was provably refused (429),
        and its row still stands as *sending* in the ledger that is in place."""
        import stamina  # noqa: PLC0415 - `Gateway.prepare` has loaded it

        gateway, call = sending.gateway, sending.call
        resend_until = anyio.current_time() + RESEND_WITHIN + RESEND_AFTER_MOST
        last: GatewayError | None = None
        attempts = stamina.retry_context(
            on=_wait_before_resend,
            attempts=RESEND_ATTEMPTS,
            timeout=RESEND_WITHIN,
            wait_initial=0.2,
            wait_max=2,
            wait_jitter=0.4,
        )
        async for attempt in attempts:
            if last is not None:
                in_time = anyio.current_time() <= resend_until  # a process may be stopped for long
                if not (in_time and await self._ledger.is_sending(request_id)):
                    raise last
            with attempt:
                try:
                    return await gateway.create(call)
                except (Unreachable, Refused) as error:
                    last = error
                    raise
        raise AssertionError("stamina raises the last error")


def _sentence(reason: str | None) -> str:
    words = reason or ""
    return f"{words[:1].upper()}{words[1:]}."


def _log(sending: _Sending, request_id: str, task_id: str, seconds: float) -> None:
    """One line for each paid call, as soon as its outcome is known."""
    intent, error = sending.intent, sending.error
    cost = None if intent.cost is None else str(intent.cost)
    line: dict[str, str | float | None] = {"operation": intent.operation, "request_id": request_id}
    line |= {"task_id": task_id or None, "cost": cost}
    line |= {"outcome": error.outcome if error else "accepted", "seconds": round(seconds, 3)}
    logger.info("paid call", extra={"fields": line | {"gateway": sending.gateway.endpoint.base_url}})


def _gateways_words(error: SoraError | None) -> dict[str, str | None]:
    """What the ledger keeps of an answer that is no acceptance."""
    if error is None:
        return {}
    return {"gateway_message": error.upstream or None, "code": error.code or None, "answer": error.answer or None}


def _wait_before_resend(error: Exception) -> bool | float:
    """Whether to send again; the seconds to wait where the gateway named them and that is not too long."""
    return isinstance(error, GatewayError) and error.may_be_sent_again and error.pause(RESEND_AFTER_MOST)


def _told(entry: Entry | None, error: SoraError | None, *, is_new: bool = True) -> Entry:
    if error is None and entry is not None and entry.task_id is not None:
        return entry
    if error is None:
        error = _still_open(entry, is_new=is_new)
    error.request_id = entry.request_id if entry is not None else None
    raise error


def still_unknown(entry: Entry, declined: Declined) -> OutcomeUnknown:
    """What to say where somebody was asked whether an earlier request ran, and did not say that it did not."""
    error = OutcomeUnknown(sentences([declined.parts, _SENT_BEFORE]), Settle((entry.request_id,)))
    error.request_id = entry.request_id
    return error


_NO_TURN = (
    f"The gateway has not answered the {MOST_AT_ONCE} requests that were sent before, and no more are sent at once; so "
    "this one was not sent."
)
_SENT_BEFORE = "This same request was sent before and its outcome is unknown; it was not sent again."


def _still_open(entry: Entry | None, *, is_new: bool) -> SoraError:
    """What to say where there is no task id and no error: the POST goes on, or a duplicate's first one has none."""
    if entry is None:
        return _Late("The ledger did not take it in time, so it was not sent.", TryAgain(30))
    advice = LookAgain(entry.request_id, after_s=60, paid=True)
    if is_new:
        return OutcomeUnknown("The gateway has not answered the create yet; it is still being sent.", advice)
    if entry.state == "rejected":
        return Refused(f"This same request was just refused: {entry.failure_reason}", Correct())
    if entry.state == "sending":
        return OutcomeUnknown("This same request is being sent already; it was not sent again.", advice)
    return OutcomeUnknown(_SENT_BEFORE, Settle((entry.request_id,)), AllowDuplicate())
