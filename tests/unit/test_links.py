"""Signed links: what they allow, to whom, and until when; ranges as players ask for them."""

from __future__ import annotations

import json
import os
import re
import shutil
import string
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from bench import PNG
from mcp.server.auth.middleware.auth_context import auth_context_var
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from signed_links import BASE, CONTENT, LinkServer, request_to
from starlette.applications import Starlette

from sora_mcp.config.settings import load
from sora_mcp.core.errors import FileProblem, NotConfigured
from sora_mcp.ledger import open_documents
from sora_mcp.server.links import Links
from sora_mcp.server.links.keys import LinkKeys
from sora_mcp.server.principals import Principal, VerifiedToken
from sora_mcp.server.verifying import CannotVerify
from sora_mcp.studio.uploads import Uploads

pytestmark = pytest.mark.anyio


def signed_in(owner: str) -> None:
    token = VerifiedToken(token="", client_id=owner, scopes=[], principal=Principal(owner, frozenset()), proof=None)
    auth_context_var.set(AuthenticatedUser(token))


# --- who may use a link ---------------------------------------------------------------------------


async def test_a_link_needs_no_token_and_is_kept_by_nobody(room: LinkServer, http: httpx.AsyncClient) -> None:
    answer = await http.get(await room.to_video())
    assert (answer.status_code, answer.content) == (200, CONTENT + b"alice")
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"] == 'inline; filename="task_1.v1.mp4"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "private, no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["accept-ranges"] == "bytes"


def altered(link: str) -> Iterator[str]:
    """The link with each character of its path changed, and left out, and with one more."""
    start = len(BASE) + 1
    for i in range(start, len(link)):
        yield from {link[:i] + other + link[i + 1 :] for other in ("A", "_", link[i].swapcase()) if other != link[i]}
        yield link[:i] + link[i + 1 :]
    yield from (link[:i] + "A" + link[i:] for i in range(start, len(link), 7))
    yield from (f"{link}{more}" for more in ("A", "?a=1", "/", "%00", "%2f", "/x"))


@pytest.mark.parametrize("use", ["videos", "images"])
async def test_a_link_that_was_altered_in_any_character_is_refused(
    room: LinkServer, http: httpx.AsyncClient, use: str
) -> None:
    link = await (room.to_video() if use == "videos" else room.for_image())
    tried = 0
    for url in altered(link):
        if httpx.URL(url) == httpx.URL(link):  # the same address, written otherwise
            continue
        answer = await (http.get(url) if use == "videos" else http.put(url, content=PNG))
        assert answer.status_code in {403, 404, 405}, url
        tried += 1
    assert tried > 300
    assert not Uploads(room.settings.home, "alice").has("upload:" + "0" * 32)


async def test_the_last_character_of_a_signature_has_one_spelling(room: LinkServer, http: httpx.AsyncClient) -> None:
    """Four characters of base64 stand for the same last bits."""
    link = await room.for_image()
    answers = [
        (await http.put(link[:-1] + last, content=PNG)).status_code for last in string.ascii_letters + string.digits
    ]
    assert min(answers) == 201
    assert answers.count(201) == 1


