"""Auctions about bids that a running service gave, and what becomes of what was won.

Second price: the highest other bid is lognormal. The world converts less often than predicted, by
a factor that the service is not told: a bid of target x prediction alone would miss its target.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Market:
    """Other people's bids, and how far predictions are from what happens."""

    median_cpm_micros: float
    spread: float = 0.5
    """Of the logarithm of the highest other bid."""
    truth: float = 0.5
    """Conversions over predicted ones."""


class Outcome(NamedTuple):
    """What became of each bid, in their order."""

    won: Flags
    cost_micros: NDArray[np.int64]
    """Of the impression; 0 where it was not won."""
    clicked: Flags
    converted: Flags


def resolve(
    market: Market, cpm_micros: Floats, pctr: Floats, pcvr: Floats, rng: np.random.Generator
) -> Outcome:
    """Hold one auction a bid, float64[bids] each; the same generator state gives the same world."""
    bids = len(cpm_micros)
    others = market.median_cpm_micros * np.exp(market.spread * rng.standard_normal(bids))
    tosses = rng.random((2, bids))
    won = cpm_micros > others
    clicked = won & (tosses[0] < pctr)
    converted = clicked & (tosses[1] < np.minimum(market.truth * pcvr, 1.0))
    cost = np.where(won, np.rint(others / 1000.0), 0.0).astype(np.int64)
    return Outcome(won, cost, clicked, converted)
