"""Every socket fault at every moment of a create: what the gateway saw, what the agent was told, what was recorded.

`python tests/support/faults.py` measures all of them anew and writes `tests/faults/FAULTS.md`; a test holds that page
to what is measured. Each cell has a gateway, a server and a ledger of its own, so that they can all run at once.
"""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
from bench import TAKEN_NEXT, about
from fault_gateway import (
    CREATE,
    NEXT_ID,
    Answer,
    FaultGateway,
    Moment,
    closed_address,
    fault_gateway,
    full_backlog,
    says,
)
from mcp import Client
from tls_front import Authority, tls_front

from sora_mcp.config.settings import load
from sora_mcp.core.tasks import UNDER_WAY
from sora_mcp.server import build

PAGE = Path(__file__).parents[1] / "faults" / "FAULTS.md"
SHORT_S, LONG_S = 0.8, 20.0
"""Time-outs: where the fault is that nothing comes, and where a slow machine must not look like a fault."""

HTML = b"<html><title>502 Bad Gateway</title></html>"
ELSEWHERE = {"Location": "https://elsewhere.example"}
BUSY = says({"error": {"message": "busy", "type": "new_api_error"}}, 429, Retry_After="0")

SOCKET = {
    "reset": replace(TAKEN_NEXT, fault="reset"),
    "orderly close": replace(TAKEN_NEXT, fault="close"),
    "stall": replace(TAKEN_NEXT, fault="stall"),
    "drip": replace(TAKEN_NEXT, fault="drip"),
    "garbage bytes": replace(TAKEN_NEXT, fault="garbage"),
}
ANSWERS = {
    "plain 500": Answer(500, b"oops", accepts=True),
    "HTML 502": Answer(502, HTML, {"Content-Type": "text/html"}, accepts=True),
    "plain 504": Answer(504, accepts=True),
    "307": Answer(307, b"", ELSEWHERE),
    "400": says({"code": "invalid_request", "message": "no"}, 400),
    "403": says({"code": "quota_not_enough", "message": "no"}, 403),
    "429 with words": BUSY,
    "429 without words": Answer(429, headers={"Retry-After": "0"}),
}
LENGTHS = {
    "Content-Length too long": replace(TAKEN_NEXT, fault="truncate"),
    "Content-Length too short": replace(TAKEN_NEXT, fault="close", missing=-10),
    "no length, closed": replace(TAKEN_NEXT, fault="no_length"),
}
MOMENTS: dict[Moment, str] = {
    "connected": "connected, nothing read",
    "in_head": "during the request's head",
    "in_body": "during the request's body",
    "requested": "after the request, before the reply",
    "in_reply_head": "during the reply's head",
    "in_reply_body": "during the reply's body",
    "replied": "after the reply",
}
_EARLY: tuple[Moment, ...] = ("connected", "in_head", "in_body")
BEFORE_THE_CONNECTION = "before the connection"
TLS = "during the TLS handshake"


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One cell. `greeting`: the answer is played before a request is known. `to`: what there is to connect to."""

    moment: str
    fault: str
    answer: Answer
    greeting: bool = False
    to: str = "gateway"


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of a case."""

    connections: int
    posts: int
    accepted: int
    told: str
    recorded: str


def _cases() -> list[Case]:
    """Every fault at every moment at which it can happen."""
    nothing = Answer()
    found = [
        Case(BEFORE_THE_CONNECTION, "refused", nothing, to="nobody"),
        Case(BEFORE_THE_CONNECTION, "no such name", nothing, to="nowhere"),
        Case(BEFORE_THE_CONNECTION, "stall", nothing, to="no answer"),
        Case(TLS, "a certificate nobody trusts", nothing, to="untrusted"),
    ]
    found += [
        Case(TLS, fault, replace(answer, at="connected"), greeting=True, to="tls") for fault, answer in SOCKET.items()
    ]
    for moment, words in MOMENTS.items():
        faults = SOCKET | (
            {name: replace(a, fault="answer") for name, a in ANSWERS.items()} if moment in _EARLY else {}
        )
        faults |= {"requested": ANSWERS, "replied": LENGTHS}.get(moment, {})
        found += [
            Case(words, fault, replace(a, at=moment), greeting=moment in {"connected", "in_head"})
            for fault, a in faults.items()
        ]
    return found


CASES = _cases()


@dataclass(frozen=True, slots=True)
class Words:
    """What a dialect says of a create: its path, and the answers to a create that is taken and to a query."""

    path: str
    taken: Answer
    about: Answer


