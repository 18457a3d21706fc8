"""Metrics agree with their definitions, counted pair by pair."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.scoring.metrics import auc, log_loss, pcoc

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
