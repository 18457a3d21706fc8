"""Tests that may be looked at after every row: the chance of ever being misled is bounded.

An e-value is a wager against a hypothesis: the money of one who began with 1 and could only lose
on average if it were true. By Ville's inequality (1939) the wager ever reaches 1/alpha with chance
alpha at most, whenever one looks. All are computed from sums, so that evidence merges in any order.

Counts: Howard, Ramdas, McAuliffe, Sekhon, "Time-uniform Chernoff bounds via nonnegative
supermartingales" (Probability Surveys 2020). Shares: Waudby-Smith, Ramdas, "Estimating means of
bounded random variables by betting" (JRSS B 2024). Means: Waudby-Smith, Arbour, Sinha, Kennedy,
Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences" (Annals of
Statistics 2024). Sample ratio: Lindon, Malek, "Anytime-valid inference for multinomial count data"
(NeurIPS 2022).
"""

from collections.abc import Callable
from math import inf, lgamma, log, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

BURN_IN: Final = 100
"""Positives before a test by the central limit theorem may speak."""

_WAGERS: Final = np.geomspace(0.005, 2.0, 24)
"""Sizes of the wagers that are mixed: for departures from a half per cent to sevenfold."""
_SHARE_WAGERS: Final = np.geomspace(0.01, 1.0, 24)
_HALVINGS: Final = 40


class Interval(NamedTuple):
    """Where a figure lies, at all looks together."""

    low: float
    high: float


EVERYWHERE: Final = Interval(-inf, inf)


def too_many(hits: float, expected: float) -> float:
    """Give the log e-value against "no more hits come than are expected".

    `expected` is the sum of the hits' chances at the most the hypothesis allows; a hit's
    exp(bet * hit) has a mean of at most exp(chance * (exp(bet) - 1)), whatever came before.
    """
    return _log_mean_exp(_WAGERS * hits - np.expm1(_WAGERS) * expected)


def too_few(hits: float, expected: float) -> float:
    """Give the log e-value against "no fewer hits come than are expected"."""
    return _log_mean_exp(-_WAGERS * hits - np.expm1(-_WAGERS) * expected)


def miscalibrated(hits: float, promised: float, allowed: Interval) -> float:
    """Give the log e-value against "promised over come lies within the allowed interval"."""
    both = (too_many(hits, promised / allowed.low), too_few(hits, promised / allowed.high))
    return _log_mean_exp(np.array(both))


def calibration_interval(hits: float, promised: float, alpha: float) -> Interval:
    """Give the values of promised over come that no wager of alpha/2 on their side refutes."""
    enough = log(2.0 / alpha)
    if promised <= 0.0:
        return Interval(0.0, inf)
    rate = max(hits, 0.5) / promised
    highest = _edge(lambda rate: too_few(hits, rate * promised) >= enough, rate, 2.0)
    lowest = _edge(lambda rate: too_many(hits, rate * promised) >= enough, rate, 0.5)
    return Interval(1.0 / highest, 1.0 / lowest if hits else inf)


def _edge(refuted: Callable[[float], bool], start: float, step: float) -> float:
    """Walk from an unrefuted value by factors until one is refuted, then halve the way between."""
    inside, outside = start, start * step
    for _ in range(_HALVINGS):
        if refuted(outside):
            break
        inside, outside = outside, outside * step
    for _ in range(_HALVINGS // 2):
        middle = sqrt(inside * outside)
        inside, outside = (inside, middle) if refuted(middle) else (middle, outside)
    return outside


def share_above(hits: int, count: int, limit: float) -> float:
    """Give the log e-value against "the share of hits is at most `limit`" (0 < limit < 1)."""
    shares = np.minimum(limit + (1.0 - limit) * _SHARE_WAGERS, 1.0 - 1e-9)
    gains = hits * np.log(shares / limit) + (count - hits) * np.log((1.0 - shares) / (1.0 - limit))
    return _log_mean_exp(gains)


def wrong_split(live: int, candidate: int, share: float) -> float:
    """Give the log e-value against "each person falls into the candidate's arm with this share".

    The Bayes factor of a beta prior around the share, wide enough for errors of a tenth.
    """
    weight = 100.0 / min(share, 1.0 - share)
    before_candidate, before_live = weight * share, weight * (1.0 - share)
    after = _log_beta(before_candidate + candidate, before_live + live)
    before = _log_beta(before_candidate, before_live)
    return after - before - candidate * log(share) - live * log(1.0 - share)


def widening(clock: float, alpha: float, planned: float) -> float:
    """Say how many standard errors either side hold at all looks together, at a chance of alpha.

    `clock` counts what the information grows with, and `planned` is where the interval is to be
    at its best: some 1.4 times the width that a single look would need.
    """
    spread = (-2.0 * log(alpha) + log(1.0 - 2.0 * log(alpha))) / planned
    seen = clock * spread
    return sqrt(2.0 * (seen + 1.0) / seen * log(sqrt(seen + 1.0) / alpha))


def mean_interval(figure: float, error: float, width: float) -> Interval:
    """Give figure +- width errors."""
    return Interval(figure - width * error, figure + width * error)


def _log_mean_exp(values: NDArray[np.float64]) -> float:
    top = float(values.max())
    return top + log(float(np.exp(values - top).mean()))


def _log_beta(one: float, other: float) -> float:
    return lgamma(one) + lgamma(other) - lgamma(one + other)
