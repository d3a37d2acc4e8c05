"""Ask the user, through their client, before something expensive is submitted.

Until 2025-11-25 a server sends its client a request while the call waits. From 2026-07-28 on the call returns the
question, and the client repeats it with the answer. For that, a question is stored here under a random state, with the
tool and the exact request it was about; its answer is valid once, for a limited time, and for nothing else. If people
share a server, the state itself holds all that, sealed (`tenants.SealedState`), and the ledger records which answers
were used: an answer is valid once even after a restart or at another process.
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

ANSWER_TIMEOUT_S = 600.0
"""Seconds a user has to answer. If a call waits, silence counts as no; in the later era the user is asked again."""
MAX_OPEN_QUESTIONS = 1000
"""Unanswered questions that are stored; beyond that the oldest is dropped, and asked again."""
USED_ANSWER_TTL_S = 2 * ANSWER_TIMEOUT_S
"""Seconds after which a used answer is forgotten: by then its seal has expired by the clock of every server."""

_KEY, _FIELD = "pay", "pay"
_FORM: dict[str, Any] = {
    "type": "object",
    "properties": {_FIELD: {"type": "boolean", "title": "Make it", "description": "It costs money.", "default": False}},
    "required": [_FIELD],
}


class _Question(Struct, frozen=True):
    """A question about a call. `fingerprint`: of the request, since the same arguments may lead to another request."""

    text: str
    tool: str
    arguments: str
    fingerprint: str

    @property
    def digest(self) -> str:
        """A hash that is equal for the same question about the same call."""
        parts = [self.text, self.tool, self.arguments, self.fingerprint]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Questions(Protocol):
    """The store of questions that await their answers."""

    def store(self, question: _Question) -> str:
        """Store a question, and return the state that its answer has to carry."""

    async def is_answered(self, question: _Question, state: str | None) -> bool:
        """Return whether an answer with this state belongs to the question, is in time, and is the first."""


class PendingAnswers:
    """The calls that wait for their users' answers; they are declined if the server shuts down first."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()
        self._is_closed = False

    @contextmanager
    def wait(self) -> Iterator[None]:
        """Bound the wait inside this context to ANSWER_TIMEOUT_S. Raise Declined if the server shuts down."""
        with anyio.move_on_after(ANSWER_TIMEOUT_S) as scope:
            self._scopes.add(scope)
            try:
                self._check()
                yield
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            self._check()

    def close(self) -> None:
        """End all waits, and refuse new ones."""
        self._is_closed = True
        for scope in self._scopes:
            scope.cancel()

    def _check(self) -> None:
        if self._is_closed:
            raise Declined(
                "This server is shutting down and could not wait for the user's answer.",
                Do("Call again in a moment; the user will be asked again."),
            )


def create_asker(
    questions: Questions,
    session: ServerSession,
    params: types.CallToolRequestParams,
    pending: PendingAnswers,
    check_caller: Callable[[], None],
) -> Asker | None:
    """Return the asker for this call, or None if the client cannot ask its user.

    `check_caller`: raises Declined if the caller's access was revoked or changed.
    """
    if not _supports_forms(session.client_capabilities):
        return None
    if session.protocol_version in MODERN_PROTOCOL_VERSIONS:
        return _RetryAsker(questions, params)
    return _BlockingAsker(session, pending, check_caller) if session.can_send_request else None


class InMemoryQuestions:
    """The questions of a server with one user, stored in memory."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[_Question, float]] = {}

    def store(self, question: _Question) -> str:
        """See `Questions`."""
        state = secrets.token_urlsafe(32)
        self._open[state] = question, anyio.current_time() + ANSWER_TIMEOUT_S
        while len(self._open) > MAX_OPEN_QUESTIONS:
            del self._open[next(iter(self._open))]
        return state

    async def is_answered(self, question: _Question, state: str | None) -> bool:
        """See `Questions`. The question is removed."""
        stored, deadline = self._open.pop(state or "", (None, -math.inf))
        return stored == question and anyio.current_time() <= deadline


class SealedQuestions:
    """Questions to several users, stored only in the state, which only this server's keys can read and write."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio

    def store(self, question: _Question) -> str:
        """See `Questions`."""
        return json.dumps([secrets.token_urlsafe(16), question.digest])

    async def is_answered(self, question: _Question, state: str | None) -> bool:
        """See `Questions`. Raise FileProblem if the ledger cannot say whether it is the first."""
        if state is None:
            return False
        answer_id, digest = json.loads(state)
        return digest == question.digest and await self._studio.servers.use_answer(answer_id, USED_ANSWER_TTL_S)


