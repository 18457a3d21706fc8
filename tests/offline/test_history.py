"""What a person's events say as of an instant, and that nothing later leaks in."""

from collections.abc import Callable
from typing import Any

import ibis
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from rta_service.domain.events import Event
from rta_service.domain.user import Role
from rta_service.offline import engine
from rta_service.offline.history import PROFESSIONAL_LISTINGS, record_columns, to_records
from rta_service.record import (
    FLAG_COMPETITOR_ACTIVE,
    FLAG_INDUSTRY_ACTIVE,
    FLAG_OPTED_OUT,
    RECORD_DTYPE,
    category_code,
)

DAY = 86_400
AS_OF = 20_000 * DAY
SCHEMA = pa.schema(
    [
        ("subject", pa.int64()),
        ("as_of_s", pa.int64()),
        ("ts_s", pa.int64()),
        ("event", pa.string()),
        ("cents", pa.int64()),
        ("order_id", pa.string()),
        ("category", pa.string()),
        ("category_code", pa.int64()),
    ]
)

Rows = list[dict[str, Any]]
Derive = Callable[[Rows], list[dict[str, Any]]]


def event(word: str, ago_s: float, **more: Any) -> dict[str, Any]:
    name = more.get("category")
    code = {"category_code": None if name is None else category_code(name)}
    base = {"subject": 1, "as_of_s": AS_OF, "cents": 0}
    return base | {"ts_s": AS_OF - round(ago_s), "event": word} | code | more


@pytest.fixture(scope="module")
def derive() -> Derive:
    con = engine.open_engine()

    def run(rows: Rows) -> list[dict[str, Any]]:
        events = engine.add_arrow(con, "events", pa.Table.from_pylist(rows, schema=SCHEMA))
        return engine.fetch(record_columns(events).order_by("subject"))

    return run


def test_gives_every_field_of_a_record_that_events_decide(derive: Derive) -> None:
    [columns] = derive([event("launch", 5)])

    elsewhere = {"version", "tier", "segment", "person_key", "money_code"}
    assert set(RECORD_DTYPE.names or ()) - elsewhere <= columns.keys()
    assert {"subject", "as_of_s", "cents", "last_launch_at", "listings_30"} <= columns.keys()


def test_instants_are_the_first_of_the_funnel_and_the_last_of_the_rest(derive: Derive) -> None:
    words = ("download", "activate", "register", "pay", "ad_click", "launch")
    rows = [event(word, 900 + 10 * n + more) for n, word in enumerate(words) for more in (0, 5)]

    [columns] = derive(rows)

    assert columns["first_seen_at"] == AS_OF - 955
    assert columns["downloaded_at"] == AS_OF - 905
    assert columns["activated_at"] == AS_OF - 915
    assert columns["registered_at"] == AS_OF - 925
    assert columns["traded_at"] == AS_OF - 935
    assert columns["last_pay_at"] == AS_OF - 930
    assert columns["last_ad_click_at"] == AS_OF - 940
    assert columns["last_active_at"] == columns["last_launch_at"] == AS_OF - 950


def test_without_a_launch_the_last_payment_or_first_sight_counts_as_active(derive: Derive) -> None:
    rows = [event("view", 500), event("view", 100), event("view", 900, subject=2)]
    rows += [event("pay", 300, subject=2), event("view", 50, subject=2)]

    viewer, payer = derive(rows)

    assert viewer["last_active_at"] == AS_OF - 500
    assert payer["last_active_at"] == AS_OF - 300
    assert viewer["last_launch_at"] == payer["last_launch_at"] == 0


def test_a_sale_is_a_trade_too(derive: Derive) -> None:
    [columns] = derive([event("sold", 70, cents=900), event("pay", 60)])

    assert columns["traded_at"] == AS_OF - 70
    assert columns["cents"] == 0


def test_orders_are_distinct_and_payments_without_one_count_one_each(derive: Derive) -> None:
    rows = [event("pay", 9, order_id="o1", cents=100), event("pay", 8, order_id="o1", cents=50)]
    rows += [event("pay", 7, cents=10), event("pay", 6, cents=10)]
    rows += [event("refund", 5, order_id="o1", cents=40), event("cart", 4, order_id="o9")]

    [columns] = derive(rows)

    assert (columns["orders"], columns["cents"]) == (3, 130)


def test_counts_add_up_by_kind_of_event(derive: Derive) -> None:
    many = {"view": 1, "search": 2, "cart": 3, "ad_exposure": 4, "ad_click": 5, "publish": 6}
    rows = [event(word, n + 1) for word, times in many.items() for n in range(times)]
    rows += [event("sold", 1)] * 7 + [event("launch", 1)] * 8

    [columns] = derive(rows)

    names = ("browses", "ad_exposures", "ad_clicks", "listings", "sales", "launches")
    assert [columns[name] for name in names] == [6, 4, 5, 6, 7, 8]


