"""The documented HTTP API of the sandbox: envelopes, errors and ownership."""

from __future__ import annotations

import json
import logging
import secrets
from typing import Any

import anyio
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from sora_mcp.config.endpoint import SANDBOX_HEADER
from sora_mcp.core.capabilities import Capabilities
from sora_mcp.core.errors import InvalidInput
from sora_mcp.core.models import SDEdit, VideoRequest
from sora_mcp.core.tables import FPS
from sora_mcp.core.tasks import clean
from sora_mcp.dialects.sora import CREATE_PATH, FILES_PATH, MODELS_PATH
from sora_mcp.sandbox.openrouter import OpenRouterRoutes
from sora_mcp.sandbox.requests import owner_from, read_body
from sora_mcp.sandbox.store import Store, StoredTask, is_id
from sora_mcp.sandbox.videos import VideoRoutes

logger = logging.getLogger(__name__)

NOTICE = {SANDBOX_HEADER: "built from the two pages and the new-api source; not live-verified"}
MAX_BODY_BYTES = 10_000_000
MAX_UPLOAD_BYTES = 25_000_000

RENDER_TIMEOUT_S = 5.0
"""Seconds that a query waits for a video that is due."""


class _TaskError(Exception):
    """Answered as a task error: `{code, message, data}`."""

    def __init__(self, status: int, code: str, message: str = "") -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message or code


class _GatewayError(Exception):
    """Answered as an authentication or routing error: `{error: {message, type}}`."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers or {}


def build_app(
    store: Store, capabilities: Capabilities, *, in_process: bool, dialect: str, model: str | None
) -> Starlette:
    """Build the ASGI app of the documented format. With `in_process`, videos have `file://` URLs instead of ones at
    this server, and queries about videos made in any other dialect are answered."""
    del dialect, model
    routes = _Routes(store, capabilities, in_process)
    return Starlette(
        routes=[
            Route(CREATE_PATH, routes.create, methods=["POST"]),
            Route(FILES_PATH, routes.upload, methods=["POST"]),
            Route(MODELS_PATH, routes.models, methods=["GET"]),
            *routes.query_routes(),
            *_all_query_routes(store, capabilities, in_process),
        ],
        exception_handlers=_EXCEPTION_HANDLERS,
    )


def build_videos_app(
    store: Store, capabilities: Capabilities, *, in_process: bool, dialect: str, model: str | None
) -> Starlette:
    """Build the ASGI app of a kind of server that speaks `/v1/videos`; `in_process` as above."""
    face = VideoRoutes(store, dialect.partition(":")[2], model)

    async def handle_http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return face.not_found(error)

    return Starlette(
        routes=[*face.routes(), *_all_query_routes(store, capabilities, in_process)],
        exception_handlers=_EXCEPTION_HANDLERS | {HTTPException: handle_http},
    )


def build_openrouter_app(
    store: Store, capabilities: Capabilities, *, in_process: bool, dialect: str, model: str | None
) -> Starlette:
    """Build the ASGI app of OpenRouter's `/api/v1/videos`; `in_process` as above."""
    del dialect, model
    face = OpenRouterRoutes(store, in_process=in_process)
    return Starlette(
        routes=[*face.routes(), *_all_query_routes(store, capabilities, in_process)],
        exception_handlers=_EXCEPTION_HANDLERS | {HTTPException: face.handle_http, Exception: face.handle_unexpected},
    )


def _all_query_routes(store: Store, capabilities: Capabilities, in_process: bool) -> list[Route]:
    """In process: the query routes of every dialect, whichever one a video was made in."""
    if not in_process:
        return []
    faces = (
        _Routes(store, capabilities, in_process),
        VideoRoutes(store, "vllm-omni", None),
        OpenRouterRoutes(store, in_process=True),
    )
    return [route for face in faces for route in face.query_routes()]


