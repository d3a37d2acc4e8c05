"""Errors, advice and results as text: what reads the same for an agent and for a person at a shell.

Names of tools, commands and arguments are worded by each surface: `agent_wording` in this package, and `cli.wording`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, assert_never

from pydantic import BaseModel

from sora_mcp.core.advice import (
    Advice,
    AllowDuplicate,
    AskUser,
    CheckAgain,
    CheckKey,
    Configure,
    CopyLedger,
    Correct,
    Do,
    GiveUp,
    LogIn,
    MayBeOutdated,
    Message,
    MoreIds,
    Note,
    RaiseCap,
    Revise,
    Save,
    SeeList,
    SeeLog,
    Setting,
    Settle,
    SettledAsNotRun,
    StartNewLedger,
    Submit,
    TellUser,
    TryAgain,
    UnknownState,
    UnlockKeyStore,
    UseVideo,
    Wait,
    WaitForAll,
    WouldBeRefused,
    WouldRepeat,
    parts_of,
)
from sora_mcp.core.description import Description
from sora_mcp.core.errors import MAX_NAMED, SoraError
from sora_mcp.core.results import Submission, Video, VideoList
from sora_mcp.core.states import describe_state
from sora_mcp.core.tasks import State, is_plain_id

if TYPE_CHECKING:
    from sora_mcp.tools.gateway_advice import GatewayAdvice

MAX_WAIT_S = 50
"""Seconds that a call waits at most: hosts give up after 60."""

VideoAdvice = Wait | WaitForAll | CheckAgain | SeeList | UseVideo | Save
CallAdvice = Correct | Submit | SeeLog
UserAdvice = AskUser | TellUser | MoreIds | RaiseCap | Settle | SettledAsNotRun | GiveUp | AllowDuplicate


class Wording(ABC):
    """The wording of one surface."""

    separator: ClassVar[str] = " "
    """Between the sentences of a text about several things."""
    failure: ClassVar[str]
    """The prefix of an error: some hosts do not tell the model that a result is an error."""
    gateway_message_note: ClassVar[str]
    """Says where the gateway's own text is shown, separate from ours."""

    def message(self, message: Message) -> str:
        """Return a message as text, with settings named by their environment variables."""
        return "".join(
            f"SORA_{part.field.upper()}" if isinstance(part, Setting) else str(part) for part in parts_of(message)
        )

    def next_step(self, error: SoraError) -> str:
        """Word what to do about an error, and after how long if the gateway named that."""
        advice = error.advice
        if error.wait_s:
            again = TryAgain(error.wait_s)
            advice = tuple(again if isinstance(each, TryAgain) else each for each in advice)
            advice = advice if again in advice else (*advice, again)
        return self.advise(*advice, about=error.request_id)

    def advise(self, *advice: Advice, about: str | None = None) -> str:
        """Word advice as sentences. `about`: the request that was just made, if any."""
        addressed = (
            Settle((about,)) if isinstance(each, Settle) and not each.request_ids and about else each for each in advice
        )
        return " ".join(map(self._describe, addressed))

    def note(self, note: Note) -> str:
        """Word what else a paid call would encounter, or has encountered."""
        match note:
            case WouldRepeat(video_id, state):
                same = "its outcome is unknown" if state == "unknown" else f"the same request {describe_state(state)}"
                again = self.argument("allow_duplicate")
                return f"A real call would submit nothing and return {video_id}: {same} ({again} pays for another)."
            case WouldBeRefused(message, advice):
                return f"A real call would be refused now: {self.message(message)} {self.advise(*advice)}"
            case _:
                return note

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
        """Render rows with the same columns, the first of which is a name."""
        lines = []
        for name, *values in rows:
            cells = [f"{column} {value}" for column, value in zip(columns[1:], values, strict=True) if value]
            lines.append(f"{name} ({'; '.join(cells)})")
        return [f"{title}: {', '.join(lines)}."]

    def duplicate(self) -> str:
        """Word what was done, and what can be done, about a duplicate call."""
        return f"nothing was sent or charged now ({self.argument('allow_duplicate')} pays for another)."

    def structured(self, result: BaseModel) -> dict[str, Any]:
        """Return a result as JSON data, with its advice and notes as text."""
        data = result.model_dump(mode="json", exclude_none=True)
        if isinstance(result, Submission):
            data["notes"] = list(map(self.note, result.notes))
            if result.duplicate:  # some hosts show nothing but the structured result
                data["notes"].append(f"Submitted before: {self.duplicate()}")
        if isinstance(result, Submission | Video) or (isinstance(result, VideoList) and result.advice):
            data["next_step"] = self.advise(*result.advice)
        if isinstance(result, Description) and result.problems:
            data |= {"problems": list(map(self.message, result.problems)), "next_step": self.advise(*result.advice)}
        return data

    def _describe(self, advice: Advice) -> str:
        if isinstance(advice, VideoAdvice):
            return self._describe_video_advice(advice)
        if isinstance(advice, CallAdvice):
            return self._describe_call_advice(advice)
        if isinstance(advice, UserAdvice):
            return self._describe_user_advice(advice)
        return self._describe_common_advice(advice)

    def _describe_video_advice(self, advice: VideoAdvice) -> str:
        match advice:
            case Wait(video_id):
                return self.wait(video_id)
            case WaitForAll():
                return self.wait_for_all(advice)
            case CheckAgain():
                return self.check_again(advice)
            case SeeList():
                return self.see_list(advice)
            case UseVideo(video_id, can_remix):
                return self.use(video_id, can_remix=can_remix)
            case Save(video_id):
                return self.save(video_id)

    def _describe_call_advice(self, advice: CallAdvice) -> str:
        match advice:
            case Correct():
                return self.correct()
            case Submit():
                return self.submit()
            case SeeLog():
                return self.see_log()

    def _describe_user_advice(self, advice: UserAdvice) -> str:
        match advice:
            case AskUser(action):
                return self.ask(self.message(action))
            case TellUser(statement):
                return self.tell(self.message(statement))
            case MoreIds(ids):
                return self.tell(_more_ids(ids))
            case RaiseCap(field):
                return self.raise_cap(self.message((Setting(field),)))
            case Settle(request_ids):
                return self.settle(request_ids)
            case SettledAsNotRun(request_id):
                return self.settled_as_not_run(request_id)
            case GiveUp(request_id):
                return self.give_up(request_id)
            case AllowDuplicate():
                return self.allow_duplicate()

    def _describe_common_advice(
        self,
        advice: Do | TryAgain | GatewayAdvice | Revise | StartNewLedger | CopyLedger | UnknownState | MayBeOutdated,
    ) -> str:
        match advice:
            case Do(sentence):
                return self.message(sentence)
            case TryAgain(after_s):
                return f"Try again {format_delay(after_s) if after_s else 'later'}."
            case Configure() | CheckKey() | LogIn() | UnlockKeyStore():
                from sora_mcp.tools.gateway_advice import GATEWAY_ADVICE  # noqa: PLC0415 - rarely needed

                return self.ask(self.message(GATEWAY_ADVICE[type(advice)]))
            case Revise(state):
                return _REVISE[state]
            case StartNewLedger():
                return "If it is lost, `sora-mcp ledger new` starts a new one and keeps what is left of the old one."
            case CopyLedger():
                return "If the copy was interrupted, `sora-mcp ledger copy` resumes it."
            case UnknownState():
                return "The gateway reports a state that this server does not know; it is treated as running."
            case MayBeOutdated(reason):
                return f"Nothing newer is available, so this may be out of date. {self.message(reason)}"
            case _:
                assert_never(advice)

    @abstractmethod
    def argument(self, field: str) -> str:
        """Return the name of an argument."""

    @abstractmethod
    def ask(self, action: str) -> str:
        """Say that the user should do something."""

    @abstractmethod
    def tell(self, statement: str) -> str:
        """Say that the user should know something."""

    @abstractmethod
    def correct(self) -> str:
        """Say that the arguments have to be corrected."""

    @abstractmethod
    def see_log(self) -> str:
        """Say where the details are."""

    @abstractmethod
    def wait(self, video_id: str) -> str:
        """Say how to wait for a video."""

    @abstractmethod
    def wait_for_all(self, advice: WaitForAll) -> str:
        """Say how to wait for everything under way."""

    @abstractmethod
    def more(self) -> str:
        """Say that a list goes on; empty if that is shown outside the sentence."""

    @abstractmethod
    def check_again(self, advice: CheckAgain) -> str:
        """Say how to check a video's state."""

    @abstractmethod
    def see_list(self, advice: SeeList) -> str:
        """Say how to list videos."""

    @abstractmethod
    def use(self, video_id: str, *, can_remix: bool) -> str:
        """Say what can be done with a finished video."""

    @abstractmethod
    def save(self, video_id: str) -> str:
        """Say how to save a video."""

    @abstractmethod
    def settle(self, request_ids: tuple[str, ...]) -> str:
        """Say how a person settles unknown outcomes."""

    @abstractmethod
    def settled_as_not_run(self, request_id: str) -> str:
        """Say how a person corrects what they said of a request."""

    @abstractmethod
    def give_up(self, request_id: str) -> str:
        """Say how a person gives up a task."""

    @abstractmethod
    def allow_duplicate(self) -> str:
        """Say how to submit again what a person says did not run."""

    @abstractmethod
    def submit(self) -> str:
        """Say how to submit what was tried in a dry run."""

    @abstractmethod
    def raise_cap(self, setting: str) -> str:
        """Say who may raise a cap."""


_REVISE: dict[State, str] = {
    "failed": (
        "Only the gateway knows whether it was charged. Change the prompt or the arguments before creating it again: "
        "that costs again."
    ),
    "blocked": (
        "Moderation withheld it; only the gateway knows whether it was charged. Change the prompt before creating it "
        "again: that costs again."
    ),
    "lost": "Nothing is resubmitted automatically. Creating it again costs again; a later answer from the server wins.",
    "rejected": (
        "Nothing was created. Fix what the gateway refused (the request, the key or the balance; status 429 only means "
        "wait), then create it again."
    ),
}


def _more_ids(ids: tuple[str, ...]) -> str:
    """Describe further ids in an answer: of many ids, or of ids that are not plain, only the number."""
    count = len(ids)
    text = f"the gateway named {count} more id{'' if count == 1 else 's'}"
    if count <= MAX_NAMED and all(map(is_plain_id, ids)):
        text += f" ({', '.join(ids)})"
    return f"{text} in its answer"


def format_delay(seconds: float) -> str:
    """Format how long to wait, rounded up."""
    if seconds < 60:
        return f"in {seconds:g} s"
    minutes = math.ceil(seconds / 60)
    return "in a minute" if minutes == 1 else f"in {minutes} minutes"
