"""What predictions are worth, and what is still to come."""

from math import exp, lgamma, log

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.nearline.control.posterior import Evidence, chance_of_so_few, final, scale

amounts = st.floats(0.0, 5_000.0)


def test_the_scale_moves_from_neutral_to_what_was_seen() -> None:
    assert scale(Evidence(), 10.0) == 1.0
    assert scale(Evidence(matured=10.0, arrived=0.0), 10.0) == 0.5
    assert scale(Evidence(matured=1_000.0, arrived=2_000.0), 10.0) == pytest.approx(2.0, abs=0.02)


def test_late_conversions_count_before_they_come() -> None:
    half = Evidence(predicted=100.0, matured=50.0, arrived=50.0)

    assert final(half, 10.0, scale(half, 10.0)).mean == 100.0


@given(amounts, amounts, st.floats(0.0, 1.0))
def test_an_estimate_lies_in_its_interval_and_is_no_less_than_what_came(
    predicted: float, arrived: float, share: float
) -> None:
    evidence = Evidence(predicted=predicted, matured=share * predicted, arrived=arrived)

    seen = final(evidence, 10.0, scale(evidence, 10.0))

    assert arrived <= seen.low <= seen.high
    assert seen.low <= seen.mean * 1.001 or seen.mean - arrived < 1.0


def test_nine_of_ten_intervals_hold_the_truth() -> None:
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(2_000):
        kappa = rng.gamma(10.0, 0.1)
        evidence = Evidence(predicted=60.0, matured=20.0, arrived=rng.poisson(kappa * 20.0))
        seen = final(evidence, 10.0, scale(evidence, 10.0))
        inside.append(seen.low <= evidence.arrived + rng.poisson(kappa * 40.0) <= seen.high)

    assert 0.86 <= np.mean(inside) <= 0.94


@given(st.integers(0, 60), st.floats(0.1, 100.0), amounts, amounts)
def test_the_chance_of_so_few_is_the_negative_binomial_sum(
    came: int, predicted: float, arrived: float, matured: float
) -> None:
    before = Evidence(matured=matured, arrived=arrived)
    shape, rate = 10.0 + arrived, 10.0 + matured

    chance = chance_of_so_few(came, predicted, before, 10.0)

    plainly = sum(
        exp(
            lgamma(shape + k)
            - lgamma(shape)
            - lgamma(k + 1)
            + shape * log(rate / (rate + predicted))
            + k * log(predicted / (rate + predicted))
        )
        for k in range(came + 1)
    )
    assert chance == pytest.approx(1.0 if came >= predicted * shape / rate else plainly, rel=1e-6)
