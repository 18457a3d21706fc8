"""Who plays in a scenario: our controller and what it is measured against."""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from rta_service.demo.control_bench.bidder import Experience, OurBidder
from rta_service.domain.control import CostGoal, Mode
from rta_service.simulation.wind_tunnel.baselines import (
    PID,
    Gains,
    LowerOfTwo,
    SingleMultiplier,
    best_multiplier,
)
from rta_service.simulation.wind_tunnel.controller import Brief, Controller, brief_of
from rta_service.simulation.wind_tunnel.world import World

OURS: Final = "ours"
ALONE: Final = "ours, no history"
"""Without the delays of the advertiser's earlier campaigns."""
BOOST: Final = "ours, deep_boost"
ONE_GOAL: Final = "ours, one goal"
"""Only the shallow target."""
PLAIN: Final = "T x p"
TUNED: Final = "PID"
BEST: Final = "best multiplier"
"""The single multiplier that was best by the outcomes: it knows who converted."""

BASELINES: Final = (PLAIN, TUNED)
"""Those that must not beat us: they know what we know."""
SCENARIOS: Final = ("daily", "late", "two_goals", "price_step", "budget")
HIGHEST: Final = 1e6


def players(scenario: str) -> tuple[str, ...]:
    """List who plays, ours first."""
    more = {"two_goals": (BOOST, ONE_GOAL), "late": (ALONE,)}
    return (OURS, *more.get(scenario, ()), PLAIN, TUNED, BEST)


def seat(player: str, world: World, gains: Gains, past: Experience) -> Controller:
    """Make a player's bidder for one campaign."""
    brief = brief_of(world)
    makers: dict[str, Callable[[], Controller]] = {
        OURS: lambda: OurBidder(brief, experience=past),
        ALONE: lambda: OurBidder(brief),
        BOOST: lambda: OurBidder(brief, Mode.DEEP_BOOST, past),
        ONE_GOAL: lambda: OurBidder(_shallow_only(brief), experience=past),
        PLAIN: lambda: SingleMultiplier(brief),
        TUNED: lambda: LowerOfTwo(brief, gains) if brief.other_target else PID(brief, gains),
        BEST: lambda: SingleMultiplier(brief, min(best_multiplier(world).multiplier, HIGHEST)),
    }
    return makers[player]()


def _shallow_only(brief: Brief) -> Brief:
    return replace(brief, goal=CostGoal.SHALLOW, target=brief.other_target, other_target=0.0)
