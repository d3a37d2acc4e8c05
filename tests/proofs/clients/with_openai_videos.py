"""The `openai` library as a foreign client of the sandbox's `/v1/videos`: create, retrieve, content, list."""

from __future__ import annotations

import json
import sys
import time
import warnings

from openai import OpenAI

warnings.simplefilter("ignore")  # it warns at each call that OpenAI's own service has closed


def main() -> None:
    """Make a video, wait for it, fetch it, find it in the list."""
    client = OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="sk-of-the-proof", max_retries=0)
    video = client.videos.create(prompt="A kite over the dunes", model="sandbox", size="720x1280", seconds="4")
    shown = [f"create ({video.status})"]
    until = time.monotonic() + 40
    while video.status in {"queued", "in_progress"} and time.monotonic() < until:
        time.sleep(0.2)
        video = client.videos.retrieve(video.id)
    assert (video.status, video.size, video.seconds) == ("completed", "720x1280", "4"), video
    shown.append("retrieve")
    assert client.videos.download_content(video.id).read()[4:8] == b"ftyp"
    shown.append("content")
    assert video.id in [each.id for each in client.videos.list()]
    shown.append("list")
    sys.stdout.write(json.dumps({"eras": [], "shown": shown}) + "\n")


if __name__ == "__main__":
    main()
