"""The usable variants of a video: only a finished one has any."""

from __future__ import annotations

from sora_mcp.core.advice import CheckAgain, Do, SeeList, Settle, Wait
from sora_mcp.core.errors import InvalidInput, NotReady, Problem
from sora_mcp.core.states import describe_state
from sora_mcp.core.tasks import FINAL, Generation, quoted_at_end
from sora_mcp.ledger import Entry
from sora_mcp.studio.ids import variant_of

_USE_ANOTHER = Do("Use another video.")
_ADVICE_FOR = {"task_id": SeeList("succeeded")}
"""The advice for an argument that names a video to view or save."""


def usable_generation(entry: Entry, variant: int, argument: str, *, need_id: bool = False) -> Generation:
    """Return one variant of a finished video. Raises NotReady or InvalidInput if there is none."""
    if entry.state == "unknown":
        raise NotReady(
            f"{argument}: the outcome of {entry.id} is unknown: it may never have run, so there is nothing to use.",
            Settle((entry.request_id,)),
            is_pending=False,
        )
    if entry.state != "succeeded":
        progress = f", {entry.progress} %" if entry.progress is not None and entry.state == "running" else ""
        raise NotReady(
            f"{argument}: {entry.id} is not finished (state {entry.state}{progress})."
            if entry.state not in FINAL
            else f"{argument}: {entry.id} {describe_state(entry.state)}, so there is nothing to use.{_reason(entry)}",
            Wait(entry.id) if entry.state not in FINAL else _ADVICE_FOR.get(argument, _USE_ANOTHER),
            is_pending=entry.state not in FINAL,
        )
    if not entry.generations:
        raise NotReady(
            f"{argument}: the gateway says that {entry.id} succeeded, but gave no address for it yet.",
            CheckAgain(entry.id),
            is_pending=True,
        )
    generation = next((g for g in entry.generations if g.variant == variant), None)
    if generation is None:
        raise _no_such_variant(entry, variant, "variant" if argument == "task_id" else argument)
    if need_id and generation.generation_id is None:
        raise NotReady(
            f"{argument}: the gateway gave no generation id for {entry.id}, so it cannot be used as a source.",
            _USE_ANOTHER,
            is_pending=False,
        )
    return generation


def named_variant(video_id: str, entry: Entry) -> int | None:
    """Return the variant that an id names, see `variant_of`. Raises InvalidInput if the finished video has no such."""
    variant = variant_of(video_id, "task_id", entry)
    if variant is not None and entry.generations and variant not in {each.variant for each in entry.generations}:
        raise _no_such_variant(entry, variant, "task_id")
    return variant


def chosen_variant(video_id: str, variant: int, entry: Entry) -> int:
    """Return the variant that a call asks for, by its id or by its argument. Raises InvalidInput if they differ."""
    named = named_variant(video_id, entry)
    if named is not None and variant not in {1, named}:
        problem = f"{variant} cannot be combined with the id of variant {named}"
        raise InvalidInput([Problem("variant", problem, "one of the two")])
    return named or variant


def _no_such_variant(entry: Entry, variant: int, argument: str) -> InvalidInput:
    count = len(entry.generations)
    return InvalidInput(
        [Problem(argument, f"{entry.id} has no variant {variant}", f"1 to {count}" if count > 1 else "1")]
    )


def _reason(entry: Entry) -> str:
    """Return why there is nothing, if known, quoting the gateway."""
    if entry.gateway_message:
        return f" The gateway says: {quoted_at_end(entry.gateway_message)}"
    return f" Reason: {quoted_at_end(entry.failure_reason)}" if entry.failure_reason else ""
