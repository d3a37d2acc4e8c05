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

from sora_mcp.core.advice import AllowDuplicate, AskUser, CheckAgain, Correct, Do, SeeLog, Settle, TryAgain, sentences
from sora_mcp.core.caps import OverCap
from sora_mcp.core.errors import (
    MAX_RETRY_DELAY_S,
    Declined,
    FileProblem,
    GatewayError,
    OutcomeUnknown,
    Refused,
    SoraError,
    Unreachable,
    unexpected,
)
from sora_mcp.core.tasks import State
from sora_mcp.dialects.protocol import Call, Created
from sora_mcp.ledger import Entry, Intent, Ledger, RowMissing, SpendingPolicy

if TYPE_CHECKING:
    from sora_mcp.gateway import Gateway

logger = logging.getLogger(__name__)

RESEND_ATTEMPTS = 3
"""Attempts of a create in all, if the earlier ones provably created nothing."""
RESEND_TIMEOUT_S = 25.0
"""Seconds for all attempts of a create together."""
RECORD_RETRY_DELAYS_S = (1, 2, 4, 8, 15, 30)
"""Seconds between attempts to record an outcome while the ledger cannot be written; the last one is repeated until
the studio is closed."""
MAX_CONCURRENT_CREATES = 50
"""Concurrent creates of one owner, half of the gateway's connections for them. Further ones wait for a slot, so that
other owners' creates do not wait for a connection behind them."""
POLL_INTERVAL_S = 0.2
"""Seconds between polls of the ledger while a create is being sent, here or by another process."""


class _RecordTimeout(FileProblem):
    """The ledger did not record an intent in time."""

    default_outcome = "not_submitted"
    retryable = True


class _NotConfirmed(Unreachable):
    """The ledger does not confirm that a recorded request may be sent."""

    may_be_sent_again = False

    def __init__(self) -> None:
        super().__init__("It was not sent: at the last moment the ledger did not confirm its record.", TryAgain(30))


class _Sending(Struct):
    """A POST under way, or done: `finished` is set when its outcome is recorded."""

    gateway: Gateway
    call: Call
    intent: Intent
    policy: SpendingPolicy
    finished: anyio.Event = field(default_factory=anyio.Event)
    entry: Entry | None = None
    is_new: bool = True
    is_waiting: bool = True
    """Whether it waits for a slot."""
    is_given_up: bool = False
    """Whether its caller has gone before it was recorded: it must not be sent."""
    error: SoraError | None = None


