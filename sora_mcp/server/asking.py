"""Asking the user, through their client, before something dear is submitted.

Until 2025-11-25 a server sends its client a request while the call waits. From 2026-07-28 on the call ends with what
is to be answered, and the client makes it again with the answer. There a question is remembered here under a random
state, with the tool and the very request it was about; its answer counts once, for a while, and for nothing else. Where
people share a server the state itself says all that, sealed (`tenants.Sealed`), and the ledger knows which answers were
used: it counts once after a restart, and at another process, too.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import anyio
import mcp_types as types
from mcp.server.session import ServerSession
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from msgspec import Struct
from pydantic import ValidationError

from sora_mcp.core.advice import AskUser, Do, Setting, TellUser
from sora_mcp.core.errors import Declined
from sora_mcp.studio import Studio

logger = logging.getLogger(__name__)

ANSWER_WITHIN = 600.0
"""Seconds a user has to answer; while a call waits, silence counts as no, and a later answer is asked for again."""
MOST_OPEN = 1000
"""Questions that are remembered until they are answered; beyond that the oldest is forgotten, and asked again."""
FORGOTTEN_AFTER = 2 * ANSWER_WITHIN
"""Seconds after which a used answer is forgotten: its seal does not open any more, by any of our clocks."""

_KEY, _FIELD = "pay", "pay"
_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {_FIELD: {"type": "boolean", "title": "Make it", "description": "It costs money.", "default": False}},
    "required": [_FIELD],
}


class _Question(Struct, frozen=True):
    """What was asked, about which call; the same arguments may lead to another request: `fingerprint` tells."""

    text: str
    tool: str
    arguments: str
    fingerprint: str

    @property
    def digest(self) -> str:
        """The same for the same question about the same call."""
        parts = [self.text, self.tool, self.arguments, self.fingerprint]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Questions(Protocol):
    """Questions that wait for their answers."""

    def remember(self, question: _Question) -> str:
        """Remember a question; the state under which its answer comes."""

    async def is_answered(self, question: _Question, state: str | None) -> bool:
        """Whether an answer that comes under a state is one to this question, in time, and the first."""


class Waiting:
    """The calls that wait for their users' answers; they are told where the server ends before these come."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()
        self._has_ended = False

    @contextmanager
    def answer(self) -> Iterator[None]:
        """Wait inside of this, for ANSWER_WITHIN at most. Raises Declined where the server ends."""
        with anyio.move_on_after(ANSWER_WITHIN) as scope:
            self._scopes.add(scope)
            try:
                self._check()
                yield
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            self._check()

    def end(self) -> None:
        """Nobody waits any more, from now on."""
        self._has_ended = True
        for scope in self._scopes:
            scope.cancel()

    def _check(self) -> None:
        if self._has_ended:
            raise Declined(
                "This server is being ended and could not wait for the user's answer.",
                Do("Call again in a moment; the user is asked again."),
            )


def asker_of(
    questions: Questions,
    session: ServerSession,
    params: types.CallToolRequestParams,
    waiting: Waiting,
    check_caller: Callable[[], None],
) -> Asker | None:
    """Whoever can ask the user about this call, None where the client does not let anybody ask.

    `check_caller`: raises Declined where whoever made the call has no access any more, or another one.
    """
    if not _shows_forms(session.client_capabilities):
        return None
    if session.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return _LaterAsker(questions, params)
    return _WaitingAsker(session, waiting, check_caller) if session.can_send_request else None


class OwnQuestions:
    """The questions of one server to one person."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[_Question, float]] = {}

    def remember(self, question: _Question) -> str:
        """Remember a question; the state under which its answer comes."""
        state = secrets.token_urlsafe(32)
        self._open[state] = question, anyio.current_time() + ANSWER_WITHIN
        while len(self._open) > MOST_OPEN:
            del self._open[next(iter(self._open))]
        return state

    async def is_answered(self, question: _Question, state: str | None) -> bool:
        """As `Questions` says; the question is open no longer."""
        asked, answer_by = self._open.pop(state or "", (None, -math.inf))
        return asked == question and anyio.current_time() <= answer_by


class SealedQuestions:
    """Questions to several people: nothing is kept but in the state, which only this server can read and write."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def remember(self, question: _Question) -> str:
        """As `Questions` says."""
        return json.dumps([secrets.token_urlsafe(16), question.digest])

    async def is_answered(self, question: _Question, state: str | None) -> bool:
        """As `Questions` says. Raises FileProblem where nobody can tell whether it is the first."""
        if state is None:
            return False
        answer_id, digest = json.loads(state)
        return digest == question.digest and await self._studio.servers.use_answer(answer_id, FORGOTTEN_AFTER)


