"""How well two models order the same rows, from counts of their scores' bins alone.

DeLong, DeLong, Clarke-Pearson, "Comparing the areas under two or more correlated receiver operating
characteristic curves" (Biometrics 1988), on binned scores: rows of one bin count as ties.
"""

from math import sqrt
from typing import Final, NamedTuple

import numpy as np

from rta_service.nearline.autopilot.evidence import counts
from rta_service.nearline.autopilot.pairs import FloatTable, Pairs

_DECILES: Final = 10
_SPREAD: Final = 5
_EMPTY: Final = 0.5
"""Stands for the rows of an empty bin, so that its logarithm is finite."""


class RankingGap(NamedTuple):
    """Both AUCs, and the candidate's less the live one's with its standard error."""

    live: float
    candidate: float
    difference: float
    error: float


def ranking_gap(pairs: Pairs) -> RankingGap | None:
    """Compare two models on matured rows, evenly weighted; None without rows of both labels."""
    each = pairs.even
    positives, negatives = pairs.positives * each, pairs.negatives * each
    if not positives.any() or not negatives.any():
        return None
    live_auc, candidate_auc = (_auc(positives.sum(axis), negatives.sum(axis)) for axis in (1, 0))
    # a positive's placement is the share of negatives below it, and the other way round
    of_positives = _below(negatives.sum(0))[None, :] - _below(negatives.sum(1))[:, None]
    of_negatives = _below(positives.sum(1))[:, None] - _below(positives.sum(0))[None, :]
    errors = (
        _mean_error(of_positives, positives, each),
        _mean_error(of_negatives, negatives, each),
    )
    return RankingGap(live_auc, candidate_auc, candidate_auc - live_auc, sqrt(sum(errors)))


def stability_index(live: list[int], candidate: list[int]) -> float:
    """Population stability index of two histograms of scores, over tenths of the live one.

    Of blurred ones: strangers have one score in common, and the least shift of it would carry them
    all over an edge. A limit, not a test: of n rows each, noise alone gives about 20 / n.
    """
    one, other = (_blurred(counts(scores).astype(np.float64)) for scores in (live, candidate))
    below = np.cumsum(one) - one / 2.0
    tenths = np.minimum((below * _DECILES / max(one.sum(), 1)).astype(np.int64), _DECILES - 1)
    first, second = (
        np.maximum(np.bincount(tenths, weights=column, minlength=_DECILES), _EMPTY)
        for column in (one, other)
    )
    first, second = first / first.sum(), second / second.sum()
    return float(np.sum((second - first) * np.log(second / first)))


def _blurred(histogram: FloatTable) -> FloatTable:
    """Spread each bin over the five around it: factors from 2/3 to 3/2, as in `scoring.drift`."""
    spread = np.convolve(histogram, np.full(_SPREAD, 1.0 / _SPREAD))
    kept = spread[_SPREAD // 2 : len(histogram) + _SPREAD // 2].copy()
    kept[0] += spread[: _SPREAD // 2].sum()
    kept[-1] += spread[len(histogram) + _SPREAD // 2 :].sum()
    return kept


def _auc(positives: FloatTable, negatives: FloatTable) -> float:
    return float(positives @ _below(negatives) / positives.sum())


def _below(histogram: FloatTable) -> FloatTable:
    """Give each bin's share of rows below it, half of its own included."""
    return np.asarray((np.cumsum(histogram) - histogram / 2.0) / histogram.sum())


def _mean_error(values: FloatTable, rows: FloatTable, weights: FloatTable) -> float:
    """Give the squared error of the mean of values; `rows` are counts times weights."""
    total = rows.sum()
    mean = (values * rows).sum() / total
    return float(((values - mean) ** 2 * rows * weights).sum() / total**2)
