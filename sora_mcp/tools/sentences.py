"""Results in a sentence: what became of it, and what to do next, in the words of a surface."""

from __future__ import annotations

from sora_mcp.core.errors import SUBMITTED
from sora_mcp.core.results import Download, ListedVideo, Look, Submission, Video, VideoList
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import State, clean, is_plain_code, is_plain_id
from sora_mcp.tools.wording import FOR_AGENTS, Wording


def name(video: ListedVideo | Submission) -> str:
    """The id to show in a sentence: the task's where there is one that may stand there, else our own."""
    plain = video.task_id if video.task_id is not None and is_plain_id(video.task_id) else None
    return plain or video.request_id or "it"


def _shape(width: int | None, height: int | None, n_frames: int | None) -> str:
    size = f"{width}x{height}" if width and height else ""
    length = f"{n_frames / FPS:g} s" if n_frames else ""
    return ", ".join(part for part in (size, length) if part)


def say_submission(told: Submission, wording: Wording = FOR_AGENTS) -> str:
    """What became of a paid call."""
    cost = f"relative cost {told.cost:g}" if told.cost is not None else "cost not known"
    what = f"{_shape(told.width, told.height, told.n_frames)}, {cost}, gateway: {told.gateway}"
    notes, next_step = map(wording.note, told.notes), wording.advise(*told.advice)
    if told.outcome == "not_submitted":
        return " ".join([f"Dry run ({what}).", SUBMITTED["not_submitted"], *notes, next_step])
    if told.duplicate:
        return (
            f"This same request was submitted before as {name(told)}; nothing was sent or charged now "
            f"({wording.argument('allow_duplicate')} pays for another). {next_step}"
        )
    return " ".join([f"Submitted as {name(told)} ({what}).", *notes, next_step])


_STATE_WORDS: dict[State, str] = {
    "succeeded": "has succeeded",
    "failed": "has failed",
    "blocked": "was blocked by moderation",
    "rejected": "was not created",
    "unknown": "has an unknown outcome",
}


def say_video(told: Video, wording: Wording = FOR_AGENTS) -> str:
    """A video in a sentence, and what to do next."""
    progress = f" ({told.progress} %)" if told.progress is not None and told.state == "running" else ""
    shape = _shape(told.width, told.height, told.n_frames)
    state = _STATE_WORDS.get(told.state, f"is {told.state}")
    what = f"{name(told)} {state}{progress}{f', {shape}' if shape else ''}."
    more = _variants(told) if told.state == "succeeded" else _why(told)
    return " ".join(part for part in (what, more, wording.advise(*told.advice)) if part)


def _variants(told: Video) -> str:
    """How many variants came back, where several were asked for and not all did, or moderation withheld some."""
    came, asked = sum(each.url is not None for each in told.generations), told.n_variants or 1
    if not came or (came >= asked and not told.withheld):
        return ""
    withheld = min(told.withheld or 0, max(asked - came, 1))
    count = f"{came} of {max(asked, came + withheld)} variants came back"
    if not withheld:
        return f"{count}; the gateway does not say why."
    code = f" ({told.failure_code})" if is_plain_code(told.failure_code) else ""
    return f"{count}; {_NUMBERS.get(withheld, str(withheld))} {_were(withheld)} withheld by moderation{code}."


_NUMBERS = {1: "one", 2: "two", 3: "three"}


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _why(told: Video) -> str:
    """Why there is no video: our own reason, and the gateway's words as a quotation."""
    if told.state not in {"failed", "blocked", "rejected", "unknown"}:
        return ""
    is_gateways = told.failure_reason == told.gateway_message
    ours = f"Reason: {quote(told.failure_reason)}." if told.failure_reason and not is_gateways else ""
    says = gateway_says(told.gateway_message, told.failure_code, told.gateway_answer)
    if not ours and not says:
        return "The gateway gave no reason." if told.state in {"failed", "blocked"} else ""
    return f"{ours} {says}".strip()


def gateway_says(message: str | None, code: str | None = None, answer: str | None = None) -> str:
    """The gateway's words as a quotation; else its code, where that is a plain word; else how its answer began."""
    word = f" (code {code})" if is_plain_code(code) else ""
    if message:
        return f"The gateway says{word}: {quote(message)}."
    if word:
        return f"The gateway says no more than the code {code}."
    return f"The gateway's answer begins: {quote(answer)}." if answer else ""


def quote(text: str) -> str:
    """Somebody else's text in a sentence of ours: data, with its own quotation marks made single, and capped."""
    return f'"{clean(text, 200).replace(chr(34), chr(39))}"'


def say_list(told: VideoList, _: Wording = FOR_AGENTS) -> str:
    """How many there are."""
    count = len(told.videos)
    more = " There are more: call again with cursor." if told.next_cursor else ""
    return f"{count} video{'' if count == 1 else 's'} at {told.gateway}, newest first.{more}"


def say_look(told: Look, _: Wording = FOR_AGENTS) -> str:
    """What the picture shows."""
    shape = _shape(told.width, told.height, told.n_frames)
    return f"{told.frames} stills of {told.task_id}, variant {told.variant} ({shape}), in reading order."


def say_download(told: Download, _: Wording = FOR_AGENTS) -> str:
    """Where the file is."""
    verb = "Saved as" if told.outcome == "saved" else "Already saved as"
    return f"{verb} {told.path} ({told.bytes / 1e6:.1f} MB)."
