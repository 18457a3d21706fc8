"""What people see of a unit: where its costs and its money stand, and how it came to that."""

from collections.abc import Sequence
from typing import Final

import msgspec

from rta_service.domain.control import Block
from rta_service.domain.control_order import BudgetPace, Moved, UnitView, Usage
from rta_service.nearline.control import budget as pacing
from rta_service.nearline.control.books import WINS
from rta_service.nearline.control.sight import Sight
from rta_service.nearline.control.unit import ControlUnit

KEPT_MOVES: Final = 20
_LATELY_MS: Final = 600_000.0
"""Half-life of what workers did."""


def view(
    unit: ControlUnit,
    block: Block,
    before: UnitView | None = None,
    *,
    fed_until_ms: int = 0,
    usage: Usage | None = None,
) -> UnitView:
    """Show a unit as of its last step, whose block is given; `before` is the view of the one before.

    `usage` is what workers did since then.
    """
    return UnitView(
        version=block.version,
        at_ms=block.made_at_ms,
        standings=unit.standings(),
        told=int(unit.books.bought.totals()[WINS]),
        pace=_pace(unit, block),
        moves=_moves(block, () if before is None else before.moves),
        fed_until_ms=max(fed_until_ms, before.fed_until_ms if before else 0),
        usage=_lately(usage, block, before),
    )


def _lately(usage: Usage | None, block: Block, before: UnitView | None) -> Usage | None:
    """Add what was done to what was done before, which is forgotten by halves."""
    if usage is None or before is None or before.usage is None:
        return usage
    left = 0.5 ** (max(block.made_at_ms - before.at_ms, 0) / _LATELY_MS)
    sums = {
        name: getattr(usage, name) + round(left * getattr(before.usage, name))
        for name in Usage.__struct_fields__[1:-1]
    }
    return Usage(usage.unit_id, worths=usage.worths, **sums)


def _pace(unit: ControlUnit, block: Block) -> BudgetPace | None:
    budget = unit.rules.budget
    if budget is None:
        return None
    spent = unit.books.spent.get(unit.books.day(), 0)
    sight = Sight(unit.books, unit.rules.tuning, unit.history)
    now_ms = block.made_at_ms
    ahead_s = pacing.PLANNED_DEAD_TIMES * unit.rules.tuning.dead_time_s
    return BudgetPace(
        daily_micros=budget.daily_micros,
        spent_micros=spent,
        planned_micros=round(budget.daily_micros * pacing.day_gone(budget, now_ms)),
        spent_rate=float(sight.spending()[1]),
        planned_rate=pacing.plan_rate(budget, now_ms, budget.daily_micros - spent, ahead_s),
    )


def _moves(block: Block, told: Sequence[Moved]) -> tuple[Moved, ...]:
    """Add this step's moves; what goes on for the same reason lengthens a goal's last move."""
    kept, at = list(told), block.made_at_ms
    for one in block.goals:
        last = next((place for place in kept[::-1] if place.goal is one.goal), None)
        if last is not None and last.reason is one.reason:
            longer = msgspec.structs.replace(last, at_ms=at, log_after=one.log_multiplier)
            kept[kept.index(last)] = longer
        else:
            began = 0.0 if last is None else last.log_after
            kept.append(Moved(at, at, one.goal, began, one.log_multiplier, one.reason))
    return tuple(kept[-KEPT_MOVES:])
