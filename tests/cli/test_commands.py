"""The commands as a person types them: results, messages and exit codes."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rta_service import __version__
from rta_service.cli import commands
from rta_service.cli.app import EXIT_FAILED, EXIT_WRONG_INPUT, app as command_tree, run
from rta_service.demo.world import World
from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import InvalidInput, StartupError, StoreUnavailable

assert commands.serve is not None  # importing it hangs the subcommands in

Rta = Callable[..., Any]


@pytest.fixture
def rta(tmp_path: Path) -> Rta:
    """Give a function that runs `rta` on a data folder of its own."""

    def call(*words: object) -> Any:
        arguments = [str(word) for word in words]
        environment = {"RTA_DATA_DIR": str(tmp_path / "data"), "RTA_REDIS_URL": None}
        result = CliRunner().invoke(command_tree, arguments, env=environment)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def test_the_version_is_printed() -> None:
    assert CliRunner().invoke(command_tree, ["--version"]).stdout == f"rta-service {__version__}\n"


def test_no_command_on_models_is_described_by_half_a_sentence() -> None:
    shown = CliRunner().invoke(command_tree, ["models", "--help"]).stdout.partition("Commands:")[2]

    assert "rollback" in shown
    assert "..." not in shown


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidInput("no such day", "--as-of"), EXIT_WRONG_INPUT),
        (StoreUnavailable("gone"), EXIT_FAILED),
        (OSError("libgomp.so.1: cannot open shared object file"), EXIT_FAILED),
    ],
)
def test_errors_become_one_line_and_an_exit_code(
    error: Exception, code: int, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert run(fail) == code
    assert str(error) in capfd.readouterr().err
    assert EXIT_FAILED == 3


@pytest.mark.parametrize(
    "words",
    [
        ("models", "list"),
        ("models", "show", "trade"),
        ("models", "log"),
        ("models", "autopilot"),
        ("release", "show"),
        ("release", "rollback"),
        ("strategies", "show"),
        ("profiles", "show", "0123456789abcdef0123456789abcdef"),
        ("tokens", "list"),
    ],
    ids=" ".join,
)
def test_whoever_asks_in_a_wrong_place_is_told_and_nothing_is_made_there(
    rta: Rta, tmp_path: Path, words: tuple[str, ...]
) -> None:
    with pytest.raises(InvalidInput, match="data: no data folder there: say which with --data"):
        rta(*words)

    assert list(tmp_path.iterdir()) == []


def test_a_log_becomes_a_snapshot_that_waits_for_the_other_parts(
    rta: Rta, made_world: World, tmp_path: Path
) -> None:
    built = rta("profiles", "build", made_world.events, "--out", tmp_path / "s", "--json")
    published = rta("profiles", "publish", tmp_path / "s", "--json")
    raw = next(r for r, s in zip(made_world.truth.raw, made_world.truth.seen, strict=True) if s)
    shown = rta("profiles", "show", raw, "--form", "raw", "--json")

    assert json.loads(built.stdout)["devices"] == made_world.build.manifest.devices
    staged = json.loads(published.stdout)["staged"]
    assert staged["snapshot_id"] == json.loads(built.stdout)["snapshot_id"]
    assert json.loads(shown.stdout)["snapshot"] == staged["snapshot_id"]
    assert raw not in shown.stdout


def test_a_snapshot_as_of_tomorrow_is_published_with_a_warning(
    rta: Rta, made_world: World, tmp_path: Path
) -> None:
    tomorrow = (datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC) + timedelta(1)).date()
    rta("profiles", "build", made_world.events, "--out", tmp_path / "now")
    rta("profiles", "build", made_world.events, "--out", tmp_path / "s", "--as-of", tomorrow)

    usual = rta("profiles", "publish", tmp_path / "now", "--json")
    ahead = rta("profiles", "publish", tmp_path / "s", "--json")

    assert "warning" not in usual.stderr
    assert f"as of {tomorrow} 00:00 UTC, which is still to come" in ahead.stderr
    assert json.loads(ahead.stdout)["staged"]["snapshot_id"].startswith(f"s{tomorrow:%Y%m%d}")


def test_three_parts_make_a_release_that_can_be_rolled_back(
    rta: Rta, made_world: World, tmp_path: Path
) -> None:
    folder = made_world.events.parent
    strategies = tmp_path / "strategies.toml"
    strategies.write_text(STRATEGIES)

    rta("profiles", "build", made_world.events, "--out", tmp_path / "s")
    rta("profiles", "publish", tmp_path / "s")
    rta("models", "publish", folder / "trained")
    first = json.loads(rta("strategies", "publish", strategies, "--json").stdout)["releases"][0]
    strategies.write_text(STRATEGIES.replace("35.0", "40.0"))
    second = json.loads(rta("strategies", "publish", strategies, "--json").stdout)["releases"][0]
    back = json.loads(rta("release", "rollback", "--json").stdout)["releases"][0]
    history = json.loads(rta("release", "show", "--json").stdout)["releases"]

    assert second["previous_id"] == first["release_id"]
    assert back["strategies_id"] == first["strategies_id"]
    assert [r["release_id"] for r in history] == [r["release_id"] for r in (back, second, first)]
    assert rta("strategies", "show").stdout == STRATEGIES


def test_checking_strategies_shows_their_reach_on_the_current_snapshot(
    rta: Rta, made_world: World, tmp_path: Path
) -> None:
    strategies = tmp_path / "strategies.toml"
    strategies.write_text(STRATEGIES)
    before = json.loads(rta("strategies", "check", strategies, "--json").stdout)
    rta("profiles", "build", made_world.events, "--out", tmp_path / "s")
    rta("profiles", "publish", tmp_path / "s")
    rta("models", "publish", made_world.events.parent / "trained")
    rta("strategies", "publish", strategies)

    after = json.loads(rta("strategies", "check", strategies, "--json").stdout)["reach"]["a"]

    assert before == {"strategies": ["a"], "reach": None}
    assert 0 < after["accepted"] < after["devices"]
    assert sum(after["reasons"].values()) == after["devices"]
    assert rta("strategies", "check", strategies).exit_code == 0


def test_published_models_are_listed_with_their_figures(rta: Rta, made_world: World) -> None:
    rta("models", "publish", made_world.events.parent / "trained")

    listed = json.loads(rta("models", "list", "--json").stdout)["models"]

    assert {"register", "trade"} <= {model["name"] for model in listed}
    assert rta("models", "list").exit_code == 0


def test_tables_are_printed_for_people(rta: Rta, made_world: World, tmp_path: Path) -> None:
    built = rta("profiles", "build", made_world.events, "--out", tmp_path / "s")

    assert "silent_days" in built.stdout
    assert "next: rta profiles publish" in built.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("profiles", "show", "0" * 32), "stands for no device"),
        (("profiles", "build", "x", "--out", "y", "--as-of", "soon"), "'soon' is no date"),
        (("strategies", "check", "nowhere.toml"), "nowhere.toml"),
        (("strategies", "show"), "no release was published yet"),
        (("release", "show"), "no release was published yet"),
        (("release", "rollback"), "no earlier release"),
        (("models", "publish", "nowhere"), "nowhere"),
    ],
)
def test_wrong_input_is_named(
    rta: Rta, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    (tmp_path / "data").mkdir()

    with pytest.raises(InvalidInput, match=message):
        rta(*words)


STRATEGIES = """\
[[strategy]]
id = "a"
bindings = { json = "a" }
optimises = "click"
goal = "trade"
target_cpa = 35.0
answer = "weight"
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('{ json = "a" }', '{ openrtb = "a" }', "does not speak; it speaks json, tencent"),
        ('answer = "weight"', 'answer = "wait"', "one of: weight, cpa, cpc, cpm"),
        ('{ json = "a" }\n', '{ tencent = "a" }\nbounds = [6.0, 9.0]\n', "bounds"),
    ],
)
def test_check_refuses_what_a_publication_would(
    rta: Rta, tmp_path: Path, old: str, new: str, message: str
) -> None:
    strategies = tmp_path / "strategies.toml"
    strategies.write_text(STRATEGIES.replace(old, new))

    with pytest.raises(InvalidInput, match=message):
        rta("strategies", "check", strategies)


