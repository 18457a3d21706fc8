"""Batches of rows that two models scored, with what came of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.nearline.autopilot.evidence import Evidence
from rta_service.nearline.autopilot.observing import (
    Observation,
    Outcomes,
    observe,
    settle,
    time_calls,
)

VALUE_MICROS = 30e6
SEGMENTS = ("mature/json", "growth/json", "mature/tencent")

Column = NDArray[np.float64]


@dataclass(frozen=True)
class Market:
    """Two models of the same truth, each with its own small errors."""

    rng: np.random.Generator
    live_noise: float = 0.05
    candidate_noise: float = 0.05
    base: float = -2.5
    arm_share: float = 0.0

    def scores(self, rows: int) -> tuple[Column, Column, Column]:
        """Draw true chances and what both models say of them."""
        truth = self.rng.normal(self.base, 0.8, rows)
        live = truth + self.rng.normal(0.0, self.live_noise, rows)
        candidate = truth + self.rng.normal(0.0, self.candidate_noise, rows)
        chance, live, candidate = (1.0 / (1.0 + np.exp(-one)) for one in (truth, live, candidate))
        return chance, live, candidate

    def outcomes(
        self, rows: int, spoil: Callable[[Column], Column] = lambda scores: scores, **changes: Any
    ) -> Outcomes:
        """Draw matured rows; `spoil` is what happened to the candidate's scores."""
        chance, live, candidate = self.scores(rows)
        columns = {
            "segments": self.rng.choice(SEGMENTS, rows),
            "live_scores": live,
            "candidate_scores": spoil(candidate),
            "labels": self.rng.random(rows) < chance,
            "is_candidate": self.rng.random(rows) < self.arm_share,
            "value_micros": np.full(rows, VALUE_MICROS),
            "cost_micros": 0.5 * VALUE_MICROS * chance,
        }
        return Outcomes(**{**columns, **changes})

    def observation(
        self, rows: int, spoil: Callable[[Column], Column] = lambda scores: scores, **changes: Any
    ) -> Observation:
        """Draw sampled rows."""
        _, live, candidate = self.scores(rows)
        columns = {
            "live_scores": live,
            "candidate_scores": spoil(candidate),
            "is_candidate": self.rng.random(rows) < self.arm_share,
            "participated": np.ones(rows, dtype=np.bool_),
            "bid_micros": live * VALUE_MICROS,
            "latency_us": self.rng.lognormal(8.0, 0.3, rows),
        }
        return Observation(**{**columns, **changes})

    def evidence(
        self, rows: int = 60_000, spoil: Callable[[Column], Column] = lambda scores: scores
    ) -> Evidence:
        """Draw the evidence of a whole trial; without a spoil it clears every guard."""
        evidence = settle(Evidence("v1", "v2"), self.outcomes(rows, spoil))
        evidence = observe(evidence, self.observation(5_000, spoil))
        return time_calls(evidence, *self.rng.lognormal(3.0, 0.1, (2, 40)))


@pytest.fixture
def market() -> Market:
    return Market(np.random.default_rng(7))
