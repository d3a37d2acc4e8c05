"""A team's servers under load: `python tests/benchmarks/shared.py [--clients 200] [--seconds 60] [--replicas 2]
[--ledger postgres] [--disturb] [--json FILE]`.

Ten people with tokens of their own, on connections of both eras, make videos, look at them and list them, all at once;
some ask for the same video twice. With `--disturb` the last server is killed and started again meanwhile, and
PostgreSQL is restarted, and then stands still for some seconds. Nothing may be paid for twice, and nothing that was
paid for may be missing in the ledger: where it is, this ends with status 1.

Then: get_video of one server and of all of them, and beside a server that does nothing, with the same kind of token,
in turns; and what is held in memory after thousands of conversations, and with sessions that nobody closes.
PostgreSQL is one of its own, or that of SORA_LEDGER_URL, which is not disturbed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from checks import check
from load import HttpClient
from people import ERAS, Findings, crowd
from processes import BARE, GATEWAY, LOAD, SORA, Env, Process, run, serving
from replicas import Ledger, Replicas, open_ledger

PEOPLE = 10
PARTS = 12
"""Lines of the table that shows how it went."""
FROZEN_S = 5.0
Report = dict[str, float]


class Course:
    """How it went: what was done to the servers and their ledger, and what they held, over time."""

    def __init__(self, replicas: Replicas, ledger: Ledger, seconds: float) -> None:
        self._replicas = replicas
        self._ledger = ledger
        self._seconds = seconds
        self._began = time.monotonic()
        self._events: list[tuple[float, str]] = []
        self._usage: list[str] = []

    @property
    def ends_at(self) -> float:
        return self._began + self._seconds

    async def watch(self) -> None:
        """Look at every server at the end of each part."""
        for part in range(1, PARTS + 1):
            await self._until(part / PARTS)
            used = [
                f"{each['mb']:.0f} MB {each['descriptors']:.0f} fds" if each else "gone"
                for each in self._replicas.usage()
            ]
            self._usage.append(", ".join(used))

    async def disturb(self) -> None:
        """Everything that goes wrong, one after the other."""
        last = len(self._replicas.urls) - 1
        await self._until(0.25)
        await self._do(f"server {last} killed", self._replicas.kill, last)
        await self._until(0.35)
        await self._do(f"server {last} started", self._replicas.start, last)
        if (postgres := self._ledger.postgres) is None:
            return
        await self._until(0.5)
        await self._do("PostgreSQL stopped", postgres.stop)
        await self._do("PostgreSQL started", postgres.start)
        await self._until(0.7)
        self._note("PostgreSQL stands still")
        with postgres.frozen():
            await asyncio.sleep(min(FROZEN_S, self._seconds / 8))
        self._note("PostgreSQL goes on")

    def lines(self, findings: Findings) -> Iterator[str]:
        """A line for each part."""
        yield f"{'s':>5} {'calls/s':>8} {'errors':>7} {'p50 ms':>7} {'p99 ms':>8}  each server; what happened"
        length = self._seconds / PARTS
        for part, used in enumerate(self._usage):
            begin, end = (self._began + length * each for each in (part, part + 1 if part + 1 < PARTS else 1e9))
            calls = [call for call in findings.calls if begin <= call.ended_at < end]
            times = sorted(call.duration_s for call in calls)
            errors = sum(call.error is not None for call in calls)
            events = "; ".join(event for at, event in self._events if begin <= at < end)
            yield (
                f"{length * (part + 1):5.0f} {len(calls) / length:8.0f} {errors:7} {share(times, 0.5) * 1000:7.0f}"
                f" {share(times, 0.99) * 1000:8.0f}  {used}; {events}".rstrip("; ")
            )

    async def _until(self, part: float) -> None:
        await asyncio.sleep(max(0.0, self._began + self._seconds * part - time.monotonic()))

    async def _do(self, event: str, action: Callable[..., None], *arguments: int) -> None:
        await asyncio.to_thread(action, *arguments)
        self._note(event)

    def _note(self, event: str) -> None:
        self._events.append((time.monotonic(), event))


def run_together(
    replicas: Replicas, ledger: Ledger, tokens: list[str], arguments: argparse.Namespace
) -> tuple[Findings, Report]:
    """All of them, and how it went."""

    async def together() -> tuple[Findings, Course]:
        course = Course(replicas, ledger, arguments.seconds)
        tasks = [crowd(replicas.urls, tokens, arguments.clients, course.ends_at), course.watch()]
        findings, *_ = await asyncio.gather(*tasks, *([course.disturb()] if arguments.disturb else []))
        assert isinstance(findings, Findings)
        return findings, course

    findings, course = asyncio.run(together())
    sys.stdout.write("\n".join(course.lines(findings)) + "\n")
    for message, number in findings.errors.most_common(8):
        sys.stdout.write(f"{number:6} times {message}\n")
    times = sorted(call.duration_s for call in findings.calls)
    durations = {
        tool: sorted(call.duration_s for call in findings.calls if call.tool == tool)
        for tool in ("create_video", "get_video", "list_videos")
    }
    return findings, {
        "cores": os.cpu_count() or 1,
        "replicas": len(replicas.urls),
        "clients": arguments.clients,
        "calls": len(times),
        "calls_per_s": len(times) / arguments.seconds,
        "error_rate": findings.errors.total() / max(1, len(times)),
        "p50_ms": share(times, 0.5) * 1000,
        "p99_ms": share(times, 0.99) * 1000,
    } | {
        f"{tool}_p{percent}_ms": share(values, percent / 100) * 1000
        for tool, values in durations.items()
        for percent in (50, 99)
    }


def share(values: list[float], part: float) -> float:
    """The value below which that part of sorted values lies."""
    return values[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def measure_queries(urls: list[str], token: str, task_id: str, rounds: int, calls: int) -> Report:
    """get_video per second: of one server, of all of them, and as a share of what the SDK alone manages with the same
    kind of token."""
    with serving((*BARE, "--http", "--token", token)) as bare:
        servers = {"one": urls[:1], "bare": [bare.address()]} | ({"all": urls} if len(urls) > 1 else {})
        trivial = {"name": "one", "arguments": {"text": "x"}}
        query = {"name": "get_video", "arguments": {"task_id": task_id}}
        targets = [
            {
                "label": f"{name} {era}",
                "urls": at,
                "era": era,
                "method": "tools/call",
                "params": trivial if name == "bare" else query,
                "token": token,
            }
            for era in ERAS
            for name, at in servers.items()
        ]
        plan = {"targets": targets, "rounds": rounds, "calls": calls}
        rates = json.loads(run(LOAD, stdin=json.dumps(plan))[1])["calls_per_s"]
    report: Report = {}
    for era in ERAS:
        ours, bare_rate = median(rates[f"one {era}"]), median(rates[f"bare {era}"])
        report |= {f"get_video_per_s {era}": ours, f"bare_per_s {era}": bare_rate, f"ratio {era}": ours / bare_rate}
        if len(urls) > 1:
            every = median(rates[f"all {era}"])
            report |= {f"get_video_per_s of {len(urls)} {era}": every, f"times one {era}": every / ours}
    return report


def measure_memory(
    server: Process, url: str, token: str, task_id: str, *, conversations: int, sessions: int
) -> Iterator[Report]:
    """Megabytes that the server holds: before, after so many conversations, and with so many sessions left open."""
    yield {"mb_before": server.memory_bytes / 1e6}
    for part in range(1, 5):
        asyncio.run(_converse(url, token, task_id, conversations // 4))
        yield {f"mb_after_{part * conversations // 4}_conversations": server.memory_bytes / 1e6}
    asyncio.run(_leave_open(url, token, sessions))
    yield {f"mb_with_{sessions}_sessions_open": server.memory_bytes / 1e6}


async def _converse(url: str, token: str, task_id: str, times: int) -> None:
    """Whole conversations, half of them with a session, a few at once."""
    left = iter(range(times))

    async def talk() -> None:
        for number in left:
            client = HttpClient(url, ERAS[number % 2], token)
            await client.connect()
            for method, params in (
                ("tools/list", {}),
                ("tools/call", {"name": "get_video", "arguments": {"task_id": task_id}}),
            ):
                await client.send(client.request(method, params))
            await client.end_session()
            client.close()

    await asyncio.gather(*(talk() for _ in range(20)))


async def _leave_open(url: str, token: str, times: int) -> None:
    for _ in range(times):
        client = HttpClient(url, ERAS[0], token)
        await client.connect()
        client.close()


def create_tokens(people: int, env: Env) -> list[str]:
    """A token for each."""
    names = [f"person{number}" for number in range(people)]
    return [json.loads(run((*SORA, "token", "add", name, "--json"), env)[1])["token"] for name in names]


def measure(folder: Path, arguments: argparse.Namespace) -> Iterator[Report]:
    """Everything, one after the other."""
    delay = ("--answer-after", "0.2") if arguments.disturb else ()  # so that servers are killed in the middle of a POST
    with serving((*GATEWAY, *delay)) as gateway, open_ledger(arguments.ledger) as ledger:
        address = gateway.address()
        env = {"SORA_BASE_URL": address, "SORA_API_KEY": "sk-benchmark", "SORA_AUTH": "tokens"}
        replicas = Replicas(arguments.replicas, folder, env, ledger)
        tokens = create_tokens(PEOPLE, replicas.env[0])
        with replicas:
            url = replicas.urls[0]
            findings, report = run_together(replicas, ledger, tokens, arguments)
            yield report
            with urlopen(f"{address}/accepted") as reply:  # noqa: S310 - our own gateway
                accepted: dict[str, list[str]] = json.load(reply)
            yield asyncio.run(check(replicas, ledger, tokens[0], accepted, findings))
            task_id = accepted["person 0, video 1"][0]
            if arguments.rounds:
                yield measure_queries(replicas.urls, tokens[0], task_id, arguments.rounds, arguments.calls)
            if arguments.conversations:
                yield from measure_memory(
                    replicas.process(0),
                    url,
                    tokens[0],
                    task_id,
                    conversations=arguments.conversations,
                    sessions=arguments.sessions,
                )


MUST_BE_ZERO = (
    "posts_beyond_one_of_an_intent",
    "accepted_without_a_row",
    "told_otherwise",
    "lost_tasks",
    "still_sending",
)
"""What has to be 0."""


def main() -> None:
    """Measure, print a line for each figure, write the JSON. Ends with status 1 where something was lost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--ledger", choices=("sqlite", "postgres"), default="sqlite")
    parser.add_argument("--disturb", action="store_true", help="kill a server, restart and freeze PostgreSQL meanwhile")
    parser.add_argument("--rounds", type=int, default=5, help="turns beside a bare server; 0 leaves that out")
    parser.add_argument("--calls", type=int, default=1000, help="calls in each turn")
    parser.add_argument("--conversations", type=int, default=10_000, help="0 leaves that out, and the sessions")
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    arguments = parser.parse_args()
    report: Report = {}
    with TemporaryDirectory() as folder:
        for figures in measure(Path(folder), arguments):
            report |= figures
            for name, value in figures.items():
                sys.stdout.write(f"{name:40} {value:12,.4g}\n")
            sys.stdout.flush()
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if nonzero := [name for name in MUST_BE_ZERO if report[name]]:
        sys.exit(f"Not as it has to be: {', '.join(nonzero)}")


if __name__ == "__main__":
    main()
