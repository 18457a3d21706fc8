"""What attribution remembers and adds up, inside of one transaction on the ledger's file."""

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from rta_service.domain.attribution import (
    Changes,
    Conversion,
    CostRow,
    Credit,
    Found,
    Identity,
    Method,
    Oldest,
    Owed,
    Place,
    Refund,
    Touch,
    TouchKind,
)
from rta_service.domain.control_feed import FeedRow
from rta_service.domain.funnel import Step
from rta_service.stores.control_feed import spread

SLICES: Final = 4_096
"""Tables that are ordered by person or name are searched for what is old a slice at a time: an
index by time would cost each event more than all this."""
_KEYS: Final = 2**64
_FIRST: Final = -(2**63)
_SWEPT: Final = (
    ("DELETE FROM click WHERE person BETWEEN ? AND ? AND ts < ?", "touch_ms"),
    ("DELETE FROM named WHERE name BETWEEN ? AND ? AND ts < ?", "touch_ms"),
    ("DELETE FROM kin WHERE kin BETWEEN ? AND ? AND ts < ?", "conversion_ms"),
    ("DELETE FROM paid WHERE paid_order BETWEEN ? AND ? AND ts < ?", "conversion_ms"),
)
_OF_PLACES: Final = (
    "DELETE FROM touch_sum WHERE place IN (SELECT id FROM place WHERE hour < ?)",
    "DELETE FROM goal_sum WHERE place IN (SELECT id FROM place WHERE hour < ?)",
    "DELETE FROM report WHERE place IN (SELECT id FROM place WHERE hour < ?)",
    "DELETE FROM place WHERE hour < ?",
)
_PLACES: Final = 100_000
"""Places whose numbers are known without asking the file; then all are forgotten."""

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Conversion).decode
_KINDS: Final = tuple(TouchKind)

_NEW_PLACE: Final = """
INSERT OR IGNORE INTO place(hour, channel, strategy, campaign, arm, release)
VALUES (?, ?, ?, ?, ?, ?)
"""
_PLACE_ID: Final = """
SELECT id FROM place WHERE (hour, channel, strategy, campaign, arm, release) = (?, ?, ?, ?, ?, ?)
"""
_PLACE: Final = """
SELECT hour, channel, strategy, campaign, arm, release FROM place WHERE id = ?
"""
_AFTER_CLICK: Final = """
SELECT ts, key FROM kin WHERE kin = ?1 AND ts BETWEEN ?2 AND min(?4, coalesce(
    (SELECT ts FROM click WHERE person = ?1 AND (ts, key) > (?2, ?3) ORDER BY ts, key LIMIT 1), ?4))
"""
_ADD_TOUCHES: Final = """
INSERT INTO touch_sum VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    touches = touches + excluded.touches, told = told + excluded.told,
    register_nanos = register_nanos + excluded.register_nanos,
    trade_nanos = trade_nanos + excluded.trade_nanos,
    cost_micros = cost_micros + excluded.cost_micros
"""
_ADD_GOALS: Final = """
INSERT INTO goal_sum VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    conversions = conversions + excluded.conversions, cents = cents + excluded.cents
"""
_ADD_REPORTS: Final = """
INSERT INTO report VALUES (?, ?) ON CONFLICT DO UPDATE SET
    cost_micros = cost_micros + excluded.cost_micros
"""


class Places:
    """The numbers under which places are kept, those that were asked for lately at hand."""

    def __init__(self, connection: sqlite3.Connection, most: int = _PLACES) -> None:
        self._connection = connection
        self._most = most
        self._ids: dict[Place, int] = {}
        self._places: dict[int, Place] = {}

    def id_of(self, place: Place) -> int:
        """Give a place's number, a new one for a new place."""
        known = self._ids.get(place)
        if known is not None:
            return known
        self._connection.execute(_NEW_PLACE, place)
        found: int = self._connection.execute(_PLACE_ID, place).fetchone()[0]
        self._know(found, place)
        return found

    def of(self, place_id: int) -> Place:
        """Give the place of a number."""
        known = self._places.get(place_id)
        if known is not None:
            return known
        place = Place._make(self._connection.execute(_PLACE, (place_id,)).fetchone())
        self._know(place_id, place)
        return place

    def forget(self) -> None:
        """Forget all numbers, as after a transaction that did not end well."""
        self._ids.clear()
        self._places.clear()

    def _know(self, place_id: int, place: Place) -> None:
        if len(self._ids) >= self._most:
            self.forget()
        self._ids[place] = place_id
        self._places[place_id] = place


