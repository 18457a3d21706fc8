"""The bid of every mode, as the lesser of two lines in the predictions.

With A_k = T_k kappa_k exp(u_k), predictions v_k and the boost of theta by q / qbar, q = v_d / v_s:

    tcpa, cost_cap, roas, max_conversions   A_k v_k
    deep_boost                              A_s [(1 - theta) v_s + theta v_d / qbar]
    dual_guarantee                          min(A_s v_s, A_d v_d)

The boost is a line too, because v_s q = v_d; and a budget's min(b, T v exp(u_B)) lowers u to u_B in
the first line. So a worker computes two dot products, a minimum and a cap, whatever the mode.
"""

from dataclasses import dataclass
from math import exp, inf, isfinite
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.control import Block, CostGoal, GoalBlock, Mode, Reason

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

COLUMNS: Final = (CostGoal.SHALLOW, CostGoal.DEEP, CostGoal.VALUE)
"""Order of the predictions; VALUE in units of currency."""
_FRESH_PERIODS: Final = 5


@dataclass(frozen=True)
class Prices:
    """The blocks of many units, ready for the request path."""

    lines: Floats
    """float64[2, 4, units]: micros per 1, shallow, deep, value."""
    caps: Floats
    """float64[units], micros; infinite without a cap."""
    neutral: Floats
    """float64[units], micros."""


def prices(blocks: list[Block], now_ms: int) -> Prices:
    """Compile blocks, once for each time that they are read."""
    compiled = [lines(block, now_ms) for block in blocks]
    return Prices(
        np.stack(compiled, axis=-1) if compiled else np.empty((2, 4, 0)),
        np.array([inf if b.cap_micros is None else b.cap_micros for b in blocks], np.float64),
        np.array([b.neutral_micros * b.throttle for b in blocks], np.float64),
    )


def bids(compiled: Prices, predictions: Floats) -> tuple[Floats, Flags]:
    """Bid in micros float64[rows, units] for predictions float64[3, rows, units].

    Also say which were no numbers or negative; those get the unit's neutral bid.
    """
    per = compiled.lines[:, :, None, :]
    with np.errstate(invalid="ignore", over="ignore"):
        # what is no number, or infinite, stays so even where its weight is 0
        both = per[:, 1] * predictions[0] + per[:, 2] * predictions[1]
        both += per[:, 3] * predictions[2]
        both += per[:, 0]
    least = np.minimum(both[0], both[1])
    sound = (np.minimum.reduce(predictions) >= 0.0) & (least < inf)
    return np.minimum(np.where(sound, least, compiled.neutral), compiled.caps), ~sound


def bid_plainly(block: Block, predictions: tuple[float, float, float], now_ms: int) -> float:
    """Bid as the formulas say, for one unit and one request: the twin of `bids`."""
    cap = inf if block.cap_micros is None else block.cap_micros
    if any(not isfinite(figure) or figure < 0.0 for figure in predictions):
        return min(block.neutral_micros * block.throttle, cap)
    shallow, deep, _ = predictions
    worth = dict(zip(COLUMNS, predictions, strict=True))
    bid = inf
    for goal in block.goals:
        value = goal.mean_prediction if _unsound(goal) else worth[goal.goal]
        level = _faded(goal.log_multiplier, block, now_ms)
        if block.log_budget is not None and goal is block.goals[0]:
            level = min(level, _faded(block.log_budget, block, now_ms))
        price = goal.target_micros * goal.scale * exp(level)
        if block.mode is Mode.DEEP_BOOST and not _unsound(goal) and _boosts(block):
            boosted = deep / block.mean_deep_rate
            bid = min(bid, price * ((1.0 - block.theta) * shallow + block.theta * boosted))
        else:
            bid = min(bid, price * value)
        if block.mode is not Mode.DUAL_GUARANTEE:
            break
    return min(bid * block.throttle, cap)


def lines(block: Block, now_ms: int) -> Floats:
    """Give float64[2, 4], micros per 1, shallow, deep, value; stale multipliers faded."""
    first = _line(block, block.goals[0], now_ms)
    dual = block.mode is Mode.DUAL_GUARANTEE
    second = _line(block, block.goals[1], now_ms) if dual else first
    return np.array([first, second]) * block.throttle


def _line(block: Block, goal: GoalBlock, now_ms: int) -> list[float]:
    level = _faded(goal.log_multiplier, block, now_ms)
    if block.log_budget is not None and goal is block.goals[0]:
        level = min(level, _faded(block.log_budget, block, now_ms))
    price = goal.target_micros * goal.scale * exp(level)
    if _unsound(goal):
        return [price * goal.mean_prediction, 0.0, 0.0, 0.0]
    if block.mode is Mode.DEEP_BOOST and _boosts(block):
        theta = block.theta
        return [0.0, price * (1.0 - theta), price * theta / block.mean_deep_rate, 0.0]
    line = [0.0, 0.0, 0.0, 0.0]
    line[1 + COLUMNS.index(goal.goal)] = price
    return line


def _unsound(goal: GoalBlock) -> bool:
    return goal.reason is Reason.MODEL_UNSOUND


def _boosts(block: Block) -> bool:
    return block.theta > 0.0 and block.mean_deep_rate > 0.0


def _faded(level: float, block: Block, now_ms: int) -> float:
    """Halve a log multiplier for every period that a block is older than five."""
    late = (now_ms - block.made_at_ms) / max(block.period_ms, 1) - _FRESH_PERIODS
    return level * 0.5**late if late > 0.0 else level


def fresh_until_ms(block: Block) -> int:
    """Say when a block is older than five of its periods."""
    return block.made_at_ms + _FRESH_PERIODS * block.period_ms


def is_stale(block: Block, now_ms: int) -> bool:
    """Say whether a block is older than five of its periods."""
    return now_ms > fresh_until_ms(block)