def test_active_days_are_utc_days_with_a_launch_in_28_days(derive: Derive) -> None:
    rows = [event("launch", days * DAY) for days in (0.1, 0.2, 1.5, 28, 28.1, 40)]

    [columns] = derive([*rows, event("view", 5 * DAY)])

    assert columns["active_days_28"] == 3


@pytest.mark.parametrize(
    ("rows", "flags"),
    [
        ([("launch", 1)], 0),
        ([("competitor_active", 28 * DAY)], FLAG_COMPETITOR_ACTIVE),
        ([("competitor_active", 28 * DAY + 1)], 0),
        (
            [("industry_active", 1), ("opt_out", 99 * DAY)],
            FLAG_INDUSTRY_ACTIVE + FLAG_OPTED_OUT,
        ),
        ([("opt_out", 9), ("opt_in", 8)], 0),
        ([("opt_in", 9), ("opt_out", 8)], FLAG_OPTED_OUT),
        ([("opt_out", 9), ("opt_in", 9)], FLAG_OPTED_OUT),
    ],
)
def test_flags_follow_the_recent_past_and_the_latest_choice(
    derive: Derive, rows: list[tuple[str, int]], flags: int
) -> None:
    [columns] = derive([event(word, ago) for word, ago in rows])

    assert columns["flags"] == flags


@pytest.mark.parametrize(
    ("rows", "role"),
    [
        ([("launch", 1)], Role.UNKNOWN),
        ([("view", 1)], Role.BUYER),
        ([("pay", 1)], Role.BUYER),
        ([("pay", 1), ("sold", 1)], Role.PRIVATE_SELLER),
        ([("publish", 30 * DAY)] * PROFESSIONAL_LISTINGS, Role.PROFESSIONAL_SELLER),
        ([("publish", 30 * DAY + 1)] * PROFESSIONAL_LISTINGS, Role.PRIVATE_SELLER),
        ([("publish", 1)] * (PROFESSIONAL_LISTINGS - 1), Role.PRIVATE_SELLER),
    ],
)
def test_a_role_follows_from_trades_and_listings(
    derive: Derive, rows: list[tuple[str, int]], role: Role
) -> None:
    [columns] = derive([event(word, ago) for word, ago in rows])

    assert columns["role"] == role


def test_the_three_most_touched_categories_are_kept_ties_by_name(derive: Derive) -> None:
    touched = {"toys": 2, "books": 3, "bikes": 2, "coats": 1}
    rows = [event("view", 1, category=name) for name, n in touched.items() for _ in range(n)]
    rows += [event("sold", 1, category="lamps")] * 9 + [event("pay", 1, subject=2)]

    first, second = derive(rows)

    assert [first[f"category_{n}"] for n in (1, 2, 3)] == [
        category_code(name) for name in ("books", "bikes", "toys")
    ]
    assert [second[f"category_{n}"] for n in (1, 2, 3)] == [0, 0, 0]


def test_subjects_have_instants_of_their_own(derive: Derive) -> None:
    rows = [
        event("launch", ago, subject=subject, as_of_s=AS_OF - before, ts_s=AS_OF - ago)
        for subject, before in ((1, 0), (2, 50), (3, 500))
        for ago in (10, 50, 90)
    ]

    first, second = derive(rows)

    assert (first["launches"], second["launches"]) == (3, 1)
    assert second["as_of_s"] == AS_OF - 50


events = st.builds(
    event,
    st.sampled_from([word.value for word in Event]),
    st.integers(-40 * DAY, 60 * DAY),
    cents=st.integers(0, 900),
    order_id=st.sampled_from([None, "o1", "o2"]),
    category=st.sampled_from([None, "toys", "books", "bikes", "lamps"]),
)


@settings(max_examples=10)
@given(st.lists(events, max_size=30))
def test_nothing_at_or_after_the_instant_leaks_in(derive: Derive, rows: Rows) -> None:
    earlier = [row for row in rows if row["ts_s"] < AS_OF]

    assert derive(rows) == derive(earlier)


def test_records_pack_what_the_columns_say(derive: Derive) -> None:
    rows = [event("pay", 60, cents=10_000, order_id="o1"), event("launch", 30)]
    columns = {name: np.array([value]) for name, value in derive(rows)[0].items()}

    records = to_records(columns, tier=np.array([2]))

    assert records["money_code"][0] == round(np.log1p(10_000) / np.log(1.01))
    assert records["last_pay_at"][0] == AS_OF - 60
    assert records["last_active_at"][0] == AS_OF - 30
    assert (records["orders"][0], records["tier"][0], records["version"][0]) == (1, 2, 1)


@pytest.mark.parametrize("dialect", ["pyspark", "clickhouse", "bigquery", "snowflake", "trino"])
def test_the_expression_compiles_for_warehouses(dialect: str) -> None:
    events = ibis.table(ibis.schema(SCHEMA), name="events")

    assert "GROUP BY" in str(ibis.to_sql(record_columns(events), dialect=dialect))
