"""The delay law is learnt while most conversions are still to come."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from numpy.typing import NDArray

from rta_service.nearline.control.ageing import AgedSums
from rta_service.nearline.control.delay import (
    BINS,
    EDGES_S,
    DelayEvidence,
    DelayLaw,
    bins,
    fit,
    from_rows,
    pooled,
    reached,
    weibull,
)

Floats = NDArray[np.float64]
HOUR = 3_600.0


def watched(
    seed: int, *, mean_s: float, wins: int, now_s: float, scale: float = 1.0, shape: float = 1.0
) -> DelayEvidence:
    """Win at even times until now; a hundredth of the wins converts after a random delay."""
    rng = np.random.default_rng(seed)
    won = np.linspace(0.0, now_s, wins, endpoint=False)
    due = won + mean_s * rng.weibull(shape, wins)
    due[rng.random(wins) >= 0.01 * scale] = np.nan
    due[due > now_s] = np.nan
    return from_rows(won, due, np.full(wins, 0.01), now_s)


def test_a_law_is_found_though_most_conversions_have_not_come() -> None:
    evidence = watched(1, mean_s=8 * HOUR, wins=100_000, now_s=8 * HOUR)

    law = fit(evidence)

    naive = np.cumsum(evidence.arrived) / evidence.arrived.sum()
    four_hours = float(law.matured(np.array([4 * HOUR]))[0])
    assert four_hours == pytest.approx(1.0 - np.exp(-0.5), abs=0.08)
    assert naive[np.searchsorted(EDGES_S, 4 * HOUR)] > four_hours + 0.2


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_badly_scaled_predictions_leave_the_law_as_it_is(scale: float) -> None:
    evidence = watched(2, mean_s=2 * HOUR, wins=150_000, now_s=24 * HOUR, scale=scale)

    assert fit(evidence).mean_s == pytest.approx(2 * HOUR, rel=0.15)


def test_a_steep_start_is_found_too() -> None:
    evidence = watched(3, mean_s=HOUR, wins=150_000, now_s=48 * HOUR, shape=0.6)

    law = fit(evidence)

    early = float(law.matured(np.array([600.0]))[0])
    assert early == pytest.approx(1.0 - np.exp(-((1 / 6) ** 0.6)), abs=0.05)


def test_without_evidence_a_unit_has_its_parents_law() -> None:
    parent = weibull(5 * HOUR, 0.8)
    nothing = DelayEvidence(np.zeros(BINS), np.zeros(BINS))

    assert np.allclose(fit(nothing, parent).shares, parent.shares, atol=1e-9)


def test_a_parent_holds_what_is_too_young_to_know_and_gives_way_to_evidence() -> None:
    parent = weibull(HOUR)
    few = fit(watched(4, mean_s=4 * HOUR, wins=1_000, now_s=12 * HOUR), parent)
    many = fit(watched(4, mean_s=4 * HOUR, wins=200_000, now_s=12 * HOUR), parent)

    assert HOUR < few.mean_s < many.mean_s
    assert float(many.matured(np.array([2 * HOUR]))[0]) == pytest.approx(0.39, abs=0.05)


def test_evidence_of_units_adds_up_to_their_parents() -> None:
    one, other = (watched(seed, mean_s=HOUR, wins=20_000, now_s=12 * HOUR) for seed in (5, 6))

    both = one + other

    assert both.arrived.sum() == one.arrived.sum() + other.arrived.sum()
    assert fit(both).mean_s == pytest.approx(HOUR, rel=0.2)


def test_units_that_predict_differently_teach_the_same_law_together() -> None:
    hasty = watched(5, mean_s=2 * HOUR, wins=50_000, now_s=24 * HOUR, scale=2.0)
    modest = watched(6, mean_s=2 * HOUR, wins=50_000, now_s=2 * HOUR, scale=0.5)

    together = fit(pooled([hasty, modest]))

    assert together.mean_s == pytest.approx(2 * HOUR, rel=0.1)
    assert abs(fit(hasty + modest).mean_s / HOUR - 2) > abs(together.mean_s / HOUR - 2)


def test_a_pool_of_nothing_is_nothing() -> None:
    assert pooled([]).arrived.sum() == 0.0


@settings(max_examples=50)
@given(
    st.lists(st.integers(0, 500), min_size=BINS, max_size=BINS),
    st.lists(st.floats(0, 1e4), min_size=BINS, max_size=BINS),
    st.booleans(),
)
def test_a_law_is_always_a_law(arrived: list[int], seen: list[float], shrunk: bool) -> None:
    evidence = DelayEvidence(np.array(arrived, float), np.array(seen))

    law = fit(evidence, weibull(HOUR) if shrunk else None)

    matured = law.matured(np.geomspace(1.0, 1e7, 50))
    assert law.shares.sum() == pytest.approx(1.0)
    assert (law.shares >= 0).all()
    assert (np.diff(matured) >= 0).all()
    assert matured[0] >= 0
    assert matured[-1] <= 1


def likelihood(law: Floats, evidence: DelayEvidence, parent: Floats, scale: float) -> float:
    """Write the module's model down: Poisson counts, fifty pseudo-conversions, a gamma prior."""
    due = scale * evidence.reached * law
    return float(
        (evidence.arrived * np.log(scale * law)).sum()
        - due.sum()
        + (50.0 * parent * np.log(law)).sum()
        + 10.0 * (np.log(scale) - scale)
    )


def test_no_neighbour_of_the_fitted_law_is_likelier() -> None:
    evidence = watched(7, mean_s=3 * HOUR, wins=50_000, now_s=6 * HOUR)
    parent = weibull(HOUR, 0.8).shares + 1e-9
    law = fit(evidence, DelayLaw(parent / parent.sum())).shares
    scale = (10.0 + evidence.arrived.sum()) / (10.0 + evidence.reached @ law)
    best = likelihood(law, evidence, parent, scale)
    rng = np.random.default_rng(8)

    for _ in range(50):
        near = law * np.exp(rng.normal(0.0, 0.05, BINS))
        near_scale = scale * float(np.exp(rng.normal(0.0, 0.05)))
        assert likelihood(near / near.sum(), evidence, parent, near_scale) < best


def test_sums_by_age_give_the_same_evidence_as_rows() -> None:
    won = np.arange(0, 36_000, 10)
    sums = AgedSums(1)
    sums.add(won * 1_000, np.ones((len(won), 1), np.int64))
    sums.roll(36_000_000)

    rough = reached(sums, sums.sums[:, 0].astype(float))
    exact = from_rows(won.astype(float), np.full(len(won), np.nan), np.ones(len(won)), 36_000.0)

    assert np.allclose(rough, exact.reached, atol=0.01 * len(won))


def test_a_delay_falls_into_its_bin() -> None:
    counts = bins(np.array([0.0, 5.0, 1e9, -3.0]))

    assert counts[0] == 3
    assert counts[-1] == 1
