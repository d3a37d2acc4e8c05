"""Load over streamable HTTP, in a process of its own, on bare keep-alive sockets: a real client would cost more than
the server it measures. Requests and sessions are those of the SDK's own client in each era.

Reads a plan (JSON) from stdin, writes calls per second for each target and round to stdout. In every round the
targets take turns.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from typing import Any
from urllib.parse import urlsplit

MAX_CONCURRENT = 50
_INFO = {"name": "benchmark", "version": "1"}
_MODERN_META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": _INFO,
    "io.modelcontextprotocol/clientCapabilities": {},
}


class CallFailed(RuntimeError):
    """The server answered with an error. `body`: what it said."""

    def __init__(self, status: str, body: bytes) -> None:
        super().__init__(f"{status}: {body[-300:]!r}")
        self.body = body


class HttpClient:
    """One keep-alive connection; in the older era with a session of its own."""

    _reader: asyncio.StreamReader
    _writer: asyncio.StreamWriter

    def __init__(self, url: str, era: str, token: str = "") -> None:
        self._address = urlsplit(url)
        self._modern = era == "2026-07-28"
        self._headers = {
            "Host": self._address.netloc,
            "Accept": "application/json, text/event-stream",
            "Content-Type": "application/json",
        } | ({"Authorization": f"Bearer {token}"} if token else {})

    async def connect(self) -> None:
        """A fresh connection (servers close idle ones); the session stays."""
        self._reader, self._writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        if self._modern or "Mcp-Session-Id" in self._headers:
            return
        hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": _INFO}
        headers, _ = await self.send(self.request("initialize", hello))
        self._headers |= {"Mcp-Session-Id": headers["mcp-session-id"], "MCP-Protocol-Version": "2025-11-25"}
        await self.send(self._post({"jsonrpc": "2.0", "method": "notifications/initialized"}, {}))

    def request(self, method: str, params: dict[str, Any]) -> bytes:
        """The bytes of one request, the same for every call."""
        named = {"Mcp-Name": params["name"]} if "name" in params else {}
        extra = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": method, **named} if self._modern else {}
        params = params | ({"_meta": _MODERN_META} if self._modern else {})
        return self._post({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}, extra)

    def _post(self, message: dict[str, Any], extra: dict[str, str]) -> bytes:
        body = json.dumps(message).encode()
        headers = self._headers | extra | {"Content-Length": str(len(body))}
        lines = ["POST /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        return "\r\n".join(lines).encode() + body

    async def send(self, request: bytes) -> tuple[dict[str, str], bytes]:
        self._writer.write(request)
        first, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await self._chunks() if "transfer-encoding" in headers else await self._exactly(headers)
        if first.split(" ")[1] not in {"200", "202"} or b'"isError":true' in body or b'"error":{"code":' in body:
            raise CallFailed(first, body)
        return headers, body

    async def _exactly(self, headers: dict[str, str]) -> bytes:
        return await self._reader.readexactly(int(headers["content-length"]))

    async def _chunks(self) -> bytes:
        body = b""
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            body += (await self._reader.readexactly(size + 2))[:-2]
        await self._reader.readexactly(2)
        return body

    async def end_session(self) -> None:
        """Tell the server that the session is over, where there is one."""
        if "Mcp-Session-Id" in self._headers:
            lines = ["DELETE /mcp HTTP/1.1", *(f"{name}: {value}" for name, value in self._headers.items()), "", ""]
            await self.send("\r\n".join(lines).encode())

    def close(self) -> None:
        self._writer.close()


class _Target:
    """One server, or several of a kind, with an era, a request, and its clients."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.label: str = plan["label"]
        urls = itertools.cycle(plan["urls"])
        self._clients = [HttpClient(next(urls), plan["era"], plan.get("token", "")) for _ in range(MAX_CONCURRENT)]
        self._call: tuple[str, dict[str, Any]] = (plan["method"], plan["params"])

    async def calls_per_second(self, calls: int) -> float:
        """One round; connecting is not counted."""
        for client in self._clients:
            await client.connect()
        began = time.perf_counter()
        await asyncio.gather(*(self._repeat(client, calls // MAX_CONCURRENT) for client in self._clients))
        elapsed = time.perf_counter() - began
        for client in self._clients:
            client.close()
        return calls // MAX_CONCURRENT * MAX_CONCURRENT / elapsed

    async def _repeat(self, client: HttpClient, times: int) -> None:
        request = client.request(*self._call)
        for _ in range(times):
            await client.send(request)


async def _main() -> None:
    plan = json.load(sys.stdin)
    targets = [_Target(target) for target in plan["targets"]]
    for target in targets:
        await target.calls_per_second(MAX_CONCURRENT * 2)
    began, busy = time.perf_counter(), time.process_time()
    found: dict[str, list[float]] = {target.label: [] for target in targets}
    for _ in range(plan["rounds"]):
        for target in targets:
            found[target.label].append(await target.calls_per_second(plan["calls"]))
    share = (time.process_time() - busy) / (time.perf_counter() - began)
    json.dump({"calls_per_s": found, "load_process_busy": share}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(_main())
