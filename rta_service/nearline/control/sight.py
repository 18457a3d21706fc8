"""What the books say at a moment: the evidence of each goal, its delay law, means and pace."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.control import MICROS, CostGoal, Targets
from rta_service.nearline.control.ageing import fading, over_slots
from rta_service.nearline.control.books import (
    ARRIVED,
    BAD,
    CAME,
    COST,
    PAYERS,
    PREDICTED,
    TOLD_COST,
    WEIGHED,
    WINS,
    Books,
)
from rta_service.nearline.control.delay import DelayEvidence, DelayLaw, fit, reached
from rta_service.nearline.control.feed import NANO
from rta_service.nearline.control.posterior import Evidence
from rta_service.nearline.control.update import Tuning

Floats = NDArray[np.float64]

_VALUE_CONVERSIONS: Final = 10.0
"""What the predicted mean money of a deep conversion is worth, in conversions."""


@dataclass(frozen=True)
class Dated:
    """Targets since a moment."""

    since_ms: int
    targets: Targets


@dataclass
class Sight:
    """A view of the books at their clock; every figure is a dot product over some 40 slots."""

    books: Books
    tuning: Tuning
    history: list[Dated]
    """Targets in the order of time: what was won before a change is held to the old target."""
    parents: Mapping[CostGoal, DelayLaw] = field(default_factory=dict)

    @cached_property
    def ages(self) -> Floats:
        """Give float64[3, slots] in seconds."""
        return self.books.bought.ages()

    @cached_property
    def kept(self) -> Floats:
        """Weigh slots by the memory."""
        return fading(self.ages, self.tuning.memory_s)

    @cached_property
    def recent(self) -> Floats:
        """Weigh slots by the window."""
        return fading(self.ages, self.tuning.recent_s)

    def column(self, index: int) -> Floats:
        """Give one column of the sums as float64[slots]."""
        return self.books.bought.sums[:, index].astype(np.float64)

    def delay_evidence(self, goal: CostGoal) -> DelayEvidence:
        """Give what these books know of a goal's delays; money comes with deep conversions."""
        goal = CostGoal.DEEP if goal is CostGoal.VALUE else goal
        predicted = self.column(PREDICTED[goal]) / NANO
        arrived = self.books.delays[CAME[goal]].astype(np.float64)
        return DelayEvidence(arrived, reached(self.books.bought, predicted))

    def law(self, goal: CostGoal) -> DelayLaw:
        """Give the delay law of a goal, shrunk to its parent."""
        goal = CostGoal.DEEP if goal is CostGoal.VALUE else goal
        if goal not in self._laws:
            evidence = self.delay_evidence(goal)
            expected = self.tuning.horizon_s / 12.0
            parent = self.parents.get(goal)
            self._laws[goal] = fit(evidence, parent, self.tuning.prior, expected)
        return self._laws[goal]

    @cached_property
    def _laws(self) -> dict[CostGoal, DelayLaw]:
        return {}

    def unit_size(self, goal: CostGoal) -> float:
        """Give how many units a conversion brings: 1, or its mean money in currency units."""
        if goal is not CostGoal.VALUE:
            return 1.0
        totals = self.books.bought.totals()
        deep = float(totals[PREDICTED[CostGoal.DEEP]])
        money, payers = float(totals[ARRIVED[goal]]) / MICROS, float(totals[PAYERS])
        believed = float(totals[PREDICTED[goal]]) / deep if deep > 0.0 else 0.0
        if believed <= 0.0:
            return money / payers if money > 0.0 else 1.0
        return (_VALUE_CONVERSIONS * believed + money) / (_VALUE_CONVERSIONS + payers)

    def evidence(self, goal: CostGoal, seen: int = 0) -> Evidence:
        """Sum up a goal; `seen` is the `predicted_nano` of the last step."""
        size = self.unit_size(goal)
        predicted = self.column(PREDICTED[goal]) / (NANO * size)
        arrived_unit = MICROS if goal is CostGoal.VALUE else 1
        arrived = self.column(ARRIVED[goal]) / (arrived_unit * size)
        cost = self.column(COST) * self._per_target(goal) / size
        matured = over_slots(self.law(goal).matured(self.ages))
        return Evidence(
            cost=float(cost @ self.kept),
            predicted=float(predicted @ self.kept),
            matured=float((predicted * self.kept) @ matured),
            arrived=float(arrived @ self.kept),
            recent_cost=float(cost @ self.recent),
            recent_predicted=float(predicted @ self.recent),
            to_come=self._to_come(predicted),
            gained=(self.predicted_nano(goal) - seen) / (NANO * size),
        )

    def _to_come(self, predicted: Floats) -> float:
        """Expect the rest of the horizon to be like the last horizon's length of time.

        Where answers are kept, a debt cannot be repaid at a moment: there it is spread over as
        much as was bought so far.
        """
        tuning = self.tuning
        if tuning.dead_time_s > 0.0:
            return float(predicted @ self.kept)
        gone_ms = self.books.bought.clock_ms - tuning.horizon_starts_ms
        left_s = tuning.horizon_s - gone_ms / 1000.0 % tuning.horizon_s
        late = self.ages[1] < tuning.horizon_s
        watched_s = min(float(self.ages[2].max(initial=0.0)), tuning.horizon_s)
        return float(predicted[late].sum()) / max(watched_s, 1.0) * left_s

    def predicted_nano(self, goal: CostGoal) -> int:
        """Give all predictions so far, without forgetting."""
        return int(self.books.bought.sums[:, PREDICTED[goal]].sum())

    def _per_target(self, goal: CostGoal) -> Floats:
        """Give one over the target that held, averaged over each slot."""
        at_ms = self.books.bought.clock_ms - self.ages * 1000.0
        since = np.array([dated.since_ms for dated in self.history[1:]], np.float64)
        held = np.array([1.0 / (dated.targets.price(goal) or np.inf) for dated in self.history])
        return over_slots(held[np.searchsorted(since, at_ms, side="right")])

    def arrivals(self, goal: CostGoal, window_s: float) -> tuple[int, float]:
        """Give a window's conversions by the time of conversion, and those that were predicted."""
        came = self.books.came
        newest = came.ages()[1] <= window_s
        count = int(came.sums[newest, CAME[goal]].sum())
        law, predicted = self.law(goal), self.column(PREDICTED[goal]) / NANO
        before = law.matured(np.maximum(self.ages - window_s, 0.0))
        return count, float(predicted @ over_slots(law.matured(self.ages) - before))

    def mean_prediction(self, goal: CostGoal) -> float:
        """Give the mean prediction of the wins, by cost; 0 before any.

        Where costs come apart from predictions, as in reports, it is the plain mean.
        """
        cost = float(self.column(TOLD_COST) @ self.kept)
        if cost:
            return float(self.column(WEIGHED[goal]) @ self.kept) / (1000.0 * cost)
        wins = float(self.column(WINS) @ self.kept)
        return float(self.column(PREDICTED[goal]) @ self.kept) / (NANO * wins) if wins else 0.0

    def deep_rate(self) -> float:
        """Give predicted deep over predicted shallow conversions: the qbar that keeps the mean."""
        shallow = float(self.column(PREDICTED[CostGoal.SHALLOW]) @ self.kept)
        deep = float(self.column(PREDICTED[CostGoal.DEEP]) @ self.kept)
        return deep / shallow if shallow else 0.0

    def bad_lately(self) -> bool:
        """Say whether the window holds predictions that were no numbers."""
        return bool((self.column(BAD)[self.ages[0] <= self.tuning.recent_s] > 0.0).any())

    def spending(self) -> tuple[float, float]:
        """Give the cost in micros that is remembered, and the recent rate in micros a second."""
        cost = self.column(COST)
        oldest = float(self.ages[2].max(initial=0.0))
        seconds = self.tuning.recent_s / np.log(2.0)
        share = 1.0 - 0.5 ** (max(oldest, 1.0) / self.tuning.recent_s)
        return float(cost @ self.kept), float(cost @ self.recent) / (seconds * share)
