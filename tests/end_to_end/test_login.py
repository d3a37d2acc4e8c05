"""`login` and `logout`: where a key is kept, what it is bound to, and what is said where there is trouble."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import anyio
import pytest
from bench import ACCEPTED, COMMAND, KEY, over_stdio
from clips import wait_until_exited
from fault_gateway import CREATE, FaultGateway, closed_address, fault_gateway, says
from mcp import Client
from mcp.client.stdio import stdio_client
from warm import warm_command

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

SUPPORT = Path(__file__).parents[1] / "support"
MODELS = says({"object": "list", "data": [{"id": "sora_2"}]})
OTHER_KEY = "sk-other-0123456789"
ENDS_WITHIN_S = 15
"""Seconds for a command that asks a key store which never answers: 3 s, a start, and a slow machine."""


@pytest.fixture
async def gateway() -> AsyncIterator[FaultGateway]:
    """One that takes every key and every create."""
    async with fault_gateway() as opened:
        opened.on("GET", "/", MODELS)
        opened.on("POST", CREATE, ACCEPTED)
        yield opened


class Shell:
    """A person's shell: nothing about a gateway is set in it, and its key store is one of `key_stores`."""

    def __init__(self, folder: Path, key_store: str) -> None:
        self.folder = folder
        self.store = folder / "user" / "key-store.json"
        self.environ: dict[str, str] = os.environ | {
            "HOME": str(folder / "user"),
            "SORA_HOME": str(folder / "home"),
            "SORA_OUTPUT_DIR": str(folder / "videos"),
            "SORA_QUERY_TIMEOUT": "5",
            "XDG_CONFIG_HOME": "",
        }
        (folder / "user").mkdir()
        self.with_store(key_store)

    @property
    def logins(self) -> Path:
        return self.folder / "home" / "login" / "logins.json"

    def with_store(self, key_store: str) -> None:
        file = self.folder / "user" / ".config" / "python_keyring" / "keyringrc.cfg"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"[backend]\ndefault-keyring={key_store}\nkeyring-path={SUPPORT}\n")

    async def run(self, *arguments: str, typed: str = "", **settings: str) -> tuple[int, str]:
        """The exit code of a command, and all that it says; the key is not in that."""
        environ = self.environ | {f"SORA_{name}": value for name, value in settings.items()}
        with anyio.fail_after(60):
            done = await anyio.run_process(
                [*warm_command(), *arguments], input=typed.encode(), env=environ, stderr=subprocess.STDOUT, check=False
            )
        said = done.stdout.decode()
        assert KEY not in said
        assert "Traceback" not in said
        return done.returncode, said

    async def log_in(self, address: str, *options: str, key: str = KEY, **settings: str) -> tuple[int, str]:
        return await self.run("login", "--base-url", address, *options, typed=f"{key}\n", **settings)

    def files_with(self, key: str) -> list[Path]:
        return [path for path in self.folder.rglob("*") if path.is_file() and key.encode() in path.read_bytes()]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, "key_stores.Keeping")


def keys_sent(gateway: FaultGateway) -> set[str]:
    return {request.headers.get("authorization", "") for request in gateway.received}


def bearer(key: str) -> set[str]:
    return {f"Bearer {key}"}


# Where it is kept


async def test_a_key_is_kept_in_the_key_store_and_nowhere_else(shell: Shell, gateway: FaultGateway) -> None:
    status, said = await shell.log_in(f"{gateway.address}/v1/")
    assert (status, f"Logged in to {gateway.address} (sora)" in said) == (0, True), said
    assert "accepts the key" in said
    assert "in the system's key store" in said
    assert shell.files_with(KEY) == [shell.store]
    assert json.loads(shell.store.read_text()) == {f"sora_mcp {gateway.address}": KEY}
    status, said = await shell.run("create", "a boat", "--json")
    assert (status, json.loads(said)["outcome"]) == (0, "accepted")
    assert len(gateway.creates()) == 1
    assert keys_sent(gateway) == bearer(KEY)
    assert shell.files_with(KEY) == [shell.store]


