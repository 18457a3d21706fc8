"""What a change of attribution tells cost control."""

from rta_service.domain.attribution import (
    HOUR_MS,
    Conversion,
    Credit,
    Owed,
    Place,
    Touch,
    TouchKind,
)
from rta_service.domain.control_feed import FeedRow, RowKind
from rta_service.domain.control_order import unit_id
from rta_service.domain.funnel import Step

_TOUCHES = {TouchKind.WIN: RowKind.WIN, TouchKind.CLICK: RowKind.CLICK}
_GOALS = {Step.REGISTER.value: RowKind.SHALLOW, Step.TRADE.value: RowKind.DEEP}


def unit_of(place: Place) -> str:
    """Name the unit of a place; empty for none."""
    named = place.strategy and place.channel
    return unit_id(place.strategy, place.channel) if named else ""


def of_touch(touch: Touch) -> tuple[str, FeedRow] | None:
    """Tell a touch; None for one that control does not count."""
    kind, unit = _TOUCHES.get(touch.kind), unit_of(touch.place)
    if kind is None or not unit:
        return None
    return unit, FeedRow(
        kind,
        touch.ts_ms,
        int(touch.told),
        touch.cost_micros,
        touch.register_nanos,
        touch.trade_nanos,
    )


def of_conversion(conversion: Conversion, credit: Credit, sign: int) -> tuple[str, FeedRow] | None:
    """Tell a conversion where it is credited, or take it back with a sign of -1.

    It was won by its touch; where that is not known, when its tag was given; else when it came.
    """
    kind, unit = _GOALS.get(conversion.goal), unit_of(credit.place)
    if kind is None or not unit:
        return None
    told_ms = conversion.told_ms if credit.place == conversion.told else 0
    won_ms = credit.touch_ms or told_ms or conversion.ts_ms
    return unit, FeedRow(
        kind, won_ms, sign, came_ms=conversion.ts_ms, cents=sign * conversion.cents
    )


def of_refund(owed: Owed, cents: int) -> tuple[str, FeedRow] | None:
    """Tell money that is added where a refund is owed.

    By the hour alone, which is all that is remembered: so the same is taken back as was told.
    """
    kind, unit = _GOALS.get(owed.goal), unit_of(owed.place)
    if kind is not RowKind.DEEP or not unit:
        return None
    middle_ms = owed.place.hour * HOUR_MS + HOUR_MS // 2
    return unit, FeedRow(kind, middle_ms, 0, came_ms=owed.paid[0], cents=cents)
