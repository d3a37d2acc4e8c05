"""The sandbox's tasks: kept on disk, moved through their states by the clock, rendered by one thread."""

from __future__ import annotations

import hashlib
import json
import logging
import queue
import re
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from sora_mcp.core.models import VideoRequest
from sora_mcp.core.tables import FPS
from sora_mcp.sandbox.scenes import scene_of

logger = logging.getLogger(__name__)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_STARTS_AT = 0.15
"""The share of its time that a task stands in NOT_START."""


class Stored(Struct):
    """One task. Times are unix seconds; `generations` are ids, one for each variant; `fps` are frames per second.

    `dollars`: what it costs, where that is stated once it is finished.
    """

    id: str
    owner: str
    body: dict[str, Any]
    created_at: float
    seconds: float
    generations: list[str] = field(default_factory=list)
    error: str | None = None
    fps: int = FPS
    dollars: float | None = None

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
        self._home = home
        self.media = home / "media"
        self.uploads = home / "uploads"
        self._tasks = home / "tasks"
        self._seconds = seconds
        self._jobs: queue.Queue[tuple[Stored, threading.Event]] = queue.Queue()
        self._waiting: dict[str, threading.Event] = {}
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()  # queries come from worker threads
        self.creates = 0
        """POSTs to the create path, whatever the answer."""
        self.accepted = 0
        """POSTs that made a task."""

    def add(
        self, body: dict[str, Any], owner: str, *, task_id: str = "", fps: int = FPS, dollars: float | None = None
    ) -> Stored:
        """Make a task and begin to render it."""
        task_id = task_id or new_id("task", self.clock())
        task = Stored(task_id, owner, body, self.clock(), self._seconds, fps=fps, dollars=dollars)
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
        task = self.task(task_id)
        return task if task is not None and task.owner == owner else None

    def generation(self, generation_id: str, owner: str) -> Path | None:
        """The file of a finished generation, if this key made it."""
        path = self.video(generation_id)
        owned = any(generation_id in task.generations for task in self.all(owner))
        return path if owned and path.is_file() else None

    def video(self, generation_id: str) -> Path:
        return self.media / f"{generation_id}.mp4"

    def upload(self, media_id: str, owner: str = "*") -> Path | None:
        """The file of an uploaded image; with an `owner`, only if this key uploaded it."""
        files = sorted(self.uploads.glob(f"{media_id}.{owner}.*")) if is_id(media_id) else []
        return files[0] if files else None

    def save_upload(self, suffix: str, content: bytes, owner: str) -> str:
        """Keep an uploaded image; returns its `media_…` id."""
        media_id = new_id("media", self.clock())
        self._write(self.uploads / f"{media_id}.{owner}.{suffix}", content)
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
            self._enqueue(task).wait(patience)

    def drain(self) -> None:
        """Wait until everything queued is rendered."""
        self._jobs.join()

    # --- rendering --------------------------------------------------------------------------------

    def _enqueue(self, task: Stored) -> threading.Event:
        """Queue a task, once; the event is set when it was rendered, or could not be."""
        with self._lock:
            if task.id in self._waiting:
                return self._waiting[task.id]
            rendered = self._waiting[task.id] = threading.Event()
            self._jobs.put((task, rendered))
            if self._worker is None:
                self._worker = threading.Thread(target=self._work, name="sandbox-render", daemon=True)
                self._worker.start()
            return rendered

    def _work(self) -> None:
        while True:
            task, rendered = self._jobs.get()
            try:
                self._render(task)
            except Exception:
                logger.exception("the sandbox could not render %s", task.id)
                self._give_up(task)
            finally:
                with self._lock:
                    del self._waiting[task.id]
                rendered.set()
                self._jobs.task_done()

    def _give_up(self, task: Stored) -> None:
        task.error = "the sandbox could not render it; see its log"
        try:
            self._save(task)
        except OSError:
            logger.exception("the sandbox could not record that %s failed", task.id)

    def _render(self, task: Stored) -> None:
        from sora_mcp.media.render import render  # noqa: PLC0415 - loads PyAV and Pillow, in this thread

        self._make(self.media)
        for variant, generation in enumerate(task.generations, 1):
            if not self.video(generation).is_file():
                scene = scene_of(task.request, variant, self.video, self.upload, task.fps)
                render(scene, self.video(generation))

    # --- files ------------------------------------------------------------------------------------

    def _save(self, task: Stored) -> None:
        self._write(self._tasks / f"{task.id}.json", json.dumps(asdict(task)).encode())

    def task(self, task_id: str) -> Stored | None:
        """A task; None where there is none, or where its file was damaged or written by another version."""
        if not is_id(task_id):
            return None
        try:
            return Stored(**json.loads((self._tasks / f"{task_id}.json").read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            logger.warning("the sandbox cannot read what it kept of %s", task_id)
            return None

    def remove(self, task: Stored) -> None:
        """Forget a task."""
        (self._tasks / f"{task.id}.json").unlink(missing_ok=True)

    def all(self, owner: str) -> list[Stored]:
        """Every task that this key made."""
        tasks = (self.task(path.stem) for path in self._tasks.glob("[a-z]*.json"))
        return [task for task in tasks if task is not None and task.owner == owner]

    def _write(self, path: Path, content: bytes) -> None:
        self._make(path.parent)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        part.write_bytes(content)
        part.replace(path)

    def _make(self, folder: Path) -> None:
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)


def is_id(text: str) -> bool:
    """Whether `text` can be an id of ours: nothing else may become part of a path."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", text) is not None


def new_id(kind: str, now: float) -> str:
    """An id as the documented ones look: a prefix and 26 characters that sort by time (Crockford base 32)."""
    number = (int(now * 1000) << 80) | secrets.randbits(80)
    return f"{kind}_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
