"""The words for a person at a shell: what to do next is a command that can be pasted, with its id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sora_mcp.cli.pasting import command, option, same_list
from sora_mcp.cli.videos import command_of
from sora_mcp.core.advice import Argument, Call, LookAgain, Message, Part, Restart, SeeList, WaitForAll, parts_of
from sora_mcp.tools.list_videos import USUAL_LIMIT
from sora_mcp.tools.wording import Wording, after


def _quoted(*words: str) -> str:
    return f"`{command(*words)}`"


class ForShell(Wording):
    """The words for a person at a shell."""

    between_facts = "\n"
    failure = ""
    gateways_words = ""

    def __init__(self, typed_names: Mapping[str, str] = MappingProxyType({})) -> None:
        """`typed_names`: what was typed for a tool's arguments. The others are called as in JSON."""
        self._typed_names = typed_names

    def message(self, message: Message) -> str:
        return super().message(tuple(map(self._part, parts_of(message))))

    def _part(self, part: Part) -> Part:
        match part:
            case Restart():
                return "run the command again"
            case Call(tool):
                return _quoted(command_of(tool))
            case Argument(field):
                return ", ".join(dict.fromkeys(map(self._typed, field.split(", "))))
            case _:
                return part

    def _typed(self, field: str) -> str:
        """The option or the word that a problem is about; of several, which."""
        name, bracket, place = field.partition("[")
        if name not in self._typed_names:
            return field
        index = place.partition("]")[0]
        which = f" {int(index) + 1}" if bracket and index.isdecimal() else ""
        return f"{self._typed_names[name]}{which}"

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
        table = [(f"{title}:", *columns[1:]), *rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]

    def argument(self, field: str) -> str:
        return option(field)

    def ask(self, to: str) -> str:
        return f"Please {to}."

    def tell(self, that: str) -> str:
        return f"{that[:1].upper()}{that[1:]}."

    def correct(self) -> str:
        return "Correct that and run the command again."

    def see_log(self) -> str:
        return "The details are in the log above."

    def wait(self, video_id: str) -> str:
        return f"Wait for it with {_quoted('get', video_id, '--wait')}; that is free."

    def wait_for_all(self, advice: WaitForAll) -> str:
        asked = {"query": advice.query, "limit": None if advice.limit == USUAL_LIMIT else advice.limit}
        return f"Wait for all of them with {_quoted(*same_list(asked), '--wait')}; that is free."

    def more(self) -> str:
        return ""  # the command stands below the list

    def look_again(self, advice: LookAgain) -> str:
        when = f" {after(advice.after_s)}" if advice.after_s else " again"
        do_not = "; do not submit it again" if advice.paid else ""
        return f"Look at it with {_quoted('get', advice.video_id)}{when}{do_not}."

    def see_list(self, advice: SeeList) -> str:
        filters = ["--status", advice.status] if advice.status else []
        when = f" {after(advice.after_s)}" if advice.after_s else ""
        return f"Look at your videos with {_quoted('list', *filters)}{when}."

    def use(self, video_id: str, *, can_remix: bool) -> str:
        view, download = _quoted("view", video_id), _quoted("download", video_id)
        if not can_remix:
            return f"Look at it with {view}, or keep it with {download} (addresses may expire)."
        return f"Look at it with {view}, keep it with {download} (addresses may expire), or remix it."

    def save(self, video_id: str) -> str:
        return f"Keep it with {_quoted('download', video_id)}; a player may show it."

    def settle(self, request_ids: tuple[str, ...]) -> str:
        if not request_ids:
            unsettled = _quoted("list", "--status", "unknown")
            return f"Whether it ran can only be seen in the gateway's own log; {unsettled} lists it."
        which = " and ".join(request_ids)
        ways = ", and ".join(
            f"`{command('settle', each)} --task TASK_ID` or {_quoted('settle', each, '--none')}" for each in request_ids
        )
        it = "it" if len(request_ids) == 1 else "each of them"
        return f"Whether {which} ran can only be seen in the gateway's own log; settle {it} then with {ways}."

    def said_not_to_have_run(self, request_id: str) -> str:
        correct = f"`{command('settle', request_id)} --task TASK_ID`"
        return f"A person said that it did not run. If a task of it turns up after all, {correct} corrects that."

    def give_up(self, request_id: str) -> str:
        return f"Give it up with {_quoted('settle', request_id, '--none')}."

    def allow_duplicate(self) -> str:
        return f"If it did not run, {self.argument('allow_duplicate')} submits it."

    def submit(self) -> str:
        return f"Run it again without {option('dry_run')} to submit it."

    def raise_cap(self, setting: str) -> str:
        return f"Only you may raise {setting}."


class ForWhoeverWaits(ForShell):
    """The same for a person whose command waits for the video, and saves it."""

    def wait(self, video_id: str) -> str:  # noqa: ARG002
        return ""

    def use(self, video_id: str, *, can_remix: bool) -> str:  # noqa: ARG002
        return f"Look at it with {_quoted('view', video_id)}."


FOR_SHELL = ForShell()
