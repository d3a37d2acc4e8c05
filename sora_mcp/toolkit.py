"""The tools for agents without MCP: as declarations for the model APIs, and as calls.

Everything is made from the table in `tools`. The declarations need neither MCP nor an HTTP client.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from copy import deepcopy
from typing import Any, ClassVar, Self

from anyio.lowlevel import RunVar

from sora_mcp import tools
from sora_mcp.config.settings import Settings, load
from sora_mcp.core.errors import InternalError, InvalidInput, Problem
from sora_mcp.studio import Studio
from sora_mcp.tools import Result
from sora_mcp.tools.arguments import MOST_CHARACTERS
from sora_mcp.tools.schema import Schema


class Toolkit:
    """The tools for an agent loop of one's own, with the results and errors that MCP clients get.

    Open it with `async with`, once for many calls, and leave it in the task that opened it: what was paid for and is
    still being sent is then waited for and recorded. It works only in the event loop that opened it: another one, in
    another thread perhaps, opens its own. `settings` default to the environment's (`SORA_…`); raises
    NotConfigured where one of those cannot be used. The tools of each model API, and the answers to its calls, are
    there without opening.
    """

    instructions: ClassVar[str] = tools.INSTRUCTIONS
    """How the tools go together, for the model's instructions."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = load() if settings is None else settings
        self._opened: AbstractAsyncContextManager[Studio] | None = None
        self._studio: Studio | None = None
        self._home: object = None

    async def __aenter__(self) -> Self:
        if self._opened is not None:
            raise RuntimeError("This toolkit is open already: share it, or open another one.")
        opened = Studio.open(self._settings, watch=True)
        self._studio = await opened.__aenter__()
        self._opened, self._home = opened, _event_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._opened is not None and self._home is not _event_loop():
            raise RuntimeError(_ELSEWHERE)
        opened, self._opened, self._studio = self._opened, None, None
        if opened is not None:
            # The caller's exception is not passed on: the studio's task group would wrap it in a group.
            await opened.__aexit__(None, None, None)

    async def call(self, name: str, arguments: Mapping[str, Any] | str | None = None) -> Result:
        """Run a tool. `arguments` are an object or its JSON text; null for an optional one is its absence.

        Whatever an agent can do wrong, and whatever goes wrong at the gateway, is a result with `is_error`; so is a
        call from another event loop than the one that opened it. Raises RuntimeError where the toolkit is not open.
        """
        if self._studio is None:
            raise RuntimeError("This toolkit is not open: call it inside `async with Toolkit() as toolkit`.")
        name = str(name)  # a model's reply may hold anything there; it is then an unknown tool
        try:
            self._check_home()
            given = _read(arguments) if isinstance(arguments, str) else arguments
        except (InternalError, InvalidInput) as error:
            return tools.failed(error, paid=name in tools.TABLE and tools.TABLE[name].paid)
        return await tools.call(self._studio, name, dict(given) if isinstance(given, Mapping) else given)

    def _check_home(self) -> None:
        """Raise InternalError in another event loop: everything that is open belongs to the one that opened it."""
        if self._home is not _event_loop():
            error = InternalError(_ELSEWHERE, "Tell the user; call it where it was opened, or open another one here.")
            error.outcome = "not_submitted"
            raise error

    @staticmethod
    def openai(*, chat: bool = False) -> list[Any]:
        """`tools` for OpenAI's Responses API, or with `chat` for its Chat Completions API."""
        return openai_chat() if chat else openai_responses()

    @staticmethod
    def openai_answer(call_id: str, result: Result, *, chat: bool = False) -> Any:
        """The input item that answers a call, or with `chat` the message (which cannot hold the picture of a view)."""
        if chat:
            return {"role": "tool", "tool_call_id": call_id, "content": _text(result)}
        output: list[dict[str, Any]] = [{"type": "input_text", "text": _text(result)}]
        if result.png is not None:
            output.append({"type": "input_image", "image_url": f"data:image/png;base64,{_base64(result.png)}"})
        return {"type": "function_call_output", "call_id": call_id, "output": output}

    @staticmethod
    def anthropic() -> list[Any]:
        """`tools` for Anthropic's Messages API."""
        return anthropic()

    @staticmethod
    def anthropic_answer(tool_use_id: str, result: Result) -> Any:
        """The content block that answers a tool use; all of one message's go into one user message."""
        content: list[dict[str, Any]] = [{"type": "text", "text": _text(result)}]
        if result.png is not None:
            source = {"type": "base64", "media_type": "image/png", "data": _base64(result.png)}
            content.append({"type": "image", "source": source})
        return {"type": "tool_result", "tool_use_id": tool_use_id, "content": content, "is_error": result.is_error}

    @staticmethod
    def gemini() -> list[Any]:
        """`tools` for the Gemini API."""
        return [{"functionDeclarations": gemini()}]

    @staticmethod
    def gemini_answer(name: str, result: Result, *, call_id: str | None = None) -> Any:
        """The part that answers a function call (`call_id` where it has one); all of one turn's go into one content."""
        told = {"text": result.text, **result.structured}
        answer: dict[str, Any] = {"name": name, "response": {"error" if result.is_error else "output": told}}
        if call_id is not None:
            answer["id"] = call_id
        if result.png is not None:
            answer["parts"] = [{"inlineData": {"mimeType": "image/png", "data": _base64(result.png)}}]
        return {"functionResponse": answer}


