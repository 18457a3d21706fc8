"""How far one model's scores lie from another's on the same rows."""

import math
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

BINS: Final = 10
TOP_SHARE: Final = 0.2
"""Who lies above the live model's 80th percentile is who the money goes to."""

_LEAST_SHARE: Final = 1e-4
"""An empty bin counts as one in ten thousand, or its logarithm would be infinite."""

_BLUR: Final = math.log(1.5)

Scores = NDArray[np.float64]


class Drift(msgspec.Struct, frozen=True):
    """Two models on the same rows; without rows every figure but the count is NaN."""

    rows: int
    psi: float
    """Population stability index over the live scores' deciles: below 0.1 alike, over 0.25 not."""
    mean_ratio: float
    """The candidate's mean score over the live one's."""
    share_over: float
    """Share of rows that the candidate scores above the live scores' 80th percentile."""
    live_share_over: float
    """The same of the live model: 0.2, or less where many scores are equal."""
    mean_difference: float
    """Mean absolute difference of the two scores of a row."""


def compare(live: Scores, candidate: Scores) -> Drift:
    """Compare a candidate's scores with the live model's on the same rows, float64 [n] each.

    The index and the shares are of blurred scores, the means of the scores as they are.
    """
    if not len(live):
        nan = float("nan")
        return Drift(0, nan, nan, nan, nan, nan)
    base, other = _blurred(live), _blurred(candidate)
    edge = float(np.quantile(base, 1.0 - TOP_SHARE))
    mean = float(live.mean())
    return Drift(
        rows=len(live),
        psi=stability_index(base, other),
        mean_ratio=float(candidate.mean()) / mean if mean > 0.0 else float("nan"),
        share_over=float((other > edge).mean()),
        live_share_over=float((base > edge).mean()),
        mean_difference=float(np.abs(candidate - live).mean()),
    )


def _blurred(scores: Scores) -> Scores:
    """Spread each score [n] over factors from 2/3 to 3/2, even in their logarithm: [n * 21].

    Strangers are a large part of all traffic and have one score in common. Without this, the least
    shift of it would carry all of them over the edge of a bin at once, and look like another world.
    """
    spread = np.exp(np.linspace(-_BLUR, _BLUR, 21))
    return (scores[:, np.newaxis] * spread).ravel()


def stability_index(base: Scores, other: Scores) -> float:
    """Give the PSI of two samples, both not empty: the sum of (q - p) ln(q / p) over bins.

    Bins end at the deciles of `base`; where many scores are equal there are fewer.
    """
    edges = np.unique(np.quantile(base, np.linspace(0.0, 1.0, BINS + 1)[1:-1]))
    p, q = (_shares(scores, edges) for scores in (base, other))
    return float(((q - p) * np.log(q / p)).sum())


def _shares(scores: Scores, edges: Scores) -> Scores:
    counts = np.bincount(np.searchsorted(edges, scores), minlength=len(edges) + 1)
    return np.maximum(counts / len(scores), _LEAST_SHARE)
