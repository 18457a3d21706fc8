"""What cost control had to do with an answer, in numbers and words, for people."""

from datetime import UTC, datetime
from math import exp, isfinite
from typing import Any, NamedTuple

from rta_service.domain.control import REASON_WORDS, Mode, Reason
from rta_service.domain.decision import Prediction, StrategyDecision
from rta_service.domain.platform import BidKind, PlatformInfo
from rta_service.online.control_desk import Sitting
from rta_service.online.live_release import BoundStrategy
from rta_service.online.score import Scores
from rta_service.online.steering import Steering

Json = dict[str, Any]
"""What json.dumps takes."""

_TWO_GOALS = (Mode.DUAL_GUARANTEE, Mode.DEEP_BOOST)


class Priced(NamedTuple):
    """What a strategy under control was priced from."""

    bound: BoundStrategy
    scores: Scores
    pcvr: Prediction
    answer: StrategyDecision


def describe_control(sitting: Sitting, priced: Priced) -> Json:
    """Show the order that a strategy follows and each of its factors; money in micros."""
    bound, scores, pcvr, answer = priced
    steering = sitting.desk.steering(bound)
    block, control = steering.block, bound.strategy.control
    shown: Json = {
        "unit": bound.unit,
        "order": _order(sitting, steering),
        "mode": block.mode.value,
        "mode_wanted": None if control is None else control.aim.mode.value,
        "goals": [
            {
                "goal": goal.goal.value,
                "target_micros": _number(goal.target_micros),
                "scale": _number(goal.scale),
                "multiplier": _number(exp(goal.log_multiplier)),
                "reason": goal.reason.value,
                "why": REASON_WORDS[goal.reason],
            }
            for goal in block.goals
        ],
        "budget_multiplier": None if block.log_budget is None else _number(exp(block.log_budget)),
        "theta": _number(block.theta),
        "throttle": _number(block.throttle),
        "cap_micros": _number(steering.cap),
        "flags": [_flag(flag) for flag in block.flags],
        "click_worth_micros": _number(steering.click_worth(pcvr)),
        "hold_rate": steering.hold_rate,
        "ignored": ignored(bound, sitting.case.request.platform, steering),
    }
    if bound.strategy.answer is BidKind.WEIGHT or steering.shape is not None:
        shown["worth"] = _number(steering.event_worth(bound, scores))
        shown["mean_worth"] = _number(steering.mean_worth(bound))
        shown["least_worth"] = _number(steering.least_worth(sitting.case.cell))
    if answer.steered is not None:
        steered = answer.steered
        shown["chance"] = {"factor": steered.factor, "density": steered.density}
        shown["control_group"] = steered.control_group
        shown["unsent_weight"] = steered.unsent
    return shown


def _order(sitting: Sitting, steering: Steering) -> Json:
    block = steering.block
    if not block.version:
        why = "its figures are unsound" if steering.broken else "none has come for these targets"
        return {"version": 0, "age_s": None, "stale": False, "why": f"{why}: bids start anew"}
    age_s = (sitting.desk.now_ms - block.made_at_ms) / 1000.0
    why = REASON_WORDS[Reason.STALE] if steering.stale else ""
    return {"version": block.version, "age_s": age_s, "stale": steering.stale, "why": why}


def ignored(bound: BoundStrategy, platform: PlatformInfo, steering: Steering) -> list[Json]:
    """Name what has no effect on the answer although it could be thought to, and say why."""
    answer, block = bound.strategy.answer, steering.block
    found = {
        kind.value: f"the strategy answers {answer}: no other kind is sent"
        for kind in platform.bid_kinds
        if kind is not answer
    }
    if answer is BidKind.WEIGHT:
        level = "a weight shapes: its mean stays 1, and the level acts by who takes part"
        found["multiplier"] = level
        if block.log_budget is not None:
            found["budget_multiplier"] = level
        found["cap_micros"] = "a weight has no price"
        if block.theta > 0.0 and (steering.boost is None or bound.given_event is None):
            found["theta"] = "no model says how both goals follow from the optimised event"
    if steering.guaranteed and answer is BidKind.WEIGHT:
        control = bound.strategy.control
        until_ms = 0 if control is None else control.guarantee_until_ms
        until = datetime.fromtimestamp(until_ms / 1000, UTC).isoformat()
        found["weight"] = f"void in the platform's guarantee period until {until}: 1 is answered"
    wanted = None if bound.strategy.control is None else bound.strategy.control.aim.mode
    if answer is BidKind.CPA and wanted in _TWO_GOALS:
        found["cpa"] = "platforms take a price per conversion only in campaigns with one goal"
    return [{"field": field, "why": why} for field, why in found.items()]


def _flag(flag: Reason) -> Json:
    return {"flag": flag.value, "why": REASON_WORDS[flag]}


def _number(number: float) -> float | None:
    return number if isfinite(number) else None
