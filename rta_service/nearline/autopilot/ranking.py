"""How well two models order the same rows, from counts of their scores' bins alone.

DeLong, DeLong, Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
characteristic curves" (Biometrics 1988), on binned scores: rows of one bin count as ties.
"""

from math import sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rta_service.nearline.autopilot.evidence import SCORE_BINS, counts

_DECILES: Final = 10
_EMPTY: Final = 0.5
"""Stands for the rows of an empty bin, so that its logarithm is finite."""


class RankingGap(NamedTuple):
    """Both AUCs, and the candidate's less the live one's with its standard error."""

    live: float
    candidate: float
    difference: float
    error: float


def ranking_gap(positive_pairs: list[int], negative_pairs: list[int]) -> RankingGap | None:
    """Compare two models on matured rows counted by [live bin, candidate bin]; None without both
    labels.
    """
    positives = counts(positive_pairs).reshape(SCORE_BINS, SCORE_BINS)
    negatives = counts(negative_pairs).reshape(SCORE_BINS, SCORE_BINS)
    if not positives.any() or not negatives.any():
        return None
    live_auc, candidate_auc = (_auc(positives.sum(axis), negatives.sum(axis)) for axis in (1, 0))
    # a positive's placement is the share of negatives below it, and the other way round
    of_positives = _below(negatives.sum(0))[None, :] - _below(negatives.sum(1))[:, None]
    of_negatives = _below(positives.sum(1))[:, None] - _below(positives.sum(0))[None, :]
    variance = _mean_error(of_positives, positives) + _mean_error(of_negatives, negatives)
    return RankingGap(live_auc, candidate_auc, candidate_auc - live_auc, sqrt(variance))


def stability_index(live: list[int], candidate: list[int]) -> float:
    """Population stability index of two histograms, over tenths of the live one.

    A limit, not a test: of n rows each, noise alone gives about 20 / n.
    """
    one, other = counts(live), counts(candidate)
    below = np.cumsum(one) - one / 2.0
    tenths = np.minimum((below * _DECILES / max(one.sum(), 1)).astype(np.int64), _DECILES - 1)
    first, second = (
        np.maximum(np.bincount(tenths, weights=column, minlength=_DECILES), _EMPTY)
        for column in (one, other)
    )
    first, second = first / first.sum(), second / second.sum()
    return float(np.sum((second - first) * np.log(second / first)))


def _auc(positives: NDArray[np.int64], negatives: NDArray[np.int64]) -> float:
    return float(positives @ _below(negatives) / positives.sum())


def _below(histogram: NDArray[np.int64]) -> NDArray[np.float64]:
    """Give each bin's share of rows below it, half of its own included."""
    return np.asarray((np.cumsum(histogram) - histogram / 2.0) / histogram.sum())


def _mean_error(values: NDArray[np.float64], weights: NDArray[np.int64]) -> float:
    """Give the squared error of the mean of values that occur so often."""
    total = weights.sum()
    mean = (values * weights).sum() / total
    return float(((values - mean) ** 2 * weights).sum() / total**2)
