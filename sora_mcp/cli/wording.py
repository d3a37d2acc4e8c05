"""Wording for a user at a shell: next steps are commands that can be pasted, with their ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from sora_mcp.cli.command_lines import command, list_arguments, option
from sora_mcp.cli.videos import command_for
from sora_mcp.core.advice import Argument, Call, CheckAgain, Message, Part, Restart, SeeList, WaitForAll, parts_of
from sora_mcp.tools.list_videos import DEFAULT_LIMIT
from sora_mcp.tools.wording import Wording, format_delay


def _quote(*arguments: str) -> str:
    return f"`{command(*arguments)}`"


class ForShell(Wording):
    """Wording for a user at a shell."""

    separator = "\n"
    failure = ""
    gateway_message_note = ""

    def __init__(self, typed_names: Mapping[str, str] = MappingProxyType({})) -> None:
        """`typed_names`: what was typed for a tool's arguments. Other arguments have their JSON names."""
        self._typed_names = typed_names

    def message(self, message: Message) -> str:
        return super().message(tuple(map(self._render_part, parts_of(message))))

    def _render_part(self, part: Part) -> Part:
        match part:
            case Restart():
                return "run the command again"
            case Call(tool):
                return _quote(command_for(tool))
            case Argument(field):
                return ", ".join(dict.fromkeys(map(self._typed_name, field.split(", "))))
            case _:
                return part

    def _typed_name(self, field: str) -> str:
        """Return the option or argument that a problem is about, with its number if there are several."""
        name, bracket, index_text = field.partition("[")
        if name not in self._typed_names:
            return field
        index = index_text.partition("]")[0]
        number = f" {int(index) + 1}" if bracket and index.isdecimal() else ""
        return f"{self._typed_names[name]}{number}"

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
        table = [(f"{title}:", *columns[1:]), *rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(columns))]
        return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]

    def argument(self, field: str) -> str:
        return option(field)

    def ask(self, action: str) -> str:
        return f"Please {action}."

    def tell(self, statement: str) -> str:
        return f"{statement[:1].upper()}{statement[1:]}."

    def correct(self) -> str:
        return "Correct that and run the command again."

    def see_log(self) -> str:
        return "The details are in the log above."

    def wait(self, video_id: str) -> str:
        return f"Wait for it with {_quote('get', video_id, '--wait')}; that is free."

    def wait_for_all(self, advice: WaitForAll) -> str:
        asked = {"query": advice.query, "limit": None if advice.limit == DEFAULT_LIMIT else advice.limit}
        return f"Wait for all of them with {_quote(*list_arguments(asked), '--wait')}; that is free."

    def more(self) -> str:
        return ""  # the command is printed below the list

    def check_again(self, advice: CheckAgain) -> str:
        when = f" {format_delay(advice.after_s)}" if advice.after_s else " again"
        warning = "; do not submit it again" if advice.paid else ""
        return f"Look at it with {_quote('get', advice.video_id)}{when}{warning}."

    def see_list(self, advice: SeeList) -> str:
        filters = ["--status", advice.status] if advice.status else []
        when = f" {format_delay(advice.after_s)}" if advice.after_s else ""
        return f"Look at your videos with {_quote('list', *filters)}{when}."

    def use(self, video_id: str, *, can_remix: bool) -> str:
        view, download = _quote("view", video_id), _quote("download", video_id)
        if not can_remix:
            return f"Look at it with {view}, or keep it with {download} (addresses may expire)."
        return f"Look at it with {view}, keep it with {download} (addresses may expire), or remix it."

    def save(self, video_id: str) -> str:
        return f"Keep it with {_quote('download', video_id)}; a video player may be able to show it."

    def settle(self, request_ids: tuple[str, ...]) -> str:
        if not request_ids:
            unsettled = _quote("list", "--status", "unknown")
            return f"Only the gateway's own log shows whether it ran; {unsettled} lists it."
        ids = " and ".join(request_ids)
        ways = ", and ".join(
            f"`{command('settle', each)} --task TASK_ID` or {_quote('settle', each, '--none')}" for each in request_ids
        )
        it = "it" if len(request_ids) == 1 else "each of them"
        return f"Only the gateway's own log shows whether {ids} ran; then settle {it} with {ways}."

    def settled_as_not_run(self, request_id: str) -> str:
        correct = f"`{command('settle', request_id)} --task TASK_ID`"
        return f"A person said that it did not run. If its task turns up after all, correct that with {correct}."

    def give_up(self, request_id: str) -> str:
        return f"Give it up with {_quote('settle', request_id, '--none')}."

    def allow_duplicate(self) -> str:
        return f"If it did not run, {self.argument('allow_duplicate')} submits it."

    def submit(self) -> str:
        return f"Run it again without {option('dry_run')} to submit it."

    def raise_cap(self, setting: str) -> str:
        return f"Only you may raise {setting}."


class ForWaitingShell(ForShell):
    """Wording for a user whose command waits for the video and saves it."""

    def wait(self, video_id: str) -> str:  # noqa: ARG002
        return ""

    def use(self, video_id: str, *, can_remix: bool) -> str:  # noqa: ARG002
        return f"Look at it with {_quote('view', video_id)}."


FOR_SHELL = ForShell()
