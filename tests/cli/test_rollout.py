"""`rta models ...`: a version's way to all traffic and back, as a person types it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from rta_service import wiring
from rta_service.cli import commands, registry
from rta_service.cli.app import EXIT_WRONG_INPUT, app as command_tree, run, stdout
from rta_service.cli.options import who
from rta_service.config import Settings
from rta_service.demo.world import World
from rta_service.domain.access import Actor, Role
from rta_service.domain.clock import SystemClock
from rta_service.domain.command import Command, Pending
from rta_service.domain.errors import InvalidInput, NotAllowed, UnknownName
from rta_service.domain.release import Release
from rta_service.domain.rollout import Action
from rta_service.scoring.manifest import read_manifest, write_manifest
from rta_service.stores.model_folder import publish_model

assert commands.rollout is not None  # importing it hangs the subcommands in

Rta = Callable[..., Any]


@pytest.fixture
def settings(made_world: World, tmp_path: Path) -> Settings:
    """A copy of the made world's data folder in which trade v-next is registered besides."""
    folder = tmp_path / "data"
    shutil.copytree(made_world.events.parent, folder, ignore=shutil.ignore_patterns("*.sock"))
    chosen = Settings(data_dir=folder, redis_url=None, namespace="test")
    trade = next(ref for ref in made_world.release.models if ref.name == "trade")
    source = tmp_path / "v-next"
    shutil.copytree(chosen.models_folder / "bundles" / "trade" / trade.version, source)
    (source / "manifest.json").chmod(0o644)
    write_manifest(source, msgspec.structs.replace(read_manifest(source), version="v-next"))
    publish_model(source, chosen.models_folder)
    return chosen


@pytest.fixture
def rta(settings: Settings) -> Rta:
    """Give a function that runs `rta models` in that folder, and gives its JSON if it is asked to."""

    def call(*words: object, two_persons: bool = False) -> Any:
        environment = {
            "RTA_DATA_DIR": str(settings.data_dir),
            "RTA_NAMESPACE": settings.namespace,
            "RTA_REDIS_URL": None,
            "RTA_TWO_PERSON_APPROVAL": str(two_persons),
        }
        arguments = ["models", *map(str, words)]
        result = CliRunner().invoke(command_tree, arguments, env=environment)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return json.loads(result.stdout) if "--json" in words else result.stdout

    return call


def _phases(rta: Rta) -> dict[str, str]:
    states = rta("list", "--json")["models"]
    return {s["version"]: s["phase"] for s in states if s["name"] == "trade"}


def test_a_version_goes_to_shadow_canary_and_all_people_and_back(
    rta: Rta, made_world: World
) -> None:
    first = next(ref.version for ref in made_world.release.models if ref.name == "trade")

    rta("shadow", "trade@v-next", "--why", "a new month")
    canary = rta("canary", "trade@v-next", "--share", "0.01", "--json")["releases"][0]
    shown = rta("canary", "--share", "0.25")
    live = rta("live")
    back = rta("rollback", "--why", "worse")
    entries = rta("log", "--count", 5, "--json")["entries"]
    with pytest.raises(InvalidInput, match="rta models live trade@v-next --skip"):
        rta("rollback")

    assert canary["canary"]["share_millionths"] == 10_000
    assert "canary     trade v-next for 25 % of people" in shown
    assert f"previous   trade {first}" in live
    assert "previous   trade v-next (rolled back)" in back
    assert _phases(rta) == {first: "live", "v-next": "previous"}
    said = ["worse", "by hand: rta models live", "by hand: rta models canary"]
    assert [entry["why"] for entry in entries[:3]] == said
    assert {entry["who"] for entry in entries} == {who()}


def test_versions_are_listed_shown_and_compared_for_people(rta: Rta, made_world: World) -> None:
    first = next(ref.version for ref in made_world.release.models if ref.name == "trade")

    listed, log = rta("list"), rta("log")
    shown, compared = rta("show", "trade", "v-next"), rta("diff", "trade", first, "v-next")
    document = rta("diff", "trade", first, "v-next", "--json")

    assert "v-next" in listed
    assert "staged" in listed
    assert "publish" in log
    assert "feature_set_id" in shown
    assert "mean_ratio" in compared
    assert document["scores"]["mean_ratio"] == pytest.approx(1.0)
    assert document["manifest"] == {"version": [first, "v-next"]}


