import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.access import Actor, Role
from rta_service.domain.errors import InvalidInput, ModelRefused, NotAllowed
from rta_service.domain.release import ModelRef
from rta_service.domain.rollout import MILLION, Action
from rta_service.nearline.autopilot.evidence import Evidence, Split
from rta_service.nearline.autopilot.observing import Observation, observe, time_calls
from rta_service.nearline.autopilot.policy import Policy, Step
from rta_service.releasing.autopilot_run import AUTOPILOT, Autopilot, Rules
from rta_service.releasing.outcomes import Outcomes
from rta_service.releasing.shadow_ledger import Observed
from rta_service.releasing.trial_figures import figures_of
from rta_service.releasing.trials import trials_of
from rta_service.scoring.calibration import Calibration
from rta_service.stores.autopilot_store import LEASE_MS, AutopilotStore
from rta_service.stores.trial_store import TrialStore

ADMIN = Actor("anna", Role.ADMIN)
QUICK = Policy(
    ladder=(
        Step(0, people=0, positives=1_000, minutes=60),
        Step(1_000, people=300, positives=1_000, minutes=60),
        Step(10_000, people=3_000, positives=1_000, minutes=60),
        Step(100_000, people=30_000, positives=1_000, minutes=60),
    ),
    pcoc_margin=1.25,
    segment_margin=1.5,
    loss_margin=0.05,
    auc_margin=0.03,
    claim_margin=0.08,
    money_margin=0.15,
    arm_margin=1.5,
    arm_money_margin=0.5,
)
"""Wider margins than usual: what is tested here is who acts when, on a few thousand outcomes."""


@pytest.fixture
def a_greedy_one(town: Any, one_head: Any) -> ModelRef:
    """The live model, promising half too much."""
    x, y = one_head.calibration.x, one_head.calibration.y
    higher = Calibration(x, tuple(min(value * 1.6, 0.999) for value in y))
    ref: ModelRef = town.publish("register", "greedy", calibration=higher)
    return ref


def a_pilot(town: Any, deputy: Any, place: str = "host-1", *, on: bool = True) -> Autopilot:
    return Autopilot(town.shelves, deputy, town.clock, Rules(place, on, QUICK))


@pytest.fixture
def pilot(town: Any, deputy: Any) -> Autopilot:
    return a_pilot(town, deputy)


Bring = Callable[[], None]


@pytest.fixture
def bring(town: Any, keys: KeyRing, outcome_lines: Callable[..., list[bytes]]) -> Bring:
    """Lets outcomes of the true chances come in: about 1,300 positives."""

    def take() -> None:
        outcomes = Outcomes(town.shelves, keys, town.clock)
        outcomes.take(outcome_lines(4_000), "growth")

    return take


def seen_by_shadows(town: Any, people: int = 0) -> None:
    """Leave what a host's sampled traffic would say: sound scores, equal times, fair shares."""
    for trial in trials_of(town.release()):
        chance = np.random.default_rng(3)
        rows = 5_000
        scores = chance.beta(2.0, 8.0, rows)
        canary = town.release().canary
        share = canary.share_millionths if canary else 0
        batch = Observation(
            live_scores=scores,
            candidate_scores=scores,
            is_candidate=chance.random(rows) < share / MILLION,
            participated=np.ones(rows, dtype=bool),
            bid_micros=np.zeros(rows),
            latency_us=np.full(rows, 900.0),
        )
        empty = Evidence(trial.live.version, trial.candidate.version)
        evidence = time_calls(observe(empty, batch), np.full(200, 9.0), np.full(200, 9.0))
        if share:
            live = round(people * (MILLION / share - 1.0))
            evidence = msgspec.structs.replace(evidence, people={str(share): Split(live, people)})
        observed = Observed(trial.phase.value, town.clock.now_ms() - 7_200_000, 0, evidence)
        store = TrialStore(town.shelf.client, town.shelf.namespace)
        store.keep_observed(trial.key, "host-1", msgspec.json.encode(observed))


