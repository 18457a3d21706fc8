"""Each guard finds the harm it is for, and is quiet about a good candidate."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pytest

from rta_service.nearline.autopilot.evidence import ArmRecord, Evidence, Level, Split
from rta_service.nearline.autopilot.guards import GUARDS, TESTS, read_guards
from rta_service.nearline.autopilot.observing import count_people, observe, settle, time_calls
from rta_service.nearline.autopilot.policy import Policy, Step
from rta_service.nearline.autopilot.reading import Reading, State

POLICY = Policy()


def read(evidence: Evidence, guard: str, **changes: Any) -> Reading:
    readings = read_guards(evidence, POLICY, **changes)
    return next(reading for reading in readings if reading.guard == guard)


def alarms(evidence: Evidence) -> set[str]:
    return {one.guard for one in read_guards(evidence, POLICY) if one.state is State.ALARM}


def test_a_good_candidate_is_cleared_by_every_guard(market: Any) -> None:
    readings = read_guards(market.evidence(), POLICY, claimed_gap=0.003)

    assert {one.guard: one.state for one in readings if one.state is not State.CLEAR} == {}


def test_without_evidence_the_paired_guards_are_unsure(market: Any) -> None:
    readings = read_guards(Evidence("v1", "v2"), POLICY, claimed_gap=0.0)

    unsure = {one.guard for one in readings if one.state is State.UNSURE}
    assert unsure == {
        *("calibration", "segments", "log_loss", "auc", "claim"),
        *("money", "drift", "scoring_time"),
    }
    assert len(readings) == len(GUARDS) == TESTS + 2


@pytest.mark.parametrize("factor", [1.25, 0.8])
def test_scores_that_are_a_fifth_off_are_miscalibrated(market: Any, factor: float) -> None:
    evidence = market.evidence(spoil=lambda scores: np.minimum(scores * factor, 1.0))

    assert "calibration" in alarms(evidence)


def test_conversions_that_fall_for_everybody_are_not_the_candidates_fault(market: Any) -> None:
    batch = market.outcomes(60_000)
    fewer = np.asarray(batch.labels) & (market.rng.random(60_000) < 0.75)

    evidence = settle(Evidence("v1", "v2"), replace(batch, labels=fewer))

    reading = read(evidence, "calibration")
    assert reading.figure is not None
    assert reading.figure > 1.25
    assert reading.state is State.CLEAR


def test_a_candidate_that_mends_the_live_models_level_is_cleared(market: Any) -> None:
    batch = market.outcomes(60_000)

    evidence = settle(Evidence("v1", "v2"), replace(batch, live_scores=0.8 * batch.live_scores))

    reading = read(evidence, "calibration")
    assert reading.state is State.CLEAR
    assert "1.25" in reading.words


def test_one_segment_that_is_far_off_is_found_among_good_ones(market: Any) -> None:
    batch = market.outcomes(60_000)
    spoiled = np.asarray(batch.segments) == "growth/json"
    scores = np.where(spoiled, np.minimum(1.6 * batch.candidate_scores, 1.0), 0.0)
    scores = np.where(spoiled, scores, 0.8 * batch.candidate_scores)

    evidence = settle(Evidence("v1", "v2"), replace(batch, candidate_scores=scores))

    reading = read(evidence, "segments")
    assert reading.state is State.ALARM
    assert "growth/json" in reading.words


def test_scores_of_other_people_are_found_by_order_surprise_and_money(market: Any) -> None:
    evidence = market.evidence(spoil=market.rng.permutation)

    assert {"log_loss", "auc", "money"} <= alarms(evidence)


def test_an_auc_that_only_the_manifest_knows_is_a_leak(market: Any) -> None:
    evidence = market.evidence()

    assert read(evidence, "claim", claimed_gap=0.15).state is State.ALARM
    assert read(evidence, "claim", claimed_gap=0.0).state is State.CLEAR
    assert read(evidence, "claim").state is State.CLEAR


@pytest.mark.parametrize(
    ("spoil", "state"),
    [
        (lambda scores: np.minimum(1.55 * scores, 1.0), State.UNSURE),
        (lambda scores: np.minimum(3.0 * scores, 1.0), State.ALARM),
        (lambda scores: np.full_like(scores, 0.1), State.ALARM),
        (np.zeros_like, State.ALARM),
    ],
)
def test_scores_that_are_distributed_otherwise_wait_or_stop(
    market: Any, spoil: Callable[[np.ndarray], np.ndarray], state: State
) -> None:
    evidence = observe(Evidence("v1", "v2"), market.observation(5_000, spoil))

    assert read(evidence, "drift").state is state


def test_any_score_that_is_no_probability_stops(market: Any) -> None:
    batch = market.observation(100)
    batch.candidate_scores[0] = np.nan

    assert "soundness" in alarms(observe(Evidence("v1", "v2"), batch))


@pytest.mark.parametrize(
    ("slowness", "state"), [(1.1, State.CLEAR), (1.5, State.UNSURE), (2.0, State.ALARM)]
)
def test_scoring_that_takes_longer_than_the_margin_stops(
    market: Any, slowness: float, state: State
) -> None:
    live, candidate = market.rng.lognormal(3.0, 0.2, (2, 40))

    evidence = time_calls(Evidence("v1", "v2"), live, candidate * slowness)

    assert read(evidence, "scoring_time").state is state


def test_slow_decisions_of_its_arm_stop_unless_the_live_arm_is_as_slow(market: Any) -> None:
    half = np.arange(2_000) % 2 == 0
    slow = np.where(np.arange(2_000) % 20 < 2, 50_000.0, 4_000.0)
    of_it = market.observation(2_000, is_candidate=half, latency_us=np.where(half, slow, 4_000.0))
    of_all = market.observation(2_000, is_candidate=half, latency_us=slow)

    assert "slow_decisions" in alarms(observe(Evidence("v1", "v2"), of_it))
    assert "slow_decisions" not in alarms(observe(Evidence("v1", "v2"), of_all))


def test_a_split_of_people_that_chance_does_not_make_stops() -> None:
    evidence = Evidence("v1", "v2")

    right = count_people(evidence, 10_000, Split(99_000, 1_010))
    wrong = count_people(evidence, 10_000, Split(99_000, 1_300))

    assert read(right, "sample_ratio").state is State.CLEAR
    assert read(wrong, "sample_ratio").state is State.ALARM


def test_promises_that_its_own_arm_does_not_keep_stop() -> None:
    live = ArmRecord(matured=50_000, positives=2_500, promised=2_500.0)
    arm = ArmRecord(matured=5_000, positives=100, promised=250.0)

    evidence = Evidence("v1", "v2", arm_live=live, arm_candidate=arm)

    assert read(evidence, "arm_calibration").state is State.ALARM


@pytest.mark.parametrize(("price", "state"), [(1.0, State.CLEAR), (4.0, State.ALARM)])
def test_an_arm_that_buys_too_dear_stops(market: Any, price: float, state: State) -> None:
    market = replace(market, arm_share=0.1)
    batch = market.outcomes(60_000)
    cost = batch.cost_micros * np.where(batch.is_candidate, price, 1.0)

    evidence = settle(Evidence("v1", "v2"), replace(batch, cost_micros=cost))

    assert read(evidence, "arm_money").state is state


def test_a_reading_can_be_kept_as_json(market: Any) -> None:
    readings = read_guards(market.evidence(2_000), POLICY)

    kept = msgspec.json.decode(msgspec.json.encode(readings), type=tuple[Reading, ...])

    assert kept == readings


def test_segments_without_any_conversion_can_be_read() -> None:
    evidence = Evidence("v1", "v2", levels={"a": Level(rows=100, live=0.1, candidate=0.2)})

    assert read(evidence, "segments").figure is None


@pytest.mark.parametrize(
    "changes",
    [
        {"ladder": ()},
        {"ladder": (Step(10, 0, 1, 0),)},
        {"ladder": (Step(0, 0, 1, 0), Step(0, 0, 1, 0))},
        {"ladder": (Step(0, 0, 1, 0), Step(1_000_000, 0, 1, 0))},
        {"ladder": (Step(0, 0, 0, 0),)},
        {"false_stop": 0.0},
        {"false_pass": 1.0},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"ladder|first step|false_stop"):
        Policy(**changes)
