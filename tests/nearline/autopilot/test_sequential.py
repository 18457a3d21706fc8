"""Tests that may be looked at any time: their error is bounded over all looks together."""

from math import exp, expm1, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from rta_service.nearline.autopilot.sequential import (
    Interval,
    calibration_interval,
    mean_interval,
    miscalibrated,
    share_above,
    too_few,
    too_many,
    widening,
    wrong_split,
)

ALPHA = 0.1
RUNS = 200
# 200 runs at a true rate of 0.1 exceed this once in a thousand times
MOST = ALPHA + 3.1 * (ALPHA * (1.0 - ALPHA) / RUNS) ** 0.5

counts = st.integers(0, 5_000)
amounts = st.floats(1.0, 5_000.0)


def looks(steps: NDArray[Any], every: int) -> NDArray[np.float64]:
    """Sum up the columns of [runs, rows] and look at every so many rows."""
    return np.cumsum(steps, axis=1)[:, every - 1 :: every]


def share_of_runs_that_reach(wagers: list[list[float]]) -> float:
    return float(np.mean([max(run) >= log(1.0 / ALPHA) for run in wagers]))


@pytest.mark.parametrize("truth", [1.0 / 1.1, 1.0, 1.1])
def test_a_model_within_its_margin_is_seldom_called_miscalibrated_at_any_of_many_looks(
    truth: float,
) -> None:
    rng = np.random.default_rng(1)
    promised = rng.uniform(0.01, 0.15, (RUNS, 4_000))
    hits = looks(rng.random(promised.shape) < promised / truth, 100)
    sums = looks(promised, 100)
    allowed = Interval(1.0 / 1.1, 1.1)

    wagers = [
        [miscalibrated(h, p, allowed) for h, p in zip(*run, strict=True)]
        for run in zip(hits, sums, strict=True)
    ]

    assert share_of_runs_that_reach(wagers) <= MOST


def test_a_looker_at_every_step_is_misled_by_an_ordinary_test_but_not_by_the_wager() -> None:
    rng = np.random.default_rng(2)
    hits = looks(rng.random((RUNS, 8_000)) < 0.05, 160)
    rows = 160.0 * np.arange(1, hits.shape[1] + 1)

    naive = np.abs(hits / rows - 0.05) > 1.645 * np.sqrt(0.05 * 0.95 / rows)
    wagers = [
        [
            np.logaddexp(too_many(h, 0.05 * n), too_few(h, 0.05 * n)) - log(2.0)
            for h, n in zip(run, rows, strict=True)
        ]
        for run in hits
    ]

    assert naive.any(axis=1).mean() > 3.0 * ALPHA
    assert share_of_runs_that_reach(wagers) <= MOST


def test_the_mean_interval_holds_at_all_looks_together() -> None:
    rng = np.random.default_rng(3)
    values = rng.exponential(1.0, (RUNS, 10_000)) - 1.0  # skewed, mean 0
    rows = 100.0 * np.arange(1, 101)
    means = looks(values, 100) / rows
    errors = np.sqrt((looks(values**2, 100) / rows - means**2) / rows)
    widths = np.array([widening(n, ALPHA, 4_000.0) for n in rows])

    missed = (np.abs(means) > widths * errors).any(axis=1)

    assert missed.mean() <= MOST


def test_the_calibration_interval_holds_at_all_looks_together() -> None:
    rng = np.random.default_rng(4)
    hits = looks(rng.random((40, 8_000)) < 0.05, 400)
    promised = 0.06 * 400.0 * np.arange(1, hits.shape[1] + 1)

    missed = [
        any(
            not interval.low <= 1.2 <= interval.high
            for interval in (
                calibration_interval(h, p, ALPHA) for h, p in zip(run, promised, strict=True)
            )
        )
        for run in hits
    ]

    assert np.mean(missed) <= ALPHA + 3.1 * (ALPHA * (1.0 - ALPHA) / 40) ** 0.5


def test_a_right_split_of_people_is_seldom_called_wrong_at_any_of_many_looks() -> None:
    rng = np.random.default_rng(5)
    met = np.cumsum(rng.binomial(20_000, 0.001, (RUNS, 60)), axis=1)
    everybody = 20_000 * np.arange(1, 61)

    wagers = [
        [wrong_split(int(n - c), int(c), 0.001) for c, n in zip(run, everybody, strict=True)]
        for run in met
    ]

    assert share_of_runs_that_reach(wagers) <= MOST


def test_a_share_at_its_limit_is_seldom_called_above_it_at_any_of_many_looks() -> None:
    rng = np.random.default_rng(6)
    hits = looks(rng.random((RUNS, 3_000)) < 0.02, 50)

    wagers = [
        [share_above(int(h), 50 * (look + 1), 0.02) for look, h in enumerate(run)] for run in hits
    ]

    assert share_of_runs_that_reach(wagers) <= MOST


def test_each_test_finds_what_it_is_for() -> None:
    enough = log(1.0 / 0.001)

    assert too_many(3_000, 2_600.0) > enough
    assert too_few(2_600, 3_000.0) > enough
    assert miscalibrated(3_000, 3_600.0, Interval(1.0 / 1.1, 1.1)) > enough
    assert miscalibrated(3_600, 3_000.0, Interval(1.0 / 1.1, 1.1)) > enough
    assert share_above(60, 1_000, 0.02) > enough
    assert wrong_split(99_000, 1_300, 0.01) > enough


@given(st.lists(st.tuples(st.floats(0.001, 0.5), st.booleans()), max_size=60))
def test_the_wager_is_the_mean_of_bets_placed_row_by_row(rows: list[tuple[float, bool]]) -> None:
    capital = []
    for bet in np.geomspace(0.005, 2.0, 24):
        money = 1.0
        for chance, hit in rows:
            money *= exp(bet * hit - chance * expm1(bet))
        capital.append(money)

    found = too_many(sum(hit for _, hit in rows), sum(chance for chance, _ in rows))

    assert found == pytest.approx(log(np.mean(capital)), abs=1e-9)


@given(counts, amounts, amounts)
def test_more_expected_never_speaks_for_too_many(hits: int, one: float, other: float) -> None:
    less, more = sorted((one, other))

    assert too_many(hits, more) <= too_many(hits, less) + 1e-9
    assert too_few(hits, more) >= too_few(hits, less) - 1e-9


@given(counts, amounts, st.floats(0.001, 0.2))
def test_the_calibration_interval_holds_the_observed_ratio(
    hits: int, promised: float, alpha: float
) -> None:
    low, high = calibration_interval(hits, promised, alpha)

    assert low < promised / max(hits, 0.5) < high


@given(counts, amounts)
def test_a_surer_interval_is_wider(hits: int, promised: float) -> None:
    sure, surer = (calibration_interval(hits, promised, alpha) for alpha in (0.05, 0.005))

    assert surer.low <= sure.low
    assert surer.high >= sure.high


def test_nothing_promised_says_nothing() -> None:
    assert calibration_interval(0, 0.0, 0.05) == (0.0, float("inf"))


def test_looking_always_costs_less_than_twice_the_width_of_one_look() -> None:
    assert 1.2 * 1.96 < widening(2_000.0, 0.05, 2_000.0) < 2.0 * 1.96


def test_a_mean_interval_is_even_on_both_sides() -> None:
    assert mean_interval(1.0, 0.5, 3.0) == (-0.5, 2.5)
