"""Every socket fault at every moment of a create: what the gateway saw, what the agent got, what was recorded.

Run in every dialect: a new profile is measured without a change here.
`python tests/support/faults.py` measures all of them and writes `tests/faults/FAULTS.md`; a test compares that page
with measurements. Each case has its own gateway, server and ledger, so that all of them can run at once.
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import anyio
from bench import ACCEPTED_NEXT
from fault_gateway import (
    Answer,
    FaultGateway,
    Moment,
    closed_address,
    fault_gateway,
    full_backlog,
    says,
)
from ledgers import Store, in_file
from mcp import Client
from postgres import running_cluster
from tls_front import Authority, tls_front
from upstream_replies import REPLIES, in_dialect, package_of, preload_catalogue, script_gateway, settings_for

from sora_mcp.config.endpoint import SORA
from sora_mcp.config.settings import load
from sora_mcp.core.tasks import UNDER_WAY
from sora_mcp.dialects import DIALECTS
from sora_mcp.server import build

PAGE = Path(__file__).parents[1] / "faults" / "FAULTS.md"
SHORT_S, LONG_S = 0.8, 20.0
"""Timeouts: for faults in which nothing arrives, and for others, where a slow machine must not look like a fault."""

HTML = b"<html><title>502 Bad Gateway</title></html>"
REDIRECT = {"Location": "https://elsewhere.example"}
BUSY = says({"error": {"message": "busy", "type": "new_api_error"}}, 429, Retry_After="0")

SOCKET = {
    "reset": replace(ACCEPTED_NEXT, fault="reset"),
    "orderly close": replace(ACCEPTED_NEXT, fault="close"),
    "stall": replace(ACCEPTED_NEXT, fault="stall"),
    "drip": replace(ACCEPTED_NEXT, fault="drip"),
    "garbage bytes": replace(ACCEPTED_NEXT, fault="garbage"),
}
ANSWERS = {
    "plain 500": Answer(500, b"oops", accepts=True),
    "HTML 502": Answer(502, HTML, {"Content-Type": "text/html"}, accepts=True),
    "plain 504": Answer(504, accepts=True),
    "307": Answer(307, b"", REDIRECT),
    "400": says({"code": "invalid_request", "message": "no"}, 400),
    "403": says({"code": "quota_not_enough", "message": "no"}, 403),
    "429 with words": BUSY,
    "429 without words": Answer(429, headers={"Retry-After": "0"}),
}
LENGTHS = {
    "Content-Length too long": replace(ACCEPTED_NEXT, fault="truncate"),
    "Content-Length too short": replace(ACCEPTED_NEXT, fault="close", missing=-10),
    "no length, closed": replace(ACCEPTED_NEXT, fault="no_length"),
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
_BEFORE_REQUEST: tuple[Moment, ...] = ("connected", "in_head", "in_body")
BEFORE_THE_CONNECTION = "before the connection"
TLS = "during the TLS handshake"


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """One case. `greeting`: the answer is played before a request is known. `target`: what the client connects to."""

    moment: str
    fault: str
    answer: Answer
    greeting: bool = False
    target: str = "gateway"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a case."""

    connections: int
    posts: int
    accepted: int
    outcome: str
    recorded: str


def _cases() -> list[Case]:
    """Every fault at every moment at which it can occur."""
    nothing = Answer()
    cases = [
        Case(BEFORE_THE_CONNECTION, "refused", nothing, target="nobody"),
        Case(BEFORE_THE_CONNECTION, "no such name", nothing, target="nowhere"),
        Case(BEFORE_THE_CONNECTION, "stall", nothing, target="no answer"),
        Case(TLS, "a certificate nobody trusts", nothing, target="untrusted"),
    ]
    cases += [
        Case(TLS, fault, replace(answer, at="connected"), greeting=True, target="tls")
        for fault, answer in SOCKET.items()
    ]
    for moment, label in MOMENTS.items():
        faults = SOCKET | (
            {name: replace(a, fault="answer") for name, a in ANSWERS.items()} if moment in _BEFORE_REQUEST else {}
        )
        faults |= {"requested": ANSWERS, "replied": LENGTHS}.get(moment, {})
        cases += [
            Case(label, fault, replace(a, at=moment), greeting=moment in {"connected", "in_head"})
            for fault, a in faults.items()
        ]
    return cases


