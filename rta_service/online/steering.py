"""What a control order makes of a bid: prices, weights, who is left out, and what chance moves.

P = the lesser of two lines in P(register | click) and P(trade | click): a click's worth in micros.

    cpc     P                       cpa     P / P(optimised event | click)
    cpm     1000 P(click) P         weight  E[goal | optimised event] over its mean, two decimals

A value is P(trade | click) times what the strategy says a trade is worth, so that it is a line in
trades too. `domain.control_pricing.bid_plainly` is the plain form of P.
"""

from dataclasses import dataclass, field
from math import ceil, exp, floor, inf, log, nan
from statistics import NormalDist
from typing import Final

import msgspec

from rta_service.domain.control import Block
from rta_service.domain.control_order import WORTH_BINS, Shape, Usage, bin_floor
from rta_service.domain.decision import Bid, Prediction, Steered
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.domain.strategy import Strategy
from rta_service.online.live_release import BoundStrategy
from rta_service.online.purse import Purse
from rta_service.online.score import Scores

EXPLORED_SIGMA: Final = 0.15
"""Of ln(factor), where chance moves a bid."""
_LAST_BIN: Final = WORTH_BINS - 1
_BINS_PER_E: Final = 6.0
_LOW: Final = 0.999 * bin_floor(1)
"""Certainly in the lowest bin."""
_LEAST_PLACE: Final = 1e-9
"""Six standard deviations; the normal law has no 0th quantile."""
_NORMAL: Final = NormalDist(0.0, EXPLORED_SIGMA)
# an Enum member looked up by its class costs 0.1 microseconds on Python 3.11
_WEIGHT: Final = BidKind.WEIGHT
_CPM: Final = BidKind.CPM
_CPC: Final = BidKind.CPC

Line = tuple[float, float, float]
"""Micros per 1, P(register | click), P(trade | click)."""
Offer = tuple[Bid | ReasonCode, Steered]