class Asker:
    """Asks the user about one call. `to_be_answered`: what the call has to end with, for the answer to come."""

    to_be_answered: types.InputRequiredResult | None = None

    async def confirm(self, text: str, fingerprint: str) -> None:
        """Raise Declined unless the user agrees; only a plain yes is one."""
        raise NotImplementedError


class _WaitingAsker(Asker):
    def __init__(self, session: ServerSession, waiting: Waiting, check_caller: Callable[[], None]) -> None:
        self._session = session
        self._waiting = waiting
        self._check_caller = check_caller

    async def confirm(self, text: str, fingerprint: str) -> None:  # noqa: ARG002 - the call itself waits
        answer: object = _SILENCE
        with self._waiting.answer():
            try:
                answer = await self._ask(text)
            except (MCPError, ValidationError) as error:
                logger.info("the client could not ask its user: %s", type(error).__name__)
                answer = None
        _check(answer)
        self._check_caller()  # the answer may have taken minutes, and have come with another token

    async def _ask(self, text: str) -> types.ElicitResult:
        """Under an id that no other server of those which serve the session gives to a question; the SDK lets nobody
        name one in public."""
        asked = types.ElicitRequest(params=types.ElicitRequestFormParams(message=text, requested_schema=_FORM))
        message = asked.model_dump(by_alias=True, mode="json", exclude_none=True)
        channel = self._session._request_outbound  # noqa: SLF001
        question_id = f"question-{secrets.token_hex(8)}"
        answer = await channel.send_raw_request(message["method"], message["params"], {"request_id": question_id})
        return types.ElicitResult.model_validate(answer, by_name=False)


class _LaterAsker(Asker):
    def __init__(self, questions: Questions, params: types.CallToolRequestParams) -> None:
        self._questions = questions
        self._params = params

    async def confirm(self, text: str, fingerprint: str) -> None:
        params = self._params
        arguments = json.dumps(params.arguments or {}, sort_keys=True)
        question = _Question(text, params.name, arguments, fingerprint)
        answer = (params.input_responses or {}).get(_KEY)
        if answer is not None and await self._questions.is_answered(question, params.request_state):
            return _check(answer)
        asked = types.ElicitRequest(params=types.ElicitRequestFormParams(message=text, requested_schema=_FORM))
        self.to_be_answered = types.InputRequiredResult(
            input_requests={_KEY: asked}, request_state=self._questions.remember(question)
        )
        raise Declined("The user has not been asked yet.", Do("Answer what this call ended with."))


def _shows_forms(capabilities: types.ClientCapabilities | None) -> bool:
    """A bare `elicitation: {}`, the only form of old, means forms; one that names only `url` does not."""
    asking = capabilities.elicitation if capabilities else None
    return asking is not None and (asking.form is not None or asking.url is None)


_SILENCE = types.ElicitResult(action="cancel")


def _check(answer: object) -> None:
    """Raise Declined for everything but a plain yes."""
    if not isinstance(answer, types.ElicitResult):
        raise Declined(
            "The user could not be asked: this host says that it can, but failed.",
            TellUser(("what costs more than ", Setting("ask_above_cost"), " is submitted only after they were asked")),
        )
    if answer.action == "cancel":
        raise Declined("The user was asked and gave no answer.", _ASK)
    if answer.action != "accept" or (answer.content or {}).get(_FIELD) is not True:
        raise Declined("The user was asked and said no.", _ASK)


_ASK = AskUser("say what to do instead")
