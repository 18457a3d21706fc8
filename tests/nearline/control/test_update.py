"""The step of a multiplier: towards the target, no faster than allowed, by evidence."""

from dataclasses import replace
from math import log

import pytest
from hypothesis import given, strategies as st

from rta_service.domain.control import Limits, Reason
from rta_service.nearline.control.posterior import Evidence
from rta_service.nearline.control.update import (
    Move,
    Tuning,
    follow,
    probe,
    proven_surplus,
    ratios,
    step,
)

TUNING, LIMITS = Tuning(), Limits()
EVEN = Evidence(
    cost=50.0,
    predicted=50.0,
    matured=50.0,
    arrived=50.0,
    recent_cost=5.0,
    recent_predicted=5.0,
    gained=1.0,
)
amounts = st.floats(0.0, 1_000.0)
evidences = st.builds(
    Evidence, amounts, amounts, amounts, amounts, amounts, amounts, st.floats(0.0, 50.0)
)


def test_at_its_target_a_multiplier_stays() -> None:
    move = step(0.3, EVEN, TUNING, LIMITS, 60.0)

    assert move.log_multiplier == pytest.approx(0.3)
    assert move.reason is Reason.ON_TARGET


@pytest.mark.parametrize(
    ("cost", "reason", "sign"), [(0.9, Reason.TOO_CHEAP, 1.0), (1.1, Reason.TOO_DEAR, -1.0)]
)
def test_a_multiplier_moves_against_the_error(cost: float, reason: Reason, sign: float) -> None:
    off = replace(EVEN, cost=50.0 * cost, recent_cost=5.0 * cost)

    move = step(0.0, off, TUNING, LIMITS, 60.0)

    assert move.reason is reason
    assert move.log_multiplier * sign > 0.0


def test_conversions_that_have_not_come_yet_are_no_error() -> None:
    late = replace(EVEN, matured=10.0, arrived=10.0)

    assert step(0.0, late, TUNING, LIMITS, 60.0).reason is Reason.ON_TARGET


@given(evidences, st.floats(-2.5, 3.0), st.floats(0.0, 7_200.0))
def test_no_move_is_faster_than_the_limits_or_leaves_the_range(
    evidence: Evidence, level: float, elapsed_s: float
) -> None:
    move = step(level, evidence, TUNING, LIMITS, elapsed_s)

    assert LIMITS.lowest <= move.log_multiplier <= LIMITS.highest
    assert abs(move.log_multiplier - level) <= log(1.1) * elapsed_s / 60.0 + 1e-12
    assert abs(move.log_multiplier - level) <= TUNING.speed + 1e-12


@given(evidences, amounts)
def test_more_cost_never_raises_a_bid(evidence: Evidence, more: float) -> None:
    dearer = replace(evidence, cost=evidence.cost + more, recent_cost=evidence.recent_cost + more)

    cheap = step(0.0, evidence, TUNING, LIMITS, 60.0)
    dear = step(0.0, dearer, TUNING, LIMITS, 60.0)

    assert dear.log_multiplier <= cheap.log_multiplier + 1e-12


def test_a_debt_weighs_more_the_less_of_the_horizon_is_left() -> None:
    debtor = replace(EVEN, cost=60.0)

    owed = [ratios(replace(debtor, to_come=left), TUNING, 1.0).owed for left in (200.0, 50.0, 0.0)]

    assert 0.0 < owed[0] < owed[1] < owed[2] < log(2.0)


def test_short_and_long_steps_move_as_far_in_the_same_time() -> None:
    off = replace(EVEN, cost=45.0, recent_cost=4.5)

    one = step(0.0, replace(off, gained=0.05), TUNING, LIMITS, 600.0).log_multiplier
    ten = 10 * step(0.0, replace(off, gained=0.005), TUNING, LIMITS, 60.0).log_multiplier

    assert one == pytest.approx(ten)


def test_without_evidence_nothing_moves_until_a_probe() -> None:
    assert step(0.2, replace(EVEN, gained=0.0, cost=1.0), TUNING, LIMITS, 60.0) == Move(
        0.2, Reason.NO_EVIDENCE
    )
    assert probe(0.3, TUNING, 21_600.0) == Move(0.4, Reason.PROBING)
    assert probe(0.4, TUNING, 2_160.0) == Move(0.4, Reason.NO_EVIDENCE)


def test_dead_time_slows_the_loop() -> None:
    slow = replace(TUNING, dead_time_s=7_200.0)
    off = replace(EVEN, cost=45.0, recent_cost=4.5)

    fast_move = step(0.0, off, TUNING, LIMITS, 600.0).log_multiplier
    slow_move = step(0.0, off, slow, LIMITS, 600.0).log_multiplier

    assert slow.recent_s == 7_200.0
    assert 0.0 < slow_move < fast_move / 5.0


@given(st.lists(st.floats(-5.0, 5.0), min_size=1, max_size=4))
def test_no_loop_winds_up_beyond_the_active_one(wanted: list[float]) -> None:
    kept = follow(wanted, 0.5)

    assert min(kept) == min(wanted)
    assert max(kept) <= min(wanted) + 0.5
    assert all(keep <= want for keep, want in zip(kept, wanted, strict=True))


def test_a_surplus_is_proven_by_ten_conversions() -> None:
    assert proven_surplus(replace(EVEN, cost=40.0), TUNING)
    assert not proven_surplus(EVEN, TUNING)
    assert not proven_surplus(Evidence(cost=1.0, predicted=5.0), TUNING)


def test_a_level_at_its_limit_says_so() -> None:
    cheap = replace(EVEN, cost=1.0, recent_cost=0.1)

    assert step(3.0, cheap, TUNING, LIMITS, 60.0) == Move(3.0, Reason.LEVEL_LIMIT)
    assert step(0.0, cheap, TUNING, LIMITS, 60.0).reason is Reason.SPEED_LIMIT
    assert ratios(cheap, TUNING, 1.0).total < 0.1
