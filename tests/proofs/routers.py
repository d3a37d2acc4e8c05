"""OpenRouter's `/api/v1/videos` with programs that others wrote: its own library, and aimock as the service."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from workshop import CLIENTS, PROJECT, SERVER, Failed, Report, Workshop, report_from

OPENROUTER = "openrouter==1.3.84"
AIMOCK = "@copilotkit/aimock@1.43.0"


def openrouter(shop: Workshop) -> Report:
    """The `openrouter` library as a client of the sandbox, and as a judge of what we send."""
    python = shop.venv(OPENROUTER)
    bodies = shop.scratch / "bodies.json"
    bodies.write_text(shop.do(sys.executable, PROJECT / "tests" / "support" / "openrouter_bodies.py"), encoding="utf-8")
    with shop.sandbox("openrouter") as address:
        return report_from(shop.do(python, CLIENTS / "with_openrouter.py", address, bodies, seconds=180))


def aimock(shop: Workshop) -> Report:
    """Our client against aimock's OpenRouter. It answers a create with 200 and a bare UUID, its list of models lacks
    fields, and a film that is not there yet is a 400."""
    npm = shop.npm(AIMOCK)
    shutil.copy(CLIENTS / "aimock.mjs", npm)
    with shop.listening("node", npm / "aimock.mjs", _film(shop), npm=npm) as address:
        shop.settings |= {"SORA_BASE_URL": address, "SORA_API_KEY": "sk-of-the-proof", "SORA_DIALECT": "openrouter"}
        shop.settings |= {"SORA_MODEL": "maker/film", "SORA_HOME": str(shop.scratch / "elsewhere")}
        task_id = _ours(shop, "create", "A kite over the dunes")["task_id"]
        done = _ours(shop, "get", task_id, "--wait")
        _expect((done["state"], done["cost"], done["unit"], done["cost_from"]), ("succeeded", 0.25, "USD", "gateway"))
        saved = Path(_ours(shop, "download", task_id)["path"])
        _expect(saved.read_bytes()[4:8], b"ftyp")
        broken = _ours(shop, "create", "A storm")["task_id"]
        failed = _ours(shop, "get", broken, "--wait")
        _expect((failed["state"], failed["gateway_message"]), ("failed", "the engine said no"))
        _expect(_ours(shop, "create", "Nothing that it knows")["outcome"], "unknown")
        _expect(_ours(shop, "create", "A kite", "--model", "maker/other")["outcome"], "not_submitted")
    return (
        (),
        "models, create (200, bare UUID), wait, cost, content, a failed job, a 503 left unknown, a model not listed",
    )


def _film(shop: Workshop) -> Path:
    """A real video, made in the sandbox."""
    task_id = _ours(shop, "create", "A kite", "--width", "480", "--height", "480")["task_id"]
    _ours(shop, "get", task_id, "--wait")
    return Path(_ours(shop, "download", task_id)["path"])


def _ours(shop: Workshop, *words: str) -> dict[str, Any]:
    """What our command says as JSON, however it ends."""
    return dict(json.loads(shop.run(SERVER, *words, "--json").out))


def _expect(seen: object, expected: object) -> None:
    if seen != expected:
        raise Failed(f"{seen!r} instead of {expected!r}")
