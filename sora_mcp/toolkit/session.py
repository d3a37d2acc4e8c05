"""The tools as calls for your own agent loop, with the declarations and answers that each model API expects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Self

from anyio.lowlevel import RunVar

from sora_mcp import tools
from sora_mcp.config.settings import Settings, load
from sora_mcp.core.advice import Do
from sora_mcp.core.errors import InternalError, InvalidInput, Problem
from sora_mcp.studio import Studio
from sora_mcp.toolkit import for_anthropic, for_gemini, for_openai
from sora_mcp.tools import Result
from sora_mcp.tools.arguments import MAX_CHARACTERS


class Toolkit:
    """The tools for your own agent loop, with the results and errors that MCP clients get.

    Open it with `async with`, once for many calls, and close it in the task that opened it: closing waits for paid
    requests that are still being sent, and records them. It works only in the event loop that opened it; another event
    loop (of another thread, say) opens its own. `settings` default to the environment's (`SORA_…`); raises
    NotConfigured if one of those cannot be used. The declarations for each model API, and the answers to its calls,
    need no opening.
    """

    instructions: ClassVar[str] = tools.INSTRUCTIONS
    """How the tools work together; for the model's instructions."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._settings = load() if settings is None else settings
        self._studio_context: AbstractAsyncContextManager[Studio] | None = None
        self._studio: Studio | None = None
        self._event_loop: object = None
        self._host_timeout = tools.HostTimeout()

    async def __aenter__(self) -> Self:
        if self._studio_context is not None:
            raise RuntimeError("This toolkit is open already: share it, or open another one.")
        context = Studio.open(self._settings, watch=True)
        self._studio = await context.__aenter__()
        self._studio_context, self._event_loop = context, _current_event_loop()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._studio_context is not None and self._event_loop is not _current_event_loop():
            raise RuntimeError(_WRONG_EVENT_LOOP)
        context, self._studio_context, self._studio = self._studio_context, None, None
        if context is not None:
            # The caller's exception is not passed on: the studio's task group would wrap it in a group.
            await context.__aexit__(None, None, None)

    async def call(self, name: str, arguments: Mapping[str, Any] | str | None = None) -> Result:
        """Run a tool. `arguments` is an object or its JSON text; null for an optional argument means it is absent.

        Mistakes of the agent and failures at the gateway are results with `is_error`; so is a call from another event
        loop than the one that opened the toolkit. Raises RuntimeError if the toolkit is not open.
        """
        if self._studio is None:
            raise RuntimeError("This toolkit is not open: call it inside `async with Toolkit() as toolkit`.")
        name = str(name)  # a model's reply may contain any type here; it is then an unknown tool
        try:
            self._check_event_loop()
            value = _parse_arguments(arguments) if isinstance(arguments, str) else arguments
        except (InternalError, InvalidInput) as error:
            return tools.error_result(error, paid=name in tools.TABLE and tools.TABLE[name].paid)
        caller = tools.Caller(wording=tools.ForAgents(self._host_timeout.max_wait_s), host_timeout=self._host_timeout)
        return await tools.call(self._studio, name, dict(value) if isinstance(value, Mapping) else value, caller)

    def _check_event_loop(self) -> None:
        """Raise InternalError in another event loop: all open resources belong to the one that opened them."""
        if self._event_loop is not _current_event_loop():
            advice = Do("Call it where it was opened, or open another one here.")
            raise InternalError(_WRONG_EVENT_LOOP, advice, outcome="not_submitted")

    @staticmethod
    def openai(*, chat: bool = False) -> list[Any]:
        """Return `tools` for OpenAI's Responses API, or with `chat` for its Chat Completions API."""
        return for_openai.openai_chat() if chat else for_openai.openai_responses()

    @staticmethod
    def openai_answer(call_id: str, result: Result, *, chat: bool = False) -> Any:
        """Return the input item that answers a call, or with `chat` the message, which cannot contain a picture."""
        return for_openai.chat_answer(call_id, result) if chat else for_openai.answer(call_id, result)

    @staticmethod
    def anthropic() -> list[Any]:
        """Return `tools` for Anthropic's Messages API."""
        return for_anthropic.anthropic()

    @staticmethod
    def anthropic_answer(tool_use_id: str, result: Result) -> Any:
        """Return the content block that answers a tool use; the blocks for one message go into one user message."""
        return for_anthropic.answer(tool_use_id, result)

    @staticmethod
    def gemini() -> list[Any]:
        """Return `tools` for the Gemini API."""
        return [{"functionDeclarations": for_gemini.gemini()}]

    @staticmethod
    def gemini_answer(name: str, result: Result, *, call_id: str | None = None) -> Any:
        """Return the part that answers a function call; the parts for one turn go into one content.

        `call_id` is the call's id, if it has one.
        """
        return for_gemini.answer(name, result, call_id=call_id)


_WRONG_EVENT_LOOP = "This toolkit was opened in another event loop (of another thread, perhaps)."

_LOOP: RunVar[object] = RunVar("toolkit")
"""A unique object for each event loop."""


def _current_event_loop() -> object:
    """Return an object that identifies the current event loop."""
    if _LOOP.get(None) is None:
        _LOOP.set(object())
    return _LOOP.get()


def _parse_arguments(text: str) -> Any:
    """Parse the arguments that a model wrote as JSON; blank text means no arguments. Raise InvalidInput."""
    if len(text) > MAX_CHARACTERS:
        raise InvalidInput([Problem("arguments", f"are {len(text)} characters long", f"at most {MAX_CHARACTERS}")])
    try:
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError):
        raise InvalidInput([Problem("arguments", "are not JSON that can be read", "a JSON object")]) from None
