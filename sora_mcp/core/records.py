"""The values that the ledger stores: an intent, and the entry that records what became of it."""

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

_NUMBER_LIMIT = 1e9
"""Pixels, frames and costs of every video are below this."""
DAY_S = 86_400
HOUR_S = 3600


class Intent(Struct, frozen=True):
    """A paid call before it is sent. Two with the same `fingerprint` ask for the same thing; two with the same
    `sent_fingerprint` are sent as the same request, if that differs. `cost` is an estimate.

    `other_fingerprint`: the one under which earlier releases recorded the same thing. `settles`: request ids of unknown
    outcome that a person says did not run; they are settled in the transaction that records this one, and do not block
    it. `dialect`: the name of the dialect that it is sent in; `adjusted`: what is sent instead of the body's values.
    `line`: the line of a batch file that asks for it.
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


class AbandonedTask(Struct, frozen=True):
    """A task under way that a person gives up, and the reason that permits it."""

    task_id: str
    reason: str


class Entry(Struct, frozen=True):
    """One request, or one task made elsewhere, and what became of it. Times are Unix seconds; `body` is the documented
    body. `number` grows with each entry.

    The gateway's own text: `gateway_state` (from the same poll as `state`), `gateway_message` and `failure_code` (why
    there is no video), `answer` (its answer to a create, if it could not be read) and `other_ids` (further ids in that
    answer). `withheld`: how many variants moderation withheld. `merged_into`: the request whose task this entry had
    recorded too.

    `dialect`: the name of the dialect in which it was sent and is queried (None: the documented format); `adjusted`:
    what was sent instead of the body's values. `missed_since`: when the gateway first no longer knew its task.
    `settled_at`: when a person said that it did not run.

    `cost` is the estimate from before it was sent, `stated` the cost that the gateway states.

    `is_damaged`: another program has changed the row, and only its ids and `number` could be read; only lists return
    such entries.

    `polled_at`: when the gateway was last asked about the task. `failed_polls`: how many of the latest polls failed.
    `not_before`: the time until which it must not be asked again.
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
        """The id to show in a sentence: the task's if it may appear there, else our own."""
        return display_id(self.request_id, self.task_id)

    @property
    def best_cost(self) -> Cost | None:
        """The best known cost: the gateway's own figure, else the estimate."""
        return self.cost if self.stated is None else self.stated

    def may_be_polled(self, now: float) -> bool:
        """See schedule.may_be_polled."""
        return schedule.may_be_polled(now, polled_at=self.polled_at, not_before=self.not_before)

    def is_due_for_waiter(self, now: float, pace: float) -> bool:
        """Whether to poll now while a caller waits: after a failed poll, sooner than `is_due`."""
        return self.is_due(now, pace) or (self.failed_polls > 0 and self.may_be_polled(now))

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

    `counts`: how many are in each state. `cost`: of what was submitted and not refused, by the gateway's own figures if
    it states them. `uncertain`: what requests of unknown outcome may have cost. `unpriced`: how many of all these have
    no known cost. `other_accounts`: how many entries the owner's other accounts have (other gateways, other keys).
    """

    counts: Mapping[State, int]
    cost: Costs
    uncertain: Costs
    unpriced: int
    other_accounts: Mapping[Account, int]


class EarlierMatches(NamedTuple):
    """Earlier requests for the same thing: the one that a new one would repeat, and the newest that was refused."""

    duplicate: Entry | None
    refused: Entry | None


class RecordedLine(NamedTuple):
    """The request made for a line of a batch file, and the digest of what the line asked for then."""

    entry: Entry
    digest: str


UsageKey = Literal["day", "operation", "address", "owner"]
"""What usage is grouped by: the day in this machine's time zone, the operation, the gateway's address, the owner."""


class Usage(Struct, frozen=True):
    """What a group of entries adds up to: those that were submitted and not refused.

    `group`: the values of the keys that they were grouped by, in that order; None if not known. `videos`: how many
    there are, without those of unknown outcome. `spent`: their cost, by the gateway's own figures if it states them;
    `unpriced` have no known cost. `unknown`: how many have an unknown outcome; `uncertain`: what those may have cost.
    """

    group: tuple[str | None, ...]
    videos: int
    spent: Costs
    unpriced: int
    unknown: int
    uncertain: Costs


def display_id(request_id: str, task_id: str | None) -> str:
    """Return the id to show in a sentence: the task's if it may appear there, else our own."""
    return task_id if task_id is not None and is_plain_id(task_id) else request_id


