"""What a controller sees and does in the wind tunnel; adapters and baselines implement it."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.funnel import Chances
from rta_service.simulation.wind_tunnel.postbacks import Postbacks
from rta_service.simulation.wind_tunnel.world import World


@dataclass(frozen=True, slots=True)
class Brief:
    """What an advertiser knows of a campaign before it starts."""

    goal: CostGoal
    target: float
    other_target: float
    """Of the other funnel goal; 0 means none."""
    budget: float
    """Infinite without one."""
    period_s: float
    slot_s: float
    """How often the controller learns."""
    start_hour: float
    answer: Literal["price", "weight"]
    cache_s: float
    past_delays: tuple[Floats, Floats]
    """Of earlier campaigns' conversions, shallow and deep, in seconds; often empty."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests that the platform asks about; columns of one length, ordered by time."""

    row: NDArray[np.int64]
    """The request's number in its world; an honest controller only joins by it."""
    at: Floats
    predicted: Chances


@dataclass(frozen=True, slots=True)
class Wins:
    """Won impressions that the platform reports, ordered by time."""

    row: NDArray[np.int64]
    won_at: Floats
    cost: Floats
    predicted: Chances

    def __len__(self) -> int:
        return len(self.row)


class Controller(Protocol):
    """One campaign's bidder, made anew for every run."""

    def bid(self, asked: Asked) -> Floats:
        """Answer with a price an impression, or a weight; 0 or less, or NaN, is a no."""
        ...

    def learn(self, wins: Wins, postbacks: Postbacks, now: float, /) -> None:
        """Take in, at the end of a slot, what was reported since the last one."""
        ...


class ControllerMaker(Protocol):
    """Makes a campaign's controller from what its advertiser knows."""

    def __call__(self, brief: Brief) -> Controller:
        """Make it, without any memory of another run."""
        ...


def brief_of(world: World) -> Brief:
    """Tell what the advertiser of a world's campaign knows."""
    campaign = world.campaign
    return Brief(
        goal=campaign.goal,
        target=campaign.target,
        other_target=campaign.other_target,
        budget=world.budget,
        period_s=campaign.period_s,
        slot_s=campaign.period_s / campaign.slots,
        start_hour=campaign.start_hour,
        answer=campaign.platform.answer,
        cache_s=campaign.platform.cache_s,
        past_delays=world.past_delays,
    )


def choose(chances: Chances, rows: NDArray[np.int64] | NDArray[np.bool_] | slice) -> Chances:
    """Give some rows of the three columns."""
    return Chances(chances.shallow[rows], chances.deep[rows], chances.value[rows])