_OBJECT = {"object": "video", "status": "queued", "progress": 0}
SORA = Words(CREATE, TAKEN_NEXT, about("SUBMITTED", task_id="task_1"))
VIDEOS = Words("/v1/videos", says(_OBJECT | {"id": NEXT_ID.decode()}), says(_OBJECT | {"id": "task_1"}))


def words_of(dialect: str) -> Words:
    return SORA if dialect == "sora" else VIDEOS


def _in_words(answer: Answer, words: Words) -> Answer:
    """An answer that takes a create, as a dialect says that; any other as it is."""
    return replace(answer, body=words.taken.body) if answer.body == TAKEN_NEXT.body else answer


async def measure(case: Case, folder: Path, dialect: str = "sora") -> Seen:
    """A create through the real client, server, ledger and sockets, in the words of a dialect."""
    words = words_of(dialect)
    answer = _in_words(case.answer, words)
    async with fault_gateway() as gateway, _address(case.to, gateway) as address:
        gateway.create_path = words.path
        gateway.on("POST", words.path, answer)
        gateway.on("GET", words.path, words.about)
        gateway.greeting = answer if case.greeting else None
        patience = SHORT_S if case.fault in {"stall", "drip"} else LONG_S
        settings = load(
            {},
            base_url=address,
            api_key="sk-key-of-the-faults",
            home=folder,
            connect_timeout=patience,
            create_timeout=patience,
            query_timeout=patience,
            max_prompt_length=10_000_000,
            dialect=dialect,
            **({"model": "some-model"} if dialect == "videos:generic" else {}),
        )
        prompt = "fly man " * (1_000_000 if case.moment == MOMENTS["in_body"] else 1)
        async with Client(build(settings)) as client:
            told = await client.call_tool("create_video", {"prompt": prompt})
        posts = gateway.creates()
        recorded = await anyio.to_thread.run_sync(states, folder / "ledger.sqlite3")
        outcome = told.structured_content["outcome"]
        return Seen(gateway.connections, len(posts), len(gateway.accepted()), outcome, ", ".join(recorded) or "no row")


@asynccontextmanager
async def _address(to: str, gateway: FaultGateway) -> AsyncIterator[str]:
    async with full_backlog() as full, tls_front(gateway.address, Authority().server()) as untrusted:
        yield {
            "nobody": closed_address(),
            "nowhere": "https://does-not-exist.invalid",
            "no answer": full,
            "tls": gateway.address.replace("http:", "https:"),
            "untrusted": untrusted,
        }.get(to, gateway.address)


def states(ledger: Path, where: str = "1") -> list[str]:
    """The state of every row; whether a task that the gateway has is already looked at makes no difference here."""
    with closing(sqlite3.connect(ledger)) as db:
        states = [row[0] for row in db.execute(f"SELECT state FROM videos WHERE {where} ORDER BY number")]  # noqa: S608
    return ["submitted" if state in UNDER_WAY else state for state in states]


async def measure_all(dialect: str = "sora") -> dict[Case, Seen]:
    """All cases, a few at a time."""
    measured: dict[int, Seen] = {}
    at_once = anyio.CapacityLimiter(12)

    async def run(number: int, case: Case, folder: Path) -> None:
        async with at_once:
            measured[number] = await measure(case, folder, dialect)

    with tempfile.TemporaryDirectory() as home:
        async with anyio.create_task_group() as group:
            for i, case in enumerate(CASES):
                group.start_soon(run, i, case, Path(home) / str(i))
    return {case: measured[i] for i, case in enumerate(CASES)}


def table(measured: dict[Case, Seen]) -> str:
    """The page."""
    lines = [
        f"| {c.moment} | {c.fault} | {s.connections} | {s.posts} | {s.accepted} | {s.told} | {s.recorded} |"
        for c, s in measured.items()
    ]
    return "\n".join([_HEAD, *lines, ""])


_HEAD = """\
# Every fault at every moment of a create

Measured by `python tests/support/faults.py`, which writes this page; `tests/faults/test_faults.py` holds it to what is
measured. Each line is one create, by the real client through the real server, over real sockets. *POSTs* came at
least with their whole head. *Accepted* means that the gateway has made a task: it does so as soon as a request has
arrived whole, if its answer is a 200, or one that a proxy in front of it may give in its place (5xx). A connection that
failed before anything could be sent, and a 429 that says why, are tried three times.

| when | fault | connections | POSTs | accepted | told | ledger |
|---|---|---|---|---|---|---|"""


def main() -> None:
    """Measure, and write the page."""
    PAGE.write_text(table(anyio.run(measure_all)), encoding="utf-8")


if __name__ == "__main__":
    main()
