"""What people are told of control units, read from a real store."""

from collections.abc import Iterator
from math import inf

import msgspec
import numpy as np
import pytest

from rta_service.domain.control import Aim, Budget, CostGoal, Mode, Reason, Targets
from rta_service.domain.control_order import ControlSettings, Order, Shape, Usage, cell_of
from rta_service.domain.errors import UnknownName
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.feedback.control_status import ControlStatus, described
from rta_service.nearline.control.feed import Conversions, Wins
from rta_service.nearline.control.unit import ControlUnit, Rules
from rta_service.nearline.control.viewing import view
from rta_service.stores.control_store import ControlStore, Saved
from rta_service.stores.redis import admin_client

HOUR_MS = 3_600_000
NOW_MS = 1_790_000_000_000
GROWTH_S = cell_of(LifecycleStage.GROWTH, ValueTier.S)


class StillClock:
    def now_ms(self) -> int:
        return NOW_MS

    def monotonic_s(self) -> float:
        return 0.0


def stepped(name: str, mode: Mode = Mode.TCPA, goal: CostGoal = CostGoal.SHALLOW) -> Saved:
    """Let a unit buy for an hour at 0.20 a click, of which each hundredth registers."""
    targets = Targets(shallow_micros=25_000_000, deep_micros=100_000_000, roas=2.0)
    budget = Budget(2_000_000_000, day_starts_ms=NOW_MS - 12 * HOUR_MS)
    settings = ControlSettings(Aim(mode, targets, goal), budget)
    unit = ControlUnit(name, Rules(settings.aim, budget))
    unit.step(NOW_MS - HOUR_MS)
    won = NOW_MS - HOUR_MS + np.arange(0, HOUR_MS, 1_000)
    unit.learn(Wins(won, 200_000, 0.01, 0.002, 0.06))
    unit.learn(None, Conversions(CostGoal.SHALLOW, won[::100], won[::100]))
    block = unit.step(NOW_MS)
    shape = Shape(0.2, 0.05, {GROWTH_S: 0.01})
    usage = Usage(name, answered=10, weight_millis=9_900, not_worth=3)
    order = Order(block, settings, shape, hold_rate=0.4)
    seen = view(unit, block, fed_until_ms=NOW_MS - 900, usage=usage)
    return Saved(name, 1, b"", b"", order, seen)


@pytest.fixture
def status(log_store_url: str, space: str) -> Iterator[ControlStatus]:
    with admin_client(log_store_url) as client:
        store = ControlStore(client, space)
        store.save(0, store.take(0, "one"), [stepped("b@json"), stepped("a@tencent")], 0)
        yield ControlStatus(lambda: store, StillClock())


def test_every_unit_is_shown_with_its_cost_so_far_and_in_the_end(status: ControlStatus) -> None:
    units = status.units()

    assert [unit["unit"] for unit in units] == ["a@tencent", "b@json"]
    (goal,) = units[1]["goals"]
    assert goal["target_micros"] == 25_000_000
    assert goal["arrived"] == pytest.approx(36)
    assert goal["arrived_cost_micros"] == pytest.approx(20_000_000)
    low, high = goal["expected_cost_low_micros"], goal["expected_cost_high_micros"]
    assert low <= goal["expected_cost_micros"] <= high
    assert goal["cost_over_target"] == pytest.approx(goal["expected_cost_micros"] / 25e6)
    assert goal["multiplier"] > 1.0
    assert units[1]["flags"] == []
    assert units[1]["decides"] in {"shallow", "budget"}


def test_the_day_s_money_is_shown_beside_its_plan(status: ControlStatus) -> None:
    budget = status.unit("b@json")["budget"]

    assert budget["daily_micros"] == 2_000_000_000
    assert budget["spent_micros"] == 720_000_000
    assert budget["planned_micros"] == 1_000_000_000
    assert budget["spent_over_planned"] == pytest.approx(0.72)
    assert budget["spent_per_hour_micros"] == pytest.approx(720e6, rel=0.1)


def test_a_shape_what_workers_did_and_moves_are_shown(status: ControlStatus) -> None:
    unit = status.unit("a@tencent")

    assert (unit["strategy"], unit["platform"]) == ("a", "tencent")
    assert unit["shape"]["least_by_cell"] == {"growth.S": 0.01}
    assert unit["shape"]["takes_part"] is True
    assert unit["lately"]["mean_weight"] == pytest.approx(0.99)
    assert unit["moves"][-1]["to"] == unit["goals"][0]["multiplier"]
    assert unit["fed_until_ms"] == NOW_MS - 900
    assert msgspec.json.decode(msgspec.json.encode(unit)) == unit


def test_an_unknown_unit_is_refused_with_the_names_there_are(status: ControlStatus) -> None:
    with pytest.raises(UnknownName, match="a@tencent, b@json"):
        status.unit("c@json")


def test_money_over_cost_is_shown_as_what_comes_back() -> None:
    saved = stepped("a@json", Mode.ROAS, CostGoal.VALUE)

    (goal,) = described(saved.order, saved.view, NOW_MS)["goals"]

    assert goal["goal"] == "value"
    assert goal["roas"] == pytest.approx(2.0)


def test_an_old_order_a_stopped_one_and_one_without_a_view_say_so() -> None:
    saved = stepped("a@json")
    block = msgspec.structs.replace(
        saved.order.block, throttle=0.0, flags=(Reason.BUDGET_SPENT,), period_ms=15_000
    )
    order = Order(block, saved.order.settings, Shape(0.2, inf))

    shown = described(order, None, NOW_MS + HOUR_MS)

    assert shown["stale"] is True
    assert shown["decides"] == "stopped"
    assert shown["flags"] == [{"flag": "budget_spent", "why": "the day's budget is spent: no bids"}]
    assert shown["shape"]["takes_part"] is False
    assert (shown["goals"], shown["budget"], shown["moves"]) == ([], None, [])
    assert msgspec.json.decode(msgspec.json.encode(shown)) == shown


def test_what_decides_is_the_budget_where_its_level_is_lower() -> None:
    saved = stepped("a@json")
    low = msgspec.structs.replace(saved.order.block, log_budget=-1.0)
    high = msgspec.structs.replace(saved.order.block, log_budget=2.0)

    decides = [
        described(Order(block, saved.order.settings), saved.view, NOW_MS)["decides"]
        for block in (low, high)
    ]

    assert decides == ["budget", "shallow"]
