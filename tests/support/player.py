"""A real browser that plays a video, seeks in it, and reports the result."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Empty, Queue
from typing import Any

BROWSER = shutil.which("chromium")
REPORT_TIMEOUT_S = 45

_PAGE = """<!doctype html><title>player</title><video id=v muted preload=auto></video><script>
const v = document.getElementById("v"), seen = [];
const report = (error) => fetch("/report", {method: "POST", body: JSON.stringify({error, seen, duration: v.duration})});
v.onerror = () => report(v.error.message || String(v.error.code));
v.onloadedmetadata = () => { seen.push("metadata"); v.currentTime = v.duration * 0.8; };
v.onseeked = () => {
  seen.push(["seeked", v.currentTime]);
  if (seen.length == 2) v.currentTime = v.duration * 0.1;
  else if (seen.length == 3) { v.ontimeupdate = playing; v.play().catch((e) => report(String(e))); }
};
const playing = () => {
  if (v.currentTime < v.duration * 0.1 + 0.3) return;
  v.ontimeupdate = null;
  seen.push(["played", v.currentTime]);
  report(null);
};
v.src = %s;
</script>"""


def play_video(link: str) -> dict[str, Any]:
    """Open a page with the video at `link` in a browser; return `seen` events, `duration`, and `error` or None."""
    assert BROWSER is not None
    reports: Queue[dict[str, Any]] = Queue()
    with _page(link, reports) as address, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--mute-audio"]
        flags += ["--autoplay-policy=no-user-gesture-required", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
        flags += ["--no-proxy-server", "--no-first-run", "--remote-debugging-port=0"]
        browser = subprocess.Popen(  # noqa: S603
            [BROWSER, *flags, address], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            return reports.get(timeout=REPORT_TIMEOUT_S)
        except Empty:
            return {"error": f"nothing was reported within {REPORT_TIMEOUT_S} s", "seen": []}
        finally:
            browser.kill()
            browser.wait()


@contextmanager
def _page(link: str, reports: Queue[dict[str, Any]]) -> Iterator[str]:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = (_PAGE % json.dumps(link)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            reports.put(dict(json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
