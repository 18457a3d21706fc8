"""From a model's raw score to a probability that can be multiplied with money.

A monotone map, fitted by isotonic regression on labels later than those the trees saw, and written
as knots with linear interpolation between them. Fitting adds a knot at each end, in proportion,
so that the best and the worst scores keep their order.
"""

from bisect import bisect_right
from itertools import pairwise
from math import isfinite
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

FloatColumn = NDArray[np.float64]

SMALLEST: Final = 1e-6
"""Calibrated probabilities lie in [SMALLEST, 1 - SMALLEST]: nobody is certain."""

MIN_KNOT_POSITIVES: Final = 50
"""A rate from 50 positives is known to about 14 %; fewer would calibrate to noise."""

MIN_KNOT_ROWS: Final = 200
"""A mean of 200 amounts that spread as much as their mean is known to about 7 %."""


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Knots of a monotone map from raw prediction `x` to calibrated prediction `y`."""

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.x or len(self.x) != len(self.y):
            raise ValueError("calibration needs as many x as y, and at least one")
        if not all(low < high for low, high in pairwise(self.x)):
            raise ValueError("calibration x must rise")
        if not all(low <= high for low, high in pairwise(self.y)):
            raise ValueError("calibration y must not fall")
        if not (self.y[0] >= 0.0 and isfinite(self.y[-1])):
            raise ValueError("calibration y must be finite and not negative")


def fit_calibration(
    raw: FloatColumn, labels: NDArray[Any], min_positives: int = MIN_KNOT_POSITIVES
) -> Calibration:
    """Fit the map on raw probabilities and 0/1 labels, both [n], n >= 1.

    Blocks of equal isotonic value are joined with their neighbours until each has at least
    `min_positives`; a block becomes one knot at its mean raw score and its observed rate.
    """
    hits = np.asarray(labels, dtype=np.float64)
    x, rate = _knots(raw, hits, hits, min_positives)
    y = np.clip(rate, SMALLEST, 1.0 - SMALLEST)
    return _with_ends(x, y, float(np.max(raw)))


def fit_mean_calibration(
    raw: FloatColumn, amounts: FloatColumn, min_rows: int = MIN_KNOT_ROWS
) -> Calibration:
    """Fit the map from raw predictions to mean amounts, both [n], n >= 1, amounts not negative.

    Blocks are joined until each has `min_rows`. Beyond the first and the last knot it stays level:
    a mean of few amounts is no ground to promise more.
    """
    x, y = _knots(raw, amounts, np.ones(len(raw)), min_rows)
    return Calibration(tuple(x.tolist()), tuple(y.tolist()))


def _knots(
    raw: FloatColumn, values: FloatColumn, evidence: FloatColumn, least: int
) -> tuple[FloatColumn, FloatColumn]:
    """Give mean raw score and mean value of isotonic blocks with at least so much evidence each."""
    from scipy.optimize import isotonic_regression  # noqa: PLC0415 - 45 MB, 0.4 s; for training only

    scores, codes, counts = np.unique(raw, return_inverse=True, return_counts=True)
    sums = np.bincount(codes, weights=values)
    starts = isotonic_regression(sums / counts, weights=counts).blocks[:-1]
    seen = np.bincount(codes, weights=evidence)
    ends = _joined_ends(np.add.reduceat(seen, starts), least)
    first = starts[np.concatenate(([0], ends[:-1] + 1))]
    rows = np.add.reduceat(counts, first)
    mean = np.add.reduceat(scores * counts, first) / rows
    x = np.clip(mean, scores[first], scores[np.append(first[1:], len(scores)) - 1])
    return x, np.maximum.accumulate(np.add.reduceat(sums, first) / rows)


def _joined_ends(block_hits: FloatColumn, least: int) -> NDArray[np.int64]:
    """Choose the last block of each group; a poor last group joins the one before it."""
    ends: list[int] = []
    found = 0.0
    for index, hits in enumerate(block_hits):
        found += hits
        if found >= least:
            ends.append(index)
            found = 0.0
    last = len(block_hits) - 1
    if not ends:
        ends = [last]
    ends[-1] = last
    return np.asarray(ends, dtype=np.int64)


def _with_ends(x: FloatColumn, y: FloatColumn, highest: float) -> Calibration:
    """Add a knot at 0 and one at the highest score seen, in proportion to their neighbours."""
    knots = dict(zip(x.tolist(), y.tolist(), strict=True))
    knots.setdefault(0.0, SMALLEST)
    top = float(x[-1])
    if highest > top > 0.0:
        knots[highest] = min(max(float(y[-1]), float(y[-1]) * highest / top), 1.0 - SMALLEST)
    rising = sorted(knots)
    return Calibration(tuple(rising), tuple(knots[knot] for knot in rising))


def calibrate(raw: FloatColumn, calibration: Calibration) -> FloatColumn:
    """Apply the map to many raw probabilities."""
    return np.interp(raw, calibration.x, calibration.y)


def calibrate_one(raw: float, calibration: Calibration) -> float:
    """Apply the map to one raw probability: the plain twin of `calibrate`."""
    right = bisect_right(calibration.x, raw)
    if right == 0:
        return calibration.y[0]
    if right == len(calibration.x):
        return calibration.y[-1]
    low_x, high_x = calibration.x[right - 1], calibration.x[right]
    low_y, high_y = calibration.y[right - 1], calibration.y[right]
    return low_y + (high_y - low_y) * (raw - low_x) / (high_x - low_x)