def test_a_good_candidate_climbs_the_ladder(
    town: Any,
    deputy: Any,
    pilot: Autopilot,
    bring: Bring,
    a_good_one: ModelRef,
) -> None:
    town.shadow(a_good_one)
    bring()
    shares = []
    for people in (0, 400, 4_000, 40_000):
        seen_by_shadows(town, people)
        look = pilot.look()
        assert look is not None
        assert look.judgement.action == "promote", look.judgement.reasons
        shares.append(look.judgement.share_millionths)
        town.clock.pass_s(7_200)

    assert shares == [1_000, 10_000, 100_000, MILLION]
    assert a_good_one in town.release().models
    assert town.release().canary is None
    assert {who for _, who in deputy.wishes} == {AUTOPILOT}
    assert "calibration" in deputy.wishes[0][0].why


def test_a_candidate_that_promises_too_much_is_stopped_in_shadow(
    town: Any,
    deputy: Any,
    pilot: Autopilot,
    bring: Bring,
    a_greedy_one: ModelRef,
) -> None:
    town.shadow(a_greedy_one)
    bring()
    seen_by_shadows(town)

    look = pilot.look()

    assert look is not None
    assert look.judgement.action == "roll_back"
    assert town.release().shadow == ()
    command, who = deputy.wishes[0]
    assert (command.action, who.name) == (Action.STOP, "autopilot")
    assert "calibration" in command.why


def test_a_canary_that_turns_bad_is_rolled_back(
    town: Any,
    deputy: Any,
    pilot: Autopilot,
    bring: Bring,
    a_greedy_one: ModelRef,
) -> None:
    town.shadow(a_greedy_one)
    town.canary(10_000, a_greedy_one)
    bring()

    pilot.look()

    assert deputy.wishes[0][0].action is Action.ROLLBACK
    assert town.release().canary is None
    assert town.release().models == town.live


def test_without_evidence_it_waits_and_says_what_is_lacking(
    town: Any, deputy: Any, pilot: Autopilot, a_good_one: ModelRef
) -> None:
    town.shadow(a_good_one)

    look = pilot.look()

    assert look is not None
    assert (look.judgement.action, look.done) == ("wait", "waits")
    assert any("0 of 1,000 matured positives" in reason for reason in look.judgement.reasons)
    assert deputy.wishes == []
    assert pilot.status().last == look
    assert pilot.status().on_trial == (f"register@{a_good_one.version}",)


def test_nothing_happens_while_it_is_off(town: Any, deputy: Any, a_greedy_one: ModelRef) -> None:
    town.shadow(a_greedy_one)
    pilot = a_pilot(town, deputy, on=False)

    assert pilot.look() is None
    assert deputy.wishes == []
    assert pilot.status().last is None
    assert not pilot.status().switch.on
    assert AutopilotStore(town.shelf.client, town.shelf.namespace).take_lease("other") == 1


def test_an_admin_switches_it_everywhere_with_a_reason_in_the_audit_log(
    town: Any, deputy: Any, a_good_one: ModelRef
) -> None:
    town.shadow(a_good_one)
    one, other = (a_pilot(town, deputy, place, on=False) for place in ("host-1", "host-2"))

    one.switch(ADMIN, "the team is away", on=True)

    assert other.status().switch.on
    assert other.status().switch.who == "anna"
    assert other.look() is not None
    entry = town.shelf.releases.audit(1)[0]
    assert (entry.who, entry.action, entry.what, entry.why) == (
        "anna",
        "autopilot",
        "on",
        "the team is away",
    )
    other.switch(ADMIN, "back again", on=False)
    assert one.look() is None


def test_only_an_admin_with_a_reason_may_switch_it(pilot: Autopilot) -> None:
    with pytest.raises(NotAllowed, match="admin"):
        pilot.switch(Actor("otto", Role.OPERATOR), "why not", on=True)
    with pytest.raises(InvalidInput, match="why"):
        pilot.switch(ADMIN, " ", on=True)


def test_one_host_runs_it_until_it_ends_or_dies(
    town: Any, deputy: Any, a_good_one: ModelRef
) -> None:
    town.shadow(a_good_one)
    one, other = (a_pilot(town, deputy, place) for place in ("host-1", "host-2"))

    assert one.look() is not None
    assert other.look() is None
    one.give_up()
    assert other.look() is not None
    assert one.look() is None


def test_a_host_that_slept_through_its_lease_is_told(town: Any) -> None:
    store = AutopilotStore(town.shelf.client, town.shelf.namespace)
    slept = store.take_lease("host-1", life_ms=30)
    time.sleep(0.06)
    now = store.take_lease("host-2")

    assert (slept, now) == (1, 2)
    assert not store.keep_last("host-1", slept, b"old")
    assert store.keep_last("host-2", now, b"new")
    store.give_back("host-1")
    assert store.take_lease("host-2", LEASE_MS) == 2
    assert store.last() == b"new"


