"""The routes, the job object and the errors.

Built from OpenRouter's API pages and the models of its Python SDK 1.3.84 (2026-11); not live-verified. Where the pages
are silent, the strict reading applies: anything not documented, or not listed for the model, is refused with 400.
`callback_url` is accepted and never called.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
import string
from typing import Any
from urllib.parse import urlsplit

import anyio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from sora_mcp.core.tasks import clean
from sora_mcp.sandbox.faces import body_from_prompt
from sora_mcp.sandbox.openrouter.body import (
    BadRequestError,
    Create,
    Shape,
    decode_picture,
    dollars,
    parse_create,
    shape_for,
)
from sora_mcp.sandbox.openrouter.models import FPS, MODELS, VideoModel
from sora_mcp.sandbox.requests import owner_from, read_body
from sora_mcp.sandbox.store import Store, StoredTask

logger = logging.getLogger(__name__)

CREATE_PATH = "/api/v1/videos"
MODELS_PATH = f"{CREATE_PATH}/models"
SIGNED_PATH = "/signed"
"""Path of the stored copies, for anyone with a signature."""

NOTICE = {"x-sora-sandbox": "built from OpenRouter's API pages and SDK; not live-verified"}
MAX_BODY_BYTES = 32_000_000
OUTPUT_TTL_S = 24 * 3600
"""How long an output is available after its job has finished."""
RENDER_TIMEOUT_S = 2.0
"""Seconds that a query waits for a video that is due; the SDK itself waits for 5."""
_STATES = {"NOT_START": "pending", "IN_PROGRESS": "in_progress", "SUCCESS": "completed", "FAILURE": "failed"}


class _Refusal(Exception):
    """Answered in the documented envelope: `{error: {code, message, metadata?}, user_id}`."""

    def __init__(
        self,
        status: int,
        message: str,
        metadata: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.metadata, self.headers = status, message, metadata, headers or {}


class OpenRouterRoutes:
    """The routes. With `in_process`, stored copies have `file://` URLs instead of signed ones at this server."""

    def __init__(self, store: Store, *, in_process: bool) -> None:
        self._store = store
        self._in_process = in_process

    def query_routes(self) -> list[Route]:
        """The routes that query existing jobs and download their videos."""
        path = CREATE_PATH + "/{job_id}"
        return [
            Route(f"{path}/content", self._with_refusals(self.content), methods=["GET"]),
            Route(path, self._with_refusals(self.query), methods=["GET"]),
            Route(f"{SIGNED_PATH}/{{job_id}}/{{index:int}}.mp4", self._with_refusals(self.signed), methods=["GET"]),
        ]

    def routes(self) -> list[Route]:
        """All routes."""
        return [
            Route(CREATE_PATH, self._with_refusals(self.create), methods=["POST"]),
            Route(MODELS_PATH, self.models, methods=["GET"]),
            *self.query_routes(),
        ]

    def _with_refusals(self, handler: Any) -> Any:
        """Wrap a handler so that refusals are answered in the documented envelope."""

        async def wrapped(request: Request) -> Response:
            try:
                return await handler(request)  # type: ignore[no-any-return]
            except BadRequestError as error:
                return _error(_Refusal(400, str(error)))
            except _Refusal as refusal:
                return _error(refusal)

        return wrapped

    async def models(self, _: Request) -> Response:
        return JSONResponse({"data": [model.list_entry() for model in MODELS.values()]}, headers=NOTICE)

    async def create(self, request: Request) -> Response:
        self._store.creates += 1
        owner = _owner(request)
        create, model = parse_create(await _json_body(request))
        source = self._source(create, model, owner)
        shape = shape_for(create, model, _shape(source) if source else None)
        body = self._body_to_draw(create, shape, source, owner)
        asks_for = StoredTask("", owner, body, 0, 0).asks_for
        if asks_for("quota"):
            raise _Refusal(402, "Insufficient credits: this sandbox account has used them up, as asked")
        if asks_for("busy"):
            raise _Refusal(429, "Rate limit exceeded, as asked", headers={"retry-after": "2"})
        if asks_for("blocked"):
            raise _Refusal(403, "The prompt was flagged, as asked", _moderation(create))
        job_id = f"gen-vid-{int(self._store.clock())}-" + "".join(secrets.choice(_LETTERS) for _ in range(20))
        price = dollars(create, model, shape)
        job = self._store.add(body, owner, task_id=job_id, fps=FPS, dollars=price)
        if asks_for("lost"):
            raise _Refusal(500, "Internal Server Error")
        return JSONResponse(self._object(job, request), 202, NOTICE)

    async def query(self, request: Request) -> Response:
        job = self._find(request)
        await anyio.to_thread.run_sync(self._store.finish, job, RENDER_TIMEOUT_S)
        return JSONResponse(self._object(job, request), headers=NOTICE)

    async def content(self, request: Request) -> Response:
        job = self._find(request)
        index = request.query_params.get("index", "0")
        if not re.fullmatch("[0-9]{1,3}", index):
            raise _Refusal(400, "index: not a whole number of at least 0")
        return self._file(job, int(index))

    async def signed(self, request: Request) -> Response:
        """Serve a stored copy to any client with its URL, until it expires."""
        job = self._store.task(request.path_params["job_id"])
        index = request.path_params["index"]
        if job is None or not hmac.compare_digest(request.query_params.get("signature", ""), _signature(job, index)):
            raise _Refusal(403, "The signature does not match")
        return self._file(job, index)

    # --- requests and responses -------------------------------------------------------------------

    def _find(self, request: Request) -> StoredTask:
        job = self._store.find(request.path_params["job_id"], _owner(request))
        if job is None:
            raise _Refusal(404, "Video generation job not found")
        return job

    def _file(self, job: StoredTask, index: int) -> Response:
        state = self._state(job)
        if state in {"pending", "in_progress"}:
            raise _Refusal(409, "The video generation job is not completed yet")
        if state == "failed" or index >= len(job.generations):
            raise _Refusal(404, "There is no such output")
        if self._store.clock() >= _expires_at(job):
            raise _Refusal(410, "The output is no longer available")
        return FileResponse(self._store.video(job.generations[index]), media_type="video/mp4", headers=NOTICE)

    def _state(self, job: StoredTask) -> str:
        return _STATES[self._store.status(job)[0]]

    def _object(self, job: StoredTask, request: Request) -> dict[str, Any]:
        state = self._state(job)
        path = f"{CREATE_PATH}/{job.id}"
        fields: dict[str, Any] = {"id": job.id, "polling_url": path, "status": state}
        if state == "pending":
            return fields
        fields["generation_id"] = f"gen-{job.id.removeprefix('gen-vid-')}"
        if state == "failed":
            return fields | {"error": job.error or "failed, as asked"}
        if state != "completed":
            return fields
        fields["unsigned_urls"] = [
            f"{request.base_url}{path[1:]}/content?index={i}" for i in range(len(job.generations))
        ]
        if self._store.clock() < _expires_at(job):
            fields["urls"] = [self._stored_copy(job, i, request) for i in range(len(job.generations))]
            fields["expires_at"] = _expires_at(job)
        return fields | {"usage": {"cost": job.dollars, "is_byok": False}}

    def _stored_copy(self, job: StoredTask, index: int, request: Request) -> str:
        if self._in_process:
            return self._store.video(job.generations[index]).absolute().as_uri()
        path = f"{SIGNED_PATH[1:]}/{job.id}/{index}.mp4"
        return f"{request.base_url}{path}?expires={_expires_at(job)}&signature={_signature(job, index)}"

    # --- drawing ----------------------------------------------------------------------------------

    def _body_to_draw(self, create: Create, shape: Shape, source: StoredTask | None, owner: str) -> dict[str, Any]:
        """Convert a create to the body of the documented format, which the sandbox draws."""
        n_frames = shape.seconds * FPS
        fields: dict[str, Any] = {"width": shape.width, "height": shape.height, "n_frames": n_frames}
        fields |= {"n_variants": 1, "model": create.model}
        if source is not None:
            edit = {"sdedit": {"source_generation_id": source.generations[0]}}
            return {"operation": "remix", "prompt": create.prompt or "", "inpaint_items": []} | fields | edit
        images = sorted(create.images)  # the first frame before the last
        items = [self._item(url, n_frames - 1 if role == "last_frame" else 0, owner) for role, url in images]
        is_between = {role for role, _ in images} == {"first_frame", "last_frame"}
        fields |= {"inpaint_items": items} | ({"operation": "blend"} if is_between else {})
        return body_from_prompt(create.prompt or "", FPS) | fields

    def _item(self, url: str, frame: int, owner: str) -> dict[str, Any]:
        """An image from a frame on. One on another host is not fetched: a card names the host."""
        picture = decode_picture(url)
        if picture is None:
            return {"frame_index": frame, "url": url}
        return {"frame_index": frame, "upload_media_id": self._store.save_upload(*picture, owner)}

    def _source(self, create: Create, model: VideoModel, owner: str) -> StoredTask | None:
        """The source of a video: the previous job, or the first reference that is one of our videos."""
        if create.previous_job_id is not None:
            job = self._store.find(create.previous_job_id, owner)
            if job is None or self._state(job) != "completed" or job.body.get("model") != model.id:
                raise BadRequestError("previous_job_id: not a completed job of this model")
            return job
        if not model.uses_videos or create.frame_images:
            return None
        return next(filter(None, (self._job_at(url, owner) for url in create.videos)), None)

    def _job_at(self, url: str, owner: str) -> StoredTask | None:
        """The job whose stored copy has this URL."""
        if url.startswith("file:"):
            if not self._in_process:
                raise BadRequestError("video_url: not an address that can be fetched")
            name = urlsplit(url).path.rpartition("/")[2].removesuffix(".mp4")
            return next((job for job in self._store.all(owner) if name in job.generations), None)
        match = re.fullmatch(rf"{SIGNED_PATH}/([^/]+)/0\.mp4", urlsplit(url).path)
        job = self._store.task(match[1]) if match else None
        return job if job is not None and job.generations else None

    async def handle_http(self, _: Request, error: Exception) -> Response:
        """Answer for an unknown path or method."""
        assert isinstance(error, HTTPException)
        return _error(_Refusal(error.status_code, error.detail))

    async def handle_unexpected(self, _: Request, error: Exception) -> Response:
        """Log an unexpected error in a route, and answer with a 500."""
        logger.error("the sandbox failed unexpectedly", exc_info=error)
        return _error(_Refusal(500, "internal error in the sandbox; see its log"))


_LETTERS = string.ascii_letters + string.digits


def _expires_at(job: StoredTask) -> int:
    return int(job.created_at + job.seconds) + OUTPUT_TTL_S


def _signature(job: StoredTask, index: int) -> str:
    """Sign with a secret derived from the owner's key, so that knowing a job's id is not enough."""
    return hmac.new(job.owner.encode(), f"{job.id}/{index}/{_expires_at(job)}".encode(), hashlib.sha256).hexdigest()


def _shape(job: StoredTask) -> Shape:
    return Shape(job.body["width"], job.body["height"], job.body["n_frames"] // job.fps)


def _moderation(create: Create) -> dict[str, Any]:
    """The documented metadata of a refusal by moderation."""
    flagged = clean(create.prompt or "", 100)
    about = {"provider_name": "Sandbox", "model_slug": create.model}
    return {"reasons": ["violence"], "flagged_input": flagged} | about


def _error(refusal: _Refusal) -> Response:
    error: dict[str, Any] = {"code": refusal.status, "message": clean(refusal.message)}
    if refusal.metadata is not None:
        error["metadata"] = refusal.metadata
    return JSONResponse({"error": error, "user_id": "user_sandbox"}, refusal.status, NOTICE | refusal.headers)


def _owner(request: Request) -> str:
    owner = owner_from(request)
    if owner is None:
        has_key = bool(request.headers.get("authorization", "").partition(" ")[2])
        raise _Refusal(401, "User not found." if has_key else "No auth credentials found")
    return owner


async def _json_body(request: Request) -> Any:
    content = await read_body(request, MAX_BODY_BYTES)
    if content is None:
        raise _Refusal(413, "Request Entity Too Large")
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise BadRequestError("the body is not JSON") from None
