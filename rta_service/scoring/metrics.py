"""How good predictions are: order (AUC, Gini), surprise (log loss, deviance), level (PCOC)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from rta_service.domain.funnel import HeadKind
from rta_service.scoring.manifest import Evaluation

FloatColumn = NDArray[np.float64]

_Z99 = 2.5758
"""Normal deviate of a two-sided 99 %."""

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


def normalised_gini(amounts: NDArray[Any], predictions: FloatColumn) -> float:
    """Give how much of the order of amounts the predictions' order finds: 1 all, 0 none.

    Amounts are not negative, both [n]; ties take mean ranks. Gini of the amounts ranked by the
    predictions over that ranked by themselves (arXiv 1912.07753); of 0/1 labels it is
    2 AUC - 1. Raises ValueError when the amounts are all equal, which have no order.
    """
    own = _gini(amounts, np.asarray(amounts, dtype=np.float64))
    if own <= 0.0:
        raise ValueError("a Gini needs amounts that differ")
    return _gini(amounts, predictions) / own


def _gini(amounts: NDArray[Any], scores: FloatColumn) -> float:
    _, codes, counts = np.unique(scores, return_inverse=True, return_counts=True)
    mean_rank = (np.cumsum(counts) - (counts - 1) / 2.0)[codes]
    rows = len(amounts)
    total = float(np.sum(amounts))
    if total <= 0.0:
        return 0.0
    return float(2.0 * np.sum(mean_rank * amounts) / (rows * total) - (rows + 1) / rows)


def gamma_loss(amounts: NDArray[Any], predictions: FloatColumn) -> float:
    """Give half the mean gamma deviance, log(p / a) + a / p - 1: 0 where every amount was met.

    Amounts are positive; predictions below a millionth of their mean count as that.
    """
    return float(np.mean(gamma_losses(amounts, predictions)))


def gamma_losses(amounts: NDArray[Any], predictions: FloatColumn) -> FloatColumn:
    """Give `gamma_loss` row by row, [n]."""
    found = np.asarray(amounts, dtype=np.float64)
    ratio = found / np.maximum(predictions, 1e-6 * float(np.mean(found)))
    return np.asarray(ratio - np.log(ratio) - 1.0, dtype=np.float64)


def log_loss(labels: NDArray[Any], probabilities: FloatColumn) -> float:
    """Give the mean of -log of the probability that was given to what happened."""
    return float(np.mean(log_losses(labels, probabilities)))


def log_losses(labels: NDArray[Any], probabilities: FloatColumn) -> FloatColumn:
    """Give `log_loss` row by row, [n]."""
    chance = np.clip(probabilities, _SMALLEST, 1.0 - _SMALLEST)
    return -np.where(np.asarray(labels) > 0, np.log(chance), np.log1p(-chance))


def pcoc(labels: NDArray[Any], probabilities: FloatColumn) -> float:
    """Give mean prediction over observed rate: 1 is calibrated, above 1 promises too much.

    Raises ValueError without a positive label, for which the ratio says nothing.
    """
    positives = np.count_nonzero(labels)
    if not positives:
        raise ValueError("PCOC needs at least one positive")
    return float(np.sum(probabilities) / positives)


def evaluate(kind: HeadKind, labels: NDArray[Any], predictions: FloatColumn) -> Evaluation:
    """Judge calibrated predictions [n] of a head: what a manifest claims and a server recomputes.

    Of a value head, labels are positive amounts in micros: `auc` is (1 + normalised Gini) / 2,
    which for 0/1 labels is the AUC, `log_loss` the gamma loss, `pcoc` mean prediction over mean
    amount. Raises ValueError where the rows can't say: one kind of label, or equal amounts.
    """
    if kind == "value":
        return Evaluation(
            rows=len(labels),
            positives=int(np.count_nonzero(labels)),
            auc=(1.0 + normalised_gini(labels, predictions)) / 2.0,
            log_loss=gamma_loss(labels, predictions),
            pcoc=float(np.sum(predictions) / np.sum(labels)),
        )
    return Evaluation(
        rows=len(labels),
        positives=int(np.count_nonzero(labels)),
        auc=auc(labels, predictions),
        log_loss=log_loss(labels, predictions),
        pcoc=pcoc(labels, predictions),
    )


def pcoc_interval(
    labels: NDArray[Any], probabilities: FloatColumn, confidence: float = 0.99
) -> tuple[float, float]:
    """Bound the PCOC that so few positives allow, the sum of predictions taken as certain.

    Positives are counted as Poisson; the bounds of their mean are Garwood's (1936), from the
    gamma distribution. Raises ValueError without a positive label.
    """
    positives = np.count_nonzero(labels)
    if not positives:
        raise ValueError("PCOC needs at least one positive")
    tail = (1.0 - confidence) / 2.0
    fewest, most = gammaincinv(positives, tail), gammaincinv(positives + 1, 1.0 - tail)
    total = float(np.sum(probabilities))
    return total / float(most), total / float(fewest)


def auc_error(labels: NDArray[Any], area: float) -> float:
    """Give 2.58 standard errors of an AUC on 0/1 labels [n] (Hanley and McNeil 1982)."""
    positives = int(np.count_nonzero(labels))
    negatives = len(labels) - positives
    both_above, both_below = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    spread = area * (1.0 - area)
    spread += (positives - 1) * (both_above - area**2) + (negatives - 1) * (both_below - area**2)
    return _Z99 * float(np.sqrt(max(spread, 0.0) / (positives * negatives)))


def gini_error(amounts: NDArray[Any]) -> float:
    """Give 2.58 standard errors of a normalised Gini of predictions without any order.

    It is a correlation of ranks with amounts, 1 / sqrt(n), over the amounts' own.
    """
    ranks = np.argsort(np.argsort(amounts, kind="stable"), kind="stable")
    own = float(np.corrcoef(ranks, amounts)[0, 1])
    return _Z99 / float(np.sqrt(len(amounts))) / own
