"""What a control order makes of a bid: prices, weights, who is left out, and what chance moves.

P = the lesser of two lines in P(register | click) and P(trade | click): a click's worth in micros.

    cpc     P                       cpa     P / P(optimised event | click)
    cpm     1000 P(click) P         weight  E[goal | optimised event] over its mean, two decimals

A value is P(trade | click) times what the strategy says a trade is worth, so that it is a line in
trades too. `domain.control_pricing.bid_plainly` is the plain form of P.
"""

import math
from dataclasses import dataclass, field
from math import ceil, inf, nan
from statistics import NormalDist
from typing import Final, NamedTuple

from rta_service.domain.control import Block
from rta_service.domain.control_order import WORTH_BINS, Shape, Usage, worth_bin
from rta_service.domain.decision import Bid, Prediction, Steered
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.domain.strategy import Strategy
from rta_service.experiments import BUCKETS, bucket
from rta_service.online.live_release import BoundStrategy
from rta_service.online.purse import Purse
from rta_service.online.score import Scores

EXPLORED_SIGMA: Final = 0.15
"""Of ln(factor), where chance moves a bid."""
DRAWS_MASK: Final = (1 << 64) - 1
"""Draws are of 64 bits."""
_NORMAL: Final = NormalDist(0.0, EXPLORED_SIGMA)
# an Enum member looked up by its class costs 0.1 microseconds on Python 3.11
_WEIGHT: Final = BidKind.WEIGHT
_CPM: Final = BidKind.CPM
_CPC: Final = BidKind.CPC

Line = tuple[float, float, float]
"""Micros per 1, P(register | click), P(trade | click)."""
Offer = tuple[Bid | ReasonCode, Steered]


class Case(NamedTuple):
    """One person in one request, as control sees them."""

    cell: int
    """`control_order.cell_of` their stage and tier."""
    draw: int
    """64 bits of the request's keyed hash."""
    counts: bool = True
    """Whether what is answered is told and paid for: not for tests, explanations and ghosts."""


@dataclass(slots=True)
class Account:
    """What a worker did for one unit since it last told, and its money; outlives orders."""

    usage: Usage
    purse: Purse = field(default_factory=Purse)


