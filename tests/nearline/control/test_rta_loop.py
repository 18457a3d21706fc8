"""The loop closed over a platform that bids by itself and keeps our answers for an hour or a day."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.domain.control import MICROS, Aim, Budget, CostGoal, Limits, Mode, Targets
from rta_service.domain.control_order import WORTH_BINS, Usage
from rta_service.nearline.control.feed import Conversions, Wins
from rta_service.nearline.control.rta import Shaping, Way, advance, rta_limits
from rta_service.nearline.control.unit import ControlUnit, Rules
from rta_service.nearline.control.update import Tuning
from rta_service.simulation.wind_tunnel.controller import Asked, Brief, Wins as Won, brief_of
from rta_service.simulation.wind_tunnel.postbacks import Postbacks
from rta_service.simulation.wind_tunnel.run import Run, run
from rta_service.simulation.wind_tunnel.scenario import load_scenario
from rta_service.simulation.wind_tunnel.world import World, make_world

Floats = NDArray[np.float64]
HOUR_S, DAY_S = 3_600.0, 86_400.0
DAYS = 14
HORIZON_S = 7 * DAY_S
BOUNDS = (0.2, 5.0)
KINDS = (CostGoal.SHALLOW, CostGoal.DEEP)


class Weighing:
    """A worker and its controller in one: worth is deep over shallow, as the event is paid for."""

    def __init__(self, brief: Brief, dead_time_s: float, budget: Budget | None = None) -> None:
        targets = Targets(round(brief.other_target * MICROS), round(brief.target * MICROS))
        tuning = Tuning(horizon_s=HORIZON_S, dead_time_s=dead_time_s)
        rules = Rules(Aim(Mode.TCPA, targets), budget, tuning, rta_limits(Limits()))
        self.unit = ControlUnit("spring@tunnel", rules)
        self.way = Way(bounds=BOUNDS, half_life_s=max(6 * HOUR_S, brief.cache_s))
        self.shaping, self.usage = Shaping(), Usage("spring@tunnel")
        self.path = Path()
        self._seen: set[int] = set()
        self.unit.step(0)

    def bid(self, asked: Asked) -> Floats:
        """Answer with a weight, or 0 for a no."""
        worths = asked.predicted.deep / np.maximum(asked.predicted.shallow, 1e-12)
        shape, told = self.shaping.shape, self.usage
        mean = float(worths.mean()) if shape is None else shape.mean_worth
        weights = np.clip(np.round(worths / mean, 2), *BOUNDS)
        taken = worths >= (0.0 if shape is None else shape.least_worth)
        told.answered += int(taken.sum())
        told.weight_millis += int((1_000 * weights[taken]).sum())
        places = np.clip(np.floor(np.log(worths) * 6.0) + WORTH_BINS - 1, 0, WORTH_BINS - 1)
        for place, people in zip(*np.unique(places, return_counts=True), strict=True):
            told.worths[int(place)] = told.worths.get(int(place), 0) + int(people)
        return np.where(taken, weights, 0.0)

    def learn(self, wins: Won, postbacks: Postbacks, now: float, /) -> None:
        """Step the unit, then shape it."""
        now_ms = round(now * 1_000.0)
        predicted = wins.predicted
        self.unit.learn(
            Wins(
                np.rint(wins.won_at * 1_000.0),
                np.rint(wins.cost * MICROS),
                predicted.shallow,
                predicted.deep,
            )
        )
        for kind, goal in enumerate(KINDS):
            fresh = postbacks.take(self._fresh(postbacks) & (postbacks.kind == kind))
            won, came = np.rint(fresh.won_at * 1_000.0), np.rint(fresh.converted_at * 1_000.0)
            self.unit.learn(None, Conversions(goal, won, came))
        self._seen.update(postbacks.id.tolist())
        block = self.unit.step(now_ms)
        self.shaping = advance(self.shaping, self.usage, block, self.way, now_ms)
        self.path.note(block.goals[0].log_multiplier, self.shaping.keep, self.usage)
        self.usage = Usage("spring@tunnel")
        limits = rta_limits(Limits(), self.shaping.reach if self.shaping.shape else None)
        self.unit.rules = replace(self.unit.rules, limits=limits)

    def _fresh(self, postbacks: Postbacks) -> NDArray[np.bool_]:
        return np.array([one not in self._seen for one in postbacks.id.tolist()], np.bool_)


@dataclass
class Path:
    """What the controller did, step by step."""

    levels: list[float] = field(default_factory=list)
    keeps: list[float] = field(default_factory=list)
    answered: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)

    def note(self, level: float, keep: float, usage: Usage) -> None:
        self.levels.append(level)
        self.keeps.append(keep)
        self.answered.append(usage.answered)
        self.weights.append(usage.weight_millis / 1_000.0)

    def swing(self, first_day: int, last_day: int) -> float:
        """Give how far the level went between two days, from lowest to highest."""
        steps = len(self.levels) // DAYS
        return float(np.ptp(self.levels[first_day * steps : last_day * steps]))

    def daily_weights(self) -> Floats:
        """Give the mean weight answered on each day."""
        sums = [np.array_split(np.asarray(one), DAYS) for one in (self.weights, self.answered)]
        return np.array([w.sum() / a.sum() for w, a in zip(*sums, strict=True)])


class Neutral:
    """Takes part for everybody with a weight of one."""

    def bid(self, asked: Asked) -> Floats:
        """Answer 1."""
        return np.ones(len(asked.row))

    def learn(self, wins: Won, postbacks: Postbacks, _now: float, /) -> None:
        """Learn nothing."""


Build = Callable[[int, float], World]


@pytest.fixture(scope="module")
def build() -> Build:
    def make(number: int, cache_s: float) -> World:
        campaign = list(load_scenario("kept_for_days").draw(1, number + 1))[number]
        platform = msgspec.structs.replace(campaign.platform, cache_s=cache_s)
        return make_world(msgspec.structs.replace(campaign, platform=platform), 1)

    return make


def steer(world: World, *, heeds_cache: bool = True) -> tuple[Run, Path]:
    brief = brief_of(world)
    controller = Weighing(brief, brief.cache_s if heeds_cache else 0.0)
    return run(world, controller), controller.path


def pace(world: World, daily: float, *, heeds_cache: bool = True) -> tuple[Floats, float]:
    """Give each day's cost over its budget, and the deep conversions."""
    brief = brief_of(world)
    dead_time_s = brief.cache_s if heeds_cache else 0.0
    done = run(world, Weighing(brief, dead_time_s, Budget(round(daily * MICROS))))
    days = done.by_slot(done.costs).reshape(DAYS, -1).sum(axis=1) / daily
    return days, done.gain(CostGoal.DEEP)


