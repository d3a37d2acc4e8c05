"""People who work with a team's servers over HTTP for a while, all at once; each goes on at another server when theirs
is gone, and asks for the same video again where nobody could say what became of it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from load import CallFailed, HttpClient

ERAS = ("2025-11-25", "2026-07-28")
QUERIES_PER_VIDEO = 4
ANSWER_TIMEOUT_S = 60
RETRY_DELAY_S = 0.5


class Refused(Exception):
    """A tool refused a call, with this `outcome` and message."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclass(slots=True)
class Call:
    """One call: when it ended (of the monotonic clock), how long it took, and what went wrong."""

    tool: str
    ended_at: float
    duration_s: float
    error: str | None


@dataclass(slots=True)
class Findings:
    """The calls and results of all people."""

    calls: list[Call] = field(default_factory=list)
    outcomes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Outcomes for each prompt, oldest first; `no answer` if there was none."""
    task_ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Reported tasks for each prompt."""

    @property
    def errors(self) -> Counter[str]:
        return Counter(call.error for call in self.calls if call.error is not None)


class Person:
    """One connection of a person who works until a deadline."""

    def __init__(self, number: int, urls: Sequence[str], token: str, findings: Findings) -> None:
        self._number = number
        self._urls = urls
        self._token = token
        self._findings = findings
        self._turn = number
        self._client: HttpClient | None = None

    async def work(self, deadline: float) -> None:
        """Make a video, look at it, list; over and over."""
        number = 0
        while time.monotonic() < deadline:
            number += 1
            await self._converse(f"person {self._number}, video {number}", deadline, twice=number % 5 == 0)
        if self._client is not None:
            self._client.close()

    async def list(self) -> bool:
        """List the newest videos, once; whether there was an answer."""
        try:
            await self._call("list_videos", limit=1)
        except (Refused, OSError):
            return False
        return True

    async def _converse(self, prompt: str, deadline: float, *, twice: bool) -> None:
        task_id = await self._create(prompt, deadline)
        if twice and task_id is not None:
            await self._create(prompt, deadline)
        queries: list[tuple[str, dict[str, Any]]] = [("get_video", {"task_id": task_id})] if task_id is not None else []
        for tool, arguments in (*queries * QUERIES_PER_VIDEO, ("list_videos", {"limit": 3})):
            try:
                await self._call(tool, **arguments)
            except (Refused, OSError):
                await asyncio.sleep(RETRY_DELAY_S)

    async def _create(self, prompt: str, deadline: float) -> str | None:
        """Create a video, and return its task; None if unknown, or time is up. Retries what was not submitted."""
        outcomes = self._findings.outcomes[prompt]
        while time.monotonic() < deadline:
            try:
                result = await self._call("create_video", prompt=prompt)
            except Refused as refusal:
                outcomes.append(refusal.outcome)
                if refusal.outcome == "unknown":
                    return None
            except OSError:
                outcomes.append("no answer")
            else:
                outcomes.append(result["outcome"])
                if "task_id" not in result:  # sent, but not answered yet
                    return None
                self._findings.task_ids[prompt].add(result["task_id"])
                return str(result["task_id"])
            await asyncio.sleep(RETRY_DELAY_S)
        return None

    async def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """Call a tool and return its result. Raises Refused, or OSError if there was no answer."""
        started_at, error = time.monotonic(), None
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                client = await self._connect()
                _, body = await client.send(client.request("tools/call", {"name": tool, "arguments": arguments}))
            return dict(_result(body)["structuredContent"])
        except CallFailed as failure:
            result = _result(failure.body)
            structured = result.get("structuredContent") or {}
            message = next((part["text"] for part in result.get("content", ())), str(failure))
            error = f"{tool}: {message[:100].splitlines()[0]}"
            if "outcome" not in structured:  # not from the tool: the server may not know the session
                self._switch_server()
            raise Refused(structured.get("outcome", "no answer"), error) from None
        except (OSError, EOFError) as failure:
            error = f"{tool}: no answer ({type(failure).__name__})"
            self._switch_server()
            raise OSError(error) from None
        finally:
            ended_at = time.monotonic()
            self._findings.calls.append(Call(tool, ended_at, ended_at - started_at, error))

    async def _connect(self) -> HttpClient:
        if self._client is None:
            client = HttpClient(self._urls[self._turn % len(self._urls)], ERAS[self._number % 2], self._token)
            try:
                await client.connect()
            except BaseException:
                client.close()
                raise
            self._client = client
        return self._client

    def _switch_server(self) -> None:
        """Continue with the next server."""
        self._turn += 1
        if self._client is not None:
            self._client.close()
        self._client = None


def _result(body: bytes) -> dict[str, Any]:
    """The result of a tool call; empty if there is none."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith((b"data: {", b"{"))]
    result: dict[str, Any] = json.loads(lines[-1]).get("result", {}) if lines else {}
    return result


async def crowd(urls: Sequence[str], tokens: Sequence[str], clients: int, deadline: float) -> Findings:
    """So many people at work until then (of the monotonic clock), spread over the servers one after the other."""
    findings = Findings()
    people = [Person(number, urls, tokens[number % len(tokens)], findings) for number in range(clients)]
    await asyncio.gather(*(person.work(deadline) for person in people))
    return findings
