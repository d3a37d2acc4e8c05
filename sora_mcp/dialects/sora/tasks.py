"""Reading the answer to a query: a task's state, its variants and their addresses, and why it failed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sora_mcp.core.advice import Do, SeeList, TryAgain
from sora_mcp.core.errors import BadReply, NotFound
from sora_mcp.core.tasks import Generation, State, Task, clean
from sora_mcp.dialects.protocol import WEB
from sora_mcp.dialects.replies import Reply, content_format, parse_json, parse_nested_json
from sora_mcp.dialects.sora.errors import code_of, free_error, make_error, text_of
from sora_mcp.dialects.sora.fields import BLANK_VALUES, STATE_FIELDS, Fields, fold, is_empty, state_of
from sora_mcp.dialects.sora.ids import as_id
from sora_mcp.dialects.sora.urls import IsAddress, address_check, addresses_in, as_address, is_http

MAX_GENERATIONS = 16
"""Variants that are read from a reply; further ones are left out."""

_NOT_AFFECTED = Do("The video is not affected.")

_ID_FIELDS = ("task_id", "job_id", "id")
_RESULT_FIELDS = ("generations", "output", "outputs", "result", "results", "videos", "result_json", "task_result")
_RAW_TASK_FIELDS = (
    *_ID_FIELDS,
    *_RESULT_FIELDS,
    "actions",
    "prompt",
    "n_frames",
    "moderation_result",
    "failure_reason",
)
"""Fields by which the object in `data` is known to be a raw task."""
_WRAPPERS = ("data", "output", "result", "task")
"""Fields in which an answer that is not a task itself holds one."""


class _Layers(Struct, frozen=True):
    """A task in an answer: the object with its state, the raw task in it (`outer` and `inner` are both with folded
    names), and the check for addresses."""

    task: dict[str, Any]
    raw: dict[str, Any]
    is_address: IsAddress

    @property
    def outer(self) -> Fields:
        return Fields(self.task)

    @property
    def inner(self) -> Fields:
        return Fields(self.raw)


def read_task(reply: Reply, task_id: str, *, schemes: frozenset[str] = WEB) -> Task:
    """Return the task that a query found. `schemes`: those of addresses that can be opened; others are left out.

    Raises NotFound, Refused (the key or the address is wrong) or BadReply (try again).
    """
    answer = parse_json(reply)
    if fold(code_of(answer) or code_of(Fields(answer).get("error")) or "") == fold("task_not_exist"):
        raise NotFound(f"The gateway knows no task {task_id} made with this key.", SeeList())
    not_affected = (_NOT_AFFECTED, TryAgain())
    is_ok = 200 <= reply.status < 300
    task = _find_task(answer, task_id) if is_ok else None
    if task is not None:
        layers = _Layers(task, _raw_task(task), address_check(schemes))
        if _is_task(layers, answer):
            return _parse_task(layers)
    if not is_ok or code_of(answer) is not None or content_format(reply) in {"html", "text"}:
        raise free_error(reply, retry_advice=not_affected)
    message = "The gateway answered a query with something that is not a task"
    raise make_error(BadReply, reply, message, advice=not_affected)


# --- what is a task -------------------------------------------------------------------------------


def _find_task(answer: Any, task_id: str) -> dict[str, Any] | None:
    """Return the object with the task's state: the one with its id, or else the one in an envelope.

    A `code` other than success makes the answer an error, unless it is the task's own: beside its very id.
    """
    states = list(_objects_with_state(answer, 3))
    if code_of(answer) is not None:
        fields = Fields(answer)
        is_itself = as_id(fields.first(_ID_FIELDS)) == task_id or fields.get("object") == "video"
        return states[0] if is_itself and states and states[0] is answer else None
    own = [each for each in states if task_id in map(as_id, map(Fields(each).get, _ID_FIELDS))]
    with_id = [each for each in states if as_id(Fields(each).first(_ID_FIELDS[:2]))]
    inside = [each for each in states if each is not answer]
    return next(iter([*own, *with_id, *inside, *states]), None)


def _objects_with_state(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """Yield the objects that have a state, outer ones first."""
    value = parse_nested_json(value)
    if isinstance(value, list) and depth:
        for each in value[:MAX_GENERATIONS]:
            yield from _objects_with_state(each, depth - 1)
    elif isinstance(value, dict):
        fields = Fields(value)
        if any(name in fields for name in STATE_FIELDS):
            yield value
        for name in _WRAPPERS if depth else ():
            yield from _objects_with_state(fields.get(name), depth - 1)


def _is_task(layers: _Layers, answer: Any) -> bool:
    """Whether a state counts: `{"status": "error"}` alone is a query that failed, not a video that did.

    The state of a task that is not finished counts in the documented envelope only.
    """
    outer, inner = layers.outer, layers.inner
    if any(as_id(outer.get(name)) for name in _ID_FIELDS) or outer.get("object") == "video":
        return True
    has_result = any(not is_empty(outer.get(name)) for name in _RESULT_FIELDS)
    has_inner = any(not is_empty(inner.get(name)) for name in _RAW_TASK_FIELDS)
    if has_result or has_inner or _progress(layers) is not None:
        return True
    if addresses_in(layers.task, layers.raw, layers.is_address):
        return True
    is_ongoing = state_of(outer.first(STATE_FIELDS)) in {None, "queued", "running"}
    return is_ongoing and layers.task is not answer and "code" in Fields(answer)


def _raw_task(task: dict[str, Any]) -> dict[str, Any]:
    """Return the inner `data.data`: null, an object, an array, or JSON text of one (several new-api versions)."""
    data = parse_nested_json(Fields(task).get("data"))
    if isinstance(data, list):
        data = next((each for each in data if isinstance(each, dict)), {})
    return data if isinstance(data, dict) else {}


# --- its state ------------------------------------------------------------------------------------


def _parse_task(layers: _Layers) -> Task:
    outer, inner = layers.outer, layers.inner
    word = outer.first(STATE_FIELDS)
    state: State = state_of(word) or "running"
    generations = tuple(_generations(layers)) if state == "succeeded" else ()
    available = sum(g.url is not None for g in generations)
    withheld = _withheld_count(layers) if state == "succeeded" else 0
    if state == "succeeded" and not available and withheld:
        state = "blocked"
    has_failed = state in {"failed", "blocked"}
    reason = _reason(layers) if has_failed else None
    submitted_at = outer.get("submit_time")
    return Task(
        state=state,
        progress=_progress(layers),
        gateway_state=clean(str(word), 40) if isinstance(word, str | int | float) else "",
        enhanced_prompt=_enhanced_prompt(inner),
        failure_reason=reason,
        failure_code=_failure_code(layers) if has_failed or withheld else None,
        gateway_message=reason,
        generations=() if has_failed else generations,
        withheld=withheld if available and withheld else None,
        body=_echoed_body(inner),
        created_at=submitted_at if _is_positive_int(submitted_at) else None,
    )


def _progress(layers: _Layers) -> int | None:
    progress, fraction = layers.outer.get("progress"), layers.inner.get("progress_pct")
    if isinstance(progress, str) and (match := re.match(r"\s*(\d{1,3})(\.\d*)?\s*%?\s*$", progress)):
        return min(100, int(match[1]))
    if isinstance(progress, int | float) and not isinstance(progress, bool) and 0 <= progress <= 100:
        return int(progress)
    if isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 <= fraction <= 1:
        return int(fraction * 100)
    return None


def _enhanced_prompt(inner: Fields) -> str | None:
    """A prompt-only task repeats its rewritten prompt as the one action at frame 0 (query page's example)."""
    actions = inner.get("actions")
    if isinstance(actions, dict) and list(actions) == ["0"] and isinstance(actions["0"], str):
        return clean(actions["0"], 1000) or None
    return None


_ECHOED_TEXTS = ("prompt", "operation")
_ECHOED_NUMBERS = ("width", "height", "n_frames", "n_variants")


def _echoed_body(inner: Fields) -> dict[str, Any] | None:
    """Return the fields of the request that the reply repeats, if they have the documented types."""
    texts = {name: clean(text, 4000) for name in _ECHOED_TEXTS if isinstance(text := inner.get(name), str)}
    numbers = {name: value for name in _ECHOED_NUMBERS if _is_positive_int(value := inner.get(name))}
    return texts | numbers | _echoed_parts(inner) or None


def _echoed_parts(inner: Fields) -> dict[str, Any]:
    """Return the beats and the sources as the raw task repeats them; actions are a map there, frame → text."""
    actions, edit, items = (inner.get(name) for name in ("actions", "sdedit", "inpaint_items"))
    parts: dict[str, Any] = {}
    if isinstance(actions, dict) and inner.get("operation") == "storyboard":
        beats = {
            int(at): text for at, text in actions.items() if re.fullmatch(r"\d{1,9}", at) and isinstance(text, str)
        }
        parts["actions"] = [{"time": at, "description": clean(beats[at], 4000)} for at in sorted(beats)]
    if isinstance(edit, dict):
        parts["sdedit"] = _plain_fields(edit)
    if isinstance(items, list):
        parts["inpaint_items"] = [_plain_fields(each) for each in items[:MAX_ITEMS] if isinstance(each, dict)]
    return {name: value for name, value in parts.items() if value}


MAX_ITEMS = 100
"""Items that are read of one task."""


def _plain_fields(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the short texts and numbers of an edit or an item; other values name no source and no frame."""
    values = {name: clean(value, 2000) if isinstance(value, str) else value for name, value in fields.items()}
    allowed = (str, int, float)
    return {name: value for name, value in values.items() if isinstance(value, allowed) and not isinstance(value, bool)}


def _is_positive_int(value: object) -> bool:
    """Whether a value is a number of pixels, frames or unix seconds, far below what a database or a calendar holds."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**11


# --- why it failed --------------------------------------------------------------------------------

_REASON_FIELDS = ("fail_reason", "failure_reason", "fail_msg", "error", "message", "msg", "detail")
_CODE_FIELDS = ("failure_code", "fail_code", "error_code", "code")


def _reason(layers: _Layers) -> str | None:
    """Return the gateway's reason for a failure: the task's, else the raw task's, else what moderation says."""
    for fields in (layers.outer, layers.inner, Fields(_raw_task(layers.raw))):
        for name in _REASON_FIELDS:
            text = text_of(fields.get(name))
            if text and not is_http(text) and state_of(text) != "succeeded":
                return text
    texts = (moderation.first(("message", "reason", "type")) for moderation in _moderations(layers))
    return next((text for each in texts if (text := text_of(each))), None)


def _failure_code(layers: _Layers) -> str | None:
    """Return the code of a failure or of moderation, cleaned and capped."""
    reasons = [fields.get(name) for fields in (layers.outer, layers.inner) for name in ("error", "fail_reason")]
    sources = [*_moderations(layers), *map(Fields, reasons), layers.outer, layers.inner]
    values = [fields.get(name) for fields in sources for name in _CODE_FIELDS]
    values += [fields.get("type") for fields in sources[:-2]]
    return next((text for value in values if (text := _code_text(value))), None)


def _code_text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = clean(value, 60) if isinstance(value, str) else str(value) if abs(value) < 10**9 else ""
    return "" if fold(text) in BLANK_VALUES or text in {"0", "200"} or state_of(text) == "succeeded" else text


def _moderations(layers: _Layers) -> list[Fields]:
    results = (Fields(fields.get("moderation_result")) for fields in (layers.inner, layers.outer))
    return [result for result in results if result]


def _withheld_count(layers: _Layers) -> int:
    """Return how many variants moderation withheld; at least 1 if it says that it did."""
    counts = [fields.get("num_unsafe_generations") for fields in (layers.inner, layers.outer)]
    count = max((n for n in counts if isinstance(n, int) and not isinstance(n, bool) and n < 1000), default=0)
    rejected = any(result.get("is_output_rejection") is True for result in _moderations(layers))
    return max(count, int(rejected))


# --- its variants ---------------------------------------------------------------------------------


def _generations(layers: _Layers) -> list[Generation]:
    """Return the variants of a finished task; if none has an address, the addresses found elsewhere, in order."""
    listed = next((v for f in (layers.inner, layers.outer) if isinstance(v := f.get("generations"), list)), [])
    entries = [Fields(entry) for entry in listed if isinstance(entry, dict)][:MAX_GENERATIONS]
    variants = [_generation(entry, number, layers.is_address) for number, entry in enumerate(entries, 1)]
    if any(each.url for each in variants):
        return variants
    addresses = addresses_in(layers.task, layers.raw, layers.is_address)
    variants += [Generation(variant=number) for number in range(len(variants) + 1, len(addresses) + 1)]
    paired = [replace(each, url=url) for each, url in zip(variants, addresses, strict=False)]
    return paired + variants[len(paired) :]


def _generation(entry: Fields, variant: int, is_address: IsAddress) -> Generation:
    encodings = Fields(entry.get("encodings"))
    paths = [entry.get("url"), *(Fields(encodings.get(name)).get("path") for name in ("source", "md", "ld"))]
    sizes = {name: value for name in ("width", "height", "n_frames") if _is_positive_int(value := entry.get(name))}
    return Generation(
        variant=variant,
        generation_id=as_id(entry.get("id")),
        url=next((url for path in paths if (url := as_address(path, is_address))), None),
        **sizes,
    )
