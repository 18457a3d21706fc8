import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from rta_service.scoring.drift import compare, stability_index

_SOME = arrays(np.float64, 40, elements={"min_value": 0.0, "max_value": 1.0})


@pytest.fixture(scope="module")
def live() -> np.ndarray:
    return np.random.default_rng(1).beta(1.0, 50.0, 20_000)


def test_a_model_does_not_drift_from_itself(live: np.ndarray) -> None:
    drift = compare(live, live)

    assert drift.rows == len(live)
    assert drift.psi == 0.0
    assert drift.mean_ratio == 1.0
    assert drift.mean_difference == 0.0
    assert drift.share_over == drift.live_share_over == pytest.approx(0.2)


def test_a_fifth_too_high_shows_in_the_mean_and_in_the_share_over(live: np.ndarray) -> None:
    drift = compare(live, live * 1.2)

    assert drift.mean_ratio == pytest.approx(1.2)
    assert drift.share_over > 0.25
    assert drift.mean_difference == pytest.approx(0.2 * live.mean())


def test_scores_of_other_people_are_told_by_the_index_alone(live: np.ndarray) -> None:
    spread = np.random.default_rng(2).uniform(0.0, 2.0 * live.mean(), len(live))

    assert compare(live, spread).mean_ratio == pytest.approx(1.0, abs=0.02)
    assert stability_index(live, spread) > 0.25


def test_equal_scores_are_spread_and_alike() -> None:
    drift = compare(np.full(100, 0.1), np.full(100, 0.1))

    assert drift.psi == 0.0
    assert 0.15 < drift.share_over == drift.live_share_over <= 0.2


def test_without_rows_or_without_any_chance_nothing_is_claimed() -> None:
    nothing = compare(np.empty(0), np.empty(0))
    never = compare(np.zeros(5), np.ones(5))

    assert nothing.rows == 0
    assert math.isnan(nothing.psi)
    assert math.isnan(never.mean_ratio)
    assert never.share_over == 1.0


@given(_SOME, _SOME)
def test_the_index_is_never_negative(one: np.ndarray, other: np.ndarray) -> None:
    assert stability_index(one, other) >= 0.0
