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
LOOKS = 4
ANSWER_WITHIN_S = 60
AGAIN_AFTER_S = 0.5


class Refused(Exception):
    """A tool said no: `outcome`, and its words."""

    def __init__(self, outcome: str, words: str) -> None:
        super().__init__(words)
        self.outcome = outcome


@dataclass(slots=True)
class Call:
    """One call: when it ended (of the monotonic clock), how long it took, and what went wrong."""

    tool: str
    ended_at: float
    took_s: float
    error: str | None


@dataclass(slots=True)
class Findings:
    """What all of them saw."""

    calls: list[Call] = field(default_factory=list)
    told: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    """Outcomes that were told for each prompt, oldest first; `no answer` where there was none."""
    task_ids: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Tasks that were told for each prompt."""

    @property
    def errors(self) -> Counter[str]:
        return Counter(call.error for call in self.calls if call.error is not None)


class Person:
    """One connection of somebody who works for as long as there is time."""

    def __init__(self, number: int, urls: Sequence[str], token: str, findings: Findings) -> None:
        self._number = number
        self._urls = urls
        self._token = token
        self._findings = findings
        self._turn = number
        self._client: HttpClient | None = None

    async def work(self, until: float) -> None:
        """Make a video, look at it, list; over and over."""
        number = 0
        while time.monotonic() < until:
            number += 1
            await self._converse(f"person {self._number}, video {number}", until, twice=number % 5 == 0)
        if self._client is not None:
            self._client.close()

    async def list(self) -> bool:
        """List the newest videos, once; whether there was an answer."""
        try:
            await self._call("list_videos", limit=1)
        except (Refused, OSError):
            return False
        return True

    async def _converse(self, prompt: str, until: float, *, twice: bool) -> None:
        task_id = await self._create(prompt, until)
        if twice and task_id is not None:
            await self._create(prompt, until)
        looks: list[tuple[str, dict[str, Any]]] = [("get_video", {"task_id": task_id})] if task_id is not None else []
        for tool, arguments in (*looks * LOOKS, ("list_videos", {"limit": 3})):
            try:
                await self._call(tool, **arguments)
            except (Refused, OSError):
                await asyncio.sleep(AGAIN_AFTER_S)

    async def _create(self, prompt: str, until: float) -> str | None:
        """The task; None where nobody knows, or time is up. What was not submitted, or not answered, is asked again."""
        told = self._findings.told[prompt]
        while time.monotonic() < until:
            try:
                result = await self._call("create_video", prompt=prompt)
            except Refused as refusal:
                told.append(refusal.outcome)
                if refusal.outcome == "unknown":
                    return None
            except OSError:
                told.append("no answer")
            else:
                told.append(result["outcome"])
                if "task_id" not in result:  # sent, and the answer is not there yet
                    return None
                self._findings.task_ids[prompt].add(result["task_id"])
                return str(result["task_id"])
            await asyncio.sleep(AGAIN_AFTER_S)
        return None

    async def _call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """What a tool answers. Raises Refused, and OSError where there was no answer."""
        began, error = time.monotonic(), None
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                client = await self._connected()
                _, body = await client.send(client.request("tools/call", {"name": tool, "arguments": arguments}))
            return dict(_result(body)["structuredContent"])
        except CallFailed as failure:
            result = _result(failure.body)
            structured = result.get("structuredContent") or {}
            words = next((part["text"] for part in result.get("content", ())), str(failure))
            error = f"{tool}: {words[:100].splitlines()[0]}"
            if "outcome" not in structured:  # not the tool's: the session is not known there, perhaps
                self._leave()
            raise Refused(structured.get("outcome", "no answer"), error) from None
        except (OSError, EOFError) as failure:
            error = f"{tool}: no answer ({type(failure).__name__})"
            self._leave()
            raise OSError(error) from None
        finally:
            ended = time.monotonic()
            self._findings.calls.append(Call(tool, ended, ended - began, error))

    async def _connected(self) -> HttpClient:
        if self._client is None:
            client = HttpClient(self._urls[self._turn % len(self._urls)], ERAS[self._number % 2], self._token)
            try:
                await client.connect()
            except BaseException:
                client.close()
                raise
            self._client = client
        return self._client

    def _leave(self) -> None:
        """Go on at the next server."""
        self._turn += 1
        if self._client is not None:
            self._client.close()
        self._client = None


def _result(body: bytes) -> dict[str, Any]:
    """What a tool answered; empty where there is nothing of the kind."""
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n") if line.startswith((b"data: {", b"{"))]
    result: dict[str, Any] = json.loads(lines[-1]).get("result", {}) if lines else {}
    return result


async def crowd(urls: Sequence[str], tokens: Sequence[str], clients: int, until: float) -> Findings:
    """So many people at work until then (of the monotonic clock), spread over the servers one after the other."""
    findings = Findings()
    people = [Person(number, urls, tokens[number % len(tokens)], findings) for number in range(clients)]
    await asyncio.gather(*(person.work(until) for person in people))
    return findings
