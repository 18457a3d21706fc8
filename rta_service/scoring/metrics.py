"""How good probabilities are: order (AUC), surprise (log loss), level (PCOC)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatColumn = NDArray[np.float64]

_SMALLEST = 1e-12
"""Keeps the log finite where a model was certain and wrong."""


def auc(labels: NDArray[Any], scores: FloatColumn) -> float:
    """Give the chance that a positive outranks a negative, ties counting half.

    Labels are 0 or 1, both of length n. Mann-Whitney's U from mean ranks. Raises ValueError
    unless both kinds of label occur.
    """
    positives = int(np.count_nonzero(labels))
    negatives = len(labels) - positives
    if not positives or not negatives:
        raise ValueError(f"AUC needs both labels: {positives} positives, {negatives} negatives")
    _, codes, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean_rank = last - (counts - 1) / 2.0
    rank_sum = float(mean_rank[codes][np.asarray(labels) > 0].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)


def log_loss(labels: NDArray[Any], probabilities: FloatColumn) -> float:
    """Give the mean of -log of the probability that was given to what happened."""
    chance = np.clip(probabilities, _SMALLEST, 1.0 - _SMALLEST)
    return float(-np.mean(np.where(np.asarray(labels) > 0, np.log(chance), np.log1p(-chance))))


def pcoc(labels: NDArray[Any], probabilities: FloatColumn) -> float:
    """Give mean prediction over observed rate: 1 is calibrated, above 1 promises too much.

    Raises ValueError without a positive label, for which the ratio says nothing.
    """
    positives = np.count_nonzero(labels)
    if not positives:
        raise ValueError("PCOC needs at least one positive")
    return float(np.sum(probabilities) / positives)
