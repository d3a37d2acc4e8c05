"""Checks that everything a crowd paid for is in the ledger, once, and was reported correctly."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from people import Findings, Person
from replicas import Ledger, Replicas

MAX_ATTEMPTS = 40
"""Half seconds to wait for the last answers to be recorded: a server retries for a while."""
_ROWS = "SELECT body, task_id, state FROM videos WHERE merged_into IS NULL"
NOT_SENT = {"not_submitted", "rejected"}


async def check(
    replicas: Replicas, ledger: Ledger, token: str, accepted: Mapping[str, Sequence[str]], findings: Findings
) -> dict[str, float]:
    """Counts of accepted creates, of rows, and of everything that has to be 0."""
    urls = replicas.urls
    for _ in range(MAX_ATTEMPTS):
        await asyncio.sleep(0.5)
        for number in range(len(urls)):  # listing settles the rows whose writer has died
            await Person(number, urls[number : number + 1], token, Findings()).list()
        rows = _rows(replicas.home, ledger)
        if not any(state == "sending" for _, _, state in rows):
            break
    tasks = {task_id for _, task_id, _ in rows if task_id is not None}
    unknown: dict[str, int] = defaultdict(int)
    for prompt, _, state in rows:
        unknown[prompt] += state == "unknown"
    unrecorded = [
        task_id
        for prompt, task_ids in accepted.items()
        for task_id in set(task_ids) - tasks
        if unknown[prompt] < len(set(task_ids) - tasks)
    ]
    reported_tasks = {task_id for task_ids in findings.task_ids.values() for task_id in task_ids}
    contradicted = [
        prompt for prompt in accepted if findings.outcomes[prompt] and NOT_SENT.issuperset(findings.outcomes[prompt])
    ]
    return {
        "intents": len(findings.outcomes),
        "accepted_posts": sum(map(len, accepted.values())),
        "most_posts_of_an_intent": max(map(len, accepted.values()), default=0),
        "posts_beyond_one_of_an_intent": sum(len(each) - 1 for each in accepted.values()),
        "rows": len(rows),
        "rows_unknown": sum(unknown.values()),
        "accepted_without_a_row": len(unrecorded),
        "told_otherwise": len(contradicted),
        "lost_tasks": len(reported_tasks - tasks) + sum(state == "lost" for _, _, state in rows),
        "still_sending": sum(state == "sending" for _, _, state in rows),
    }


def _rows(home: Path, ledger: Ledger) -> list[tuple[str, str | None, str]]:
    """Prompt, task and state of each row."""
    rows: list[Any]
    if ledger.url is None:
        with closing(sqlite3.connect(home / "ledger.sqlite3")) as file:
            rows = file.execute(_ROWS).fetchall()
    else:
        with psycopg.connect(ledger.url) as database:
            rows = database.execute(_ROWS).fetchall()
    return [(json.loads(body)["prompt"], task_id, state) for body, task_id, state in rows]
