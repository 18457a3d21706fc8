"""The view that people have of a unit."""

from collections.abc import Callable
from itertools import pairwise

import msgspec
import pytest

from rta_service.domain.control import Aim, Budget, CostGoal, Mode, Reason, Targets
from rta_service.domain.control_order import UnitView, Usage
from rta_service.nearline.control.feed import Conversions, Wins
from rta_service.nearline.control.unit import ControlUnit, Rules
from rta_service.nearline.control.viewing import KEPT_MOVES, view

HOUR_MS = 3_600_000
Feed = Callable[..., tuple[Wins, Conversions, Conversions]]


def test_a_view_tells_where_the_cost_and_the_day_s_money_stand(feed: Feed) -> None:
    aim = Aim(Mode.TCPA, Targets(shallow_micros=20_000_000), CostGoal.SHALLOW)
    budget = Budget(2_400_000_000, curve=(1.0, 3.0), day_ms=2 * HOUR_MS)
    unit = ControlUnit("spring@json", Rules(aim, budget))
    unit.step(0)
    unit.learn(*feed(wins=3_600, cost=200_000))

    seen = view(unit, unit.step(HOUR_MS), fed_until_ms=HOUR_MS - 5, usage=Usage("spring@json", 9))

    assert seen.told == 3_600
    assert seen.standings[0].cost_micros == pytest.approx(720_000_000)
    assert seen.standings[0].expected_low <= seen.standings[0].expected
    assert seen.pace is not None
    assert seen.pace.spent_micros == 720_000_000
    assert seen.pace.planned_micros == 600_000_000
    assert seen.pace.planned_rate == pytest.approx(1_680_000_000 / 3_600)
    assert 150_000 < seen.pace.spent_rate < 250_000
    assert (seen.fed_until_ms, seen.at_ms) == (HOUR_MS - 5, HOUR_MS)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(seen), type=UnitView) == seen


def test_what_goes_on_for_one_reason_is_one_move(unit: ControlUnit, feed: Feed) -> None:
    seen = view(unit, unit.step(0))
    unit.learn(*feed(cost=100_000))  # half of what a conversion may cost
    for minute in range(60, 70):
        unit.learn(*feed(wins=60, since_ms=minute * 60_000, cost=100_000))
        seen = view(unit, unit.step(minute * 60_000), seen)

    reasons = [move.reason for move in seen.moves]
    assert Reason.TOO_CHEAP in reasons or Reason.SPEED_LIMIT in reasons
    assert all(a is not b for a, b in pairwise(reasons))
    assert seen.moves[-1].log_after == unit.levels.logs[CostGoal.SHALLOW] > 0.0
    for earlier, later in pairwise(seen.moves):
        assert later.log_before == earlier.log_after


def test_only_the_latest_moves_are_kept(unit: ControlUnit) -> None:
    block = unit.step(0)
    goal, seen = block.goals[0], None
    for number in range(3 * KEPT_MOVES):
        reason = Reason.TOO_DEAR if number % 2 else Reason.TOO_CHEAP
        other = msgspec.structs.replace(goal, log_multiplier=number / 100.0, reason=reason)
        block = msgspec.structs.replace(block, version=number, goals=(other,))
        seen = view(unit, block, seen)

    assert seen is not None
    assert len(seen.moves) == KEPT_MOVES
    assert seen.pace is None
    assert seen.moves[-1].log_after == pytest.approx((3 * KEPT_MOVES - 1) / 100.0)


def test_what_workers_did_is_forgotten_by_halves(unit: ControlUnit) -> None:
    done = Usage("spring@json", answered=100, not_worth=40, worths={3: 140})

    first = view(unit, unit.step(1_000), usage=done)
    later = view(unit, unit.step(601_000), first, usage=Usage("spring@json", answered=7))

    assert first.usage == done
    assert later.usage == Usage("spring@json", answered=57, not_worth=20)
    assert view(unit, unit.step(602_000), later).usage is None
