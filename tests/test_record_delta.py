"""A record and the deltas of its newest days say what a snapshot of all events would say."""

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from rta_service.domain.events import RECORDED, UNRECORDED, Event
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.domain.user import RFMSegment, Role, ValueTier
from rta_service.offline import engine
from rta_service.offline.history import record_columns, to_records
from rta_service.offline.tiers import tier_codes
from rta_service.record import (
    FLAG_COMPETITOR_ACTIVE,
    FLAG_INDUSTRY_ACTIVE,
    FLAG_NEWCOMER,
    FLAG_OPTED_OUT,
    UserRecord,
    money_cents,
    pack,
    unpack,
)
from rta_service.record_delta import (
    DELTA_BYTES,
    FOLDED,
    Delta,
    apply_deltas,
    day_of,
    fold,
    merge,
    pack_delta,
    unpack_delta,
)

DAY = 20_000
AS_OF_S = DAY * DAY_S
FRESH_DAYS = 3
PERSON = 0x0123456789ABCDEF
GOLDEN = (
    "0106204e0400000000000000efcdab89674523010100030001000101010101000200200058012003e0010060"
    "d42a006a00e200004e1ae7000000000000000000"
)
NO_CUTS = Thresholds(0, 0, 0, 0, 0, 1 << 60, 1 << 60, 1 << 60)

EXACT = (
    *("person_key", "first_seen_at", "last_active_at", "downloaded_at", "activated_at"),
    *("registered_at", "traded_at", "last_pay_at", "last_ad_click_at", "launches", "browses"),
    *("ad_exposures", "ad_clicks", "listings", "sales"),
)


class Deed(msgspec.Struct, frozen=True):
    """An event as a delta sees it."""

    ts_ms: int
    event: str
    cents: int = 0
    order_id: str = ""


Deeds = Sequence[Deed]


def deed(event: Event, at_s: int = 60, cents: int = 0, order_id: str = "") -> Deed:
    """An event so many seconds after the as-of instant."""
    return Deed((AS_OF_S + at_s) * 1000, event, cents, order_id)


def deltas_of(events: Deeds, first_day: int = DAY) -> list[bytes]:
    """The deltas of each day from one on, newest first."""
    days = sorted({day for one in events if (day := day_of(one.ts_ms)) >= first_day})
    return [
        pack_delta(fold(day, PERSON, [one for one in events if day_of(one.ts_ms) == day]))
        for day in reversed(days)
    ]


def times(first_s: int, last_s: int) -> st.SearchStrategy[int]:
    return st.integers((AS_OF_S + first_s) * 1000, (AS_OF_S + last_s) * 1000 + 999)


words = st.sampled_from(RECORDED)
of_one_day = st.lists(
    st.builds(
        Deed,
        times(0, DAY_S - 1),
        words,
        st.integers(0, 10**12),
        st.sampled_from(["", *"abcdefghi"]),
    ),
    max_size=10,
)


