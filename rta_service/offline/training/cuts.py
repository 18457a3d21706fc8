"""Which rows a head learns from, is calibrated on, and is judged by: three stretches of time.

Each head has its own cuts, as late as its labels allow: a market moves, and a calibration that is
a week older was 5 % off on a simulated one that grew.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rta_service.domain.thresholds import DAY_S
from rta_service.offline.training.dataset import HeadRows

_EVALUATION_S = 7 * DAY_S
_MAX_EVALUATION_SHARE = 0.2
_CALIBRATION_SHARE = 0.25


class Parts(NamedTuple):
    """A head's rows by use, each later than the one before."""

    learn: HeadRows
    calibrate: HeadRows
    """A fair sample, as is `evaluate`."""
    evaluate: HeadRows


@dataclass(frozen=True, slots=True)
class Cuts:
    """The instants at which calibration and evaluation begin, seconds since 1970."""

    calibrate_s: int
    evaluate_s: int


def choose_cuts(rows: HeadRows) -> Cuts:
    """Let a head's last week of known outcomes (a fifth at most) evaluate.

    A quarter of the rows before that week calibrates. At least one row is needed.
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
    return Parts(
        rows.take(slice(0, start)),
        rows.take(slice(start, end)).fair,
        rows.take(slice(end, None)).fair,
    )
