"""The baselines do what their names say, and the references can be had."""

from collections.abc import Callable

import numpy as np
import pytest

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.baselines import (
    PID,
    Clairvoyant,
    Gains,
    LowerOfTwo,
    SingleMultiplier,
    best_multiplier,
    tune_pid,
)
from rta_service.simulation.wind_tunnel.controller import brief_of
from rta_service.simulation.wind_tunnel.hindsight import cheapest_first
from rta_service.simulation.wind_tunnel.run import Run, run
from rta_service.simulation.wind_tunnel.witness import Witness
from rta_service.simulation.wind_tunnel.world import World

Build = Callable[..., World]

GAINS = Gains(1.0, 0.1, 0.5)
BUSY = {"shallow": 0.2}


def ratio(result: Run) -> float:
    campaign = result.world.campaign
    return result.cost / (campaign.target * result.gain(campaign.goal))


def test_target_times_prediction_alone_leaves_the_cost_far_below_target(build: Build) -> None:
    world = build(funnel=BUSY)

    result = run(world, SingleMultiplier(brief_of(world)))

    assert ratio(result) < 0.75
    assert result.gain(CostGoal.DEEP) < 0.7 * world.clairvoyant.gain


@pytest.mark.parametrize("auction", ["second", "first"])
@pytest.mark.parametrize("goal", CostGoal)
@pytest.mark.parametrize("budget", [0.0, 0.5])
def test_the_clairvoyants_result_can_be_had(
    build: Build, auction: str, goal: CostGoal, budget: float
) -> None:
    target = 0.6 if goal == CostGoal.VALUE else 50.0
    market = {"auction": auction}
    world = build(goal=goal, target=target, budget=budget, funnel=BUSY, market=market)

    result = run(world, Clairvoyant(world))

    best = world.clairvoyant
    assert best.binds
    assert result.cost == pytest.approx(best.cost)
    assert world.truth.of(goal)[result.won].sum() == pytest.approx(best.gain)
    assert best.cost <= target * best.gain
    assert best.cost <= world.budget


def test_no_other_choice_of_requests_beats_the_clairvoyant() -> None:
    rng = np.random.default_rng(4)
    for _ in range(50):
        prices, chance = rng.lognormal(0.0, 1.0, 8), rng.uniform(0.1, 0.9, 8)

        best = cheapest_first(prices, chance, target=1.0)

        sets = (np.arange(256)[:, None] >> np.arange(8)) & 1
        cost, gain = sets @ prices, sets @ chance
        # one request is indivisible, and may be all that parts it from the best set
        assert best.gain >= gain[cost <= gain].max() - chance.max()
        assert best.cost <= best.gain


def test_a_market_that_is_cheap_everywhere_binds_nobody(build: Build) -> None:
    world = build(market={"level": -4.0})

    assert not world.clairvoyant.binds
    assert world.clairvoyant.gain == pytest.approx(world.truth.deep.sum())


def test_with_a_bid_that_buys_nothing_within_the_target_there_is_no_reference() -> None:
    nothing = cheapest_first(np.array([9.0, 8.0]), np.array([0.1, 0.2]), target=1.0)

    assert (nothing.cost, nothing.gain, nothing.multiplier) == (0.0, 0.0, 0.0)


def test_what_can_be_had_of_two_goals_keeps_both_targets(build: Build) -> None:
    world = build(target=50.0, other_target=15.0, funnel=BUSY)

    both = world.both

    assert both is not None
    assert 0 < both.share < 1
    assert 0.95 < both.cost / (15.0 * both.shallow) <= 1
    assert 0.95 < both.cost / (50.0 * both.deep) <= 1
    assert 0.95 * world.clairvoyant.gain < both.deep < world.clairvoyant.gain


def test_a_loose_second_target_changes_nothing(build: Build) -> None:
    world = build(other_target=1e6, funnel=BUSY)

    both = world.both

    assert both is not None
    assert both.share == 0
    assert both.deep == pytest.approx(world.clairvoyant.gain)
    assert both.multiplier == pytest.approx(world.clairvoyant.multiplier)


@pytest.mark.parametrize("auction", ["second", "first"])
def test_the_best_multiplier_beats_every_other_that_keeps_the_target(
    build: Build, auction: str
) -> None:
    world = build(funnel=BUSY, market={"auction": auction})
    best = best_multiplier(world)

    result = run(world, SingleMultiplier(brief_of(world), best.multiplier * (1 + 1e-12)))

    assert result.gain(CostGoal.DEEP) == best.gain
    assert result.cost == pytest.approx(best.cost)
    assert 0.98 < ratio(result) <= 1
    for multiplier in np.geomspace(0.2, 8.0, 30):
        other = run(world, SingleMultiplier(brief_of(world), multiplier))
        assert other.gain(CostGoal.DEEP) <= best.gain or ratio(other) > 1


def test_the_pid_comes_near_its_target_when_conversions_are_prompt(build: Build) -> None:
    world = build(requests=60_000, slots=80, funnel=BUSY)

    assert ratio(run(world, PID(brief_of(world), GAINS))) == pytest.approx(1, abs=0.1)


def test_the_pid_bids_far_too_low_when_conversions_are_late(build: Build) -> None:
    late = {**BUSY, "deep_delay": {"shape": "days", "mean": 0.5}}
    world = build(requests=60_000, slots=80, funnel=late)

    assert ratio(run(world, PID(brief_of(world), GAINS))) < 0.8


def test_the_pid_counts_a_duplicate_once(build: Build) -> None:
    plain, twice = (
        run(world, PID(brief_of(world), GAINS))
        for world in (build(funnel=BUSY, platform={"twice": share}) for share in (0.0, 1.0))
    )

    np.testing.assert_array_equal(plain.costs, twice.costs)


def test_the_pid_holds_a_cost_of_money_too(build: Build) -> None:
    world = build(goal="value", target=0.6, requests=60_000, slots=80, funnel=BUSY)

    assert ratio(run(world, PID(brief_of(world), GAINS))) == pytest.approx(1, abs=0.15)


def test_the_lower_of_two_pids_keeps_both_targets(build: Build) -> None:
    world = build(requests=60_000, slots=80, other_target=12.0, funnel=BUSY)

    result = run(world, LowerOfTwo(brief_of(world), GAINS))

    assert result.cost / (12.0 * result.gain(CostGoal.SHALLOW)) == pytest.approx(1, abs=0.1)
    assert ratio(result) < 1


def test_tuning_chooses_the_gains_that_come_nearest_to_the_target(build: Build) -> None:
    worlds = [build(seed, funnel=BUSY) for seed in (1, 2)]

    chosen = tune_pid(worlds, [Gains(0.0, 0.0, 0.0), GAINS, Gains(40.0, 9.0, 20.0)])

    assert chosen == GAINS


def test_for_a_weight_the_multiplier_shapes_about_its_mean(build: Build) -> None:
    world = build(platform={"answer": "weight"})
    witness = Witness(SingleMultiplier(brief_of(world)))

    run(world, witness)

    weights = np.concatenate(witness.answers[1:])
    assert weights.mean() == pytest.approx(1.0, rel=0.05)
