"""The `openrouter` library as a foreign client of the sandbox's `/api/v1/videos`: models, generate, poll, content.

Before that, its model of a request is shown every kind of body that we make: they stand in the file that is named.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from openrouter import OpenRouter
from openrouter.components import VideoGenerationRequest
from openrouter.errors import (
    BadRequestResponseError,
    ForbiddenResponseError,
    NotFoundResponseError,
    OpenRouterError,
    PaymentRequiredResponseError,
    TooManyRequestsResponseError,
    UnauthorizedResponseError,
)
from openrouter.utils import BackoffStrategy, RetryConfig

ONCE = RetryConfig("none", BackoffStrategy(0, 0, 1, 0), retry_connection_errors=False)
"""It sends a create again for up to an hour if it isn't told otherwise."""
PROMPT = "A kite over the dunes"
REFUSALS: dict[str, tuple[type[OpenRouterError], dict[str, Any]]] = {
    "400": (BadRequestResponseError, {"duration": 99}),
    "402": (PaymentRequiredResponseError, {"prompt": "[quota]"}),
    "403": (ForbiddenResponseError, {"prompt": "[blocked]"}),
    "429": (TooManyRequestsResponseError, {"prompt": "[busy]"}),
}


def main() -> None:
    """List the models, make a video with each, wait for it, fetch it; be refused in the documented ways."""
    for body in json.loads(Path(sys.argv[2]).read_text(encoding="utf-8")):
        request = VideoGenerationRequest.model_validate(body, strict=True)
        assert request.model_dump(by_alias=True, mode="json") == body, body  # it keeps what it knows
    server = f"{sys.argv[1]}/api/v1"
    client = OpenRouter(api_key="sk-of-the-proof", server_url=server, retry_config=ONCE, timeout_ms=30_000)
    videos = client.video_generation
    models = videos.list_videos_models().data
    shown = ["each kind of our bodies taken by its request model", f"{len(models)} models"]
    for model in models:
        job = videos.generate(model=model.id, prompt=PROMPT, duration=(model.supported_durations or [5])[0])
        assert job.status == "pending", job
        until = time.monotonic() + 60
        while job.status in {"pending", "in_progress"} and time.monotonic() < until:
            time.sleep(0.2)
            job = videos.get_generation(job_id=job.id)
        assert job.status == "completed", job
        assert job.usage is not None
        assert job.usage.cost
        assert videos.get_video_content(job_id=job.id, index=0).read()[4:8] == b"ftyp"
    shown.append("generate, poll, cost and content with each")
    for kind, arguments in REFUSALS.values():
        _refused(kind, partial(videos.generate, **{"model": models[0].id, "prompt": PROMPT} | arguments))
    _refused(NotFoundResponseError, partial(videos.get_generation, job_id="gen-vid-1-absent"))
    stranger = OpenRouter(
        api_key="sk-invalid", server_url=server, retry_config=ONCE, timeout_ms=30_000
    ).video_generation
    _refused(UnauthorizedResponseError, partial(stranger.get_generation, job_id="gen-vid-1-absent"))
    shown.append(f"refusals {', '.join([*REFUSALS, '401', '404'])}")
    sys.stdout.write(json.dumps({"eras": [], "shown": shown}) + "\n")


def _refused(kind: type[OpenRouterError], act: Callable[[], object]) -> None:
    try:
        act()
    except kind:
        return
    raise AssertionError(kind)


if __name__ == "__main__":
    main()
