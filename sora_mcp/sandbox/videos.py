"""The sandbox as a server that speaks `/v1/videos`: routes, errors and the video object of each kind of server.

Built from the sources of vLLM-Omni 0.30 and the published shape of the others (2026-11); not run beside a GPU.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any

import anyio
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from sora_mcp.core.advice import Do
from sora_mcp.core.errors import NotConfigured
from sora_mcp.dialects.videos import CREATE_PATH, MODELS_PATH
from sora_mcp.sandbox.faces import FACES, Face, FieldError, body_from_fields
from sora_mcp.sandbox.forms import read_attachments, with_attachments
from sora_mcp.sandbox.store import Store, StoredTask, owner_id

NOTICE = {"x-sora-sandbox": "built from the servers' sources and documentation; not live-verified"}
RENDER_TIMEOUT_S = 5.0
"""Seconds that a query waits for a video that is due."""
_STATES = {"NOT_START": "queued", "IN_PROGRESS": "in_progress", "SUCCESS": "completed", "FAILURE": "failed"}


class _Refusal(Exception):
    """Answered in the error format of the server; `field` is the invalid one."""

    def __init__(self, status: int, message: str, field: str = "", code: str = "") -> None:
        super().__init__(message)
        self.status, self.message, self.field, self.code = status, message, field, code


class VideoRoutes:
    """The routes of one kind of server. `model` is the name of its one model."""

    def __init__(self, store: Store, profile: str, model: str | None) -> None:
        self._store = store
        if profile not in FACES:
            raise NotConfigured(f"The sandbox has no face for {profile}.", Do("Add it to FACES in sandbox/faces.py."))
        self._face: Face = FACES[profile]
        self._model = model or self._face.model

    def query_routes(self) -> list[Route]:
        """The routes that query and download existing videos."""
        path = CREATE_PATH + "/{video_id:path}"
        return [
            Route(f"{path}/content", self._with_refusals(self.content), methods=["GET"]),
            Route(path, self._with_refusals(self.query), methods=["GET"]),
        ]

    def routes(self) -> list[Route]:
        """All routes of this kind of server."""
        routes = [
            Route(CREATE_PATH, self._with_refusals(self.create), methods=["POST"]),
            Route(MODELS_PATH, self.models, methods=["GET"]),
            Route("/health", self.health, methods=["GET"]),
        ]
        path = CREATE_PATH + "/{video_id:path}"
        if self._face.can_list:
            routes.append(Route(CREATE_PATH, self._with_refusals(self.list), methods=["GET"]))
            routes.append(Route(path, self._with_refusals(self.delete), methods=["DELETE"]))
        if self._face.has_remix:
            routes.append(Route(f"{path}/remix", self._with_refusals(self.remix), methods=["POST"]))
        return [*routes, *self.query_routes()]

    def _with_refusals(self, handler: Any) -> Any:
        """Wrap a handler so that refusals are answered as this kind of server does."""

        async def wrapped(request: Request) -> Response:
            try:
                return await handler(request)  # type: ignore[no-any-return]
            except _Refusal as refusal:
                return self._error(refusal)

        return wrapped

    async def create(self, request: Request) -> Response:
        self._store.creates += 1
        fields, files = await self._form(request)
        try:
            body, fps = body_from_fields(self._face, fields, self._model)
            attachments = read_attachments(self._face, fields, files)
        except FieldError as error:
            raise _Refusal(error.status, error.message, error.field, error.code) from None
        owner = _owner(request)
        body = with_attachments(
            attachments, body, lambda suffix, content: self._store.save_upload(suffix, content, owner)
        )
        return self._add(body, owner, fps)

    def _add(self, body: dict[str, Any], owner: str, fps: int) -> Response:
        asks_for = StoredTask("", owner, body, 0, 0).asks_for
        if asks_for("quota"):
            raise _Refusal(402, "the balance of this sandbox account is used up, as asked", code="insufficient_quota")
        if asks_for("busy"):
            raise _Refusal(429, "too many requests, as asked", code="rate_limit_exceeded")
        task = self._store.add(body, owner, task_id=f"{self._face.prefix}{secrets.token_hex(16)}", fps=fps)
        if asks_for("lost"):
            return Response("Internal Server Error", 500, NOTICE)
        return JSONResponse(self._object(task), self._face.accepted_status, NOTICE)

    async def remix(self, request: Request) -> Response:
        self._store.creates += 1
        source = self._find(request)
        fields, _ = await self._form(request)
        if set(fields) != {"prompt"} or not fields["prompt"].strip():
            raise _Refusal(400, "a remix takes a prompt and nothing else", "prompt", "invalid_request")
        if not source.generations or self._store.status(source)[0] != "SUCCESS":
            raise _Refusal(400, "the video is not finished", "video_id", "invalid_request")
        shape = {name: source.body[name] for name in ("width", "height", "n_frames")}
        edit = {"sdedit": {"source_generation_id": source.generations[0]}}
        body = {"operation": "remix", "prompt": fields["prompt"], "n_variants": 1, "inpaint_items": []} | shape | edit
        return self._add(body, source.owner, source.fps)

    async def query(self, request: Request) -> Response:
        task = self._find(request)
        await anyio.to_thread.run_sync(self._store.finish, task, RENDER_TIMEOUT_S)
        content = self._object(task)
        status = 500 if content["status"] == "failed" and self._face.failed_is_500 else 200
        return JSONResponse(content, status, NOTICE)

    async def list(self, request: Request) -> Response:
        tasks = sorted(self._store.all(_owner(request)), key=lambda task: -task.created_at)
        data = [self._object(task) for task in tasks][:100]
        bounds = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return JSONResponse({"object": "list", "data": data, "has_more": False} | bounds, headers=NOTICE)

    async def delete(self, request: Request) -> Response:
        task = self._find(request)
        self._store.remove(task)
        return JSONResponse({"id": task.id, "object": "video.deleted", "deleted": True}, headers=NOTICE)

    async def content(self, request: Request) -> Response:
        task = self._find(request)
        state = self._object(task)["status"]
        if state == "failed":
            raise _Refusal(422, "Video generation failed. Check job status for error details.")
        variant = int(request.query_params.get("variant", "0") or 0)
        if state != "completed" or not 0 <= variant < len(task.generations):
            raise _Refusal(self._face.not_ready_status, "Generation is still in-progress")
        return FileResponse(self._store.video(task.generations[variant]), media_type="video/mp4", headers=NOTICE)

    async def models(self, _: Request) -> Response:
        entry = {"id": self._model, "object": "model", "created": 1_795_000_000, "owned_by": self._face.owned_by}
        return JSONResponse({"object": "list", "data": [entry] if self._model else []}, headers=NOTICE)

    async def health(self, _: Request) -> Response:
        status = "healthy" if self._face.owned_by == "vllm" else "ok"  # how vLLM-Omni is recognized
        return JSONResponse({"status": status}, headers=NOTICE)

    # --- requests and responses -------------------------------------------------------------------

    async def _form(self, request: Request) -> tuple[Mapping[str, str], dict[str, bytes]]:
        """The fields and the files."""
        content_type = request.headers.get("content-type", "").partition(";")[0]
        if content_type == "application/json" and self._face.takes_json:
            try:
                data = await request.json()
            except ValueError:
                raise _Refusal(400, "the body is not JSON", code="invalid_request") from None
            return {str(name): str(value) for name, value in dict(data).items() if value is not None}, {}
        async with request.form(max_files=2) as form:
            fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
            uploads = {name: value for name, value in form.multi_items() if isinstance(value, UploadFile)}
            return fields, {name: await upload.read() for name, upload in uploads.items()}

    def _find(self, request: Request) -> StoredTask:
        task = self._store.find(request.path_params["video_id"], _owner(request))
        if task is None:
            raise _Refusal(404, "Video not found", code="not_found")
        return task

    def _object(self, task: StoredTask) -> dict[str, Any]:
        status, progress = self._store.status(task)
        is_blocked = status == "SUCCESS" and not task.generations
        state = "failed" if is_blocked else _STATES[status]
        error = None
        if state == "failed":
            code = "moderation_blocked" if is_blocked else "server_error"
            error = {
                "code": code,
                "message": task.error or ("withheld, as asked" if is_blocked else "failed, as asked"),
            }
        body, is_finished = task.body, state in {"completed", "failed"}
        return {
            "id": task.id,
            "object": "video",
            "model": self._model or "sandbox",
            "prompt": body.get("prompt") or "",
            "status": state,
            "progress": progress,
            "created_at": int(task.created_at),
            "completed_at": int(task.created_at + task.seconds) if is_finished else None,
            "expires_at": None,
            "size": f"{body['width']}x{body['height']}",
            "seconds": str(max(1, body["n_frames"] // task.fps)),
            "remixed_from_video_id": None,
            "error": error,
            **({"urls": ["" for _ in task.generations]} if self._face.variants_field and state == "completed" else {}),
        }

    def _error(self, refusal: _Refusal) -> Response:
        if not self._face.has_openai_errors:
            detail: Any = refusal.message
            if refusal.status == 422 and refusal.field:
                detail = [
                    {"type": refusal.code or "value_error", "loc": ["body", refusal.field], "msg": refusal.message}
                ]
            return JSONResponse({"detail": detail}, refusal.status, NOTICE)
        error = {"message": refusal.message, "type": "invalid_request_error", "param": refusal.field or None}
        return JSONResponse({"error": error | {"code": refusal.code or None}}, refusal.status, NOTICE)

    def not_found(self, error: HTTPException) -> Response:
        """Answer for an unknown path or method."""
        return self._error(_Refusal(error.status_code, error.detail))


def _owner(request: Request) -> str:
    return owner_id(re.sub(r"(?i)^bearer ", "", request.headers.get("authorization", "")))