@given(st.lists(of_one_day, min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_any_order_and_any_grouping_of_distinct_events_leave_the_same_delta(
    parts: list[list[Deed]], chance: Any
) -> None:
    whole = pack_delta(fold(DAY, PERSON, [one for part in parts for one in part]))

    shuffled = [chance.sample(part, len(part)) for part in chance.sample(parts, len(parts))]
    stored = [unpack_delta(pack_delta(fold(DAY, PERSON, part))) for part in shuffled]
    one_by_one = reduce(lambda one, other: unpack_delta(pack_delta(merge(one, other))), stored)

    assert pack_delta(one_by_one) == whole
    assert len(whole) == DELTA_BYTES


@given(of_one_day)
def test_what_is_packed_unpacks_to_the_same(events: list[Deed]) -> None:
    delta = unpack_delta(pack_delta(fold(DAY, PERSON, events)))

    assert unpack_delta(pack_delta(delta)) == delta
    few = fold(DAY, PERSON, events[:4])
    assert unpack_delta(pack_delta(few)) == few


def test_the_bytes_of_a_delta_never_change() -> None:
    events = [deed(word, 7 * n, cents=100 + n) for n, word in enumerate(Event)]
    delta = fold(DAY, PERSON, [*events, deed(Event.PAY, 86_399, 5, "o1")])

    assert pack_delta(delta).hex() == GOLDEN


def test_counts_and_money_stop_at_their_greatest_value() -> None:
    full = Delta(DAY, PERSON, cents=1 << 70, counts=(70_000,) * 3 + (300,) * 4)

    found = unpack_delta(pack_delta(full))

    assert found.counts == (65_535,) * 3 + (255,) * 4
    assert found.cents == (1 << 63) - 1


def test_deltas_of_two_days_do_not_merge_and_events_of_another_day_do_not_fold() -> None:
    with pytest.raises(ValueError, match="day 20001"):
        fold(DAY, PERSON, [deed(Event.LAUNCH, DAY_S)])
    with pytest.raises(ValueError, match="don't merge"):
        merge(fold(DAY, PERSON, []), fold(DAY + 1, PERSON, []))


def test_words_that_change_no_record_leave_nothing() -> None:
    assert fold(DAY, PERSON, [Deed(0, "cost")]) == Delta(DAY, PERSON)


@pytest.mark.parametrize("data", [b"", bytes(DELTA_BYTES), b"\x02" + bytes(63), b"\x01" * 65])
def test_other_lengths_and_versions_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="delta of version 1"):
        unpack_delta(data)


def test_no_deltas_are_nothing_to_apply() -> None:
    with pytest.raises(ValueError, match="no deltas"):
        apply_deltas(None, [])


Columns = dict[int, dict[str, Any]]
"""What the offline half derives, by the person's place among the people."""

Derive = Callable[[Sequence[Deeds], int], Columns]
"""Takes people's events and 00:00 of which day, counted from the as-of, ends them."""


@pytest.fixture(scope="module")
def derive() -> Derive:
    """What the offline half derives from the events of several people."""
    con = engine.open_engine()
    kinds = {"subject": "i8", "as_of_s": "i8", "ts_s": "i8", "event": "", "cents": "i8"}
    kinds |= {"order_id": "", "category": "", "category_code": "i8"}
    schema = pa.schema([(n, pa.int64() if k else pa.string()) for n, k in kinds.items()])

    def run(people: Sequence[Deeds], day: int) -> Columns:
        rows = [
            {
                "subject": subject,
                "as_of_s": AS_OF_S + day * DAY_S,
                "ts_s": one.ts_ms // 1000,
                "event": one.event,
                "cents": one.cents,
                "order_id": one.order_id or None,
            }
            for subject, events in enumerate(people)
            for one in events
        ]
        table = engine.add_arrow(con, "events", pa.Table.from_pylist(rows, schema=schema))
        return {row["subject"]: row for row in engine.fetch(record_columns(table))}

    return run


def record_of(columns: dict[str, Any]) -> bytes:
    arrays = {name: np.array([value]) for name, value in columns.items()}
    packed = to_records(
        arrays,
        person_key=np.array([PERSON]),
        tier=tier_codes(arrays, NO_CUTS),
        segment=np.array([3]),
    )
    return packed.tobytes()


def people_with(first_day: int) -> st.SearchStrategy[list[list[Deed]]]:
    """People whose orders begin and end on one side of the as-of instant, four a day at most."""
    launches = st.just(Event.LAUNCH)

    def deeds(first_s: int, last_s: int, orders: list[str]) -> st.SearchStrategy[Deed]:
        order = st.sampled_from(["", *orders])
        return st.builds(
            Deed, times(first_s, last_s), words | launches, st.integers(0, 9_999), order
        )

    old = deeds(first_day * DAY_S, -1, ["o1", "o2"])
    new = deeds(0, FRESH_DAYS * DAY_S - 1, ["n1", "n2", "n3", "n4"])
    one = st.lists(old | new if first_day else new, min_size=1, max_size=25)
    return st.lists(one, min_size=10, max_size=20)


@settings(max_examples=3)
@given(people_with(first_day=-60))
def test_a_record_with_its_deltas_says_what_a_snapshot_of_all_events_says(
    derive: Derive, people: list[list[Deed]]
) -> None:
    before, after = derive(people, 0), derive(people, FRESH_DAYS)
    for subject, events in enumerate(people):
        deltas = deltas_of(events)
        if subject not in before or not deltas:
            continue
        old = unpack(record_of(before[subject]))
        wanted = unpack(record_of(after[subject]))

        fresh = unpack(apply_deltas(pack(old), deltas))

        assert_agrees(fresh, wanted)
        waiting = ("tier", "segment", "category_1", "category_2", "category_3", "version")
        assert all(getattr(fresh, name) == getattr(old, name) for name in waiting)
        if before[subject]["cents"] >= 0:
            loss = 0.006 * money_cents(old.money_code) + 1
            assert money_cents(fresh.money_code) == pytest.approx(
                max(after[subject]["cents"], 0), abs=loss, rel=0.006
            )


@settings(max_examples=3)
@given(people_with(first_day=0))
def test_the_deltas_of_a_device_without_a_record_make_the_record_of_its_first_snapshot(
    derive: Derive, people: list[list[Deed]]
) -> None:
    after = derive(people, FRESH_DAYS)
    for subject, events in enumerate(people):
        wanted = unpack(record_of(after[subject]))

        fresh = unpack(apply_deltas(None, deltas_of(events)))

        assert_agrees(fresh, wanted)
        assert fresh.flags == wanted.flags | FLAG_NEWCOMER
        assert fresh.tier == wanted.tier
        assert fresh.segment == RFMSegment.NONE
        assert fresh.active_days_28 == wanted.active_days_28
        assert abs(fresh.money_code - wanted.money_code) <= 1


@settings(max_examples=3)
@given(people_with(first_day=-60))
def test_a_switch_to_the_next_snapshot_while_deltas_come_in_loses_none(
    derive: Derive, people: list[list[Deed]]
) -> None:
    between, after = derive(people, 1), derive(people, FRESH_DAYS)
    for subject, events in enumerate(people):
        newer = deltas_of(events, DAY + 1)
        if newer and subject in between:
            switched = unpack(apply_deltas(record_of(between[subject]), newer))

            # orders of these people may be paid in parts on both sides of the second instant
            assert_agrees(switched, unpack(record_of(after[subject])), orders=False)


def assert_agrees(fresh: UserRecord, wanted: UserRecord, *, orders: bool = True) -> None:
    """Compare all fields that follow from events, as the module says they do."""
    assert [getattr(fresh, name) for name in EXACT] == [getattr(wanted, name) for name in EXACT]
    assert fresh.orders == wanted.orders or (not orders and fresh.orders >= wanted.orders)
    assert fresh.flags & FLAG_OPTED_OUT == wanted.flags & FLAG_OPTED_OUT
    assert wanted.flags & (FLAG_COMPETITOR_ACTIVE | FLAG_INDUSTRY_ACTIVE) & ~fresh.flags == 0
    assert wanted.active_days_28 <= fresh.active_days_28 <= wanted.active_days_28 + FRESH_DAYS
    assert fresh.role == wanted.role


def test_an_order_paid_in_parts_on_two_fresh_days_is_one_order() -> None:
    events = [deed(Event.PAY, 9, 100, "o1"), deed(Event.PAY, DAY_S + 9, 50, "o1")]

    fresh = unpack(apply_deltas(None, deltas_of(events)))

    assert (fresh.orders, round(money_cents(fresh.money_code))) == (1, 150)


def test_more_orders_of_a_day_than_a_delta_tells_apart_count_as_so_many() -> None:
    events = [deed(Event.PAY, n, 100, f"o{n}") for n in range(9)]

    assert unpack(apply_deltas(None, deltas_of(events))).orders == 4


def test_a_second_old_registration_is_on_the_record_of_a_newcomer() -> None:
    fresh = unpack(apply_deltas(None, deltas_of([deed(Event.REGISTER, 5)])))

    assert fresh.registered_at == fresh.first_seen_at == AS_OF_S + 5
    assert (fresh.tier, fresh.role, fresh.person_key) == (ValueTier.D, Role.UNKNOWN, PERSON)


@pytest.mark.parametrize(
    ("words_of_one", "tier"),
    [
        ([Event.LAUNCH], ValueTier.D),
        ([Event.REGISTER, Event.VIEW], ValueTier.C),
        ([Event.SOLD], ValueTier.C),
        ([Event.PAY], ValueTier.C),
        ([Event.PAY, Event.OPT_OUT], ValueTier.X),
    ],
)
def test_a_newcomer_has_the_least_tier_that_the_offline_rule_can_give(
    words_of_one: list[Event], tier: ValueTier
) -> None:
    fresh = unpack(apply_deltas(None, deltas_of([deed(word) for word in words_of_one])))

    assert fresh.tier == tier


def test_an_opt_in_after_the_snapshot_takes_an_older_opt_out_back_and_a_tie_is_a_no() -> None:
    out = pack(unpack(apply_deltas(None, deltas_of([deed(Event.OPT_OUT)]))))
    tie = [deed(Event.OPT_IN, 9), deed(Event.OPT_OUT, 9)]

    assert not unpack(apply_deltas(out, deltas_of([deed(Event.OPT_IN)]))).flags & FLAG_OPTED_OUT
    assert unpack(apply_deltas(out, deltas_of(tie))).flags & FLAG_OPTED_OUT
    assert unpack(apply_deltas(out, deltas_of([deed(Event.VIEW)]))).flags & FLAG_OPTED_OUT


def test_a_word_leaves_a_mark_or_is_for_attribution_only() -> None:
    assert FOLDED.isdisjoint(UNRECORDED)
    assert set(Event) == FOLDED | UNRECORDED