class _Routes:
    def __init__(self, store: Store, capabilities: Capabilities, in_process: bool) -> None:
        self._store = store
        self._capabilities = capabilities
        self._in_process = in_process

    def query_routes(self) -> list[Route]:
        """The routes that query existing videos and images."""
        return [
            Route(CREATE_PATH + "/{task_id}", self.query, methods=["GET"]),
            Route("/media/{name}", self.video, methods=["GET"]),
            Route("/files/{name}", self.image, methods=["GET"]),
        ]

    async def create(self, request: Request) -> Response:
        self._store.creates += 1
        owner = _owner(request)
        body = self._validate(await _json_body(request), owner)
        asks_for = StoredTask("", owner, body, 0, 0).asks_for
        if asks_for("quota"):
            raise _TaskError(403, "quota_not_enough", "the balance of this sandbox account is used up, as asked")
        if asks_for("busy"):
            raise _GatewayError(429, "too many requests, as asked", {"retry-after": "2"})
        task = self._store.add(body, owner)
        if asks_for("lost"):
            raise _TaskError(500, "insert_task_failed", "the task was made, its record was lost, as asked")
        return _success(task.id)

    async def query(self, request: Request) -> Response:
        task = self._store.find(request.path_params["task_id"], _owner(request))
        if task is None:
            raise _TaskError(400, "task_not_exist")
        await anyio.to_thread.run_sync(self._store.finish, task, RENDER_TIMEOUT_S)
        status, progress = self._store.status(task)
        done = status in {"SUCCESS", "FAILURE"}
        reason = task.error or "failed, as asked" if status == "FAILURE" else ""
        return _success(
            {
                "task_id": task.id,
                "notify_hook": "",
                "action": "sora-video",
                "status": status,
                "fail_reason": reason,
                "submit_time": int(task.created_at),
                "start_time": 0,
                "finish_time": int(task.created_at + task.seconds) if done else 0,
                "progress": f"{progress}%",
                "data": self._raw_task(task, request, status, progress, reason),
            }
        )

    async def upload(self, request: Request) -> Response:
        owner = _owner(request)
        async with request.form(max_files=1) as form:
            upload = form.get("file")
            if upload is None or isinstance(upload, str):
                raise _TaskError(400, "invalid_request", "file is missing")
            if (upload.size or 0) > MAX_UPLOAD_BYTES:
                raise _GatewayError(413, "file too large")
            content = await upload.read()
        signatures = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpg", b"RIFF": "webp"}
        suffix = next((suffix for signature, suffix in signatures.items() if content.startswith(signature)), None)
        if suffix is None:
            raise _TaskError(400, "invalid_request", "file is not an image")
        media_id = self._store.save_upload(suffix, content, owner)
        return JSONResponse(
            {
                "id": media_id,
                "object": "file",
                "bytes": len(content),
                "created_at": int(self._store.clock()),
                "filename": upload.filename,
                "url": f"{request.base_url}files/{media_id}.{suffix}",
            },
            headers=NOTICE,
        )

    async def models(self, request: Request) -> Response:
        _owner(request)
        return JSONResponse({"object": "list", "data": [{"id": "sora", "object": "model"}]}, headers=NOTICE)

    async def video(self, request: Request) -> Response:
        generation = request.path_params["name"].removesuffix(".mp4")
        path = self._store.video(generation)
        if not is_id(generation) or not path.is_file():
            raise _GatewayError(404, "no such video")
        return FileResponse(path, media_type="video/mp4", headers=NOTICE)

    async def image(self, request: Request) -> Response:
        path = self._store.upload(request.path_params["name"].partition(".")[0])
        if path is None:
            raise _GatewayError(404, "no such file")
        return FileResponse(path, headers=NOTICE)

    def _validate(self, data: Any, owner: str) -> dict[str, Any]:
        """Check that this is the documented body, and that its sources exist and belong to the key."""
        _refuse_nulls(data)
        try:
            request = VideoRequest.model_validate_json(json.dumps(_with_source_in_edit(data)), strict=True)
            request.check(self._capabilities)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            location = ".".join(map(str, first["loc"])) or "body"
            raise _TaskError(400, "invalid_request", f"{location}: {first['msg']}") from None
        except InvalidInput as error:
            raise _TaskError(400, "invalid_request", error.message) from None
        edit = request.sdedit or SDEdit()
        generation_ids = [edit.source_generation_id, *(item.generation_id for item in request.inpaint_items)]
        upload_ids = [edit.source_upload_media_id, *(item.upload_media_id for item in request.inpaint_items)]
        for generation in filter(None, generation_ids):
            if self._store.generation(generation, owner) is None:
                raise _TaskError(400, "invalid_request", f"no generation {generation}")
        for media_id in filter(None, upload_ids):
            if self._store.upload(media_id, owner) is None:
                raise _TaskError(400, "invalid_request", f"no upload {media_id}")
        return request.body()

    def _raw_task(self, task: StoredTask, request: Request, status: str, progress: int, reason: str) -> dict[str, Any]:
        """The raw Sora task, with the fields of captured ones."""
        body = task.body
        blocked = status == "SUCCESS" and not task.generations
        generations = [self._generation(task, each, request) for each in task.generations if status == "SUCCESS"]
        actions = {str(action["time"]): action["description"] for action in body.get("actions") or []}
        return {
            **{name: body.get(name) for name in ("prompt", "n_variants", "n_frames", "width", "height", "operation")},
            "id": task.id,
            "status": status.lower(),
            "progress_pct": progress / 100,
            "actions": actions or {"0": f"{body.get('prompt') or 'The image comes alive'}, in soft layered light."},
            "model": body.get("model", "turbo"),
            "inpaint_items": body["inpaint_items"],
            "sdedit": body.get("sdedit"),
            "title": f"SANDBOX: {(body.get('prompt') or body['operation'])[:60]}",
            "failure_reason": reason or None,
            "num_unsafe_generations": body["n_variants"] if blocked else 0,
            "moderation_result": {
                "type": "blocked" if blocked else "passed",
                "code": None,
                "is_output_rejection": blocked,
            },
            "generations": generations,
        }

    def _generation(self, task: StoredTask, generation: str, request: Request) -> dict[str, Any]:
        path, body = self._store.video(generation), task.body
        url = path.absolute().as_uri() if self._in_process else f"{request.base_url}media/{generation}.mp4"
        size = {name: body[name] for name in ("width", "height")}
        source = {"path": url, "size": path.stat().st_size, **size, "duration_secs": body["n_frames"] / FPS}
        details = {"n_frames": body["n_frames"], "prompt": body.get("prompt"), "title": f"SANDBOX {generation}"}
        return {"id": generation, "task_id": task.id, "url": url, **size, **details, "encodings": {"source": source}}


