"""Images on a public host, without mocks: run in a network namespace whose loopback has a public address.

`unshare -rnm python tests/support/public_host.py FOLDER` fetches each address over real sockets, and prints the
outcomes as JSON. Names come from its own hosts file. Nothing leaves this machine.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
from calls import ask
from fault_gateway import Answer, fault_gateway, says
from mcp import Client

from sora_mcp.config.settings import load
from sora_mcp.server import build

PUBLIC = "93.184.216.34"
HOSTS = f"127.0.0.1 localhost\n{PUBLIC} images.test\n{PUBLIC} both.test\n10.1.2.3 both.test\n10.1.2.3 inside.test\n"
KEY = "sk-key-of-the-public-host"


def set_up(folder: Path) -> None:
    """Set up the loopback of this network and its host names."""
    hosts = folder / "hosts"
    hosts.write_text(HOSTS)
    for command in (
        ["mount", "--bind", str(hosts), "/etc/hosts"],
        ["ip", "link", "set", "lo", "up"],
        ["ip", "addr", "add", f"{PUBLIC}/32", "dev", "lo"],
        ["ip", "addr", "add", "10.1.2.3/32", "dev", "lo"],
    ):
        subprocess.run(command, check=True)  # noqa: S603


async def fetch_all(folder: Path) -> dict[str, Any]:
    """The outcome for each address, and what its host and the gateway received."""
    picture = (folder / "picture.png").read_bytes()
    async with fault_gateway() as gateway, fault_gateway(PUBLIC) as public, fault_gateway("10.1.2.3") as inside:
        port, inner = public.address.rpartition(":")[2], inside.address.rpartition(":")[2]
        gateway.on("GET", "/v1/models", says({"data": []}))
        gateway.on("GET", "/v1/videos", says({"object": "video", "id": "video_1", "status": "queued"}))
        png = Answer(200, picture, {"Content-Type": "image/png"})
        public.on("GET", "/a.png", png)
        inside.on("GET", "/a.png", png)
        public.on("GET", "/moved", Answer(302, b"", {"Location": "/a.png"}))
        public.on("GET", "/inside", Answer(302, b"", {"Location": f"http://inside.test:{inner}/a.png"}))
        public.on("GET", "/loop", Answer(302, b"", {"Location": "/loop"}))
        public.on("GET", "/gone", Answer(404, b"no"))
        public.on("GET", "/page", Answer(200, b"<html></html>"))
        public.on("GET", "/large", Answer(200, picture, padding=21_000_000))
        public.on("GET", "/cut", Answer(200, picture, fault="truncate"))
        public.on("GET", "/stall", Answer(200, picture, fault="stall"))
        addresses = {
            path: f"http://images.test:{port}/{path}" for path in ["a.png", "moved", "inside", "loop", "gone", "page"]
        }
        addresses |= {path: f"http://images.test:{port}/{path}" for path in ("large", "cut", "stall")}
        addresses |= {"by number": f"http://{PUBLIC}:{port}/a.png", "both": f"http://both.test:{port}/a.png"}
        addresses |= {"inside name": f"http://inside.test:{inner}/a.png", "nowhere": "http://nowhere.test/a.png"}
        settings = load({}, base_url=gateway.address, api_key=KEY, home=folder / "home", dialect="videos:vllm-omni")
        outcomes = {}
        async with Client(build(settings)) as client:
            for number, (name, address) in enumerate(addresses.items()):
                gateway.on("POST", "/v1/videos", says({"object": "video", "id": f"video_{number}", "status": "queued"}))
                before = len(gateway.requests("POST"))
                arguments = {"prompt": f"fly man {number}", "inpaint_items": [{"url": address}]}
                reply = await ask(client, "create_video", arguments)
                posts = gateway.requests("POST")[before:]
                outcomes[name] = {"outcome": reply.data["outcome"], "text": reply.text, "posts": len(posts)}
                outcomes[name]["has_picture"] = bool(posts) and picture in posts[0].body
        return {
            "outcomes": outcomes,
            "keys": sorted({"authorization" in each.headers for each in public.received}),
            "hosts": sorted({each.headers["host"].partition(":")[0] for each in public.received}),
            "inside": len(inside.received),
        }


def main() -> None:
    """Set up, fetch, print."""
    folder = Path(sys.argv[1])
    set_up(folder)
    print(json.dumps(anyio.run(fetch_all, folder)))  # noqa: T201 - read by the test


if __name__ == "__main__":
    main()
