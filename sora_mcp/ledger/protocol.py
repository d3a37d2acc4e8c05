"""The protocol of the ledger, which every engine implements.

An entry is one intent to make a video, under our own id `req_…`; it is durable before anything is sent. Entries carry
the account they were made with, and no other account is ever asked about them. Nothing is deleted. The ledger counts
and records; the policy passed to it decides what may be paid for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from pathlib import Path
from typing import Protocol

from sora_mcp.core.accounts import Account, Person, Team
from sora_mcp.core.advice import AskUser
from sora_mcp.core.errors import FileProblem
from sora_mcp.core.records import AbandonedTask, EarlierMatches, Entry, Intent, RecordedLine, Totals, Usage, UsageKey
from sora_mcp.core.spending import NO_POLICY, Spending, SpendingPolicy
from sora_mcp.core.tasks import Generation, State, Task

MAX_SEARCHED = 10_000
"""Entries that one search examines."""
SEARCH_TIMEOUT_S = 3.0
"""Seconds after which a search returns what it has."""
MAX_MESSAGE_BYTES = 7_900
"""Size of a message between servers (PostgreSQL's NOTIFY carries less than 8,000 bytes)."""


class RowMissing(FileProblem):
    """An entry that was begun is missing from the ledger, which was restored from an earlier copy."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"The ledger no longer has {request_id}: it was taken back to an earlier copy.",
            AskUser("look for it in the gateway's own log"),
        )


class Listener(Protocol):
    """Waits for an entry to change."""

    async def wait(self, seconds: float) -> bool:
        """Return once the entry has changed, or after `seconds` (a little more if the engine announces changes).

        True if it may have changed since the last call; always True if the engine announces no changes.
        """


class Servers(Protocol):
    """What servers that share a ledger have in common. Asynchronous methods raise FileProblem."""

    def now(self) -> float:
        """Return the ledger's clock in unix seconds, the same for all servers."""

    async def seal_keys(self) -> list[bytes]:
        """Return the keys (32 bytes each) that seal the states of questions, the current one first.

        They are the same for every process. A key seals for a day, and opens for at least an hour more.
        """

    async def use_answer(self, answer_id: str, ttl_s: float) -> bool:
        """Return whether no process has used this answer before. It is remembered for `ttl_s` seconds."""

    async def broadcast(self, message: str) -> None:
        """Send a message to every server that shares the ledger, including this one, if the engine can.

        Messages of more than MAX_MESSAGE_BYTES are dropped. A disconnected server misses what is sent meanwhile.
        """

    def on_broadcast(self, listener: Callable[[str], None]) -> None:
        """Call `listener` in this event loop with each message that servers broadcast from now on."""


class Ledger(Servers, Protocol):
    """The durable record.

    Every method is one short transaction, and raises FileProblem if the record cannot be read or written. Any number
    of processes may use a ledger at once. Times are unix seconds of the ledger's own clock.
    """

    def close(self) -> None:
        """Close the ledger. What this process was still sending counts as unknown."""

    def owns(self, path: Path | int) -> bool:
        """Return whether a path (or an open file) is one of the ledger's own files, under whatever name."""

    def exists(self) -> bool:
        """Return whether anything was ever recorded."""

    def age(self, entry: Entry) -> float:
        """Return the seconds since an entry was last updated; infinity if the clock has gone back since."""

    async def account(self, base_url: str, api_key: str, owner: str = "") -> Account:
        """Return the account of a key at a gateway, with the key's fingerprint in this ledger."""

    # --- paying -----------------------------------------------------------------------------------

    async def begin(self, intent: Intent, policy: SpendingPolicy = NO_POLICY) -> tuple[Entry, bool]:
        """Record an intent as *sending* and return its entry and True. When this returns, it is durable.

        If the policy finds a duplicate, nothing is recorded: the first one's entry is returned, and False. Raises
        OverCap if the policy forbids it. The policy decides in the transaction that records the intent, and that
        settles the requests in `settles`: all of that happens, or nothing.

        The same goes for the `line` of a batch file. If a line already has a request, that one's entry and False are
        returned, however old it is, unless it came to nothing and the line is to be sent `after` that very request.
        Requests of other lines of the same file are no duplicates of it. The line is recorded with the request that
        is returned, its own or the one that it duplicates.
        """

    async def check_can_begin(self) -> None:
        """Raise FileProblem if nothing can be begun: the ledger was copied elsewhere, restored to an earlier state, or
        taken over by a newer release."""

    async def find_earlier(self, intent: Intent, policy: SpendingPolicy) -> EarlierMatches:
        """Return earlier requests for the same thing: the entry that `begin` would return with False, as far as can be
        known beforehand, and the newest of the last 24 hours that came to nothing.

        Raises OverCap if `begin` would.
        """

    async def record_accepted(self, request_id: str, task_id: str, other_ids: Sequence[str] = ()) -> Entry:
        """Record that the gateway answered with this task id, and perhaps with `other_ids`.

        If a person has meanwhile settled the request with another task, this one gets an entry of its own. If another
        request already has the task, the outcome stays *unknown*.
        """

    async def record_not_accepted(
        self,
        request_id: str,
        state: State,
        reason: str,
        *,
        gateway_message: str | None = None,
        code: str | None = None,
        answer: str | None = None,
    ) -> Entry:
        """Record that nothing was created (*rejected*), or that the outcome is *unknown*, with the gateway's message if
        there is one."""

    async def restore(self, entry: Entry) -> None:
        """Recreate the entry of a request that was being sent, as *unknown* and under its id, if it is missing
        (`RowMissing`), so that its outcome can be recorded."""

    async def is_sending(self, request_id: str) -> bool:
        """Return whether an entry is still *sending* in the current record; False if that cannot be read. Raises
        nothing."""

    async def may_send(self, entry: Entry) -> bool:
        """Return whether an entry that was just begun may be sent. Not if the ledger's answer came so late that others
        may have taken this process for dead and settled the entry meanwhile, or if that cannot be read. Raises nothing.
        """

    async def settle(
        self, account: Account, request_id: str, task_id: str | None, *, given_up: AbandonedTask | None = None
    ) -> Entry | None:
        """Record what a person found out: an *unknown* entry became this task, or nothing if `task_id` is None.

        `given_up`: a task under way of which nothing came either. Returns None if there is no such entry, or if the
        task belongs to another request.
        """

    # --- following --------------------------------------------------------------------------------

    async def adopt(self, account: Account, task_id: str, task: Task, dialect: str | None = None) -> Entry:
        """Record a task that another client created with the same key, or update its existing entry.

        `dialect`: the name of the dialect in which the gateway was asked about it.
        """

    def lease(
        self, request_id: str, pause_s: float = 0, *, expected: Entry | None = None
    ) -> AbstractAsyncContextManager[bool]:
        """Yield whether this process may ask the gateway about a task now; no other process does until this exits.

        `expected`: the entry as it was when there was reason to ask. If another process has asked since, there is none.

        An exception inside counts as a failed poll: the task is not asked about for `pause_s` seconds then, or for as
        long as the gateway asked for. The lease of a process that is killed expires within seconds.
        """

    async def record(self, entry: Entry, task: Task, quiet_s: float | None = 0) -> Entry:
        """Record what the gateway said of an entry's task, which is not asked about again for `quiet_s` seconds.

        None leaves the time of the next query as it is, and with it a lease and the failures before it. A final state
        stays; addresses are updated. If another entry has the task by now, that one is updated.
        """

    async def record_missing(self, entry: Entry) -> Entry:
        """Record that the gateway does not know an entry's task. The time of the first such answer is stored until it
        knows the task again."""

    async def record_saved(self, request_id: str, variant: int, file: Path) -> None:
        """Record that a variant was downloaded to `file`."""

    async def is_file_of_another(self, request_id: str, file: Path) -> bool:
        """Return whether a file was saved for another entry."""

    def listen(self, request_id: str) -> AbstractContextManager[Listener]:
        """Listen for changes that other processes make to an entry from now on."""

    # --- reading ----------------------------------------------------------------------------------

    async def find(self, account: Account, video_id: str) -> Entry | None:
        """Return the entry of a `task_…` or `req_…` id at this gateway and of this owner, with any key, or None."""

    async def find_generation(self, account: Account, generation_id: str) -> tuple[Entry, Generation] | None:
        """Return the entry and the variant that a `gen_…` id belongs to, or None."""

    async def find_ids_by_prefix(self, account: Account, prefix: str, limit: int) -> list[str]:
        """Return the task ids of this gateway and owner that begin with `prefix`, newest first; request ids if the
        prefix begins with `req_`.

        If hundreds match, some of them are returned; if more than MAX_SEARCHED of all owners match, perhaps none.
        """

    async def is_of_another_owner(self, account: Account, shown_id: str) -> bool:
        """Return whether a `task_…` or `gen_…` id is recorded under the same gateway and key, but another owner."""

    async def page(
        self, account: Account, *, limit: int, before: str | None = None, states: tuple[State, ...] = ()
    ) -> list[Entry]:
        """Return at most `limit` entries, newest first: those made before the request `before`, in one of `states` if
        there are any. Raises NotFound if the account has no request `before`."""

    async def search(
        self,
        account: Account,
        text: str,
        *,
        limit: int,
        before: str | None = None,
        states: tuple[State, ...] = (),
        max_searched: int = MAX_SEARCHED,
        timeout_s: float = SEARCH_TIMEOUT_S,
    ) -> tuple[list[Entry], str | None]:
        """Return entries as `page` does, but only those with `text` in prompt or beats (core.plans.prompt_matcher).

        At most `max_searched` entries are examined, for at most `timeout_s` seconds. The second value is the request
        before which none was examined, None if there are no more. It takes several short transactions, so that a paid
        call can come in between.
        """

    async def lines(self, account: Account, keys: Sequence[str]) -> dict[str, RecordedLine]:
        """Return what became of lines of batch files, by their keys, at this gateway and of this owner, with any key of
        the gateway's.

        Of several requests of a line it is the one that is under way, unknown or a success, else the newest.
        """

    async def usage(self, owner: str | None, by: Sequence[UsageKey], since: float) -> list[Usage]:
        """Return the sums of an owner's entries (None: of all owners') since `since`, grouped by the keys `by`, at any
        gateway and with any key, in no particular order."""

    async def totals(self, account: Account) -> Totals:
        """Return the sums of the account's entries. In PostgreSQL a million entries take as long as one."""

    async def durations(self, account: Account, limit: int) -> list[float]:
        """Return the seconds from submission to success of the newest `limit` videos that succeeded."""

    async def under_way(self, scope: Account | Team, limit: int) -> list[Entry]:
        """Return the newest entries of the last 24 hours whose task the gateway has not finished; for a team the newest
        of each account, then the second of each, so that one account with many entries leaves no other out."""

    async def without_address(self, scope: Account | Team, limit: int) -> list[Entry]:
        """Return videos that succeeded within the last hour, but have no address yet."""

    async def unsaved(self, scope: Account | Team, limit: int) -> list[Entry]:
        """Return videos of the last 24 hours that succeeded and have a variant with an address but without a file."""

    async def spending(self, scope: Account | Person | Team) -> Spending:
        """Return the spending that the caps apply to."""

    async def history(self, request_id: str) -> list[tuple[State, float]]:
        """Return every state that an entry has had, with the time at which it began, oldest first."""

    async def states(self) -> dict[State, int]:
        """Return how many entries of all accounts are in each state."""

    async def check(self) -> dict[State, int]:
        """Return how many entries of all accounts are in each state.

        Raises FileProblem if the record, or one of its newest entries, is damaged.
        """
