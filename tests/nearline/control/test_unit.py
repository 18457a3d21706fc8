"""A control unit: the same from the same events, moving as it should, safe when things break."""

from collections.abc import Callable
from math import nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from rta_service.domain.control import (
    Aim,
    Block,
    Budget,
    CostGoal,
    Limits,
    Mode,
    Reason,
    Targets,
)
from rta_service.domain.control_pricing import bids, prices
from rta_service.domain.errors import InvalidInput
from rta_service.nearline.control.delay import fit, weibull
from rta_service.nearline.control.feed import Conversions, Origin, Wins
from rta_service.nearline.control.unit import ControlUnit, Rules

MINUTE_MS, HOUR_MS = 60_000, 3_600_000
TARGETS = Targets(shallow_micros=20_000_000, deep_micros=100_000_000, roas=0.5)
Feed = Callable[..., tuple[Wins, Conversions, Conversions]]
GOALS = (CostGoal.SHALLOW, CostGoal.DEEP)
events = st.lists(
    st.tuples(
        st.sampled_from(["win", *GOALS]),
        st.integers(0, 3 * HOUR_MS),
        st.integers(0, HOUR_MS),
        st.floats(0.0, 0.5),
    ),
    max_size=60,
)

BOTH = (Mode.DUAL_GUARANTEE, Mode.DEEP_BOOST)


def make(mode: Mode = Mode.TCPA, goal: CostGoal = CostGoal.SHALLOW, **rules: Any) -> ControlUnit:
    return ControlUnit("spring/json", Rules(Aim(mode, TARGETS, goal), **rules))


def learn(unit: ControlUnit, batch: list[Any]) -> None:
    wins = np.array([(at, 1_000 + late, rate) for kind, at, late, rate in batch if kind == "win"])
    wins = wins.reshape(-1, 3)
    unit.learn(Wins(wins[:, 0], wins[:, 1], wins[:, 2], wins[:, 2] / 5.0, wins[:, 2] * 6.0))
    for goal in GOALS:
        came = np.array([(at, at + late) for kind, at, late, _ in batch if kind == goal])
        came = came.reshape(-1, 2)
        unit.learn(None, Conversions(goal, came[:, 0], came[:, 1], 1_000_000))


def offer(block: Block, now_ms: int, rate: float = 0.01) -> float:
    given_rates = np.array([rate, rate / 5.0, rate * 6.0]).reshape(3, 1, 1)
    return float(bids(prices([block], now_ms), given_rates)[0][0, 0])


@settings(max_examples=60, deadline=None)
@given(events, st.sampled_from(Mode), st.lists(st.integers(1, 7), min_size=1, max_size=5))
def test_a_unit_rebuilt_from_the_same_events_is_the_same_to_the_bit(
    history: list[Any], mode: Mode, sizes: list[int]
) -> None:
    rules = Rules(Aim(mode, TARGETS), Budget(10**9))
    whole, pieces = ControlUnit("u", rules), ControlUnit("u", rules)

    for now in range(0, 4 * HOUR_MS, HOUR_MS):
        known = [row for row in history if now - HOUR_MS < row[1] + row[2] <= now]
        learn(whole, known)
        known.reverse()
        for size in sizes:
            learn(pieces, known[:size])
            known = known[size:]
            pieces = ControlUnit.from_bytes("u", rules, pieces.to_bytes())
        learn(pieces, known)

        assert whole.step(now) == pieces.step(now)
        assert whole.to_bytes() == pieces.to_bytes()


def test_a_batch_that_comes_twice_counts_once(unit: ControlUnit, feed: Feed) -> None:
    wins, shallow, deep = feed(wins=100)

    assert unit.learn(wins, shallow, deep, origin=Origin("worker-1", 7))
    unit = ControlUnit.from_bytes("spring/json", unit.rules, unit.to_bytes())
    assert not unit.learn(wins, shallow, deep, origin=Origin("worker-1", 7))
    assert unit.learn(wins, origin=Origin("worker-2", 7))
    unit.step(HOUR_MS)

    assert unit.standings()[0].cost_micros == pytest.approx(200 * 200_000)


def run(unit: ControlUnit, feed: Feed, hours: int, **facts: Any) -> Block:
    """Step every minute through hours that are all alike."""
    block = unit.step(0)
    for minute in range(hours * 60):
        start = minute * MINUTE_MS
        unit.learn(*feed(wins=60, since_ms=start, delay_ms=30_000, **facts))
        block = unit.step(start + MINUTE_MS)
    return block