def _owner(request: Request) -> str:
    owner = owner_from(request)
    if owner is None:
        raise _GatewayError(401, "Invalid token")
    return owner


async def _json_body(request: Request) -> Any:
    content = await read_body(request, MAX_BODY_BYTES)
    if content is None:
        raise _GatewayError(413, "request body too large")
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise _TaskError(400, "invalid_request", "the body is not a JSON object")
    return data


_MAY_BE_NULL = {"preset_id", "generation_id", "source_upload_media_id"}


def _refuse_nulls(data: Any, name: str = "body") -> None:
    """Refuse null in all but the three fields for which the page documents it."""
    if data is None and name not in _MAY_BE_NULL:
        raise _TaskError(400, "invalid_request", f"{name}: null is not allowed")
    if isinstance(data, dict):
        for key, value in data.items():
            _refuse_nulls(value, key)
    elif isinstance(data, list):
        for value in data:
            _refuse_nulls(value, name)


def _with_source_in_edit(data: dict[str, Any]) -> dict[str, Any]:
    """Move a remix source that is beside `sdedit` into it (the page allows both)."""
    sources = {name: value for name, value in data.items() if name.startswith("source_")}
    edit = data.get("sdedit", {})
    if not sources or not isinstance(edit, dict):
        return data
    others = {name: value for name, value in data.items() if name not in sources}
    return others | {"sdedit": edit | sources}


def _success(data: Any) -> Response:
    return JSONResponse({"code": "success", "message": "", "data": data}, headers=NOTICE)


async def _handle_task_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, _TaskError)
    body = {"code": error.code, "message": clean(error.message), "data": None}
    return JSONResponse(body, status_code=error.status, headers=NOTICE)


async def _handle_gateway_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, _GatewayError)
    message = f"{error.message} (request id: {secrets.token_hex(8)})"
    body = {"error": {"message": message, "type": "new_api_error"}}
    return JSONResponse(body, status_code=error.status, headers=NOTICE | error.headers)


async def _handle_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return await _handle_gateway_error(
        request, _GatewayError(error.status_code, error.detail, dict(error.headers or {}))
    )


async def _handle_unexpected(request: Request, error: Exception) -> Response:
    logger.error("the sandbox failed unexpectedly", exc_info=error)
    return await _handle_gateway_error(request, _GatewayError(500, "internal error in the sandbox; see its log"))


_EXCEPTION_HANDLERS: dict[Any, Any] = {
    _TaskError: _handle_task_error,
    _GatewayError: _handle_gateway_error,
    HTTPException: _handle_http,
    Exception: _handle_unexpected,
}
