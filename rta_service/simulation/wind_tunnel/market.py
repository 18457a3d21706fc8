"""Auctions against rivals whose prices are lognormal, with daily shape, drift and steps."""

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.curves import RIVALRY, Floats, by_hour, drift
from rta_service.simulation.wind_tunnel.funnel import Requests, stepped
from rta_service.simulation.wind_tunnel.scenario import Campaign


def rival_prices(campaign: Campaign, rng: np.random.Generator, requests: Requests) -> Floats:
    """Draw the price that each request must beat."""
    market, at = campaign.market, requests.at
    log = market.level + market.spread * rng.standard_normal(len(at))
    log += market.follows_value * np.log(requests.likely / campaign.funnel.shallow)
    log += market.daily * by_hour(RIVALRY, at, campaign.start_hour)
    log += drift(rng, at, campaign.period_s, market.drift)
    prices = np.exp(log) * stepped(campaign, market.steps, at)
    return np.asarray(mean_worth(campaign) * np.maximum(prices, market.floor), dtype=np.float64)


def mean_worth(campaign: Campaign) -> float:
    """Give the price of the mean request that lands on the target: T x chance."""
    funnel = campaign.funnel
    deep = funnel.shallow * funnel.deep_share
    chances = {
        CostGoal.SHALLOW: funnel.shallow,
        CostGoal.DEEP: deep,
        CostGoal.VALUE: deep * funnel.value,
    }
    return campaign.target * chances[campaign.goal]


def auction(campaign: Campaign, bids: Floats, rivals: Floats) -> tuple[NDArray[np.bool_], Floats]:
    """Sell each impression: which bids win, and what a winner pays (second price: the rival's)."""
    won = bids >= rivals
    return won, rivals if campaign.market.auction == "second" else bids


def affordable(costs: Floats, left: float) -> int:
    """Count the first wins that a budget pays in full; the slot ends at the next one."""
    return int(np.searchsorted(np.cumsum(costs), left, side="right"))
