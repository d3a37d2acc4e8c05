"""What follows a call at the shell: waiting for the video, saving and opening it. None of it costs money.

If any of this fails, the video is still accepted: the error comes with the command that continues with it.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import click
from msgspec import Struct
from msgspec.structs import replace

from sora_mcp import tools
from sora_mcp.cli.command_lines import command
from sora_mcp.cli.desktop import open_file
from sora_mcp.cli.progress import Bar
from sora_mcp.cli.terminal import wrap_text
from sora_mcp.cli.wording import FOR_SHELL, ForShell, ForWaitingShell
from sora_mcp.core.tasks import FINAL
from sora_mcp.studio import Studio
from sora_mcp.tools.wording import MAX_WAIT_S


class FollowUp(Struct):
    """What to do after a call, and the video (`video_id`) as soon as it is known.

    `download` saves every variant, or only `variant`, as `out` or in the output folder. `variant` is as it was typed.
    """

    wait: bool = False
    download: bool = False
    out: Path | None = None
    open_it: bool = False
    variant: int | str | None = None
    video_id: str | None = None

    def file_for(self, variant: int | str, variant_count: int) -> Path | None:
        """Return the file for a variant: `boat.mp4` becomes `boat.v2.mp4` if there are several variants."""
        if self.out is None or variant_count == 1:
            return self.out
        return self.out.with_name(f"{self.out.stem}.v{variant}{self.out.suffix}")

    @property
    def resume_arguments(self) -> list[str]:
        """The arguments of the command that does what is left."""
        video_id = self.video_id or ""
        if not self.download:
            return ["get", video_id, "--wait"]
        variant = [] if self.variant in {None, 1} else ["--variant", str(self.variant)]
        out = ["--out", str(self.out)] if self.out is not None else []
        return ["download", video_id, *variant, "--wait", *out, *(["--open"] if self.open_it else [])]


async def follow(
    studio: Studio,
    submitted: tools.Result | None,
    follow_up: FollowUp,
    bar: Bar,
    *,
    typed_names: Mapping[str, str],
    as_json: bool,
) -> tools.Result:
    """Wait for the video of an accepted call, and save and open it if requested.

    The outcome of the call is printed on stderr at once; with `as_json` everything is in the result. `submitted` is
    None if this command paid for nothing.
    """
    video_id = follow_up.video_id
    if submitted is not None:
        video_id = follow_up.video_id = _video_id(submitted, studio)
        if video_id is None:
            return submitted
        if not as_json:
            bar.clear()
            click.echo(wrap_text(submitted.text, sys.stderr), err=True)
    assert video_id is not None  # for an unpaid call it is an argument
    submission_fields = {} if submitted is None else _submission_fields(submitted)
    wording = (ForWaitingShell if follow_up.download else ForShell)(typed_names)
    video = await wait_until_finished(studio, "get_video", {"task_id": video_id}, bar, tools.Caller(wording=wording))
    video = dataclasses.replace(video, structured=submission_fields | video.structured | _outcome(submitted, video))
    if video.is_error:
        return _with_resume_command(video, follow_up)
    if not follow_up.download or video.structured.get("state") != "succeeded":
        return video
    return await _save(studio, video, follow_up, bar)


_SUBMISSION_FIELDS = ("outcome", "duplicate", "request_id", "task_id", "adjusted", "notes", "notice")
"""Fields of the answer to a paid call that a video's result lacks."""


def _submission_fields(submitted: tools.Result) -> dict[str, Any]:
    return {key: submitted.structured[key] for key in _SUBMISSION_FIELDS if key in submitted.structured}


def _outcome(submitted: tools.Result | None, video: tools.Result) -> dict[str, str]:
    """Return the outcome of a call that got no answer in time, as its video shows it."""
    if submitted is None or not submitted.is_error:
        return {}
    is_rejected = video.structured.get("state") == "rejected"
    return {"outcome": "accepted" if "task_id" in video.structured else "rejected" if is_rejected else "unknown"}


