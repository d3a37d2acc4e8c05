"""What follows a call at the shell: the video is waited for, saved and opened. None of it is paid for.

Whatever goes wrong here, the video stands as accepted: it is said with the command that goes on with it.
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
from sora_mcp.cli.opening import open_file
from sora_mcp.cli.pasting import command
from sora_mcp.cli.progress import Bar
from sora_mcp.cli.terminal import fitted
from sora_mcp.cli.wording import FOR_SHELL, ForShell, ForWhoeverWaits
from sora_mcp.core.tasks import FINAL
from sora_mcp.studio import Studio
from sora_mcp.tools.wording import LONGEST_WAIT_S


class Following(Struct):
    """What is to follow, and of which video, as soon as that is known.

    `download` saves every variant, or the one that is named (`variant`), as `out` or in the output folder. `variant` is
    as it was typed.
    """

    wait: bool = False
    download: bool = False
    out: Path | None = None
    open_it: bool = False
    variant: int | str | None = None
    video_id: str | None = None

    def file_of(self, variant: int | str, of: int) -> Path | None:
        """The file of one of so many variants: `boat.mp4` is `boat.v2.mp4` where there are several."""
        if self.out is None or of == 1:
            return self.out
        return self.out.with_name(f"{self.out.stem}.v{variant}{self.out.suffix}")

    @property
    def words_to_come_back(self) -> list[str]:
        """The command that does what is left."""
        video_id = self.video_id or ""
        if not self.download:
            return ["get", video_id, "--wait"]
        variant = [] if self.variant in {None, 1} else ["--variant", str(self.variant)]
        out = ["--out", str(self.out)] if self.out is not None else []
        return ["download", video_id, *variant, "--wait", *out, *(["--open"] if self.open_it else [])]


async def follow(
    studio: Studio,
    submitted: tools.Result | None,
    following: Following,
    bar: Bar,
    *,
    typed_names: Mapping[str, str],
    as_json: bool,
) -> tools.Result:
    """Wait for the video of a call that was accepted, and save and open it if that is wanted.

    What became of the call is said at once, on stderr; with `as_json` all is in the result. `submitted`: None where
    nothing was paid now.
    """
    video_id = following.video_id
    if submitted is not None:
        video_id = following.video_id = _of(submitted, studio)
        if video_id is None:
            return submitted
        if not as_json:
            bar.clear()
            click.echo(fitted(submitted.text, sys.stderr), err=True)
    assert video_id is not None  # of a call that is not paid it is an argument
    said = {} if submitted is None else _kept(submitted)
    wording = (ForWhoeverWaits if following.download else ForShell)(typed_names)
    video = await until_finished(studio, "get_video", {"task_id": video_id}, bar, tools.Caller(wording=wording))
    video = dataclasses.replace(video, structured=said | video.structured | _outcome(submitted, video))
    if video.is_error:
        return _with_way_back(video, following)
    if not following.download or video.structured.get("state") != "succeeded":
        return video
    return await _save(studio, video, following, bar)


_KEPT = ("outcome", "duplicate", "request_id", "task_id", "adjusted", "notes", "notice")
"""What the answer to a paid call says that a video does not."""


def _kept(submitted: tools.Result) -> dict[str, Any]:
    return {key: submitted.structured[key] for key in _KEPT if key in submitted.structured}


def _outcome(submitted: tools.Result | None, video: tools.Result) -> dict[str, str]:
    """What became of a call whose answer was late, as its video shows."""
    if submitted is None or not submitted.is_error:
        return {}
    is_rejected = video.structured.get("state") == "rejected"
    return {"outcome": "accepted" if "task_id" in video.structured else "rejected" if is_rejected else "unknown"}


def _of(submitted: tools.Result, studio: Studio) -> str | None:
    """The video that a call made; None where it made none. While its answer is late, it is known by its request."""
    if submitted.is_error:
        is_late = studio.last_sent is not None and studio.last_sent.state == "sending"
        return studio.last_sent.request_id if is_late and studio.last_sent is not None else None
    task_id = submitted.structured.get("task_id")
    return None if task_id is None or submitted.structured["outcome"] == "not_submitted" else str(task_id)


async def until_finished(
    studio: Studio, tool: str, arguments: dict[str, Any], bar: Bar, caller: tools.Caller
) -> tools.Result:
    """What a tool that can wait answers in the end."""
    while True:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bar.tick)
            waiting = arguments | {"wait_seconds": LONGEST_WAIT_S}
            result = await tools.call(studio, tool, waiting, replace(caller, progress=bar.tell))
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


async def _save(studio: Studio, video: tools.Result, following: Following, bar: Bar) -> tools.Result:
    variants = [following.variant] if following.variant else [each["variant"] for each in _generations(video)] or [1]
    of = 1 if following.variant else max(len(variants), video.structured.get("n_variants", 1))
    results = [await _save_one(studio, following, variant, of, bar) for variant in variants]
    text = "\n".join([video.text, *(result.text for result in results)])
    paths = [result.structured["path"] for result in results if not result.is_error]
    structured = video.structured | ({"files": paths, "path": paths[0]} if paths else {})
    if failed := next((result for result in results if result.is_error), None):
        structured |= {"error": failed.structured["error"]}
        return _with_way_back(dataclasses.replace(failed, text=text, structured=structured), following)
    return opened(dataclasses.replace(video, text=text, structured=structured, file=Path(paths[0])), following)


async def _save_one(studio: Studio, following: Following, variant: int | str, of: int, bar: Bar) -> tools.Result:
    caller = tools.Caller(bar.tell, wording=FOR_SHELL, save_as=following.file_of(variant, of))
    return await tools.call(studio, "download_video", {"task_id": following.video_id, "variant": variant}, caller)


def opened(saved: tools.Result, following: Following) -> tools.Result:
    """The result, once its file was opened, if that is wanted; or with the reason why it cannot be."""
    if not following.open_it or saved.file is None:
        return saved
    problem = open_file(saved.file)
    text = saved.text if problem is None else f"{saved.text}\n{problem}"
    return dataclasses.replace(saved, text=text, structured=saved.structured | {"opened": problem is None})


def _generations(video: tools.Result) -> Iterator[dict[str, Any]]:
    return (each for each in video.structured.get("generations", []) if each.get("url"))


def _with_way_back(failed: tools.Result, following: Following) -> tools.Result:
    """An error after the call was accepted, with the command that goes on, unless there is no such video."""
    error = failed.structured["error"]
    if error["kind"] in {"gone", "invalid_input"} or (error["kind"] == "not_found" and not error["retryable"]):
        return failed
    back = f"{following.video_id} is still at the gateway. Go on with: {command(*following.words_to_come_back)}"
    told = f"{failed.text}\n{back}"
    with_way_back = error | {"next_step": f"{error['next_step']} {back}".strip()}
    return dataclasses.replace(failed, text=told, structured=failed.structured | {"error": with_way_back})
