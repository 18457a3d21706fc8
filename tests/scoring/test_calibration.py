"""The calibration map is monotone, stays a probability, and keeps the observed rates."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.scoring.calibration import (
    SMALLEST,
    Calibration,
    calibrate,
    calibrate_one,
    fit_calibration,
    fit_mean_calibration,
)

scores = st.integers(min_value=0, max_value=1_000).map(lambda n: n / 1_000)
labelled = st.lists(st.tuples(scores, st.booleans()), min_size=1, max_size=200)


def _fit(rows: list[tuple[float, bool]], min_positives: int) -> Calibration:
    raw, labels = (np.array(column) for column in zip(*rows, strict=True))
    return fit_calibration(raw, labels, min_positives)


@given(labelled, st.integers(1, 20), scores, scores)
def test_a_higher_score_never_gets_a_lower_probability(
    rows: list[tuple[float, bool]], min_positives: int, one: float, other: float
) -> None:
    calibration = _fit(rows, min_positives)

    low, high = calibrate(np.array(sorted((one, other))), calibration)

    assert SMALLEST <= low <= high <= 1.0 - SMALLEST


@given(labelled, st.integers(1, 20), st.lists(st.floats(0.0, 1.0), min_size=1))
def test_the_fast_map_equals_the_plain_one(
    rows: list[tuple[float, bool]], min_positives: int, raw: list[float]
) -> None:
    calibration = _fit(rows, min_positives)

    fast = calibrate(np.array(raw), calibration)

    assert fast == pytest.approx([calibrate_one(one, calibration) for one in raw], abs=1e-12)


def test_a_model_that_promises_double_is_halved() -> None:
    chance = np.random.default_rng(1)
    truth = chance.beta(2.0, 20.0, 40_000)
    labels = chance.random(len(truth)) < truth

    calibrated = calibrate(2.0 * truth, fit_calibration(2.0 * truth, labels))

    assert calibrated.mean() == pytest.approx(labels.mean(), rel=0.01)
    assert np.abs(calibrated - truth).mean() < 0.01


def test_few_positives_keep_the_order_of_the_scores() -> None:
    raw = np.linspace(0.01, 0.2, 100)
    labels = np.arange(100) % 10 == 9

    calibrated = calibrate(raw, fit_calibration(raw, labels))

    assert (np.diff(calibrated) > 0).all()
    assert calibrated.mean() == pytest.approx(0.1, rel=0.01)


def test_no_positive_at_all_gives_the_smallest_probability() -> None:
    calibration = fit_calibration(np.array([0.1, 0.2]), np.array([0, 0]))

    assert calibrate_one(0.15, calibration) == SMALLEST


def test_outside_the_knots_the_map_is_flat() -> None:
    calibration = Calibration((0.1, 0.2), (0.1, 0.3))

    ends = [calibrate_one(raw, calibration) for raw in (0.0, 0.9)]

    assert ends == calibrate(np.array([0.0, 0.9]), calibration).tolist() == [0.1, 0.3]


@pytest.mark.parametrize(
    ("x", "y", "reason"),
    [
        ((), (), "at least one"),
        ((0.1,), (0.1, 0.2), "as many"),
        ((0.2, 0.1), (0.1, 0.2), "x must rise"),
        ((0.1, float("nan")), (0.1, 0.2), "x must rise"),
        ((0.1, 0.2), (0.2, 0.1), "y must not fall"),
        ((0.1, 0.2), (-0.2, 0.1), "not negative"),
    ],
)
def test_knots_that_are_no_calibration_are_refused(
    x: tuple[float, ...], y: tuple[float, ...], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        Calibration(x, y)


def test_a_calibration_survives_being_written() -> None:
    calibration = Calibration((0.0, 0.1), (0.0, 0.3))

    assert msgspec.json.decode(msgspec.json.encode(calibration), type=Calibration) == calibration


amounts = st.lists(st.tuples(st.floats(0.1, 9.0), st.floats(1.0, 1e12)), min_size=1, max_size=200)


@given(amounts, st.integers(1, 50))
def test_means_rise_with_the_prediction_and_lie_among_the_amounts(
    rows: list[tuple[float, float]], min_rows: int
) -> None:
    raw, paid = (np.array(column) for column in zip(*rows, strict=True))

    calibration = fit_mean_calibration(raw, paid, min_rows)

    found = calibrate(np.sort(raw), calibration)
    assert (np.diff(found) >= 0.0).all()
    assert paid.min() * 0.999 <= found[0] <= found[-1] <= paid.max() * 1.001
    assert len(calibration.x) <= max(len(rows) // min_rows, 1)


def test_each_knot_of_means_is_the_mean_of_its_rows() -> None:
    chance = np.random.default_rng(3)
    raw = chance.uniform(1.0, 3.0, 20_000)
    paid = chance.gamma(2.0, raw * 1e7)

    found = calibrate(raw, fit_mean_calibration(raw, paid))

    for low in (1.0, 1.5, 2.0, 2.5):
        part = (raw >= low) & (raw < low + 0.5)
        assert found[part].mean() == pytest.approx(paid[part].mean(), rel=0.03)