@pytest.mark.parametrize("use", ["videos", "images"])
async def test_a_link_expires(room: LinkServer, http: httpx.AsyncClient, use: str) -> None:
    link = await (room.to_video() if use == "videos" else room.for_image())
    room.now += 899
    assert (await (http.get(link) if use == "videos" else http.put(link, content=PNG))).is_success
    room.now += 1
    answer = await (http.get(link) if use == "videos" else http.put(link, content=PNG))
    assert answer.status_code == 403
    assert "expired" in answer.json()["error"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_a_link_to_a_video_allows_nothing_else(room: LinkServer, http: httpx.AsyncClient, method: str) -> None:
    assert (await http.request(method, await room.to_video())).status_code == 405
    assert room.files["alice"].read_bytes() == CONTENT + b"alice"


@pytest.mark.parametrize("method", ["GET", "HEAD", "PATCH", "DELETE", "OPTIONS"])
async def test_a_link_for_an_image_allows_nothing_else(room: LinkServer, http: httpx.AsyncClient, method: str) -> None:
    assert (await http.request(method, await room.for_image())).status_code == 405


async def test_a_link_of_one_use_is_none_of_the_other(room: LinkServer, http: httpx.AsyncClient) -> None:
    video, image = await room.to_video(), await room.for_image()
    as_image = video.replace("/videos/", "/images/").rpartition("/")[0]
    as_video = image.replace("/images/", "/videos/") + "/task_1.v1.mp4"
    assert (await http.put(as_image, content=PNG)).status_code == 403
    assert (await http.get(as_video)).status_code == 403


CALLERS = [(None, ""), (None, "Bearer wrong"), ("alice", "Bearer a"), ("bob", "Bearer b")]


@pytest.mark.parametrize("use", ["videos", "images"])
@pytest.mark.parametrize("owner", ["alice", "bob"])
@pytest.mark.parametrize("sent", CALLERS, ids=str)
async def test_a_token_sent_along_has_to_be_the_owners(
    room: LinkServer, http: httpx.AsyncClient, use: str, owner: str, sent: tuple[str | None, str]
) -> None:
    """Links x principals: nobody, a token that is not valid, the owner and somebody else."""
    caller, header = sent
    if caller is not None:
        signed_in(caller)
    link = await (room.to_video(owner) if use == "videos" else room.for_image(owner))
    headers = {"Authorization": header} if header else {}
    answer = await (
        http.get(link, headers=headers) if use == "videos" else http.put(link, content=PNG, headers=headers)
    )
    if not header or caller == owner:
        assert answer.is_success
        return
    assert answer.status_code == (401 if caller is None else 403)
    assert b"alice" not in answer.content
    assert b"bob" not in answer.content


@pytest.mark.parametrize("use", ["videos", "images"])
async def test_the_links_of_somebody_who_has_no_access_any_more_are_refused(
    room: LinkServer, http: httpx.AsyncClient, use: str
) -> None:
    link = await (room.to_video() if use == "videos" else room.for_image())
    room.allowed.remove("alice")
    assert (await http.request("GET" if use == "videos" else "PUT", link, content=PNG)).status_code == 403


@pytest.mark.parametrize("use", ["videos", "images"])
async def test_while_nobody_can_tell_who_has_access_a_link_is_not_called_dead(
    room: LinkServer, http: httpx.AsyncClient, use: str
) -> None:
    link = await (room.to_video() if use == "videos" else room.for_image())
    room.error = CannotVerify("The tokens cannot be read now.")
    answer = await http.request("GET" if use == "videos" else "PUT", link, content=PNG)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "cannot be read now. The link is still valid." in answer.json()["error"]
    room.error = None
    assert (await http.request("GET" if use == "videos" else "PUT", link, content=PNG)).is_success


async def test_a_link_leads_to_its_owners_file_only(room: LinkServer, http: httpx.AsyncClient) -> None:
    assert (await http.get(await room.to_video("bob"))).content == CONTENT + b"bob"
    del room.files["bob"]
    assert (await http.get(await room.to_video("alice"))).content == CONTENT + b"alice"


@pytest.mark.parametrize("what", ["removed", "replaced", "forgotten", "a folder"])
async def test_a_file_that_is_not_the_one_any_more_is_not_found(
    room: LinkServer, http: httpx.AsyncClient, what: str
) -> None:
    link, path = await room.to_video(), room.files["alice"]
    if what == "forgotten":
        del room.files["alice"]
    elif what == "replaced":
        path.write_bytes(CONTENT + b"other")
        os.utime(path, (1, 1))
    else:
        path.unlink()
    if what == "a folder":
        path.mkdir()
    answer = await http.get(link)
    assert answer.status_code == 404
    assert "download_video" in answer.json()["error"]
    assert str(path) not in answer.text


PATHS = [
    "/videos/..%2f..%2fetc%2fpasswd/x",
    "/videos/../../etc/passwd",
    "/videos//x",
    "/videos/a.b/..%2f..%2fx",
    "/videos/%2e%2e/x",
    "/videos/%00/x",
    "/videos/%ff%fe/x",
    "/videos/" + "a" * 5000 + "/x",
    "/videos/./x",
    "/videos/.../x",
    "/videos/é.é/é",
    "/images/..%2f..%2fx",
    "/images/",
    "/images/a.b",
]


@pytest.mark.parametrize("path", PATHS)
async def test_other_paths_lead_nowhere(http: httpx.AsyncClient, path: str) -> None:
    answer = await (http.put(BASE + path, content=PNG) if path.startswith("/images") else http.get(BASE + path))
    assert answer.status_code in {403, 404}


# --- where it begins ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "base"),
    [
        ("videos.example.org", "https://videos.example.org"),
        ("127.0.0.1:8765", "https://127.0.0.1:8765"),
        ("[::1]:8765", "https://[::1]:8765"),
    ],
)
async def test_without_a_public_address_a_link_begins_as_the_request_did(
    room: LinkServer, host: str, base: str
) -> None:
    settings = load({}, base_url="sandbox", home=room.settings.home)
    links = Links(settings, open_documents(settings), room.saved_file, bool)
    assert (await links.for_owner("alice", request_to(host)).for_image()).startswith(f"{base}/images/")


