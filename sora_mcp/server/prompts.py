"""Prompts, which people start with a slash command. Each has the agent show body and cost first, and pay once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import mcp_types as types
from mcp.server.context import ServerRequestContext
from mcp.shared.exceptions import MCPError
from msgspec import Struct

from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import clean
from sora_mcp.studio import Studio
from sora_mcp.tools.arguments import did_you_mean

Context = ServerRequestContext[Studio]

MAX_TEXT_LENGTH = 4000
"""Characters of one argument; the rest is cut off."""

_PAY_ONCE = (
    "Call it with dry_run first, tell me the cost (a relative cost, or money) and wait for my yes; then call it again, "
    "once, without dry_run. If its outcome is unknown, do not call it again: tell me."
)
_PAY_THRICE = (
    "Make the first with dry_run first, tell me what it costs and wait for my yes to all three; then make each once, "
    "without dry_run. If an outcome is unknown, make no more: tell me."
)
_N_VERSIONS = 3
_WAIT = "Then call get_video with wait_seconds 50, again and again, until it has finished"
_REVIEW = "look at it with view_video and tell me in two sentences how it compares with what I asked for"


class PromptTemplate(Struct, frozen=True):
    """One prompt: its arguments (name → description; some are required), and how their values and the gateway's
    capabilities become the user's message."""

    name: str
    title: str
    description: str
    arguments: Mapping[str, str]
    required: frozenset[str]
    render: Callable[[Mapping[str, str], Capabilities], str]

    @property
    def as_prompt(self) -> types.Prompt:
        """The prompt as listed by `prompts/list`."""
        arguments = [
            types.PromptArgument(name=name, description=description, required=name in self.required)
            for name, description in self.arguments.items()
        ]
        return types.Prompt(name=self.name, title=self.title, description=self.description, arguments=arguments)


def _shoot(texts: Mapping[str, str], _: Capabilities) -> str:
    return (
        f"Make a video with create_video{_shape(texts)}. The prompt is the text between the lines; keep its wording.\n"
        f"{_quoted(texts['scene'])}\n{_PAY_ONCE} {_WAIT}, {_REVIEW}."
    )


def _storyboard(texts: Mapping[str, str], _: Capabilities) -> str:
    return (
        "Turn the idea between the lines into a storyboard: a few beats, each with the time it begins at and one "
        f"sentence that says what is seen.\n{_quoted(texts['idea'])}\n"
        f"Show me the beats and change them as I wish. Then use storyboard_video{_shape(texts)}; a time is "
        f"a frame ({FPS} per second), and every time lies before the end. {_PAY_ONCE} {_WAIT}, {_REVIEW}."
    )


def _variations(texts: Mapping[str, str], limits: Capabilities) -> str:
    if limits.max_variants < _N_VERSIONS:
        return (
            f"Make three versions of one video: three calls of create_video{_shape(texts)}, since this gateway makes "
            f"one at a time; the second and the third with allow_duplicate. The prompt is the text between the lines; "
            f"keep its wording.\n{_quoted(texts['scene'])}\n{_PAY_THRICE} {_WAIT} (all three), look at each with "
            "view_video, tell me in one sentence each how they differ, and ask which one I want to keep."
        )
    return (
        f"Make three variants of one video: create_video with n_variants 3{_shape(texts, ',')}. The prompt is the text "
        f"between the lines; keep its wording.\n{_quoted(texts['scene'])}\n{_PAY_ONCE} {_WAIT}, look at variants 1, 2 "
        "and 3 with view_video and all_variants, tell me in one sentence each how they differ, and ask which one I want"
        " to keep."
    )


def _fix(texts: Mapping[str, str], limits: Capabilities) -> str:
    prefix = (
        f"Something is wrong with the video {_one_line(texts['task_id'])}. Call get_video for it, look at it with "
        f"view_video, and say whether you see what I mean by the text between the lines.\n{_quoted(texts['problem'])}\n"
    )
    if not limits.can("remix"):
        return (
            f"{prefix}This gateway cannot change a finished video: suggest a better prompt, and make a new one with "
            f"create_video if I want that. {_PAY_ONCE} {_WAIT}, {_REVIEW}."
        )
    amount = "; amount goes from 1 (least change) to 8 (most): suggest one and say why" if limits.amount else ""
    return (
        f"{prefix}Then use remix_video with that task id as source_generation_id and a prompt that says only what has "
        f"to change{amount}. If the video failed or was blocked there is nothing to remix: suggest a better prompt "
        f"instead. {_PAY_ONCE} {_WAIT}, {_REVIEW}."
    )


_SHAPE = {
    "size": "Width x height in pixels, such as 854x480 (default) or 480x854.",
    "seconds": "How long: 5 (default) or 10.",
}

