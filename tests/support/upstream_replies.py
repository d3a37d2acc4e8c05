"""The answers of each kind of upstream, for tests that run in every dialect.

A new profile of a package is covered without a change here; a new package needs an entry in `REPLIES`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import ACCEPTED_NEXT, MP4, finished, task_reply
from fault_gateway import CREATE, NEXT_ID, Answer, FaultGateway, says

from sora_mcp.config.endpoint import OPENROUTER, SORA, VIDEOS
from sora_mcp.config.settings import load
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.dialects import named
from sora_mcp.dialects.protocol import Catalogued
from sora_mcp.dialects.replies import Reply
from sora_mcp.studio.catalogue import Catalogue

FIRST_ID = "task_1"
"""The task of the first create."""


@dataclass(frozen=True, slots=True)
class UpstreamReplies:
    """The path of a create in a kind of upstream, and the answers to an accepted create and to a query.

    `finish` finishes the first task, with a file at another address. `models` is the answer of its list of models, if
    that has to be read first.
    """

    path: str
    accepted: Answer
    about: Answer
    finish: Callable[[FaultGateway, str], None]
    models: Answer | None = None


def package_of(dialect: str) -> str:
    """The package in `sora_mcp.dialects` that implements this dialect."""
    return dialect.partition(":")[0]


def settings_for(dialect: str) -> dict[str, Any]:
    """The settings that a create in this dialect needs, besides an address and a key."""
    return {"dialect": dialect, "model": None if dialect == SORA else "some-model"}


def sandbox_settings_for(dialect: str) -> dict[str, Any]:
    """The same for the sandbox in this dialect."""
    models = {SORA: None, OPENROUTER: "sandbox/aurora-2"}
    return {"dialect": dialect, "model": models.get(dialect, "sandbox")}


def smallest_video(dialect: str, capabilities: Capabilities) -> dict[str, int]:
    """A small and short video that the sandbox makes in this dialect."""
    if dialect == OPENROUTER:
        return {"width": 480, "height": 480, "n_frames": 120}
    width, height = (64, 64) if capabilities.any_size else min(capabilities.sizes)
    return {"width": width, "height": height, "n_frames": 60 if capabilities.any_length else min(capabilities.lengths)}


_OBJECT = {"object": "video", "status": "queued", "progress": 0}


def _finish_sora(gateway: FaultGateway, address: str) -> None:
    gateway.on("GET", CREATE, finished(address))


def _finish_videos(gateway: FaultGateway, address: str) -> None:
    done = _OBJECT | {"id": FIRST_ID, "status": "completed", "url": address, "metadata": {"url": address}}
    gateway.on("GET", "/v1/videos", says(done))
    gateway.on("GET", f"/v1/videos/{FIRST_ID}/content", Answer(302, headers={"Location": address}))


_ROUTER = "/api/v1/videos"
_JOB = {"id": FIRST_ID, "polling_url": "https://elsewhere.example/jobs/1", "status": "pending"}
_LISTED = {"data": [{"id": "some-model", "supported_frame_images": ["first_frame", "last_frame"]}]}


def _finish_openrouter(gateway: FaultGateway, address: str) -> None:
    addresses = {"urls": [address], "unsigned_urls": [f"{gateway.address}{_ROUTER}/{FIRST_ID}/content?index=0"]}
    gateway.on("GET", _ROUTER, says(_JOB | addresses | {"status": "completed", "usage": {"cost": 0.5}}))
    gateway.on("GET", f"{_ROUTER}/{FIRST_ID}/content", Answer(302, headers={"Location": address}))


REPLIES = {
    SORA: UpstreamReplies(CREATE, ACCEPTED_NEXT, task_reply("SUBMITTED", task_id=FIRST_ID), _finish_sora),
    VIDEOS: UpstreamReplies(
        "/v1/videos",
        says(_OBJECT | {"id": NEXT_ID.decode()}),
        says(_OBJECT | {"id": FIRST_ID}),
        _finish_videos,
    ),
    OPENROUTER: UpstreamReplies(
        _ROUTER,
        says(_JOB | {"id": NEXT_ID.decode()}, 202),
        says(_JOB),
        _finish_openrouter,
        says(_LISTED),
    ),
}
"""By the package of the dialect."""


def script_gateway(gateway: FaultGateway, dialect: str, create: Answer | None = None) -> UpstreamReplies:
    """Script a gateway to answer in a dialect; creates are accepted, or answered with `create`. Returns the replies."""
    replies = REPLIES[package_of(dialect)]
    gateway.create_path = replies.path
    gateway.on("POST", replies.path, create or replies.accepted)
    gateway.on("GET", replies.path, replies.about)
    if replies.models is not None:
        gateway.on("GET", f"{replies.path}/models", replies.models)
    return replies


async def preload_catalogue(dialect: str, home: Path, address: str) -> None:
    """Store the list of models of an address in a server's home, if the dialect needs it."""
    replies, known_dialect = REPLIES[package_of(dialect)], named(dialect, load({}, **settings_for(dialect)))
    if replies.models is None or not isinstance(known_dialect, Catalogued):
        return
    catalogue = known_dialect.read_catalogue(Reply(200, {}, replies.models.body, now=0))

    async def fetch() -> str:
        return catalogue

    await Catalogue(home, address, known_dialect, fetch, time.time).load()


def in_dialect(answer: Answer, replies: UpstreamReplies) -> Answer:
    """Translate the answer to an accepted create to these replies; leave any other as it is."""
    return replace(answer, body=replies.accepted.body) if answer.body == ACCEPTED_NEXT.body else answer


FILE = Answer(200, MP4, {"Content-Type": "video/mp4"})
"""A video file, as any server sends it."""