@dataclass(slots=True)
class Steering:
    """One unit's order as of an instant, laid out for the request path."""

    strategy: Strategy
    block: Block
    """In force: the order's, rescaled to the strategy's targets, or the one that a unit starts by."""
    account: Account
    first: Line
    second: Line | None
    cap: float
    neutral: float
    until_ms: int
    """When it must be laid out anew, because something in it depends on the time."""
    shape: Shape | None = None
    hold_rate: float = 0.0
    stale: bool = False
    broken: bool = False
    """Whether the order holds a figure that is none, so that the unit starts anew."""
    guaranteed: bool = False
    closed: ReasonCode | None = None
    boost: tuple[float, float] | None = None
    """Of weights: theta, and predicted deep over shallow conversions."""
    salt: int = 0
    below: int = 0
    """Of 2^64: draws below are moved by chance."""
    plain: Steered = field(default_factory=lambda: Steered(0))

    def price(
        self,
        bound: BoundStrategy,
        request: AdRequest,
        scores: Scores,
        pcvr: Prediction,
        case: Case,
    ) -> Offer:
        """Price a wanted device, or say why there is no bid."""
        if self.closed is not None:
            return self.closed, self.plain
        steered = self.plain
        # an odd factor and a mask: each unit draws for itself, at a sixth of `bucket`'s cost
        if ((case.draw ^ self.salt) * 0x9E3779B97F4A7C15) & DRAWS_MASK < self.below:
            steered = self._moved(case.draw)
        if bound.strategy.answer is _WEIGHT:
            offered = self._weigh(bound, scores, case, steered)
        else:
            if self.shape is not None and self._leaves_out(bound, scores, case):
                return ReasonCode.NOT_WORTH_IT, self.plain
            worth, is_bad = self._bid_for_click(pcvr, steered.factor, case)
            amount = _in_kind(bound, request, scores, worth)
            offered = self._offer(bound, request, amount, case), steered
            if is_bad and case.counts:
                self.account.usage.bad += 1
        if case.counts and not isinstance(offered[0], ReasonCode):
            self._count(offered[1])
        return offered

    def click_worth(self, pcvr: Prediction) -> float:
        """Give a click's worth in micros before the cap; not-a-number for predictions that are none."""
        register, trade = pcvr.register, pcvr.trade
        per_1, per_register, per_trade = self.first
        worth = per_1 + per_register * register + per_trade * trade
        if self.second is not None:
            per_1, per_register, per_trade = self.second
            other = per_1 + per_register * register + per_trade * trade
            worth = min(worth, other)
        return worth if register >= 0.0 and trade >= 0.0 and worth < inf else nan

    def event_worth(self, bound: BoundStrategy, scores: Scores) -> float:
        """Give what a person is worth once the platform's event has happened, in conversions."""
        if self.boost is not None:
            both = bound.follows_event(scores)
            if both is not None:
                theta, rate = self.boost
                return (1.0 - theta) * both[0] + theta * both[1] / rate
        return bound.worth(scores).value_given_event

    def least_worth(self, cell: int) -> float:
        """Give what people of a cell must be worth to be bid for."""
        shape = self.shape
        if shape is None:
            return 0.0
        return shape.least_by_cell.get(cell, shape.least_worth)

    def mean_worth(self, bound: BoundStrategy) -> float:
        """Give the worth whose weight is 1."""
        return bound.mean_value if self.shape is None else self.shape.mean_worth

    def _bid_for_click(self, pcvr: Prediction, factor: float, case: Case) -> tuple[float, bool]:
        worth = self.click_worth(pcvr)
        is_bad = worth != worth  # noqa: PLR0124 - the quickest way to ask for not-a-number
        worth = (self.neutral if is_bad else worth) * factor
        if worth > self.cap:
            worth = self.cap
            if case.counts:
                self.account.usage.capped += 1
        return worth, is_bad

    def _offer(
        self, bound: BoundStrategy, request: AdRequest, amount: float | None, case: Case
    ) -> Bid | ReasonCode:
        if amount is None:
            return ReasonCode.NO_PCTR
        if not 0.0 < amount < inf:
            return ReasonCode.NO_VALUE
        strategy, (low, high) = bound.strategy, bound.bounds
        price = _in_units(min(max(amount, low), high), bound.money_unit_micros)
        if strategy.answer is _CPM:
            floor = request.bid_floor_micros
            if price < floor and request.currency in ("", strategy.currency):
                return ReasonCode.BELOW_FLOOR
            if self.hold_rate > 0.0 and case.counts and not self._hold(price):
                return ReasonCode.NO_BUDGET
        if case.counts:
            self.account.usage.price_micros += price
        return Bid(strategy.answer, price, strategy.currency)

    def _hold(self, price: int) -> bool:
        """Hold a cpm answer's money: what one exposure may cost, as often as answers cost at all."""
        micros = ceil(price * self.hold_rate / 1000.0)
        account = self.account
        if account.purse.hold(micros):
            account.usage.held_micros += micros
            return True
        account.usage.no_money += 1
        return False

    def _leaves_out(self, bound: BoundStrategy, scores: Scores, case: Case) -> bool:
        worth = self.event_worth(bound, scores)
        return self._is_worth_less(worth, case)

    def _is_worth_less(self, worth: float, case: Case) -> bool:
        """Count a wanted person's worth, and say whether it is too little; not-a-number is not."""
        is_less = worth < self.least_worth(case.cell)
        if case.counts:
            usage = self.account.usage
            place = case.cell * WORTH_BINS + worth_bin(worth)
            usage.worths[place] = usage.worths.get(place, 0) + 1
            usage.not_worth += is_less
        return is_less

    def _weigh(self, bound: BoundStrategy, scores: Scores, case: Case, steered: Steered) -> Offer:
        worth = self.event_worth(bound, scores)
        if self._is_worth_less(worth, case):
            return ReasonCode.NOT_WORTH_IT, self.plain
        mean = self.mean_worth(bound)
        exact = worth / mean * steered.factor if mean > 0.0 else nan
        if exact <= 0.0:
            return ReasonCode.NO_VALUE, steered
        low, high = bound.bounds
        is_sound = exact < inf
        weight = min(max(round(exact, 2) if is_sound else 1.0, low), high)
        if case.counts and not is_sound:
            self.account.usage.bad += 1
        if self.guaranteed:
            unsent, weight = weight, min(max(1.0, low), high)
            moved = steered.factor, steered.density
            steered = Steered(steered.version, *moved, control_group=True, unsent=unsent)
        if case.counts:
            self.account.usage.weight_millis += round(weight * 1000.0)
        return Bid(_WEIGHT, weight), steered

    def _count(self, steered: Steered) -> None:
        usage = self.account.usage
        usage.answered += 1
        usage.stale += self.stale
        usage.bad += self.broken
        if steered.factor != 1.0:
            usage.explored += 1

    def _moved(self, draw: int) -> Steered:
        """Draw a factor whose logarithm is normal, and say how likely it was."""
        place = (bucket(draw, self.salt) + 0.5) / BUCKETS
        log_factor = _NORMAL.inv_cdf(place)
        density = self.below / (DRAWS_MASK + 1) * _NORMAL.pdf(log_factor)
        return Steered(self.plain.version, math.exp(log_factor), density)


def _in_kind(
    bound: BoundStrategy, request: AdRequest, scores: Scores, worth: float
) -> float | None:
    """Put a click's worth into the answer's own unit; None where the pCTR for it lacks."""
    answer = bound.strategy.answer
    if answer is _CPC:
        return worth
    if answer is _CPM:
        pctr = request.pctr
        if pctr is None:
            if not bound.pctr_head:
                return None
            pctr = scores[bound.pctr_head]
        return 1000.0 * pctr * worth
    happens = bound.happens(scores)
    return worth / happens if happens > 0.0 else nan


def _in_units(micros: float, unit: int) -> int:
    """Round to whole units of the platform's money, as its adapter does: half up, at least one."""
    return round(micros) if unit == 1 else max(1, int(micros / unit + 0.5)) * unit
