"""What predictions are worth, and how many conversions will have come in the end.

Prior kappa ~ Gamma(a, a); N ~ Poisson(kappa D) conversions arrived of D matured predictions:

    kappa = (a + N) / (a + D)       Nhat = N + kappa (S - D)
"""

from dataclasses import dataclass
from math import log, sqrt
from typing import Final

import numpy as np

_NORMAL_90: Final = 1.6449
_NOTHING: Final = 1e-9


@dataclass(frozen=True)
class Evidence:
    """Sums of one goal in conversions; cost in conversions paid for at the target."""

    cost: float = 0.0
    predicted: float = 0.0
    """S: of all wins."""
    matured: float = 0.0
    """D: of it what had the time to come."""
    arrived: float = 0.0
    """N."""
    recent_cost: float = 0.0
    recent_predicted: float = 0.0
    gained: float = 0.0
    """Predictions won since the last step."""
    to_come: float = 0.0
    """Predictions that the rest of the horizon will bring at the horizon's pace so far."""


@dataclass(frozen=True)
class Estimate:
    """A figure with its 90 % interval."""

    mean: float
    low: float
    high: float


def scale(evidence: Evidence, prior: float) -> float:
    """Give the posterior mean of conversions over predictions."""
    return (prior + evidence.arrived) / (prior + evidence.matured)


def final(evidence: Evidence, prior: float, kappa: float) -> Estimate:
    """Estimate the final conversions of all wins so far.

    Those still to come have the predictive law of the Gamma-Poisson pair; its interval is a gamma
    law's of the same mean and variance.
    """
    rest = max(evidence.predicted - evidence.matured, 0.0)
    mean = kappa * rest
    variance = mean + rest * rest * kappa / (prior + evidence.matured)
    low, high = _gamma_interval(mean, variance)
    return Estimate(evidence.arrived + mean, evidence.arrived + low, evidence.arrived + high)


def _gamma_interval(mean: float, variance: float) -> tuple[float, float]:
    """Give the 5 % and 95 % points of a gamma law (Wilson and Hilferty 1931)."""
    if mean < _NOTHING:
        return 0.0, mean
    shape = mean * mean / variance
    ninth = 1.0 / (9.0 * shape)
    low, high = (max(1.0 - ninth + z * sqrt(ninth), 0.0) ** 3 for z in (-_NORMAL_90, _NORMAL_90))
    return mean * low, mean * high


def chance_of_so_few(came: int, predicted: float, before: Evidence, prior: float) -> float:
    """Give the chance of at most `came` conversions where `predicted` were due.

    By the predictive law after the evidence from before, so that an uncertain scale widens it.
    """
    shape, rate = prior + before.arrived, prior + before.matured
    if predicted <= 0.0 or came >= predicted * shape / rate:
        return 1.0
    counts = np.arange(came, dtype=np.float64)
    ratios = np.log((shape + counts) / (counts + 1.0) * (predicted / (rate + predicted)))
    logs = np.concatenate([[0.0], np.cumsum(ratios)])
    none = -shape * log((rate + predicted) / rate)
    return float(np.exp(logs + none).sum())
