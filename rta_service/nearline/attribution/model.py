"""Attribution, read this first: the plain rules, as a function of the set of all events.

Neither the order of events nor the number of their copies matters. Slow on purpose: what is kept up
event by event (`state.py`, `cells.py`) is tested to say the same.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from math import floor
from typing import NamedTuple

from rta_service.domain.attribution import (
    FIRST_TRADE,
    NANOS,
    Attribution,
    Cell,
    Conversion,
    CostRow,
    Credit,
    Fact,
    GoalSum,
    Identity,
    Method,
    Place,
    Refund,
    Touch,
    TouchKind,
)
from rta_service.nearline.attribution.goals import TRADE, AttributionRules


class Book(NamedTuple):
    """What attribution says of a set of events."""

    attributions: list[Attribution]
    """In the order of the conversions."""
    cells: list[Cell]
    """In the order of their places."""


def attribute(facts: Iterable[Fact], rules: AttributionRules) -> Book:
    """Say what each conversion is owed to, and what that makes of each place."""
    known = {(fact.ts_ms, fact.key): fact for fact in facts}
    ordered = [known[identity] for identity in sorted(known)]
    touches = [fact for fact in ordered if isinstance(fact, Touch)]
    conversions = [fact for fact in ordered if isinstance(fact, Conversion)]
    refunds = [fact for fact in ordered if isinstance(fact, Refund)]
    refunded = _refunded(refunds, conversions, rules)
    attributions = []
    for conversion in conversions:
        is_first = not any(_repeats(conversion, other, rules) for other in conversions)
        if is_first or conversion.goal not in rules.one_off:
            credit = _credit(conversion, touches, rules)
            cents = conversion.cents - refunded[conversion.ts_ms, conversion.key]
            attributions.append(_attribution(conversion, credit, is_first=is_first, cents=cents))
    costs = _reported([fact for fact in ordered if isinstance(fact, CostRow)], touches)
    return Book(attributions, _cells(touches, attributions, costs))


def _repeats(conversion: Conversion, other: Conversion, rules: AttributionRules) -> bool:
    """Tell whether another is the same goal of the same person or request, reached before."""
    return (
        other.goal == conversion.goal
        and conversion.ts_ms - rules.once_ms <= other.ts_ms
        and (other.ts_ms, other.key) < (conversion.ts_ms, conversion.key)
        and bool({*other.persons, *other.names} & {*conversion.persons, *conversion.names})
    )


def _credit(conversion: Conversion, touches: Sequence[Touch], rules: AttributionRules) -> Credit:
    """Find what a conversion names, else what its tag tells, else the last click of its person."""
    ts_ms = conversion.ts_ms
    earliest_ms, latest_ms = ts_ms - rules.longest_ms, ts_ms + rules.skew_ms
    named = [
        touch
        for touch in touches
        if earliest_ms <= touch.ts_ms <= latest_ms
        and set(touch.names) & set(conversion.names)
        and _may_be_one(touch.place.channel, conversion.place.channel)
    ]
    if named:
        best = max(named, key=lambda touch: (touch.kind, touch.ts_ms, touch.key))
        return Credit(Method.NAMED, best.place, best.ts_ms, best.key)
    if conversion.told is not None and earliest_ms <= conversion.told_ms <= latest_ms:
        return Credit(Method.TAG, conversion.told)
    clicks = [
        touch
        for touch in touches
        if touch.kind is TouchKind.CLICK
        and ts_ms - rules.window_ms(conversion.goal) <= touch.ts_ms <= ts_ms
        and set(touch.persons) & set(conversion.persons)
    ]
    if clicks:
        last = max(clicks, key=lambda touch: (touch.ts_ms, touch.key))
        return Credit(Method.LAST_CLICK, last.place, last.ts_ms, last.key)
    return Credit(Method.NONE, conversion.place)


def _may_be_one(channel: str, other: str) -> bool:
    """Tell whether two channels may be the same: an app may not know which one it was."""
    return not channel or not other or channel == other


def _attribution(
    conversion: Conversion, credit: Credit, *, is_first: bool, cents: int
) -> Attribution:
    return Attribution(
        conversion.ts_ms,
        conversion.key,
        conversion.goal,
        credit.method,
        credit.place,
        credit.touch_ms,
        credit.touch_key,
        is_first,
        cents,
    )


def _refunded(
    refunds: Iterable[Refund], conversions: Iterable[Conversion], rules: AttributionRules
) -> Mapping[Identity, int]:
    """Take each refund off its order's last trade, or else its last step, before the refund."""
    found: defaultdict[Identity, int] = defaultdict(int)
    for refund in refunds:
        paid = [
            (conversion.goal == TRADE, conversion.ts_ms, conversion.key)
            for conversion in conversions
            if conversion.order == refund.order
            and -rules.refund_ms <= conversion.ts_ms - refund.ts_ms <= rules.skew_ms
        ]
        if paid:
            found[max(paid)[1:]] += refund.cents
    return found