class LedgerTables:
    """The tables as attribution works on them; rows are written in batches, before any is read."""

    def __init__(
        self, connection: sqlite3.Connection, places: Places, slices: int = SLICES
    ) -> None:
        self._connection, self._places, self._slices = connection, places, slices
        self.told: list[tuple[str, FeedRow]] = []
        self._clicks: list[tuple[int, int, int, int]] = []
        self._named: list[tuple[int, int, int, int, int]] = []

    def add_touch(self, touch: Touch) -> bool:
        """Remember a touch; False for a copy."""
        ts_ms, key = touch.ts_ms, touch.key
        if not self._is_new(ts_ms, key):
            return False
        place_id = self._places.id_of(touch.place)
        if touch.kind is TouchKind.CLICK:
            self._clicks += [(person, ts_ms, key, place_id) for person in touch.persons]
        self._named += [(name, int(touch.kind), ts_ms, key, place_id) for name in touch.names]
        return True

    def add_conversion(self, conversion: Conversion) -> bool:
        """Remember a conversion that does not count yet; False for a copy."""
        ts_ms, key = conversion.ts_ms, conversion.key
        if not self._is_new(ts_ms, key):
            return False
        goal, run = conversion.goal, self._connection.execute
        run(
            "INSERT INTO conversion(ts, key, body) VALUES (?, ?, ?)",
            (ts_ms, key, _encode(conversion)),
        )
        for kin in {*conversion.persons, *conversion.names}:
            run("INSERT INTO kin VALUES (?, ?, ?, ?)", (kin, ts_ms, key, goal))
        if conversion.order:
            is_trade = goal == Step.TRADE
            run("INSERT INTO paid VALUES (?, ?, ?, ?)", (conversion.order, is_trade, ts_ms, key))
        return True

    def add_refund(self, refund: Refund) -> bool:
        """Remember a refund that takes nothing off yet; False for a copy."""
        if not self._is_new(refund.ts_ms, refund.key):
            return False
        self._connection.execute(
            "INSERT INTO refund(ts, key, paid_order, cents) VALUES (?, ?, ?, ?)",
            (refund.ts_ms, refund.key, refund.order, refund.cents),
        )
        return True

    def add_cost_row(self, row: CostRow) -> bool:
        """Remember a row of a report; False for a copy."""
        return self._is_new(row.ts_ms, row.key)

    def named_touches(self, name: int, since_ms: int, until_ms: int) -> Iterator[Found]:
        """Give the touches of a name, the best first: by kind, then the latest."""
        rows = self._read(
            "SELECT kind, ts, key, place FROM named WHERE name = ? AND ts BETWEEN ? AND ?"
            " ORDER BY kind DESC, ts DESC, key DESC",
            (name, since_ms, until_ms),
        )
        return (Found(_KINDS[kind], ts, key, self._places.of(at)) for kind, ts, key, at in rows)

    def last_click(self, person: int, since_ms: int, until_ms: int) -> Found | None:
        """Give a person's last click of some time."""
        row = self._read(
            "SELECT ts, key, place FROM click WHERE person = ? AND ts BETWEEN ? AND ?"
            " ORDER BY ts DESC, key DESC LIMIT 1",
            (person, since_ms, until_ms),
        ).fetchone()
        return Found(TouchKind.CLICK, row[0], row[1], self._places.of(row[2])) if row else None

    def after_click(self, person: int, click: Identity, until_ms: int) -> list[Identity]:
        """Give a person's conversions from a click on, up to the instant of their next click."""
        return self._read(_AFTER_CLICK, (person, *click, until_ms)).fetchall()

    def sharing(self, name: int, since_ms: int, until_ms: int) -> list[Identity]:
        """Give the conversions of a name."""
        return self._read(
            "SELECT ts, key FROM kin WHERE kin = ? AND ts BETWEEN ? AND ?",
            (name, since_ms, until_ms),
        ).fetchall()

    def reached(self, kin: int, goal: str, since_ms: int, before: Identity) -> bool:
        """Tell whether a person or name reached a goal before a conversion."""
        row = self._read(
            "SELECT 1 FROM kin WHERE kin = ? AND goal = ? AND ts >= ? AND (ts, key) < (?, ?)"
            " LIMIT 1",
            (kin, goal, since_ms, *before),
        ).fetchone()
        return row is not None

    def next_reached(self, kin: int, goal: str, after: Identity, until_ms: int) -> Identity | None:
        """Give the first conversion of a person or name that comes after one of the same goal."""
        row: Identity | None = self._read(
            "SELECT ts, key FROM kin WHERE kin = ? AND goal = ? AND (ts, key) > (?, ?) AND ts <= ?"
            " ORDER BY ts, key LIMIT 1",
            (kin, goal, *after, until_ms),
        ).fetchone()
        return row

    def conversion(self, identity: Identity) -> tuple[Conversion, Credit | None]:
        """Give a conversion and where it counts."""
        body, method, place, touch_ms, touch_key, is_first = self._read(
            "SELECT body, method, place, touch_ts, touch_key, is_first FROM conversion"
            " WHERE ts = ? AND key = ?",
            identity,
        ).fetchone()
        if method is None:
            return _decode(body), None
        credit = Credit(Method(method), self._places.of(place), touch_ms, touch_key, bool(is_first))
        return _decode(body), credit

    def set_credit(self, identity: Identity, credit: Credit | None) -> None:
        """Say where a conversion counts."""
        said: tuple[object, ...] = (None,) * 5
        if credit is not None:
            place_id = self._places.id_of(credit.place)
            said = (credit.method.value, place_id, *credit[2:4], int(credit.is_first))
        self._connection.execute(
            "UPDATE conversion SET method = ?, place = ?, touch_ts = ?, touch_key = ?, is_first = ?"
            " WHERE ts = ? AND key = ?",
            (*said, *identity),
        )

    def last_paid(self, order: int, since_ms: int, until_ms: int) -> Identity | None:
        """Give an order's last trade of some time, or else its last conversion."""
        row: Identity | None = self._read(
            "SELECT ts, key FROM paid WHERE paid_order = ? AND ts BETWEEN ? AND ?"
            " ORDER BY is_trade DESC, ts DESC, key DESC LIMIT 1",
            (order, since_ms, until_ms),
        ).fetchone()
        return row

    def refunds_of(self, order: int, since_ms: int, until_ms: int) -> list[Refund]:
        """Give an order's refunds of some time."""
        rows = self._read(
            "SELECT ts, key, paid_order, cents FROM refund WHERE paid_order = ?"
            " AND ts BETWEEN ? AND ?",
            (order, since_ms, until_ms),
        )
        return [Refund(*row) for row in rows]

    def owed(self, identity: Identity) -> Owed | None:
        """Say where a refund is taken off."""
        row = self._read(
            "SELECT paid_ts, paid_key, place, goal, is_first FROM refund WHERE ts = ? AND key = ?",
            identity,
        ).fetchone()
        if row[3] is None:
            return None
        return Owed((row[0], row[1]), self._places.of(row[2]), row[3], bool(row[4]))

    def set_owed(self, identity: Identity, owed: Owed | None) -> None:
        """Say where a refund is taken off from now on."""
        said: tuple[object, ...] = (None,) * 5
        if owed is not None:
            said = (*owed.paid, self._places.id_of(owed.place), owed.goal, int(owed.is_first))
        self._connection.execute(
            "UPDATE refund SET paid_ts = ?, paid_key = ?, place = ?, goal = ?, is_first = ?"
            " WHERE ts = ? AND key = ?",
            (*said, *identity),
        )

    def add_sums(self, changes: Changes) -> None:
        """Add to what was counted; goals that nothing is owed any more are dropped."""
        self._flush()
        id_of, many = self._places.id_of, self._connection.executemany
        many(
            _ADD_TOUCHES, [(id_of(at), int(kind), *n) for (at, kind), n in changes.touches.items()]
        )
        goals = [(id_of(at), goal, *n) for (at, goal), n in changes.goals.items()]
        many(_ADD_GOALS, goals)
        many(
            "DELETE FROM goal_sum WHERE place = ? AND goal = ? AND conversions = 0",
            [row[:2] for row in goals],
        )
        many(_ADD_REPORTS, [(id_of(at), micros) for at, micros in changes.reported.items()])
        for about in changes.reported.items():
            changes.told += spread(self._connection, *about)
        self.told += changes.told
        applied = changes.applied
        more = (("counted", applied.counted), ("copies", applied.copies), ("late", applied.late))
        many("UPDATE fact SET value = value + ?2 WHERE name = ?1", more)
        self._connection.execute(
            "UPDATE fact SET value = max(value, ?) WHERE name = 'newest_ms'", (changes.newest_ms,)
        )

    def newest_ms(self) -> int:
        """Say when the newest event that was remembered happened; 0 before any."""
        found: int = self._read("SELECT value FROM fact WHERE name = 'newest_ms'").fetchone()[0]
        return found

    def forget(self, oldest: Oldest) -> None:
        """Drop what is older, ordered by time at once, ordered by person or name a slice."""
        run = self._connection.execute
        run("DELETE FROM event WHERE ts < ?", (oldest.event_ms,))
        run("DELETE FROM conversion WHERE ts < ?", (oldest.conversion_ms,))
        run("DELETE FROM refund WHERE ts < ?", (oldest.refund_ms,))
        swept: int = run("SELECT value FROM fact WHERE name = 'swept'").fetchone()[0]
        first = _FIRST + swept * (_KEYS // self._slices)
        last = first + _KEYS // self._slices - 1
        for statement, cut in _SWEPT:
            run(statement, (first, last, getattr(oldest, cut)))
        run("UPDATE fact SET value = ? WHERE name = 'swept'", ((swept + 1) % self._slices,))
        if swept == 0:
            self._forget_places(oldest.place_hour)

    def _forget_places(self, before_hour: int) -> None:
        for statement in _OF_PLACES:
            self._connection.execute(statement, (before_hour,))
        self._places.forget()

    def _is_new(self, ts_ms: int, key: int) -> bool:
        added = self._connection.execute("INSERT OR IGNORE INTO event VALUES (?, ?)", (ts_ms, key))
        return added.rowcount == 1

    def _read(self, question: str, given: Iterable[object] = ()) -> sqlite3.Cursor:
        self._flush()
        return self._connection.execute(question, tuple(given))

    def _flush(self) -> None:
        if self._clicks:
            self._connection.executemany("INSERT INTO click VALUES (?, ?, ?, ?)", self._clicks)
            self._clicks.clear()
        if self._named:
            self._connection.executemany("INSERT INTO named VALUES (?, ?, ?, ?, ?)", self._named)
            self._named.clear()
