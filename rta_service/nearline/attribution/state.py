"""Attribution kept up event by event: tested to say what the plain model says of all of them.

A batch is written down first; then everything is settled anew that it may have changed: what it is
owed to, and the sums of the places it left and came to. So late events change what was said before,
and a batch may be cut anywhere.
"""

from collections.abc import Iterable, Sequence

from rta_service.domain.attribution import (
    HOUR_MS,
    Applied,
    Changes,
    Conversion,
    CostRow,
    Credit,
    Fact,
    Found,
    Identity,
    Method,
    Oldest,
    Owed,
    Refund,
    Touch,
    TouchKind,
)
from rta_service.nearline.attribution.goals import AttributionRules
from rta_service.nearline.attribution.tables import Tables
from rta_service.nearline.attribution.telling import of_conversion, of_refund, of_touch


class Account:
    """One batch at work on the tables, inside of one transaction."""

    def __init__(self, tables: Tables, rules: AttributionRules) -> None:
        self._tables = tables
        self._rules = rules
        self._changes = Changes()
        self._conversions: dict[Identity, None] = {}
        """To be settled."""
        self._named_times: dict[int, tuple[int, int]] = {}
        """From when to when each name's new touches are."""
        self._refunds: dict[Identity, Refund] = {}

    def apply(self, facts: Sequence[Fact], now_ms: int) -> Applied:
        """Count facts, settle what they change, forget what no longer matters.

        What the newest event says the time is counts only up to now, so that a clock that was ahead
        for a while makes nothing late for ever.
        """
        known_ms = self._tables.newest_ms()
        not_late_ms = min(known_ms, now_ms) - self._rules.late_ms
        fresh, late = self._write_down(facts, not_late_ms)
        for fact in fresh:
            self._mark(fact)
        self._mark_named()
        for identity in self._conversions:
            self._settle(identity)
        for refund in self._refunds.values():
            self._settle_refund(refund)
        newest_ms = max((known_ms, *(fact.ts_ms for fact in fresh)))
        copies = len(facts) - len(fresh) - late
        applied = Applied(len(fresh), copies, late, len(self._conversions))
        self._changes.newest_ms, self._changes.applied = newest_ms, applied
        self._tables.add_sums(self._changes)
        self._tables.forget(oldest(self._rules, min(newest_ms, now_ms)))
        return applied

    def _write_down(self, facts: Iterable[Fact], not_late_ms: int) -> tuple[list[Fact], int]:
        fresh, late = [], 0
        for fact in facts:
            if fact.ts_ms < not_late_ms:
                late += 1
            elif self._add(fact):
                fresh.append(fact)
        return fresh, late

    def _add(self, fact: Fact) -> bool:
        match fact:
            case Touch():
                return self._tables.add_touch(fact)
            case Conversion():
                return self._tables.add_conversion(fact)
            case Refund():
                return self._tables.add_refund(fact)
            case CostRow():
                return self._tables.add_cost_row(fact)

    def _mark(self, fact: Fact) -> None:
        """Find what a fact may change."""
        match fact:
            case Touch():
                self._changes.touch(fact)
                self._changes.tell(of_touch(fact))
                self._mark_touched(fact)
            case Conversion():
                self._mark_conversion(fact)
            case Refund():
                self._refunds[fact.ts_ms, fact.key] = fact
            case CostRow():
                self._changes.reported[fact.place] += fact.cost_micros

    def _mark_touched(self, touch: Touch) -> None:
        until_ms = touch.ts_ms + self._rules.longest_ms
        if touch.kind is TouchKind.CLICK:
            for person in touch.persons:
                found = self._tables.after_click(person, (touch.ts_ms, touch.key), until_ms)
                self._conversions.update(dict.fromkeys(found))
        for name in touch.names:
            since_ms, until_ms = self._named_times.get(name, (touch.ts_ms, touch.ts_ms))
            self._named_times[name] = min(since_ms, touch.ts_ms), max(until_ms, touch.ts_ms)

    def _mark_named(self) -> None:
        """Mark the conversions of all names at once: some sender may give one to every event."""
        for name, (since_ms, until_ms) in self._named_times.items():
            found = self._tables.sharing(
                name, since_ms - self._rules.skew_ms, until_ms + self._rules.longest_ms
            )
            self._conversions.update(dict.fromkeys(found))

    def _mark_conversion(self, conversion: Conversion) -> None:
        """Mark a new conversion, and those that are no longer the first of their goal.

        Of each person only the next can be: those after it were not the first before.
        """
        identity = conversion.ts_ms, conversion.key
        self._conversions[identity] = None
        until_ms = conversion.ts_ms + self._rules.once_ms
        for kin in (*conversion.persons, *conversion.names):
            later = self._tables.next_reached(kin, conversion.goal, identity, until_ms)
            if later is not None:
                self._conversions[later] = None
        self._mark_refunds(conversion)

    def _mark_refunds(self, conversion: Conversion) -> None:
        if conversion.order:
            since_ms = conversion.ts_ms - self._rules.skew_ms
            until_ms = conversion.ts_ms + self._rules.refund_ms
            for refund in self._tables.refunds_of(conversion.order, since_ms, until_ms):
                self._refunds[refund.ts_ms, refund.key] = refund

    def _settle(self, identity: Identity) -> None:
        conversion, before = self._tables.conversion(identity)
        credit = self._credit(conversion)
        if credit == before:
            return
        if before is not None:
            self._changes.goal(_owed(identity, conversion, before), -1, -conversion.cents)
            self._changes.tell(of_conversion(conversion, before, -1))
        if credit is not None:
            self._changes.goal(_owed(identity, conversion, credit), 1, conversion.cents)
            self._changes.tell(of_conversion(conversion, credit, 1))
        self._tables.set_credit(identity, credit)
        self._mark_refunds(conversion)

    def _credit(self, conversion: Conversion) -> Credit | None:
        """Say where a conversion counts; None for a repeat, which does not."""
        identity, since_ms = (
            (conversion.ts_ms, conversion.key),
            conversion.ts_ms - self._rules.once_ms,
        )
        is_first = not any(
            self._tables.reached(kin, conversion.goal, since_ms, identity)
            for kin in (*conversion.persons, *conversion.names)
        )
        if not is_first and conversion.goal in self._rules.one_off:
            return None
        earliest_ms = conversion.ts_ms - self._rules.longest_ms
        latest_ms = conversion.ts_ms + self._rules.skew_ms
        named = self._named(conversion, earliest_ms, latest_ms)
        if named is not None:
            return Credit(Method.NAMED, named.place, named.ts_ms, named.key, is_first)
        if conversion.told is not None and earliest_ms <= conversion.told_ms <= latest_ms:
            return Credit(Method.TAG, conversion.told, is_first=is_first)
        click = self._last_click(conversion)
        if click is not None:
            return Credit(Method.LAST_CLICK, click.place, click.ts_ms, click.key, is_first)
        return Credit(Method.NONE, conversion.place, is_first=is_first)

    def _named(self, conversion: Conversion, since_ms: int, until_ms: int) -> Found | None:
        channel = conversion.place.channel
        best = None
        for name in conversion.names:
            for found in self._tables.named_touches(name, since_ms, until_ms):
                if not channel or found.place.channel in ("", channel):
                    best = found if best is None else max(best, found)
                    break
        return best

    def _last_click(self, conversion: Conversion) -> Found | None:
        since_ms = conversion.ts_ms - self._rules.window_ms(conversion.goal)
        clicks = [
            self._tables.last_click(person, since_ms, conversion.ts_ms)
            for person in conversion.persons
        ]
        return max((click for click in clicks if click is not None), default=None)

    def _settle_refund(self, refund: Refund) -> None:
        identity = refund.ts_ms, refund.key
        before, owed = self._tables.owed(identity), None
        since_ms, until_ms = (
            refund.ts_ms - self._rules.refund_ms,
            refund.ts_ms + self._rules.skew_ms,
        )
        paid = self._tables.last_paid(refund.order, since_ms, until_ms)
        if paid is not None:
            conversion, credit = self._tables.conversion(paid)
            owed = None if credit is None else _owed(paid, conversion, credit)
        if owed == before:
            return
        if before is not None:
            self._changes.goal(before, 0, refund.cents)
            self._changes.tell(of_refund(before, refund.cents))
        if owed is not None:
            self._changes.goal(owed, 0, -refund.cents)
            self._changes.tell(of_refund(owed, -refund.cents))
        self._tables.set_owed(identity, owed)


def oldest(rules: AttributionRules, newest_ms: int) -> Oldest:
    """Say what can still matter to an event that comes as late as one may."""
    event_ms = newest_ms - rules.late_ms
    touch_ms = event_ms - rules.skew_ms - rules.longest_ms
    conversion_ms = event_ms - 2 * rules.skew_ms - max(rules.once_ms, rules.refund_ms)
    refund_ms = conversion_ms - rules.skew_ms  # while a conversion is told, so is what it lost
    return Oldest(
        event_ms, touch_ms, conversion_ms, refund_ms, (newest_ms - rules.kept_ms) // HOUR_MS
    )


def _owed(paid: Identity, conversion: Conversion, credit: Credit) -> Owed:
    return Owed(paid, credit.place, conversion.goal, credit.is_first)
