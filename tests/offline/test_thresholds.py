"""The 80/20 cuts on small logs whose answers can be counted by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings, strategies as st

from rta_service.domain.errors import InvalidInput
from rta_service.domain.thresholds import Thresholds
from rta_service.offline import engine
from rta_service.offline.thresholds import (
    EIGHTY,
    Share,
    check_order,
    launch_gaps,
    pay_gaps,
    quantile,
)

FACTS = pa.schema(
    [
        ("person_id", pa.int64()),
        ("ts_s", pa.int64()),
        ("event", pa.string()),
        ("order_id", pa.string()),
    ]
)
Fact = tuple[int, int, str, str | None]
Load = Callable[[list[Any], pa.Schema], Any]


@pytest.fixture(scope="module")
def load() -> Load:
    con = engine.open_engine()

    def add(rows: list[Any], schema: pa.Schema) -> Any:
        named = [dict(zip(schema.names, row, strict=True)) for row in rows]
        return engine.add_arrow(con, "t", pa.Table.from_pylist(named, schema=schema))

    return add


def gaps_of(table: Any) -> list[tuple[int, int]]:
    return sorted((row["value"], row["weight"]) for row in engine.fetch(table))


@settings(max_examples=15)
@given(st.lists(st.integers(-5, 50), min_size=1, max_size=40), st.integers(1, 20))
def test_the_quantile_is_the_nearest_rank(load: Load, values: list[int], part: int) -> None:
    schema = pa.schema([("value", pa.int64()), ("weight", pa.int64())])

    found = quantile(load([(value, 1) for value in values], schema), Share(part, 20))

    assert found == np.quantile(values, part / 20, method="inverted_cdf")


def test_no_values_have_no_quantile(load: Load) -> None:
    schema = pa.schema([("value", pa.int64()), ("weight", pa.int64())])

    assert quantile(load([], schema), EIGHTY) is None


def test_launch_gaps_are_between_distinct_instants_of_one_person(load: Load) -> None:
    facts: list[Fact] = [(1, at, "launch", None) for at in (50, 10, 10, 30)]
    facts += [(2, 35, "launch", None), (1, 20, "view", None)]

    assert gaps_of(launch_gaps(load(facts, FACTS))) == [(20, 1), (20, 1)]


def test_an_order_waits_from_its_first_payment_to_the_next_later_launch(load: Load) -> None:
    facts: list[Fact] = [
        (1, 10, "pay", "o1"),
        (1, 10, "launch", None),
        (1, 12, "pay", "o1"),
        (1, 40, "launch", None),
        (1, 50, "pay", "o2"),
        (2, 60, "launch", None),
    ]

    assert gaps_of(pay_gaps(load(facts, FACTS))) == [(30, 1)]


def test_orders_paid_at_once_weigh_one_each(load: Load) -> None:
    facts: list[Fact] = [(1, 10, "pay", order) for order in ("o1", "o2", None, None)]
    facts += [(1, 15, "launch", None), (1, 19, "launch", None)]

    assert gaps_of(pay_gaps(load(facts, FACTS))) == [(5, 4)]


def thresholds(silent_s: int, churned_s: int) -> Thresholds:
    return Thresholds(silent_s, churned_s, 0, 0, 0, 0, 0, 0)


def test_silent_below_churned_is_sound() -> None:
    assert check_order(thresholds(1, 2), ()) is None


@pytest.mark.parametrize("silent_s", [2, 3])
def test_silent_at_or_beyond_churned_is_an_error_of_a_log_with_launches(silent_s: int) -> None:
    with pytest.raises(InvalidInput, match="nobody would be silent"):
        check_order(thresholds(silent_s, 2), ("view",))


@pytest.mark.parametrize("silent_s", [1, 2, 3])
def test_payments_as_launches_are_a_warning_whichever_cut_is_longer(silent_s: int) -> None:
    assert "payments count as launches" in str(check_order(thresholds(silent_s, 2), ("pay",)))
