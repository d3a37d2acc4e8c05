"""Between the POST and the record of its answer nothing is imported or opened: a process that has used up what the
system allows it still records, and tells, what it paid for."""

from __future__ import annotations

import json
import resource
import sqlite3
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import audited
import pytest
from bench import ACCEPTED, COMMAND, create_accepted, environment, over_http
from fault_gateway import CREATE, Answer, FaultGateway, Hold, says
from mcp import Client, StdioServerParameters
from tls_front import Authority, tls_front
from wire import host

pytestmark = pytest.mark.anyio

BODY = json.dumps({"code": "success", "message": "angenommen: größer 日本", "data": "task_new"}, ensure_ascii=False)
BUSY = says({"error": {"message": "busy", "type": "new_api_error"}}, 429)
HTML = {"Content-Type": "text/html; charset=windows-1252"}


def chunked(body: bytes) -> Answer:
    """The body in chunks of seven bytes."""
    parts = [body[i : i + 7] for i in range(0, len(body), 7)]
    coded = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))
    return Answer(200, coded, {"Transfer-Encoding": "chunked"}, fault="no_length")


ANSWERS: dict[str, list[Answer]] = {
    "accepted": [ACCEPTED],
    "accepted, in chunks": [chunked(BODY.encode("utf-8-sig"))],
    "accepted, as UTF-16": [Answer(200, BODY.encode("utf-16"), {"Content-Type": "application/json; charset=utf-16"})],
    "accepted, as latin-1": [Answer(200, BODY[:50].encode("latin-1"), {"Content-Type": "text/plain; charset=latin-1"})],
    "accepted, a Location beside it": [replace(ACCEPTED, headers={"Location": "http://bücher.example/ü"})],
    "accepted at the third attempt": [BUSY, BUSY, ACCEPTED],
    "rejected": [says({"error": {"message": "größer 日本", "type": "new_api_error", "code": "bad_request"}}, 400)],
    "rejected, as often as it is sent": [BUSY, BUSY, BUSY],
    "rejected, asked to wait": [replace(BUSY, headers={"Retry-After": "Wed, 21 Oct 2199 07:28:00 GMT"})],
    "rejected, no JSON": [Answer(403, "<p>Zugriff größtenteils verweigert".encode("cp1252"), HTML)],
    "unknown": [says({"error": {"message": "größer", "type": "new_api_error"}}, 500)],
    "unknown, no JSON": [Answer(502, b"<html>\xfc\xff", HTML)],
    "unknown, not UTF-8": [Answer(200, b'{"data": "\xff\xfe\xfc"}')],
    "rejected, elsewhere": [Answer(307, b"", {"Location": "/elsewhere"})],
    "unknown, reset": [Answer(fault="reset_after_request", accepts=True)],
    "unknown, cut off": [replace(ACCEPTED, fault="truncate")],
    "unknown, no HTTP": [Answer(fault="garbage", accepts=True)],
}
EXPECTED = {"accepted, as UTF-16": {"accepted", "unknown"}, "accepted, as latin-1": {"accepted", "unknown"}}
"""What else than the name's first word the outcome may be."""

Told = dict[str, Any]


@asynccontextmanager
async def served(
    environ: dict[str, str], transport: str, program: list[str]
) -> AsyncIterator[StdioServerParameters | str]:
    """What a client connects to."""
    if transport == "stdio":
        yield StdioServerParameters(command=program[0], args=program[1:], env=environ)
        return
    async with over_http(environ, program) as (address, _):
        yield address


async def create(client: Client, told: list[Told]) -> None:
    result = await client.call_tool("create_video", {"prompt": "fly man"})
    told.append(result.structured_content)


def recorded(folder: Path) -> list[tuple[str, str | None]]:
    with closing(sqlite3.connect(folder / "home" / "ledger.sqlite3")) as ledger:
        return ledger.execute("SELECT state, task_id FROM videos").fetchall()


async def audit(environ: dict[str, str], transport: str, folder: Path, hold: Hold) -> tuple[Told, list[str]]:
    """What a create is told, and what was imported and opened since the hold was reached."""
    log = folder / "audit"
    program = [sys.executable, str(Path(audited.__file__)), str(log)]
    told: list[Told] = []
    with anyio.fail_after(60):
        async with served(environ, transport, program) as target, Client(target) as client:
            await client.list_tools()
            async with anyio.create_task_group() as calls:
                calls.start_soon(create, client, told)
                await hold.reached.wait()
                before = log.stat().st_size
                hold.release.set()
            return told[0], log.read_bytes()[before:].decode().splitlines()


@pytest.mark.parametrize(
    ("name", "transport"),
    [*((name, "stdio") for name in ANSWERS), ("accepted, in chunks", "http"), ("unknown, no JSON", "http")],
)
async def test_nothing_is_imported_or_opened_between_the_post_and_its_answer(
    gateway: FaultGateway, tmp_path: Path, name: str, transport: str
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, *ANSWERS[name])
    gateway.greeting = Answer(hold=hold, at="in_head")
    told, events = await audit(environment(tmp_path, gateway), transport, tmp_path, hold)
    assert told["outcome"] in EXPECTED.get(name, {name.partition(" ")[0].strip(",")})
    assert events == []


