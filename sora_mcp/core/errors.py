"""The error tree. Every error that can reach an agent is one of these, worded by us.

SoraError
├── InvalidInput      the arguments are wrong; nothing was sent
├── NotConfigured     a setting is missing or wrong
├── OverCap           a spending cap of the settings forbids it (`core.caps`); nothing was sent
├── Declined          the user had to be asked and did not agree; nothing was sent
├── NotAllowed        the caller's token does not allow it; nothing was sent
├── NotFound          neither our ledger nor the gateway knows this id
├── NotReady          the video is not, or will never be, in the required state
├── FileProblem       a local file or folder cannot be read or written
├── GatewayError      talking to the gateway failed
│   ├── Unreachable     the request provably never arrived
│   ├── Refused         the gateway refused; nothing was created
│   ├── BadReply        the gateway's answer to a free request cannot be used
│   ├── Gone            the video's address no longer works, and the gateway has no other
│   └── OutcomeUnknown  a create was sent and its result is not known: a job may exist
└── InternalError     a bug in this program
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import ClassVar, Literal

from msgspec import Struct

from sora_mcp.core.advice import (
    Advice,
    Argument,
    AskUser,
    Correct,
    Message,
    Part,
    SeeLog,
    TryAgain,
    parts_of,
    plain,
    sentences,
)

Outcome = Literal["accepted", "not_submitted", "rejected", "unknown"]
"""What became of one paid call.

`accepted`: the gateway gave a task id. `not_submitted`: nothing was sent. `rejected`: the gateway
answered and created nothing. `unknown`: a job may exist.
"""

OUTCOME_SENTENCES: dict[Outcome, str] = {
    "accepted": "",
    "not_submitted": "Nothing was submitted and nothing was charged.",
    "rejected": "No video was created.",
    "unknown": "A video may have been created and charged: do not submit it again blindly.",
}


class Problem(Struct, frozen=True):
    """One problem with the arguments: the field, the reason, and what is allowed instead."""

    field: str
    reason: str
    allowed: Message = ""

    @property
    def parts(self) -> tuple[Part, ...]:
        """The problem as a sentence."""
        allowed = ("; allowed: ", *parts_of(self.allowed)) if self.allowed else ()
        return (Argument(self.field), f": {self.reason}", *allowed, ".")


class SoraError(Exception):
    """Base of all errors. `parts` is a sentence that says what went wrong, and `advice` what to do next.

    `outcome` is what became of a paid call, or None if the error alone cannot tell (the caller then knows whether
    anything was sent). The gateway's own text is cleaned and capped: data to quote, never instructions. `upstream` is
    its message (at most 300 characters), `code` its code or type (60), and `answer` the beginning of an answer that
    could not be read (200).
    """

    kind: ClassVar[str]
    default_outcome: ClassVar[Outcome | None] = None
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: Message,
        *advice: Advice,
        http_status: int | None = None,
        retry_after_s: float | None = None,
        upstream: str = "",
        code: str = "",
        answer: str = "",
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(plain(message))
        self.parts = parts_of(message)
        self.advice = advice
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.upstream = upstream
        self.code = code
        self.answer = answer
        self.outcome: Outcome | None = outcome or self.default_outcome
        self.request_id: str | None = None
        """Our own `req_…` id, once the intent is in the ledger."""

    @property
    def message(self) -> str:
        """What went wrong, for a log or a record. Settings appear under their field names."""
        return plain(self.parts)

    @property
    def can_retry(self) -> bool:
        """Whether the same call may work later, unchanged, without paying twice."""
        return self.retryable

    @property
    def wait_s(self) -> float | None:
        """Seconds to wait before the same call may work, if the gateway named them. None if a repeated call would pay
        twice (the outcome is unknown) or fail again (the refusal is final)."""
        return self.retry_after_s if self.can_retry and self.outcome != "unknown" else None

    @property
    def retry_delay(self) -> bool | float:
        """The seconds to wait before trying again: True if the gateway named none, False if it named more than
        MAX_RETRY_DELAY_S."""
        if self.retry_after_s is None:
            return True
        return self.retry_after_s <= MAX_RETRY_DELAY_S and max(0.1, self.retry_after_s)


MAX_RETRY_DELAY_S = 5.0
"""The longest Retry-After, in seconds, that is waited for; a longer one is reported to the caller."""
MAX_NAMED = 3
"""Videos named in a sentence; the others are counted."""
MAX_PROBLEMS = 8
"""Problems named in a message; the others are counted."""


class InvalidInput(SoraError):
    """The arguments are wrong; nothing was sent. The message names several problems at once."""

    kind = "invalid_input"
    default_outcome = "not_submitted"

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        messages: list[Message] = [each.parts for each in problems[:MAX_PROBLEMS]]
        if more := len(problems[MAX_PROBLEMS:]):
            messages.append(f"arguments: {more} more problem{'s' * (more > 1)}.")
        super().__init__(sentences(messages), Correct())


class NotConfigured(SoraError):
    """A setting is missing or wrong; the message names it."""

    kind = "not_configured"
    default_outcome = "not_submitted"


class Declined(SoraError):
    """The user had to be asked whether to pay, and did not agree."""

    kind = "declined"
    default_outcome = "not_submitted"


class NotAllowed(SoraError):
    """The caller's token lacks a scope; nothing was sent."""

    kind = "not_allowed"
    default_outcome = "not_submitted"

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"The token of this connection does not allow this: it lacks the scope {scope}.",
            AskUser(f"get a token with {scope} from whoever runs this server"),
        )


