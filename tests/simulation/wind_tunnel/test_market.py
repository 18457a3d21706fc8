"""Who wins, what a winner pays, and that nobody spends what is not there."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.simulation.wind_tunnel.baselines import SingleMultiplier
from rta_service.simulation.wind_tunnel.controller import brief_of
from rta_service.simulation.wind_tunnel.market import affordable
from rta_service.simulation.wind_tunnel.run import Run, run
from rta_service.simulation.wind_tunnel.world import World

Build = Callable[..., World]


def bid_plainly(world: World, multiplier: float = 1.0) -> Run:
    return run(world, SingleMultiplier(brief_of(world), multiplier))


def test_in_a_second_price_auction_the_winner_pays_the_rivals_price(build: Build) -> None:
    world = build()
    bids = world.predicted.deep * world.campaign.target

    result = bid_plainly(world)

    assert 0 < result.won.sum() < len(world)
    np.testing.assert_array_equal(result.won, bids >= world.rivals)
    np.testing.assert_array_equal(result.costs[result.won], world.rivals[result.won])


def test_in_a_first_price_auction_the_winner_pays_its_own_bid(build: Build) -> None:
    world = build(market={"auction": "first"})
    bids = world.predicted.deep * world.campaign.target

    result = bid_plainly(world)

    assert 0 < result.won.sum() < len(world)
    np.testing.assert_array_equal(result.costs[result.won], bids[result.won])


def test_what_is_lost_costs_nothing(build: Build) -> None:
    result = bid_plainly(build())

    assert not result.costs[~result.won].any()
    assert result.cost == pytest.approx(result.costs[result.won].sum())


@pytest.mark.parametrize("auction", ["second", "first"])
def test_a_budget_is_spent_but_never_overspent(build: Build, auction: str) -> None:
    world = build(budget=0.3, market={"auction": auction})

    result = bid_plainly(world, multiplier=5.0)

    assert result.cost <= world.budget
    assert result.cost > 0.98 * world.budget


def test_a_platform_that_does_not_stop_lets_the_budget_be_overspent(build: Build) -> None:
    world = build(budget=0.3, platform={"stops_at_budget": False})

    assert bid_plainly(world, multiplier=5.0).cost > world.budget


@given(
    st.lists(st.floats(0.0, 1e3), max_size=30),
    st.floats(0.0, 5e3),
)
def test_what_is_affordable_fits_and_one_more_would_not(costs: list[float], left: float) -> None:
    count = affordable(np.array(costs), left)

    assert np.cumsum([0.0, *costs])[count] <= left
    assert count == len(costs) or np.cumsum(costs)[count] > left


def test_a_step_moves_all_later_prices_and_no_earlier_one(build: Build) -> None:
    plain = build()
    stepped = build(market={"steps": [{"at": 0.5, "factor": 2.0}]})

    change = stepped.rivals / plain.rivals

    later = plain.requests.at >= plain.campaign.period_s / 2
    np.testing.assert_allclose(change[later], 2.0)
    np.testing.assert_allclose(change[~later], 1.0)


def test_rivals_bid_more_in_the_evening_than_at_night(build: Build) -> None:
    world = build(market={"daily": 0.5, "drift": 0.0, "spread": 0.3})
    hour = world.requests.at / 3_600

    night, evening = (world.rivals[(hour >= h) & (hour < h + 2)] for h in (3, 20))

    assert np.log(np.median(evening) / np.median(night)) == pytest.approx(1.1, abs=0.15)


def test_a_market_drifts_from_where_it_began(build: Build) -> None:
    market = {"spread": 0.0, "follows_value": 0.0, "daily": 0.0, "drift": 0.3}
    worlds = (build(seed, requests=500, market=market) for seed in range(60))
    ends = [np.log(world.rivals[-1] / world.rivals[0]) for world in worlds]

    assert np.std(ends) == pytest.approx(0.3, rel=0.3)
    assert abs(np.mean(ends)) < 0.12


def test_no_price_is_below_the_floor(build: Build) -> None:
    world = build(market={"floor": 0.8})

    floor = 0.8 * world.campaign.target * 0.02 * 0.3
    assert world.rivals.min() == pytest.approx(floor)
