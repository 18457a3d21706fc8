"""Moving versions: step by step, by those who may, on what was decided on, with a second person."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from rta_service.domain.access import Actor, Role
from rta_service.domain.audit import AuditEntry
from rta_service.domain.command import Command, Pending
from rta_service.domain.errors import InvalidInput, NotAllowed, OutOfDate, UnknownName
from rta_service.domain.release import Canary, Release
from rta_service.domain.rollout import Action
from rta_service.releasing.desk import Desk
from rta_service.releasing.publishing import Change, publish
from rta_service.releasing.rollouts import Rollouts
from rta_service.stores.model_folder import find_entry

NOW_MS = 1_717_286_500_000
ANN, BOB = Actor("ann", Role.OPERATOR), Actor("bob", Role.OPERATOR)
CHIEF, GUEST = Actor("chief", Role.ADMIN), Actor("guest", Role.VIEWER)
V2 = (("trade", "v2"),)


@dataclass
class Ticking:
    """A clock that moves on whenever it is read."""

    now: int = field(default=NOW_MS)

    def now_ms(self) -> int:
        self.now += 1
        return self.now

    def monotonic_s(self) -> float:
        return self.now / 1000


@pytest.fixture
def rollouts(stage: Any) -> Rollouts:
    return Rollouts(lambda: stage.shelf, Ticking())


@pytest.fixture
def careful(stage: Any) -> Rollouts:
    """The desk of a service that wants two persons for going live."""
    return Rollouts(lambda: stage.shelf, Ticking(), two_person=True)


def _phases(rollouts: Rollouts) -> dict[str, str]:
    return {f"{s.name}@{s.version}": s.phase.value for s in rollouts.models()}


def _set_up(stage: Any, **changes: object) -> Release:
    """Let a release decide at once that would take its steps seconds to come to."""
    release: Release = stage.draft(release_id="r2", **changes)
    stage.shelf.releases.publish(release, AuditEntry(NOW_MS, "cli:ann", "publish", "as it was"))
    return release


def _canary(stage: Any, share: int) -> Canary:
    return Canary((stage.new,), share, NOW_MS, {"s@json": 0.04})


def _released(outcome: Release | Pending) -> Release:
    assert isinstance(outcome, Release)
    return outcome


def test_a_version_goes_all_the_way_and_the_audit_log_tells_it(
    rollouts: Rollouts, stage: Any
) -> None:
    seen = []
    for command in (
        Command(Action.SHADOW, (("trade", ""),), why="new month"),  # the newest
        Command(Action.CANARY, V2, 1_000, why="shadow agrees"),
        Command(Action.CANARY, share_millionths=100_000, why="wider"),
        Command(Action.LIVE, why="better by 2 %"),
        Command(Action.ARCHIVE, (("trade", "v1"),), why="done"),
    ):
        rollouts.act(command, ANN)
        phases = _phases(rollouts)
        seen.append((phases["trade@v1"], phases["trade@v2"]))

    assert seen == [
        ("live", "shadow"),
        ("live", "canary"),
        ("live", "canary"),
        ("previous", "live"),
        ("archived", "live"),
    ]
    entries = rollouts.log(5)[::-1]
    assert [(e.who, e.action, e.why) for e in entries] == [
        ("ann", "shadow", "new month"),
        ("ann", "canary", "shadow agrees"),
        ("ann", "canary", "wider"),
        ("ann", "live", "better by 2 %"),
        ("ann", "archive", "done"),
    ]
    assert entries[1].what == "canary trade@v2 for 0.1 % of people"
    assert entries[3].what == "live trade@v2 (trade v1 -> v2)"
    assert [entries[i].release_id for i in range(4)] == [
        entries[i + 1].previous_id for i in range(4)
    ]
    assert stage.shelf.releases.verify_audit() is None


def test_shares_say_for_whom_each_version_decides(rollouts: Rollouts, stage: Any) -> None:
    _set_up(stage, canary=_canary(stage, 250_000))

    shares = {f"{s.name}@{s.version}": s.share_millionths for s in rollouts.models()}

    assert shares == {"register@v1": 1_000_000, "trade@v1": 750_000, "trade@v2": 250_000}


def test_a_rollback_brings_the_previous_version_back_and_keeps_the_other_warm(
    rollouts: Rollouts, stage: Any
) -> None:
    live = (stage.register, stage.new)
    _set_up(stage, models=live, previous=(stage.old,), mean_values={"s@json": 0.04})

    back = _released(rollouts.act(Command(Action.ROLLBACK, why="worse"), ANN))

    assert stage.old in back.models
    assert back.previous == (stage.new,)
    assert back.mean_values == pytest.approx(stage.first.mean_values)
    assert back.rolled_back == (stage.new,)
    with pytest.raises(InvalidInput, match="rta models live trade@v2 --skip"):
        rollouts.act(Command(Action.ROLLBACK), ANN)
    on_purpose = _released(rollouts.act(Command(Action.LIVE, V2, skip=True, why="sure"), CHIEF))
    assert stage.new in on_purpose.models


def test_a_stopped_canary_leaves_the_live_models_alone(rollouts: Rollouts, stage: Any) -> None:
    _set_up(stage, canary=_canary(stage, 10))

    stopped = _released(rollouts.act(Command(Action.STOP), ANN))

    assert (stopped.canary, stopped.models) == (None, stage.first.models)
    assert stopped.note == rollouts.log(1)[0].what == "stop (canary trade v2 ends)"
    assert _phases(rollouts)["trade@v2"] == "staged"


@pytest.mark.parametrize(
    ("command", "who", "error", "said"),
    [
        (Command(Action.SHADOW, V2), GUEST, NotAllowed, "needs the role operator"),
        (Command(Action.LIVE, V2, skip=True), ANN, NotAllowed, "needs the role admin"),
        (Command(Action.SHADOW, (("trade", "v9"),)), ANN, UnknownName, "rta models list"),
        (Command(Action.SHADOW, (("none", ""),)), ANN, UnknownName, "rta models push"),
        (Command(Action.SHADOW, (("../x", "v1"),)), ANN, UnknownName, "not registered"),
        (Command(Action.SHADOW, V2, release_id="r0"), ANN, OutOfDate, "r1 decides now"),
        (Command(Action.SHADOW), ANN, InvalidInput, "name one version"),
        (Command(Action.CANARY, V2, 5), ANN, InvalidInput, "must be in shadow"),
        (Command(Action.CANARY, V2, 0), ANN, InvalidInput, "share"),
        (Command(Action.CANARY, share_millionths=5), ANN, InvalidInput, "no canary is running"),
        (Command(Action.LIVE), ANN, InvalidInput, "no canary is running"),
        (Command(Action.LIVE, V2), ANN, InvalidInput, "run one first"),
        (Command(Action.LIVE, V2, 5), ANN, InvalidInput, "only a canary has a share"),
        (Command(Action.STOP, V2), ANN, InvalidInput, "takes no models"),
        (Command(Action.STOP), ANN, InvalidInput, "neither a canary"),
        (Command(Action.ROLLBACK), ANN, InvalidInput, "no live model has a previous"),
        (Command(Action.SHADOW, V2, skip=True), CHIEF, InvalidInput, "only going live"),
        (Command(Action.ARCHIVE, V2), ANN, InvalidInput, "not a previous version"),
    ],
)
def test_what_may_not_or_can_not_be_done_changes_nothing(
    command: Command,
    who: Actor,
    error: type[Exception],
    said: str,
    *,
    rollouts: Rollouts,
    stage: Any,
) -> None:
    with pytest.raises(error, match=said):
        rollouts.act(command, who)

    assert stage.shelf.releases.current() == stage.first
    assert len(rollouts.log(9)) == 1


def test_before_the_first_release_the_message_says_what_to_do(shelf: Any) -> None:
    rollouts = Rollouts(lambda: shelf, Ticking())

    with pytest.raises(InvalidInput, match="rta models publish"):
        rollouts.act(Command(Action.STOP), ANN)
    assert rollouts.current() is None
    assert rollouts.models() == []


def test_going_live_waits_for_a_second_person(careful: Rollouts, stage: Any) -> None:
    asked = careful.act(Command(Action.LIVE, V2, skip=True, why="urgent"), CHIEF)

    assert isinstance(asked, Pending)
    assert careful.pending() == [asked]
    assert stage.shelf.releases.current() == stage.first
    for who in (CHIEF, Actor("chief", Role.OPERATOR), GUEST):
        with pytest.raises(NotAllowed):
            careful.approve(asked.pending_id, who)

    release = careful.approve(asked.pending_id, BOB)

    assert stage.new in release.models
    assert careful.pending() == []
    live, ask, _ = careful.log(3)
    assert (live.who, live.action, live.why) == ("chief", "live", "urgent")
    assert "approved by bob" in live.what
    assert (ask.who, ask.action, ask.release_id) == ("chief", "ask", "")


def test_the_same_wish_waits_once_and_nobody_approves_it_by_asking_too(careful: Rollouts) -> None:
    first = careful.act(Command(Action.LIVE, V2, skip=True, why="one"), CHIEF)
    second = careful.act(Command(Action.LIVE, V2, skip=True, why="two"), Actor("eve", Role.ADMIN))

    assert second == first
    assert careful.pending() == [first]


def test_an_approval_is_for_the_release_it_was_asked_on(careful: Rollouts, stage: Any) -> None:
    asked = careful.act(Command(Action.LIVE, V2, skip=True), CHIEF)
    assert isinstance(asked, Pending)
    _set_up(stage, shadow=(stage.new,))

    with pytest.raises(OutOfDate, match="decides now"):
        careful.approve(asked.pending_id, BOB)
    with pytest.raises(OutOfDate, match="was asked on r1"):
        careful.approve(asked.pending_id, BOB, decided_on="r2")
    assert careful.pending() == []  # nobody can approve it any more, so it is not offered
    assert stage.old in careful.current().models  # type: ignore[union-attr]  # there is one


def test_the_way_back_never_waits(careful: Rollouts, stage: Any) -> None:
    live = (stage.register, stage.new)
    _set_up(stage, models=live, previous=(stage.old,), shadow=(stage.old,))

    assert isinstance(careful.act(Command(Action.STOP), ANN), Release)
    assert isinstance(careful.act(Command(Action.ROLLBACK), CHIEF), Release)


def test_a_withdrawn_wish_can_not_be_approved(careful: Rollouts) -> None:
    asked = careful.act(Command(Action.LIVE, V2, skip=True), CHIEF)
    assert isinstance(asked, Pending)
    with pytest.raises(NotAllowed):
        careful.withdraw(asked.pending_id, GUEST)

    assert careful.withdraw(asked.pending_id, ANN) == asked

    with pytest.raises(UnknownName):
        careful.approve(asked.pending_id, BOB)
    assert careful.pending() == []
    assert careful.log(1)[0].action == "withdraw"


def test_a_version_shows_all_that_is_known_of_it(rollouts: Rollouts, stage: Any) -> None:
    shown = rollouts.show("trade", "v2")
    newest = rollouts.show("trade")

    assert newest["state"]["name"] == "trade"
    assert shown["state"]["phase"] == "staged"
    assert shown["trial"] is None
    assert shown["state"]["auc"] == shown["manifest"]["evaluation"]["auc"]
    assert shown["verdicts"] == []
    with pytest.raises(UnknownName):
        rollouts.show("trade", "v404")


def test_two_versions_are_compared_by_what_they_say_and_score(rollouts: Rollouts) -> None:
    found = rollouts.diff("trade", "v1", "v2")

    assert (found["from"], found["to"]) == ("v1", "v2")
    assert found["manifest"] == {"version": ["v1", "v2"]}
    assert found["forest"]["trees"] == [1, 1]
    assert found["calibration"]["at 0.5"] == [0.01, 0.04]
    assert found["scores"]["mean_ratio"] == pytest.approx(4.0)
    assert found["features"][0]["split_share"] == [1.0, 1.0]
    with pytest.raises(UnknownName):
        rollouts.diff("trade", "v1", "v404")


def test_a_version_that_was_published_straight_away_counts_as_having_been_live(
    stage: Any, rollouts: Rollouts
) -> None:
    publish(stage.shelf, Change(models=(stage.register, stage.new), who="cli:ann"), NOW_MS - 50)
    _set_up(stage, models=(stage.register, stage.old), previous=())

    entry = find_entry(stage.shelf.models_folder, "trade", "v2")

    assert entry is not None
    assert entry.was_live_ms == NOW_MS - 50
    assert _phases(rollouts)["trade@v2"] == "archived"


def test_a_whole_release_goes_back_only_from_the_one_it_was_decided_on(stage: Any) -> None:
    desk = Desk(lambda: stage.shelf, Ticking())
    rollouts = Rollouts(lambda: stage.shelf, Ticking())
    second = _set_up(stage, shadow=(stage.new,))

    with pytest.raises(OutOfDate, match="was decided on r1"):
        desk.rollback("ann", "", "r1")
    back = desk.rollback("ann", "by mistake", second.release_id)

    assert back.models == stage.first.models
    assert desk.current() == back
    assert rollouts.log(1)[0].why == "by mistake"
