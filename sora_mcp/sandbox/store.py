"""The sandbox's tasks: kept on disk, moved through their states by the clock, rendered by one thread."""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import secrets
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sora_mcp.models import VideoRequest
from sora_mcp.sandbox.scenes import scene_of

logger = logging.getLogger(__name__)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_STARTS_AT = 0.15
"""The share of its time that a task stands in NOT_START."""


@dataclass(slots=True)
class Stored:
    """One task. Times are unix seconds; `generations` are ids, one for each variant."""

    id: str
    owner: str
    body: dict[str, Any]
    created_at: float
    seconds: float
    generations: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def request(self) -> VideoRequest:
        return VideoRequest.model_validate(self.body)

    def asks_for(self, trouble: str) -> bool:
        """Whether the prompt, or a beat, holds `[trouble]`."""
        beats = [action["description"] for action in self.body.get("actions") or []]
        return f"[{trouble}]" in " ".join([self.body.get("prompt") or "", *beats]).lower()


def owner_of(key: str) -> str:
    """What tells keys apart without being one."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


class Store:
    """Tasks, videos and uploads in a folder; several processes may share it.

    Every file is written under another name and then renamed, so that none is ever seen half written.
    """

    def __init__(self, home: Path, seconds: float, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.media = home / "media"
        self.uploads = home / "uploads"
        self._tasks = home / "tasks"
        self._seconds = seconds
        self._jobs: queue.Queue[Stored] = queue.Queue()
        self._rendered: dict[str, threading.Event] = {}
        self._worker: threading.Thread | None = None
        self.creates = 0
        """POSTs to the create path, whatever the answer."""
        self.accepted = 0
        """POSTs that made a task."""

    def add(self, body: dict[str, Any], owner: str) -> Stored:
        """Make a task and begin to render it."""
        task = Stored(new_id("task", self.clock()), owner, body, self.clock(), self._seconds)
        if task.asks_for("slow"):
            task.seconds *= 10
        if not task.asks_for("blocked") and not task.asks_for("fail"):
            task.generations = [new_id("gen", self.clock()) for _ in range(body["n_variants"])]
        self._save(task)
        self.accepted += 1
        self._enqueue(task)
        return task

    def find(self, task_id: str, owner: str) -> Stored | None:
        """A task, if this key made it."""
        task = self._load(task_id)
        return task if task is not None and task.owner == owner else None

    def generation(self, generation_id: str, owner: str) -> Path | None:
        """The file of a finished generation, if this key made it."""
        path = self.video(generation_id)
        owned = any(generation_id in task.generations for task in self._all(owner))
        return path if owned and path.is_file() else None

    def video(self, generation_id: str) -> Path:
        return self.media / f"{generation_id}.mp4"

    def upload(self, media_id: str) -> Path | None:
        """The file of an uploaded image."""
        found = sorted(self.uploads.glob(f"{media_id}.*")) if media_id.isascii() and media_id.isidentifier() else []
        return found[0] if found else None

    def save_upload(self, suffix: str, content: bytes) -> str:
        """Keep an uploaded image; returns its `media_…` id."""
        media_id = new_id("media", self.clock())
        _write(self.uploads / f"{media_id}.{suffix}", content)
        return media_id

    def status(self, task: Stored) -> tuple[str, int]:
        """The documented state and the progress (0..100) of a task now."""
        share = (self.clock() - task.created_at) / task.seconds if task.seconds else 1.0
        if share < _STARTS_AT:
            return "NOT_START", 0
        if share < 1:
            return "IN_PROGRESS", int(share * 100)
        if task.error or task.asks_for("fail"):
            return "FAILURE", 100
        if all(self.video(generation).is_file() for generation in task.generations):
            return "SUCCESS", 100
        return "IN_PROGRESS", 99

    def finish(self, task: Stored, patience: float) -> None:
        """Where a task's time is over but its videos are missing, render them, waiting `patience` seconds at most.

        They were begun by a process that is gone, or are still being drawn; a command that only looks in
        lives too short to leave that to the worker.
        """
        missing = not all(self.video(generation).is_file() for generation in task.generations)
        if missing and not task.error and self.clock() >= task.created_at + task.seconds:
            self._enqueue(task)
            self._rendered[task.id].wait(patience)

    def drain(self) -> None:
        """Wait until everything queued is rendered."""
        self._jobs.join()

    # --- rendering --------------------------------------------------------------------------------

    def _enqueue(self, task: Stored) -> None:
        if task.id in self._rendered:
            return
        self._rendered[task.id] = threading.Event()
        self._jobs.put(task)
        if self._worker is None:
            self._worker = threading.Thread(target=self._work, name="sandbox-render", daemon=True)
            self._worker.start()

    def _work(self) -> None:
        while True:
            task = self._jobs.get()
            try:
                self._render(task)
            except Exception:
                logger.exception("the sandbox could not render %s", task.id)
                task.error = "the sandbox could not render it; see its log"
                self._save(task)
            finally:
                self._rendered[task.id].set()
                self._jobs.task_done()

    def _render(self, task: Stored) -> None:
        from sora_mcp.media.render import render  # noqa: PLC0415 - loads PyAV and Pillow, in this thread

        self.media.mkdir(parents=True, exist_ok=True, mode=0o700)
        for variant, generation in enumerate(task.generations, 1):
            if not self.video(generation).is_file():
                scene = scene_of(task.request, variant, self.video, self.upload)
                render(scene, self.video(generation))

    # --- files ------------------------------------------------------------------------------------

    def _save(self, task: Stored) -> None:
        _write(self._tasks / f"{task.id}.json", json.dumps(asdict(task)).encode())

    def _load(self, task_id: str) -> Stored | None:
        if not task_id.isascii() or not task_id.isidentifier():
            return None
        try:
            return Stored(**json.loads((self._tasks / f"{task_id}.json").read_bytes()))
        except FileNotFoundError:
            return None

    def _all(self, owner: str) -> list[Stored]:
        paths = self._tasks.glob("task_*.json")
        found = (Stored(**json.loads(path.read_bytes())) for path in paths)
        return [task for task in found if task.owner == owner]


def new_id(kind: str, now: float) -> str:
    """An id as the documented ones look: a prefix and 26 characters that sort by time (Crockford base 32)."""
    number = (int(now * 1000) << 80) | secrets.randbits(80)
    return f"{kind}_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    part.write_bytes(content)
    part.replace(path)
