"""The delay shapes: their means and their laws."""

import numpy as np
import pytest

from rta_service.simulation.wind_tunnel.delays import SHAPES, ShapeName

DRAWS = 200_000


@pytest.mark.parametrize("name", SHAPES)
def test_delays_have_the_mean_that_was_asked_for(name: ShapeName) -> None:
    delays = SHAPES[name].sample(np.random.default_rng(1), DRAWS, mean_s=3_000.0)

    assert delays.min() >= 0
    assert delays.mean() == pytest.approx(3_000.0, rel=0.02)


@pytest.mark.parametrize("name", SHAPES)
def test_the_matured_share_is_the_law_of_the_drawn_delays(name: ShapeName) -> None:
    delays = np.sort(SHAPES[name].sample(np.random.default_rng(2), DRAWS, mean_s=3_000.0))

    law = SHAPES[name].matured(delays, mean_s=3_000.0)

    # Kolmogorov's bound at 1e-6 for this many draws
    assert np.abs(law - np.arange(DRAWS) / DRAWS).max() < 2.7 / np.sqrt(DRAWS)
    assert SHAPES[name].matured(np.array([-5.0, 0.0]), mean_s=3_000.0).tolist() == [0.0, 0.0]


def test_trades_have_both_a_quick_part_and_a_long_tail() -> None:
    ages = np.array([0.05, 3.0])

    quick, late = SHAPES["days"].matured(ages, mean_s=1.0)

    assert quick > 0.25
    assert late < 0.98


def test_a_mean_of_zero_converts_at_once() -> None:
    assert not SHAPES["prompt"].sample(np.random.default_rng(1), 10, mean_s=0.0).any()
