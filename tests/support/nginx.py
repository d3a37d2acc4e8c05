"""Debian's nginx as a process, with the configuration of docs/deploy, if it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx2
from ports import free_port
from tls_front import HOST, Authority

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/sbin")
CONFIGURATION = Path(__file__).parents[2] / "docs" / "deploy" / "nginx.conf"
NAME = "videos.example.org"

_MAIN = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/sora-mcp.conf;
}}
"""


@dataclass(frozen=True, slots=True)
class Front:
    """A running nginx: its ports, its authority, and its log of requests."""

    port: int
    plain_port: int
    authority: Authority
    log: Path

    def client(self, **headers: str) -> httpx2.AsyncClient:
        """A client that resolves NAME to this machine, and trusts its certificate."""
        context = httpx2.create_ssl_context()
        context.load_verify_locations(cadata=self.authority.pem.decode())
        return httpx2.AsyncClient(transport=_LocalTransport(self.port, context), headers=headers, timeout=30)


class _LocalTransport(httpx2.AsyncHTTPTransport):
    def __init__(self, port: int, context: object) -> None:
        super().__init__(verify=context)  # type: ignore[arg-type] # an SSLContext, as it says in its documentation
        self._port = port

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        request.extensions = {**request.extensions, "sni_hostname": NAME}
        request.url = request.url.copy_with(host=HOST, port=self._port)
        return await super().handle_async_request(request)


@asynccontextmanager
async def front(folder: Path, *upstreams: str) -> AsyncIterator[Front]:
    """nginx in front of one or two `upstreams` (host and port), as in docs/deploy except for ports and paths."""
    assert NGINX is not None
    nginx = Front(free_port(), free_port(), Authority(NAME), folder / "sora-mcp.log")
    _write(folder, nginx, upstreams)
    command = [NGINX, "-p", str(folder), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    async with await anyio.open_process(command, stderr=subprocess.STDOUT) as process:
        try:
            await _wait_until_open(nginx.port)
            yield nginx
        finally:
            process.terminate()


def _write(folder: Path, nginx: Front, upstreams: tuple[str, ...]) -> None:
    folder.mkdir()
    (folder / "fullchain.pem").write_bytes(nginx.authority.pem)
    (folder / "privkey.pem").write_bytes(nginx.authority.key)
    text = CONFIGURATION.read_text(encoding="utf-8")
    for documented, actual in (
        ("server 127.0.0.1:8001 ", f"server {upstreams[0]} "),
        ("server 127.0.0.1:8002 ", f"server {upstreams[1]} " if upstreams[1:] else "# "),
        ("listen 443 ", f"listen {HOST}:{nginx.port} "),
        ("listen 80;", f"listen {HOST}:{nginx.plain_port};"),
        ("/etc/nginx/tls/", f"{folder}/"),
        ("/var/log/nginx/", f"{folder}/"),
    ):
        assert documented in text
        text = text.replace(documented, actual)
    (folder / "sora-mcp.conf").write_text(text, encoding="utf-8")
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(_MAIN.format(folder=folder, user=user), encoding="utf-8")


async def _wait_until_open(port: int) -> None:
    with anyio.fail_after(10):
        while True:
            try:
                async with await anyio.connect_tcp(HOST, port):
                    return
            except OSError:
                await anyio.sleep(0.05)
