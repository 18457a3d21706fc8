"""What a device is worth to a strategy, in the words the platform is paid in.

The platform ranks by eCPM = tCPA x pCVR x pCTR x weight and predicts pCVR of the optimised event
itself, so only what lies beyond that event belongs into a weight: E[goal value | optimised event]
over the mean of it among the strategy's accepted devices.
"""

import math
from typing import NamedTuple

from rta_service.domain.decision import Bid
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.domain.strategy import Strategy


class Worth(NamedTuple):
    """What the models say about one device for one strategy."""

    goal_pcvr: float
    """P(goal | click)."""
    value_given_event: float
    """E[goal value | optimised event], in goal conversions."""


class AskedPrice(NamedTuple):
    """What the request itself says about prices."""

    pctr: float | None
    floor_micros: int


class Bounds(NamedTuple):
    """The range of an answer: the strategy's and the platform's together."""

    low: float
    high: float


def weight(value_given_event: float, mean_value: float) -> float:
    """Weigh a device by its value over the strategy's mean; not-a-number without a mean."""
    return value_given_event / mean_value if mean_value > 0 else math.nan


def price(
    strategy: Strategy, mean_value: float, worth: Worth, asked: AskedPrice, bounds: Bounds
) -> Bid | ReasonCode:
    """Price a wanted device, or say why there is no valid bid.

    A weight is clamped to bounds as a factor, a price to bounds in micros.
    """
    if strategy.answer is BidKind.CPM and asked.pctr is None:
        return ReasonCode.NO_PCTR
    amount = unclamped(strategy, mean_value, worth, asked.pctr or 0.0)
    if not math.isfinite(amount) or amount <= 0:
        return ReasonCode.NO_VALUE
    clamped = min(max(amount, bounds.low), bounds.high)
    if strategy.answer is BidKind.WEIGHT:
        return Bid(BidKind.WEIGHT, clamped)
    if strategy.answer is BidKind.CPM and clamped < asked.floor_micros:
        return ReasonCode.BELOW_FLOOR
    return Bid(strategy.answer, round(clamped), strategy.currency)


def unclamped(strategy: Strategy, mean_value: float, worth: Worth, pctr: float) -> float:
    """Compute the answer's formula, T being the target cost per goal conversion in micros.

    weight = value / mean; cpa = T x weight; cpc = T x pCVR; cpm = 1000 x T x pCVR x pCTR; each
    times the feedback multiplier. Not-a-number when the mean is missing.
    """
    target = strategy.target_cpa_micros * strategy.feedback_multiplier
    match strategy.answer:
        case BidKind.WEIGHT:
            return weight(worth.value_given_event, mean_value) * strategy.feedback_multiplier
        case BidKind.CPA:
            return target * weight(worth.value_given_event, mean_value)
        case BidKind.CPC:
            return target * worth.goal_pcvr
        case BidKind.CPM:
            return 1000 * target * worth.goal_pcvr * pctr


def neutral(strategy: Strategy, bounds: Bounds) -> Bid | None:
    """Give the bid of a degraded yes: an average device; prices that need a pCVR have none."""
    match strategy.answer:
        case BidKind.WEIGHT:
            return Bid(BidKind.WEIGHT, min(max(1.0, bounds.low), bounds.high))
        case BidKind.CPA:
            amount = min(max(float(strategy.target_cpa_micros), bounds.low), bounds.high)
            return Bid(BidKind.CPA, round(amount), strategy.currency)
        case BidKind.CPC | BidKind.CPM:
            return None
