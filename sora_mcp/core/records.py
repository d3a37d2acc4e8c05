"""What the ledger keeps, as values: an intent, and the entry that says what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from msgspec import Struct, field

from sora_mcp.core import plans, schedule
from sora_mcp.core.accounts import Account
from sora_mcp.core.advice import AskUser
from sora_mcp.core.capabilities import Adjustment
from sora_mcp.core.cost import Cost, Costs
from sora_mcp.core.errors import FileProblem
from sora_mcp.core.tasks import Generation, State, clean, is_plain_id

if TYPE_CHECKING:
    from sora_mcp.core.batches import BatchLine

_FAR = 1e9
"""Pixels, frames or costs that no video has."""
DAY_S = 86_400
HOUR_S = 3600


class Intent(Struct, frozen=True):
    """A paid call before it is sent. Two with the same `fingerprint` ask for the same thing, two with the same
    `sent_fingerprint` are sent as the same, where that is not the same question; `cost` is an estimate.

    `other_fingerprint`: the one under which earlier releases recorded the same thing. `settles`: request ids of unknown
    outcome that a person says did not run; they are settled in the transaction that records this one, and none
    of them stands in its way. `dialect`: the name of the words that it is sent in; `adjusted`: what they are instead of
    the body's. `line`: the line of a batch file that asks for it.
    """

    account: Account
    operation: str
    body: dict[str, Any]
    fingerprint: str
    sources: list[str]
    cost: Cost | None
    other_fingerprint: str | None = None
    sent_fingerprint: str | None = None
    settles: tuple[str, ...] = ()
    dialect: str | None = None
    adjusted: tuple[Adjustment, ...] = ()
    line: BatchLine | None = None


class GivenUp(Struct, frozen=True):
    """A task under way that a person gives up, and why they may."""

    task_id: str
    reason: str


class Entry(Struct, frozen=True):
    """One request, or one task made elsewhere, and what became of it. Times are unix seconds; `body` is the documented
    body. `number` grows with each entry.

    Of the gateway's own words there are: `gateway_state` (from the same poll as `state`), `gateway_message` and
    `failure_code` (why there is no video), `answer` (what it answered to a create, where that could not be read) and
    `other_ids` (further ids in that answer). `withheld`: how many variants moderation kept back. `merged_into`: the
    request whose task this entry had recorded as well.

    `dialect`: the name of the words that it was sent in, and is asked about in (None: the documented ones); `adjusted`:
    what they were instead of the body's. `missed_since`: when the gateway first did not know its task any more.
    `settled_at`: when a person said that it did not run.

    `cost` is what was estimated before it was sent, `stated` what the gateway says that it cost.

    `is_damaged`: somebody else has changed the row, and only its ids and `number` could be read; lists alone give such.

    The gateway was last asked about its task at `polled_at`, of late `failed_polls` times in vain, and from then on is
    not to be asked before `not_before`.
    """

    number: int
    request_id: str
    account: Account
    task_id: str | None
    operation: str | None
    state: State
    body: dict[str, Any]
    sources: list[str]
    cost: Cost | None
    progress: int | None
    enhanced_prompt: str | None
    failure_reason: str | None
    created_at: float
    updated_at: float
    writer: str | None = None
    fingerprint: str | None = None
    polled_at: float | None = None
    not_before: float | None = None
    failed_polls: int = 0
    gateway_state: str | None = None
    gateway_message: str | None = None
    failure_code: str | None = None
    answer: str | None = None
    withheld: int | None = None
    other_ids: tuple[str, ...] = ()
    merged_into: str | None = None
    dialect: str | None = None
    adjusted: tuple[Adjustment, ...] = ()
    missed_since: float | None = None
    settled_at: float | None = None
    stated: Cost | None = None
    generations: tuple[Generation, ...] = ()
    files: dict[int, Path] = field(default_factory=dict)
    is_damaged: bool = False

    @property
    def id(self) -> str:
        """The id to show in a sentence: the task's where there is one that may stand there, else our own."""
        return shown_id(self.request_id, self.task_id)

    @property
    def best_cost(self) -> Cost | None:
        """What it cost as far as that is known: the gateway's own figure, else the estimate."""
        return self.cost if self.stated is None else self.stated

    def may_be_asked(self, now: float) -> bool:
        """See schedule.may_be_polled."""
        return schedule.may_be_polled(now, polled_at=self.polled_at, not_before=self.not_before)

    def is_due_for_who_waits(self, now: float, pace: float) -> bool:
        """Whether to ask now while somebody waits: where that failed the last time, sooner than in its turn."""
        return self.is_due(now, pace) or (self.failed_polls > 0 and self.may_be_asked(now))

    def is_due(self, now: float, pace: float) -> bool:
        """See schedule.is_due."""
        return schedule.is_due(
            now,
            pace,
            created_at=self.created_at,
            polled_at=self.polled_at,
            not_before=self.not_before,
            failed_polls=self.failed_polls,
        )


