"""A whole conversation, as an agent would hold it: the real server over stdio, the real client, the sandbox."""

from __future__ import annotations

import base64
import json
import mimetypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import click
import mcp_types as types
from mcp import Client, StdioServerParameters
from mcp.shared.dispatcher import ProgressFnT

from sora_mcp import media
from sora_mcp.config.endpoint import OPENROUTER, SORA
from sora_mcp.config.spelling import has_our_prefix
from sora_mcp.media.animation import Shot, save_animation

_PROMPT = "A lighthouse on a cliff at sunset, slow dolly in, warm light on the sea"
_NEED_A_MODEL = {"videos:generic", "videos:new-api"}
_MISSPELT = "sandbox/aurora2"
_BEATS = [
    {"time": 0, "description": "Snow falls on a quiet mountain village"},
    {"time": 60, "description": "A fox crosses the bridge"},
    {"time": 110, "description": "The windows light up"},
]


def run(folder: Path, dialect: str = SORA) -> None:
    """Hold the conversation and leave the videos and their contact sheets in `folder`; the sandbox speaks `dialect`.

    Raises NotConfigured without the extra `media`, ClickException where a call fails or nothing can be written.
    """
    media.require()
    try:
        with _out_of_groups():
            anyio.run(_converse, folder, dialect)
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written to: {error.strerror}.") from None


@contextmanager
def _out_of_groups() -> Iterator[None]:
    """What goes wrong beside the client's task groups comes out of them wrapped; here it is unwrapped again."""
    try:
        yield
    except BaseExceptionGroup as group:
        error = group.subgroup(click.ClickException) or group
        while isinstance(error.exceptions[0], BaseExceptionGroup):
            error = error.exceptions[0]
        raise error.exceptions[0] from None


async def _converse(folder: Path, dialect: str) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not has_our_prefix(name)},
        "SORA_BASE_URL": "sandbox",
        "SORA_HOME": str(folder / ".sora"),
        "SORA_OUTPUT_DIR": str(folder),
        "SORA_SANDBOX_SECONDS": "2",
        "SORA_DIALECT": dialect,
    }
    if dialect in _NEED_A_MODEL:
        environment["SORA_MODEL"] = "sandbox"
    command = StdioServerParameters(command=sys.executable, args=["-m", "sora_mcp"], env=environment)
    async with Client(command) as client:
        agent = _Agent(client, folder)
        listed = await client.list_tools()
        click.echo(f"Connected over stdio. Tools: {', '.join(tool.name for tool in listed.tools)}\n")
        conversations = {SORA: agent.hold, OPENROUTER: agent.hold_with_each_model}
        await conversations.get(dialect, agent.hold_elsewhere)()


