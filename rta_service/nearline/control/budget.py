"""Paces a day's money along the day's traffic; joined to the cost by MIN, never as a product.

For a present rate of spending r and the plan p = remaining x g(now) / rest of g:

    u_B += 0.35 clip(ln(p / max(r, 5 % of p)), -1, 1) a slot of a 96th of the day; down at most 25 %

Discounting a cost bid by a budget multiplier has linear regret; the least of the two is near the
joint optimum (Balseiro et al. 2023).
"""

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.control import Budget

Floats = NDArray[np.float64]

PLANNED_DEAD_TIMES: Final = 2.0
"""How far a plan reaches at least, in times that answers are kept."""
_SLOTS: Final = 96
_FLOOR: Final = 0.05
_STEEPEST_CUT: Final = log(0.75)
_BIGGEST_JUMP: Final = 0.7


@dataclass(frozen=True)
class Pace:
    """Where a day's budget stands."""

    remaining_micros: float
    planned_rate: float
    """Micros a second from now on, if spending follows the traffic."""
    spent_rate: float
    """Micros a second of late."""

    @property
    def spent(self) -> bool:
        """Say whether nothing is left."""
        return self.remaining_micros <= 0.0


def slot_s(budget: Budget) -> float:
    """Give the length of a slot in which u_B may move by 0.35."""
    return budget.day_ms / 1000.0 / _SLOTS


def plan_rate(budget: Budget, now_ms: int, remaining_micros: float, ahead_s: float = 0.0) -> float:
    """Give the spending in micros a second that uses up what remains as traffic comes.

    A plan reaches `ahead_s` at least, over midnight with the next day's money: where answers are
    kept for so long, nothing shorter can be planned, and what is overspent is saved after.
    """
    curve = np.asarray(budget.curve, np.float64)
    slot_ms = budget.day_ms / len(curve)
    into = ((now_ms - budget.day_starts_ms) % budget.day_ms) / slot_ms
    index = min(int(into), len(curve) - 1)
    rest = curve[index] * (1.0 - (into - index)) + curve[index + 1 :].sum()
    left_ms = budget.day_ms - into * slot_ms
    days = max(ahead_s * 1000.0 - left_ms, 0.0) / budget.day_ms
    money = remaining_micros + days * budget.daily_micros
    rest += days * curve.sum()
    if rest <= 0.0:
        return 0.0
    return float(max(money, 0.0) * curve[index] / rest / slot_ms * 1000.0)


def day_gone(budget: Budget, now_ms: int, ahead_ms: int = 0) -> float:
    """Give the share of the day's traffic that has come some time after an instant, 1 after its end."""
    curve = np.concatenate([[0.0], np.cumsum(budget.curve)])
    into = ((now_ms - budget.day_starts_ms) % budget.day_ms + ahead_ms) / budget.day_ms
    return float(np.interp(into, np.linspace(0.0, 1.0, len(curve)), curve) / curve[-1])


def step(level: float, pace: Pace, elapsed_s: float, slot_length_s: float, gain: float) -> float:
    """Move the budget's log multiplier once."""
    if pace.planned_rate <= 0.0:
        return level
    spent = max(pace.spent_rate, _FLOOR * pace.planned_rate)
    error = min(max(log(pace.planned_rate / spent), -1.0), 1.0)
    return level + max(gain * error, _STEEPEST_CUT) * min(elapsed_s / slot_length_s, 1.0)


def jump(old_remaining: float, new_remaining: float) -> float:
    """Give how much u_B moves at once when somebody changes the budget: no blackout, no burst."""
    if old_remaining <= 0.0 or new_remaining <= 0.0:
        return 0.0
    return min(max(log(new_remaining / old_remaining), -_BIGGEST_JUMP), _BIGGEST_JUMP)


def learn_curve(days: Floats, half_life_days: float = 3.0) -> tuple[float, ...]:
    """Average traffic float64[days, slots], the last day newest, each day as shares of itself.

    Flat where there was no traffic at all; every slot keeps a hundredth of a flat share.
    """
    totals = days.sum(axis=1, keepdims=True)
    seen = totals[:, 0] > 0.0
    slots: int = days.shape[1]
    if not seen.any():
        return (1.0 / slots,) * slots
    weights = np.exp2(-np.arange(len(days))[::-1][seen] / half_life_days)
    mean: Floats = weights @ (days[seen] / totals[seen]) / weights.sum()
    kept: Floats = 0.99 * mean + 0.01 / slots
    return tuple(float(share) for share in kept)
