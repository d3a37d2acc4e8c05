"""Several people share a server: each sees their own, and what is somebody else's is as if it were not there.

The matrix: for each thing that can be asked with an id, the owner is served, and a stranger is told what they are told
of an id that stands nowhere: the same words, after the same calls to the ledger and the gateway.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import mcp_types as types
import pytest
from bench import ACCEPTED_NEXT, KEY, MP4, finished
from fault_gateway import CREATE, Answer, FaultGateway
from mcp import Client, MCPError
from resources import create
from shared_server import Team, team

from sora_mcp import tools
from sora_mcp.config.settings import Settings
from sora_mcp.ledger import Ledger, open_ledger
from sora_mcp.server.principals import current_principal
from sora_mcp.server.prompts import PROMPTS
from sora_mcp.server.resources import RESOURCES
from sora_mcp.studio import facade

pytestmark = [pytest.mark.anyio, pytest.mark.filterwarnings("ignore::mcp.MCPDeprecationWarning")]


class Counted:
    """A ledger that notes what is asked of it by whoever makes a request; what the server does by itself is not."""

    def __init__(self, ledger: Ledger, calls: list[str]) -> None:
        self._ledger = ledger
        self._calls = calls

    def __getattr__(self, name: str) -> Any:
        if current_principal() is not None:
            self._calls.append(name)
        return getattr(self._ledger, name)


@dataclass
class House:
    """A shared server with one video of Ann's; Ben is the stranger."""

    team: Team
    gateway: FaultGateway
    ledger_calls: list[str]
    ids: dict[str, str]
    """Ann's, by an id of the same kind that stands nowhere."""

    def calls(self) -> tuple[list[str], list[str]]:
        """What was asked of the ledger and of the gateway since the last time."""
        asked = list(self.ledger_calls), [f"{each.method} {each.path}" for each in self.gateway.received]
        self.ledger_calls.clear()
        self.gateway.received.clear()
        return asked


@pytest.fixture
def shared(make_settings: Callable[..., Settings], gateway: FaultGateway) -> Callable[..., Settings]:
    """The settings of a server that people share."""

    def make(**values: Any) -> Settings:
        return make_settings(**({"base_url": gateway.address, "api_key": KEY, "auth": "tokens"} | values))

    return make