def summary(entry: Entry, prompt_length: int = 80) -> dict[str, Any]:
    """Return the published fields of an entry; the prompt is shortened.

    Raises FileProblem if this program cannot have written the row.
    """
    with detect_damage(entry.request_id):
        body, created = entry.body, datetime.fromtimestamp(entry.created_at, UTC)
        beats = plans.beats(body)
        prompt = body.get("prompt") or " / ".join(beat.description for beat in beats)
        columns = {
            "task_id": entry.task_id,
            "request_id": entry.request_id,
            "state": entry.state,
            "operation": entry.operation,
            "prompt": clean(prompt, prompt_length) or None,
            **{name: body.get(name) for name in ("width", "height", "n_frames")},
            **_actual_shape(entry),
            **cost_fields(entry.best_cost, is_stated=entry.stated is not None),
            "sources": entry.sources or plans.sources(body),
            "amount": plans.amount(body),
            "beats": [beat.frame for beat in beats] or None,
            "created_at": created.isoformat(timespec="seconds").replace("+00:00", "Z"),
        }
        if not _is_valid(columns):
            raise ValueError
    return columns


def cost_fields(cost: Cost | None, *, is_stated: bool = False) -> dict[str, Any]:
    """Return a cost as fields of a result; if it is in a currency, also whether the gateway stated it."""
    if cost is None:
        return {}
    if cost.is_relative:
        return {"cost": cost.amount}
    return {"cost": cost.amount, "unit": cost.unit, "cost_from": "gateway" if is_stated else "estimate"}


def _actual_shape(entry: Entry) -> dict[str, Any]:
    """Return size, length and rate of the file, if it was read, else the size that was sent, if it was adjusted."""
    file = next((each for each in entry.generations if each.fps), None)
    if file is not None:
        return {"width": file.width, "height": file.height, "n_frames": file.n_frames, "fps": file.fps}
    return sent_size(entry.adjusted)


def sent_size(adjusted: Iterable[Adjustment]) -> dict[str, int]:
    """Return the width and height that were sent instead of the requested ones; empty if they were not adjusted."""
    size = next((each.size for each in adjusted if each.size is not None), None)
    return {} if size is None else {"width": size[0], "height": size[1]}


def sent_frames(adjusted: Iterable[Adjustment]) -> int | None:
    """Return the length that was sent instead of the requested one, in frames (30 per second), or None if not known."""
    return next((each.n_frames for each in adjusted if each.n_frames is not None), None)


def _is_valid(columns: Mapping[str, Any]) -> bool:
    """Whether the numbers are ones that a video may have, and the texts are texts."""
    sizes = [each for name in ("width", "height", "n_frames") if (each := columns[name]) is not None]
    texts = [columns["task_id"] or "", columns["operation"] or "", *columns["sources"]]
    return (
        all(_is_number(each) and each == int(each) for each in sizes)
        and (columns.get("cost") is None or _is_number(columns["cost"]))
        and isinstance(columns["sources"], list)
        and all(isinstance(each, str) for each in texts)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _NUMBER_LIMIT


@contextmanager
def detect_damage(request_id: str) -> Iterator[None]:
    """Raise FileProblem for errors inside the block that malformed values of a row cause."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError, OSError):
        message = f"The ledger's row {request_id} is damaged: somebody else has changed it."
        raise FileProblem(message, AskUser("restore that row of the ledger from a backup")) from None
