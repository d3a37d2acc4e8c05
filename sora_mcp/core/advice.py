"""What to do next, as values: an error or a result carries them, and each surface words them for its reader.

An agent reads of tools and arguments, a person at a shell of commands; neither is known here. A message (what is
wrong) is a text, or a text in parts where it names a setting, which is called differently on different surfaces, or
something of this machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from sora_mcp.core.tasks import State


class Setting(Struct, frozen=True):
    """A setting in a message, by the name of its field."""

    field: str

    def __str__(self) -> str:
        return self.field


class Place(Struct, frozen=True):
    """Something of this machine in a message: a path, or a command. Whoever is on another machine reads `elsewhere`."""

    text: str
    elsewhere: str

    def __str__(self) -> str:
        return self.text


class Argument(Struct, frozen=True):
    """An argument in a message, or a place in one, such as `inpaint_items[0].url`."""

    field: str

    def __str__(self) -> str:
        return self.field


class Restart(Struct, frozen=True):
    """In a message, what starts this program again: a server is restarted, a command is run again."""

    def __str__(self) -> str:
        return "restart this server"


class Call(Struct, frozen=True):
    """In a message, what does something else: a tool, which at a shell is a command."""

    tool: str

    def __str__(self) -> str:
        return self.tool


Part = str | Setting | Place | Argument | Restart | Call
Message = str | tuple[Part, ...]
"""A text, or its parts in order."""


def parts_of(*messages: Message) -> tuple[Part, ...]:
    """The parts of several messages, one after the other."""
    return tuple(part for each in messages for part in ((each,) if isinstance(each, str) else each))


def plain(message: Message) -> str:
    """A message for a log or a record: settings stand as the names of their fields."""
    return "".join(map(str, parts_of(message)))


def sentences(messages: Iterable[Message]) -> tuple[Part, ...]:
    """The parts of several sentences, with spaces between."""
    return parts_of(*(part for each in messages for part in (" ", each)))[1:]


class Do(Struct, frozen=True):
    """Something that reads the same everywhere; a whole sentence."""

    sentence: Message


class AskUser(Struct, frozen=True):
    """The user should do something; `to` is an infinitive without its "to": "check the network"."""

    to: Message


class TellUser(Struct, frozen=True):
    """The user should know something; `that` is a clause without a full stop."""

    that: Message


class TryAgain(Struct, frozen=True):
    """The same call may work after a while, in seconds where that is known."""

    after_s: float | None = None


class Correct(Struct, frozen=True):
    """The arguments have to be corrected."""


class Configure(Struct, frozen=True):
    """The gateway's address and key have to be set."""


class CheckKey(Struct, frozen=True):
    """The gateway refuses the key: it has to be set, or kept, anew."""


class LogIn(Struct, frozen=True):
    """A person has to log in to the gateway, or set its key."""


class UnlockKeyStore(Struct, frozen=True):
    """The system's key store does not give the key: a person has to unlock it, or keep the key elsewhere."""


class RaiseCap(Struct, frozen=True):
    """Only the user may raise a cap; `field` is its setting's."""

    field: str


class SeeLog(Struct, frozen=True):
    """The details are in the log."""


class Wait(Struct, frozen=True):
    """Wait until a video has finished."""

    video_id: str


class WaitForAll(Struct, frozen=True):
    """Wait until all videos that are under way have finished, and list them: those with the text, so many at most. No
    state: what has finished is not in it any more."""

    query: str | None = None
    limit: int | None = None


class LookAgain(Struct, frozen=True):
    """Look at the state of a video, after so many seconds. `paid`: it may run; it must not be submitted again."""

    video_id: str
    after_s: int = 0
    paid: bool = False


class SeeList(Struct, frozen=True):
    """Look at the list of videos, after so many seconds."""

    status: State | None = None
    after_s: int = 0


class UseVideo(Struct, frozen=True):
    """A finished video can be looked at, saved and, where the gateway can do that, changed."""

    video_id: str
    can_remix: bool = True


class Save(Struct, frozen=True):
    """Save a video as a file."""

    video_id: str


class Revise(Struct, frozen=True):
    """The request came to nothing (`failed`, `blocked` or `rejected`): change it before paying again."""

    state: State


class Settle(Struct, frozen=True):
    """A person has to find out at the gateway what became of these requests; none: of the one that this is about."""

    request_ids: tuple[str, ...] = ()


class SaidNotToHaveRun(Struct, frozen=True):
    """A person said that a request did not run; if they were wrong, a task of its corrects that."""

    request_id: str


class GiveUp(Struct, frozen=True):
    """A person may give up the task of a request."""

    request_id: str


class AllowDuplicate(Struct, frozen=True):
    """Where a person says that a request of unknown outcome did not run, the same one can be sent again."""


class Submit(Struct, frozen=True):
    """This was a dry run; the same call submits it."""


class StartNewLedger(Struct, frozen=True):
    """Where the ledger is lost, a person can start a new one."""


class CopyLedger(Struct, frozen=True):
    """A copy of the ledger to a database did not end: a person can go on with it."""


class MoreIds(Struct, frozen=True):
    """The gateway named more ids than one in its answer: data, not all of them fit to stand in a sentence."""

    ids: tuple[str, ...]


class UnknownState(Struct, frozen=True):
    """The gateway reports a state that is not known here."""


class KnownBefore(Struct, frozen=True):
    """Nothing newer could be found out; why."""

    trouble: Message


Advice = (
    Do
    | AskUser
    | TellUser
    | TryAgain
    | Correct
    | Configure
    | CheckKey
    | LogIn
    | UnlockKeyStore
    | RaiseCap
    | SeeLog
    | Wait
    | WaitForAll
    | LookAgain
    | SeeList
    | UseVideo
    | Save
    | Revise
    | Settle
    | SaidNotToHaveRun
    | GiveUp
    | AllowDuplicate
    | Submit
    | StartNewLedger
    | CopyLedger
    | MoreIds
    | UnknownState
    | KnownBefore
)


class WouldRepeat(Struct, frozen=True):
    """A real call would be a duplicate of this video."""

    video_id: str
    state: State


class WouldBeRefused(Struct, frozen=True):
    """A real call would be refused: why, and what to do about that. `will_pass`: not any more once a video has
    finished."""

    message: Message
    advice: tuple[Advice, ...]
    will_pass: bool = False


Note = str | WouldRepeat | WouldBeRefused
"""What else a paid call would meet, or has met."""
