"""A team's server under load: `python tests/benchmarks/shared.py [--clients 200] [--seconds 60] [--json FILE]`.

Ten people with tokens of their own, on connections of both eras, make videos, look at them and list them, all at
once; some ask for the same video twice. Nothing may be paid for twice, and nothing that was paid for may be missing
in the ledger. Then: get_video beside a server that does nothing, with the same kind of token, in turns; and what is
held in memory after thousands of conversations, and with sessions that nobody closes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from load import HttpClient
from processes import BARE, GATEWAY, LOAD, SORA, Env, Process, run, serving

ERAS = ("2025-11-25", "2026-07-28")
PEOPLE = 10
LOOKS = 4
SERVE = (*SORA, "serve", "--transport", "streamable-http", "--port", "0")
Report = dict[str, float]


class Person:
    """One connection of somebody who works for as long as there is time."""

    def __init__(self, number: int, url: str, token: str) -> None:
        self._number = number
        self._client = HttpClient(url, ERAS[number % 2], token)
        self.times: dict[str, list[float]] = {}
        self.errors: Counter[str] = Counter()

    async def work(self, until: float) -> None:
        """Make a video, look at it, list; over and over. A connection that is lost is made anew."""
        await self._client.connect()
        number = 0
        while time.monotonic() < until:
            number += 1
            try:
                await self._converse(f"person {self._number}, video {number}", twice=number % 5 == 0)
            except (RuntimeError, OSError, asyncio.IncompleteReadError) as error:
                self.errors[f"{type(error).__name__}: {str(error)[-200:]}"] += 1
                self._client.close()
                await self._client.connect()
        self._client.close()

    async def _converse(self, prompt: str, *, twice: bool) -> None:
        task_id = await self._create(prompt)
        if twice and await self._create(prompt) != task_id:
            self.errors["paid for twice"] += 1
        for _ in range(LOOKS):
            await self._call("get_video", task_id=task_id)
        await self._call("list_videos", limit=3)

    async def _create(self, prompt: str) -> str:
        return str((await self._call("create_video", prompt=prompt))["task_id"])

    async def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        began = time.perf_counter()
        _, body = await self._client.send(self._client.request("tools/call", {"name": tool, "arguments": arguments}))
        self.times.setdefault(tool, []).append(time.perf_counter() - began)
        line = next(line for line in body.split(b"\n") if line.startswith((b"data: {", b"{")))
        result: dict[str, Any] = json.loads(line.removeprefix(b"data: "))["result"]["structuredContent"]
        return result


async def crowd(url: str, tokens: list[str], clients: int, seconds: float) -> list[Person]:
    """So many connections at work for so long."""
    people = [Person(number, url, tokens[number % len(tokens)]) for number in range(clients)]
    until = time.monotonic() + seconds
    await asyncio.gather(*(person.work(until) for person in people))
    return people


def at_once(url: str, tokens: list[str], *, gateway: str, home: Path, clients: int, seconds: float) -> Report:
    """All of them, and what became of what they paid for."""
    people = asyncio.run(crowd(url, tokens, clients, seconds))
    times = sorted(each for person in people for some in person.times.values() for each in some)
    creates = sorted(each for person in people for each in person.times.get("create_video", ()))
    errors: Counter[str] = sum((person.errors for person in people), Counter())
    for words, number in errors.most_common(5):
        sys.stderr.write(f"{number} times {words}\n")
    with urlopen(f"{gateway}/accepted") as reply:  # noqa: S310 - our own gateway
        accepted: dict[str, list[str]] = json.load(reply)
    with closing(sqlite3.connect(home / "ledger.sqlite3")) as ledger:
        rows = {row[0] for row in ledger.execute("SELECT task_id FROM videos WHERE task_id IS NOT NULL")}
    return {
        "clients": clients,
        "calls": len(times),
        "calls_per_s": len(times) / seconds,
        "error_rate": errors.total() / max(1, len(times) + errors.total()),
        "p50_ms": _share(times, 0.5) * 1000,
        "p99_ms": _share(times, 0.99) * 1000,
        "create_p99_ms": _share(creates, 0.99) * 1000,
        "intents": len(accepted),
        "most_posts_of_an_intent": max(map(len, accepted.values()), default=0),
        "accepted_without_a_row": len({task for tasks in accepted.values() for task in tasks} - rows),
    }


def _share(values: list[float], share: float) -> float:
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def beside_a_bare_server(url: str, token: str, task_id: str, rounds: int, calls: int) -> Report:
    """get_video per second, as a share of what the SDK alone manages with the same kind of token."""
    with serving((*BARE, "--http", "--token", token)) as bare:
        at_bare = bare.address()
        trivial = {"name": "one", "arguments": {"text": "x"}}
        look = {"name": "get_video", "arguments": {"task_id": task_id}}
        targets = [
            {"label": f"{who} {era}", "url": at, "era": era, "method": "tools/call", "params": params, "token": token}
            for era in ERAS
            for who, at, params in (("ours", url, look), ("bare", at_bare, trivial))
        ]
        plan = {"targets": targets, "rounds": rounds, "calls": calls}
        rates = json.loads(run(LOAD, given=json.dumps(plan))[1])["calls_per_s"]
    report: Report = {}
    for era in ERAS:
        ours, theirs = median(rates[f"ours {era}"]), median(rates[f"bare {era}"])
        report |= {f"get_video_per_s {era}": ours, f"bare_per_s {era}": theirs, f"ratio {era}": ours / theirs}
    return report


def remembering(
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


def tokens_of(people: int, env: Env) -> list[str]:
    """A token for each."""
    names = [f"person{number}" for number in range(people)]
    return [json.loads(run((*SORA, "token", "add", name, "--json"), env)[1])["token"] for name in names]


def measure(folder: Path, asked: argparse.Namespace) -> Iterator[Report]:
    """Everything, one after the other."""
    with serving(GATEWAY) as gateway:
        address = gateway.address()
        env = {
            "SORA_BASE_URL": address,
            "SORA_API_KEY": "sk-benchmark",
            "SORA_HOME": str(folder),
            "SORA_AUTH": "tokens",
        }
        tokens = tokens_of(PEOPLE, env)
        with serving(SERVE, env) as server:
            url = server.address()
            yield at_once(url, tokens, gateway=address, home=folder, clients=asked.clients, seconds=asked.seconds)
            with urlopen(f"{address}/accepted") as reply:  # noqa: S310 - our own gateway
                task_id = json.load(reply)["person 0, video 1"][0]
            if asked.rounds:
                yield beside_a_bare_server(url, tokens[0], task_id, asked.rounds, asked.calls)
            if asked.conversations:
                yield from remembering(
                    server, url, tokens[0], task_id, conversations=asked.conversations, sessions=asked.sessions
                )


def main() -> None:
    """Measure, print a line for each figure, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--rounds", type=int, default=5, help="turns beside a bare server; 0 leaves that out")
    parser.add_argument("--calls", type=int, default=1000, help="calls in each turn")
    parser.add_argument("--conversations", type=int, default=10_000, help="0 leaves that out, and the sessions")
    parser.add_argument("--sessions", type=int, default=2000)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON")
    asked = parser.parse_args()
    report: Report = {}
    with TemporaryDirectory() as folder:
        for figures in measure(Path(folder), asked):
            report |= figures
            for name, value in figures.items():
                sys.stdout.write(f"{name:40} {value:12,.4g}\n")
            sys.stdout.flush()
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