@pytest.mark.parametrize(
    "key_store", ["keyring.backends.null.Keyring", "keyring.backends.fail.Keyring", "key_stores.Forgetting"]
)
async def test_where_no_key_store_keeps_it_a_file_does_that_only_this_user_reads(
    shell: Shell, gateway: FaultGateway, key_store: str
) -> None:
    shell.with_store(key_store)
    status, said = await shell.log_in(gateway.address)
    assert (status, f"in {shell.logins}, which only you can read" in said) == (0, True), said
    assert shell.files_with(KEY) == [shell.logins]
    assert shell.logins.stat().st_mode & 0o777 == 0o600
    assert shell.logins.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in shell.logins.parent.iterdir()) == ["lock", "logins.json"]
    status, said = await shell.run("doctor")
    assert (status, f"from the file {shell.logins}" in said) == (0, True), said


@pytest.mark.parametrize("key_store", ["key_stores.Locked", "key_stores.Broken", "key_stores.Hanging"])
async def test_a_key_store_that_does_not_take_it_is_said_and_a_file_offered(
    shell: Shell, gateway: FaultGateway, key_store: str
) -> None:
    shell.with_store(key_store)
    began = time.monotonic()
    status, said = await shell.log_in(gateway.address)
    assert time.monotonic() - began < ENDS_WITHIN_S
    assert status == 3
    assert "No login was saved" in said
    assert "--store file" in said
    assert "dear user" not in said
    assert not shell.logins.exists()
    assert shell.files_with(KEY) == []
    status, said = await shell.log_in(gateway.address, "--store", "file")
    assert (status, shell.files_with(KEY)) == (0, [shell.logins]), said


async def test_who_wants_the_key_store_gets_no_file(shell: Shell, gateway: FaultGateway) -> None:
    shell.with_store("keyring.backends.null.Keyring")
    status, said = await shell.log_in(gateway.address, "--store", "key-store")
    assert (status, "keeps nothing" in said) == (3, True)
    assert not shell.logins.exists()


async def test_a_key_that_moves_to_the_file_leaves_the_key_store(shell: Shell, gateway: FaultGateway) -> None:
    await shell.log_in(gateway.address)
    await shell.log_in(gateway.address, "--store", "file")
    assert shell.files_with(KEY) == [shell.logins]
    await shell.log_in(gateway.address)
    assert shell.files_with(KEY) == [shell.store]


# What is not kept


async def test_a_wrong_key_is_refused_and_nothing_kept(shell: Shell, gateway: FaultGateway) -> None:
    gateway.on("GET", "/v1/models", says({"error": {"message": f"bad key {KEY}", "type": "auth"}}, 401))
    status, said = await shell.log_in(gateway.address)
    assert (status, "No login was saved" in said, "--no-check" in said) == (3, True, False), said
    assert not shell.logins.exists()
    assert shell.files_with(KEY) == []
    assert gateway.creates() == []


async def test_a_gateway_that_is_down_needs_no_check(shell: Shell) -> None:
    address = closed_address()
    status, said = await shell.log_in(address)
    assert (status, "could not be reached" in said, "--no-check" in said) == (3, True, True), said
    assert "SORA_" not in said  # no setting named that address
    assert not shell.logins.exists()
    status, said = await shell.log_in(address, "--no-check")
    assert (status, "checked" in said) == (0, True)


@pytest.mark.parametrize(
    ("address", "key", "words"),
    [
        ("sandbox", KEY, "needs no login"),
        ("https://u:secret@api.example", KEY, "must not hold a user"),
        ("http://api.example", KEY, "unencrypted"),
        ("api.example", KEY, "must begin with https://"),
        ("https://api.example", "", "contains no key"),
        ("https://api.example", "two words", "no key has"),
        ("https://api.example", "sk-\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"), "no key has"),
    ],
)
async def test_what_cannot_be_a_login_is_refused_before_anything_is_asked(
    shell: Shell, address: str, key: str, words: str
) -> None:
    status, said = await shell.log_in(address, key=key)
    assert (status, words in said) == (2, True), said
    assert "secret" not in said
    assert not shell.logins.exists()


