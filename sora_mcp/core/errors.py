"""The error tree. Every error that can reach an agent is one of these, in our own words.

SoraError
├── InvalidInput      the arguments are wrong; found before anything was sent
├── NotConfigured     a setting is missing or wrong
├── OverCap           a spending cap of the settings forbids it (`core.caps`); nothing was sent
├── Declined          the user was to be asked and did not agree; nothing was sent
├── NotAllowed        the caller's token does not allow it; nothing was sent
├── NotFound          neither our ledger nor the gateway knows this id
├── NotReady          the video is not (or will never be) in the state that was needed
├── FileProblem       a local file or folder cannot be read or written
├── GatewayError      talking to the gateway failed
│   ├── Unreachable     the request provably never arrived
│   ├── Refused         the gateway answered no; nothing was created
│   ├── BadReply        the gateway answered a free request with something unusable
│   ├── Gone            the video was there, and its address leads nowhere any more
│   └── OutcomeUnknown  a create was sent and its result is not known: a job may exist
└── InternalError     a mistake of ours
"""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct

from sora_mcp.core.advice import (
    Advice,
    Argument,
    AskUser,
    Correct,
    Message,
    Part,
    parts_of,
    plain,
    sentences,
)

Outcome = Literal["accepted", "not_submitted", "rejected", "unknown"]
"""What became of one paid call.

`accepted`: the gateway gave a task id. `not_submitted`: nothing was sent. `rejected`: the gateway
answered and created nothing. `unknown`: a job may exist.
"""

SUBMITTED: dict[Outcome, str] = {
    "accepted": "",
    "not_submitted": "Nothing was submitted and nothing was charged.",
    "rejected": "No video was created.",
    "unknown": "A video may have been created and charged: do not submit it again blindly.",
}


class Problem(Struct, frozen=True):
    """One thing that is wrong with the arguments: where, what, and what would be right."""

    field: str
    wrong: str
    allowed: Message = ""

    @property
    def parts(self) -> tuple[Part, ...]:
        """It in a sentence."""
        allowed = ("; allowed: ", *parts_of(self.allowed)) if self.allowed else ()
        return (Argument(self.field), f": {self.wrong}", *allowed, ".")


class SoraError(Exception):
    """Something went wrong; `parts` are a sentence that says what, and `advice` what to do next.

    `outcome` says what became of a paid call, or is None where the error alone cannot tell (the
    caller then knows whether anything was sent). `retry_after_s` is in seconds. Text of the gateway's is
    cleaned and capped: data to quote, never instructions. `upstream` is what it says in words (300 characters at
    most), `code` its code or type (60), `answer` how its answer begins (200), for whoever cannot read that.
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
    ) -> None:
        super().__init__(plain(message))
        self.parts = parts_of(message)
        self.advice = advice
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.upstream = upstream
        self.code = code
        self.answer = answer
        self.outcome: Outcome | None = self.default_outcome
        self.request_id: str | None = None
        """Our own `req_…` id, once the intent stands in the ledger."""

    @property
    def message(self) -> str:
        """What went wrong, for a log or a record: settings stand as the names of their fields."""
        return plain(self.parts)

    @property
    def can_retry(self) -> bool:
        """Whether the same call may work later, unchanged, without paying twice."""
        return self.retryable

    @property
    def wait_s(self) -> float | None:
        """The seconds that the gateway named, if the same call may work after them: whoever waited and then called
        again would pay twice where the outcome is unknown, and in vain where it is final."""
        return self.retry_after_s if self.can_retry and self.outcome != "unknown" else None

    def pause(self, most_s: float) -> bool | float:
        """Whether to try again soon: yes, or after the seconds that the gateway named, if those are not above
        `most_s`."""
        if self.retry_after_s is None:
            return True
        return self.retry_after_s <= most_s and max(0.1, self.retry_after_s)


MOST_NAMED = 3
"""So many videos stand in a sentence; the others are counted."""
MOST_PROBLEMS = 8
"""So many are named; the others are counted."""


class InvalidInput(SoraError):
    """The arguments are wrong. Several problems are named at once; nothing was sent."""

    kind = "invalid_input"
    default_outcome = "not_submitted"

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        messages: list[Message] = [each.parts for each in problems[:MOST_PROBLEMS]]
        if more := len(problems[MOST_PROBLEMS:]):
            messages.append(f"arguments: {more} more problem{'s' * (more > 1)}.")
        super().__init__(sentences(messages), Correct())


class NotConfigured(SoraError):
    """A setting is missing or wrong; the message names it."""

    kind = "not_configured"
    default_outcome = "not_submitted"


class Declined(SoraError):
    """The user was to be asked whether to pay, and did not agree."""

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
    """Neither our ledger nor the gateway knows this id. `may_come`: it is one that the gateway may know in a while."""

    kind = "not_found"
    may_come = False

    @property
    def can_retry(self) -> bool:
        return self.may_come


class NotReady(SoraError):
    """The video has not finished, or ended without anything to use."""

    kind = "not_ready"

    def __init__(self, message: Message, *advice: Advice, will_be: bool) -> None:
        super().__init__(message, *advice)
        self._will_be = will_be

    @property
    def can_retry(self) -> bool:
        return self._will_be


class FileProblem(SoraError):
    """A local file or folder cannot be read or written."""

    kind = "file_problem"


class GatewayError(SoraError):
    """Talking to the gateway failed.

    `may_be_sent_again`: a paid call that failed so provably created nothing and may do better in seconds, so that it
    may be sent again by itself.
    """

    kind = "gateway_error"
    may_be_sent_again: bool = False


class Unreachable(GatewayError):
    """The request provably never arrived: no connection stood."""

    kind = "unreachable"
    default_outcome = "not_submitted"
    retryable = True
    may_be_sent_again = True


class Refused(GatewayError):
    """The gateway answered and created nothing. `may_work_later`: it was refused for now only."""

    kind = "refused"
    default_outcome = "rejected"
    may_work_later: bool = False

    @property
    def can_retry(self) -> bool:
        return self.may_work_later


class BadReply(GatewayError):
    """The answer to a free request cannot be used (time-out, 5xx, not the documented form)."""

    kind = "bad_reply"
    retryable = True


class Gone(GatewayError):
    """The address of a video leads nowhere any more, and the gateway has no other: asking again does not help."""

    kind = "gone"


class OutcomeUnknown(GatewayError):
    """A create was sent and its result is not known: a job may exist."""

    kind = "outcome_unknown"
    default_outcome = "unknown"


class InternalError(SoraError):
    """A mistake of ours; its details are in the log, not in the message."""

    kind = "internal_error"
