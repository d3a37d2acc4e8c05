"""The sandbox's tasks: stored on disk, advanced by the clock, rendered by one thread."""

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
from sora_mcp.sandbox.scenes import scene_for

logger = logging.getLogger(__name__)

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_QUEUED_SHARE = 0.15
"""The fraction of its time that a task is NOT_START."""


class StoredTask(Struct):
    """One task. Times are Unix seconds; `generations` are ids, one for each variant; `fps` is frames per second.

    `dollars` is its cost, if the dialect states one for a finished task.
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

    def asks_for(self, marker: str) -> bool:
        """Whether the prompt or a beat contains `[marker]`."""
        beats = [action["description"] for action in self.body.get("actions") or []]
        return f"[{marker}]" in " ".join([self.body.get("prompt") or "", *beats]).lower()


def owner_id(key: str) -> str:
    """An id for the owner of a key that does not reveal it."""
    return hashlib.sha256(key.encode()).hexdigest()[:16]


class Store:
    """Tasks, videos and uploads in a folder; several processes may share it.

    Every file is written under another name and then renamed, so that no reader sees a partial one.
    """

    def __init__(self, home: Path, seconds: float, clock: Callable[[], float]) -> None:
        self.clock = clock
        self._home = home
        self.media = home / "media"
        self.uploads = home / "uploads"
        self._tasks = home / "tasks"
        self._seconds = seconds
        self._jobs: queue.Queue[tuple[StoredTask, threading.Event]] = queue.Queue()
        self._waiting: dict[str, threading.Event] = {}
        self._worker: threading.Thread | None = None
        self._lock = threading.Lock()  # queries come from worker threads
        self.creates = 0
        """POSTs to the create path, whatever the answer."""
        self.accepted = 0
        """POSTs that created a task."""

    def add(
        self, body: dict[str, Any], owner: str, *, task_id: str = "", fps: int = FPS, dollars: float | None = None
    ) -> StoredTask:
        """Create a task and start to render it."""
        task_id = task_id or new_id("task", self.clock())
        task = StoredTask(task_id, owner, body, self.clock(), self._seconds, fps=fps, dollars=dollars)
        if task.asks_for("slow"):
            task.seconds *= 10
        if not task.asks_for("blocked") and not task.asks_for("fail"):
            task.generations = [new_id("gen", self.clock()) for _ in range(body["n_variants"])]
        self._save(task)
        self.accepted += 1
        self._enqueue(task)
        return task

    def find(self, task_id: str, owner: str) -> StoredTask | None:
        """The task, if this owner created it."""
        task = self.task(task_id)
        return task if task is not None and task.owner == owner else None

    def generation(self, generation_id: str, owner: str) -> Path | None:
        """The file of a finished generation, if this owner created it."""
        path = self.video(generation_id)
        is_own = any(generation_id in task.generations for task in self.all(owner))
        return path if is_own and path.is_file() else None

    def video(self, generation_id: str) -> Path:
        return self.media / f"{generation_id}.mp4"

    def upload(self, media_id: str, owner: str = "*") -> Path | None:
        """The file of an upload; with an `owner`, only if this owner uploaded it."""
        files = sorted(self.uploads.glob(f"{media_id}.{owner}.*")) if is_id(media_id) else []
        return files[0] if files else None

    def save_upload(self, suffix: str, content: bytes, owner: str) -> str:
        """Store an upload and return its `media_…` id."""
        media_id = new_id("media", self.clock())
        self._write(self.uploads / f"{media_id}.{owner}.{suffix}", content)
        return media_id

    def status(self, task: StoredTask) -> tuple[str, int]:
        """The documented state and the progress (0..100) of a task at this moment."""
        elapsed = (self.clock() - task.created_at) / task.seconds if task.seconds else 1.0
        if elapsed < _QUEUED_SHARE:
            return "NOT_START", 0
        if elapsed < 1:
            return "IN_PROGRESS", int(elapsed * 100)
        if task.error or task.asks_for("fail"):
            return "FAILURE", 100
        if all(self.video(generation).is_file() for generation in task.generations):
            return "SUCCESS", 100
        return "IN_PROGRESS", 99

    def finish(self, task: StoredTask, timeout_s: float) -> None:
        """If a task is due but its videos are missing, render them, waiting at most `timeout_s` seconds.

        They were started by a process that has exited, or are still being drawn; a command that only queries a task
        is too short-lived to leave that to the worker.
        """
        missing = not all(self.video(generation).is_file() for generation in task.generations)
        if missing and not task.error and self.clock() >= task.created_at + task.seconds:
            self._enqueue(task).wait(timeout_s)

    def drain(self) -> None:
        """Wait until everything queued is rendered."""
        self._jobs.join()

    # --- rendering --------------------------------------------------------------------------------

    def _enqueue(self, task: StoredTask) -> threading.Event:
        """Queue a task, once; the event is set when it has been rendered or has failed."""
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
                self._fail(task)
            finally:
                with self._lock:
                    del self._waiting[task.id]
                rendered.set()
                self._jobs.task_done()

    def _fail(self, task: StoredTask) -> None:
        task.error = "the sandbox could not render it; see its log"
        try:
            self._save(task)
        except OSError:
            logger.exception("the sandbox could not record that %s failed", task.id)

    def _render(self, task: StoredTask) -> None:
        from sora_mcp.media.render import render  # noqa: PLC0415 - loads PyAV and Pillow, in this thread

        self._make_folder(self.media)
        for variant, generation in enumerate(task.generations, 1):
            if not self.video(generation).is_file():
                scene = scene_for(task.request, variant, self.video, self.upload, task.fps)
                render(scene, self.video(generation))

    # --- files ------------------------------------------------------------------------------------

    def _save(self, task: StoredTask) -> None:
        self._write(self._tasks / f"{task.id}.json", json.dumps(asdict(task)).encode())

    def task(self, task_id: str) -> StoredTask | None:
        """The task with this id; None if there is none, or if its file is damaged or from another version."""
        if not is_id(task_id):
            return None
        try:
            return StoredTask(**json.loads((self._tasks / f"{task_id}.json").read_bytes()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            logger.warning("the sandbox cannot read its record of %s", task_id)
            return None

    def remove(self, task: StoredTask) -> None:
        """Delete a task."""
        (self._tasks / f"{task.id}.json").unlink(missing_ok=True)

    def all(self, owner: str) -> list[StoredTask]:
        """Every task that this owner created."""
        tasks = (self.task(path.stem) for path in self._tasks.glob("[a-z]*.json"))
        return [task for task in tasks if task is not None and task.owner == owner]

    def _write(self, path: Path, content: bytes) -> None:
        self._make_folder(path.parent)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        part.write_bytes(content)
        part.replace(path)

    def _make_folder(self, folder: Path) -> None:
        self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.mkdir(exist_ok=True, mode=0o700)


def is_id(text: str) -> bool:
    """Whether `text` can be one of our ids: nothing else may become part of a path."""
    return re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]{0,63}", text) is not None


def new_id(prefix: str, now: float) -> str:
    """Make an id like the documented ones: a prefix and 26 characters that sort by time (Crockford base 32)."""
    number = (int(now * 1000) << 80) | secrets.randbits(80)
    return f"{prefix}_" + "".join(_ALPHABET[(number >> shift) & 31] for shift in range(125, -1, -5))
