"""The platform's side: kept answers, its own cost loop, void weights, reports of wins."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.controller import Asked, Controller, Wins, choose
from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.funnel import SHALLOW
from rta_service.simulation.wind_tunnel.postbacks import Postbacks
from rta_service.simulation.wind_tunnel.world import World

WEIGHTS: Final = (0.2, 5.0)
"""A weight outside is ignored, which is a weight of one."""
_PSEUDO: Final = 20.0
"""Pseudo-conversions of the platform's trust in its own predictions."""


class AnswerCache:
    """Keeps a person's answer for a while: dead time that a controller must live with.

    A person's first request of a slot is asked about if the answer is older than that; requests
    in between live with the old one, a no as well as a yes.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._keep_s = world.campaign.platform.cache_s
        people = world.campaign.people
        self._until = np.full(people, -np.inf)
        self._answer = np.zeros(people)
        self.asked = 0

    def answers(self, controller: Controller, first: int, end: int) -> Floats:
        """Ask the controller about rows [first, end) and give an answer for each of them."""
        if self._keep_s == 0:
            return self._ask(controller, np.arange(first, end))
        at = self._world.requests.at[first:end]
        person = self._world.requests.person[first:end]
        expired = np.flatnonzero(self._until[person] <= at)
        _, firsts = np.unique(person[expired], return_index=True)
        asked = np.sort(expired[firsts])
        fresh = self._ask(controller, first + asked)
        answers = self._answer[person]
        self._until[person[asked]] = at[asked] + self._keep_s
        self._answer[person[asked]] = fresh
        answers[expired] = self._answer[person[expired]]
        return answers

    def _ask(self, controller: Controller, rows: NDArray[np.int64]) -> Floats:
        self.asked += len(rows)
        world = self._world
        asked = Asked(rows, world.requests.at[rows], choose(world.predicted, rows))
        answers = np.asarray(controller.bid(asked), dtype=np.float64)
        return np.where(answers > 0, answers, 0.0)


class WeightedBids:
    """The platform's own bid for shallow conversions, times the weight of our answer."""

    def __init__(self, world: World) -> None:
        campaign = world.campaign
        shallow = campaign.goal == CostGoal.SHALLOW
        self._world = world
        self._target = campaign.target if shallow else campaign.other_target
        if self._target == 0:
            self._target = campaign.target * campaign.funnel.deep_share
        self._guarantee_s = campaign.platform.guarantee * campaign.period_s
        self._gain = campaign.platform.gain
        self._expected = self._arrived = 0.0
        self.level = 1.0
        """The platform's own multiplier."""

    def bids(self, answers: Floats, rows: slice) -> Floats:
        """Turn answers into bids an impression: tCPA x its own prediction x level x weight."""
        at = self._world.requests.at[rows]
        weights = np.round(answers, 2)
        void = (weights < WEIGHTS[0]) | (weights > WEIGHTS[1]) | (at < self._guarantee_s)
        weights = np.where(void, 1.0, weights)
        own = self._target * self._world.platform_view[rows] * self.level
        return np.where(answers > 0, own * weights, 0.0)

    def end_slot(self, won: NDArray[np.int64], cost: float, postbacks: Postbacks) -> None:
        """Move the platform's own level toward its target cost of shallow conversions."""
        expected = float(self._world.platform_view[won].sum())
        self._expected += expected
        self._arrived += len(np.unique(postbacks.id[postbacks.kind == SHALLOW]))
        trust = (_PSEUDO + self._arrived) / (_PSEUDO + self._expected)
        error = 0.1
        if expected > 0:
            error = float(np.clip(np.log(self._target * expected * trust / cost), -0.5, 0.5))
        self.level = float(np.clip(self.level * np.exp(self._gain * error), 0.05, 20.0))


class Reports:
    """Brings wins and postbacks to the controller when they are due, each once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rows = self._posts = 0

    def wins(self, costs: Floats, won: NDArray[np.bool_], now: float) -> Wins:
        """Give wins of which the platform has told by now."""
        world = self._world
        told = now - world.campaign.platform.report_s
        end = int(np.searchsorted(world.requests.at, told, side="left"))
        rows = self._rows + np.flatnonzero(won[self._rows : end])
        self._rows = max(self._rows, end)
        return Wins(rows, world.requests.at[rows], costs[rows], choose(world.predicted, rows))

    def postbacks(self, won: NDArray[np.bool_], now: float) -> Postbacks:
        """Give postbacks of won rows that have arrived by now."""
        planned = self._world.postbacks
        end = int(np.searchsorted(planned.arrives_at, now, side="left"))
        due = planned.take(slice(self._posts, end))
        self._posts = end
        return due.take(won[due.row])
