"""What a call gives: a result, or an error as a result."""

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
    """What a call gives: a sentence, the structured result or error, and a picture or a file where there is one.

    (A dataclass, as `sora_mcp.toolkit` publishes it.)
    """

    text: str
    structured: dict[str, Any]
    is_error: bool = False
    picture: bytes | None = None
    file: Path | None = None

    @property
    def mirror(self) -> str:
        """The structured result as JSON text, for whoever reads only texts."""
        return json.dumps(self.structured, ensure_ascii=False, separators=(",", ":"))

    def noticing(self, notice: str | None) -> Result:
        """The same, saying what is to be known of everything that the gateway makes."""
        if notice is None:
            return self
        return replace(self, text=f"{self.text} {notice}", structured=self.structured | {"notice": notice})


class Failure(Model):
    """What went wrong, for a program. `gateway_message` is the gateway's own text, or how its answer began where that
    could not be read: data, not instructions."""

    kind: str
    message: str
    next_step: str
    retryable: bool = False
    retry_after_s: float | None = None
    http_status: int | None = None
    gateway_message: str | None = None


def failed(error: SoraError, *, paid: bool = False, wording: Wording = FOR_AGENTS) -> Result:
    """An error as a result: in words, and for a program."""
    if paid and error.outcome is None:
        error.outcome = "unknown"
    outcome: Outcome | None = error.outcome if paid else None
    message, next_step = wording.message(error.parts), wording.next_step(error)
    submitted = OUTCOME_SENTENCES[outcome] if outcome else ""
    sentences = [message, _gateways_reason(error, wording), submitted, next_step]
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


def _gateways_reason(error: SoraError, wording: Wording) -> str:
    """Where the gateway's words for a refusal stand, apart from ours; or that it gave none."""
    if not isinstance(error, Refused) or error.http_status is None:
        return ""
    said = error.upstream or error.answer
    return wording.gateways_words if said else "The gateway gave no reason."
