"""The matured rows that both models scored, weighed so that neither is favoured by who chose them.

Rows have outcomes because the live model bid for them. Where two models disagree, the one that chose
the rows looks better than it is: among rows that the live model liked, a candidate that is just as
good promises too little (by 1 to 2 % in the simulation, by over 4 % where two models of little data
disagree more, as in the tests). But which rows come to have outcomes depends
on the live score alone, given what the models know, and its rate is seen: matured rows over all
sampled rows, by score. So a row is weighed by the rate at the candidate's score over that at the
live one's, which makes the rows those that the candidate would have bought; and where the two are
compared, as if each had bought half of them. Weights depend on scores, never on labels. Importance
weighting: Bottou et al., "Counterfactual reasoning and learning systems" (JMLR 2013).
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rta_service.nearline.autopilot.evidence import SCORE_BINS, Evidence

FloatTable = NDArray[np.float64]

_WIDEST: Final = 4.0
"""No row weighs more than this, or less than its inverse."""
_NEIGHBOURS: Final = np.array([1.0, 2.0, 3.0, 2.0, 1.0]) / 9.0
_FEW: Final = 20.0
"""Rows of the average rate that are added to each bin, so that a bin of a few rows says little."""


class Estimate(NamedTuple):
    """A figure and its standard error."""

    figure: float
    error: float


@dataclass(frozen=True, slots=True)
class Pairs:
    """Tables of [live bin, candidate bin], float64 [SCORE_BINS, SCORE_BINS]."""

    positives: FloatTable
    negatives: FloatTable
    live: FloatTable
    """Mean scores of the live bins, [SCORE_BINS, 1]."""
    candidate: FloatTable
    """Mean scores of the candidate's bins, [1, SCORE_BINS]."""
    own: FloatTable
    """Weights to the rows that the candidate would have bought."""

    @property
    def even(self) -> FloatTable:
        """Weights as if each model had bought half of the rows."""
        return (1.0 + self.own) / 2.0

    def come_and_promised(self) -> tuple[float, float]:
        """Give the candidate's conversions and promises, over the rows it would have bought.

        Scaled to as many rows as the weighted ones are worth (Kish's effective sample size).
        """
        hits = float((self.own * self.positives).sum())
        promised = float((self.own * (self.positives + self.negatives) * self.candidate).sum())
        worth = hits / float((self.own**2 * self.positives).sum()) if hits else 1.0
        return hits * worth, promised * worth

    def level_ratio(self) -> Estimate:
        """Give the logarithm of the candidate's promises over outcomes, against the live model's.

        Each over the rows that it would have bought; the luck of these labels is in both, so that
        the ratio is known several times better than either. Needs a positive.
        """
        rows = self.positives + self.negatives
        own_hits, hits = (self.own * self.positives).sum(), self.positives.sum()
        promised = (self.own * rows * self.candidate).sum() / own_hits
        live = (rows * self.live).sum() / hits
        influence = self.own / own_hits - 1.0 / hits
        error = float((influence**2 * self.positives).sum()) ** 0.5
        return Estimate(float(np.log(promised / live)), error)

    def excess_loss(self) -> Estimate:
        """Give the candidate's log loss over the live model's, in nats a positive."""
        of_positives = np.log(self.live / self.candidate)
        of_negatives = np.log((1.0 - self.live) / (1.0 - self.candidate))
        total, variance = self._total(of_positives, of_negatives, (self.positives, self.negatives))
        hits = float((self.even * self.positives).sum())
        return Estimate(total / hits, variance**0.5 / hits)

    def gain(self, evidence: Evidence) -> Estimate | None:
        """Give what the candidate's bids gain over the live ones, as a share of those.

        Where rivals' prices are uniform a bid b wins with a chance in proportion to b and pays b/2
        on average, so that it gains b * value - b**2 / 2: the bid-weighted squared error of Hummel
        and McAfee, "Loss functions for predicted click-through rates in auctions for online
        advertising" (2013). None where conversions are worth nothing.
        """
        positives, negatives = (
            np.asarray(sums).reshape(SCORE_BINS, SCORE_BINS)
            for sums in (evidence.positive_worth, evidence.negative_worth)
        )
        scale = float((self.even * (positives + negatives) * self.live**2).sum()) / 2.0
        if scale <= 0.0:
            return None
        of_negatives = (self.live**2 - self.candidate**2) / 2.0
        of_positives = self.candidate - self.live + of_negatives
        total, variance = self._total(of_positives, of_negatives, (positives, negatives))
        spread = evidence.worth_squares / float((positives + negatives).sum())
        return Estimate(total / scale, (variance * spread) ** 0.5 / scale)

    def _total(
        self,
        of_positives: FloatTable,
        of_negatives: FloatTable,
        rows: tuple[FloatTable, FloatTable],
    ) -> tuple[float, float]:
        """Sum a quantity over rows, evenly weighted, with the variance of the sum."""
        sums = [
            (self.even**power * (rows[0] * of_positives**power + rows[1] * of_negatives**power))
            for power in (1, 2)
        ]
        return float(sums[0].sum()), float(sums[1].sum())


def pairs_of(evidence: Evidence) -> Pairs:
    """Lay out the matured rows and weigh them by what the sampled rows tell of selection."""
    positives, negatives = (
        np.asarray(counted, dtype=np.float64).reshape(SCORE_BINS, SCORE_BINS)
        for counted in (evidence.positive_pairs, evidence.negative_pairs)
    )
    rows = positives + negatives
    live = _means(evidence.live_promised, rows.sum(axis=1))
    candidate = _means(evidence.candidate_promised, rows.sum(axis=0))
    rates = _selection_rates(evidence.live_scores, rows.sum(axis=1))
    own = np.clip(rates[None, :] / rates[:, None], 1.0 / _WIDEST, _WIDEST)
    return Pairs(positives, negatives, live[:, None], candidate[None, :], own)


def _means(sums: list[float], rows: FloatTable) -> FloatTable:
    """Give mean scores; an empty bin's stands for nothing and must only be a probability."""
    return np.where(rows > 0.0, np.asarray(sums) / np.maximum(rows, 1.0), 0.5)


def _selection_rates(sampled: list[int], matured: FloatTable) -> FloatTable:
    """Give how likely a sampled row has an outcome, by its live score's bin, 1 on average."""
    if not any(sampled) or not matured.any():
        return np.ones(SCORE_BINS)
    bought = np.convolve(matured, _NEIGHBOURS, "same")
    offered = np.convolve(np.asarray(sampled, dtype=np.float64), _NEIGHBOURS, "same")
    average = bought.sum() / offered.sum()
    return np.asarray((bought / average + _FEW) / (offered + _FEW))
