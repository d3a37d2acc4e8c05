"""What each kind of upstream answers, for tests that are run in the words of every dialect.

A new profile of a package is covered without a change here; a new package needs an entry in `WORDS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from bench import MP4, TAKEN_NEXT, about, finished
from fault_gateway import CREATE, NEXT_ID, Answer, FaultGateway, says

from sora_mcp.config.endpoint import SORA, VIDEOS

FIRST_ID = "task_1"
"""The task of the first create."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a kind of upstream says of a create: its path, and the answers to a create that is taken and to a query.

    `finish` lets the first task have finished, with a file that lies at another address.
    """

    path: str
    taken: Answer
    about: Answer
    finish: Callable[[FaultGateway, str], None]


def package_of(dialect: str) -> str:
    """The package in `sora_mcp.dialects` whose dialect this is."""
    return dialect.partition(":")[0]


def settings_of(dialect: str) -> dict[str, Any]:
    """The settings that a create in a dialect needs, besides an address and a key."""
    return {"dialect": dialect, "model": None if dialect == SORA else "some-model"}


_OBJECT = {"object": "video", "status": "queued", "progress": 0}


def _finish_sora(gateway: FaultGateway, address: str) -> None:
    gateway.on("GET", CREATE, finished(address))


def _finish_videos(gateway: FaultGateway, address: str) -> None:
    done = _OBJECT | {"id": FIRST_ID, "status": "completed", "url": address, "metadata": {"url": address}}
    gateway.on("GET", "/v1/videos", says(done))
    gateway.on("GET", f"/v1/videos/{FIRST_ID}/content", Answer(302, headers={"Location": address}))


WORDS = {
    SORA: Words(CREATE, TAKEN_NEXT, about("SUBMITTED", task_id=FIRST_ID), _finish_sora),
    VIDEOS: Words(
        "/v1/videos",
        says(_OBJECT | {"id": NEXT_ID.decode()}),
        says(_OBJECT | {"id": FIRST_ID}),
        _finish_videos,
    ),
}
"""By the package of the dialect."""


def speak(gateway: FaultGateway, dialect: str, create: Answer | None = None) -> Words:
    """Script a gateway to answer in the words of a dialect: creates so, or taken. What it was scripted with."""
    words = WORDS[package_of(dialect)]
    gateway.create_path = words.path
    gateway.on("POST", words.path, create or words.taken)
    gateway.on("GET", words.path, words.about)
    return words


def in_words(answer: Answer, words: Words) -> Answer:
    """An answer that takes a create, as these words say that; any other as it is."""
    return replace(answer, body=words.taken.body) if answer.body == TAKEN_NEXT.body else answer


FILE = Answer(200, MP4, {"Content-Type": "video/mp4"})
"""A video's file, as any server gives it."""
