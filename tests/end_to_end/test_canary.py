"""The key is found nowhere but in the Authorization header, though the gateway repeats it wherever it can."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import anyio
import pytest
from bench import environment, over_stdio
from fault_gateway import CREATE, Answer, fault_gateway, says
from mcp import Client
from mcp.client.stdio import stdio_client
from warm import warm_command

pytestmark = pytest.mark.anyio

KEY = "sk-canary/7f3d&1c9b<2e5a"
"""Holds what senders of JSON like to escape."""
TOLD = f"your key {KEY} is the best"


def _escaped(letters: dict[str, str], *, inside: bool = False) -> Answer:
    """A refusal, or `inside` a task that has failed, which repeats the key with some letters escaped."""
    key = "".join(letters.get(letter, letter) for letter in KEY)
    if inside:
        task = rf'"status": "FAILURE", "data": "{{\"failure_reason\": \"bad key {key}\"}}"'
        return Answer(200, f'{{"code": "success", "data": {{"task_id": "task_new", {task}}}}}'.encode())
    return Answer(401, f'{{"error": {{"message": "bad key {key}", "type": "new_api_error"}}}}'.encode())


ANSWERS: dict[str, Answer] = {
    "an error": says({"error": {"message": TOLD, "type": "new_api_error", "code": KEY}}, 401),
    "a task error": says({"code": KEY, "message": TOLD, "data": KEY}, 500),
    "a redirect": Answer(307, TOLD.encode(), {"Location": f"https://elsewhere.example/{KEY}"}),
    "a header": Answer(502, TOLD.encode(), {"X-Key": KEY, "Retry-After": KEY}),
    "what it accepts": says({"code": "success", "message": TOLD, "data": f"task_{KEY}"}),
    "escaped as PHP does": _escaped({"/": r"\/"}),
    "escaped as Go does": _escaped({"&": r"\u0026", "<": r"\u003C"}),
    "escaped throughout": _escaped({letter: f"\\u{ord(letter):04x}" for letter in KEY}),
    "escaped in JSON inside JSON": _escaped({"/": r"\\\/", "&": r"\\u0026"}, inside=True),
    "with a space of no width in it": _escaped({"/": "/\u200b", "&": r"&\u200b\u00ad"}),
    "with colours in it": _escaped({"/": r"/\u001b[31m", "&": r"&\u001b[0m"}, inside=False),
    "with colours in JSON inside JSON": _escaped({"/": r"/\\u001b[31m", "<": r"\\u0000<"}, inside=True),
    "in UTF-16": Answer(401, json.dumps({"error": {"message": TOLD}}).encode("utf-16")),
    "no HTTP": Answer(body=KEY.encode(), fault="garbage"),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_the_key_is_found_nowhere_but_in_the_authorization_header(answer: Answer, tmp_path: Path) -> None:
    async with fault_gateway() as gateway:
        for method, path in (("POST", CREATE), ("GET", "/")):
            gateway.on(method, path, answer)
        settings = environment(tmp_path, gateway, API_KEY=KEY, LOG_LEVEL="DEBUG")
        said = [await _converse(settings, tmp_path / "stderr"), await _shell(settings, "doctor", "--json")]
        said.append(await _shell(settings, "list", "--json"))
        received = list(gateway.received)
    assert received
    for request in received:
        assert request.headers.pop("authorization") == f"Bearer {KEY}"
        assert KEY not in repr(request)
    assert KEY not in "".join(said)
    assert "POST" in (tmp_path / "stderr").read_text()
    assert _files_with_the_key(tmp_path) == []


async def _converse(environment: dict[str, str], stderr: Path) -> str:
    """Everything that a server answers; its log goes to `stderr`."""
    calls: list[tuple[str, dict[str, Any]]] = [
        ("create_video", {"prompt": "fly man"}),
        ("create_video", {"prompt": "fly man", "dry_run": True}),
        ("create_video", {"prompt": 7}),
        ("get_video", {"task_id": "task_of_somebody_else"}),
        ("view_video", {"task_id": "task_of_somebody_else"}),
        ("download_video", {"task_id": "task_of_somebody_else"}),
        ("list_videos", {}),
    ]
    with stderr.open("w") as log:
        async with Client(stdio_client(over_stdio(environment), errlog=log)) as client:
            answers = [await client.call_tool(tool, arguments) for tool, arguments in calls]
    return "\n".join(answer.model_dump_json() for answer in answers)


async def _shell(environment: dict[str, str], *arguments: str) -> str:
    command = [*warm_command(), *arguments]
    done = await anyio.run_process(command, env=environment, check=False, stderr=subprocess.STDOUT)
    return done.stdout.decode()


def _files_with_the_key(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()]
