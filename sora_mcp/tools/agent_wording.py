"""Wording for an agent: a next step is a tool to call, or something to tell or ask the user."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from sora_mcp.core.advice import CheckAgain, SeeList, WaitForAll
from sora_mcp.core.results import VideoList
from sora_mcp.tools.wording import MAX_WAIT_S, Wording, format_delay


class ForAgents(Wording):
    """Wording for an agent, which calls tools and works for a user."""

    failure = "Error: "
    gateway_message_note = "The gateway's own words are in gateway_message."

    def __init__(self, wait_s: int = MAX_WAIT_S) -> None:
        """`wait_s`: the seconds that a call may wait."""
        reason = "" if wait_s == MAX_WAIT_S else " (this host gave up on a longer call)"
        self._waiting = f"wait_seconds {wait_s}{reason}"

    def argument(self, field: str) -> str:
        return field

    def ask(self, action: str) -> str:
        return f"Ask the user to {action}."

    def tell(self, statement: str) -> str:
        return f"Tell the user: {statement}."

    def correct(self) -> str:
        return "Correct the arguments and call again."

    def see_log(self) -> str:
        return "Tell the user; details are in the server's log."

    def wait(self, video_id: str) -> str:
        return f"Call get_video with {video_id} and {self._waiting} until it has finished; that is free."

    def wait_for_all(self, advice: WaitForAll) -> str:
        query = "" if advice.query is None else "the same query and "
        return f"Call list_videos with {query}{self._waiting} until all have finished; that is free."

    def more(self) -> str:
        return "There are more: call again with cursor."

    def structured(self, result: BaseModel) -> dict[str, Any]:
        data = super().structured(result)
        for video in data["videos"] if isinstance(result, VideoList) else ():
            if "task_id" in video:
                del video["request_id"]  # a page of ten is read by a model: one id each
        return data

    def check_again(self, advice: CheckAgain) -> str:
        when = f" {format_delay(advice.after_s)}" if advice.after_s else " again"
        return f"Call get_video with {advice.video_id}{when}{'; do not submit it again' if advice.paid else ''}."

    def see_list(self, advice: SeeList) -> str:
        status = f" with status {advice.status}" if advice.status else ""
        return f"Call list_videos{status}{f' {format_delay(advice.after_s)}' if advice.after_s else ''}."

    def use(self, video_id: str, *, can_remix: bool) -> str:  # noqa: ARG002 - the id stands in the same result
        if not can_remix:
            return "Look at it with view_video, or keep it with download_video (addresses may expire)."
        return "Look at it with view_video, keep it with download_video (addresses may expire), or remix it."

    def save(self, video_id: str) -> str:
        return f"Call download_video with {video_id} to keep it; a video player may be able to show it."

    def settle(self, request_ids: tuple[str, ...]) -> str:
        ids, each = " and ".join(request_ids) or "it", "each of them" if len(request_ids) > 1 else "it"
        settle = f"sora-mcp settle {request_ids[0] if len(request_ids) == 1 else 'REQUEST_ID'}"
        return (
            f"Tell the user: only the gateway's own log shows whether {ids} ran; they settle {each} with "
            f"`{settle} --task task_…` or `{settle} --none`."
        )

    def settled_as_not_run(self, request_id: str) -> str:
        correct = f"sora-mcp settle {request_id} --task task_…"
        return f"A person said that it did not run. If its task turns up after all, that is corrected by: {correct}"

    def give_up(self, request_id: str) -> str:
        return f"Tell the user, who can run: sora-mcp settle {request_id} --none"

    def allow_duplicate(self) -> str:
        return f"If the user tells you that it did not run, {self.argument('allow_duplicate')} submits it."

    def submit(self) -> str:
        return "Call again without dry_run to submit it."

    def raise_cap(self, setting: str) -> str:
        return f"Only the user may raise {setting}: tell them, and do not try to work around it."


FOR_AGENTS = ForAgents()
