"""Scores: errors, buckets and recovery."""

from collections.abc import Callable

import numpy as np
import pytest

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.baselines import Clairvoyant, SingleMultiplier
from rta_service.simulation.wind_tunnel.controller import Asked, Wins, brief_of
from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.postbacks import Postbacks
from rta_service.simulation.wind_tunnel.run import run
from rta_service.simulation.wind_tunnel.score import Score, expected_path, recovery, score, table
from rta_service.simulation.wind_tunnel.world import World

Build = Callable[..., World]

BUSY = {"shallow": 0.2, "daily": 0.0, "drift": 0.0}
CALM = {"daily": 0.0, "drift": 0.0}


class Mending:
    """Buys on target, then too dear from a step on, then on target again."""

    def __init__(self, world: World, wrong: tuple[float, float]) -> None:
        self._world = world
        self._wrong = wrong
        self._exact = Clairvoyant(world)

    def bid(self, asked: Asked) -> Floats:
        period = self._world.campaign.period_s
        wrong = (asked.at >= self._wrong[0] * period) & (asked.at < self._wrong[1] * period)
        return np.where(wrong, 1e9, self._exact.bid(asked))

    def learn(self, wins: Wins, postbacks: Postbacks, now: float, /) -> None:
        pass


def test_a_score_states_what_was_paid_and_won(build: Build) -> None:
    world = build(funnel=BUSY)
    result = run(world, SingleMultiplier(brief_of(world), 2.0))

    found = score(result)

    assert found.cost == result.cost
    assert found.gain == result.gain(CostGoal.DEEP)
    assert (found.shallow, found.deep) == (result.gain(CostGoal.SHALLOW), found.gain)
    assert found.best_gain == world.clairvoyant.gain
    assert found.cost_ratio == pytest.approx(result.cost / (50.0 * found.gain))
    assert found.error == pytest.approx(abs(found.cost_ratio - 1))
    assert np.isnan(found.budget_use)
    assert np.isnan(found.other_ratio)
    assert found.recovery is None


def test_both_targets_of_a_campaign_are_judged(build: Build) -> None:
    world = build(funnel=BUSY, other_target=12.0)
    result = run(world, SingleMultiplier(brief_of(world)))

    expected = result.cost / (12.0 * result.gain(CostGoal.SHALLOW))
    assert score(result).other_ratio == pytest.approx(expected)
    assert score(result).other_error == pytest.approx(abs(expected - 1))


def test_of_two_targets_the_one_that_cannot_be_reached_is_judged_upwards_only(build: Build) -> None:
    world = build(funnel=BUSY, other_target=9.0)

    cheap, dear = (score(run(world, SingleMultiplier(brief_of(world), m))) for m in (1.0, 10.0))

    assert world.both is not None
    assert cheap.best_gain == world.both.deep < world.clairvoyant.gain
    assert cheap.cost_ratio < 0.8
    assert cheap.error == 0
    assert dear.error == dear.cost_ratio - 1 > 0


def test_cheaper_is_no_error_where_the_budget_ends_first(build: Build) -> None:
    world = build(funnel=BUSY, budget=0.2)
    result = run(world, SingleMultiplier(brief_of(world)))

    found = score(result)

    assert found.cost_ratio < 0.9
    assert found.error == 0
    assert found.budget_use == pytest.approx(result.cost / world.budget)


def test_money_spent_on_nothing_is_an_error_of_finite_size(build: Build) -> None:
    world = build(requests=2_000, funnel={"shallow": 1e-9, "deep_share": 1e-3}, target=1e9)
    result = run(world, SingleMultiplier(brief_of(world), 1e3))

    found = score(result)

    assert found.gain == 0
    assert found.cost_ratio == pytest.approx(result.cost / (1e9 / 2))


@pytest.mark.parametrize(
    ("chance", "bucket"), [(0.004, "< 30"), (0.01, "30-100"), (0.04, "100-300"), (0.4, "> 300")]
)
def test_a_campaign_belongs_to_the_bucket_of_what_could_be_had(
    build: Build, chance: float, bucket: str
) -> None:
    world = build(funnel={"shallow": chance, "spread": 0.3})

    assert score(run(world, Clairvoyant(world))).bucket == bucket


def test_a_bucket_of_money_is_that_of_its_trades(build: Build) -> None:
    world = build(goal="value", target=0.5, funnel={"shallow": 0.012, "value": 100.0})

    assert world.clairvoyant.gain > 2_000
    assert score(run(world, Clairvoyant(world))).bucket == "30-100"


def test_recovery_is_the_time_until_the_cost_is_back_and_stays(build: Build) -> None:
    world = build(requests=100_000, slots=100, funnel=BUSY, market=CALM)

    found = recovery(run(world, Mending(world, (0.5, 0.6))), after=0.5)

    # wrong for 0.1 of the period, then a window of 0.05 until no wrong slot is in it
    assert found.share == pytest.approx(0.15, abs=0.02)
    cost, worth = expected_path(run(world, Mending(world, (0.5, 0.6))))
    slots = round(found.share * 100)
    assert found.conversions == pytest.approx(worth[50 : 50 + slots].sum() / 50.0)
    assert cost[50:60].sum() > 1.1 * worth[50:60].sum()


def test_one_that_stays_wrong_never_recovers(build: Build) -> None:
    world = build(requests=50_000, slots=100, funnel=BUSY, market=CALM)

    assert np.isinf(recovery(run(world, Mending(world, (0.5, 1.0))), after=0.5).share)


def test_the_first_market_step_is_what_a_score_times(build: Build) -> None:
    steps = [{"at": 0.5, "factor": 2.0}]
    world = build(requests=100_000, slots=100, funnel=BUSY, market={**CALM, "steps": steps})

    found = score(run(world, Mending(world, (0.5, 0.6)))).recovery

    assert found is not None
    assert found.share >= 0.1


def test_a_table_sums_up_by_bucket_and_over_all() -> None:
    nan = float("nan")
    scores = [
        Score("a", "< 30", 10, 8, 30, 8, 10, 1.05, 0.05, nan, nan, nan),
        Score("b", "< 30", 10, 9, 30, 9, 10, 1.15, 0.15, nan, nan, 0.9),
        Score("c", "> 300", 10, 400, 900, 400, 500, 1.3, 0.3, nan, nan, 0.8),
    ]

    few, many, everything = table(scores)

    assert [few.bucket, many.bucket, everything.bucket] == ["< 30", "> 300", "all"]
    assert (few.campaigns, many.campaigns, everything.campaigns) == (2, 1, 3)
    assert (few.within_10, few.within_20) == (0.5, 1.0)
    assert (many.within_10, many.within_20) == (0.0, 0.0)
    assert few.median_error == pytest.approx(0.1)
    assert few.over_clairvoyant == pytest.approx(0.85)
    assert everything.budget_use == pytest.approx(0.85)
    assert np.isnan(few.recovery_share)
