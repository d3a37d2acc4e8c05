"""What the answer to a query says of a task: its state, its variants and their addresses, why it failed."""

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
from sora_mcp.dialects.replies import Reply, from_text, kind_of, parsed
from sora_mcp.dialects.sora.errors import code_of, error_of, free_error, text_of
from sora_mcp.dialects.sora.ids import as_id
from sora_mcp.dialects.sora.urls import IsAddress, address_of, addresses_in, is_http, opened_by
from sora_mcp.dialects.sora.words import NO_WORDS, STATE_NAMES, Fields, fold, is_empty, state_of

MAX_GENERATIONS = 16
"""Variants that are read from a reply; further ones are left out."""

_NOT_AFFECTED = Do("The video is not affected.")

_ID_NAMES = ("task_id", "job_id", "id")
_RESULT_NAMES = ("generations", "output", "outputs", "result", "results", "videos", "result_json", "task_result")
_INNER_NAMES = (*_ID_NAMES, *_RESULT_NAMES, "actions", "prompt", "n_frames", "moderation_result", "failure_reason")
"""What shows that the object in `data` is a raw task."""
_WRAPPERS = ("data", "output", "result", "task")
"""Where an answer that is no task itself holds one."""


class _Layers(Struct, frozen=True):
    """A task in an answer: the object that has its state, the raw task in it (both folded too), and what counts as an
    address."""

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
    """What a query says. `schemes`: those of the addresses that can be opened; others are left out.

    Raises NotFound, Refused (the key or the address is wrong) or BadReply (try again).
    """
    answer = parsed(reply)
    if fold(code_of(answer) or code_of(Fields(answer).get("error")) or "") == fold("task_not_exist"):
        raise NotFound(f"The gateway knows no task {task_id} made with this key.", SeeList())
    not_affected = (_NOT_AFFECTED, TryAgain())
    is_ok = 200 <= reply.status < 300
    task = _task_in(answer, task_id) if is_ok else None
    if task is not None:
        layers = _Layers(task, _raw(task), opened_by(schemes))
        if _is_task(layers, answer):
            return _read(layers)
    if not is_ok or code_of(answer) is not None or kind_of(reply) in {"html", "text"}:
        raise free_error(reply, passing=not_affected)
    message = "The gateway answered a query with something that is not a task"
    raise error_of(BadReply, reply, message, advice=not_affected)


# --- what is a task -------------------------------------------------------------------------------


def _task_in(answer: Any, task_id: str) -> dict[str, Any] | None:
    """The object that says in which state the task is: the one with its id, or else what an envelope holds.

    A `code` that is no success makes an error of the answer, unless it is the task's own: beside its very id.
    """
    states = list(_with_state(answer, 3))
    if code_of(answer) is not None:
        fields = Fields(answer)
        is_itself = as_id(fields.first(_ID_NAMES)) == task_id or fields.get("object") == "video"
        return states[0] if is_itself and states and states[0] is answer else None
    own = [each for each in states if task_id in map(as_id, map(Fields(each).get, _ID_NAMES))]
    with_id = [each for each in states if as_id(Fields(each).first(_ID_NAMES[:2]))]
    inside = [each for each in states if each is not answer]
    return next(iter([*own, *with_id, *inside, *states]), None)