class Asker:
    """Asks the user about one call. `input_required`: the result that the call has to return to get the answer."""

    input_required: types.InputRequiredResult | None = None

    async def confirm(self, text: str, fingerprint: str) -> None:
        """Raise Declined unless the user agrees with a plain yes."""
        raise NotImplementedError


class _BlockingAsker(Asker):
    def __init__(self, session: ServerSession, pending: PendingAnswers, check_caller: Callable[[], None]) -> None:
        self._session = session
        self._pending = pending
        self._check_caller = check_caller

    async def confirm(self, text: str, fingerprint: str) -> None:  # noqa: ARG002 - the call itself waits
        answer: object = _NO_ANSWER
        with self._pending.wait():
            try:
                answer = await self._ask(text)
            except (MCPError, ValidationError) as error:
                logger.info("the client could not ask its user: %s", type(error).__name__)
                answer = None
        _check_answer(answer)
        self._check_caller()  # the answer may have taken minutes, and come with another token

    async def _ask(self, text: str) -> types.ElicitResult:
        """Ask with an id that no other server of this session uses for a question; the SDK has no public way to set
        one."""
        request = types.ElicitRequest(params=types.ElicitRequestFormParams(message=text, requested_schema=_FORM))
        message = request.model_dump(by_alias=True, mode="json", exclude_none=True)
        channel = self._session._request_outbound  # noqa: SLF001
        question_id = f"question-{secrets.token_hex(8)}"
        answer = await channel.send_raw_request(message["method"], message["params"], {"request_id": question_id})
        return types.ElicitResult.model_validate(answer, by_name=False)


class _RetryAsker(Asker):
    def __init__(self, questions: Questions, params: types.CallToolRequestParams) -> None:
        self._questions = questions
        self._params = params

    async def confirm(self, text: str, fingerprint: str) -> None:
        params = self._params
        arguments = json.dumps(params.arguments or {}, sort_keys=True)
        question = _Question(text, params.name, arguments, fingerprint)
        answer = (params.input_responses or {}).get(_KEY)
        if answer is not None and await self._questions.is_answered(question, params.request_state):
            return _check_answer(answer)
        request = types.ElicitRequest(params=types.ElicitRequestFormParams(message=text, requested_schema=_FORM))
        self.input_required = types.InputRequiredResult(
            input_requests={_KEY: request}, request_state=self._questions.store(question)
        )
        raise Declined("The user has not been asked yet.", Do("Answer the question that this call ended with."))


def _supports_forms(capabilities: types.ClientCapabilities | None) -> bool:
    """Return whether the client can show forms: a bare `elicitation: {}` (all there was once) means forms; `url` alone
    does not."""
    elicitation = capabilities.elicitation if capabilities else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


_NO_ANSWER = types.ElicitResult(action="cancel")


def _check_answer(answer: object) -> None:
    """Raise Declined for everything except a plain yes."""
    if not isinstance(answer, types.ElicitResult):
        raise Declined(
            "The user could not be asked: this host says that it can ask, but failed to.",
            TellUser(("what costs more than ", Setting("ask_above_cost"), " is submitted only after they agree")),
        )
    if answer.action == "cancel":
        raise Declined("The user was asked and gave no answer.", _ASK)
    if answer.action != "accept" or (answer.content or {}).get(_FIELD) is not True:
        raise Declined("The user was asked and said no.", _ASK)


_ASK = AskUser("say what to do instead")
