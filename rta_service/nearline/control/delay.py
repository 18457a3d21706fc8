"""How long conversions take, learnt while most of them have not come yet.

Every win is watched only up to its present age, as in Kaplan and Meier's estimate; here the
censoring ages of all wins are known, and most wins never convert. So for each bin j of delays:

    d_j   conversions that came with such a delay
    E_j   conversions predicted for the wins that have already passed through that age
    d_j ~ Poisson(kappa E_j f_j),  f the law's shares, kappa the scale of the predictions

With a parent law f0 worth m conversions and a Gamma(a, a) prior on kappa, the likeliest law is

    f_j = (d_j + m f0_j) / (m + a (kappa - 1) + kappa E_j)   with kappa such that the f_j add up to 1,

one root to find. Ages that nobody has reached yet follow the parent's tail. Without a parent the
family of Weibull laws gives one, with shape and mean of the highest likelihood.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from rta_service.nearline.control.ageing import AgedSums, over_slots

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

_DAY: Final = 86_400.0
EDGES_S: Final = np.concatenate([[0.0], np.geomspace(10.0, 45 * _DAY, 43)])
"""Limits of the bins of delay; a bin is 1.4 times as long as the one before."""
BINS: Final = len(EDGES_S) - 1
_WIDTHS: Final = np.diff(EDGES_S)

PSEUDO_CONVERSIONS: Final = 50.0
"""What a parent law is worth."""
_FAMILY_CONVERSIONS: Final = 30.0
"""What the best law of the family is worth, where there is no parent."""
_HALVINGS: Final = 60
_ROUNDS: Final = 4


@dataclass(frozen=True)
class DelayEvidence:
    """What is known of delays; evidence of several units adds up to their parent's."""

    arrived: Floats
    """float64[BINS], conversions by delay."""
    reached: Floats
    """float64[BINS], predicted conversions of the wins old enough for the bin."""

    def __add__(self, other: Self) -> "DelayEvidence":
        return DelayEvidence(self.arrived + other.arrived, self.reached + other.reached)


@dataclass(frozen=True)
class DelayLaw:
    """The share of a win's conversions that have come by an age."""

    shares: Floats
    """float64[BINS], adding up to 1."""

    def matured(self, age_s: Floats) -> Floats:
        """Give the share that has come by each age in seconds, in [0, 1]."""
        reached = np.concatenate([[0.0], np.cumsum(self.shares)])
        return np.asarray(np.minimum(np.interp(age_s, EDGES_S, reached), 1.0))

    @property
    def mean_s(self) -> float:
        """Give the mean delay in seconds."""
        return float(self.shares @ (EDGES_S[1:] + EDGES_S[:-1]) / 2.0)


def weibull(mean_s: float, shape: float = 1.0) -> DelayLaw:
    """Make a law of waiting times; shape 1 is the exponential law, below 1 starts steeply."""
    return DelayLaw(_weibulls(np.array([mean_s]), np.array([shape]))[0])


def _weibulls(means: Floats, shapes: Floats) -> Floats:
    """Give float64[laws, BINS]; by the median where shape is not 1, which is near enough."""
    stretch = np.log(2.0) ** (1.0 / shapes - 1.0)
    spread = (EDGES_S[None, :] / (means * stretch)[:, None]) ** shapes[:, None]
    shares = np.diff(-np.expm1(-spread), axis=1)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


_GRID: Final = np.stack(
    np.meshgrid(np.geomspace(5.0, 20 * _DAY, 60), [0.6, 0.8, 1.0, 1.4], indexing="ij"), axis=-1
).reshape(-1, 2)
_FAMILY: Final = _weibulls(_GRID[:, 0], _GRID[:, 1])
_LOG_FAMILY: Final = np.log(np.maximum(_FAMILY, 1e-12))


def fit(
    evidence: DelayEvidence,
    parent: DelayLaw | None = None,
    prior: float = 10.0,
    expected_mean_s: float = 7_200.0,
) -> DelayLaw:
    """Learn a law; a parent is worth PSEUDO_CONVERSIONS, `prior` is a of the scale's Gamma(a, a).

    Without parent the family's mean is believed to be `expected_mean_s` within a factor of about
    seven.
    """
    if parent is None:
        likeliest = _likeliest(evidence, prior, expected_mean_s)
        return _towards(evidence, likeliest, _FAMILY_CONVERSIONS, prior)
    return _towards(evidence, parent, PSEUDO_CONVERSIONS, prior)


