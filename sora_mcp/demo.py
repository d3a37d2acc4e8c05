"""A complete conversation, as an agent would have it: the real server over stdio, the real client, the sandbox."""

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
_DIALECTS_NEEDING_MODEL = {"videos:generic", "videos:new-api"}
_MISSPELLED_MODEL = "sandbox/aurora2"
_BEATS = [
    {"time": 0, "description": "Snow falls on a quiet mountain village"},
    {"time": 60, "description": "A fox crosses the bridge"},
    {"time": 110, "description": "The windows light up"},
]


def run(folder: Path, dialect: str = SORA) -> None:
    """Run the conversation and leave the videos and their contact sheets in `folder`; the sandbox speaks `dialect`.

    Raise NotConfigured without the extra `media`, ClickException if a call fails or `folder` cannot be written to.
    """
    media.require()
    try:
        with _unwrap_exception_groups():
            anyio.run(_converse, folder, dialect)
    except OSError as error:
        raise click.ClickException(f"{folder} cannot be written to: {error.strerror}.") from None


@contextmanager
def _unwrap_exception_groups() -> Iterator[None]:
    """Raise the first ClickException or other error from the exception group that the client's task groups raise."""
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
    if dialect in _DIALECTS_NEEDING_MODEL:
        environment["SORA_MODEL"] = "sandbox"
    command = StdioServerParameters(command=sys.executable, args=["-m", "sora_mcp"], env=environment)
    async with Client(command) as client:
        agent = _Agent(client, folder)
        tools = await client.list_tools()
        click.echo(f"Connected over stdio. Tools: {', '.join(tool.name for tool in tools.tools)}\n")
        conversations = {SORA: agent.run_sora, OPENROUTER: agent.run_openrouter}
        await conversations.get(dialect, agent.run_videos)()


class _Agent:
    """Calls tools, prints their answers and saves the pictures."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client = client
        self._folder = folder
        self._sheets: list[tuple[str, Path]] = []
        self._shots: list[Shot] = []

    async def run_sora(self) -> None:
        await self._call("create_video", {"prompt": _PROMPT, "dry_run": True})
        day = await self._make_video("create_video", {"prompt": _PROMPT})
        await self._call("create_video", {"prompt": _PROMPT, "width": 480, "height": 1280}, may_fail=True)
        night = await self._make_video(
            "remix_video", {"source_generation_id": day, "prompt": "Now at night, under stars", "amount": 6}
        )
        story = await self._make_video("storyboard_video", {"actions": _BEATS, "prompt": "Winter, stop motion"})
        await self._make_video("blend_videos", {"inpaint_items": [{"generation_id": day}, {"generation_id": story}]})
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

    async def run_videos(self) -> None:
        """Run the conversation on a `/v1/videos` dialect: adjustments are printed, unsupported requests refused."""
        await self._call("create_video", {"prompt": _PROMPT, "width": 854, "height": 480, "dry_run": True})
        day = await self._make_video("create_video", {"prompt": _PROMPT, "width": 854, "height": 480})
        await self._call("create_video", {"prompt": _PROMPT, "n_variants": 12}, may_fail=True)
        change = {"source_generation_id": day, "prompt": "Now at night, under stars"}
        await self._call("remix_video", change, may_fail=True)
        story = await self._make_video("storyboard_video", {"actions": _BEATS, "prompt": "Winter, stop motion"})
        items = [{"generation_id": day}, {"generation_id": story}]
        await self._call("blend_videos", {"inpaint_items": items}, may_fail=True)
        await self._call("get_video", {"task_id": story})
        await self._call("list_videos", {})
        await self._finish()

    async def run_openrouter(self) -> None:
        """Run the conversation with each listed model: unsupported requests are refused, others show their cost."""
        models = (await self._call("describe_gateway", {}))["listed_models"]
        for model in models:
            name = model.rpartition("/")[2]
            with_model = {"prompt": _PROMPT, "model": model}
            await self._call("create_video", with_model | {"width": 480, "height": 480, "dry_run": True}, may_fail=True)
            day = await self._make_video("create_video", with_model, f"{name}-create")
            night = with_model | {"source_generation_id": day, "prompt": "Now at night, under stars"}
            await self._make_video("remix_video", night, f"{name}-remix", may_fail=True)
            winter = with_model | {"actions": _BEATS, "prompt": "Winter, stop motion"}
            story = await self._make_video("storyboard_video", winter, f"{name}-storyboard")
            items = with_model | {"inpaint_items": [{"generation_id": day}, {"generation_id": story}]}
            await self._make_video("blend_videos", items, f"{name}-blend", may_fail=True)
        await self._call("create_video", {"prompt": _PROMPT, "model": _MISSPELLED_MODEL}, may_fail=True)
        await self._call("list_videos", {})
        await self._call("describe_gateway", {})
        await self._finish()

    async def _make_video(
        self, tool: str, arguments: dict[str, Any], sheet_name: str = "", *, may_fail: bool = False
    ) -> str:
        """Create a video, wait for it, view and download it. Return its task id, or "" if the call was refused.

        `sheet_name` defaults to the tool's name.
        """
        created = await self._call(tool, arguments, may_fail=may_fail)
        if "task_id" not in created:
            return ""
        task_id = str(created["task_id"])
        video = await self._call("get_video", {"task_id": task_id, "wait_seconds": 50})
        if video.get("state") != "succeeded":
            raise click.ClickException(f"{task_id} did not succeed: {json.dumps(video)}")
        await self._call("view_video", {"task_id": task_id, "frames": 4}, sheet_name=sheet_name or tool)
        saved = await self._call("download_video", {"task_id": task_id})
        title, sheet = self._sheets[-1]
        caption = str(arguments.get("prompt", "one into the other"))
        self._shots.append(Shot(title, caption, Path(saved["path"]), sheet, "view_video"))
        return task_id

    async def _call(
        self, tool: str, arguments: dict[str, Any], *, sheet_name: str | None = None, may_fail: bool = False
    ) -> dict[str, Any]:
        click.secho(f"agent → {tool} {json.dumps(arguments, ensure_ascii=False)}", fg="cyan")
        result = await self._client.call_tool(tool, arguments, progress_callback=_progress_printer())
        texts = [block.text for block in result.content if isinstance(block, types.TextContent)]
        if result.is_error and not may_fail:
            raise click.ClickException(f"{tool}: {texts[0]}")
        click.echo(f"sora  ← {texts[0]}")
        if arguments.get("dry_run") and not result.is_error:
            click.echo(f"        {json.dumps(result.structured_content['body'])}")
        for block in result.content:
            if isinstance(block, types.ImageContent) and sheet_name:
                path = self._folder / f"{sheet_name}{mimetypes.guess_extension(block.mime_type)}"
                await anyio.Path(path).write_bytes(base64.b64decode(block.data))
                self._sheets.append((sheet_name, path))
                click.echo(f"        (a picture, kept as {path.name})")
        click.echo()
        return dict(result.structured_content or {})


def _progress_printer() -> ProgressFnT:
    """Return a callback that prints each step of a call once."""
    printed: set[str] = set()

    async def show(progress: float, total: float | None, message: str | None) -> None:  # noqa: ARG001
        if message and message != "downloading" and message not in printed:
            printed.add(message)
            click.echo(f"        … {message}")

    return show