async def test_a_key_is_never_an_argument(shell: Shell) -> None:
    for option in ("--key", "--api-key"):
        status, said = await shell.run("login", "--base-url", "https://api.example", option, KEY)
        assert (status, "never an argument" in said) == (2, True)
    for words in ([KEY], ["https://api.example", KEY], ["--token", KEY], [f"--password={KEY}"]):
        status, said = await shell.run("login", *words)
        assert (status, KEY in said) == (2, False)
        assert "--key" not in said
    status, said = await shell.run("login")
    assert (status, "--base-url" in said) == (2, True)


async def test_a_byte_order_mark_and_bearer_are_taken_off(shell: Shell, gateway: FaultGateway) -> None:
    status, _ = await shell.log_in(gateway.address, key=f"\ufeffBearer {KEY}\r")
    assert status == 0
    assert keys_sent(gateway) == bearer(KEY)


# What it is bound to


async def test_the_environment_wins(shell: Shell, gateway: FaultGateway) -> None:
    await shell.log_in(gateway.address)
    gateway.received.clear()
    shell.with_store("key_stores.Broken")
    for settings in ({"API_KEY": OTHER_KEY}, {"API_KEY": OTHER_KEY, "BASE_URL": gateway.address}):
        status, said = await shell.run("doctor", **settings)
        assert (status, "from the environment (SORA_API_KEY)" in said) == (0, True), said
    assert keys_sent(gateway) == bearer(OTHER_KEY)


async def test_a_key_is_sent_to_no_other_address(shell: Shell, gateway: FaultGateway) -> None:
    await shell.log_in(f"{gateway.address}/team")
    async with fault_gateway() as other:
        other.on("GET", "/", MODELS)
        gateway.received.clear()
        for address in (other.address, gateway.address, f"{gateway.address}/teams", f"{gateway.address}/team/x"):
            status, said = await shell.run("create", "a boat", BASE_URL=address)
            assert status == 2
            assert "SORA_API_KEY is not set" in said
            assert f"There is a login for {gateway.address}/team" in said
            assert "sora-mcp login" in said
        assert (gateway.received, other.received) == ([], [])
    status, _ = await shell.run("doctor", BASE_URL=f"{gateway.address}/team/v1/")
    assert (status, keys_sent(gateway)) == (0, bearer(KEY))


async def test_each_address_has_its_key_and_the_last_login_is_the_default(shell: Shell, gateway: FaultGateway) -> None:
    async with fault_gateway() as other:
        other.on("GET", "/", MODELS)
        await shell.log_in(gateway.address)
        await shell.log_in(other.address, "--dialect", "videos:generic", key=OTHER_KEY)
        _, said = await shell.run("gateway", "--json")
        assert json.loads(said)["dialect"] == "videos:generic"
        _, said = await shell.run("gateway", "--json", DIALECT="videos:sglang")
        assert json.loads(said)["dialect"] == "videos:sglang"
        _, said = await shell.run("gateway", "--json", BASE_URL=gateway.address)
        assert json.loads(said)["dialect"] == "sora"
        assert (keys_sent(gateway), keys_sent(other)) == (bearer(KEY), bearer(OTHER_KEY))
        status, said = await shell.run("logout", other.address)
        assert (status, f"{gateway.address} is used now" in said) == (0, True), said
        assert OTHER_KEY not in shell.store.read_text()
        assert (await shell.run("logout"))[0] == 0
        assert shell.files_with(KEY) == []
        status, said = await shell.run("logout")
        assert (status, "There is no login" in said) == (2, True)
        assert "No gateway is configured" in (await shell.run("create", "a boat"))[1]


