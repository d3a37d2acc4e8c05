"""People on other machines: videos and images go by signed links, and nobody is told of the server's own files."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio import to_thread
from bench import ERAS, KEY, PNG, Era, finished
from calls import ask, assert_accepted, assert_refused, create, item
from fault_gateway import CREATE, Answer, FaultGateway, says
from films import at_rate, film
from mcp import Client
from player import BROWSER, play_video
from shared_server import Team
from shared_server import team as served_team

from sora_mcp.config.converters import Secret
from sora_mcp.config.settings import Settings
from sora_mcp.identity.tokens import TokenStore
from sora_mcp.ledger import open_documents

pytestmark = pytest.mark.anyio

FILES = "/v1/files"
EVIL = "evil.example"


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(auth="tokens", sandbox_seconds=0.2)


@pytest.fixture
async def team(settings: Settings) -> AsyncIterator[Team]:
    async with served_team(settings) as opened:
        yield opened


@pytest.fixture
async def paying(settings: Settings, gateway: FaultGateway) -> AsyncIterator[Team]:
    """The same in front of a gateway that records what it gets."""
    gateway.on("POST", FILES, says({"id": "file-1", "object": "file", "url": "https://files.example/image.png"}))
    async with served_team(replace(settings, base_url=gateway.address, api_key=Secret(KEY))) as opened:
        yield opened


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        yield client


async def made(client: Client) -> str:
    """The id of a video that has finished."""
    task_id = str((await ask(client, *create())).data["task_id"])
    told = await ask(client, "get_video", {"task_id": task_id, "wait_seconds": 30})
    assert told.data["state"] == "succeeded"
    return task_id


async def link_to_a_video(team: Team, name: str = "alice") -> str:
    async with team.client(name) as client:
        told = await ask(client, "download_video", {"task_id": await made(client)})
    return str(told.data["url"])


async def link_for_an_image(team: Team, name: str = "alice") -> str:
    async with team.client(name) as client:
        told = await assert_refused(client, *item(url="cat.png"))
    return str(re.findall(r"https?://\S+/images/[\w.-]+", told.text)[0])


# --- videos ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
async def test_a_video_is_fetched_by_a_link_and_nothing_tells_of_the_servers_files(
    team: Team, http: httpx.AsyncClient, tmp_path: Path, era: Era
) -> None:
    async with team.client("alice", era) as client:
        task_id = await made(client)
        first = await client.call_tool("download_video", {"task_id": task_id})
        again = await client.call_tool("download_video", {"task_id": task_id})
        about = await client.call_tool("get_video", {"task_id": task_id})
        listed = await client.call_tool("list_videos", {})
        resource = await client.read_resource(f"sora://videos/{task_id}")
        gateway = await client.call_tool("describe_gateway", {})
    for answer in (first, again, about, listed, resource, gateway):
        text = answer.model_dump_json()
        assert str(tmp_path) not in text
        assert "file:" not in text
        assert "on this machine" not in text
    told = dict(first.structured_content or {})
    assert told["url"] in first.model_dump_json()
    assert "path" not in told
    assert told["outcome"] == "saved"
    assert dict(again.structured_content or {})["outcome"] == "already_saved"
    whole = await http.get(told["url"])
    assert whole.status_code == 200
    assert len(whole.content) == told["bytes"]
    part = await http.get(told["url"], headers={"Range": "bytes=100-199", "If-Range": whole.headers["etag"]})
    assert (part.status_code, part.content) == (206, whole.content[100:200])
    [saved] = (tmp_path / "videos").rglob("*.mp4")
    assert saved.parent.name.startswith("alice-")
    assert saved.read_bytes() == whole.content


@pytest.mark.parametrize("use", ["videos", "images"])
async def test_links_and_principals(team: Team, http: httpx.AsyncClient, use: str) -> None:
    """Who may use whose link: whoever has it, but nobody with a token that is not its owner's."""
    for owner in ("alice", "bob"):
        link = await (link_to_a_video(team, owner) if use == "videos" else link_for_an_image(team, owner))
        method = "GET" if use == "videos" else "PUT"
        callers = {"nobody": {}, "a stranger": {"Authorization": "Bearer sora_mcp_" + "0" * 64}}
        callers |= {name: team.headers(name) for name in ("alice", "bob")}
        for caller, headers in callers.items():
            status = (await http.request(method, link, content=PNG, headers=headers)).status_code
            expected = {"nobody": {200, 201}, "a stranger": {401}, owner: {200, 201}}.get(caller, {403})
            assert status in expected, (owner, caller, status)


@pytest.mark.parametrize("use", ["videos", "images"])
@pytest.mark.parametrize("header", [{"Host": EVIL}, {"Origin": f"https://{EVIL}"}, {"Host": "127.0.0.1.evil.example"}])
async def test_pages_and_names_of_others_reach_no_link(
    team: Team, http: httpx.AsyncClient, use: str, header: dict[str, str]
) -> None:
    link = await (link_to_a_video(team) if use == "videos" else link_for_an_image(team))
    answer = await http.request("GET" if use == "videos" else "PUT", link, content=PNG, headers=header)
    assert answer.status_code in {400, 403, 421}
    assert b"ftyp" not in answer.content


