"""The tools as calls, for an agent loop of one's own; with what each model API wants of them."""

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
from sora_mcp.tools.arguments import MOST_CHARACTERS


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
        self._patience = tools.Patience()

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
            value = _read(arguments) if isinstance(arguments, str) else arguments
        except (InternalError, InvalidInput) as error:
            return tools.failed(error, paid=name in tools.TABLE and tools.TABLE[name].paid)
        caller = tools.Caller(wording=tools.ForAgents(self._patience.most_s), patience=self._patience)
        return await tools.call(self._studio, name, dict(value) if isinstance(value, Mapping) else value, caller)

    def _check_home(self) -> None:
        """Raise InternalError in another event loop: everything that is open belongs to the one that opened it."""
        if self._home is not _event_loop():
            error = InternalError(_ELSEWHERE, Do("Call it where it was opened, or open another one here."))
            error.outcome = "not_submitted"
            raise error

    @staticmethod
    def openai(*, chat: bool = False) -> list[Any]:
        """`tools` for OpenAI's Responses API, or with `chat` for its Chat Completions API."""
        return for_openai.openai_chat() if chat else for_openai.openai_responses()

    @staticmethod
    def openai_answer(call_id: str, result: Result, *, chat: bool = False) -> Any:
        """The input item that answers a call, or with `chat` the message (which cannot hold the picture of a view)."""
        return for_openai.chat_answer(call_id, result) if chat else for_openai.answer(call_id, result)

    @staticmethod
    def anthropic() -> list[Any]:
        """`tools` for Anthropic's Messages API."""
        return for_anthropic.anthropic()

    @staticmethod
    def anthropic_answer(tool_use_id: str, result: Result) -> Any:
        """The content block that answers a tool use; all of one message's go into one user message."""
        return for_anthropic.answer(tool_use_id, result)

    @staticmethod
    def gemini() -> list[Any]:
        """`tools` for the Gemini API."""
        return [{"functionDeclarations": for_gemini.gemini()}]

    @staticmethod
    def gemini_answer(name: str, result: Result, *, call_id: str | None = None) -> Any:
        """The part that answers a function call (`call_id` where it has one); all of one turn's go into one content."""
        return for_gemini.answer(name, result, call_id=call_id)


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
