"""A run is a function of its world and its controller, and tells nobody the future."""

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.baselines import PID, Gains, SingleMultiplier
from rta_service.simulation.wind_tunnel.controller import brief_of
from rta_service.simulation.wind_tunnel.run import run, slot_bounds
from rta_service.simulation.wind_tunnel.scenario import load_scenario
from rta_service.simulation.wind_tunnel.witness import Witness
from rta_service.simulation.wind_tunnel.world import World, make_world

Build = Callable[..., World]

GAINS = Gains(1.0, 0.1, 0.5)
ROUGH = {"late_s": 300.0, "missing": 0.1, "twice": 0.2, "cache_s": 900.0}


def test_the_same_seed_gives_the_same_run_and_another_seed_another(build: Build) -> None:
    first, again, other = (
        run(world, PID(brief_of(world), GAINS))
        for world in (build(seed, platform=ROUGH) for seed in (1, 1, 2))
    )

    np.testing.assert_array_equal(first.costs, again.costs)
    np.testing.assert_array_equal(first.won, again.won)
    assert first.gain(CostGoal.DEEP) == again.gain(CostGoal.DEEP)
    assert first.cost != other.cost


def test_two_controllers_that_win_a_row_see_the_same_conversion(build: Build) -> None:
    world = build(funnel={"shallow": 0.2})
    timid, bold = (Witness(SingleMultiplier(brief_of(world), m)) for m in (0.5, 3.0))

    runs = [run(world, witness) for witness in (timid, bold)]

    assert runs[1].won[runs[0].won].all()
    seen = [{int(i) for posts in w.postbacks for i in posts.id} for w in (timid, bold)]
    assert seen[0] < seen[1]


def test_a_controller_is_told_only_what_has_happened_and_only_of_its_wins(build: Build) -> None:
    world = build(funnel={"shallow": 0.2, "deep_delay": {"mean": 0.2}}, platform=ROUGH)
    witness = Witness(SingleMultiplier(brief_of(world)))

    result = run(world, witness)

    assert sum(map(len, witness.postbacks)) > 50
    before = -np.inf
    for posts, now in zip(witness.postbacks, witness.learnt_at, strict=True):
        assert ((posts.arrives_at >= before) & (posts.arrives_at < now)).all()
        assert result.won[posts.row].all()
        before = now


def test_every_postback_that_was_due_is_delivered_once(build: Build) -> None:
    world = build(funnel={"shallow": 0.2, "deep_delay": {"mean": 0.2}}, platform=ROUGH)
    witness = Witness(SingleMultiplier(brief_of(world)))

    result = run(world, witness)

    posts = world.postbacks
    due = result.won[posts.row] & (posts.arrives_at < world.campaign.period_s)
    told = np.concatenate([some.id for some in witness.postbacks])
    assert sorted(told.tolist()) == sorted(posts.id[due].tolist())


def test_gains_count_conversions_that_come_after_the_end(build: Build) -> None:
    world = build(funnel={"shallow": 0.2, "deep_delay": {"mean": 2.0}})
    witness = Witness(SingleMultiplier(brief_of(world)))

    result = run(world, witness)

    seen = sum(int((posts.kind == 1).sum()) for posts in witness.postbacks)
    assert result.gain(CostGoal.DEEP) > 2 * seen > 0


def test_slots_cut_the_period_evenly_and_their_sums_add_up(build: Build) -> None:
    world = build(slots=48)
    bounds = slot_bounds(world)

    result = run(world, SingleMultiplier(brief_of(world)))

    assert len(bounds) == 49
    for slot, (first, end) in enumerate(pairwise(bounds)):
        assert (world.requests.at[first:end] // 1_800 == slot).all()
    assert result.by_slot(result.costs).sum() == pytest.approx(result.cost)
    assert result.by_slot(np.ones(len(world))).sum() == result.won.sum()


@pytest.mark.slow
def test_an_hour_of_a_thousand_requests_a_second_takes_less_than_thirty_seconds() -> None:
    requests = 0
    began = time.process_time()

    for campaign in load_scenario("rush_hour").draw(seed=1):
        world = make_world(campaign, seed=1)
        result = run(world, PID(brief_of(world), GAINS))
        requests += len(result.won)

    assert requests == 3_600_000
    assert time.process_time() - began < 30
