"""Which rows a head learns from, is calibrated on, and is judged by: three stretches of time.

The cuts are instants and the same for all heads, so that heads can be compared, and multiplied,
on rows that none of them has seen.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.thresholds import DAY_S
from rta_service.offline.training.dataset import HeadRows

Column = NDArray[np.int64]

_EVALUATION_S = 7 * DAY_S
_MAX_EVALUATION_SHARE = 0.2
_CALIBRATION_SHARE = 0.25
_OWN_STOP_POSITIVES = 2_000
"""With this many positives to calibrate on, early stopping gets half of the rows to itself.

The level of n positives is known to 1 / sqrt(n): 3 % for half of these. With fewer, that noise
costs more than calibrating on the rows that chose the number of trees.
"""


class Part(NamedTuple):
    """Some rows of a head: features [n, F] and labels [n]."""

    matrix: NDArray[np.float64]
    labels: NDArray[np.bool_]

    @property
    def positives(self) -> int:
        """How many labels are true."""
        return int(np.count_nonzero(self.labels))


class Parts(NamedTuple):
    """A head's rows by use, each later than the one before; `stop` may equal `calibrate`."""

    learn: Part
    stop: Part
    calibrate: Part
    evaluate: Part


@dataclass(frozen=True, slots=True)
class Cuts:
    """The instants at which calibration and evaluation begin, seconds since 1970."""

    calibrate_s: int
    evaluate_s: int


def choose_cuts(rows: HeadRows) -> Cuts:
    """Cut by the head whose labels mature last: its last week (a fifth at most) evaluates.

    A quarter of the rows before that week calibrates.
    """
    first, last = int(rows.as_of_s[0]), int(rows.as_of_s[-1])
    week = min(_EVALUATION_S, int((last - first) * _MAX_EVALUATION_SHARE))
    evaluate_s = last - week
    before = rows.as_of_s[rows.as_of_s < evaluate_s]
    calibrate_s = int(np.quantile(before, 1.0 - _CALIBRATION_SHARE)) if len(before) else first
    return Cuts(calibrate_s, evaluate_s)


def split(rows: HeadRows, cuts: Cuts) -> Parts:
    """Divide a head's rows, which are in the order of their impressions."""
    start, end = np.searchsorted(rows.as_of_s, [cuts.calibrate_s, cuts.evaluate_s])
    middle = (start + end) // 2
    calibrate = _part(rows, slice(start, end))
    stop = calibrate
    if calibrate.positives >= _OWN_STOP_POSITIVES:
        stop, calibrate = _part(rows, slice(start, middle)), _part(rows, slice(middle, end))
    return Parts(_part(rows, slice(0, start)), stop, calibrate, _part(rows, slice(end, None)))


def _part(rows: HeadRows, chosen: slice) -> Part:
    return Part(rows.matrix[chosen], rows.labels[chosen])
