"""What to do next, as values: an error or a result carries them, and each surface words them for its reader.

An agent reads about tools and arguments, a person at a shell about commands; neither is known here. A message (what is
wrong) is a text, or a text in parts if it names a setting, which has different names on different surfaces, or
something on this machine.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from sora_mcp.core.tasks import State


class Setting(Struct, frozen=True):
    """A setting in a message, by its field name."""

    field: str

    def __str__(self) -> str:
        return self.field


class LocalText(Struct, frozen=True):
    """A path or a command of this machine in a message. Readers on another machine see `remote`."""

    text: str
    remote: str

    def __str__(self) -> str:
        return self.text


class Argument(Struct, frozen=True):
    """An argument in a message, or a path in one, such as `inpaint_items[0].url`."""

    field: str

    def __str__(self) -> str:
        return self.field


class Restart(Struct, frozen=True):
    """The instruction in a message to start this program again: a server is restarted, a command run again."""

    def __str__(self) -> str:
        return "restart this server"


class Call(Struct, frozen=True):
    """Another tool in a message; at a shell, it is a command."""

    tool: str

    def __str__(self) -> str:
        return self.tool


Part = str | Setting | LocalText | Argument | Restart | Call
Message = str | tuple[Part, ...]
"""A text, or its parts in order."""


def parts_of(*messages: Message) -> tuple[Part, ...]:
    """Return the parts of several messages, in order."""
    return tuple(part for each in messages for part in ((each,) if isinstance(each, str) else each))


def plain(message: Message) -> str:
    """Return a message as text for a log or a record. Settings appear under their field names."""
    return "".join(map(str, parts_of(message)))


def sentences(messages: Iterable[Message]) -> tuple[Part, ...]:
    """Return the parts of several sentences, separated by spaces."""
    return parts_of(*(part for each in messages for part in (" ", each)))[1:]


class Do(Struct, frozen=True):
    """A whole sentence that reads the same on every surface."""

    sentence: Message


class AskUser(Struct, frozen=True):
    """The user should do something. `action` is an infinitive without "to": "check the network"."""

    action: Message


class TellUser(Struct, frozen=True):
    """The user should know something. `statement` is a clause without a full stop."""

    statement: Message


class TryAgain(Struct, frozen=True):
    """The same call may work later, after `after_s` seconds if that is known."""

    after_s: float | None = None


class Correct(Struct, frozen=True):
    """The arguments have to be corrected."""


class Configure(Struct, frozen=True):
    """The gateway's address and key have to be set."""


class CheckKey(Struct, frozen=True):
    """The gateway refuses the key: it has to be set or stored anew."""


class LogIn(Struct, frozen=True):
    """A person has to log in to the gateway, or set its key."""


class UnlockKeyStore(Struct, frozen=True):
    """The system's key store does not return the key: a person has to unlock it, or store the key elsewhere."""


class RaiseCap(Struct, frozen=True):
    """Only the user may raise a cap. `field` is the field of its setting."""

    field: str


class SeeLog(Struct, frozen=True):
    """The details are in the log."""


class Wait(Struct, frozen=True):
    """Wait until a video has finished."""

    video_id: str


class WaitForAll(Struct, frozen=True):
    """Wait until all videos under way have finished, and list those with the text `query`, at most `limit`. Without a
    state: a finished video has left it."""

    query: str | None = None
    limit: int | None = None


class CheckAgain(Struct, frozen=True):
    """Check the state of a video after `after_s` seconds. `paid`: it may run, and must not be submitted again."""

    video_id: str
    after_s: int = 0
    paid: bool = False


class SeeList(Struct, frozen=True):
    """Look at the list of videos after `after_s` seconds."""

    status: State | None = None
    after_s: int = 0


class UseVideo(Struct, frozen=True):
    """A finished video can be viewed, saved and, if the gateway supports it, remixed."""

    video_id: str
    can_remix: bool = True


class Save(Struct, frozen=True):
    """Save a video as a file."""

    video_id: str


class Revise(Struct, frozen=True):
    """The request produced no video (`failed`, `blocked` or `rejected`): change it before paying again."""

    state: State


class Settle(Struct, frozen=True):
    """A person has to find out at the gateway what became of these requests. None: of the current one."""

    request_ids: tuple[str, ...] = ()


class SettledAsNotRun(Struct, frozen=True):
    """A person said that a request did not run; if they were wrong, its task id corrects that."""

    request_id: str


class GiveUp(Struct, frozen=True):
    """A person may give up the task of a request."""

    request_id: str


class AllowDuplicate(Struct, frozen=True):
    """If a person says that a request of unknown outcome did not run, the same one can be sent again."""


class Submit(Struct, frozen=True):
    """This was a dry run; the same call submits it."""


class StartNewLedger(Struct, frozen=True):
    """If the ledger is lost, a person can start a new one."""


class CopyLedger(Struct, frozen=True):
    """A copy of the ledger to a database was interrupted: a person can continue it."""


class MoreIds(Struct, frozen=True):
    """The gateway named several ids in its answer: data, not all of them fit for a sentence."""

    ids: tuple[str, ...]


class UnknownState(Struct, frozen=True):
    """The gateway reports a state that is not known here."""


class MayBeOutdated(Struct, frozen=True):
    """Nothing newer could be found out, for this reason."""

    reason: Message


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
    | CheckAgain
    | SeeList
    | UseVideo
    | Save
    | Revise
    | Settle
    | SettledAsNotRun
    | GiveUp
    | AllowDuplicate
    | Submit
    | StartNewLedger
    | CopyLedger
    | MoreIds
    | UnknownState
    | MayBeOutdated
)


class WouldRepeat(Struct, frozen=True):
    """A real call would be a duplicate of this video."""

    video_id: str
    state: State


class WouldBeRefused(Struct, frozen=True):
    """A real call would be refused: why, and what to do about it. `is_temporary`: only until a video has finished."""

    message: Message
    advice: tuple[Advice, ...]
    is_temporary: bool = False


Note = str | WouldRepeat | WouldBeRefused
"""What else a paid call would encounter, or has encountered."""