@pytest.mark.parametrize(
    "host", ["", "localhost:80@evil.example", "localhost:80/x", "localhost:80\\x", "a b", "localhost:x"]
)
async def test_a_host_that_is_none_begins_no_link(room: LinkServer, host: str) -> None:
    settings = load({}, base_url="sandbox", home=room.settings.home)
    links = Links(settings, open_documents(settings), room.saved_file, bool)
    with pytest.raises(NotConfigured) as caught:
        await links.for_owner("alice", request_to(host)).for_image()
    assert "public_url" in caught.value.message


async def test_the_public_address_stands_above_the_host(room: LinkServer) -> None:
    assert (await room.links.for_owner("alice", request_to("127.0.0.1:8765", "http")).for_image()).startswith(
        f"{BASE}/images/"
    )


# --- keys -----------------------------------------------------------------------------------------


def keys_of(home: Path) -> list[str]:
    return list(json.loads((home / "link-keys.json").read_text(encoding="ascii"))["keys"])


def write_keys(home: Path, keys: object) -> None:
    (home / "link-keys.json").write_text(json.dumps({"format": 1, "keys": keys}), encoding="ascii")


async def test_the_file_of_keys_is_this_users_alone(room: LinkServer) -> None:
    await room.for_image()
    assert (room.settings.home / "link-keys.json").stat().st_mode & 0o777 == 0o600
    assert len(keys_of(room.settings.home)) == 1


async def test_servers_that_start_at_once_make_one_key(room: LinkServer) -> None:
    with ThreadPoolExecutor(8) as threads:
        read = list(threads.map(lambda _: LinkKeys(open_documents(room.settings), time.time).read(), range(16)))
    assert all(keys == read[0] for keys in read)


async def test_a_new_key_signs_and_the_old_one_is_accepted_until_it_is_taken_out(
    room: LinkServer, http: httpx.AsyncClient
) -> None:
    home, old = room.settings.home, await room.to_video()
    write_keys(home, ["ab" * 32, *keys_of(home)])
    new = await room.to_video()
    assert [(await http.get(link)).status_code for link in (old, new)] == [200, 200]
    write_keys(home, ["ab" * 32])
    assert [(await http.get(link)).status_code for link in (old, new)] == [403, 200]


async def test_servers_that_share_the_keys_accept_each_others_links(room: LinkServer, tmp_path: Path) -> None:
    link = await room.to_video()
    other = load({}, base_url="sandbox", home=tmp_path / "other")
    shutil.copytree(room.settings.home, other.home)
    links = Links(other, open_documents(other), room.saved_file, bool, lambda: room.now)
    transport = httpx.ASGITransport(Starlette(routes=links.routes()))
    async with httpx.AsyncClient(transport=transport) as client:
        assert (await client.get(link)).status_code == 200


DAMAGED: list[object] = [[], "ab" * 32, ["ab"], ["ab" * 31 + "zz"], ["ab" * 32, 7], None, {}]


@pytest.mark.parametrize("keys", DAMAGED, ids=str)
async def test_a_damaged_file_of_keys_signs_nothing_and_is_left_as_it_is(
    room: LinkServer, http: httpx.AsyncClient, keys: object
) -> None:
    link, home = await room.to_video(), room.settings.home
    write_keys(home, keys)
    before = (home / "link-keys.json").read_bytes()
    with pytest.raises(FileProblem) as caught:
        await room.for_image()
    assert str(home) not in caught.value.message
    assert (await http.get(link)).status_code == 503
    assert (home / "link-keys.json").read_bytes() == before


async def test_a_file_of_keys_that_others_can_read_signs_nothing(room: LinkServer) -> None:
    await room.for_image()
    (room.settings.home / "link-keys.json").chmod(0o644)
    with pytest.raises(FileProblem):
        await room.for_image()


# --- ranges ---------------------------------------------------------------------------------------

SIZE = len(CONTENT) + len("alice")
WHOLE = CONTENT + b"alice"


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-", WHOLE),
        ("bytes=0-0", WHOLE[:1]),
        ("bytes=100-199", WHOLE[100:200]),
        ("bytes=-500", WHOLE[-500:]),
        (f"bytes={SIZE - 1}-", WHOLE[-1:]),
        ("bytes=100-99999999999", WHOLE[100:]),
        ("Bytes = 100-199", WHOLE[100:200]),
    ],
)
async def test_a_player_gets_the_range_it_asks_for(
    room: LinkServer, http: httpx.AsyncClient, asked: str, part: bytes
) -> None:
    answer = await http.get(await room.to_video(), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, part)
    assert re.fullmatch(rf"bytes \d+-\d+/{SIZE}", answer.headers["content-range"])
    assert answer.headers["content-length"] == str(len(part))
    assert answer.headers["etag"]