class Totals(Struct, frozen=True):
    """What the entries of an account add up to.

    `counts`: how many stand in each state. `cost`: of what was submitted and not refused, by the gateway's own figures
    where there are such. `uncertain`: what requests of unknown outcome may have cost. `unpriced`: how many of all
    these have no known cost. `elsewhere`: how many entries other accounts of the same owner have: other gateways, other
    keys.
    """

    counts: Mapping[State, int]
    cost: Costs
    uncertain: Costs
    unpriced: int
    elsewhere: Mapping[Account, int]


class SameBefore(NamedTuple):
    """What asked for the same before: the request that a new one would repeat, and the newest that was refused."""

    duplicate: Entry | None
    refused: Entry | None


class KnownLine(NamedTuple):
    """The request that a line of a batch file became, and the digest of what the line asked for then."""

    entry: Entry
    digest: str


UsageKey = Literal["day", "operation", "address", "owner"]
"""What usage is told apart by: the day in the time zone of this machine, the operation, the gateway's address, the
owner."""


class Usage(Struct, frozen=True):
    """What a group of entries adds up to: those that were submitted and not refused.

    `of`: the value of each key that they were grouped by, in that order; None where it is not known. `videos`: how many
    there are, without those of unknown outcome. `spent`: their cost, by the gateway's own figures where there are
    such; `unpriced` have no known cost. `unknown`: how many have an unknown outcome; `uncertain`: what those may have
    cost.
    """

    of: tuple[str | None, ...]
    videos: int
    spent: Costs
    unpriced: int
    unknown: int
    uncertain: Costs


def shown_id(request_id: str, task_id: str | None) -> str:
    """The id to show in a sentence: the task's where there is one that may stand there, else our own."""
    return task_id if task_id is not None and is_plain_id(task_id) else request_id


def summary(entry: Entry, prompt_length: int = 80) -> dict[str, Any]:
    """What the world is told of an entry, in a list and elsewhere; the prompt is shortened.

    Raises FileProblem for one that nobody here has written.
    """
    with readable(entry.request_id):
        body, made = entry.body, datetime.fromtimestamp(entry.created_at, UTC)
        beats = plans.beats(body)
        prompt = body.get("prompt") or " / ".join(beat.description for beat in beats)
        columns = {
            "task_id": entry.task_id,
            "request_id": entry.request_id,
            "state": entry.state,
            "operation": entry.operation,
            "prompt": clean(prompt, prompt_length) or None,
            **{name: body.get(name) for name in ("width", "height", "n_frames")},
            **_true_shape(entry),
            **told_cost(entry.best_cost, is_stated=entry.stated is not None),
            "sources": entry.sources or plans.sources(body),
            "amount": plans.amount(body),
            "beats": [beat.frame for beat in beats] or None,
            "created_at": made.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        if not _is_plain(columns):
            raise ValueError
    return columns


def told_cost(cost: Cost | None, *, is_stated: bool = False) -> dict[str, Any]:
    """A cost as results have it; of one in a currency whether the gateway stated it."""
    if cost is None:
        return {}
    if cost.is_relative:
        return {"cost": cost.amount}
    return {"cost": cost.amount, "unit": cost.unit, "cost_from": "gateway" if is_stated else "estimate"}


def _true_shape(entry: Entry) -> dict[str, Any]:
    """Size, length and rate as the file has them, where it was read; the size that was sent, where it was adjusted."""
    file = next((each for each in entry.generations if each.fps), None)
    if file is not None:
        return {"width": file.width, "height": file.height, "n_frames": file.n_frames, "fps": file.fps}
    return sent_size(entry.adjusted)


def sent_size(adjusted: Iterable[Adjustment]) -> dict[str, int]:
    """Width and height that were sent in place of what was asked for; nothing where that was not adjusted."""
    size = next((each.size for each in adjusted if each.size is not None), None)
    return {} if size is None else {"width": size[0], "height": size[1]}


def sent_frames(adjusted: Iterable[Adjustment]) -> int | None:
    """The length that was sent in place of what was asked for, in our frames; None where none is known."""
    return next((each.n_frames for each in adjusted if each.n_frames is not None), None)


def _is_plain(columns: Mapping[str, Any]) -> bool:
    """Whether these are numbers that a video may have, and texts where texts belong."""
    sizes = [each for name in ("width", "height", "n_frames") if (each := columns[name]) is not None]
    texts = [columns["task_id"] or "", columns["operation"] or "", *columns["sources"]]
    return (
        all(_is_number(each) and each == int(each) for each in sizes)
        and (columns.get("cost") is None or _is_number(columns["cost"]))
        and isinstance(columns["sources"], list)
        and all(isinstance(each, str) for each in texts)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _FAR


@contextmanager
def readable(request_id: str) -> Iterator[None]:
    """Whatever is wrong with an entry's values inside is a FileProblem."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, OSError):
        message = f"The ledger's row {request_id} is damaged: somebody else has changed it."
        raise FileProblem(message, AskUser("restore that row of the ledger from a backup")) from None