def test_names_and_versions_are_never_cut_however_narrow_the_window(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, version = "trade_given_activate", "v20261121-a19e3c93"
    row = (name, version, "live", "99.9 %", "0.7731", "uploader")
    columns = ("model", "version", "phase", "decides for", "AUC", "by")

    shown = {}
    for width in (30, 80, 120):
        monkeypatch.setattr(stdout, "width", width)
        registry.show_whole(columns, [row], least=2)
        shown[width] = capsys.readouterr().out

    assert all(f"{name} │ {version}" in text for text in shown.values())
    assert "no room for: phase, decides for, AUC, by" in shown[30]
    assert "no room for: by" in shown[80]
    assert "uploader" in shown[120]
    assert max(map(len, shown[80].splitlines())) <= 80


def test_the_candidate_is_compared_with_the_live_one_and_its_trial_is_shown(
    rta: Rta, settings: Settings, made_world: World
) -> None:
    first = next(ref.version for ref in made_world.release.models if ref.name == "trade")

    newest = rta("diff", "trade", "--json")
    _release(settings, Command(Action.SHADOW, (("trade", "v-next"),)))
    shadow, named = rta("diff", "trade", "--json"), rta("diff", "trade", first, "--json")
    shown, figures = rta("show", "trade", "v-next"), rta("show", "trade", "v-next", "--json")

    for found in (newest, shadow):
        assert (found["from"], found["to"]) == (first, "v-next")
    assert (named["from"], named["to"]) == (first, first)
    assert f"in shadow, against {first}" in shown
    assert "the autopilot would wait: 0 of" in shown
    assert figures["trial"]["sampled"] == {"rows": 0, "mean_ratio": None, "unsound": 0}
    assert rta("show", "register", "--json")["trial"] is None
    with pytest.raises(InvalidInput, match="register: has no other version"):
        rta("diff", "register")
    with pytest.raises(UnknownName, match="no version was ever uploaded"):
        rta("diff", "nothing")


def test_stop_and_archive_end_what_is_not_needed(rta: Rta, settings: Settings) -> None:
    _release(settings, Command(Action.SHADOW, (("trade", "v-next"),)))

    stopped = rta("stop", "--json")["releases"][0]

    assert stopped["shadow"] == []
    with pytest.raises(InvalidInput, match="not a previous version"):
        rta("archive", "trade@v-next")


def test_going_live_waits_for_a_second_person_where_that_is_asked_for(
    rta: Rta, settings: Settings
) -> None:
    mine = rta("live", "trade@v-next", "--skip", two_persons=True)
    waiting = rta("approvals", "--json")["pending"][0]
    with pytest.raises(NotAllowed, match="a second person"):
        rta("approve", waiting["pending_id"])
    withdrawn = rta("withdraw", waiting["pending_id"])
    with pytest.raises(InvalidInput, match="somebody else approve"):
        rta("publish", settings.data_dir / "trained", two_persons=True)
    theirs = _wish(settings, Actor("ci", Role.ADMIN))
    listed = rta("approvals")
    approved = rta("approve", theirs.pending_id, "--json")["releases"][0]

    assert f"rta models approve {waiting['pending_id']}" in mine
    assert "withdrawn: live trade@v-next without a canary" in withdrawn
    assert theirs.pending_id in listed
    assert "pending_id" in listed
    assert "v-next" in {ref["version"] for ref in approved["models"]}
    assert f"approved by {who()}" in rta("log", "--count", 1, "--json")["entries"][0]["what"]


def test_wrong_words_are_named(rta: Rta) -> None:
    for words, error in (
        (("shadow", "trade@"), InvalidInput),
        (("shadow", "@v1"), InvalidInput),
        (("shadow", "trade@v404"), UnknownName),
        (("show", "nothing"), UnknownName),
        (("canary", "trade", "--share", "0.00000001"), InvalidInput),
        (("canary", "trade", "--share", "nan"), InvalidInput),
        (("approve", "w404"), UnknownName),
    ):
        with pytest.raises(error):
            rta(*words)


def test_what_one_may_not_do_is_wrong_use_and_no_failure() -> None:
    def refuse() -> None:
        raise NotAllowed("a second person must approve")

    assert run(refuse) == EXIT_WRONG_INPUT


def _release(settings: Settings, command: Command) -> Release:
    with wiring.open_shelf(settings) as shelf:
        desk = wiring.rollouts(settings, lambda: shelf, SystemClock())
        outcome = desk.act(command, Actor("ci", Role.ADMIN))
    assert isinstance(outcome, Release)
    return outcome


def _wish(settings: Settings, asker: Actor) -> Pending:
    careful = settings.model_copy(update={"two_person_approval": True})
    with wiring.open_shelf(careful) as shelf:
        desk = wiring.rollouts(careful, lambda: shelf, SystemClock())
        wish = desk.act(Command(Action.LIVE, (("trade", "v-next"),), skip=True), asker)
    assert isinstance(wish, Pending)
    return wish