class Submitter:
    """Sends intents in `background`, so that a cancelled or slow call never aborts its POST. A call that is cancelled
    before its intent is recorded is not sent."""

    def __init__(self, ledger: Ledger, background: TaskGroup) -> None:
        self._ledger = ledger
        self._background = background
        self._slots = WeakValueDictionary[str, anyio.Semaphore]()
        self.last_sent: Entry | None = None
        """The current row of the last intent that was recorded as *sending* here."""
        self.closing = anyio.Event()
        """Set when the studio is closing: unlimited retries end."""

    async def submit(
        self, gateway: Gateway, call: Call, intent: Intent, policy: SpendingPolicy, *, deadline: float
    ) -> tuple[Entry, bool]:
        """Record `intent`, send its `call`, and return its row and True; for a duplicate the first one's row and False.

        Returns by `deadline` (anyio's clock). Raises FileProblem, OverCap or Unreachable (nothing was submitted, nor
        will be), Refused, or OutcomeUnknown (also for a POST that is still going on, and for a duplicate of an unknown
        one).
        """
        sending = _Sending(gateway, call, intent, policy)
        self._background.start_soon(self._pay, sending)
        try:
            with anyio.CancelScope(deadline=deadline):
                await sending.finished.wait()
        finally:  # a line that was begun is sent even if its batch is stopped: the next run continues from there
            is_overdue = anyio.current_time() >= deadline
            sending.is_given_up = sending.entry is None and (is_overdue or intent.line is None)
        if sending.entry is not None and not sending.is_new:
            return await self.join(sending.entry, deadline=deadline), False
        if sending.is_waiting:
            sending.error = Unreachable(_NO_SLOT, TryAgain(30))
        return _accepted_or_raise(sending.entry, sending.error), sending.is_new

    async def join(self, entry: Entry, *, deadline: float) -> Entry:
        """Return the row of a request that was sent before, once its outcome is known. Raises as `submit` does."""
        with anyio.CancelScope(deadline=deadline):
            entry = await self._wait_for(entry)
        return _accepted_or_raise(entry, None, is_new=False)

    async def _wait_for(self, entry: Entry) -> Entry:
        with self._ledger.listen(entry.request_id) as listener:
            while entry.state == "sending":
                await listener.wait(POLL_INTERVAL_S)  # the end of its sender sends no notification
                with suppress(FileProblem):  # it may have been paid for: keep polling until the deadline
                    entry = await self._ledger.find(entry.account, entry.request_id) or entry
        return entry

    async def _pay(self, sending: _Sending) -> None:
        """Record the intent, POST once, record the outcome. Cannot be cancelled once it has begun."""
        slots = self._slots.setdefault(sending.intent.account.owner, anyio.Semaphore(MAX_CONCURRENT_CREATES))
        with anyio.CancelScope(shield=True):
            try:
                async with slots:
                    sending.is_waiting = False
                    outcome = None if sending.is_given_up else await self._begin_and_post(sending)
                if outcome is not None and sending.entry is not None:
                    await self._save_outcome(sending, sending.entry.request_id, *outcome)
                    self.last_sent = sending.entry
            finally:
                sending.finished.set()

    async def _begin_and_post(self, sending: _Sending) -> tuple[Created, State] | None:
        """Return the outcome of the POST to record; None if nothing was sent."""
        try:
            sending.entry, sending.is_new = await self._ledger.begin(sending.intent, sending.policy)
        except (FileProblem, OverCap) as error:
            error.outcome = "not_submitted"
            sending.error = error
        except Exception as error:
            logger.exception("an intent could not be recorded: something failed unexpectedly")
            sending.error = unexpected(error, "It could not be recorded, so it was not sent.")
            sending.error.outcome = "not_submitted"
        else:
            return await self._post_if_wanted(sending, sending.entry) if sending.is_new else None
        return None

    async def _post_if_wanted(self, sending: _Sending, entry: Entry) -> tuple[Created, State]:
        if sending.is_given_up:
            sending.error = Unreachable("It was not sent: the call was given up first.")
            return Created(""), "rejected"
        self.last_sent = entry
        return await self._post(sending, entry)

    async def _post(self, sending: _Sending, entry: Entry) -> tuple[Created, State]:
        state: State = "rejected"
        created = Created("")
        started_at = anyio.current_time()
        try:
            created = await self._create(sending, entry)
        except (Unreachable, Refused) as error:
            sending.error = error
        except GatewayError as error:
            sending.error, state = error, "unknown"
        except Exception:
            logger.exception("create %s failed unexpectedly", entry.request_id)
            state = "unknown"
            sending.error = OutcomeUnknown("The create failed unexpectedly.", SeeLog())
        _log_call(sending, entry.request_id, created.task_id, anyio.current_time() - started_at)
        return created, state

    async def _save_outcome(self, sending: _Sending, request_id: str, created: Created, state: State) -> None:
        """Record the outcome, retrying as often as needed."""
        task_id = created.task_id
        for pause in chain(RECORD_RETRY_DELAYS_S, repeat(None)):
            try:
                await self._record(sending, request_id, created, state)
            except FileProblem as problem:
                logger.error("the outcome of %s could not be recorded: %s", request_id, problem.message)  # noqa: TRY400
                self._report_unrecorded(sending, task_id)
            except Exception:
                logger.exception("the outcome of %s could not be recorded", request_id)
                self._report_unrecorded(sending, task_id)
            else:
                return
            if pause is not None:
                await anyio.sleep(pause)
            elif self.closing.is_set():
                return
            else:
                with anyio.move_on_after(RECORD_RETRY_DELAYS_S[-1]):
                    await self.closing.wait()

    @staticmethod
    def _report_unrecorded(sending: _Sending, task_id: str) -> None:
        """Answer the agent now instead of waiting for the ledger."""
        if task_id and sending.error is None:
            sending.error = OutcomeUnknown(
                f"The gateway accepted it as {task_id}, but the ledger cannot be written now.",
                AskUser(f"note {task_id} and to check that the ledger can be written"),
                Do("Do not submit it again."),
            )
        sending.finished.set()

    async def _record(self, sending: _Sending, request_id: str, created: Created, state: State) -> None:
        """Record the outcome: the task, or else `state` with the gateway's answer. A missing row is restored: the
        ledger was reset to an earlier copy meanwhile."""
        try:
            await self._record_once(sending, request_id, created, state)
        except RowMissing:
            if sending.entry is None:
                raise
            await self._ledger.restore(sending.entry)
            await self._record_once(sending, request_id, created, state)

    async def _record_once(self, sending: _Sending, request_id: str, created: Created, state: State) -> None:
        if not created.task_id:
            reason = sending.error.message if sending.error is not None else ""
            answer = _answer_fields(sending.error)
            sending.entry = await self._ledger.record_not_accepted(request_id, state, reason, **answer)
            return
        sending.entry = await self._ledger.record_accepted(request_id, created.task_id, created.other_ids)
        if sending.entry.state == "unknown":  # the task is another request's
            sending.error = OutcomeUnknown(_format_sentence(sending.entry.failure_reason), Settle())

    async def _create(self, sending: _Sending, entry: Entry) -> Created:
        """POST until one is accepted: sent again only if it provably never arrived or was provably refused (429).

        Each time its row has to be *sending* still in the ledger now in place, once there is a connection: others may
        have settled it while the ledger's answer was held up, or while connecting took long.
        """
        import stamina  # noqa: PLC0415 - `Gateway.prepare` has loaded it

        gateway, call = sending.gateway, sending.call
        resend_deadline = anyio.current_time() + RESEND_TIMEOUT_S + MAX_RETRY_DELAY_S
        last_error: GatewayError | None = None

        async def check() -> None:
            if not await self._ledger.may_send(entry):
                raise _NotConfirmed

        attempts = stamina.retry_context(
            on=_resend_delay,
            attempts=RESEND_ATTEMPTS,
            timeout=RESEND_TIMEOUT_S,
            wait_initial=0.2,
            wait_max=2,
            wait_jitter=0.4,
        )
        async for attempt in attempts:
            if last_error is not None:
                in_time = anyio.current_time() <= resend_deadline  # the process may have been suspended
                if not (in_time and await self._ledger.is_sending(entry.request_id)):
                    raise last_error
            with attempt:
                try:
                    return await gateway.create(call, check)
                except _NotConfirmed as error:
                    raise last_error or error from None
                except (Unreachable, Refused) as error:
                    last_error = error
                    raise
        raise AssertionError("stamina raises the last error")