@pytest.fixture
async def house(
    shared: Callable[..., Settings], gateway: FaultGateway, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[House]:
    calls: list[str] = []

    def counted(path: Path, **_: Any) -> Counted:
        return Counted(open_ledger(path), calls)

    monkeypatch.setattr(facade, "open_ledger", counted)
    gateway.on("POST", CREATE, ACCEPTED_NEXT)
    gateway.on("GET", CREATE, finished(f"{gateway.address}/media/one.mp4"))
    gateway.on("GET", "/media", Answer(200, MP4))
    async with team(shared()) as made, made.client("ann") as ann:
        task_id = await create(ann)
        video = await ann.call_tool("get_video", {"task_id": task_id, "wait_seconds": 10})
        assert video.structured_content["state"] == "succeeded"
        request_id = video.structured_content["request_id"]
        await ann.call_tool("download_video", {"task_id": task_id})
        ids = {"task_999": task_id, "req_" + "0" * 24: request_id, "gen_999": "gen_1"}
        ids |= {f"{unknown}#{variant}": f"{own}#{variant}" for unknown, own in ids.items() for variant in (1, 2)}
        yield House(made, gateway, calls, ids)


# --- tools ----------------------------------------------------------------------------------------

ASKED: dict[str, list[Callable[[str], dict[str, Any]]]] = {
    "create_video": [
        lambda i: {
            "prompt": "x",
            "inpaint_items": [{"generation_id": i, "source_start_frame": 0, "source_end_frame": 9}],
        },
        lambda i: {"prompt": "x", "inpaint_items": [{"upload_media_id": i}]},
        lambda i: {"prompt": "x", "inpaint_items": [{"generation_id": i}], "dry_run": True},
    ],
    "storyboard_video": [
        lambda i: {"actions": [{"frame": 0, "description": "x"}], "inpaint_items": [{"generation_id": i}]},
        lambda i: {
            "actions": [{"frame": 0, "description": "x"}],
            "inpaint_items": [{"generation_id": i}],
            "dry_run": True,
        },
    ],
    "remix_video": [
        lambda i: {"prompt": "x", "source_generation_id": i},
        lambda i: {"prompt": "x", "source_upload_media_id": i},
        lambda i: {"prompt": "x", "source_generation_id": i, "dry_run": True},
        lambda i: {"prompt": "x", "source_generation_id": i, "allow_duplicate": True},
    ],
    "blend_videos": [
        lambda i: {"prompt": "x", "inpaint_items": [{"generation_id": i}, {"generation_id": i}]},
        lambda i: {"prompt": "x", "inpaint_items": [{"generation_id": i}, {"upload_media_id": "media_1"}]},
    ],
    "get_video": [lambda i: {"task_id": i}, lambda i: {"task_id": i, "wait_seconds": 1}],
    "view_video": [
        lambda i: {"task_id": i},
        lambda i: {"task_id": i, "all_variants": True},
        lambda i: {"task_id": i, "beside": i},
        lambda i: {"task_id": i, "at": "1 s"},
    ],
    "download_video": [lambda i: {"task_id": i}, lambda i: {"task_id": i, "variant": 2}],
    "list_videos": [lambda i: {"query": i}, lambda i: {"wait_seconds": 1, "query": i}],
    "describe_gateway": [lambda i: {"model": i}],
}
"""How each tool can be asked with an id."""


def test_each_tool_is_in_the_matrix() -> None:
    assert ASKED.keys() == tools.TABLE.keys()


def with_id(text: str, video_id: str, other: str) -> str:
    """A text in which an id stands in the place of another one's."""
    return text.replace(video_id.partition("#")[0], other.partition("#")[0])


async def words_of(client: Client, tool: str, arguments: dict[str, Any]) -> str:
    result = await client.call_tool(tool, arguments)
    return json.dumps([result.model_dump(mode="json", exclude_none=True)])


@pytest.mark.parametrize("tool", sorted(ASKED))
async def test_another_owners_id_is_to_every_tool_as_one_that_stands_nowhere(house: House, tool: str) -> None:
    with anyio.fail_after(60):
        async with house.team.client("ben") as ben:
            await ben.call_tool("list_videos", {})  # what is opened once is open
            for arguments in ASKED[tool]:
                for unknown, anns in house.ids.items():
                    house.calls()
                    told = await words_of(ben, tool, arguments(unknown))
                    calls = house.calls()
                    told_of_anns = await words_of(ben, tool, arguments(anns))
                    assert with_id(told_of_anns, anns, unknown) == told
                    assert house.calls() == calls
                    assert set(calls[1]) <= {"GET /v1/models"}


async def test_another_owners_id_inside_a_text_is_not_named(house: House) -> None:
    with anyio.fail_after(30):
        async with house.team.client("ben") as ben, house.team.client("ann") as ann:
            for text in ("sora://videos/task_1", "[x](https://cdn.example/task_1)"):
                assert "did you mean task_1?" in await words_of(ann, "get_video", {"task_id": text})
                assert "is an address, not an id; allowed" in await words_of(ben, "get_video", {"task_id": text})


async def test_whose_video_it_is_are_served(house: House) -> None:
    with anyio.fail_after(30):
        async with house.team.client("ann") as ann:
            for video_id in ("task_1", "gen_1", "task_1#1"):
                told = await words_of(ann, "get_video", {"task_id": video_id})
                assert '"succeeded"' in told
            told = await words_of(ann, "remix_video", {"prompt": "at night", "source_generation_id": "gen_1"})
            assert "accepted" in told


# --- resources, completions, prompts ---------------------------------------------------------------


def addresses_with(video_id: str) -> Iterator[str]:
    """The address of each kind of resource, with an id in it where it has one."""
    for resource in RESOURCES:
        path = resource.uri.partition("{?")[0].replace("{task_id}", quote(video_id, safe="")).replace("{variant}", "1")
        yield path
        if "{?" in resource.uri:
            yield f"{path}?beside={quote(video_id, safe='')}"


async def read(client: Client, uri: str) -> str:
    try:
        return (await client.read_resource(uri)).model_dump_json()
    except MCPError as error:
        return f"{error.error.code} {error.error.message} {error.error.data}"


async def test_another_owners_address_is_as_one_that_leads_nowhere(house: House) -> None:
    with anyio.fail_after(60):
        async with house.team.client("ben") as ben:
            await ben.call_tool("list_videos", {})
            for unknown, anns in house.ids.items():
                for uri, uri_of_anns in zip(addresses_with(unknown), addresses_with(anns), strict=True):
                    house.calls()
                    told = await read(ben, uri)
                    calls = house.calls()
                    told_of_anns = await read(ben, uri_of_anns)
                    assert house.calls() == calls
                    assert set(calls[1]) <= {"GET /v1/models"}
                    assert with_id(told_of_anns, anns, unknown) == told


async def test_lists_completions_and_prompts_show_nothing_of_others(house: House) -> None:
    with anyio.fail_after(60):
        async with house.team.client("ben") as ben, house.team.client("ann") as ann:
            assert "task_1" in (await ann.list_resources()).model_dump_json()
            told = [(await ben.list_resources()).model_dump_json(), await read(ben, "sora://ledger/unsettled")]
            told += [(await ben.call_tool("list_videos", {})).model_dump_json()]
            refs: list[types.ResourceTemplateReference | types.PromptReference] = [
                types.ResourceTemplateReference(uri=each.uri) for each in RESOURCES if each.variables
            ]
            refs += [types.PromptReference(name=name) for name in PROMPTS]
            names = {"task_id", "beside", "variant", *(each for one in PROMPTS.values() for each in one.arguments)}
            told += [
                (await ben.complete(ref, {"name": name, "value": value})).model_dump_json()
                for ref in refs
                for name in names
                for value in ("", "task_", "req_", "gen_")
            ]
            for prompt in PROMPTS.values():
                known = {"task_id": "task_1", "size": "480x480", "seconds": "5"}
                unknown = known | {"task_id": "task_9"}
                said = [
                    (
                        await ben.get_prompt(name, {each: values.get(each, "x") for each in prompt.arguments})
                    ).model_dump_json()
                    for name in [prompt.as_prompt.name]
                    for values in (known, unknown)
                ]
                assert said[0].replace("task_1", "task_9") == said[1]
            for text in told:
                assert "task_1" not in text
                assert "fly man" not in text


async def test_each_route_beside_mcp_is_known(house: House) -> None:
    """What the links of these routes allow is tested where links are; here, that they lead to one's own alone."""
    links = house.team.server.links
    assert links is not None
    assert {route.path for route in links.routes()} == {"/videos/{link:path}", "/images/{link:path}"}
    assert await house.team.server.saved_file("ann", "task_1", 1) is not None
    for video_id in ("task_1", "task_999"):
        assert await house.team.server.saved_file("ben", video_id, 1) is None