async def test_links_end_when_their_owners_token_is_revoked(team: Team, http: httpx.AsyncClient) -> None:
    video, image = await link_to_a_video(team), await link_for_an_image(team)
    assert (await http.head(video)).status_code == 200
    await to_thread.run_sync(TokenStore(open_documents(team.settings)).revoke, "alice")
    assert (await http.head(video)).status_code == 403
    assert (await http.put(image, content=PNG)).status_code == 403


async def test_a_file_that_was_removed_is_saved_again(team: Team, http: httpx.AsyncClient, tmp_path: Path) -> None:
    async with team.client("alice") as client:
        task_id = await made(client)
        link = (await ask(client, "download_video", {"task_id": task_id})).data["url"]
        [saved] = (tmp_path / "videos").rglob("*.mp4")
        saved.unlink()
        assert (await http.get(link)).status_code == 404
        anew = (await ask(client, "download_video", {"task_id": task_id})).data
    assert anew["outcome"] == "saved"
    assert (await http.get(anew["url"])).status_code == 200


async def test_trouble_with_the_servers_disk_tells_of_none_of_its_folders(settings: Settings, tmp_path: Path) -> None:
    settings.output_dir.write_text("in the way")
    async with served_team(settings) as team, team.client("alice") as client:
        told = await ask(client, "download_video", {"task_id": await made(client)})
    assert told.data["error"]["kind"] == "file_problem"
    assert "The folder for videos cannot be used" in told.text
    assert str(tmp_path) not in told.text
    assert str(tmp_path) not in json.dumps(told.data)


async def test_anothers_video_gets_no_link(team: Team) -> None:
    async with team.client("alice") as alice, team.client("bob") as bob:
        task_id = await made(alice)
        of_another = await ask(bob, "download_video", {"task_id": task_id})
        unknown = await ask(bob, "download_video", {"task_id": "task_nobodys"})
    assert of_another.is_error
    assert of_another.text.replace(task_id, "ID") == unknown.text.replace("task_nobodys", "ID")


@pytest.mark.parametrize(
    ("settings", "base_url"),
    [
        ({"public_url": "https://videos.example.org/sora/"}, "https://videos.example.org/sora"),
        ({"oauth_audience": "https://videos.example.org:8443/mcp"}, "https://videos.example.org:8443"),
        ({"oauth_audience": "https://videos.example.org/sora/mcp/"}, "https://videos.example.org/sora"),
        ({"oauth_audience": "https://videos.example.org/"}, "https://videos.example.org"),
    ],
    ids=str,
)
async def test_the_public_address_begins_links(
    make_settings: Callable[..., Settings], settings: dict[str, str], base_url: str
) -> None:
    async with served_team(make_settings(auth="tokens", **settings)) as team:
        assert (await link_for_an_image(team)).startswith(f"{base_url}/images/")


# --- images ---------------------------------------------------------------------------------------

