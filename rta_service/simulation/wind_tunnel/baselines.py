"""Bidders to beat: T x p, the published PID, the best single multiplier, the clairvoyant."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.controller import Asked, Brief, Wins, brief_of
from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.funnel import DEEP, SHALLOW
from rta_service.simulation.wind_tunnel.hindsight import (
    Reference,
    Sale,
    single_multiplier,
)
from rta_service.simulation.wind_tunnel.postbacks import Postbacks
from rta_service.simulation.wind_tunnel.run import run
from rta_service.simulation.wind_tunnel.world import World

PHI_BOUNDS: Final = (-2.0, 5.0)
"""Bounds of the PID's exponent, as published."""


class SingleMultiplier:
    """Bids multiplier x T x predicted, and learns nothing; T x p is the multiplier one.

    Where the platform wants a weight: the prediction over its running mean.
    """

    def __init__(self, brief: Brief, multiplier: float = 1.0) -> None:
        self._brief = brief
        self._sum = self._count = 0.0
        self.multiplier = multiplier

    def bid(self, asked: Asked) -> Floats:
        """Answer in proportion to the prediction."""
        predicted = asked.predicted.of(self._brief.goal)
        if self._brief.answer == "price":
            return predicted * (self._brief.target * self.multiplier)
        self._sum += float(predicted.sum())
        self._count += len(predicted)
        mean = self._sum / self._count if self._sum else 1.0
        return predicted * (self.multiplier / mean)

    def learn(self, wins: Wins, postbacks: Postbacks, _now: float, /) -> None:
        """Learn nothing."""


@dataclass(frozen=True, slots=True)
class Gains:
    """Of a PID; the error is 1 - cost / (T x (conversions + 1))."""

    proportional: float
    integral: float
    derivative: float


class PID:
    """The feedback control of Zhang et al. (WSDM 2016): bid x exp(phi), phi from arrived counts.

    It takes cost over conversions + 1 as published (for money: + the predicted money of one),
    drops duplicates, and knows no delays.
    """

    def __init__(self, brief: Brief, gains: Gains) -> None:
        self._brief = brief
        self._inner = SingleMultiplier(brief)
        self._gains = gains
        self._cost = self._gain = self._sum = 0.0
        self._error: float | None = None
        self._seen: set[int] = set()
        self._deep = self._value = 0.0

    def bid(self, asked: Asked) -> Floats:
        """Answer with the moved bid."""
        return self._inner.bid(asked)

    def learn(self, wins: Wins, postbacks: Postbacks, _now: float, /) -> None:
        """Move phi by the error of the cost so far."""
        self._cost += float(wins.cost.sum())
        self._gain += self._fresh(postbacks)
        error = 1 - self._cost / (self._brief.target * (self._gain + self._one(wins)))
        change = 0.0 if self._error is None else error - self._error
        self._error = error
        self._sum += error
        gains = self._gains
        phi = gains.proportional * error + gains.integral * self._sum + gains.derivative * change
        self._inner.multiplier = float(np.exp(np.clip(phi, *PHI_BOUNDS)))

    def _one(self, wins: Wins) -> float:
        """Give what one more conversion would count."""
        self._deep += float(wins.predicted.deep.sum())
        self._value += float(wins.predicted.value.sum())
        is_money = self._brief.goal == CostGoal.VALUE and self._deep > 0
        return self._value / self._deep if is_money else 1.0

    def _fresh(self, postbacks: Postbacks) -> float:
        """Count what has not been counted: conversions, or their money."""
        goal, gained = self._brief.goal, 0.0
        mine = np.flatnonzero(postbacks.kind == (SHALLOW if goal == CostGoal.SHALLOW else DEEP))
        for at in mine.tolist():
            if (conversion := int(postbacks.id[at])) not in self._seen:
                self._seen.add(conversion)
                gained += float(postbacks.value[at]) if goal == CostGoal.VALUE else 1.0
        return gained


class LowerOfTwo:
    """Two PIDs, one for each target of a campaign, of whose bids the lower one is made."""

    def __init__(self, brief: Brief, gains: Gains) -> None:
        other = CostGoal.DEEP if brief.goal == CostGoal.SHALLOW else CostGoal.SHALLOW
        second = replace(brief, goal=other, target=brief.other_target)
        self._pids = PID(brief, gains), PID(second, gains)

    def bid(self, asked: Asked) -> Floats:
        """Answer with the lower bid."""
        first, second = (pid.bid(asked) for pid in self._pids)
        return np.minimum(first, second)

    def learn(self, wins: Wins, postbacks: Postbacks, now: float, /) -> None:
        """Let both learn from all."""
        for pid in self._pids:
            pid.learn(wins, postbacks, now)


class Clairvoyant:
    """Wins exactly what the reference of its world would: proof that it can be had."""

    def __init__(self, world: World) -> None:
        chance = world.truth.of(world.campaign.goal)
        worth = np.maximum(chance * world.campaign.target, 1e-300)
        wanted = world.rivals / worth <= world.clairvoyant.multiplier
        self._bids = np.where(wanted, world.rivals, 0.0)

    def bid(self, asked: Asked) -> Floats:
        """Bid the rival's price for what it wants, and nothing else."""
        return self._bids[asked.row]

    def learn(self, wins: Wins, postbacks: Postbacks, _now: float, /) -> None:
        """Know everything already."""


def best_multiplier(world: World) -> Reference:
    """Find the single multiplier that would have won most within target and budget."""
    campaign = world.campaign
    sale = Sale(
        prices=world.rivals,
        predicted=world.predicted.of(campaign.goal),
        outcomes=world.outcomes(campaign.goal),
        pays_own_bid=campaign.market.auction == "first",
    )
    return single_multiplier(sale, campaign.target, world.budget)


GRID: Final = tuple(
    Gains(*gains) for gains in product((0.3, 1.0, 3.0), (0.01, 0.03, 0.1, 0.3), (0.0, 0.5))
)


def tune_pid(worlds: Iterable[World], grid: Sequence[Gains] = GRID) -> Gains:
    """Choose the gains with the least mean error, each cut at 1, plus the share of gain missed.

    Tune on other campaigns than those that are reported.
    """
    losses = np.zeros(len(grid))
    for world in worlds:
        losses += [_loss(world, gains) for gains in grid]
    return grid[int(np.argmin(losses))]


def _loss(world: World, gains: Gains) -> float:
    """Judge one run; a campaign out of reach of its target is judged by its gain alone."""
    tried = run(world, PID(brief_of(world), gains))
    gain = tried.gain(world.campaign.goal)
    best = max(world.clairvoyant.gain, 1e-9)
    error = abs(tried.cost / (world.campaign.target * max(gain, 1e-9)) - 1)
    reachable = 1.0 if world.clairvoyant.binds else 0.0
    return reachable * min(error, 1.0) + max(0.0, 1 - gain / best)
