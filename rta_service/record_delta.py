"""What happened to one device on one UTC day: 64 bytes that make its record fresh when read.

A snapshot knows all events before 00:00 UTC of its as-of day, the deltas of the days from then on
hold the rest: so a record and its deltas say the same whichever snapshot is live. Deltas of one day
merge in any order and any grouping, each event once.

Exact: all instants, opt-out, launches, browses, exposures, clicks, listings, sales. Nearly so:
`orders` (an order paid in parts on both sides of the as-of instant counts twice, more than four
orders of a day count as four), `money_code` (the record rounds money to 0.5 %), `active_days_28`
(days only come, none leave), the two flags of other apps (only set), `role` (rises up to private
seller). What needs the snapshot's cuts or counts that no record keeps waits for the next snapshot:
tier, segment, categories, the professional role, and which devices are one person.
"""

import hashlib
import struct
from collections.abc import Iterable, Sequence
from functools import reduce
from operator import add
from typing import Final, NamedTuple, Protocol

import numpy as np

from rta_service.domain.events import Event
from rta_service.domain.thresholds import DAY_S
from rta_service.domain.user import RFMSegment, Role, ValueTier
from rta_service.record import (
    FLAG_COMPETITOR_ACTIVE,
    FLAG_INDUSTRY_ACTIVE,
    FLAG_NEWCOMER,
    FLAG_OPTED_OUT,
    RECORD_VERSION,
    UserRecord,
    money_cents,
    money_code,
    pack,
    unpack,
)

DELTA_VERSION: Final = 1
DELTA_BYTES: Final = 64
"""The most that Redis keeps packed in a small hash by default."""
ORDERS_A_DAY: Final = 4
"""Distinct order ids that a delta can tell apart; more count as this many."""

COUNTS: Final = (
    "launches",
    "browses",
    "unnamed_orders",  # payments without an order id: each is an order
    "ad_exposures",
    "ad_clicks",
    "listings",
    "sales",
)
FIRSTS: Final = ("first_seen_at", "downloaded_at", "activated_at", "registered_at", "traded_at")
LASTS: Final = ("last_launch_at", "last_pay_at", "last_ad_click_at", "opted_out_at", "opted_in_at")

_STRUCT: Final = struct.Struct("<2BHqQ3H4B22s12s")
_LIMITS: Final = (65_535, 65_535, 65_535, 255, 255, 255, 255)
_INSTANT_BITS: Final = 17
"""Seconds of a day, counted from 1, with 0 for never."""
_INSTANT_MASK: Final = (1 << _INSTANT_BITS) - 1
_SHIFTS: Final = tuple(_INSTANT_BITS * place for place in range(len(FIRSTS) + len(LASTS)))
_ORDER_BYTES: Final = 3
_NO_ORDER_BYTES: Final = bytes(_ORDER_BYTES * ORDERS_A_DAY)
_NO_ORDERS: Final[frozenset[int]] = frozenset()
_MOST_CENTS: Final = (1 << 63) - 1
_U16: Final = 65_535
_U8: Final = 255
_ACTIVE_DAYS: Final = 28
_UNKNOWN: Final = int(Role.UNKNOWN)
_BUYER: Final = int(Role.BUYER)
_SELLER: Final = int(Role.PRIVATE_SELLER)


class Happened(Protocol):
    """What a delta needs of an event; its id was seen for the first time."""

    @property
    def ts_ms(self) -> int:
        """When it happened, UTC."""

    @property
    def event(self) -> str:
        """A word of domain.events.Event; others change no record."""

    @property
    def cents(self) -> int:
        """Money of a payment or refund, never negative."""

    @property
    def order_id(self) -> str | None:
        """Whose payment this is; empty or None for an order of its own."""


class Delta(NamedTuple):
    """One day of one device as plain numbers; instants are seconds since 1970, 0 for never."""

    day: int
    """Days since 1970, UTC."""
    person_key: int
    """Whom experiments know the device as while no snapshot knows it."""
    flags: int = 0
    cents: int = 0
    """Net: payments less refunds."""
    counts: tuple[int, ...] = (0,) * len(COUNTS)
    firsts: tuple[int, ...] = (0,) * len(FIRSTS)
    lasts: tuple[int, ...] = (0,) * len(LASTS)
    orders: frozenset[int] = frozenset()
    """Hashes of the order ids paid for."""


class _Effect(NamedTuple):
    """Where an event leaves its mark: places in COUNTS, FIRSTS and LASTS, -1 for nowhere."""

    counted: int = -1
    first: int = -1
    last: int = -1
    flag: int = 0
    sign: int = 0