class Case(msgspec.Struct, frozen=True, gc=False):
    """One request with the person behind it, as control sees them."""

    request: AdRequest
    cell: int
    """`control_order.cell_of` the person's stage and tier."""
    draw: float
    """In [0, 1), by the request's keyed hash."""
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
    weighs: bool = False
    shape: Shape | None = None
    hold_rate: float = 0.0
    stale: bool = False
    broken: bool = False
    """Whether the order holds a figure that is none, so that the unit starts anew."""
    guaranteed: bool = False
    closed: ReasonCode | None = None
    boost: tuple[float, float] | None = None
    """Of weights: theta, and predicted deep over shallow conversions."""
    share: float = 0.0
    """Of bids that chance moves."""
    spread: float = 1.0
    """Makes the draw of this unit out of the request's."""
    plain: Steered = field(default_factory=lambda: Steered(0))

    def price(self, bound: BoundStrategy, scores: Scores, pcvr: Prediction, case: Case) -> Offer:
        """Price a wanted device, or say why there is no bid."""
        if self.closed is not None:
            return self.closed, self.plain
        place = case.draw * self.spread % 1.0
        steered = self.plain if place >= self.share else self._moved(place / self.share)
        if self.weighs:
            return self._weigh(bound, scores, case, steered)
        if self.shape is not None and self._leaves_out(self.event_worth(bound, scores), case):
            return ReasonCode.NOT_WORTH_IT, self.plain
        worth = self.click_worth(pcvr)
        is_bad = worth != worth  # noqa: PLR0124 - the quickest way to ask for not-a-number
        worth = (self.neutral if is_bad else worth) * steered.factor
        is_capped = worth > self.cap
        if is_capped:
            worth = self.cap
        offered = self._offer(bound, scores, worth, case)
        if case.counts:
            usage = self.account.usage
            usage.bad += is_bad
            usage.capped += is_capped
            if not isinstance(offered, ReasonCode):
                usage.price_micros += int(offered.value)
                self._count(usage, steered)
        return offered, steered

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
        if bound.value_kind == "head":  # as `worth` does, at a third of the time
            return scores[bound.value_numerator]
        return bound.worth(scores).value_given_event

    def least_worth(self, cell: int) -> float:
        """Give what people of a cell must be worth to be bid for."""
        shape = self.shape
        if shape is None:
            return 0.0
        by_cell = shape.least_by_cell
        return by_cell.get(cell, shape.least_worth) if by_cell else shape.least_worth

    def mean_worth(self, bound: BoundStrategy) -> float:
        """Give the worth whose weight is 1."""
        return bound.mean_value if self.shape is None else self.shape.mean_worth

    def _offer(
        self, bound: BoundStrategy, scores: Scores, worth: float, case: Case
    ) -> Bid | ReasonCode:
        """Turn a click's worth into a price of the answer's kind."""
        strategy, request = bound.strategy, case.request
        answer = strategy.answer
        amount = worth if answer is _CPC else _in_kind(bound, request, scores, worth)
        if not 0.0 < amount < inf:
            lacks = answer is _CPM and request.pctr is None and not bound.pctr_head
            return ReasonCode.NO_PCTR if lacks else ReasonCode.NO_VALUE
        low, high = bound.bounds
        amount = low if amount < low else min(amount, high)
        unit = bound.money_unit_micros
        price = round(amount) if unit == 1 else _in_units(amount, unit)
        if answer is _CPM:
            if price < request.bid_floor_micros and request.currency in ("", strategy.currency):
                return ReasonCode.BELOW_FLOOR
            if self.hold_rate > 0.0 and case.counts and not self._hold(price):
                return ReasonCode.NO_BUDGET
        return Bid(answer, price, strategy.currency)

    def _hold(self, price: int) -> bool:
        """Hold a cpm answer's money: what one exposure may cost, as often as answers cost at all."""
        micros = ceil(price * self.hold_rate / 1000.0)
        account = self.account
        if account.purse.hold(micros):
            account.usage.held_micros += micros
            return True
        account.usage.no_money += 1
        return False

    def _leaves_out(self, worth: float, case: Case) -> bool:
        """Say whether a wanted person's worth is too little; not-a-number is not.

        What people are worth is counted where weights are shaped by it.
        """
        cell = case.cell
        is_less = worth < self.least_worth(cell)
        if case.counts:
            usage = self.account.usage
            usage.not_worth += is_less
            if self.weighs:
                place = cell * WORTH_BINS + _bin(worth)
                usage.worths[place] = usage.worths.get(place, 0) + 1
        return is_less

    def _weigh(self, bound: BoundStrategy, scores: Scores, case: Case, steered: Steered) -> Offer:
        worth = self.event_worth(bound, scores)
        if self._leaves_out(worth, case):
            return ReasonCode.NOT_WORTH_IT, self.plain
        mean = self.mean_worth(bound)
        exact = worth / mean * steered.factor if mean > 0.0 else nan
        if exact <= 0.0:
            return ReasonCode.NO_VALUE, steered
        low, high = bound.bounds
        is_sound = exact < inf
        weight = int(exact * 100.0 + 0.5) / 100.0 if is_sound else 1.0
        weight = low if weight < low else min(weight, high)
        if self.guaranteed:
            unsent, weight = weight, min(max(1.0, low), high)
            moved = steered.factor, steered.density
            steered = Steered(steered.version, *moved, control_group=True, unsent=unsent)
        if case.counts:
            usage = self.account.usage
            usage.weight_millis += int(weight * 1000.0 + 0.5)
            usage.bad += not is_sound
            self._count(usage, steered)
        return Bid(_WEIGHT, weight), steered

    def _count(self, usage: Usage, steered: Steered) -> None:
        usage.answered += 1
        if steered.factor != 1.0:
            usage.explored += 1
        if self.stale or self.broken:
            usage.stale += self.stale
            usage.bad += self.broken

    def _moved(self, place: float) -> Steered:
        """Give a factor whose logarithm is normal, and say how likely it was."""
        log_factor = _NORMAL.inv_cdf(min(max(place, _LEAST_PLACE), 1.0 - _LEAST_PLACE))
        density = self.share * _NORMAL.pdf(log_factor)
        return Steered(self.plain.version, exp(log_factor), density)


def _bin(worth: float) -> int:
    """Put a worth into its bin as `worth_bin` does, at half its cost."""
    if not worth > _LOW:
        return 0
    return _LAST_BIN if worth >= 1.0 else floor(log(worth) * _BINS_PER_E) + _LAST_BIN


def _in_kind(bound: BoundStrategy, request: AdRequest, scores: Scores, worth: float) -> float:
    """Put a click's worth into the unit of a cpm or a cpa; not-a-number where what it needs lacks."""
    if bound.strategy.answer is _CPM:
        pctr = request.pctr
        if pctr is None:
            pctr = scores[bound.pctr_head] if bound.pctr_head else nan
        return 1000.0 * pctr * worth
    happens = bound.happens(scores)
    return worth / happens if happens > 0.0 else nan


def _in_units(micros: float, unit: int) -> int:
    """Round to whole units of the platform's money, as its adapter does: half up, at least one."""
    return max(1, int(micros / unit + 0.5)) * unit