def pooled(evidence: Sequence[DelayEvidence], prior: float = 10.0) -> DelayEvidence:
    """Add up evidence of units whose predictions differ in scale, for `fit` to learn their parent.

    A plain sum would see a unit that predicts twice too much as one whose conversions are late. So
    each unit's predictions are put on the scale of its conversions by the law of the sum, which
    moves the law: a few rounds settle it.
    """
    total = _sum(evidence, np.ones(len(evidence)))
    for _ in range(_ROUNDS):
        law = fit(total, prior=prior)
        arrived = np.array([one.arrived.sum() for one in evidence])
        matured = np.array([law.shares @ one.reached for one in evidence])
        total = _sum(evidence, (prior + arrived) / (prior + matured))
    return total


def _sum(evidence: Sequence[DelayEvidence], scales: Floats) -> DelayEvidence:
    nothing = DelayEvidence(np.zeros(BINS), np.zeros(BINS))
    return sum(
        (DelayEvidence(e.arrived, k * e.reached) for e, k in zip(evidence, scales, strict=True)),
        start=nothing,
    )


def _likeliest(evidence: DelayEvidence, prior: float, expected_mean_s: float) -> DelayLaw:
    arrived = evidence.arrived.sum()
    matured = _FAMILY @ evidence.reached
    belief = (np.log(_GRID[:, 0] / expected_mean_s) / 1.0) ** 2 / 2.0
    belief += (np.log(_GRID[:, 1]) / 0.5) ** 2 / 2.0
    fits = _LOG_FAMILY @ evidence.arrived - (prior + arrived) * np.log(prior + matured)
    return DelayLaw(_FAMILY[int(np.argmax(fits - belief))])


def _towards(evidence: DelayEvidence, parent: DelayLaw, worth: float, prior: float) -> DelayLaw:
    """Find the scale at which the shares of the module's formula add up to 1, by halving."""
    have = evidence.arrived + worth * parent.shares
    prior = min(prior, worth)
    low, high = 0.0, (prior + have.sum()) / max(prior, 1e-9) + 1.0
    for _ in range(_HALVINGS):
        scale = (low + high) / 2.0
        total = (have / (worth + prior * (scale - 1.0) + scale * evidence.reached + 1e-12)).sum()
        low, high = (scale, high) if total > 1.0 else (low, scale)
    scale = (low + high) / 2.0
    shares = have / (worth + prior * (scale - 1.0) + scale * evidence.reached + 1e-12)
    return DelayLaw(shares / shares.sum())


def bins(delay_s: Floats) -> Ints:
    """Count delays into int64[BINS]; what is later than all bins falls into the last."""
    place = np.searchsorted(EDGES_S, np.maximum(delay_s, 0.0), side="right") - 1
    return np.bincount(np.minimum(place, BINS - 1), minlength=BINS).astype(np.int64)


def passed(age_s: Floats) -> Floats:
    """Say how much of each bin a win of an age has passed: float64[..., BINS] in [0, 1]."""
    return np.asarray(np.clip((age_s[..., None] - EDGES_S[:-1]) / _WIDTHS, 0.0, 1.0))


def reached(sums: AgedSums, predicted: Floats) -> Floats:
    """Add up the predictions float64[slots] of sums by the bins of delay that they passed."""
    return np.asarray(predicted @ over_slots(passed(sums.ages())))


def from_rows(
    won_at_s: Floats, converted_at_s: Floats, predicted: Floats, now_s: float
) -> DelayEvidence:
    """Take evidence from one row a win; `converted_at_s` is not-a-number where none came yet."""
    came = np.isfinite(converted_at_s)
    arrived = bins(converted_at_s[came] - won_at_s[came]).astype(np.float64)
    return DelayEvidence(arrived, predicted @ passed(np.maximum(now_s - won_at_s, 0.0)))
