"""Settings: what people paste for an address or a key, and a key that is seen nowhere."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, asdict, replace
from pathlib import Path

import pytest
from msgspec import structs
from wording import next_step

from sora_mcp import dialects
from sora_mcp.config.addresses import is_local_host
from sora_mcp.config.endpoint import Endpoint
from sora_mcp.config.settings import load
from sora_mcp.config.variables import variables
from sora_mcp.core.cost import Cost
from sora_mcp.core.errors import NotConfigured

KEY = "sk-5ecret0123456789"
JARGON = [
    *("pydantic", "validation error", "Traceback", "https://errors", "input_value"),
    *("Value error", "Input should", "unable to parse", "valid integer"),
]


MONEY = ': a relative cost, or money with its currency, such as "5 USD"'


def endpoint(base_url: str | None, api_key: str | None = KEY) -> Endpoint:
    return load(base_url=base_url, api_key=api_key).endpoint()


def refusal(base_url: str | None, api_key: str | None = KEY) -> str:
    """What is said where the endpoint cannot be right; it never repeats the key."""
    with pytest.raises(NotConfigured) as caught:
        endpoint(base_url, api_key)
    text = f"{caught.value} {next_step(caught.value)}"
    assert KEY not in text + repr(caught.value)
    return text


def bad_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    """What is said about a bad value of one variable."""
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("SORA_API_KEY", KEY)
    with pytest.raises(NotConfigured) as caught:
        load()
    text = f"{caught.value} {next_step(caught.value)}"
    assert caught.value.__cause__ is None
    for jargon in (*JARGON, KEY):
        assert jargon not in text
    return text


# --- the address ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        "https://api.example",
        "https://api.example/",
        "https://api.example//",
        " https://api.example \n",
        "https://api.example/v1",
        "https://api.example/v1/",
        "https://api.example/sora/v1",
        "https://api.example/sora/v1/videos",
        "https://api.example/sora/v1/videos/",
        "https://api.example/sora",
        "https://api.example/sora/",
        "https://api.example//sora//",
        "https://api.example/sora/v1/",
        '"https://api.example/sora"',
        "HTTPS://api.example",
        "https://API.Example",
        "https://api.example.",
        "https://api.example:443",
        "https://Api.Example.:443/v1/",
        "https://api.example:/",
    ],
)
def test_what_people_paste_along_is_taken_off(given: str) -> None:
    assert endpoint(given).base_url == "https://api.example"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.example:8443/v1", "https://api.example:8443"),
        ("https://api.example/team/v1", "https://api.example/team"),
        ("https://api.example/v1/team", "https://api.example/v1/team"),
        ("https://api.example/v1/v1", "https://api.example/v1"),
        ("https://api.example/v12", "https://api.example/v12"),
        ("https://api.example/team/sora", "https://api.example/team"),
        ("https://api.example/sorax", "https://api.example/sorax"),
        ("https://api.example/sora/team", "https://api.example/sora/team"),
        ("https://sora.example", "https://sora.example"),
        ("https://[2001:db8::1]:8080/v1", "https://[2001:db8::1]:8080"),
        ("https://[2001:DB8::1]:443/v1", "https://[2001:db8::1]"),
        ("https://[2001:db8:0:0:0:0:0:1]", "https://[2001:db8::1]"),
        ("https://api.example:80", "https://api.example:80"),
        ("https://api.example/Team", "https://api.example/Team"),
        ("http://LOCALHOST.:80/v1", "http://localhost"),
        ("http://localhost:443", "http://localhost:443"),
    ],
)
def test_what_belongs_to_the_address_stays(given: str, kept: str) -> None:
    assert endpoint(given).base_url == kept


@pytest.mark.parametrize("given", ["https://gpt-best.apifox.cn/api-1", "https://APIFOX.cn", "https://x.apifox.com./v1"])
def test_the_documentations_host_is_refused(given: str) -> None:
    assert "documentation" in refusal(given)


def test_a_host_that_only_ends_like_the_documentations_is_not() -> None:
    assert endpoint("https://notapifox.cn").base_url == "https://notapifox.cn"


@pytest.mark.parametrize("given", ["http://api.example", "http://8.8.8.8", "HTTP://api.example:8080/v1"])
def test_plain_http_to_a_public_host_is_refused(given: str) -> None:
    assert "unencrypted" in refusal(given)


@pytest.mark.parametrize(
    "given",
    [
        "http://localhost:3000",
        "http://127.0.0.1:3000",
        "http://[::1]:3000",
        "http://10.1.2.3",
        "http://172.16.0.9",
        "http://192.168.1.2:8080",
        "http://[fd00::1]",
        "http://gateway",
        "http://gateway.lan",
        "http://host.docker.internal:3000",
    ],
)
def test_plain_http_stays_on_this_machine_and_private_hosts(given: str) -> None:
    found = endpoint(given)
    assert found.base_url == given
    assert found.local


@pytest.mark.parametrize("host", ["api.example", "8.8.8.8", "2606:4700::1111", "localhost.example", "10.0.0.1.example"])
def test_a_public_host_is_not_local(host: str) -> None:
    assert not is_local_host(host)


@pytest.mark.parametrize("host", ["134744072", "0x08080808", "010.8.8.8", "8.8.2056"])
def test_an_address_in_disguise_is_not_local(host: str) -> None:
    assert not is_local_host(host)
    assert "unencrypted" in refusal(f"http://{host}")


@pytest.mark.parametrize(
    "given",
    [
        "https://user:pass@api.example",
        "https://user@api.example",
        "https://:pass@api.example",
        "https://@api.example",
        "https://api.example?x=1",
        "https://api.example/#top",
        "https://api.example/a/..",
        "https://api.example/./v1",
    ],
)
def test_an_address_holds_no_user_password_query_or_fragment(given: str) -> None:
    text = refusal(given)
    assert "must not hold" in text
    assert "pass@" not in text


@pytest.mark.parametrize(
    "given",
    [
        "api.example",
        "ftp://api.example",
        "file:///etc",
        "https://",
        "https:///v1",
        "sandbox2",
        "https://[::1",
        "https://api.example:99999",
        "https://api.example:port",
        "https://api example",
        "https://api.exa\tmple",
        "https://api.example/a b",
        "https://api.example\\@evil.example",
        "https://\u202eapi.example",
        "https://.",
    ],
)
def test_what_is_no_address_is_refused_in_a_sentence(given: str) -> None:
    assert refusal(given).startswith("SORA_BASE_URL is not an address that can be used: ")


@pytest.mark.parametrize(
    "given",
    ["https://${HOST}", "https://${HOST}:8443/v1", "https://api.example/${TEAM}", "${SCHEME}://api.example", "${"],
)
def test_an_address_with_a_variable_inside_was_not_expanded(given: str) -> None:
    assert "not expanded" in refusal(given)


@pytest.mark.parametrize("given", ["Bearer ${SORA_API_KEY}", "sk-${KEY}"])
def test_a_key_with_a_variable_inside_was_not_expanded(given: str) -> None:
    text = refusal("https://api.example", given)
    assert "SORA_API_KEY" in text
    assert "not expanded" in text


@pytest.mark.parametrize("given", ["sandbox", " Sandbox ", "SANDBOX"])
def test_the_sandbox_needs_no_key(given: str) -> None:
    found = endpoint(given, None)
    assert (found.sandbox, found.local) == (True, True)


def test_the_sandbox_is_never_given_the_users_key() -> None:
    assert endpoint("sandbox").api_key.get_secret_value() != KEY


# --- what is missing ------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", [None, "", "  ", "${SORA_BASE_URL}", " ${SORA_BASE_URL:-} ", "${input:url}"])
def test_without_an_address_the_two_settings_and_the_sandbox_are_named(missing: str | None) -> None:
    text = refusal(missing)
    for word in ("SORA_BASE_URL", "SORA_API_KEY", "sandbox"):
        assert word in text


@pytest.mark.parametrize("missing", [None, "", " ", "${SORA_API_KEY}", "Bearer ", "bearer  "])
def test_without_a_key_the_setting_is_named(missing: str | None) -> None:
    assert "SORA_API_KEY is not set" in refusal("https://api.example", missing)


def test_an_unexpanded_variable_is_missing_in_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load()
    for name in ("SORA_BASE_URL", "SORA_API_KEY", "SORA_MAX_VARIANTS", "SORA_EXTRA_SIZES", "SORA_OUTPUT_DIR"):
        monkeypatch.setenv(name, f"${{{name}}}")
    assert load() == plain


# --- the key --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [KEY, f" {KEY}\n", f"Bearer {KEY}", f"bearer   {KEY} ", f"BEARER {KEY}"])
def test_a_pasted_bearer_prefix_is_taken_off(given: str) -> None:
    assert endpoint("https://api.example", given).api_key.get_secret_value() == KEY


@pytest.mark.parametrize("given", [f"{KEY} x", f"{KEY}\nX-Evil: 1", f"{KEY}é", f"{KEY}\x00", f"Bearer Bearer {KEY}"])
def test_a_key_that_no_header_can_hold_is_refused_unseen(given: str) -> None:
    assert "SORA_API_KEY holds" in refusal("https://api.example", given)


def test_the_key_is_seen_nowhere() -> None:
    configured = load(base_url="https://api.example", api_key=f"Bearer {KEY}")
    shown = [
        configured,
        configured.endpoint(),
        asdict(configured),
        structs.asdict(configured.endpoint()),
        vars(configured),
    ]
    for each in shown:
        assert KEY not in repr(each) + str(each)
        assert "**********" in str(each)


def test_a_copy_of_the_settings_has_the_same_key_unseen() -> None:
    configured = load(api_key=KEY)
    assert configured == load(api_key=KEY) != load(api_key=f"{KEY}x")
    assert KEY not in repr(replace(configured, max_variants=2))


def test_the_key_in_place_of_the_address_is_not_repeated() -> None:
    assert KEY not in refusal(KEY)
    assert KEY not in refusal(f"https://{KEY}@api.example")


# --- tables and folders ---------------------------------------------------------------------------


def test_sizes_and_lengths_extend_the_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORA_EXTRA_SIZES", " 1080x1080 ,1920x1080,")
    monkeypatch.setenv("SORA_EXTRA_FRAMES", "450, 600,")
    monkeypatch.setenv("SORA_MAX_VARIANTS", "8")
    capabilities = dialects.configured(load()).capabilities
    assert {(854, 480), (1080, 1080), (1920, 1080)} <= capabilities.sizes.keys()
    assert sorted(capabilities.lengths) == [150, 300, 450, 600]
    assert capabilities.max_variants == 8


def test_image_folders_are_separated_as_the_platform_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = (tmp_path / "a", tmp_path / "b c")
    monkeypatch.setenv("SORA_IMAGE_DIRS", os.pathsep.join([*map(str, folders), ""]))
    assert load().image_dirs == folders


def test_a_folder_may_begin_with_the_home_sign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORA_IMAGE_DIRS", "~/pictures")
    monkeypatch.setenv("SORA_HOME", "~/sora")
    assert load().image_dirs == (Path.home() / "pictures",)
    assert load().home == Path.home() / "sora"


def test_no_folder_is_open_unless_it_is_named() -> None:
    assert load().image_dirs == ()


# --- costs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "cost"),
    [
        ("5", Cost.of(5)),
        ("2.50", Cost.of(2.5)),
        ("1e3", Cost.of(1000)),
        (3, Cost.of(3)),
        ("5 USD", Cost.of(5, "USD")),
        ('"5 USD"', Cost.of(5, "USD")),
        (" 0.5usd ", Cost.of("0.5", "USD")),
        ("EUR 12.34", Cost.of("12.34", "EUR")),
        (Cost.of(5, "USD"), Cost.of(5, "USD")),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["max_cost_per_call", "max_cost_per_day", "ask_above_cost"])
def test_a_cost_is_a_bare_number_or_has_its_currency(name: str, value: object, cost: Cost) -> None:
    assert getattr(load({}, **{name: value}), name) == cost


def test_only_the_question_may_be_asked_above_nothing() -> None:
    assert load({}, ask_above_cost="0 USD").ask_above_cost == Cost.of(0, "USD")


# --- bad values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("SORA_EXTRA_SIZES", "1080", "a list as described"),
        ("SORA_EXTRA_SIZES", "1080x1080;1920x1080", "a list as described"),
        ("SORA_EXTRA_SIZES", "0x480", "a list as described"),
        ("SORA_EXTRA_FRAMES", "ten", "a list as described"),
        ("SORA_EXTRA_FRAMES", "450,-1", "a list as described"),
        ("SORA_EXTRA_FRAMES", "0", "a list as described"),
        ("SORA_MAX_VARIANTS", "0", "a whole number, at least 1"),
        ("SORA_MAX_VARIANTS", "many", "a whole number, at least 1"),
        ("SORA_CREATE_TIMEOUT", "0", "a number, above 0, at most 600"),
        ("SORA_QUERY_TIMEOUT", "51", "a number, above 0, at most 50"),
        ("SORA_CONNECT_TIMEOUT", "nan", "a number, above 0, at most 60"),
        ("SORA_DUPLICATE_WINDOW", "-1", "a number, at least 0, at most 1440"),
        ("SORA_SDEDIT_SOURCE", "outside", "nested or top"),
        ("SORA_LOG_LEVEL", "LOUD", "DEBUG, INFO, WARNING or ERROR"),
        ("SORA_SAVE_FINISHED", "maybe", "true or false"),
        ("SORA_ASK_ABOVE_COST", "-1", f"a number, at least 0{MONEY}"),
        ("SORA_ASK_ABOVE_COST", "5 dollars", f"a number, at least 0{MONEY}"),
        ("SORA_MAX_COST_PER_DAY", "inf", f"a number, above 0{MONEY}"),
        ("SORA_MAX_COST_PER_DAY", "0 USD", f"a number, above 0{MONEY}"),
        ("SORA_MAX_COST_PER_CALL", "$5", f"a number, above 0{MONEY}"),
        ("SORA_MAX_COST_PER_CALL", "5,00 EUR", f"a number, above 0{MONEY}"),
        ("SORA_MAX_COST_PER_CALL", "USD 5 USD", f"a number, above 0{MONEY}"),
        ("SORA_OWNER", "a b", "1 to 64 letters, digits or . _ @ -"),
        ("SORA_OWNER", "a" * 65, "1 to 64 letters, digits or . _ @ -"),
        ("SORA_OWNER", "zoë\n", "1 to 64 letters, digits or . _ @ -"),
        ("SORA_DOWNLOAD_MAX_MB", "1.5", "a whole number, above 0"),
        ("SORA_HOME", "~no-such-user-here/x", "a folder"),
        ("SORA_IMAGE_DIRS", "~no-such-user-here/x", "a list as described"),
    ],
)
def test_a_bad_value_is_named_with_what_is_allowed_and_its_meaning(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, allowed: str
) -> None:
    text = bad_value(monkeypatch, name, value)
    description = next(variable.description for variable in variables() if variable.name == name)
    assert text.startswith(f"The value of {name} cannot be used; allowed: {allowed}. Its meaning: {description} ")


def test_a_setting_that_does_not_exist_is_named() -> None:
    with pytest.raises(NotConfigured, match="There is no setting SORA_COLOUR"):
        load(colour="red")


@pytest.mark.parametrize("given", ["debug", "Debug", " DEBUG ", "DEBUG"])
def test_the_log_level_may_be_written_in_small_letters(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("SORA_LOG_LEVEL", given)
    assert load().log_level == "DEBUG"


def test_a_key_of_the_wrong_kind_is_not_shown() -> None:
    with pytest.raises(NotConfigured) as caught:
        load(api_key=[KEY])
    assert KEY not in str(caught.value)
    assert "SORA_API_KEY" in str(caught.value)


def test_settings_do_not_change() -> None:
    configured = load()
    with pytest.raises(FrozenInstanceError):
        configured.max_variants = 9  # type: ignore[misc]


def test_every_setting_says_what_it_means() -> None:
    for variable in variables():
        assert variable.description, variable.name


def test_what_was_given_is_told_from_what_is_a_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SORA_MAX_VARIANTS", "4")
    monkeypatch.setenv("SORA_OWNER", " ")
    assert load(base_url="sandbox", api_key=None).explicit == {"max_variants", "base_url"}


def test_every_default_that_is_shown_can_be_set() -> None:
    shown = {variable.name: variable.default for variable in variables() if variable.default}
    assert shown["SORA_SAVE_FINISHED"] == "false"
    assert load(shown) == load({})


@pytest.mark.parametrize(
    ("given", "value"), [("true", True), ("Yes ", True), ("1", True), ("FALSE", False), ("no", False), ("0", False)]
)
def test_a_switch_is_set_in_the_usual_words(given: str, value: bool) -> None:
    assert load({"SORA_SAVE_FINISHED": given}).save_finished is value


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("max_variants", 8),
        ("sandbox_seconds", 0.3),
        ("extra_sizes", ((1080, 1080),)),
        ("extra_frames", (450,)),
        ("save_finished", True),
        ("home", Path("/x")),
        ("image_dirs", (Path("/x"),)),
    ],
)
def test_a_value_may_be_given_as_what_it_is(field: str, given: object) -> None:
    assert getattr(load({}, **{field: given}), field) == given


@pytest.mark.slow
def test_settings_are_made_without_the_models() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import sys, sora_mcp.config.settings; print(*sys.modules)"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert not {"pydantic", "platformdirs"} & set(done.stdout.split())