def _video_id(submitted: tools.Result, studio: Studio) -> str | None:
    """Return the id of the video that a call created, or None. A call still being sent has only its request id."""
    if submitted.is_error:
        is_late = studio.last_sent is not None and studio.last_sent.state == "sending"
        return studio.last_sent.request_id if is_late and studio.last_sent is not None else None
    task_id = submitted.structured.get("task_id")
    return None if task_id is None or submitted.structured["outcome"] == "not_submitted" else str(task_id)


async def wait_until_finished(
    studio: Studio, tool: str, arguments: dict[str, Any], bar: Bar, caller: tools.Caller
) -> tools.Result:
    """Call a tool that can wait until there is nothing left to wait for; return its last result."""
    while True:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bar.tick)
            wait_arguments = arguments | {"wait_seconds": MAX_WAIT_S}
            result = await tools.call(studio, tool, wait_arguments, replace(caller, progress=bar.report))
            tasks.cancel_scope.cancel()
        if result.is_error or _is_settled(result.structured, studio):
            return result


def _is_settled(structured: dict[str, Any], studio: Studio) -> bool:
    """Whether there is nothing left to wait for: a video has finished, or all of a list have."""
    if "waited_for" in structured:
        return bool(structured["finished"] == structured["waited_for"])
    state = structured.get("state")
    if state == "sending" and studio.last_sent is not None:
        return studio.last_sent.request_id != structured.get("request_id")
    return state in FINAL or state in {"unknown", "sending"}


async def _save(studio: Studio, video: tools.Result, follow_up: FollowUp, bar: Bar) -> tools.Result:
    variants = [follow_up.variant] if follow_up.variant else [each["variant"] for each in _generations(video)] or [1]
    variant_count = 1 if follow_up.variant else max(len(variants), video.structured.get("n_variants", 1))
    results = [await _save_one(studio, follow_up, variant, variant_count, bar) for variant in variants]
    text = "\n".join([video.text, *(result.text for result in results)])
    paths = [result.structured["path"] for result in results if not result.is_error]
    structured = video.structured | ({"files": paths, "path": paths[0]} if paths else {})
    if failed := next((result for result in results if result.is_error), None):
        structured |= {"error": failed.structured["error"]}
        return _with_resume_command(dataclasses.replace(failed, text=text, structured=structured), follow_up)
    return open_result(dataclasses.replace(video, text=text, structured=structured, file=Path(paths[0])), follow_up)


async def _save_one(
    studio: Studio, follow_up: FollowUp, variant: int | str, variant_count: int, bar: Bar
) -> tools.Result:
    caller = tools.Caller(bar.report, wording=FOR_SHELL, save_as=follow_up.file_for(variant, variant_count))
    return await tools.call(studio, "download_video", {"task_id": follow_up.video_id, "variant": variant}, caller)


def open_result(saved: tools.Result, follow_up: FollowUp) -> tools.Result:
    """Open the file of the result if requested; add the reason to the result if that fails."""
    if not follow_up.open_it or saved.file is None:
        return saved
    problem = open_file(saved.file)
    text = saved.text if problem is None else f"{saved.text}\n{problem}"
    return dataclasses.replace(saved, text=text, structured=saved.structured | {"opened": problem is None})


def _generations(video: tools.Result) -> Iterator[dict[str, Any]]:
    return (each for each in video.structured.get("generations", []) if each.get("url"))


def _with_resume_command(failed: tools.Result, follow_up: FollowUp) -> tools.Result:
    """Add the command that continues to an error after an accepted call, unless there is no such video."""
    error = failed.structured["error"]
    if error["kind"] in {"gone", "invalid_input"} or (error["kind"] == "not_found" and not error["retryable"]):
        return failed
    hint = f"{follow_up.video_id} is still at the gateway. Go on with: {command(*follow_up.resume_arguments)}"
    text = f"{failed.text}\n{hint}"
    error = error | {"next_step": f"{error['next_step']} {hint}".strip()}
    return dataclasses.replace(failed, text=text, structured=failed.structured | {"error": error})
