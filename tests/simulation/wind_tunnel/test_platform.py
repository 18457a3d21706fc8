"""Kept answers are dead time, weights are void where the platform says so, reports come late."""

from collections.abc import Callable

import numpy as np
import pytest

from rta_service.simulation.wind_tunnel.baselines import SingleMultiplier
from rta_service.simulation.wind_tunnel.controller import Asked, Wins, brief_of
from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.platform import WeightedBids
from rta_service.simulation.wind_tunnel.postbacks import Postbacks
from rta_service.simulation.wind_tunnel.run import run
from rta_service.simulation.wind_tunnel.witness import Witness
from rta_service.simulation.wind_tunnel.world import World

Build = Callable[..., World]

HOUR = 3_600.0


class Planned:
    """Answers by the time of the request alone."""

    def __init__(self, plan: Callable[[float], float]) -> None:
        self._plan = plan

    def bid(self, asked: Asked) -> Floats:
        return np.array([self._plan(at) for at in asked.at])

    def learn(self, wins: Wins, postbacks: Postbacks, now: float, /) -> None:
        pass


def all_or_nothing(at: float) -> float:
    return 1e9 if at < 12 * HOUR else 0.0


def test_without_a_cache_a_no_takes_effect_at_once(build: Build) -> None:
    world = build()

    result = run(world, Planned(all_or_nothing))

    np.testing.assert_array_equal(result.won, world.requests.at < 12 * HOUR)
    assert result.asked == len(world)


def test_a_kept_answer_outlives_a_change_by_the_cache_time_and_no_longer(build: Build) -> None:
    world = build(people=500, slots=96, platform={"cache_s": 2 * HOUR})

    result = run(world, Planned(all_or_nothing))

    at = world.requests.at
    assert result.won[at < 12 * HOUR].all()
    still = result.won[(at >= 12 * HOUR) & (at < 14 * HOUR)]
    assert 0.1 < still.mean() < 0.9
    # a slot is asked about as a whole, so an answer may live to the end of its slot
    assert not result.won[at >= 14 * HOUR + 900].any()


def test_a_person_is_asked_about_once_in_the_cache_time(build: Build) -> None:
    world = build(people=500, slots=96, platform={"cache_s": 2 * HOUR})
    witness = Witness(Planned(all_or_nothing))

    result = run(world, witness)

    rows = np.concatenate([asked.row for asked in witness.asked])
    person, at = world.requests.person[rows], world.requests.at[rows]
    order = np.lexsort((at, person))
    same = np.diff(person[order]) == 0
    assert np.diff(at[order])[same].min() >= 2 * HOUR
    assert result.asked == len(rows) < len(world) / 2


def test_everyone_gets_the_last_answer_given_about_them(build: Build) -> None:
    platform = {"cache_s": 5 * HOUR}
    world = build(people=50, slots=20, market={"auction": "first"}, platform=platform)

    asked_at = run(world, Planned(lambda at: 1e6 + at)).costs - 1e6

    age = world.requests.at - asked_at
    slot = world.campaign.period_s / 20
    assert age.min() >= -1e-6
    assert age.max() <= 5 * HOUR + slot


@pytest.mark.parametrize("answer", [0.0, -1.0, np.nan])
def test_an_answer_of_nothing_or_not_a_number_is_a_no(build: Build, answer: float) -> None:
    world = build(requests=500)

    assert not run(world, Planned(lambda _: answer)).won.any()


def weigh(world: World, weight: float, rows: slice) -> Floats:
    return WeightedBids(world).bids(np.full(rows.stop - rows.start, weight), rows)


def test_a_weight_multiplies_the_platforms_own_bid_in_two_decimals(build: Build) -> None:
    world = build(goal="shallow", target=10.0, platform={"answer": "weight"})
    rows = slice(0, 1_000)

    plain, twice = weigh(world, 1.0, rows), weigh(world, 2.004, rows)

    np.testing.assert_allclose(plain, 10.0 * world.platform_view[rows])
    np.testing.assert_allclose(twice, 2.0 * plain)


@pytest.mark.parametrize("weight", [0.19, 5.01, np.inf])
def test_a_weight_out_of_bounds_is_ignored(build: Build, weight: float) -> None:
    world = build(platform={"answer": "weight"})
    rows = slice(0, 100)

    np.testing.assert_array_equal(weigh(world, weight, rows), weigh(world, 1.0, rows))


def test_in_the_guarantee_period_weights_are_void_but_a_no_is_a_no(build: Build) -> None:
    world = build(platform={"answer": "weight", "guarantee": 0.5})
    inside = slice(0, 1_000)
    outside = slice(len(world) - 1_000, len(world))

    np.testing.assert_array_equal(weigh(world, 2.0, inside), weigh(world, 1.0, inside))
    np.testing.assert_allclose(weigh(world, 2.0, outside), 2 * weigh(world, 1.0, outside))
    assert not weigh(world, 0.0, inside).any()


def test_the_platforms_own_loop_brings_its_cost_to_the_target(build: Build) -> None:
    world = build(
        goal="shallow",
        target=10.0,
        requests=100_000,
        slots=96,
        platform={"answer": "weight", "bias": 1.8, "noise": 0.2},
        market={"spread": 1.0, "level": 0.5},
        funnel={"shallow": 0.1, "daily": 0.0},
    )

    result = run(world, Planned(lambda _: 1.0))

    late = result.won & (world.requests.at > world.campaign.period_s / 2)
    expected = world.truth.shallow[late].sum()
    assert result.costs[late].sum() / (10.0 * expected) == pytest.approx(1.0, abs=0.1)


def test_wins_are_reported_once_and_as_late_as_the_platform_says(build: Build) -> None:
    world = build(platform={"report_s": HOUR})
    witness = Witness(SingleMultiplier(brief_of(world)))

    result = run(world, witness)

    told = np.concatenate([wins.row for wins in witness.wins])
    due = np.flatnonzero(result.won & (world.requests.at < world.campaign.period_s - HOUR))
    np.testing.assert_array_equal(told, due)
    for wins, now in zip(witness.wins, witness.learnt_at, strict=True):
        assert (wins.won_at < now - HOUR).all()
        np.testing.assert_array_equal(wins.cost, result.costs[wins.row])
