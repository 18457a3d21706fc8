"""A day's money is paced along the day's traffic."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.domain.control import Budget
from rta_service.domain.errors import InvalidInput
from rta_service.nearline.control.budget import (
    Pace,
    day_gone,
    jump,
    learn_curve,
    plan_rate,
    slot_s,
    step,
)

DAY_MS = 86_400_000
curves = st.lists(st.floats(0.01, 10.0), min_size=1, max_size=48)


@given(curves, st.integers(0, DAY_MS - 1))
def test_who_follows_the_plan_spends_the_budget_to_the_end(curve: list[float], starts: int) -> None:
    budget = Budget(1_000_000_000, tuple(curve), day_starts_ms=starts)
    remaining, step_ms = 1e9, 60_000

    for now in range(starts, starts + DAY_MS, step_ms):
        remaining -= plan_rate(budget, now, remaining) * step_ms / 1_000.0

    assert -1e6 <= remaining <= 0.02e9


def test_a_plan_follows_the_traffic() -> None:
    budget = Budget(900, (1.0, 2.0, 0.0), day_ms=3_000)

    assert plan_rate(budget, 0, 900.0) == pytest.approx(300.0)
    assert plan_rate(budget, 1_000, 600.0) == pytest.approx(600.0)
    assert plan_rate(budget, 2_000, 10.0) == 0.0
    assert plan_rate(budget, 0, -5.0) == 0.0
    assert slot_s(budget) == pytest.approx(3 / 96)


def test_a_plan_that_reaches_over_midnight_saves_there_what_was_overspent() -> None:
    budget = Budget(900, (1.0, 2.0, 0.0), day_ms=3_000)

    assert plan_rate(budget, 0, 900.0, ahead_s=1.0) == pytest.approx(300.0)  # the day is longer
    assert plan_rate(budget, 0, 900.0, ahead_s=6.0) == pytest.approx(300.0)  # two days alike
    assert plan_rate(budget, 1_000, 0.0, ahead_s=5.0) == pytest.approx(900.0 / 5.0 * 2.0)
    assert plan_rate(budget, 1_000, -900.0, ahead_s=5.0) == 0.0


@given(st.floats(0.0, 1e9), st.floats(1.0, 1e9), st.floats(0.0, 900.0))
def test_a_step_is_bounded_and_goes_the_right_way(
    spent: float, planned: float, elapsed_s: float
) -> None:
    moved = step(0.0, Pace(1e9, planned, spent), elapsed_s, 900.0, 0.35)

    assert np.log(0.75) <= moved <= 0.35
    assert moved * (planned - spent) >= 0.0


def test_without_a_plan_the_pace_stays() -> None:
    assert step(0.7, Pace(0.0, 0.0, 5.0), 60.0, 900.0, 0.35) == 0.7
    assert Pace(0.0, 0.0, 5.0).spent


def test_a_changed_budget_rescales_at_once_but_not_without_bound() -> None:
    assert jump(100.0, 150.0) == pytest.approx(np.log(1.5))
    assert jump(100.0, 1_000.0) == 0.7
    assert jump(100.0, 1.0) == -0.7
    assert jump(0.0, 100.0) == 0.0


def test_a_curve_is_learnt_from_shares_of_days() -> None:
    days = np.array([[1.0, 3.0], [0.0, 0.0], [30.0, 10.0]])

    curve = learn_curve(days, half_life_days=2.0)

    assert sum(curve) == pytest.approx(1.0)
    assert curve[0] == pytest.approx(0.99 * (0.25 * 0.5 + 0.75) / 1.5 + 0.005)
    assert learn_curve(np.zeros((2, 4))) == (0.25,) * 4


@pytest.mark.parametrize("curve", [(), (-1.0, 2.0), (0.0,), (float("inf"),)])
def test_a_senseless_curve_is_refused(curve: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput):
        Budget(1, curve)


def test_a_day_is_gone_by_its_traffic_and_no_further_than_its_end() -> None:
    budget = Budget(900, (1.0, 3.0), day_starts_ms=500, day_ms=2_000)

    assert day_gone(budget, 500) == 0.0
    assert day_gone(budget, 1_500) == pytest.approx(0.25)
    assert day_gone(budget, 1_500, ahead_ms=500) == pytest.approx(0.625)
    assert day_gone(budget, 2_400, ahead_ms=500) == 1.0
