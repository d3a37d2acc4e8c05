"""What every ledger promises, whichever engine keeps it.

An entry is one intent to make a video, under our own id `req_…`; it is durable before anything is sent. Entries carry
the account they were made with: nothing is ever asked of another one. Nothing is deleted. The ledger counts and keeps;
what may be paid is decided by the policy that it is given.
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

SEARCHED = 10_000
"""Entries that one search looks at."""
SEARCH_WITHIN_S = 3.0
"""Seconds that it takes at most."""
LONGEST_MESSAGE = 7_900
"""Bytes of what servers tell each other (PostgreSQL's NOTIFY carries less than 8,000)."""


class RowGone(FileProblem):
    """The record holds an entry no longer that was begun in it: it was taken back to an earlier copy."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            f"The ledger has no {request_id} any more: it was taken back to an earlier copy.",
            AskUser("look for it in the gateway's own log"),
        )


class Listener(Protocol):
    """Who waits for an entry to change."""

    async def heard(self, seconds: float) -> bool:
        """Return once it has changed, else after `seconds`, or a little more where changes are told. Whether it may
        have changed since the last call: always, where nobody tells."""


class Servers(Protocol):
    """What several servers have in common that share a ledger. What is asynchronous raises FileProblem."""

    def now(self) -> float:
        """The ledger's clock, which is the same for all of them."""

    async def seal_keys(self) -> list[bytes]:
        """The keys (32 bytes each) with which the states of questions are sealed, the one to use first; the same for
        every process. A key seals for a day, and opens for at least an hour more."""

    async def use_answer(self, answer_id: str, forget_after_s: float) -> bool:
        """Whether an answer is used for the first time, by whichever process. It is remembered for so many seconds."""

    async def tell_others(self, message: str) -> None:
        """Tell every server that shares the ledger something, this one too, where the engine can. What is longer than
        LONGEST_MESSAGE bytes is told to nobody; so is what comes while a server is away."""

    def hear(self, listener: Callable[[str], None]) -> None:
        """From now on tell `listener`, in this event loop, what servers tell each other."""


class Ledger(Servers, Protocol):
    """The durable record. Every method is one short transaction, and raises FileProblem where the record cannot be
    read or written. Correct with any number of processes at once. Times are unix seconds, of the ledger's own clock.
    """

    def close(self) -> None:
        """Close it; what was recorded stays, what this process was still sending counts as unknown."""

    def owns(self, path: Path | int) -> bool:
        """Whether a path (or an open file) leads to one of the ledger's own files, whatever name it has there."""

    def exists(self) -> bool:
        """Whether anything was ever recorded here."""

    def age(self, entry: Entry) -> float:
        """Seconds since an entry was last brought up to date; for ever where the clock went back since."""

    async def account(self, base_url: str, api_key: str, owner: str = "") -> Account:
        """The account of a key at a gateway: with the fingerprint that the key has in this ledger."""

    # --- paying -----------------------------------------------------------------------------------

    async def begin(self, intent: Intent, policy: SpendingPolicy = NO_POLICY) -> tuple[Entry, bool]:
        """Record an intent as *sending* and return its entry and True. When this returns, it is durable.

        Where the policy takes it for a duplicate nothing is recorded: the first one's entry is returned, and False.
        Raises OverCap where the policy forbids it. The policy decides in the transaction that records the intent, and
        settles what the intent `settles`: all of that happens, or nothing.

        So it is with the `line` of a batch file. A line that has a request already gets that one's entry, and False:
        however old it is, unless it came to nothing and the line is to be sent `after` that very request. What other
        lines of the same file became is no duplicate of it. The line keeps the request that is returned, its own or
        the one that it is a duplicate of.
        """

    async def check_place(self) -> None:
        """Raise FileProblem where nothing can be begun: the record was copied elsewhere, taken back to an earlier
        state, or taken over by a newer release."""

    async def same_before(self, intent: Intent, policy: SpendingPolicy) -> EarlierMatches:
        """What asked for the same thing before: the entry that `begin` would return with False, as can be told
        beforehand, and the newest of the last 24 hours that came to nothing.

        Raises OverCap where `begin` would.
        """

    async def accepted(self, request_id: str, task_id: str, other_ids: Sequence[str] = ()) -> Entry:
        """The gateway gave this task id, and perhaps others beside it.

        Where a person had said meanwhile that another task came of it, this one gets an entry of its own. A task that
        another request has already leaves the outcome *unknown*.
        """

    async def not_accepted(
        self,
        request_id: str,
        state: State,
        reason: str,
        *,
        gateway_message: str | None = None,
        code: str | None = None,
        answer: str | None = None,
    ) -> Entry:
        """Nothing was created (*rejected*), or nobody knows (*unknown*); with the gateway's own words, if any."""

    async def restore(self, entry: Entry) -> None:
        """Make an entry that was being sent again, as *unknown* and under its id, where it is gone (`RowGone`): what
        became of it can be recorded then."""

    async def is_sending(self, request_id: str) -> bool:
        """Whether an entry still stands as *sending* in the record that is in place. Where nobody can tell, it does
        not. Raises nothing."""

    async def settle(
        self, account: Account, request_id: str, task_id: str | None, *, given_up: AbandonedTask | None = None
    ) -> Entry | None:
        """A person looked: an *unknown* entry became this task, or (None) nothing.

        Nothing also came of the task `given_up`, which is under way. None where there is no such entry, or the task
        belongs to another request.
        """

    # --- following --------------------------------------------------------------------------------

    async def adopt(self, account: Account, task_id: str, task: Task, dialect: str | None = None) -> Entry:
        """Record a task that was made elsewhere with the same key, or bring the entry that is there up to date.

        `dialect`: the name of the words that it was asked about in.
        """

    def lease(
        self, request_id: str, pause_s: float = 0, *, seen: Entry | None = None
    ) -> AbstractAsyncContextManager[bool]:
        """Whether this process alone may ask the gateway about a task now; nobody else does until this ends.

        `seen`: the entry as it was when there was reason to ask. Where somebody has asked since then, there is none.

        What goes wrong inside counts as a failed poll: the task is not asked about for `pause_s` seconds then, or as
        long as the gateway asked for. The lease of a process that is killed ends by itself within seconds.
        """

    async def record(self, asked: Entry, task: Task, quiet_s: float | None = 0) -> Entry:
        """What a query said of the task of an entry; it is not asked again for `quiet_s` seconds.

        With None nothing changes about when it may be asked: a lease, and the failures before it, stay as they are.
        A final state stays; addresses are kept up to date. Where another entry has the task now, it is that one's.
        """

    async def missed(self, asked: Entry) -> Entry:
        """The gateway does not know the task of an entry: since when, is kept until it knows it again."""

    async def saved(self, request_id: str, variant: int, file: Path) -> None:
        """A variant was downloaded to `file`."""

    async def is_file_of_another(self, request_id: str, file: Path) -> bool:
        """Whether a file was saved for another entry."""

    def listen(self, request_id: str) -> AbstractContextManager[Listener]:
        """Hear of what others change about an entry, from here on."""

    # --- reading ----------------------------------------------------------------------------------

    async def find(self, account: Account, video_id: str) -> Entry | None:
        """The entry of a `task_…` or `req_…` id at this gateway and of this owner, whatever key it was made with."""

    async def find_generation(self, account: Account, generation_id: str) -> tuple[Entry, Generation] | None:
        """The entry and the variant that a `gen_…` id belongs to."""

    async def ids_beginning_with(self, account: Account, text: str, limit: int) -> list[str]:
        """The task ids at this gateway and of this owner that begin with `text`, newest first; request ids where it
        begins with `req_`. Of hundreds, any; where those of all owners that begin so are more than SEARCHED, perhaps
        none."""

    async def is_of_another_owner(self, account: Account, shown_id: str) -> bool:
        """Whether a `task_…` or `gen_…` id stands here under the same gateway and key, but another owner."""

    async def page(
        self, account: Account, *, limit: int, before: str | None = None, states: tuple[State, ...] = ()
    ) -> list[Entry]:
        """Entries, newest first: at most `limit`, made before the request `before`, in one of `states` if any are
        given. Raises NotFound where the account has no request `before`."""

    async def search(
        self,
        account: Account,
        text: str,
        *,
        limit: int,
        before: str | None = None,
        states: tuple[State, ...] = (),
        most: int = SEARCHED,
        within_s: float = SEARCH_WITHIN_S,
    ) -> tuple[list[Entry], str | None]:
        """Entries as `page` gives them, of those whose prompt or beats hold `text` (core.plans.prompt_matcher).

        `most` entries are looked at, for `within_s` seconds at most. The second value is the request before which none
        was, None where there are no more. Several short transactions: a paid call comes in between.
        """

    async def lines(self, account: Account, keys: Sequence[str]) -> dict[str, RecordedLine]:
        """What became of lines of batch files, by their keys, at this gateway and of this owner, whatever key.

        Of several requests of a line it is the one that is under way, unknown or a success, else the newest.
        """

    async def usage(self, owner: str | None, by: Sequence[UsageKey], since: float) -> list[Usage]:
        """What entries of an owner (None: of everybody) add up to that were made since then, in groups that differ in
        the keys `by`, at whichever gateway and with whatever key. In no particular order."""

    async def totals(self, account: Account) -> Totals:
        """What the account's entries add up to. In PostgreSQL it takes as long for a million entries as for one."""

    async def durations(self, account: Account, limit: int) -> list[float]:
        """Seconds from the submission to the success of the newest `limit` videos that succeeded."""

    async def under_way(self, whose: Account | Team, limit: int) -> list[Entry]:
        """The newest entries of the last 24 hours whose task the gateway has not finished; of a team the newest of each
        account, then the second of each, so that nobody's many leave another's out."""

    async def without_address(self, whose: Account | Team, limit: int) -> list[Entry]:
        """Videos that succeeded within the last hour, but have no address yet."""

    async def unsaved(self, whose: Account | Team, limit: int) -> list[Entry]:
        """Videos of the last 24 hours that succeeded and have a variant with an address and without a file."""

    async def spending(self, whose: Account | Person | Team) -> Spending:
        """What the caps look at."""

    async def history(self, request_id: str) -> list[tuple[State, float]]:
        """Every state that an entry has had, with the time at which it began, oldest first."""

    async def states(self) -> dict[State, int]:
        """How many entries stand in each state, of all accounts."""

    async def check(self) -> dict[State, int]:
        """How many entries stand in each state, of all accounts.

        Raises FileProblem where the record is damaged, or one of its newest entries.
        """
