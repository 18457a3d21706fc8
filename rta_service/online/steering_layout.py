"""Laying a control order out for the request path, as of an instant."""

from math import inf, isfinite
from typing import Final

from msgspec.structs import replace

from rta_service.domain.control import MICROS, Block, GoalBlock, Mode, Reason
from rta_service.domain.control_order import ControlSettings, Order
from rta_service.domain.control_pricing import fresh_until_ms, lines
from rta_service.domain.decision import Steered
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.domain.strategy import Strategy
from rta_service.experiments import layer_salt
from rta_service.online.steering import Account, Line, Steering

_PERIOD_MS: Final = 15_000
_NEVER_MS: Final = 1 << 62


def lay_out(strategy: Strategy, order: Order | None, account: Account, now_ms: int) -> Steering:
    """Lay a unit's order out for the request path, as of an instant of the controller's clock.

    Where a release has other targets than the order, the bid follows them at once. Without an order
    a unit starts at its target as if predictions were right, and with a budget, without money.
    """
    settings = strategy.control
    if settings is None:
        raise ValueError(f"strategy {strategy.strategy_id} has no control")
    unit_id = account.usage.unit_id
    block = starting_block(unit_id, settings) if order is None else rescaled(order.block, settings)
    both = _lines(block, strategy, now_ms)
    is_broken = both is None
    if both is None:
        block = starting_block(unit_id, settings)
        both = _lines(block, strategy, now_ms) or ((0.0, 0.0, 0.0), None)
    fresh_ms = fresh_until_ms(block) if block.version else _NEVER_MS
    guaranteed = now_ms < settings.guarantee_until_ms
    bounds = [settings.guarantee_until_ms] if guaranteed else []
    return Steering(
        strategy,
        block,
        account,
        *both,
        cap=inf if block.cap_micros is None else block.cap_micros,
        neutral=block.neutral_micros * block.throttle if isfinite(block.neutral_micros) else 0.0,
        until_ms=min([max(fresh_ms, now_ms), *bounds]),
        weighs=strategy.answer is BidKind.WEIGHT,
        shape=None if order is None else order.shape,
        hold_rate=0.0 if order is None else order.hold_rate,
        stale=fresh_ms < now_ms,
        broken=is_broken,
        guaranteed=guaranteed,
        closed=_closed(strategy, order, block),
        boost=_boost(block),
        share=settings.explore_share,
        spread=_spread(unit_id),
        plain=Steered(block.version, 1.0, 1.0 - settings.explore_share),
    )


def starting_block(unit_id: str, settings: ControlSettings) -> Block:
    """Give what a unit bids by before its controller knows anything: its target times predictions."""
    aim = settings.aim
    goal = aim.goals[0]
    mode = Mode.DEEP_BOOST if aim.mode is Mode.DUAL_GUARANTEE else aim.mode
    target = float(aim.targets.price(goal) or 0.0)
    highest = settings.limits.max_bid_micros
    cap = None if highest is None else float(highest)
    goals = (GoalBlock(goal, target, 1.0, 0.0, 0.0),)
    return Block(unit_id, 0, 0, _PERIOD_MS, mode, goals, cap_micros=cap)


def rescaled(block: Block, settings: ControlSettings) -> Block:
    """Give a block with the targets of a release that came after it; levels stay."""
    targets = settings.aim.targets
    prices = [targets.price(goal.goal) for goal in block.goals]
    if any(goal.goal not in settings.aim.goals for goal in block.goals) or None in prices:
        return starting_block(block.unit_id, settings)
    goals = tuple(
        replace(goal, target_micros=float(price or 0.0))
        for goal, price in zip(block.goals, prices, strict=True)
    )
    if goals == block.goals:
        return block
    old = block.goals[0].target_micros
    ratio = goals[0].target_micros / old if old > 0.0 else 1.0
    known = [] if block.cap_micros is None else [block.cap_micros * ratio]
    highest = settings.limits.max_bid_micros
    cap = min([*known, *([] if highest is None else [float(highest)])], default=None)
    neutral = block.neutral_micros * ratio
    return replace(block, goals=goals, cap_micros=cap, neutral_micros=neutral)


def _lines(block: Block, strategy: Strategy, now_ms: int) -> tuple[Line, Line | None] | None:
    """Give a block's lines with values as trades; None where a figure is none or negative."""
    trade_value = (strategy.value_micros or strategy.target_cpa_micros) / MICROS
    both = lines(block, now_ms).tolist()
    first, second = [(c[0], c[1], c[2] + c[3] * trade_value) for c in both]
    if not all(0.0 <= figure < inf for figure in (*first, *second)):
        return None
    return first, None if first == second else second


def _closed(strategy: Strategy, order: Order | None, block: Block) -> ReasonCode | None:
    """Say why a unit must not bid at all: money is spent, or nothing says how much there is."""
    control = strategy.control
    has_budget = control is not None and control.budget is not None
    is_held = order is not None and order.hold_rate > 0.0
    if strategy.answer is BidKind.CPM and has_budget and not is_held:
        return ReasonCode.NO_BUDGET
    if block.throttle > 0.0:
        return None
    return ReasonCode.NO_BUDGET if Reason.BUDGET_SPENT in block.flags else ReasonCode.STOPPED


def _boost(block: Block) -> tuple[float, float] | None:
    theta, rate = block.theta, block.mean_deep_rate
    is_sound = all(goal.reason is not Reason.MODEL_UNSOUND for goal in block.goals)
    if block.mode is not Mode.DEEP_BOOST or not is_sound:
        return None
    return (theta, rate) if 0.0 < theta <= 1.0 and 0.0 < rate < inf else None


def _spread(unit_id: str) -> float:
    """Give a unit's own odd factor of 20 bits: the fraction of its product with a draw is a draw.

    Two units' draws are as good as independent, and each costs a multiplication.
    """
    return float(layer_salt(f"exploration of {unit_id}") >> 44 | 1 << 19 | 1)