async def test_a_stored_key_is_the_same_account_as_the_same_key_in_the_environment(
    shell: Shell, gateway: FaultGateway
) -> None:
    await shell.run("create", "a boat", BASE_URL=gateway.address, API_KEY=KEY)
    await shell.log_in(gateway.address)
    _, said = await shell.run("list", "--json")
    assert [video["task_id"] for video in json.loads(said)["videos"]] == ["task_new"]
    status, said = await shell.run("create", "a boat", "--json")
    assert (status, json.loads(said)["duplicate"], len(gateway.creates())) == (0, True, 1)


async def test_a_server_without_a_key_needs_none(shell: Shell, gateway: FaultGateway) -> None:
    status, said = await shell.log_in(gateway.address, "--dialect", "videos:generic", key="")
    assert (status, "no key is sent" in said) == (0, True), said
    status, _ = await shell.run("gateway")
    assert (status, keys_sent(gateway)) == (0, {""})


async def test_a_login_is_told_as_json(shell: Shell, gateway: FaultGateway) -> None:
    _, said = await shell.log_in(gateway.address, "--json")
    told = json.loads(said)
    assert (told["base_url"], told["dialect"], told["key_in"]) == (gateway.address, "sora", "key store")
    _, said = await shell.run("doctor", "--json")
    settings = json.loads(said)["settings"]
    assert settings["SORA_API_KEY"] == {"value": "present", "from": "key store"}
    assert settings["SORA_BASE_URL"] == {"value": gateway.address, "from": "login"}
    _, said = await shell.run("logout", "--json")
    assert json.loads(said) == {"base_url": gateway.address, "default": None, "notes": []}


# A key store or a file that gives no key


@pytest.mark.parametrize(
    ("key_store", "words"),
    [
        ("key_stores.Locked", "is locked"),
        ("key_stores.Broken", "failed"),
        ("key_stores.Hanging", "did not answer in time"),
        ("keyring.backends.fail.Keyring", "there is no key store"),
        ("keyring.backends.null.Keyring", "no longer has a key"),
    ],
)
async def test_a_key_store_that_gives_no_key_is_said_and_nothing_submitted(
    shell: Shell, gateway: FaultGateway, key_store: str, words: str
) -> None:
    await shell.log_in(gateway.address)
    gateway.received.clear()
    shell.with_store(key_store)
    began = time.monotonic()
    status, said = await shell.run("create", "a boat", "--json")
    assert time.monotonic() - began < ENDS_WITHIN_S
    told = json.loads(said)
    assert (status, told["outcome"], told["error"]["kind"]) == (2, "not_submitted", "not_configured")
    assert words in told["error"]["message"]
    assert "sora-mcp login" in told["error"]["next_step"]
    assert "dear user" not in said
    status, said = await shell.run("doctor")
    assert (status, "✗ key" in said, words in said) == (3, True, True)
    assert gateway.received == []
    shell.with_store("key_stores.Keeping")
    assert (await shell.run("create", "a boat"))[0] == 0


async def test_a_server_whose_key_store_hangs_answers_all_else_and_ends_at_once(
    shell: Shell, gateway: FaultGateway
) -> None:
    await shell.log_in(gateway.address)
    shell.with_store("key_stores.Hanging")
    child = shell.store.with_name(f"{shell.store.name}.child")
    async with Client(stdio_client(over_stdio(shell.environ))) as client:
        assert len((await client.list_tools()).tools) == 9
        answered = []
        async with anyio.create_task_group() as group:

            async def create() -> None:
                answered.append(await client.call_tool("create_video", {"prompt": "a boat"}))

            group.start_soon(create)
            with anyio.fail_after(30):
                while not child.exists():  # noqa: ASYNC110 - a file tells nobody
                    await anyio.sleep(0.02)
            began = time.monotonic()
            assert len((await client.list_prompts()).prompts) > 0
            assert time.monotonic() - began < 2
            assert answered == []
            group.cancel_scope.cancel()
        began = time.monotonic()
    assert time.monotonic() - began < 2.5
    assert gateway.creates() == []
    await wait_until_exited(int(child.read_text()), 10)