PATHS = ["cat.png", "/home/me/my cat.png", "~/cat.png", "C:\\Users\\me\\cat.png", "file:///home/me/my%20cat.png"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_path_of_the_callers_machine_is_refused_with_a_link(
    paying: Team, gateway: FaultGateway, path: str, *, dry_run: bool
) -> None:
    async with paying.client("alice") as client:
        told = await assert_refused(client, "create_video", item(url=path)[1] | {"dry_run": dry_run})
    assert "inpaint_items[0].url" in told.text
    [command] = re.findall(r"`(curl .*?)`", told.text)
    file = re.sub(r"^file://", "", path).replace("%20", " ")
    assert shlex.split(command)[:3] == ["curl", "-gT", file]
    assert gateway.connections == 0


async def test_where_no_link_can_be_given_nothing_is_submitted_either(paying: Team, gateway: FaultGateway) -> None:
    paying.settings.home.mkdir(exist_ok=True)
    (paying.settings.home / "link-keys.json").write_text("not JSON", encoding="utf-8")
    async with paying.client("alice") as client:
        told = await assert_refused(client, *item(url="cat.png"), "is a path", "keys for signing links")
    assert str(paying.settings.home) not in told.text
    assert gateway.connections == 0


async def test_a_folder_of_images_on_the_server_is_not_for_people_far_away(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(PNG)
    async with served_team(replace(settings, image_dirs=(tmp_path,))) as team, team.client("alice") as client:
        for path in ("cat.png", str(tmp_path / "cat.png")):
            await assert_refused(client, *item(url=path), "upload:")


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
async def test_an_image_is_sent_by_the_very_command_and_the_gateway_gets_its_bytes(
    paying: Team, gateway: FaultGateway, tmp_path: Path
) -> None:
    photo = tmp_path / "my [1] cat's photo.png"
    photo.write_bytes(PNG)
    async with paying.client("alice") as client:
        told = await assert_refused(client, *item(url=str(photo)))
        [command] = re.findall(r"`(curl .*?)`", told.text)
        done = await to_thread.run_sync(run, [*shlex.split(command), "-sS"])
        name = json.loads(done.stdout)["url"]
        first = await assert_accepted(client, *item(url=name, frame_index=0))
        again = await ask(client, *item(url=name, frame_index=0))
    [upload] = gateway.requests("POST", FILES)
    assert PNG in upload.body
    assert b"cat" not in upload.body
    assert len(gateway.creates()) == 1
    assert again.data["duplicate"]
    assert again.data["task_id"] == first.data["task_id"]


async def test_the_same_image_by_two_links_is_the_same_request(paying: Team, gateway: FaultGateway) -> None:
    async with httpx.AsyncClient(trust_env=False) as http, paying.client("alice") as client:
        for _ in range(2):
            sent = await http.post(await link_for_an_image(paying), content=PNG)
            assert sent.status_code == 201
            await ask(client, *item(url=sent.json()["url"]))
    assert len(gateway.creates()) == 1


@pytest.mark.parametrize("dry_run", [False, True])
async def test_anothers_image_is_as_one_that_is_not_there(
    paying: Team, gateway: FaultGateway, http: httpx.AsyncClient, *, dry_run: bool
) -> None:
    name = (await http.put(await link_for_an_image(paying, "alice"), content=PNG)).json()["url"]
    words = []
    async with paying.client("bob") as bob:
        for each in (name, "upload:" + "0" * 32):
            told = await assert_refused(bob, "create_video", item(url=each)[1] | {"dry_run": dry_run}, "curl -gT FILE")
            words.append(re.sub(r"/images/[\w.-]+", "", told.text))
    assert words[0] == words[1]
    assert gateway.connections == 0


@pytest.mark.parametrize("tool", ["create_video", "storyboard_video"])
async def test_an_image_that_was_sent_stands_wherever_an_image_may(
    team: Team, http: httpx.AsyncClient, tool: str
) -> None:
    name = (await http.put(await link_for_an_image(team), content=PNG)).json()["url"]
    arguments: dict[str, Any] = {"prompt": "a cat", "inpaint_items": [{"url": name}], "dry_run": True}
    if tool == "storyboard_video":
        arguments |= {"actions": [{"time": 0, "description": "a cat"}, {"time": 60, "description": "it jumps"}]}
    async with team.client("alice") as client:
        told = await ask(client, tool, arguments)
    assert not told.is_error, told.text
    assert name in json.dumps(told.data["body"])


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
@pytest.mark.parametrize("extra", [[], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]], ids=str)
async def test_a_real_client_that_sends_100_mb_is_told_why_they_are_not_taken(
    team: Team, tmp_path: Path, extra: list[str]
) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(PNG[:300])
    with film.open("r+b") as file:
        file.truncate(100_000_000)
    link = await link_for_an_image(team)
    done = await to_thread.run_sync(run, ["curl", "-sS", *extra, "-w", " %{http_code}", "-T", str(film), link])
    assert done.stdout.endswith(" 413"), done
    assert "20 MB" in done.stdout
    assert not [path for path in (team.settings.home / "uploads").rglob("*") if path.suffix == ".part"]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)  # noqa: S603


# --- a real player --------------------------------------------------------------------------------


@pytest.mark.skipif(BROWSER is None, reason="there is no chromium here")
async def test_a_browser_plays_a_video_by_its_link_and_seeks_in_it(
    paying: Team, tmp_path: Path, gateway: FaultGateway, http: httpx.AsyncClient
) -> None:
    """A video of some megabytes whose index stands at its end, as some encoders leave it."""
    film(tmp_path / "film.mp4", at_rate(30, 600), (640, 360), crf="1", g="30")
    content = (tmp_path / "film.mp4").read_bytes()
    gateway.on("GET", CREATE, finished(f"{gateway.address}/film.mp4"))
    gateway.on("GET", "/film.mp4", Answer(200, content, {"Content-Type": "video/mp4"}))
    async with paying.client("alice") as client:
        task_id = str((await ask(client, *create())).data["task_id"])
        link = str((await ask(client, "download_video", {"task_id": task_id})).data["url"])
    assert (await http.get(link)).content == content
    told = await to_thread.run_sync(play_video, link)
    assert told["error"] is None, told
    assert told["duration"] == pytest.approx(20, abs=0.1)
    metadata, late, early, played = told["seen"]
    assert metadata == "metadata"
    assert late == ["seeked", pytest.approx(16, abs=0.2)]
    assert early == ["seeked", pytest.approx(2, abs=0.2)]
    assert 2.3 <= played[1] <= 6