PROMPTS: dict[str, PromptTemplate] = {
    prompt.name: prompt
    for prompt in (
        PromptTemplate(
            "shoot_scene",
            "Shoot a scene",
            "Make a video of a scene you describe: shows the cost, asks you, waits, and looks at the result.",
            {"scene": "What the video shows.", **_SHAPE},
            frozenset({"scene"}),
            _shoot,
        ),
        PromptTemplate(
            "storyboard_idea",
            "Storyboard an idea",
            "Turn an idea into timed beats, agree on them with you, then make the video.",
            {"idea": "What happens, in your words.", **_SHAPE},
            frozenset({"idea"}),
            _storyboard,
        ),
        PromptTemplate(
            "three_variations",
            "Three variations",
            "Make three variants of one scene in one call, and compare them. Counts as three videos.",
            {"scene": "What the video shows.", **_SHAPE},
            frozenset({"scene"}),
            _variations,
        ),
        PromptTemplate(
            "fix_video",
            "Fix what is wrong with a video",
            "Look at a finished video, then remix it so that one thing changes.",
            {"task_id": "The video: its task_… id.", "problem": "What is wrong with it."},
            frozenset({"task_id", "problem"}),
            _fix,
        ),
    )
}


async def list_prompts(_: Context, __: types.PaginatedRequestParams | None) -> types.ListPromptsResult:
    """Serve `prompts/list`."""
    return types.ListPromptsResult(prompts=[prompt.as_prompt for prompt in PROMPTS.values()])


async def get_prompt(ctx: Context, params: types.GetPromptRequestParams) -> types.GetPromptResult:
    """Serve `prompts/get`. Raise MCPError (-32602) for an unknown prompt, an unknown or missing argument, or a size or
    length that no tool accepts."""
    prompt = find(params.name)
    arguments = {name: text for name, text in (params.arguments or {}).items() if text.strip()}
    if unknown := [name for name in arguments if name not in prompt.arguments]:
        known = list(prompt.arguments)
        raise _invalid_params(f"{clean(unknown[0], 60)}: unknown argument{did_you_mean(unknown[0], known)}", known)
    if missing := [name for name in prompt.arguments if name in prompt.required and name not in arguments]:
        raise _invalid_params(f"{', '.join(missing)}: missing", list(prompt.arguments))
    limits = ctx.lifespan_context.capabilities
    content = types.TextContent(text=prompt.render(_normalize(arguments, limits), limits))
    return types.GetPromptResult(
        description=prompt.description, messages=[types.PromptMessage(role="user", content=content)]
    )


def find(name: str) -> PromptTemplate:
    """Return the prompt with this name. Raise MCPError (-32602) if there is none."""
    if (prompt := PROMPTS.get(name)) is None:
        raise _invalid_params(f"{clean(name, 60)}: unknown prompt{did_you_mean(name, list(PROMPTS))}", list(PROMPTS))
    return prompt


def _invalid_params(problem: str, allowed: list[str]) -> MCPError:
    return MCPError(types.INVALID_PARAMS, f"{problem}; allowed: {', '.join(allowed)}.")


_SIZE = re.compile(r"\s*(\d{1,5})\s*[x\u00d7*]\s*(\d{1,5})\s*(?:px)?\s*", re.IGNORECASE)
_SECONDS = re.compile(r"\s*(\d{1,4}(?:\.\d{1,3})?)\s*(?:s|sec|seconds?)?\s*", re.IGNORECASE)


def _normalize(texts: Mapping[str, str], limits: Capabilities) -> dict[str, str]:
    """Return the arguments with size and length in their usual form. Raise MCPError if no tool accepts them."""
    normalized = dict(texts)
    if size := texts.get("size"):
        parts = _SIZE.fullmatch(size)
        width, height = map(int, parts.groups()) if parts else (0, 0)
        if not (limits.any_size and width and height) and (width, height) not in limits.sizes:
            raise _unsupported("size", size, [f"{wide}x{high}" for wide, high in sorted(limits.sizes)])
        normalized["size"] = f"{width}x{height}"
    if seconds := texts.get("seconds"):
        parts = _SECONDS.fullmatch(seconds)
        frames = float(parts[1]) * FPS if parts else 0
        if not (limits.any_length and frames) and frames not in limits.lengths:
            raise _unsupported("seconds", seconds, [f"{each / FPS:g}" for each in sorted(limits.lengths)])
        normalized["seconds"] = f"{frames / FPS:g}"
    return normalized


def _unsupported(name: str, text: str, allowed: list[str]) -> MCPError:
    return _invalid_params(f"{name}: {clean(text, 40)} is not taken here", allowed)


def _shape(texts: Mapping[str, str], prefix: str = ", with") -> str:
    """Return the requested size and length as a phrase that names the tools' arguments."""
    parts = []
    if size := texts.get("size"):
        parts.append(f"the size {size} (width x height)")
    if seconds := texts.get("seconds"):
        parts.append(f"a length of {seconds} s (n_frames {float(seconds) * FPS:g})")
    return f"{prefix} {' and '.join(parts)}" if parts else ""


def _quoted(text: str) -> str:
    return f"---\n{text.strip()[:MAX_TEXT_LENGTH]}\n---"


def _one_line(text: str) -> str:
    return clean(text, 140)