CASES = _cases()


_UNREAD = {BEFORE_THE_CONNECTION, TLS, *(MOMENTS[moment] for moment in _BEFORE_REQUEST)}
_FIRST_DIALECTS = {package_of(dialect): dialect for dialect in reversed(list(DIALECTS))}


def cases_for(dialect: str) -> list[Case]:
    """All cases for the first dialect of a package; for its others, those in which an answer has started to arrive.

    Before that, the outcome is up to the gateway's client alone, and the others send the same kind of body; those are
    also the slow cases.
    """
    return (
        CASES
        if dialect == _FIRST_DIALECTS[package_of(dialect)]
        else [case for case in CASES if case.moment not in _UNREAD]
    )


def _is_large(case: Case) -> bool:
    """Whether the body must exceed the socket buffers."""
    return case.moment == MOMENTS["in_body"]


MakeStore = Callable[[Path], Store]
"""Makes the ledger of a case in its folder."""


async def measure(case: Case, folder: Path, store: Store, dialect: str = SORA) -> Outcome:
    """Run a create through the real client, server, ledger and sockets, in a dialect."""
    answer = in_dialect(case.answer, REPLIES[package_of(dialect)])
    async with fault_gateway() as gateway, _address(case.target, gateway) as address:
        script_gateway(gateway, dialect, answer)
        await preload_catalogue(dialect, folder / "home", address)
        gateway.greeting = answer if case.greeting else None
        timeout_s = SHORT_S if case.fault in {"stall", "drip"} else LONG_S
        settings = load(
            {},
            base_url=address,
            api_key="sk-key-of-the-faults",
            home=folder / "home",
            connect_timeout=timeout_s,
            create_timeout=timeout_s,
            query_timeout=timeout_s,
            max_prompt_length=10_000_000,
            **settings_for(dialect),
            **store.values,
        )
        prompt = "fly man " * (1_000_000 if _is_large(case) else 1)
        async with Client(build(settings)) as client:
            result = await client.call_tool("create_video", {"prompt": prompt})
            connections = gateway.connections  # later there may be one more, to query the task
        posts = gateway.creates()
        recorded = await anyio.to_thread.run_sync(states, store)
        outcome = result.structured_content["outcome"]
        return Outcome(connections, len(posts), len(gateway.accepted()), outcome, ", ".join(recorded) or "no row")


@asynccontextmanager
async def _address(target: str, gateway: FaultGateway) -> AsyncIterator[str]:
    async with full_backlog() as full, tls_front(gateway.address, Authority().server()) as untrusted:
        yield {
            "nobody": closed_address(),
            "nowhere": "https://does-not-exist.invalid",
            "no answer": full,
            "tls": gateway.address.replace("http:", "https:"),
            "untrusted": untrusted,
        }.get(target, gateway.address)


def states(store: Store, condition: str = "TRUE") -> list[str]:
    """The state of every row; all states of a task under way count as submitted here."""
    states = [row[0] for row in store.rows(f"SELECT state FROM videos WHERE {condition} ORDER BY number")]  # noqa: S608
    return ["submitted" if state in UNDER_WAY else state for state in states]


async def measure_all(dialect: str = SORA, make_store: MakeStore = in_file) -> dict[Case, Outcome]:
    """All cases of a dialect, a few at a time."""
    measured: dict[Case, Outcome] = {}
    small, large = anyio.CapacityLimiter(12), anyio.CapacityLimiter(1)  # large ones delay the others

    async def run(case: Case, folder: Path) -> None:
        async with large if _is_large(case) else small:
            measured[case] = await measure(case, folder, make_store(folder), dialect)

    cases = cases_for(dialect)
    with tempfile.TemporaryDirectory() as home:
        async with anyio.create_task_group() as group:
            for i, case in enumerate(cases):
                group.start_soon(run, case, Path(home) / str(i))
    return {case: measured[case] for case in cases}