def test_check_measures_on_the_parts_kept_for_the_first_release(
    rta: Rta, made_world: World, tmp_path: Path
) -> None:
    strategies = tmp_path / "strategies.toml"
    rta("profiles", "build", made_world.events, "--out", tmp_path / "s")
    rta("profiles", "publish", tmp_path / "s")
    rta("models", "publish", made_world.events.parent / "trained")
    strategies.write_text(
        STRATEGIES + '[strategy.audience]\nstages = ["churned"]\nwake_tiers = []\n'
    )

    with pytest.raises(InvalidInput, match="reaches no device"):
        rta("strategies", "check", strategies)
    strategies.write_text(STRATEGIES)
    assert json.loads(rta("strategies", "check", strategies, "--json").stdout)["reach"]["a"]


def test_a_snapshot_under_another_pepper_is_refused_at_once(
    rta: Rta, made_world: World, tmp_path: Path
) -> None:
    rta("profiles", "build", made_world.events, "--out", tmp_path / "s", "--data", tmp_path / "x")

    with pytest.raises(StartupError, match="another pepper"):
        rta("profiles", "publish", tmp_path / "s")


def test_people_see_whole_release_ids_and_which_one_decides(
    rta: Rta, made_world: World, tmp_path: Path
) -> None:
    rta("profiles", "build", made_world.events, "--out", tmp_path / "s")
    rta("profiles", "publish", tmp_path / "s")
    rta("models", "publish", made_world.events.parent / "trained")
    (tmp_path / "strategies.toml").write_text(STRATEGIES)
    rta("strategies", "publish", tmp_path / "strategies.toml")

    releases = json.loads(rta("release", "show", "--json").stdout)["releases"]
    shown = rta("release", "show").stdout

    assert shown.startswith(releases[0]["release_id"])
    assert "(decides now)" in shown
    assert all(model["version"] in shown for model in releases[0]["models"])