async def test_a_player_that_seeks(room: LinkServer, http: httpx.AsyncClient) -> None:
    """As Chromium does: from the start, the end for the index, then where the user has clicked."""
    link = await room.to_video()
    first = await http.get(link, headers={"Range": "bytes=0-"})
    tag = first.headers["etag"]
    for start in (SIZE - 1000, 50_000, 10):
        answer = await http.get(link, headers={"Range": f"bytes={start}-", "If-Range": tag})
        assert (answer.status_code, answer.content) == (206, WHOLE[start:])


@pytest.mark.parametrize("asked", [f"bytes={SIZE}-", "bytes=-0", "bytes=999999999999-", "bytes=-0,999999-"])
async def test_a_range_behind_the_end_cannot_be_given(room: LinkServer, http: httpx.AsyncClient, asked: str) -> None:
    answer = await http.get(await room.to_video(), headers={"Range": asked})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        ("bytes=0-0,99999999-", WHOLE[:1]),
        ("bytes=-0,5-6", WHOLE[5:7]),
        (f"bytes={SIZE}-{SIZE}, ,10-19,", WHOLE[10:20]),
        ("bytes=" + "9" * 30 + "-,7-8", WHOLE[7:9]),
    ],
)
async def test_of_several_ranges_those_that_can_be_given_are(
    room: LinkServer, http: httpx.AsyncClient, asked: str, part: bytes
) -> None:
    """RFC 9110 §15.5.17: 416 is for ranges of which none can be."""
    answer = await http.get(await room.to_video(), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (206, part)


async def test_ranges_that_can_be_given_come_in_parts_without_those_that_cannot(
    room: LinkServer, http: httpx.AsyncClient
) -> None:
    answer = await http.get(await room.to_video(), headers={"Range": "bytes=0-0,99999999-,20-29"})
    assert answer.status_code == 206
    assert re.findall(rb"Content-Range: bytes (\S+)", answer.content) == [
        f"{part}/{SIZE}".encode() for part in ("0-0", "20-29")
    ]


@pytest.mark.parametrize(
    "asked",
    [
        "lines=1-2",
        "bytes",
        "0-5",
        "bytes=5-2",
        "bytes=0-1,5-2",
        "bytes=x-y",
        "bytes=--5",
        "bytes=",
        "bytes=,",
        "bytes=" + "0-," * 500 + "0-0",
        "bytes=" + "0-1," * 16 + "2-3",
    ],
)
async def test_a_range_that_is_not_understood_or_one_of_too_many_is_ignored(
    room: LinkServer, http: httpx.AsyncClient, asked: str
) -> None:
    answer = await http.get(await room.to_video(), headers={"Range": asked})
    assert (answer.status_code, answer.content) == (200, WHOLE)


@pytest.mark.parametrize("asked", ["bytes=1_0-", "bytes=5", "bytes=" + "9" * 5000 + "-", "bytes=0-" + "9" * 5000])
async def test_a_range_that_is_none_gives_at_most_the_file(
    room: LinkServer, http: httpx.AsyncClient, asked: str
) -> None:
    answer = await http.get(await room.to_video(), headers={"Range": asked})
    assert answer.status_code in {200, 400, 416}
    assert len(answer.content) <= SIZE


async def test_many_ranges_that_overlap_are_sent_once(room: LinkServer, http: httpx.AsyncClient) -> None:
    asked = "bytes=" + ",".join(["0-"] * 16)
    answer = await http.get(await room.to_video(), headers={"Range": asked})
    assert answer.status_code == 206
    assert len(answer.content) < SIZE + 1000


async def test_another_file_is_sent_whole_to_whoever_wants_the_rest_of_one(
    room: LinkServer, http: httpx.AsyncClient
) -> None:
    for old in ('"of-another-file"', "Wed, 21 Oct 2015 07:28:00 GMT", 'W/"weak"'):
        answer = await http.get(await room.to_video(), headers={"Range": "bytes=10-20", "If-Range": old})
        assert (answer.status_code, answer.content) == (200, WHOLE)


@pytest.mark.parametrize("asked", [None, "bytes=0-5", "bytes=5-1", f"bytes={SIZE}-"])
async def test_head_tells_of_the_whole_file(room: LinkServer, http: httpx.AsyncClient, asked: str | None) -> None:
    answer = await http.head(await room.to_video(), headers={"Range": asked} if asked else {})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-length"] == str(SIZE)
    assert answer.headers["accept-ranges"] == "bytes"