@pytest.mark.parametrize(
    ("cost", "reason"), [(800_000, Reason.TOO_CHEAP), (1_250_000, Reason.TOO_DEAR)]
)
def test_a_unit_moves_towards_its_target(
    unit: ControlUnit, feed: Feed, cost: int, reason: Reason
) -> None:
    block = run(unit, feed, 2, cost=cost, rate=0.05, came=0.05)

    assert np.sign(block.goals[0].log_multiplier) == np.sign(1_000_000 - cost)
    assert block.version == 121
    assert unit.standings()[0].reason is reason


def test_a_changed_target_rescales_the_bid_at_once_and_leaves_the_multiplier(
    unit: ControlUnit, feed: Feed
) -> None:
    before = run(unit, feed, 2, rate=0.05, came=0.05, cost=1_000_000)

    unit.aim_at(2 * HOUR_MS, Aim(Mode.TCPA, Targets(shallow_micros=40_000_000), CostGoal.SHALLOW))
    after = unit.step(2 * HOUR_MS + MINUTE_MS)

    assert offer(after, after.made_at_ms) == pytest.approx(
        2.0 * offer(before, before.made_at_ms), rel=0.02
    )
    assert after.goals[0].reason is Reason.TARGET_CHANGED
    unit.learn(
        *feed(wins=60, since_ms=2 * HOUR_MS + MINUTE_MS, rate=0.05, came=0.05, cost=2_000_000)
    )
    later = unit.step(2 * HOUR_MS + 2 * MINUTE_MS)
    assert later.goals[0].reason is Reason.ON_TARGET


def test_a_changed_budget_rescales_at_once(feed: Feed) -> None:
    unit = make(budget=Budget(1_000_000_000))
    before = run(unit, feed, 1)

    unit.spend_at_most(Budget(2_000_000_000))
    after = unit.step(HOUR_MS + 1)

    jumped = after.log_budget or 0.0
    assert jumped - (before.log_budget or 0.0) > 0.3
    assert after.goals[0].reason is Reason.BUDGET_CHANGED
    unit.spend_at_most(None)
    assert unit.step(HOUR_MS + 2).log_budget is None
    unit.spend_at_most(Budget(2_000_000_000))
    assert unit.step(HOUR_MS + 3).log_budget == pytest.approx(0.0, abs=0.2)


