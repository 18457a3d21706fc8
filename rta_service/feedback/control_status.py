"""Where each control unit stands, for a growth team: read from what its controller saved."""

from collections.abc import Callable, Mapping
from math import exp, isfinite
from typing import Any, Final

from rta_service.domain.clock import Clock
from rta_service.domain.control import MICROS, REASON_WORDS, Block, CostGoal, GoalStanding, Reason
from rta_service.domain.control_order import BudgetPace, Moved, Order, Shape, UnitView, Usage
from rta_service.domain.control_pricing import is_stale
from rta_service.domain.errors import UnknownName
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.stores.control_store import ControlStore

Json = dict[str, Any]
"""What json.dumps takes; money in micros, times in ms, multipliers as factors."""

_CELLS: Final = [f"{stage.label}.{tier.label}" for stage in LifecycleStage for tier in ValueTier]


class ControlStatus:
    """What the control port and the command ask. Blocks; raises StoreUnavailable."""

    def __init__(self, store: Callable[[], ControlStore], clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def units(self) -> list[Json]:
        """Give every unit that workers have an order for, by name."""
        store, now_ms = self._store(), self._clock.now_ms()
        views = store.views()
        return [
            described(order, views.get(name), now_ms)
            for name, order in sorted(store.orders().items())
        ]

    def unit(self, unit_id: str) -> Json:
        """Give one unit. Raises UnknownName."""
        store, now_ms = self._store(), self._clock.now_ms()
        orders = store.orders()
        if unit_id not in orders:
            known = ", ".join(sorted(orders)) or "none is under cost control"
            raise UnknownName(f"is no unit of cost control; there are: {known}", unit_id)
        return described(orders[unit_id], store.views().get(unit_id), now_ms)


def described(order: Order, view: UnitView | None, now_ms: int) -> Json:
    """Say all of a unit; a view that is missing or of another step leaves figures out."""
    block, settings = order.block, order.settings
    strategy, _, platform = block.unit_id.rpartition("@")
    standings = {} if view is None else {one.goal: one for one in view.standings}
    usage = None if view is None else view.usage
    return {
        "unit": block.unit_id,
        "strategy": strategy,
        "platform": platform,
        "mode": settings.aim.mode.value,
        "mode_in_force": block.mode.value,
        "version": block.version,
        "at_ms": block.made_at_ms,
        "age_s": _seconds(now_ms - block.made_at_ms),
        "stale": is_stale(block, now_ms),
        "fed_until_ms": None if view is None else view.fed_until_ms,
        "clicks": None if view is None else view.told,
        "goals": [_goal(standings[goal]) for goal in standings],
        "decides": _decides(block),
        "budget": None if view is None or view.pace is None else _budget(view.pace, block),
        "theta": block.theta,
        "throttle": block.throttle,
        "cap_micros": block.cap_micros,
        "hold_rate": order.hold_rate,
        "shape": None if order.shape is None else _shape(order.shape),
        "guarantee_until_ms": settings.guarantee_until_ms or None,
        "lately": None if usage is None else _usage(usage),
        "flags": [{"flag": flag.value, "why": REASON_WORDS[flag]} for flag in block.flags],
        "moves": [] if view is None else [_move(move) for move in view.moves],
    }


def _goal(standing: GoalStanding) -> Json:
    cost, target = standing.cost_micros, standing.target_micros
    expected = standing.expected_cost_micros
    return {
        "goal": standing.goal.value,
        "target_micros": target,
        "roas": MICROS / target if standing.goal is CostGoal.VALUE and target > 0.0 else None,
        "cost_micros": cost,
        "arrived": standing.arrived,
        "arrived_cost_micros": _over(cost, standing.arrived),
        "predicted": standing.predicted,
        "matured": standing.matured,
        "expected": standing.expected,
        "expected_low": standing.expected_low,
        "expected_high": standing.expected_high,
        "expected_cost_micros": expected,
        "expected_cost_low_micros": _over(cost, standing.expected_high),
        "expected_cost_high_micros": _over(cost, standing.expected_low),
        "cost_over_target": None if expected is None else _over(expected, target),
        "scale": standing.scale,
        "multiplier": exp(standing.log_multiplier),
        "reason": standing.reason.value,
        "why": REASON_WORDS[standing.reason],
    }


def _decides(block: Block) -> str:
    """Name what sets the level now: a goal, the budget, or a guard that stops all."""
    if block.throttle == 0.0:
        return "stopped"
    first = block.goals[0]
    if block.log_budget is not None and block.log_budget < first.log_multiplier:
        return "budget"
    waiting = [goal for goal in block.goals if goal.reason is not Reason.FOLLOWS_ACTIVE]
    return (waiting or block.goals)[0].goal.value


def _budget(pace: BudgetPace, block: Block) -> Json:
    return {
        "daily_micros": pace.daily_micros,
        "spent_micros": pace.spent_micros,
        "planned_micros": pace.planned_micros,
        "spent_over_planned": _over(pace.spent_micros, pace.planned_micros),
        "spent_per_hour_micros": pace.spent_rate * 3_600.0,
        "planned_per_hour_micros": pace.planned_rate * 3_600.0,
        "multiplier": None if block.log_budget is None else exp(block.log_budget),
    }


def _shape(shape: Shape) -> Json:
    by_cell: Mapping[int, float] = shape.least_by_cell
    return {
        "mean_worth": shape.mean_worth,
        "least_worth": shape.least_worth if isfinite(shape.least_worth) else None,
        "takes_part": isfinite(shape.least_worth),
        "least_by_cell": {_CELLS[cell]: worth for cell, worth in sorted(by_cell.items())},
    }


def _usage(usage: Usage) -> Json:
    """Say what workers did in the last ten minutes or so."""
    wanted = usage.answered + usage.not_worth + usage.no_money
    return {
        "wanted": wanted,
        "takes_part": _over(usage.answered, wanted),
        "answered": usage.answered,
        "mean_weight": _over(usage.weight_millis / 1000.0, usage.answered),
        "not_worth": usage.not_worth,
        "no_money": usage.no_money,
        "explored": usage.explored,
        "capped": usage.capped,
        "stale": usage.stale,
        "bad": usage.bad,
    }


def _move(move: Moved) -> Json:
    return {
        "since_ms": move.since_ms,
        "until_ms": move.at_ms,
        "goal": move.goal.value,
        "from": exp(move.log_before),
        "to": exp(move.log_after),
        "reason": move.reason.value,
        "why": REASON_WORDS[move.reason],
    }


def _over(amount: float, count: float) -> float | None:
    """Divide; None where there is nothing to divide by."""
    return amount / count if count > 0.0 else None


def _seconds(ms: int) -> float:
    return max(ms, 0) / 1000.0