def _reported(rows: Iterable[CostRow], touches: Sequence[Touch]) -> Mapping[Place, int]:
    """Spread what reports say over the places of the touches that they are about."""
    reported: defaultdict[Place, int] = defaultdict(int)
    for row in rows:
        reported[row.place] += row.cost_micros
    costs: defaultdict[Place, int] = defaultdict(int)
    for about, micros in reported.items():
        meant = [touch for touch in touches if _is_about(about, touch.place)]
        for kind in (TouchKind.CLICK, TouchKind.EXPOSURE, TouchKind.WIN):
            if of_kind := [touch for touch in meant if touch.kind is kind]:
                for place, share in _shares(micros, of_kind).items():
                    costs[place] += share
                break
        else:
            costs[about] += micros
    return costs


def _is_about(report: Place, place: Place) -> bool:
    """Tell whether a report is about a place: by its strategy, else by its campaign."""
    if report[:2] != place[:2]:
        return False
    if report.strategy:
        return report.strategy == place.strategy
    return report.campaign == place.campaign


def _shares(micros: int, touches: Sequence[Touch]) -> Mapping[Place, int]:
    """Share a cost by predicted registrations, to the micro; who has none counts as the average."""
    told = [touch.register_nanos for touch in touches if touch.told]
    promised = sum(told)
    weights: defaultdict[Place, Fraction] = defaultdict(Fraction)
    for touch in touches:
        average = Fraction(promised, len(told)) if promised else Fraction(1)
        weights[touch.place] += touch.register_nanos if touch.told and promised else average
    whole = sum(weights.values())
    exact = {place: micros * weight / whole for place, weight in weights.items()}
    shares = {place: floor(share) for place, share in exact.items()}
    missing = micros - sum(shares.values())
    for place in sorted(exact, key=lambda place: (shares[place] - exact[place], place))[:missing]:
        shares[place] += 1
    return shares


def _cells(
    touches: Iterable[Touch], attributions: Iterable[Attribution], costs: Mapping[Place, int]
) -> list[Cell]:
    of_place: defaultdict[Place, list[Touch]] = defaultdict(list)
    for touch in touches:
        of_place[touch.place].append(touch)
    owed: defaultdict[Place, list[Attribution]] = defaultdict(list)
    for attribution in attributions:
        owed[attribution.place].append(attribution)
    return [
        _cell(place, of_place[place], owed[place], costs.get(place, 0))
        for place in sorted({*of_place, *owed, *costs})
    ]


def _cell(
    place: Place, touches: Sequence[Touch], owed: Iterable[Attribution], reported: int
) -> Cell:
    told = [touch for touch in touches if touch.told and touch.kind is TouchKind.CLICK]
    goals: defaultdict[str, list[int]] = defaultdict(list)
    for one in owed:
        goals[one.goal].append(one.cents)
        if one.goal == TRADE and one.is_first:
            goals[FIRST_TRADE].append(one.cents)
    return Cell(
        place,
        exposures=sum(touch.kind is TouchKind.EXPOSURE for touch in touches),
        clicks=sum(touch.kind is TouchKind.CLICK for touch in touches),
        wins=sum(touch.kind is TouchKind.WIN for touch in touches),
        cost_micros=sum(touch.cost_micros for touch in touches) + reported,
        told_clicks=len(told),
        register_sum=sum(touch.register_nanos for touch in told) / NANOS,
        trade_sum=sum(touch.trade_nanos for touch in told) / NANOS,
        goals={goal: GoalSum(len(all_cents), sum(all_cents)) for goal, all_cents in goals.items()},
    )
