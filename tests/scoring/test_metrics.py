"""Metrics agree with their definitions, counted pair by pair."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.scoring.metrics import (
    auc,
    evaluate,
    gamma_loss,
    log_loss,
    normalised_gini,
    pcoc,
)

samples = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9, 1.0])),
    min_size=2,
    max_size=40,
).filter(lambda rows: 0 < sum(label for label, _ in rows) < len(rows))


@given(samples)
def test_auc_is_the_share_of_pairs_in_order(rows: list[tuple[bool, float]]) -> None:
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))

    found = auc(labels, scores)

    wins = [
        (good > bad) + 0.5 * (good == bad) for good in scores[labels] for bad in scores[~labels]
    ]
    assert found == pytest.approx(sum(wins) / len(wins))


def test_auc_needs_both_labels() -> None:
    with pytest.raises(ValueError, match="2 positives, 0 negatives"):
        auc(np.array([1, 1]), np.array([0.1, 0.2]))


@given(samples)
def test_log_loss_is_the_mean_surprise(rows: list[tuple[bool, float]]) -> None:
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))

    found = log_loss(labels, scores)

    surprises = [-math.log(max(p if hit else 1.0 - p, 1e-12)) for hit, p in rows]
    assert found == pytest.approx(sum(surprises) / len(rows), rel=1e-4)


def test_pcoc_is_mean_prediction_over_observed_rate() -> None:
    labels = np.array([1, 0, 0, 0])

    assert pcoc(labels, np.array([0.5, 0.5, 0.25, 0.25])) == 1.5


def test_pcoc_without_a_positive_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one positive"):
        pcoc(np.array([0, 0]), np.array([0.1, 0.1]))


@given(samples)
def test_the_gini_of_yes_and_no_is_twice_the_auc_less_one(rows: list[tuple[bool, float]]) -> None:
    labels, scores = (np.array(column) for column in zip(*rows, strict=True))

    assert normalised_gini(labels, scores) == pytest.approx(2 * auc(labels, scores) - 1)


def test_the_gini_of_amounts_is_one_for_their_own_order_and_minus_one_for_the_reverse() -> None:
    amounts = np.array([1.0, 5.0, 2.0, 9.0])

    assert normalised_gini(amounts, amounts * 3) == pytest.approx(1.0)
    assert normalised_gini(amounts, -amounts) == pytest.approx(-1.0)


@pytest.mark.parametrize("amounts", [[2.0, 2.0], [0.0, 0.0]])
def test_amounts_without_an_order_have_no_gini(amounts: list[float]) -> None:
    with pytest.raises(ValueError, match="amounts that differ"):
        normalised_gini(np.array(amounts), np.array([1.0, 2.0]))


def test_the_gamma_loss_is_least_for_what_was_paid() -> None:
    amounts = np.array([1e6, 4e6, 9e6])

    assert gamma_loss(amounts, amounts) == pytest.approx(0.0)
    assert gamma_loss(amounts, amounts * 0) > gamma_loss(amounts, amounts * 1.5) > 0.0


def test_a_value_head_is_judged_by_amounts_and_a_probability_by_labels() -> None:
    amounts, predictions = np.array([1e6, 4e6, 9e6]), np.array([2e6, 3e6, 10e6])
    labels, chances = np.array([0, 1, 1]), np.array([0.2, 0.4, 0.9])

    value = evaluate("value", amounts, predictions)
    chance = evaluate("probability", labels, chances)

    assert (value.rows, value.positives) == (3, 3)
    assert value.gini == pytest.approx(1.0)
    assert value.pcoc == pytest.approx(15 / 14)
    assert value.log_loss == gamma_loss(amounts, predictions)
    assert (chance.rows, chance.positives, chance.auc) == (3, 2, 1.0)
    assert chance.log_loss == log_loss(labels, chances)