async def test_logging_out_of_a_locked_key_store_changes_nothing(shell: Shell, gateway: FaultGateway) -> None:
    await shell.log_in(gateway.address)
    shell.with_store("key_stores.Locked")
    status, said = await shell.run("logout")
    assert (status, "left as it was" in said) == (3, True), said
    shell.with_store("keyring.backends.fail.Keyring")
    status, said = await shell.run("logout")
    assert (status, "delete it there" in said) == (0, True)


@pytest.mark.parametrize("trouble", ["open to others", "garbage", "a pipe"])
async def test_a_file_of_logins_that_cannot_be_used_stops_only_what_needs_it(
    shell: Shell, gateway: FaultGateway, trouble: str
) -> None:
    await shell.log_in(gateway.address, "--store", "file")
    gateway.received.clear()
    if trouble == "open to others":
        shell.logins.chmod(0o640)
    elif trouble == "garbage":
        shell.logins.write_bytes(b"{not json")
    else:
        shell.logins.unlink()
        os.mkfifo(shell.logins, 0o600)
    status, said = await shell.run("create", "a boat")
    assert (status, str(shell.logins) in said, "no key was read" in said) == (2, True, True), said
    assert (await shell.run("doctor"))[0] == 3
    status, _ = await shell.run("login", "--base-url", "https://api.example", "--no-check", typed=KEY)
    assert status == 2
    assert gateway.received == []
    assert (await shell.run("create", "a boat", BASE_URL=gateway.address, API_KEY=KEY))[0] == 0
    async with Client(stdio_client(over_stdio(shell.environ))) as client:
        assert len((await client.list_tools()).tools) == 9
        assert (await client.call_tool("create_video", {"prompt": "a boat"})).is_error


# At a terminal


async def test_at_a_terminal_it_asks_and_the_key_is_not_shown(shell: Shell, gateway: FaultGateway) -> None:
    answers = ["sandbox", gateway.address, "", KEY]
    status, screen = await anyio.to_thread.run_sync(_typed, shell.environ, answers)
    assert status == 0, screen
    assert "The gateway's address" in screen
    assert "needs no login" in screen
    assert "What it speaks" in screen
    assert "Logged in to" in screen
    assert KEY not in screen
    assert shell.files_with(KEY) == [shell.store]


def test_where_its_questions_could_not_be_read_it_asks_none(shell: Shell) -> None:
    terminal, end = pty.openpty()
    done = subprocess.run(  # noqa: S603
        [*COMMAND, "login"], check=False, stdin=end, stdout=end, stderr=subprocess.PIPE, env=shell.environ, timeout=60
    )
    os.close(end)
    os.close(terminal)
    assert done.returncode == 2
    assert b"stderr is not a terminal" in done.stderr
    assert b"No login was saved" in done.stderr
    assert not shell.logins.exists()


def _typed(environ: Mapping[str, str], answers: list[str]) -> tuple[int, str]:
    """Run `login` at a terminal and answer each of its questions; its exit code and the screen."""
    process, terminal = pty.fork()
    if process == 0:
        os.execve(COMMAND[0], [*COMMAND, "login"], dict(environ))  # noqa: S606
    screen, left = b"", list(answers)
    asked = 0
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # it has ended
            break
        if not part:
            break
        screen += part
        questions = screen.count(b"]: ") + screen.count(b"address: ") + screen.count(b"shown): ")
        while left and asked < questions:
            asked += 1
            os.write(terminal, f"{left.pop(0)}\n".encode())
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), screen.decode()


# What it costs


async def test_the_server_never_loads_keyring(shell: Shell, gateway: FaultGateway) -> None:
    await shell.log_in(gateway.address)
    code = (
        "import sys\nfrom sora_mcp.config.settings import load\nsettings = load()\n"
        "assert settings.endpoint().base_url and 'subprocess' not in sys.modules\n"
        "assert settings.endpoint().api_key.get_secret_value()\nassert 'keyring' not in sys.modules\n"
    )
    done = await anyio.run_process([COMMAND[0], "-c", code], env=shell.environ, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