def _format_sentence(reason: str | None) -> str:
    text = reason or ""
    return f"{text[:1].upper()}{text[1:]}."


def _log_call(sending: _Sending, request_id: str, task_id: str, seconds: float) -> None:
    """Log one line for each paid call, as soon as its outcome is known."""
    intent, error = sending.intent, sending.error
    cost = None if intent.cost is None else str(intent.cost)
    line: dict[str, str | float | None] = {"operation": intent.operation, "request_id": request_id}
    line |= {"task_id": task_id or None, "cost": cost}
    line |= {"outcome": error.outcome if error else "accepted", "seconds": round(seconds, 3)}
    logger.info("paid call", extra={"fields": line | {"gateway": sending.gateway.endpoint.base_url}})


def _answer_fields(error: SoraError | None) -> dict[str, str | None]:
    """Return what the ledger records of an answer that is not an acceptance."""
    if error is None:
        return {}
    return {"gateway_message": error.upstream or None, "code": error.code or None, "answer": error.answer or None}


def _resend_delay(error: Exception) -> bool | float:
    """Whether to send again; the seconds to wait if the gateway named them and they are within the limit."""
    return isinstance(error, GatewayError) and error.may_be_sent_again and error.retry_delay


def _accepted_or_raise(entry: Entry | None, error: SoraError | None, *, is_new: bool = True) -> Entry:
    if error is None and entry is not None and entry.task_id is not None:
        return entry
    if error is None:
        error = _unresolved_error(entry, is_new=is_new)
    error.request_id = entry.request_id if entry is not None else None
    raise error


def still_unknown_error(entry: Entry, declined: Declined) -> OutcomeUnknown:
    """Return the error for a user who was asked whether an earlier request ran, and did not deny it."""
    error = OutcomeUnknown(sentences([declined.parts, _SENT_BEFORE]), Settle((entry.request_id,)))
    error.request_id = entry.request_id
    return error


_NO_SLOT = (
    f"The gateway has not answered the {MAX_CONCURRENT_CREATES} requests that were sent before, and no more are sent "
    "at once; so this one was not sent."
)
_SENT_BEFORE = "This same request was sent before and its outcome is unknown; it was not sent again."


def _unresolved_error(entry: Entry | None, *, is_new: bool) -> SoraError:
    """Return the error if there is no task id and no error: the POST goes on, or a duplicate's original has none."""
    if entry is None:
        return _RecordTimeout("The ledger did not take it in time, so it was not sent.", TryAgain(30))
    advice = CheckAgain(entry.request_id, after_s=60, paid=True)
    if is_new:
        return OutcomeUnknown("The gateway has not answered the create yet; it is still being sent.", advice)
    if entry.state == "rejected":
        if not (entry.gateway_message or entry.failure_code):  # no connection was made, for example
            message = f"This same request was just made, and came to nothing: {entry.failure_reason}"
            return Unreachable(message, TryAgain())
        return Refused(f"This same request was just refused: {entry.failure_reason}", Correct())
    if entry.state == "sending":
        return OutcomeUnknown("This same request is being sent already; it was not sent again.", advice)
    return OutcomeUnknown(_SENT_BEFORE, Settle((entry.request_id,)), AllowDuplicate())
