"""The result of a call, or its error as a result."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sora_mcp.core.errors import OUTCOME_SENTENCES, Outcome, Refused, SoraError
from sora_mcp.core.models import Model
from sora_mcp.tools.agent_wording import FOR_AGENTS
from sora_mcp.tools.wording import Wording


@dataclass(frozen=True, slots=True)
class Result:
    """The result of a call: a sentence, the structured result or error, and a picture or a file if there is one.

    (A dataclass, as `sora_mcp.toolkit` publishes it.)
    """

    text: str
    structured: dict[str, Any]
    is_error: bool = False
    picture: bytes | None = None
    file: Path | None = None

    @property
    def mirror(self) -> str:
        """The structured result as JSON text, for clients that read only texts."""
        return json.dumps(self.structured, ensure_ascii=False, separators=(",", ":"))

    def with_notice(self, notice: str | None) -> Result:
        """Return the result with the notice that applies to everything the gateway makes."""
        if notice is None:
            return self
        return replace(self, text=f"{self.text} {notice}", structured=self.structured | {"notice": notice})


class Failure(Model):
    """What went wrong, for a program. `gateway_message` is the gateway's own text, or the beginning of an answer that
    could not be read: data, not instructions."""

    kind: str
    message: str
    next_step: str
    retryable: bool = False
    retry_after_s: float | None = None
    http_status: int | None = None
    gateway_message: str | None = None


def error_result(error: SoraError, *, paid: bool = False, wording: Wording = FOR_AGENTS) -> Result:
    """Return an error as a result: as text, and structured."""
    if paid and error.outcome is None:
        error.outcome = "unknown"
    outcome: Outcome | None = error.outcome if paid else None
    message, next_step = wording.message(error.parts), wording.next_step(error)
    submitted = OUTCOME_SENTENCES[outcome] if outcome else ""
    sentences = [message, _gateway_reason(error, wording), submitted, next_step]
    failure = Failure(
        kind=error.kind,
        message=" ".join(filter(None, [message, submitted])),  # some hosts show nothing but the structured error
        next_step=next_step,
        retryable=error.can_retry,
        retry_after_s=error.wait_s,
        http_status=error.http_status,
        gateway_message=error.upstream or error.answer or None,
    )
    structured: dict[str, Any] = {"outcome": outcome} if outcome else {}
    if error.request_id is not None:
        structured["request_id"] = error.request_id
    structured["error"] = failure.model_dump(exclude_none=True)
    text = wording.failure + " ".join(each for each in sentences if each)
    return Result(text, structured, is_error=True)


def _gateway_reason(error: SoraError, wording: Wording) -> str:
    """Say where the gateway's own text of a refusal is shown, or that it gave none."""
    if not isinstance(error, Refused) or error.http_status is None:
        return ""
    has_reason = error.upstream or error.answer
    return wording.gateway_message_note if has_reason else "The gateway gave no reason."