class _Agent:
    """Calls tools, says what it sees, keeps the pictures."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._sheets: list[tuple[str, Path]] = []
        self._shots: list[Shot] = []

    async def hold(self) -> None:
        await self._call("create_video", {"prompt": _PROMPT, "dry_run": True})
        day = await self._video("create_video", {"prompt": _PROMPT})
        await self._call("create_video", {"prompt": _PROMPT, "width": 480, "height": 1280}, may_fail=True)
        night = await self._video(
            "remix_video", {"source_generation_id": day, "prompt": "Now at night, under stars", "amount": 6}
        )
        story = await self._video("storyboard_video", {"actions": _BEATS, "prompt": "Winter, stop motion"})
        await self._video("blend_videos", {"inpaint_items": [{"generation_id": day}, {"generation_id": story}]})
        await self._call("download_video", {"task_id": night})
        await self._call("list_videos", {})
        await self._finish()

    async def _finish(self) -> None:
        overview = self._folder / "contact-sheet.png"
        await anyio.to_thread.run_sync(media.overview, self._sheets, overview)
        moving = self._folder / "demo.webp"
        await anyio.to_thread.run_sync(save_animation, self._shots, moving)
        click.echo(f"The videos are in {self._folder}; all of them on one sheet: {overview}")
        click.echo(f"The conversation as a moving picture: {moving}")

    async def hold_elsewhere(self) -> None:
        """The same where an upstream has other words: what is adjusted is told, what cannot be said is refused."""
        await self._call("create_video", {"prompt": _PROMPT, "width": 854, "height": 480, "dry_run": True})
        day = await self._video("create_video", {"prompt": _PROMPT, "width": 854, "height": 480})
        await self._call("create_video", {"prompt": _PROMPT, "n_variants": 12}, may_fail=True)
        change = {"source_generation_id": day, "prompt": "Now at night, under stars"}
        await self._call("remix_video", change, may_fail=True)
        story = await self._video("storyboard_video", {"actions": _BEATS, "prompt": "Winter, stop motion"})
        both = [{"generation_id": day}, {"generation_id": story}]
        await self._call("blend_videos", {"inpaint_items": both}, may_fail=True)
        await self._call("get_video", {"task_id": story})
        await self._call("list_videos", {})
        await self._finish()

    async def hold_with_each_model(self) -> None:
        """The same where models differ in what they take: what one does not take is refused, and what it does is told
        with its cost."""
        models = (await self._call("describe_gateway", {}))["listed_models"]
        for model in models:
            name = model.rpartition("/")[2]
            with_model = {"prompt": _PROMPT, "model": model}
            await self._call("create_video", with_model | {"width": 480, "height": 480, "dry_run": True}, may_fail=True)
            day = await self._video("create_video", with_model, f"{name}-create")
            night = with_model | {"source_generation_id": day, "prompt": "Now at night, under stars"}
            await self._video("remix_video", night, f"{name}-remix", may_fail=True)
            winter = with_model | {"actions": _BEATS, "prompt": "Winter, stop motion"}
            story = await self._video("storyboard_video", winter, f"{name}-storyboard")
            both = with_model | {"inpaint_items": [{"generation_id": day}, {"generation_id": story}]}
            await self._video("blend_videos", both, f"{name}-blend", may_fail=True)
        await self._call("create_video", {"prompt": _PROMPT, "model": _MISSPELT}, may_fail=True)
        await self._call("list_videos", {})
        await self._call("describe_gateway", {})
        await self._finish()

    async def _video(self, tool: str, arguments: dict[str, Any], keep: str = "", *, may_fail: bool = False) -> str:
        """Create, wait, look, download; returns the task id, or nothing where it was refused. `keep`: the sheet's
        name."""
        created = await self._call(tool, arguments, may_fail=may_fail)
        if "task_id" not in created:
            return ""
        task_id = str(created["task_id"])
        video = await self._call("get_video", {"task_id": task_id, "wait_seconds": 50})
        if video.get("state") != "succeeded":
            raise click.ClickException(f"{task_id} did not succeed: {json.dumps(video)}")
        await self._call("view_video", {"task_id": task_id, "frames": 4}, keep=keep or tool)
        saved = await self._call("download_video", {"task_id": task_id})
        title, sheet = self._sheets[-1]
        words = str(arguments.get("prompt", "one into the other"))
        self._shots.append(Shot(title, words, Path(saved["path"]), sheet, "view_video"))
        return task_id

    async def _call(
        self, tool: str, arguments: dict[str, Any], *, keep: str | None = None, may_fail: bool = False
    ) -> dict[str, Any]:
        click.secho(f"agent → {tool} {json.dumps(arguments, ensure_ascii=False)}", fg="cyan")
        result = await self._client.call_tool(tool, arguments, progress_callback=_shown())
        words = [block.text for block in result.content if isinstance(block, types.TextContent)]
        if result.is_error and not may_fail:
            raise click.ClickException(f"{tool}: {words[0]}")
        click.echo(f"sora  ← {words[0]}")
        if arguments.get("dry_run") and not result.is_error:
            click.echo(f"        {json.dumps(result.structured_content['body'])}")
        for block in result.content:
            if isinstance(block, types.ImageContent) and keep:
                path = self._folder / f"{keep}{mimetypes.guess_extension(block.mime_type)}"
                await anyio.Path(path).write_bytes(base64.b64decode(block.data))
                self._sheets.append((keep, path))
                click.echo(f"        (a picture, kept as {path.name})")
        click.echo()
        return dict(result.structured_content or {})


def _shown() -> ProgressFnT:
    """Says each step of a call once."""
    said: set[str] = set()

    async def show(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
        if message and message != "downloading" and message not in said:
            said.add(message)
            click.echo(f"        … {message}")

    return show