def test_with_two_person_approval_the_last_step_waits_for_a_person(
    town: Any,
    deputy: Any,
    pilot: Autopilot,
    bring: Bring,
    a_good_one: ModelRef,
) -> None:
    deputy.two_person = True
    town.shadow(a_good_one)
    town.canary(100_000, a_good_one)
    town.clock.pass_s(7_200)
    bring()
    seen_by_shadows(town, 40_000)

    look = pilot.look()

    assert look is not None
    assert "waits for a second person (p1)" in look.done
    assert town.release().canary is not None


def test_a_wish_about_a_release_that_moved_is_not_done(
    town: Any,
    deputy: Any,
    bring: Bring,
    a_greedy_one: ModelRef,
) -> None:
    town.shadow(a_greedy_one)
    bring()

    class Slow:
        """Somebody else moves the release before the wish arrives."""

        def act(self, command: Any, who: Actor) -> Any:
            town.move(msgspec.structs.replace(town.release(), note="moved"))
            return deputy.act(command, who)

    look = a_pilot(town, Slow()).look()

    assert look is not None
    assert look.done.startswith("could not stop: ")
    assert town.release().shadow == (a_greedy_one,)


def test_a_head_that_predicts_money_is_left_to_people(
    town: Any, deputy: Any, pilot: Autopilot
) -> None:
    ref = town.publish("trade", "v2", kind="value")
    town.shadow(ref)

    with pytest.raises(ModelRefused):
        town.shelf.heads.load(town.shelf.models_folder, ref)
    look = pilot.look()

    assert look is not None
    assert look.judgement.action == "wait"
    assert "can't be loaded here" in look.judgement.reasons[0]


def test_models_that_move_together_are_judged_together(
    town: Any,
    deputy: Any,
    pilot: Autopilot,
    bring: Bring,
    a_good_one: ModelRef,
) -> None:
    town.shadow(a_good_one, town.publish("trade", "v2"))
    bring()
    seen_by_shadows(town)

    look = pilot.look()

    assert look is not None
    assert look.models["register@good"].action == "promote"
    assert look.models["trade@v2"].action == "wait"
    assert look.judgement.action == "wait"
    assert deputy.wishes == []


def test_after_a_restart_it_goes_on_from_what_is_known(
    town: Any,
    deputy: Any,
    pilot: Autopilot,
    bring: Bring,
    a_good_one: ModelRef,
) -> None:
    town.shadow(a_good_one)
    bring()
    seen_by_shadows(town)
    pilot.look()
    town.clock.pass_s(7_200)
    seen_by_shadows(town, 400)

    again = a_pilot(town, deputy).look()

    assert again is not None
    assert (again.judgement.action, again.judgement.share_millionths) == ("promote", 10_000)
    assert again.done.startswith("canary: release r")


def test_people_see_what_the_autopilot_would_judge_by_though_it_is_off(
    town: Any, bring: Bring, a_greedy_one: ModelRef
) -> None:
    town.shadow(a_greedy_one)
    town.canary(10_000, a_greedy_one)
    bring()
    seen_by_shadows(town, people=400)

    found = figures_of(town.shelf, town.release(), a_greedy_one, town.clock.now_ms())

    assert found is not None
    assert (found["phase"], found["against"], found["share_millionths"]) == ("canary", "v1", 10_000)
    assert found["sampled"] == {"rows": 5_000, "mean_ratio": pytest.approx(1.0), "unsound": 0}
    assert found["outcomes"]["rows"] == 4_000
    assert found["outcomes"]["live_pcoc"] == pytest.approx(1.0, abs=0.1)
    assert found["outcomes"]["candidate_pcoc"] == pytest.approx(1.5, abs=0.2)
    assert found["people"] == {"live": 39_600, "candidate": 400}
    assert found["arms"]["live"]["decided"] > found["arms"]["candidate"]["decided"] > 0
    assert found["autopilot"]["action"] == "roll_back"
    assert {one["guard"]: one["state"] for one in found["guards"]}["calibration"] == "alarm"
    assert figures_of(town.shelf, town.release(), town.live[0], 0) is None
    assert json.loads(json.dumps(found)) == found