_PAID: Final = _Effect(counted=COUNTS.index("unnamed_orders"), first=4, last=1, sign=1)
_EFFECTS: Final[dict[str, _Effect]] = {
    Event.DOWNLOAD: _Effect(first=1),
    Event.ACTIVATE: _Effect(first=2),
    Event.LAUNCH: _Effect(counted=0, last=0),
    Event.VIEW: _Effect(counted=1),
    Event.SEARCH: _Effect(counted=1),
    Event.CART: _Effect(counted=1),
    Event.REGISTER: _Effect(first=3),
    Event.PAY: _PAID,
    Event.REFUND: _Effect(sign=-1),
    Event.PUBLISH: _Effect(counted=5),
    Event.SOLD: _Effect(counted=6, first=4),
    Event.AD_EXPOSURE: _Effect(counted=3),
    Event.AD_CLICK: _Effect(counted=4, last=2),
    Event.COMPETITOR_ACTIVE: _Effect(flag=FLAG_COMPETITOR_ACTIVE),
    Event.INDUSTRY_ACTIVE: _Effect(flag=FLAG_INDUSTRY_ACTIVE),
    Event.OPT_OUT: _Effect(last=3),
    Event.OPT_IN: _Effect(last=4),
}
FOLDED: Final = frozenset(_EFFECTS)
"""The words that leave a mark on a record."""


def day_of(ts_ms: int) -> int:
    """Give the UTC day of an instant, in days since 1970."""
    return ts_ms // (1000 * DAY_S)


def fold(day: int, person_key: int, events: Iterable[Happened]) -> Delta:
    """Sum up distinct events of one device and day; raises ValueError for another day's."""
    flags = cents = 0
    # one place more than is kept: -1 stands for it, and costs no question
    counts, firsts, lasts = [0] * (len(COUNTS) + 1), [0] * (len(FIRSTS) + 1), [0] * (len(LASTS) + 1)
    orders: set[int] = set()
    for happened in events:
        effect = _EFFECTS.get(happened.event)
        if effect is None:
            continue
        if day_of(happened.ts_ms) != day:
            raise ValueError(f"an event of day {day_of(happened.ts_ms)}, not of day {day}")
        ts_s = happened.ts_ms // 1000
        firsts[0] = _earlier(firsts[0], ts_s)
        firsts[effect.first] = _earlier(firsts[effect.first], ts_s)
        lasts[effect.last] = max(lasts[effect.last], ts_s)
        flags |= effect.flag
        cents += effect.sign * happened.cents
        if effect is _PAID and happened.order_id:
            orders.add(_order_hash(happened.order_id))
        else:
            counts[effect.counted] += 1
    return Delta(
        day,
        person_key,
        flags,
        cents,
        tuple(counts[:-1]),
        tuple(firsts[:-1]),
        tuple(lasts[:-1]),
        frozenset(orders),
    )


def merge(one: Delta, other: Delta) -> Delta:
    """Join what different events of one device and day left; raises ValueError for two days."""
    if one.day != other.day:
        raise ValueError(f"deltas of day {one.day} and of day {other.day} don't merge")
    return _joined(one, other)


def pack_delta(delta: Delta) -> bytes:
    """Write a delta; counts stop at their greatest value, orders at the smallest hashes."""
    before = delta.day * DAY_S - 1
    word = 0
    for shift, instant in zip(_SHIFTS, (*delta.firsts, *delta.lasts), strict=True):
        if instant:
            word |= (instant - before) << shift
    # the smallest, not the first: so it does not matter in which order they came
    kept = sorted(delta.orders)[:ORDERS_A_DAY]
    return _STRUCT.pack(
        DELTA_VERSION,
        delta.flags,
        delta.day,
        max(-_MOST_CENTS, min(delta.cents, _MOST_CENTS)),
        delta.person_key,
        *map(min, delta.counts, _LIMITS),
        word.to_bytes(22, "little"),
        b"".join(order.to_bytes(_ORDER_BYTES, "little") for order in kept),
    )


def unpack_delta(data: bytes) -> Delta:
    """Read a delta; raises ValueError for other lengths or versions."""
    if len(data) != DELTA_BYTES or data[0] != DELTA_VERSION:
        raise ValueError(f"not a delta of version {DELTA_VERSION}: {len(data)} bytes")
    _, flags, day, cents, person_key, *counts, instants, orders = _STRUCT.unpack(data)
    before = day * DAY_S - 1
    word = int.from_bytes(instants, "little")
    seconds = [word >> shift & _INSTANT_MASK for shift in _SHIFTS]
    found = [before + second if second else 0 for second in seconds]
    return Delta(
        day,
        person_key,
        flags,
        cents,
        tuple(counts),
        tuple(found[: len(FIRSTS)]),
        tuple(found[len(FIRSTS) :]),
        _NO_ORDERS if orders == _NO_ORDER_BYTES else _orders(orders),
    )