@pytest.mark.parametrize("name", ["accepted at the third attempt", "unknown, cut off"])
async def test_nor_where_the_gateway_speaks_tls(gateway: FaultGateway, tmp_path: Path, name: str) -> None:
    authority, hold = Authority(), Hold()
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    gateway.on("POST", CREATE, *ANSWERS[name])
    gateway.greeting = Answer(hold=hold, at="in_head")
    async with tls_front(gateway.address, authority.server()) as address:
        environ = environment(tmp_path, gateway, BASE_URL=address) | {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        told, events = await audit(environ, "stdio", tmp_path, hold)
    assert told["outcome"] == name.partition(" ")[0].strip(",")
    assert events == []


# --- used up --------------------------------------------------------------------------------------


def use_up(pid: int, *, all_of_it: bool = False) -> None:
    """Let a process have what it has open, and nothing more: the limit is the first number that is free, or even 0
    (then what it has cannot be polled either)."""
    used = {int(path.name) for path in Path(f"/proc/{pid}/fd").iterdir()}
    free = 0 if all_of_it else min(set(range(len(used) + 1)) - used)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))


USED_UP = ["accepted", "accepted, in chunks", "accepted, as UTF-16", "rejected, no JSON", "unknown, no JSON"]


async def check(gateway: FaultGateway, folder: Path, name: str, told: Told) -> None:
    assert told["outcome"] in EXPECTED.get(name, {name.partition(" ")[0].strip(",")})
    [(state, task_id)] = recorded(folder)
    assert (state, task_id) == (told["outcome"].replace("accepted", "submitted"), told.get("task_id"))
    assert len(gateway.creates()) == 1


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="the limits of another process can be set on Linux")


@on_linux
@pytest.mark.parametrize("name", [*USED_UP, "unknown, reset"])
async def test_with_every_descriptor_used_up_an_answer_is_recorded_and_told_over_stdio(
    gateway: FaultGateway, tmp_path: Path, name: str
) -> None:
    hold = Hold()
    gateway.on("POST", CREATE, replace(ANSWERS[name][0], hold=hold))
    with anyio.fail_after(60):
        async with host(environment(tmp_path, gateway)) as server:
            await server.start()
            called = await server.call("create_video", {"prompt": "fly man"})
            await hold.reached.wait()
            use_up(server.pid)
            hold.release.set()
            await check(gateway, tmp_path, name, await server.answer(called))


@on_linux
@pytest.mark.parametrize("name", USED_UP)
async def test_with_every_descriptor_used_up_an_answer_is_recorded_and_told_over_http(
    gateway: FaultGateway, tmp_path: Path, name: str
) -> None:
    hold = Hold()
    told: list[Told] = []
    gateway.on("POST", CREATE, replace(ANSWERS[name][0], hold=hold))
    with anyio.fail_after(60):
        async with over_http(environment(tmp_path, gateway), COMMAND) as (address, process), Client(address) as client:
            await client.list_tools()
            async with anyio.create_task_group() as calls:
                calls.start_soon(create, client, told)
                await hold.reached.wait()
                limits = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
                use_up(process.pid, all_of_it=True)
                hold.release.set()
            await check(gateway, tmp_path, name, told[0])
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)


@on_linux
async def test_with_every_descriptor_used_up_an_error_says_so(gateway: FaultGateway, tmp_path: Path) -> None:
    gateway.on("POST", CREATE, ACCEPTED, create_accepted("task_2"))
    why = "too many files and connections are open on this machine."
    calls: list[tuple[str, Told, str]] = [
        ("get_video", {"task_id": "task_other"}, "file_problem"),
        ("get_video", {"task_id": "task_new"}, "unreachable"),
        ("create_video", {"prompt": "fox"}, "unreachable"),
        ("storyboard_video", {"actions": [{"time": 0, "description": "a fox"}], "dry_run": True}, "file_problem"),
        ("download_video", {"task_id": "task_new"}, "file_problem"),
    ]
    with anyio.fail_after(60):
        async with host(environment(tmp_path, gateway)) as server:
            await server.start()
            await server.answer(await server.call("create_video", {"prompt": "fly man"}))
            limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
            use_up(server.pid)
            for tool, arguments, kind in calls:
                error = (await server.answer(await server.call(tool, arguments)))["error"]
                assert (error["kind"], why in error["message"]) == (kind, True), (tool, error)
                assert "SORA_BASE_URL" not in error["next_step"]
            resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
            told = await server.answer(await server.call("create_video", {"prompt": "fox"}))
    assert told["outcome"] == "accepted"
    assert len(gateway.creates()) == 2