def test_a_spent_budget_stops_bids_until_the_next_day(feed: Feed) -> None:
    unit = make(budget=Budget(1_000_000_000, day_ms=HOUR_MS))
    unit.step(0)
    unit.learn(*feed(wins=1_800, cost=600_000))

    spent = unit.step(HOUR_MS // 2)
    fresh = unit.step(HOUR_MS + 1)

    assert spent.flags == (Reason.BUDGET_SPENT,)
    assert offer(spent, HOUR_MS // 2) == 0.0
    assert Reason.BUDGET_SPENT not in fresh.flags
    assert offer(fresh, HOUR_MS) > 0.0


def test_without_a_conversion_bids_halve_and_stop(unit: ControlUnit, feed: Feed) -> None:
    unit.inherit({CostGoal.SHALLOW: weibull(3_600.0)})
    unit.step(0)
    unit.learn(feed(wins=480, cost=200_000)[0])
    halved = unit.step(8 * HOUR_MS)
    unit.learn(feed(wins=480, cost=200_000, since_ms=8 * HOUR_MS)[0])
    stopped = unit.step(9 * HOUR_MS)

    assert (halved.throttle, halved.flags) == (0.5, (Reason.NO_CONVERSIONS,))
    assert (stopped.throttle, stopped.flags) == (0.0, (Reason.STOPPED,))
    assert offer(stopped, 9 * HOUR_MS) == 0.0


def test_silence_freezes_and_is_not_read_as_high_cost(unit: ControlUnit, feed: Feed) -> None:
    before = run(unit, feed, 3, rate=0.05, came=0.05, cost=1_000_000)
    block = before
    for minute in range(180, 240):
        unit.learn(feed(wins=60, since_ms=minute * MINUTE_MS, rate=0.05, cost=1_000_000)[0])
        block = unit.step((minute + 1) * MINUTE_MS)

    assert Reason.POSTBACK_OUTAGE in block.flags
    assert block.goals[0].reason is Reason.POSTBACK_OUTAGE
    assert offer(block, block.made_at_ms) == pytest.approx(
        offer(before, before.made_at_ms), rel=0.15
    )


def test_the_advertisers_silence_freezes_a_unit_that_is_too_small_to_know(
    unit: ControlUnit, feed: Feed
) -> None:
    before = run(unit, feed, 1)
    unit.learn(feed(wins=60, since_ms=HOUR_MS, cost=900_000)[0])

    block = unit.step(HOUR_MS + MINUTE_MS, outage=True)

    assert block.goals[0].log_multiplier == before.goals[0].log_multiplier
    assert block.goals[0].scale == before.goals[0].scale


def test_unsound_predictions_give_way_to_their_mean(unit: ControlUnit, feed: Feed) -> None:
    unit.step(0)
    unit.learn(*feed(wins=3_600, rate=0.0005, came=0.02))

    block = unit.step(HOUR_MS + MINUTE_MS)

    assert Reason.MODEL_UNSOUND in block.flags
    assert offer(block, block.made_at_ms, 0.0001) == offer(block, block.made_at_ms, 0.9) > 0


def test_numbers_that_are_none_are_counted_and_do_no_harm(unit: ControlUnit, feed: Feed) -> None:
    unit.step(0)
    unit.learn(*feed())
    unit.learn(Wins([HOUR_MS - 1], [100_000], [nan], [-1.0], [0.0]))

    block = unit.step(HOUR_MS)
    calm = unit.step(4 * HOUR_MS)

    assert Reason.BAD_NUMBER in block.flags
    assert Reason.BAD_NUMBER not in calm.flags
    assert bids(prices([block], HOUR_MS), np.full((3, 1, 1), nan))[0][0, 0] == block.neutral_micros


@pytest.mark.parametrize(
    "batch",
    [
        Wins([1, 2], [1], 0.1),
        Wins([1.0], [nan], 0.1),
        Wins([1], [-5], 0.1),
        Conversions(CostGoal.VALUE, [1], [2]),
    ],
)
def test_a_batch_that_does_not_fit_is_refused_as_a_whole(unit: ControlUnit, batch: Any) -> None:
    good = Conversions(CostGoal.DEEP, [1], [2])
    parts = (batch, good) if isinstance(batch, Wins) else (Wins([1], [1], 0.1), good, batch)
    before = unit.to_bytes()

    with pytest.raises(InvalidInput):
        unit.learn(*parts, origin=Origin("worker-1", 1))

    assert unit.to_bytes() == before


def test_a_cost_cap_opens_only_after_a_proven_surplus(feed: Feed) -> None:
    young, old = make(Mode.COST_CAP), make(Mode.COST_CAP)

    closed = run(young, feed, 1, cost=5_000, rate=0.001, came=0.0)
    opened = run(old, feed, 3, cost=500_000, rate=0.05, came=0.05)

    assert closed.goals[0].log_multiplier == 0.0
    assert closed.goals[0].reason is Reason.CAP_CLOSED
    assert opened.goals[0].log_multiplier > 0.0


def test_max_conversions_is_led_by_the_budget_alone(feed: Feed) -> None:
    unit = make(Mode.MAX_CONVERSIONS, budget=Budget(10**12))

    block = run(unit, feed, 2)

    plain = 20_000_000 * 0.01 * block.goals[0].scale
    assert (block.log_budget or 0.0) > 0.5
    assert offer(block, block.made_at_ms) == pytest.approx(plain * np.exp(block.log_budget or 0.0))


def test_a_dual_guarantee_bids_as_a_boost_and_watches_both_costs(feed: Feed) -> None:
    unit = make(Mode.DUAL_GUARANTEE)

    first = run(unit, feed, 1, rate=0.2, came=0.2, deep=0.1)

    assert first.mode is Mode.DEEP_BOOST
    assert first.theta > 0.0
    assert [standing.goal for standing in unit.standings()] == list(GOALS)


def test_a_deep_cost_lowers_the_bid_once_the_boost_can_do_no_more(feed: Feed) -> None:
    facts = {"rate": 0.2, "came": 0.2, "deep": 0.1, "cost": 4_000_000}
    dual, boost = (make(mode, limits=Limits(max_theta=0.0)) for mode in BOTH)

    minded, unminded = run(dual, feed, 2, **facts), run(boost, feed, 2, **facts)

    assert minded.goals[0].log_multiplier < unminded.goals[0].log_multiplier - 0.1
    assert minded.goals[0].reason is Reason.FOLLOWS_ACTIVE


def test_a_boost_rises_while_deep_conversions_are_too_few(feed: Feed) -> None:
    few, many = make(Mode.DEEP_BOOST), make(Mode.DEEP_BOOST)

    few_block = run(few, feed, 2, rate=0.05, came=0.05, deep=0.0)
    many_block = run(many, feed, 2, rate=0.05, came=0.05, deep=0.34)

    assert few_block.theta == 0.3
    assert many_block.theta == 0.0
    assert len(few.standings()) == 2


def test_roas_counts_money(feed: Feed) -> None:
    unit = make(Mode.ROAS)

    run(unit, feed, 4, rate=0.1, came=0.1, deep=0.34, cost=100_000)

    standing = unit.standings()[0]
    assert standing.goal is CostGoal.VALUE
    assert standing.arrived == pytest.approx(4 * 60 * 2 * 30.0, rel=0.01)
    assert standing.expected_low <= standing.expected <= standing.expected_high
    assert (standing.expected_cost_micros or 0.0) < standing.target_micros
    assert standing.log_multiplier > 0.0


def test_after_a_long_silence_a_unit_probes(unit: ControlUnit, feed: Feed) -> None:
    run(unit, feed, 1)
    before = unit.levels.logs[CostGoal.SHALLOW]

    for hour in range(2, 12):
        unit.step(hour * HOUR_MS)

    assert unit.levels.reasons[CostGoal.SHALLOW] in {Reason.PROBING, Reason.NO_EVIDENCE}
    assert unit.levels.logs[CostGoal.SHALLOW] > min(before, 0.39)


def test_a_unit_inherits_the_delay_law_of_its_advertiser(feed: Feed) -> None:
    teacher, pupil = make(), make()
    run(teacher, feed, 2, rate=0.05, came=0.05)
    known = teacher.delay_evidence(CostGoal.SHALLOW)

    pupil.inherit({CostGoal.SHALLOW: fit(known, weibull(3_600.0))})
    pupil.learn(feed(wins=600)[0])
    pupil.step(20 * MINUTE_MS)
    other = make()
    other.learn(feed(wins=600)[0])
    other.step(20 * MINUTE_MS)

    assert pupil.standings()[0].matured != other.standings()[0].matured


@pytest.mark.parametrize(
    ("mode", "targets"),
    [
        (Mode.TCPA, Targets(shallow_micros=1)),
        (Mode.ROAS, Targets(deep_micros=1)),
        (Mode.DUAL_GUARANTEE, Targets(deep_micros=1)),
        (Mode.DEEP_BOOST, Targets(shallow_micros=1)),
        (Mode.COST_CAP, Targets(deep_micros=-1)),
    ],
)
def test_an_aim_without_its_target_is_refused(mode: Mode, targets: Targets) -> None:
    with pytest.raises(InvalidInput):
        Aim(mode, targets)


def test_a_deep_rate_prices_the_deep_goal_of_a_boost(feed: Feed) -> None:
    aim = Aim(Mode.DEEP_BOOST, Targets(shallow_micros=20_000_000, deep_rate=0.1))
    unit = ControlUnit("u", Rules(aim, limits=Limits(max_bid_micros=150_000)))

    block = run(unit, feed, 1)

    assert unit.standings()[1].target_micros == pytest.approx(200_000_000)
    assert offer(block, block.made_at_ms) == 150_000


def test_what_is_taken_back_leaves_the_books_as_if_it_had_never_come() -> None:
    plain, moved = make(Mode.ROAS), make(Mode.ROAS)
    wins = Wins([0, 60_000], 1_000, 0.1, 0.02, 0.2)
    there = Conversions(CostGoal.DEEP, [60_000], [90_000], 5_000_000)
    wrong = Conversions(CostGoal.DEEP, [0], [90_000], 5_000_000)

    plain.learn(wins, there)
    moved.learn(wins, wrong)
    moved.learn(None, Conversions(CostGoal.DEEP, [0], [90_000], -5_000_000, -1), there)
    for unit in (plain, moved):
        unit.step(HOUR_MS)

    assert moved.to_bytes() == plain.to_bytes()


def test_costs_that_come_apart_from_predictions_leave_their_mean() -> None:
    unit = make()

    unit.learn(Wins([0, 0], 0, [0.01, 0.03]))
    unit.learn(Wins([0], 300_000, 0.0, told=0))

    assert unit.step(HOUR_MS).goals[0].mean_prediction == pytest.approx(0.02)