def _with_state(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    """The objects that have a state, outer ones first."""
    value = from_text(value)
    if isinstance(value, list) and depth:
        for each in value[:MAX_GENERATIONS]:
            yield from _with_state(each, depth - 1)
    elif isinstance(value, dict):
        fields = Fields(value)
        if any(name in fields for name in STATE_NAMES):
            yield value
        for name in _WRAPPERS if depth else ():
            yield from _with_state(fields.get(name), depth - 1)


def _is_task(layers: _Layers, answer: Any) -> bool:
    """Whether a state counts: `{"status": "error"}` alone is a query that failed, not a video that did.

    What goes on may stand in the documented envelope alone.
    """
    outer, inner = layers.outer, layers.inner
    if any(as_id(outer.get(name)) for name in _ID_NAMES) or outer.get("object") == "video":
        return True
    has_result = any(not is_empty(outer.get(name)) for name in _RESULT_NAMES)
    has_inner = any(not is_empty(inner.get(name)) for name in _INNER_NAMES)
    if has_result or has_inner or _progress(layers) is not None:
        return True
    if addresses_in(layers.task, layers.raw, layers.is_address):
        return True
    goes_on = state_of(outer.first(STATE_NAMES)) in {None, "queued", "running"}
    return goes_on and layers.task is not answer and "code" in Fields(answer)


def _raw(task: dict[str, Any]) -> dict[str, Any]:
    """The inner `data.data`: null, an object, an array, or JSON text of one (several new-api versions)."""
    data = from_text(Fields(task).get("data"))
    if isinstance(data, list):
        data = next((each for each in data if isinstance(each, dict)), {})
    return data if isinstance(data, dict) else {}


# --- what it says ---------------------------------------------------------------------------------


def _read(layers: _Layers) -> Task:
    outer, inner = layers.outer, layers.inner
    word = outer.first(STATE_NAMES)
    state: State = state_of(word) or "running"
    generations = tuple(_generations(layers)) if state == "succeeded" else ()
    came = sum(g.url is not None for g in generations)
    withheld = _withheld(layers) if state == "succeeded" else 0
    if state == "succeeded" and not came and withheld:
        state = "blocked"
    ended_badly = state in {"failed", "blocked"}
    reason = _reason(layers) if ended_badly else None
    submitted = outer.get("submit_time")
    return Task(
        state=state,
        progress=_progress(layers),
        gateway_state=clean(str(word), 40) if isinstance(word, str | int | float) else "",
        enhanced_prompt=_enhanced_prompt(inner),
        failure_reason=reason,
        failure_code=_failure_code(layers) if ended_badly or withheld else None,
        gateway_message=reason,
        generations=() if ended_badly else generations,
        withheld=withheld if came and withheld else None,
        body=_body_of(inner),
        created_at=submitted if _is_whole(submitted) else None,
    )


def _progress(layers: _Layers) -> int | None:
    shown, fraction = layers.outer.get("progress"), layers.inner.get("progress_pct")
    if isinstance(shown, str) and (match := re.match(r"\s*(\d{1,3})(\.\d*)?\s*%?\s*$", shown)):
        return min(100, int(match[1]))
    if isinstance(shown, int | float) and not isinstance(shown, bool) and 0 <= shown <= 100:
        return int(shown)
    if isinstance(fraction, int | float) and not isinstance(fraction, bool) and 0 <= fraction <= 1:
        return int(fraction * 100)
    return None


def _enhanced_prompt(inner: Fields) -> str | None:
    """A prompt-only task repeats its rewritten prompt as the one action at frame 0 (query page's example)."""
    actions = inner.get("actions")
    if isinstance(actions, dict) and list(actions) == ["0"] and isinstance(actions["0"], str):
        return clean(actions["0"], 1000) or None
    return None


_REPEATED_TEXTS = ("prompt", "operation")
_REPEATED_NUMBERS = ("width", "height", "n_frames", "n_variants")


def _body_of(inner: Fields) -> dict[str, Any] | None:
    """The fields of the request that the reply repeats, where they have the documented types."""
    texts = {name: clean(text, 4000) for name in _REPEATED_TEXTS if isinstance(text := inner.get(name), str)}
    numbers = {name: value for name in _REPEATED_NUMBERS if _is_whole(value := inner.get(name))}
    return texts | numbers | _parts_of(inner) or None


def _parts_of(inner: Fields) -> dict[str, Any]:
    """Beats, and what it was made from, as the raw task repeats them: actions are a map there, frame to text."""
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
    """Of an edit or an item what is a short text or a number; others name no source and no frame."""
    values = {name: clean(value, 2000) if isinstance(value, str) else value for name, value in fields.items()}
    kept = (str, int, float)
    return {name: value for name, value in values.items() if isinstance(value, kept) and not isinstance(value, bool)}


def _is_whole(value: object) -> bool:
    """A number of pixels, frames or unix seconds: far below what a database or a calendar can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 10**11


# --- why it failed --------------------------------------------------------------------------------

_REASON_NAMES = ("fail_reason", "failure_reason", "fail_msg", "error", "message", "msg", "detail")
_CODE_NAMES = ("failure_code", "fail_code", "error_code", "code")


def _reason(layers: _Layers) -> str | None:
    """Why a task ended badly, in the gateway's words: of the task, else of the raw task, else what moderation says."""
    for fields in (layers.outer, layers.inner, Fields(_raw(layers.raw))):
        for name in _REASON_NAMES:
            text = text_of(fields.get(name))
            if text and not is_http(text) and state_of(text) != "succeeded":
                return text
    words = (moderation.first(("message", "reason", "type")) for moderation in _moderations(layers))
    return next((text for each in words if (text := text_of(each))), None)


def _failure_code(layers: _Layers) -> str | None:
    """The code of a failure or of moderation, cleaned and capped."""
    reasons = [fields.get(name) for fields in (layers.outer, layers.inner) for name in ("error", "fail_reason")]
    owners = [*_moderations(layers), *map(Fields, reasons), layers.outer, layers.inner]
    values = [fields.get(name) for fields in owners for name in _CODE_NAMES]
    values += [fields.get("type") for fields in owners[:-2]]
    return next((text for value in values if (text := _code_text(value))), None)


def _code_text(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    text = clean(value, 60) if isinstance(value, str) else str(value) if abs(value) < 10**9 else ""
    return "" if fold(text) in NO_WORDS or text in {"0", "200"} or state_of(text) == "succeeded" else text


def _moderations(layers: _Layers) -> list[Fields]:
    results = (Fields(fields.get("moderation_result")) for fields in (layers.inner, layers.outer))
    return [result for result in results if result]


def _withheld(layers: _Layers) -> int:
    """How many variants moderation withheld; 1 at least where it says that it did."""
    counts = [fields.get("num_unsafe_generations") for fields in (layers.inner, layers.outer)]
    count = max((n for n in counts if isinstance(n, int) and not isinstance(n, bool) and n < 1000), default=0)
    rejected = any(result.get("is_output_rejection") is True for result in _moderations(layers))
    return max(count, int(rejected))


# --- its variants ---------------------------------------------------------------------------------


def _generations(layers: _Layers) -> list[Generation]:
    """The variants of a finished task; those without an address of their own get the ones beside them, in order."""
    listed = next((v for f in (layers.inner, layers.outer) if isinstance(v := f.get("generations"), list)), [])
    entries = [Fields(entry) for entry in listed if isinstance(entry, dict)][:MAX_GENERATIONS]
    variants = [_generation(entry, number, layers.is_address) for number, entry in enumerate(entries, 1)]
    if any(each.url for each in variants):
        return variants
    addresses = addresses_in(layers.task, layers.raw, layers.is_address)
    variants += [Generation(variant=number) for number in range(len(variants) + 1, len(addresses) + 1)]
    beside = [replace(each, url=url) for each, url in zip(variants, addresses, strict=False)]
    return beside + variants[len(beside) :]


def _generation(entry: Fields, variant: int, is_address: IsAddress) -> Generation:
    encodings = Fields(entry.get("encodings"))
    paths = [entry.get("url"), *(Fields(encodings.get(name)).get("path") for name in ("source", "md", "ld"))]
    sizes = {name: value for name in ("width", "height", "n_frames") if _is_whole(value := entry.get(name))}
    return Generation(
        variant=variant,
        generation_id=as_id(entry.get("id")),
        url=next((url for path in paths if (url := address_of(path, is_address))), None),
        **sizes,
    )