def over_target(done: Run) -> float:
    return done.cost / (done.world.campaign.target * done.gain(CostGoal.DEEP))


@pytest.mark.parametrize(("cache_s", "swing"), [(HOUR_S, 0.45), (DAY_S, 0.2)])
def test_a_deep_cost_comes_to_its_target_while_answers_are_kept(
    build: Build, cache_s: float, swing: float
) -> None:
    world = build(2, cache_s)

    plain, (done, path) = run(world, Neutral()), steer(world)

    assert over_target(plain) > 1.25
    assert over_target(done) == pytest.approx(1.0, abs=0.1)
    assert path.swing(11, DAYS) < swing
    assert ((path.daily_weights()[1:] > 0.95) & (path.daily_weights()[1:] < 1.05)).all()


def test_a_loop_that_does_not_heed_the_cache_swings_and_loses_conversions(build: Build) -> None:
    world = build(1, DAY_S)

    (done, calm), (blind_done, blind) = steer(world), steer(world, heeds_cache=False)

    assert calm.swing(7, DAYS) < 0.2
    assert blind.swing(7, DAYS) > 3.0 * calm.swing(7, DAYS)
    assert done.gain(CostGoal.DEEP) >= blind_done.gain(CostGoal.DEEP)


def test_a_day_s_money_is_paced_by_who_takes_part_while_answers_are_kept(build: Build) -> None:
    world = build(0, DAY_S)
    world = replace(world, campaign=msgspec.structs.replace(world.campaign, target=90.0))
    daily = 0.6 * run(world, Neutral()).cost / DAYS

    (calm, gain), (blind, blind_gain) = pace(world, daily), pace(world, daily, heeds_cache=False)

    assert calm[7:].mean() == pytest.approx(1.0, abs=0.1)
    assert calm[7:].std() < 0.6 * blind[7:].std()
    assert gain > blind_gain


@pytest.mark.slow
@pytest.mark.parametrize("cache_s", [HOUR_S, 6 * HOUR_S, DAY_S])
def test_campaigns_hold_their_deep_cost_on_a_platform_that_keeps_answers(
    build: Build, cache_s: float
) -> None:
    errors, swings = [], []

    for number in range(12):
        done, path = steer(build(number, cache_s))
        errors.append(abs(over_target(done) - 1.0))
        swings.append((path.swing(4, 8), path.swing(10, DAYS)))
        assert ((path.daily_weights()[1:] > 0.95) & (path.daily_weights()[1:] < 1.05)).all()

    assert float(np.median(errors)) < 0.07
    assert float(np.mean(np.array(errors) < 0.15)) >= 0.9
    earlier, later = np.mean(swings, axis=0)
    assert later <= earlier + 0.05