def row(case: Case, seen: Outcome) -> str:
    """A line of the page."""
    return (
        f"| {case.moment} | {case.fault} | {seen.connections} | {seen.posts} | {seen.accepted} |"
        f" {seen.outcome} | {seen.recorded} |"
    )


def published() -> dict[tuple[str, str], Outcome]:
    """What the page says, by moment and fault."""
    lines = PAGE.read_text(encoding="utf-8").partition(_PAGE_HEAD)[2].partition(_OTHERS)[0].splitlines()
    page: dict[tuple[str, str], Outcome] = {}
    for line in filter(None, lines):
        moment, fault, connections, posts, accepted, outcome, recorded = map(str.strip, line.strip("|").split("|"))
        page[moment, fault] = Outcome(int(connections), int(posts), int(accepted), outcome, recorded)
    return page


def differences(
    measured: dict[Case, Outcome], same: dict[tuple[str, str], Outcome]
) -> dict[str, tuple[Outcome, Outcome]]:
    """The cases whose outcome in a dialect differs from the documented dialect: both outcomes, by case.

    The number of connections is ignored: some dialects read the list of models first.
    """
    pairs = {f"{c.moment}: {c.fault}": (seen, same[c.moment, c.fault]) for c, seen in measured.items()}
    return {
        name: (own, other)
        for name, (own, other) in pairs.items()
        if replace(own, connections=other.connections) != other
    }


def summary_line(dialect: str, measured: dict[Case, Outcome], same: dict[tuple[str, str], Outcome]) -> str:
    """The page's line on another dialect."""
    return f"| `{dialect}` | {len(measured)} | {len(differences(measured, same))} |"


def postgres_summary_line(measured: dict[Case, Outcome], same: dict[tuple[str, str], Outcome]) -> str:
    """The page's line on the ledger in PostgreSQL."""
    return f"| the documented ones | {len(measured)} | {len(differences(measured, same))} |"


_PAGE_HEAD = """\
# Every fault at every moment of a create

Measured by `python tests/support/faults.py`, which writes this page; `tests/faults/test_faults.py` holds it to what is
measured. Each line is one create, by the real client through the real server, over real sockets. *POSTs* came at
least with their whole head. *Accepted* means that the gateway has made a task: it does so as soon as a request has
arrived whole, if its answer is a 200, or one that a proxy in front of it may give in its place (5xx). A connection that
failed before anything could be sent, and a 429 that says why, are tried three times. These are the documented words;
the other dialects stand below.

| when | fault | connections | POSTs | accepted | told | ledger |
|---|---|---|---|---|---|---|"""

_OTHERS = """
## In other words

The same lines for the other dialects, and how many come to other POSTs, another outcome or another record. What happens
before an answer has begun to come is decided without a dialect: for the further profiles of one kind of server, which
send the same form, only the lines from "after the request" on are measured.

| dialect | lines | differing |
|---|---|---|"""

_IN_POSTGRES = """
## With the ledger in PostgreSQL

The same again, where servers share a ledger in PostgreSQL.

| words | lines | differing |
|---|---|---|"""


async def _page() -> str:
    documented = await measure_all()
    same = {(case.moment, case.fault): seen for case, seen in documented.items()}
    others = [summary_line(name, await measure_all(name), same) for name in DIALECTS if name != SORA]
    with running_cluster() as cluster:
        in_postgres = await measure_all(make_store=cluster.store)
    lines = [_PAGE_HEAD, *(row(case, seen) for case, seen in documented.items()), _OTHERS, *others]
    return "\n".join([*lines, _IN_POSTGRES, postgres_summary_line(in_postgres, same), ""])


def main() -> None:
    """Measure, and write the page."""
    PAGE.write_text(anyio.run(_page), encoding="utf-8")


if __name__ == "__main__":
    main()
