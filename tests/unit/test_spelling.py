"""A variable that looks like a setting and is none: a misspelt cap stops what costs money, any other is told."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from bench import ACCEPTED, COMMAND, KEY, Connect, Run, environment, over_stdio
from calls import NOTHING_SENT, ask, assert_accepted, assert_refused, create
from fault_gateway import CREATE, FaultGateway, fault_gateway
from mcp import Client

from sora_mcp import Toolkit
from sora_mcp.config.settings import load, load_valid
from sora_mcp.config.spelling import GUARDS
from sora_mcp.config.variables import variables
from sora_mcp.core.cost import Cost

MEANT = {
    "SORA_MAX_COST_DAY": "SORA_MAX_COST_PER_DAY",
    "SORA_MAX_COSTS_PER_DAY": "SORA_MAX_COST_PER_DAY",
    "SORA_MAXCOST_PER_DAY": "SORA_MAX_COST_PER_DAY",
    "SORA_MAX_COST_PER_DAY ": "SORA_MAX_COST_PER_DAY",
    "SORA_MAX_COST_PER_CAL": "SORA_MAX_COST_PER_CALL",
    "sora_max_running": "SORA_MAX_RUNNING",
    "Sora_Max_Running": "SORA_MAX_RUNNING",
    "SORA_MAX_RUNING": "SORA_MAX_RUNNING",
    "SORA-MAX-RUNNING": "SORA_MAX_RUNNING",
    "SORA.MAX.RUNNING": "SORA_MAX_RUNNING",
    "SORA__MAX_RUNNING": "SORA_MAX_RUNNING",
    "SORA_MCP_MAX_RUNNING": "SORA_MAX_RUNNING",
    "SORAMAX_RUNNING": "SORA_MAX_RUNNING",
    "SORA_VARIANTS": "SORA_MAX_VARIANTS",
    "SORA_ASK_ABOVE": "SORA_ASK_ABOVE_COST",
    "SORA_DUPLICATES_WINDOW": "SORA_DUPLICATE_WINDOW",
    "SORA_OWNERS": "SORA_OWNER",
}
IN_OTHER_WORDS = ["SORA_DAILY_CAP", "SORA_BUDGET", "SORA_COST_LIMIT", "SORA_SPENDING", "SORA_QUOTA", "SORA_DRY_RUN"]
OTHERS = ["SORA_COLOUR", "SORA_LOGLEVEL", "SORA_TIMEOUT", "sora_base_url", "SORA_IMAGE_DIR", "SORA_DOWNLOAD_MAX"]
OTHERS += ["SORA_CAPTION", "SORA_TASK", "SORA_SANDBOX_SECOND"]


def test_the_guards_are_settings() -> None:
    assert set(GUARDS) < {variable.name for variable in variables()}


@pytest.mark.parametrize(("name", "meant"), MEANT.items())
def test_a_name_like_a_guards_is_taken_for_it(name: str, meant: str) -> None:
    [found] = load({name: "5"}).unknown
    assert (found.may_be_guard, found.suggestion) == (True, meant)
    assert name.strip() in str(found)
    assert f"did you mean {meant}?" in str(found)


@pytest.mark.parametrize("name", IN_OTHER_WORDS)
def test_a_name_that_speaks_of_costs_is_taken_for_a_guards(name: str) -> None:
    [found] = load({name: "5"}).unknown
    assert found.may_be_guard
    assert "SORA_MAX_COST_PER_DAY" in str(found)


@pytest.mark.parametrize("name", OTHERS)
def test_any_other_name_is_only_told(name: str) -> None:
    [found] = load({name: "5"}).unknown
    assert not found.may_be_guard
    load({name: "5"}).check_guards_spelling()


@pytest.mark.parametrize("name", ["SORARE_KEY", "SORA", "PATH", "MAX_RUNNING", "_SORA_MCP_COMPLETE"])
def test_a_name_that_does_not_begin_as_ours_is_somebody_elses(name: str) -> None:
    assert load({name: "5"}).unknown == ()


@pytest.mark.parametrize("value", ["", " ", "${MAX}", '"${MAX}"', "''"])
def test_a_variable_without_a_value_says_nothing(value: str) -> None:
    assert load({"SORA_MAX_RUNING": value}).unknown == ()


def test_every_setting_is_known_by_its_name() -> None:
    environ = {variable.name: "${X}" for variable in variables()} | {"SORA_MAX_RUNNING": "2"}
    assert load(environ).unknown == ()
    settings, wrong = load_valid({"SORA_MAX_RUNING": "2", "SORA_QUERY_TIMEOUT": "soon"})
    assert [found.name for found in settings.unknown] == ["SORA_MAX_RUNING"]
    assert len(wrong) == 1


SHAPE = {"width": 480, "height": 480, "n_frames": 150}
PAID: dict[str, dict[str, Any]] = {
    "create_video": {"prompt": "a boat"},
    "storyboard_video": {"actions": [{"time": 0, "description": "a boat"}]},
    "remix_video": {"prompt": "red", "source_generation_id": "gen_1"} | SHAPE,
    "blend_videos": {"inpaint_items": [{"url": "https://x.example/1.png"}, {"url": "https://x.example/2.png"}]} | SHAPE,
}


@pytest.mark.anyio
@pytest.mark.parametrize("tool", PAID)
async def test_a_misspelt_cap_stops_what_costs_money_and_nothing_else(tmp_path: Path, tool: str) -> None:
    async with fault_gateway() as gateway:
        gateway.on("POST", CREATE, ACCEPTED)
        environ = environment(tmp_path, gateway, MAX_COST_DAY="5")
        async with Client(over_stdio(environ)) as client:
            refused = await assert_refused(client, tool, PAID[tool], "SORA_MAX_COST_PER_DAY")
            assert refused.data["error"]["kind"] == "not_configured"
            dry_run = await ask(client, tool, PAID[tool] | {"dry_run": True})
            listed = await ask(client, "list_videos", {})
        assert not dry_run.is_error
        [note] = [note for note in dry_run.data["notes"] if "SORA_MAX_COST_DAY" in note]
        assert note.startswith("A real call would be refused now: SORA_MAX_COST_DAY is not a setting")
        assert not listed.is_error
        assert gateway.creates() == []


@pytest.mark.anyio
async def test_a_misspelt_cap_stops_a_toolkit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SORA_BASE_URL", "sandbox")
    monkeypatch.setenv("SORA_HOME", str(tmp_path))
    monkeypatch.setenv("SORA_BUDGET", "3")
    async with Toolkit() as toolkit:
        result = await toolkit.call("create_video", {"prompt": "a boat"})
        assert result.structured["outcome"] == "not_submitted"
        assert "SORA_BUDGET" in result.text
        assert not (await toolkit.call("list_videos")).is_error


def test_a_command_that_costs_money_is_stopped_too(run: Run) -> None:
    done = run("create", "a boat", "--json", MAX_RUNING="1")
    assert done.returncode == 2
    told = json.loads(done.stdout)
    assert told["outcome"] == "not_submitted"
    assert "did you mean SORA_MAX_RUNNING?" in told["error"]["message"]
    assert run("list", MAX_RUNING="1").returncode == 0


def test_a_variable_that_is_no_setting_is_told_once_and_by_the_doctor(run: Run) -> None:
    done = run("create", "a boat", COLOUR="red")
    assert done.returncode == 0
    assert done.stderr.count("SORA_COLOUR is not a setting") == 1
    checks = json.loads(run("doctor", "--json", COLOUR="red").stdout)["checks"]
    assert [check["verdict"] for check in checks if "SORA_COLOUR" in check["message"]] == ["note"]
    judged = run("doctor", "--json", MAX_RUNING="1")
    assert judged.returncode == 3
    [wrong] = [check for check in json.loads(judged.stdout)["checks"] if check["verdict"] == "wrong"]
    assert "did you mean SORA_MAX_RUNNING?" in wrong["message"]


@pytest.mark.slow
def test_a_server_tells_it_once_at_its_start(tmp_path: Path) -> None:
    environ = environment(tmp_path, COLOUR="red")
    done = subprocess.run(COMMAND, check=True, stdin=subprocess.DEVNULL, capture_output=True, env=environ, text=True)  # noqa: S603
    assert done.stderr.count("SORA_COLOUR is not a setting") == 1


@pytest.mark.parametrize("folder", ["absent", "file"])
def test_the_doctor_names_an_image_folder_that_is_none(run: Run, tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "here").mkdir()
    dirs = f"{tmp_path / 'here'}:{tmp_path / folder}"
    done = run("doctor", "--json", IMAGE_DIRS=dirs)
    [wrong] = [check for check in json.loads(done.stdout)["checks"] if check["name"] == "image folder"]
    assert str(tmp_path / folder) in wrong["message"]
    assert "SORA_IMAGE_DIRS" in wrong["next_step"]
    assert run("list", IMAGE_DIRS=dirs).returncode == 0


# --- quotes ---------------------------------------------------------------------------------------

QUOTED = ['"{}"', "'{}'", "“{}”", "\u2018{}\u2019", ' "{}" ', "\"'{}'\"", '" {} "']


@pytest.mark.parametrize("quoted", QUOTED)
def test_quotes_round_a_value_are_taken_off(quoted: str, tmp_path: Path) -> None:
    values = {
        "SORA_BASE_URL": "https://api.example",
        "SORA_API_KEY": KEY,
        "SORA_MAX_RUNNING": "5",
        "SORA_MAX_COST_PER_DAY": "2.5",
        "SORA_SAVE_FINISHED": "true",
        "SORA_LOG_LEVEL": "debug",
        "SORA_HOME": str(tmp_path / "a b"),
        "SORA_IMAGE_DIRS": f"{tmp_path}/a:{tmp_path}/b",
        "SORA_EXTRA_SIZES": "1080x1080,1920x1080",
    }
    settings = load({name: quoted.format(value) for name, value in values.items()})
    plain = load(values)
    assert settings.endpoint() == plain.endpoint()
    assert settings.key_to_redact == KEY
    assert (settings.max_running, settings.max_cost_per_day, settings.save_finished) == (5, Cost.of(2.5), True)
    assert settings.image_dirs == plain.image_dirs


def test_quotes_that_belong_to_a_value_stay() -> None:
    assert load({"SORA_HOME": '/a"b"'}).home == Path('/a"b"')
    assert load({"SORA_HOME": '"/a'}).home == Path('"/a').absolute()
    assert load({"SORA_IMAGE_DIRS": '"/a b":"/c"'}).image_dirs == (Path("/a b"), Path("/c"))


def test_a_key_in_quotes_behind_its_bearer_is_taken_out_of_them() -> None:
    settings = load({"SORA_BASE_URL": "https://api.example", "SORA_API_KEY": f'Bearer "{KEY}"'})
    assert settings.endpoint().api_key.get_secret_value() == settings.key_to_redact == KEY


def test_without_a_word_between_its_quotes_a_setting_is_missing() -> None:
    assert load({"SORA_MAX_RUNNING": '""', "SORA_OWNER": "' '", "SORA_HOME": '"${HOME}"'}).explicit == frozenset()


def test_the_refusal_says_that_nothing_was_submitted(run: Run) -> None:
    done = run("create", "a boat", BUDGET="1")
    assert NOTHING_SENT in done.stdout + done.stderr


@pytest.mark.anyio
async def test_the_right_names_stop_nothing(connect: Connect, gateway: FaultGateway) -> None:
    async with connect(max_running=2, max_cost_per_day=9) as client:
        await assert_accepted(client, *create())
    assert len(gateway.creates()) == 1
