"""A campaign's world, drawn once: every controller is blown at by the very same wind."""

from dataclasses import dataclass

import numpy as np

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.curves import Floats, arrivals
from rta_service.simulation.wind_tunnel.funnel import (
    DEEP,
    SHALLOW,
    Chances,
    Conversions,
    Requests,
    make_requests,
    past_delays,
    predictions,
    toss_conversions,
    true_chances,
)
from rta_service.simulation.wind_tunnel.hindsight import Mix, Reference, best_mix, cheapest_first
from rta_service.simulation.wind_tunnel.market import rival_prices
from rta_service.simulation.wind_tunnel.postbacks import Postbacks, send_postbacks
from rta_service.simulation.wind_tunnel.scenario import Campaign


@dataclass(frozen=True, slots=True)
class World:
    """All that can happen to a campaign; rows are requests, ordered by time."""

    campaign: Campaign
    requests: Requests
    truth: Chances
    predicted: Chances
    platform_view: Floats
    """What the platform itself predicts of a shallow conversion."""
    rivals: Floats
    conversions: Conversions
    postbacks: Postbacks
    past_delays: tuple[Floats, Floats]
    """Seconds from impression to shallow and to deep conversion, of earlier campaigns."""
    clairvoyant: Reference
    """The most that the goal and the budget allow to one who knows all prices and true chances."""
    both: Mix | None
    """The same with the shallow target too, where a deep goal has one beside it."""
    budget: float
    """In money; infinite where the campaign has none."""

    def __len__(self) -> int:
        return len(self.rivals)

    @property
    def slot_ends(self) -> Floats:
        """Give the times at which a controller learns."""
        campaign = self.campaign
        return np.linspace(0.0, campaign.period_s, campaign.slots + 1)[1:]

    def outcomes(self, goal: CostGoal) -> Floats:
        """Give what each row would yield if won: conversions, or money for `value`."""
        kind = SHALLOW if goal == CostGoal.SHALLOW else DEEP
        mine = self.conversions.kind == kind
        weights = self.conversions.value[mine] if goal == CostGoal.VALUE else None
        return np.bincount(self.conversions.row[mine], weights, len(self)).astype(np.float64)


def make_world(campaign: Campaign, seed: int) -> World:
    """Draw a campaign's world; the same campaign and seed give the same one."""
    streams = np.random.SeedSequence([seed, campaign.number]).spawn(9)
    rng = [np.random.default_rng(stream) for stream in streams]
    at = arrivals(rng[0], campaign.requests, campaign.period_s, campaign.start_hour)
    requests = make_requests(campaign, rng[1], at)
    truth = true_chances(campaign, rng[2], requests)
    rivals = rival_prices(campaign, rng[3], requests)
    conversions = toss_conversions(campaign, rng[4], requests, truth)
    best, budget = _most(campaign, truth, rivals)
    return World(
        campaign=campaign,
        requests=requests,
        truth=truth,
        predicted=predictions(campaign, rng[5], requests),
        platform_view=_platform_view(campaign, rng[6], truth.shallow),
        rivals=rivals,
        conversions=conversions,
        postbacks=send_postbacks(campaign, rng[7], requests, conversions),
        past_delays=past_delays(campaign, rng[8]),
        clairvoyant=best,
        both=_most_of_both(campaign, truth, (rivals, budget)),
        budget=budget,
    )


def _most(campaign: Campaign, truth: Chances, rivals: Floats) -> tuple[Reference, float]:
    """Find the clairvoyant's result, with the budget that is set as a share of its spend."""
    chance = truth.of(campaign.goal)
    free = cheapest_first(rivals, chance, campaign.target)
    if campaign.budget == 0:
        return free, np.inf
    budget = free.cost * campaign.budget
    return cheapest_first(rivals, chance, campaign.target, budget), budget


def _most_of_both(campaign: Campaign, truth: Chances, market: tuple[Floats, float]) -> Mix | None:
    if campaign.goal != CostGoal.DEEP or campaign.other_target == 0:
        return None
    rivals, budget = market
    targets = (campaign.other_target, campaign.target)
    return best_mix(rivals, (truth.shallow, truth.deep), targets, budget)


def _platform_view(campaign: Campaign, rng: np.random.Generator, chance: Floats) -> Floats:
    platform = campaign.platform
    sigma = platform.noise
    noise = np.exp(sigma * rng.standard_normal(len(chance)) - sigma * sigma / 2)
    return np.asarray(np.minimum(platform.bias * chance * noise, 1.0), dtype=np.float64)
