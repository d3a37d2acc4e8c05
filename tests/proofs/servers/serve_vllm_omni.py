"""vLLM-Omni's own `/v1/videos` above an engine that draws: `serve_vllm_omni.py LOG PORT`.

Runs where `vllm-omni` is installed without what it requires. Its routes, form parser, stores and storage are real;
torch, vllm and the rest are stubs that are never called. The routes stand in a module that cannot be imported without
an engine, so they are taken from its source. Each request that the engine gets is a line (JSON) of LOG.

Words in a prompt ask the engine for something: `[fail N]` (status N of 400 … 599), `[blind]` (draw nothing),
`[endless]` (never finish).
"""

from __future__ import annotations

import ast
import asyncio
import importlib.abc
import importlib.machinery
import importlib.util
import io
import json
import logging
import sys
import types
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import av
import numpy as np
import uvicorn
from fastapi import APIRouter, FastAPI, HTTPException
from pydantic import BaseModel

OPENAI = "vllm_omni.entrypoints.openai"
REAL = {
    f"{OPENAI}.{name}"
    for name in (
        *("app_state", "errors", "image_api_utils", "protocol.videos", "serving_video", "stage_params", "storage"),
        *("stores", "utils", "video.generation.helpers", "video_api_utils"),
    )
} | {"vllm_omni.config.server_settings", "vllm_omni.diffusion.models.interface", "vllm_omni.errors"}
"""The modules that are run as they are."""
ABSENT = {"vllm", "torch"}
MODELS = {
    "": "Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    "/ti2v": "Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    "/hunyuan": "hunyuanvideo-community/HunyuanVideo-1.5-Diffusers-480p_t2v",
    "/ltx": "Lightricks/LTX-2",
    "/vace": "Wan-AI/Wan2.1-VACE-1.3B-diffusers",
    "/h3": "MiniMaxAI/MiniMax-H3",
}
"""By path: one server each, as one started by `vllm serve MODEL --omni`."""


# --- imports --------------------------------------------------------------------------------------


class Anything(type):
    """A class that stands for whatever a module takes from one that is not there."""

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything(name, (), {})

    def __or__(cls, _: object) -> Any:
        return cls

    __ror__ = __or__

    def __getitem__(cls, _: object) -> Any:
        return cls


class ErrorResponse(BaseModel):
    """vLLM's model of an error; it only stands in the description of routes."""


class EngineDeadError(Exception):
    """vLLM's error."""


class EngineGenerateError(Exception):
    """vLLM's error."""


class Registry:
    """Whatever asks a registry to register something gets it back."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: lambda each: each


class Loaders:
    """vLLM's registry of what opens videos: PyAV in place of its OpenCV."""

    def register(self, _: str) -> Callable[[Any], Any]:
        return lambda each: each

    def load(self, _: str) -> Any:
        return self

    def load_bytes(self, content: bytes, **_: object) -> tuple[Any, dict[str, float]]:
        with av.open(io.BytesIO(content), "r") as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return np.stack(frames), {"fps": 16.0}


GIVEN: dict[str, Any] = {
    "VIDEO_LOADER_REGISTRY": Loaders(),
    "envs": types.SimpleNamespace(VLLM_MAX_IMAGE_PIXELS=178_956_970, VLLM_MEDIA_URL_ALLOW_REDIRECTS=True),
    "DIFFUSION_QUALITY_LEVELS": ("lossless", "high"),
    "init_logger": logging.getLogger,
    "ErrorResponse": ErrorResponse,
    "EngineDeadError": EngineDeadError,
    "EngineGenerateError": EngineGenerateError,
}
"""What is used at import, or raised."""


class Stub(types.ModuleType):
    """A module that has everything."""

    def __getattr__(self, name: str) -> Any:
        if name in GIVEN:
            return GIVEN[name]
        if name.startswith("__"):
            raise AttributeError(name)
        made: Any = Registry() if name.endswith("REGISTRY") else 1.0 if name.endswith("_S") else Anything(name, (), {})
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives stubs for what is not there or not wanted; packages are bare, so nothing that they import is needed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:  # noqa: ARG002 - the protocol's
        top = name.partition(".")[0]
        if name in REAL or top not in ABSENT | {"vllm_omni"}:
            return None
        return ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        is_bare = any(each.startswith(f"{spec.name}.") for each in REAL)
        module = types.ModuleType(spec.name) if is_bare else Stub(spec.name)
        module.__path__ = [str(self._root.joinpath(*spec.name.split(".")[1:]))]
        return module

    def exec_module(self, module: types.ModuleType) -> None:
        """There is nothing to run."""


