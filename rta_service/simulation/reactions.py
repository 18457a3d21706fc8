"""What becomes of answers: auctions won, ads shown and clicked, people who register and buy."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rta_service.simulation.traffic import SimulatedRequest


class Yes(NamedTuple):
    """An answer that takes part."""

    request: SimulatedRequest
    tag: str
    """Of the strategy that the platform chose."""


@dataclass(frozen=True, slots=True)
class Odds:
    """How often a step follows the one before it; clicks far more than in life, for a short run."""

    win: float = 0.4
    click: float = 0.12
    register: float = 0.3
    pay: float = 0.3
    mean_cost_micros: int = 40_000


class Reaction(NamedTuple):
    """What one won auction led to."""

    yes: Yes
    cost_micros: int
    is_click: bool
    registers: bool
    paid_cents: int
    """0 for nobody's payment."""


def react(answers: Sequence[Yes], seed: int, odds: Odds | None = None) -> Iterator[Reaction]:
    """Let chance decide about every yes; the same seed and answers give the same reactions."""
    odds = odds or Odds()
    rng = np.random.default_rng([seed, 2])
    tosses = rng.random((len(answers), 4))
    costs = rng.exponential(odds.mean_cost_micros, len(answers)).astype(np.int64) + 1
    cents = rng.integers(500, 50_000, len(answers))
    for yes, toss, cost, paid in zip(answers, tosses, costs, cents, strict=True):
        if toss[0] >= odds.win:
            continue
        is_click = bool(toss[1] < odds.click)
        registers = is_click and bool(toss[2] < odds.register)
        pays = is_click and bool(toss[3] < odds.pay)
        yield Reaction(yes, int(cost), is_click, registers, int(paid) if pays else 0)
