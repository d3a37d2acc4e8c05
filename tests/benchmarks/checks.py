"""Whether what a crowd paid for is in the ledger, once, and was told as it is."""

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

TRIES = 40
"""Half seconds until the last answers are recorded: a server goes on trying for a while."""
_ROWS = "SELECT body, task_id, state FROM videos WHERE merged_into IS NULL"
NOT_SENT = {"not_submitted", "rejected"}


async def check(
    replicas: Replicas, ledger: Ledger, token: str, accepted: Mapping[str, Sequence[str]], findings: Findings
) -> dict[str, float]:
    """Counts of what was accepted for each prompt, of which there are rows, and of what has to be 0."""
    urls = replicas.urls
    for _ in range(TRIES):
        await asyncio.sleep(0.5)
        for number in range(len(urls)):  # whoever lists sees to the rows whose writer is gone
            await Person(number, urls[number : number + 1], token, Findings()).list()
        rows = _rows(replicas.home, ledger)
        if not any(state == "sending" for _, _, state in rows):
            break
    tasks = {task_id for _, task_id, _ in rows if task_id is not None}
    unknown: dict[str, int] = defaultdict(int)
    for prompt, _, state in rows:
        unknown[prompt] += state == "unknown"
    without = [
        task_id
        for prompt, task_ids in accepted.items()
        for task_id in set(task_ids) - tasks
        if unknown[prompt] < len(set(task_ids) - tasks)
    ]
    told_tasks = {task_id for task_ids in findings.task_ids.values() for task_id in task_ids}
    told_otherwise = [
        prompt for prompt in accepted if findings.told[prompt] and NOT_SENT.issuperset(findings.told[prompt])
    ]
    return {
        "intents": len(findings.told),
        "accepted_posts": sum(map(len, accepted.values())),
        "most_posts_of_an_intent": max(map(len, accepted.values()), default=0),
        "posts_beyond_one_of_an_intent": sum(len(each) - 1 for each in accepted.values()),
        "rows": len(rows),
        "rows_unknown": sum(unknown.values()),
        "accepted_without_a_row": len(without),
        "told_otherwise": len(told_otherwise),
        "lost_tasks": len(told_tasks - tasks) + sum(state == "lost" for _, _, state in rows),
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