def routes(root: Path) -> Callable[[], APIRouter]:
    """Makes a router with the functions that serve `/v1/videos`, taken from the source of the server."""
    source = root / "entrypoints" / "openai" / "api_server.py"
    guards = {"_require_single_api_video_store", "_reject_process_local_state_with_multiple_api_workers"}
    tree = ast.parse(source.read_text(encoding="utf-8"))
    kept: list[ast.stmt] = [
        node
        for node in tree.body
        if (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (node.name in guards or _serves(node)))
        or (isinstance(node, ast.Assign) and any(getattr(t, "id", "") == "VIDEO_ABORT_TIMEOUT_S" for t in node.targets))
        or (isinstance(node, ast.Import | ast.ImportFrom) and _can_import(node))
    ]
    code = compile(ast.Module(body=kept, type_ignores=[]), str(source), "exec")

    def make() -> APIRouter:
        names: dict[str, Any] = {"router": APIRouter(), "logger": logging.getLogger("api"), "__name__": "api"} | GIVEN
        names["ABORT_TIMEOUT_S"] = 5.0
        for each in ("protocol.videos", "stores", "storage", "video.generation.helpers"):
            module = importlib.import_module(f"{OPENAI}.{each}")
            names |= {name: value for name, value in vars(module).items() if not name.startswith("__")}
        exec(code, names)  # noqa: S102 - the server's own source
        router = names["router"]
        assert isinstance(router, APIRouter)
        return router

    return make


def _serves(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any('"/v1/videos' in ast.unparse(each).replace("'", '"') for each in node.decorator_list)


def _can_import(node: ast.Import | ast.ImportFrom) -> bool:
    """Whether these are names that the routes get as the server does: of the standard library and of FastAPI."""
    names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [each.name for each in node.names]
    tops = {name.partition(".")[0] for name in names}
    return tops <= set(sys.stdlib_module_names) | {"fastapi", "starlette", "pydantic", "PIL"}


# --- the engine -----------------------------------------------------------------------------------


class Engine:
    """What the server calls a video handler: draws frames that change, as many and as large as is asked for."""

    stage_configs: tuple[Any, ...] = ()
    supports_latent_edit = False
    supported_control_upload_types: frozenset[str] = frozenset()

    def __init__(self, model_name: str, log: Path) -> None:
        self.model_name = model_name
        self.supports_mixed_reference_inputs = model_name.endswith("H3")
        self._log = log

    def set_stage_configs_if_missing(self, configs: object) -> None:
        """There are none."""

    async def abort_request(self, request_id: str) -> None:
        """Nothing is left running."""

    async def generate_video_bytes(
        self,
        request: Any,
        request_id: str,
        *,
        reference_image: Any = None,
        reference_video: Any = None,
        on_started: Any = None,
        **_: object,
    ) -> tuple[bytes, dict[str, float], float, None]:
        """The file, after a moment in which the job is in progress."""
        asked = request.resolve_video_params()
        images = [] if reference_image is None else reference_image.data
        told = {
            "id": request_id,
            "model": self.model_name,
            "prompt": request.prompt,
            "width": asked.width,
            "height": asked.height,
            "num_frames": asked.num_frames,
            "fps": asked.fps,
            "images": [image.size for image in (images if isinstance(images, list) else [images])],
            "has_video": reference_video is not None,
        }
        with self._log.open("a", encoding="utf-8") as log:
            log.write(json.dumps(told) + "\n")
        if "[blind]" in request.prompt:
            return b"drawn by nobody", {}, 0.0, None
        await on_started()
        await asyncio.sleep(3600 if "[endless]" in request.prompt else 0.5)
        if "[fail " in request.prompt:
            raise HTTPException(int(request.prompt.partition("[fail ")[2][:3]), "the engine said no")
        shape = (asked.width or 480, asked.height or 480, asked.num_frames or 24, round(asked.fps or 24))
        return await asyncio.to_thread(drawn, *shape), {"drawing": 0.5}, 0.0, None


def drawn(width: int, height: int, n_frames: int, fps: int) -> bytes:
    """An MP4 whose red grows from frame to frame."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.pix_fmt = width // 2 * 2, height // 2 * 2, "yuv420p"
        for number in range(n_frames):
            picture = np.zeros((stream.height, stream.width, 3), "uint8")
            picture[:, :, 0] = number * 255 // n_frames
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return file.getvalue()


# --- the servers ----------------------------------------------------------------------------------


def server(model: str, log: Path, router: APIRouter) -> FastAPI:
    """One server for one model. The two free addresses answer as the server does; its own need an engine."""
    app = FastAPI()
    app.include_router(router)
    app.state.openai_serving_video = Engine(model, log)
    app.state.engine_client = None
    app.state.api_server_count = 1

    async def models() -> Any:
        entry = {"id": model, "object": "model", "created": 1_795_000_000, "owned_by": "vllm", "root": model}
        return {"object": "list", "data": [entry | {"parent": None, "max_model_len": None, "permission": []}]}

    async def health() -> Any:
        return {"status": "healthy"}

    app.add_api_route("/v1/models", models)
    app.add_api_route("/health", health)
    return app


def main() -> None:
    """Serve all models on one port of 127.0.0.1; uvicorn says when."""
    spec = importlib.util.find_spec("vllm_omni")
    assert spec is not None
    assert spec.origin is not None
    root = Path(spec.origin).parent
    sys.meta_path.insert(0, Finder(root))
    make = routes(root)
    log, port = Path(sys.argv[1]), int(sys.argv[2])
    app = server(MODELS[""], log, make())
    for path, model in MODELS.items():
        if path:
            app.mount(path, server(model, log, make()))
    uvicorn.run(app, host="127.0.0.1", port=port)


if __name__ == "__main__":
    main()
