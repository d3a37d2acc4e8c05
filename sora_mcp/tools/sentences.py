"""Results as text: what became of a call, and what to do next, worded for a surface."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sora_mcp.core.cost import RELATIVE, Cost
from sora_mcp.core.errors import OUTCOME_SENTENCES
from sora_mcp.core.results import Download, ListedVideo, OtherCost, Submission, Video
from sora_mcp.core.states import describe_state
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import format_size, is_plain_code, is_plain_id, quoted, quoted_at_end
from sora_mcp.tools.agent_wording import FOR_AGENTS
from sora_mcp.tools.wording import Wording


def display_id(video: ListedVideo | Submission) -> str:
    """Return the id to show in a sentence: the task's if it may appear there, else our own."""
    plain = video.task_id if video.task_id is not None and is_plain_id(video.task_id) else None
    return plain or video.request_id or "it"


def _shape(width: int | None, height: int | None, n_frames: int | None, fps: float | None = None) -> str:
    size = f"{width}x{height}" if width and height else ""
    length = f"{round(n_frames / (fps or FPS), 2):g} s" if n_frames else ""
    return ", ".join(part for part in (size, length) if part)


def render_submission(submission: Submission, wording: Wording = FOR_AGENTS) -> str:
    """Render what became of a paid call."""
    cost = "cost not known"
    if submission.cost is not None:
        cost = f"{'estimated ' if submission.unit else ''}{format_cost(submission.cost, submission.unit)}"
    shape = _shape(submission.width, submission.height, submission.n_frames)
    description = ", ".join(part for part in (shape, cost, f"gateway: {submission.gateway}") if part)
    notes = [*_adjusted(submission), *_plan(submission), *map(wording.note, submission.notes)]
    name, next_step = display_id(submission), wording.advise(*submission.advice)
    if submission.outcome == "not_submitted":
        estimate = [f"Estimate: {submission.estimate}."] if submission.estimate else []
        plan = [] if submission.board is None else ["The picture is a plan: no video has been made yet."]
        return " ".join(
            [f"Dry run ({description}).", OUTCOME_SENTENCES["not_submitted"], *plan, *estimate, *notes, next_step]
        )
    if submission.duplicate:
        return f"This same request was submitted before as {name}; {wording.duplicate()} {next_step}".rstrip()
    return " ".join(filter(None, [f"Submitted as {name} ({description}).", *notes, next_step]))


def format_cost(amount: float, unit: str | None) -> str:
    """Format a cost as `relative cost 1.25`, or `cost 0.50 USD`."""
    return f"relative cost {amount:g}" if unit is None else f"cost {Cost.of(amount, unit)}"


def format_other_costs(costs: Iterable[OtherCost] | None) -> Iterator[str]:
    """Format sums in units other than the gateway's."""
    for each in costs or ():
        maybe = f" and perhaps {Cost.of(each.uncertain, each.unit)} more" if each.uncertain else ""
        yield f"{format_cost(each.cost, None if each.unit == RELATIVE else each.unit)}{maybe}"


def _plan(submission: Submission | Video) -> list[str]:
    """Render what comes when."""
    return [f"Plan: {quoted(submission.plan, 1000)}."] if submission.plan else []


def _adjusted(submission: Submission) -> list[str]:
    """Render what is sent instead of what was asked for."""
    parts = [f"{each['field']} {each['asked']} → {each['sent']}" for each in submission.adjusted or []]
    return [f"Adjusted for this server: {'; '.join(parts).rstrip('.')}."] if parts else []


def render_video(video: Video, wording: Wording = FOR_AGENTS) -> str:
    """Render a video as a sentence, and what to do next."""
    progress = f" ({video.progress} %)" if video.progress is not None and video.state == "running" else ""
    shape = _shape(video.width, video.height, video.n_frames, video.fps)
    state = f"{describe_state(video.state)}{progress}"
    description = f"{display_id(video)} {state}{f', {shape}' if shape else ''}{_made_from(video)}."
    more = _variants(video) if video.state == "succeeded" else _reason(video)
    parts = (description, _age(video), _cost(video), *_plan(video), more, wording.advise(*video.advice))
    return " ".join(part for part in parts if part)