_ELSEWHERE = "This toolkit was opened in another event loop (of another thread, perhaps)."

_LOOP: RunVar[object] = RunVar("toolkit")
"""An object of each event loop's own."""


def _event_loop() -> object:
    """What tells this event loop from any other."""
    if _LOOP.get(None) is None:
        _LOOP.set(object())
    return _LOOP.get()


def _read(text: str) -> Any:
    """The arguments that a model wrote as JSON; nothing at all is no arguments. Raises InvalidInput."""
    if len(text) > MOST_CHARACTERS:
        raise InvalidInput([Problem("arguments", f"are {len(text)} characters long", f"at most {MOST_CHARACTERS}")])
    try:
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError):
        raise InvalidInput([Problem("arguments", "are not JSON that can be read", "a JSON object")]) from None


def _text(result: Result) -> str:
    """A sentence, then the structured result: what MCP clients get as two blocks."""
    return f"{result.text}\n{result.mirror}"


def _base64(png: bytes) -> str:
    return base64.b64encode(png).decode("ascii")


# --- declarations ---------------------------------------------------------------------------------

_TASK = "task_01k2zq5v9rf3x8m4c7d1w6hj0t"
_OTHER = "task_01k2zr7b4ye6n9s2g5a8p3kq1u"

EXAMPLES: Mapping[str, list[dict[str, Any]]] = {
    "create_video": [
        {"prompt": "A lighthouse on a cliff at sunset, waves below, slow aerial shot"},
        {
            "prompt": "The fox lifts its head and looks into the camera",
            "width": 480,
            "height": 854,
            "inpaint_items": [{"url": "https://example.com/fox.png", "frame_index": 0}],
        },
    ],
    "storyboard_video": [
        {
            "prompt": "A theatre made of paper",
            "n_frames": 300,
            "actions": [
                {"time": 0, "description": "the curtain opens"},
                {"time": 150, "description": "a paper bird flies towards the camera"},
            ],
        }
    ],
    "remix_video": [{"source_generation_id": _TASK, "prompt": "The same scene at night", "amount": 3}],
    "blend_videos": [{"inpaint_items": [{"generation_id": _TASK}, {"generation_id": f"{_OTHER}#2"}]}],
    "get_video": [{"task_id": _TASK, "wait_seconds": 50}],
    "list_videos": [{}, {"status": "succeeded", "limit": 5}],
    "view_video": [{"task_id": _TASK, "frames": 4}],
    "download_video": [{"task_id": _TASK}, {"task_id": _TASK, "variant": 2}],
}
"""Arguments that show a model how each tool is meant: valid, and as few as do."""


def openai_responses() -> list[dict[str, Any]]:
    """The tools for OpenAI's Responses API, strict."""
    return [
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": strict(tool.input_schema),
            "strict": True,
        }
        for tool in tools.TOOLS
    ]


def openai_chat() -> list[dict[str, Any]]:
    """The tools for OpenAI's Chat Completions API, strict: the same, nested under `function`."""
    return [
        {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}
        for tool in openai_responses()
    ]


def anthropic() -> list[dict[str, Any]]:
    """The tools for Anthropic's Messages API, with examples."""
    return [
        {
            "name": tool.name,
            "description": tool.description,
            "input_schema": tool.input_schema,
            "input_examples": deepcopy(EXAMPLES[tool.name]),
        }
        for tool in tools.TOOLS
    ]


def gemini() -> list[dict[str, Any]]:
    """The entries of `functionDeclarations` for the Gemini API."""
    return [
        {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.input_schema}
        for tool in tools.TOOLS
    ]


_SAID: Mapping[str, str] = {
    "default": "Null: {}.",
    "minLength": "At least {} characters.",
    "maxLength": "At most {} characters.",
}
"""What OpenAI's strict mode refuses as a keyword, and how it is said in the description instead."""


def strict(schema: Schema) -> Schema:
    """A published schema as OpenAI's strict mode wants it.

    Every object is closed and requires all of its properties; what was optional may be null instead, and what the
    mode has no keyword for is said in the description.
    """
    node = {name: value for name, value in schema.items() if name not in _SAID}
    said = [words.format(_shown(schema[name])) for name, words in _SAID.items() if name in schema]
    if said:
        node["description"] = " ".join([schema["description"], *said])
    if "items" in schema:
        node["items"] = strict(schema["items"])
    if schema["type"] == "object":
        needed = schema["required"]
        node["properties"] = {
            name: strict(each) if name in needed else _or_null(strict(each))
            for name, each in schema["properties"].items()
        }
        node |= {"required": list(schema["properties"]), "additionalProperties": False}
    return node


def _or_null(node: Schema) -> Schema:
    nullable = node | {"type": [node["type"], "null"]}
    if "enum" in node:
        nullable["enum"] = [*node["enum"], None]
    return nullable


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
