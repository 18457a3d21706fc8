"""What a device is worth to a strategy, in the words the platform is paid in.

The platform ranks by eCPM = tCPA x pCVR x pCTR x weight and predicts pCVR of the optimised event
itself, so only what lies beyond that event belongs into a weight: E[goal value | optimised event]
over the mean of it among the strategy's accepted devices.
"""

import math
from typing import Final, NamedTuple

from rta_service.domain.decision import Bid
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.domain.strategy import Strategy

# an Enum member looked up by its class costs 0.1 microseconds on Python 3.11
_WEIGHT: Final = BidKind.WEIGHT
_CPM: Final = BidKind.CPM


class Worth(NamedTuple):
    """What the models say about one device for one strategy."""

    goal_pcvr: float
    """P(goal | click)."""
    value_given_event: float
    """E[goal value | optimised event], in goal conversions."""


class AskedPrice(NamedTuple):
    """What the request itself says about prices."""

    pctr: float | None = None
    """P(click | exposure) as the platform sends it, else as our click head predicts it."""
    floor_micros: int = 0
    """Per mille, as a cpm is."""
    currency: str = ""
    """Of the floor; empty where the platform names none."""


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
    if strategy.answer is _CPM and asked.pctr is None:
        return ReasonCode.NO_PCTR
    amount = unclamped(strategy, mean_value, worth, asked.pctr or 0.0)
    if not math.isfinite(amount) or amount <= 0:
        return ReasonCode.NO_VALUE
    clamped = min(max(amount, bounds.low), bounds.high)
    if strategy.answer is _WEIGHT:
        return Bid(_WEIGHT, clamped)
    if strategy.answer is _CPM and clamped < _floor_micros(strategy, asked):
        return ReasonCode.BELOW_FLOOR
    return Bid(strategy.answer, round(clamped), strategy.currency)


def unclamped(strategy: Strategy, mean_value: float, worth: Worth, pctr: float) -> float:
    """Compute the answer's formula, T being the target cost per goal conversion in micros.

    weight = value / mean; cpa = T x weight; cpc = T x pCVR; cpm = 1000 x T x pCVR x pCTR.
    Not-a-number when the mean is missing.
    """
    if strategy.answer is _WEIGHT:
        return weight(worth.value_given_event, mean_value)
    target = strategy.target_cpa_micros
    match strategy.answer:
        case BidKind.CPA:
            return target * weight(worth.value_given_event, mean_value)
        case BidKind.CPC:
            return target * worth.goal_pcvr
        case BidKind.CPM:
            return 1000 * target * worth.goal_pcvr * pctr


def neutral(strategy: Strategy, bounds: Bounds) -> Bid | None:
    """Give the bid of a degraded yes: an average device; prices that need a pCVR have none."""
    average = Worth(goal_pcvr=0.0, value_given_event=1.0)
    offered = price(strategy, 1.0, average, AskedPrice(), bounds)
    return offered if isinstance(offered, Bid) else None


def _floor_micros(strategy: Strategy, asked: AskedPrice) -> int:
    """Give the floor to compare with; one in another currency is the platform's to apply."""
    return asked.floor_micros if asked.currency in ("", strategy.currency) else 0