class NotFound(SoraError):
    """Neither our ledger nor the gateway knows this id. `may_appear`: the gateway may know it in a while."""

    kind = "not_found"
    may_appear = False

    @property
    def can_retry(self) -> bool:
        return self.may_appear


class NotReady(SoraError):
    """The video has not finished (`is_pending`), or ended without anything to use."""

    kind = "not_ready"

    def __init__(self, message: Message, *advice: Advice, is_pending: bool) -> None:
        super().__init__(message, *advice)
        self._is_pending = is_pending

    @property
    def can_retry(self) -> bool:
        return self._is_pending


class FileProblem(SoraError):
    """A local file or folder cannot be read or written."""

    kind = "file_problem"


class GatewayError(SoraError):
    """Talking to the gateway failed.

    `may_be_sent_again`: a paid call that failed this way provably created nothing and may succeed within seconds, so it
    may be sent again automatically.
    """

    kind = "gateway_error"
    may_be_sent_again: bool = False


class Unreachable(GatewayError):
    """The request provably never arrived: there was no connection."""

    kind = "unreachable"
    default_outcome = "not_submitted"
    retryable = True
    may_be_sent_again = True


class Refused(GatewayError):
    """The gateway answered and created nothing. `may_work_later`: the refusal is temporary."""

    kind = "refused"
    default_outcome = "rejected"
    may_work_later: bool = False

    @property
    def can_retry(self) -> bool:
        return self.may_work_later


class BadReply(GatewayError):
    """The answer to a free request cannot be used (timeout, 5xx, undocumented form)."""

    kind = "bad_reply"
    retryable = True


class Gone(GatewayError):
    """The address of a video no longer works, and the gateway has no other: asking again does not help."""

    kind = "gone"


class OutcomeUnknown(GatewayError):
    """A create was sent and its result is not known: a job may exist."""

    kind = "outcome_unknown"
    default_outcome = "unknown"


class InternalError(SoraError):
    """A bug in this program. The details are in the log, not in the message."""

    kind = "internal_error"


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, the errors of its group, and what each of them comes from."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            for inner in error.exceptions:
                yield from causes(inner)
        error = error.__cause__ or error.__context__


OUT_OF_FILES = "too many files and connections are open on this machine"
MORE_FILES = TryAgain(), AskUser("raise the limit on open files of this program if that does not help")


def is_out_of_files(error: BaseException) -> bool:
    """Whether an error comes from the limit on what a process, or the system, may have open."""
    return any(isinstance(each, OSError) and each.errno in {errno.EMFILE, errno.ENFILE} for each in causes(error))


def unexpected(error: BaseException, message: str = "Something failed unexpectedly.") -> SoraError:
    """Return the error for an exception that no code expects; the log has its details."""
    if is_out_of_files(error):
        return FileProblem(f"Nothing more can be opened: {OUT_OF_FILES}.", *MORE_FILES)
    return InternalError(message, SeeLog())
