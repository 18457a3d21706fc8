"""Blow a world at a controller, slot by slot."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.controller import Controller
from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.market import affordable, auction
from rta_service.simulation.wind_tunnel.platform import AnswerCache, Reports, WeightedBids
from rta_service.simulation.wind_tunnel.world import World


@dataclass(frozen=True, slots=True)
class Run:
    """What a controller won in a world; columns have a row a request."""

    world: World
    won: NDArray[np.bool_]
    costs: Floats
    """0 where the row was not won."""
    asked: int
    """How many requests reached the controller: fewer than rows where answers are kept."""

    @property
    def cost(self) -> float:
        """Money spent."""
        return float(self.costs.sum())

    def gain(self, goal: CostGoal) -> float:
        """Count what the wins led to, also after the period: conversions, or money for `value`."""
        return float(self.world.outcomes(goal)[self.won].sum())

    def by_slot(self, column: Floats) -> Floats:
        """Sum a column of rows over the won ones of each slot."""
        bounds = slot_bounds(self.world)
        sums = np.concatenate([[0.0], np.cumsum(np.where(self.won, column, 0.0))])
        return np.diff(sums[bounds])


def slot_bounds(world: World) -> NDArray[np.int64]:
    """Give the first row of every slot, and the end of the last one."""
    inner = np.searchsorted(world.requests.at, world.slot_ends[:-1], side="left")
    return np.concatenate([[0], inner, [len(world)]]).astype(np.int64)


def run(world: World, controller: Controller) -> Run:
    """Let a controller bid through a world's period; deterministic where the controller is."""
    campaign = world.campaign
    cache, reports = AnswerCache(world), Reports(world)
    weighted = WeightedBids(world) if campaign.platform.answer == "weight" else None
    won, costs = np.zeros(len(world), dtype=np.bool_), np.zeros(len(world))
    left = world.budget if campaign.platform.stops_at_budget else np.inf
    bounds = slot_bounds(world)
    for first, end, now in zip(bounds[:-1], bounds[1:], world.slot_ends, strict=True):
        rows = slice(first, end)
        bids = cache.answers(controller, first, end)
        if weighted:
            bids = weighted.bids(bids, rows)
        wins, paid = _sell(world, bids, rows, left)
        won[wins], costs[wins] = True, paid
        left -= float(paid.sum())
        posts = reports.postbacks(won, now)
        if weighted:
            weighted.end_slot(wins, float(paid.sum()), posts)
        controller.learn(reports.wins(costs, won, now), posts, now)
    return Run(world, won, costs, cache.asked)


def _sell(world: World, bids: Floats, rows: slice, left: float) -> tuple[NDArray[np.int64], Floats]:
    """Hold a slot's auctions: the rows won and their costs, as far as the money goes."""
    won, price = auction(world.campaign, bids, world.rivals[rows])
    inside = np.flatnonzero(won)
    paid = price[inside]
    count = affordable(paid, left)
    return rows.start + inside[:count], paid[:count]