def _cost(video: Video) -> str:
    """Render what it cost, if that is money."""
    if video.unit is None or video.cost is None:
        return ""
    source = "as stated by the gateway" if video.cost_from == "gateway" else "as estimated before it was sent"
    return f"Its cost is {Cost.of(video.cost, video.unit)}, {source}."


def _made_from(video: Video) -> str:
    if video.operation != "remix":
        return ""
    source = f" of {video.sources[0]}" if video.sources and is_plain_id(video.sources[0].partition("#")[0]) else ""
    return f", a remix{source}" + (f" with amount {video.amount:g}" if video.amount is not None else "")


def _age(video: Video) -> str:
    """Render how old it is, and the usual duration, if it is under way."""
    if video.age_seconds is None:
        return ""
    age = format_duration(video.age_seconds)
    return f"It was requested {age} ago; a video {describe_usual_time(video.usual_seconds)}."


def describe_usual_time(seconds: int | None) -> str:
    """Describe how long a video usually takes, as far as known."""
    return "usually takes a few minutes" if seconds is None else f"usually takes about {format_duration(seconds)} here"


def format_duration(seconds: float) -> str:
    """Format a time in the largest unit that is precise enough."""
    for length, unit in ((86_400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= 2 * length:
            return f"{round(seconds / length)} {unit}s"
    return f"{round(seconds)} s"


def _variants(video: Video) -> str:
    """Render how many variants came back, if some of those requested are missing, or moderation withheld some."""
    came, asked = sum(each.url is not None for each in video.generations), video.n_variants or 1
    if not came or (came >= asked and not video.withheld):
        return ""
    withheld = min(video.withheld or 0, max(asked - came, 1))
    count = f"{came} of {max(asked, came + withheld)} variants came back"
    if not withheld:
        return f"{count}; the gateway does not say why."
    code = f" ({video.failure_code})" if is_plain_code(video.failure_code) else ""
    return f"{count}; {_NUMBERS.get(withheld, str(withheld))} {_were(withheld)} withheld by moderation{code}."


_NUMBERS = {1: "one", 2: "two", 3: "three"}


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _reason(video: Video) -> str:
    """Render why there is no video: our own reason, and the gateway's as a quotation."""
    if video.state not in {"failed", "blocked", "lost", "rejected", "unknown"}:
        return ""
    is_gateways = video.failure_reason == video.gateway_message
    reason = f"Reason: {quoted_at_end(video.failure_reason)}" if video.failure_reason and not is_gateways else ""
    says = gateway_says(video.gateway_message, video.failure_code, video.gateway_answer)
    if not reason and not says:
        return "The gateway gave no reason." if video.state in {"failed", "blocked"} else ""
    return f"{reason} {says}".strip()


def gateway_says(message: str | None, code: str | None = None, answer: str | None = None) -> str:
    """Quote the gateway's message, else its code if that is a plain word, else the beginning of its answer."""
    suffix = f" (code {code})" if is_plain_code(code) else ""
    if message:
        return f"The gateway says{suffix}: {quoted_at_end(message)}"
    if suffix:
        return f"The gateway gave only the code {code}."
    return f"The gateway's answer begins: {quoted_at_end(answer)}" if answer else ""


def render_download(download: Download, _: Wording = FOR_AGENTS) -> str:
    """Render where the file is."""
    size = f"({format_size(download.bytes)})"
    if download.url is not None:
        lasts = format_duration(download.url_seconds or 0)
        return (
            f"Ready {size}: {download.url} Give the user this link: a browser plays it, curl -O saves it. It works for "
            f"{lasts}; another call gives a new one, free."
        )
    verb = "Saved as" if download.outcome == "saved" else "Already saved as"
    return f"{verb} {download.path} {size}."
