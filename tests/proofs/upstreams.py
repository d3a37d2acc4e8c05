"""`/v1/videos` with programs that others wrote: their clients and the sandbox's faces, their servers and our client."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from workshop import CLIENTS, Report, Workshop, free_port, report_from

SERVERS = Path(__file__).parent / "servers"
OPENAI_VIDEOS = "openai==3.57.0"
VLLM_OMNI = "vllm-omni==0.30.0"
_BELOW_VLLM_OMNI = (
    *("fastapi==0.165.0", "uvicorn==0.54.0", "python-multipart==0.0.34", "pydantic-settings==2.16.3"),
    *("pybase64==1.5.1", "httpx==0.28.1", "av==18.1.0", "numpy==2.4.6", "pillow==13.0.0"),
)
"""What its routes and its form parser need: neither torch nor vllm."""
LITELLM = "litellm[proxy]==1.108.7"
_KEY = "sk-of-the-proof"
_FACES = {"vllm-omni": "videos:vllm-omni", "generic": "videos:generic"}


def openai_videos(shop: Workshop) -> Report:
    """The `openai` library as a client of two of the sandbox's faces."""
    python = shop.venv(OPENAI_VIDEOS)
    shown = []
    for face, dialect in _FACES.items():
        with shop.sandbox(dialect) as address:
            shown.append(f"{face}: {report_from(shop.do(python, CLIENTS / 'with_openai_videos.py', address))[1]}")
    return (), "; ".join(shown)


def vllm_omni(shop: Workshop) -> Report:
    """vLLM-Omni's own routes and form parser above an engine that draws; the server is started again in between."""
    shop.settings |= {"SORA_DIALECT": "videos:vllm-omni", "SORA_IMAGE_DIRS": str(shop.scratch / "pictures")}
    port = free_port()
    with _vllm_omni(shop, port) as address:
        shown = [_ours(shop, step, address) for step in ("bodies", "references", "talk")]
    with _vllm_omni(shop, port) as address:
        shown.append(_ours(shop, "forgotten", address))
    return (), ", ".join(shown)


def litellm(shop: Workshop) -> Report:
    """A LiteLLM proxy in front of that, which gives every job an id of its own."""
    shop.settings |= {"SORA_DIALECT": "videos:generic", "SORA_MODEL": "wan", "SORA_API_KEY": _KEY}
    program = shop.venv(LITELLM).with_name("litellm")
    model = {"model_name": "wan", "litellm_params": {"model": "hosted_vllm/Wan-AI/Wan2.2-T2V-A14B-Diffusers"}}
    config = shop.scratch / "litellm.json"
    config.write_text(json.dumps({"model_list": [model]}), encoding="utf-8")  # JSON is YAML
    command: list[str | Path] = [program, "--config", config, "--host", "127.0.0.1", "--port", str(free_port())]
    with (
        _vllm_omni(shop, free_port()) as behind,
        shop.listening(*command, HOSTED_VLLM_API_BASE=behind, LITELLM_MASTER_KEY=_KEY) as address,
    ):
        return (), _ours(shop, "talk", address)


@contextmanager
def _vllm_omni(shop: Workshop, port: int) -> Iterator[str]:
    python = shop.venv(*_BELOW_VLLM_OMNI, alone=VLLM_OMNI)
    storage = str(shop.scratch / "storage")
    command: list[str | Path] = [python, SERVERS / "serve_vllm_omni.py", _engine_log(shop), str(port)]
    with shop.listening(*command, VLLM_OMNI_SERVER_STORAGE__PATH=storage) as address:
        yield address


def _ours(shop: Workshop, step: str, address: str) -> str:
    """What was shown in a step of this project as a client."""
    command = (sys.executable, CLIENTS / "to_videos.py", step, address, _engine_log(shop))
    return report_from(shop.do(*command, seconds=180))[1]


def _engine_log(shop: Workshop) -> Path:
    return shop.scratch / "engine.jsonl"