def _orders(hashes: bytes) -> frozenset[int]:
    starts = range(0, len(hashes), _ORDER_BYTES)
    found = (int.from_bytes(hashes[at : at + _ORDER_BYTES], "little") for at in starts)
    return frozenset(filter(None, found))


def apply_deltas(record: bytes | None, deltas: Sequence[bytes]) -> bytes:
    """Give a record as of its snapshot, or None, with what its days since then brought.

    Without a record: that of a newcomer, marked so, in the tier that the next snapshot gives at
    least (X opted out, C paid, sold, or registered and browsed, else D), since no strategy could
    want the tier UNKNOWN. Raises ValueError for bytes that are no record or delta, or no deltas.
    """
    if not deltas:
        raise ValueError("there are no deltas to apply")
    days = [unpack_delta(data) for data in deltas]
    whole = reduce(_joined, days)
    launch_days = sum(day.lasts[0] > 0 for day in days)
    if record is not None:
        return pack(_advanced(unpack(record), whole, launch_days))
    newcomer = _advanced(_blank(whole.person_key), whole, launch_days)
    return pack(newcomer._replace(tier=_least_tier(newcomer)))


def _advanced(record: UserRecord, whole: Delta, launch_days: int) -> UserRecord:
    """Put later events on top of a record: instants that it has are earlier than theirs."""
    first_seen, downloaded, activated, registered, traded = whole.firsts
    launched, paid, clicked, opted_out, opted_in = whole.lasts
    launches, browses, unnamed, exposures, clicks, listings, sales = whole.counts
    first_seen = record.first_seen_at or first_seen
    last_pay = paid or record.last_pay_at
    stand_in = record.last_active_at if record.launches else max(last_pay, first_seen)
    flags = record.flags | whole.flags
    if opted_out or opted_in:  # no wins when both fall into one second
        flags = flags & ~FLAG_OPTED_OUT | (FLAG_OPTED_OUT if opted_out >= opted_in else 0)
    orders = min(record.orders + len(whole.orders) + unnamed, _U16)
    browses = min(record.browses + browses, _U16)
    listings, sales = min(record.listings + listings, _U8), min(record.sales + sales, _U8)
    # by position: _replace by name takes three times as long, and this is the request's way
    return UserRecord(
        record.version,
        flags,
        record.tier,
        max(record.role, _least_role(listings + sales, orders + browses)),
        record.segment,
        min(record.active_days_28 + launch_days, _ACTIVE_DAYS),
        orders,
        record.person_key,
        first_seen,
        launched or stand_in,
        record.downloaded_at or downloaded,
        record.activated_at or activated,
        record.registered_at or registered,
        record.traded_at or traded,
        last_pay,
        clicked or record.last_ad_click_at,
        min(record.launches + launches, _U16),
        _money(record.money_code, whole.cents),
        browses,
        min(record.ad_exposures + exposures, _U8),
        min(record.ad_clicks + clicks, _U8),
        listings,
        sales,
        *record[-3:],
    )


def _joined(one: Delta, other: Delta) -> Delta:
    return Delta(
        max(one.day, other.day),
        max(one.person_key, other.person_key),
        one.flags | other.flags,
        one.cents + other.cents,
        tuple(map(add, one.counts, other.counts)),
        tuple(map(_earlier, one.firsts, other.firsts)),
        tuple(map(max, one.lasts, other.lasts)),
        one.orders | other.orders,
    )


def _earlier(one: int, other: int) -> int:
    return min(one, other) if one and other else one or other


def _order_hash(order_id: str) -> int:
    digest = hashlib.blake2b(order_id.encode(), digest_size=_ORDER_BYTES).digest()
    return int.from_bytes(digest, "little") or 1


def _blank(person_key: int) -> UserRecord:
    zeros = UserRecord._make([0] * len(UserRecord._fields))
    return zeros._replace(
        version=RECORD_VERSION,
        flags=FLAG_NEWCOMER,
        segment=int(RFMSegment.NONE),
        person_key=person_key,
    )


def _money(code: int, cents: int) -> int:
    if not cents:
        return code
    return int(money_code(np.array([round(money_cents(code)) + cents]))[0])


def _least_role(sold: int, bought: int) -> int:
    if sold:
        return _SELLER
    return _BUYER if bought else _UNKNOWN


def _least_tier(record: UserRecord) -> int:
    """Apply the offline rule for tiers as far as it needs no cuts."""
    if record.flags & FLAG_OPTED_OUT:
        return int(ValueTier.X)
    is_promising = record.sales or (record.registered_at and record.browses)
    return int(ValueTier.C if record.orders or is_promising else ValueTier.D)
