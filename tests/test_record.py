"""The record's bytes, its reading, and the stage derived at the moment of reading."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service import record as layout
from rta_service.domain.thresholds import Thresholds
from rta_service.domain.user import LifecycleStage, RFMSegment
from rta_service.record import (
    RECORD_BYTES,
    RECORD_DTYPE,
    UserRecord,
    category_code,
    money_cents,
    money_code,
    pack,
    pack_columns,
    read_many,
    rfm_codes,
    stage_at,
    stage_code,
    stages_at,
    unpack,
)

CUTS = Thresholds(
    silent_s=100,
    churned_s=200,
    recency_s=50,
    frequency=3,
    monetary_cents=900,
    tier_s_cents=0,
    tier_a_cents=0,
    tier_b_cents=0,
)
FIELDS = RECORD_DTYPE.names or ()
GOLDEN = UserRecord._make(
    1 if name == "version" else 7 * n + 1 if n != 7 else 0x0123456789ABCDEF
    for n, name in enumerate(FIELDS)
)


def limit_of(name: str) -> int:
    return int(np.iinfo(RECORD_DTYPE[name]).max)


records = st.builds(
    UserRecord,
    **{
        name: st.just(1) if name == "version" else st.integers(0, limit_of(name)) for name in FIELDS
    },
)


def test_the_bytes_of_a_record_never_change() -> None:
    assert (
        pack(GOLDEN).hex()
        == "01080f161d242b00efcdab89674523013900000040000000470000004e000000550000005c000000630000006a000000710078007f00868d949ba200a900b000"
    )


def test_a_record_is_64_bytes_and_begins_with_its_version() -> None:
    assert RECORD_BYTES == 64
    assert pack(GOLDEN)[0] == layout.RECORD_VERSION == 1


def test_the_plain_form_and_the_array_form_name_the_same_fields() -> None:
    assert UserRecord._fields == FIELDS


@given(records)
def test_what_is_packed_unpacks_to_the_same(record: UserRecord) -> None:
    assert unpack(pack(record)) == record


@given(st.lists(records, min_size=1, max_size=5))
def test_columns_pack_to_the_same_bytes_as_records_one_by_one(several: list[UserRecord]) -> None:
    columns = {
        name: np.array([getattr(record, name) for record in several], dtype=np.uint64)
        for name in FIELDS
    }

    assert pack_columns(columns).tobytes() == b"".join(pack(record) for record in several)


def test_counts_saturate_and_never_wrap() -> None:
    packed = pack_columns({"orders": np.array([-1, 70_000]), "sales": np.array([255, 256])})

    assert packed["orders"].tolist() == [0, 65_535]
    assert packed["sales"].tolist() == [255, 255]


def test_a_column_that_is_no_field_is_refused() -> None:
    with pytest.raises(ValueError, match="colour"):
        pack_columns({"colour": np.array([1])})


@pytest.mark.parametrize(
    "data", [b"", bytes(RECORD_BYTES), b"\x02" + bytes(63), b"\x01" + bytes(64)]
)
def test_other_lengths_and_versions_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="version"):
        unpack(data)


def test_many_records_are_read_from_one_buffer_and_all_are_checked() -> None:
    data = pack(GOLDEN)

    assert read_many(data * 3)["orders"].tolist() == [GOLDEN.orders] * 3
    with pytest.raises(ValueError, match="version"):
        read_many(data + bytes(RECORD_BYTES))


@pytest.mark.parametrize(
    ("idle_s", "orders", "stage"),
    [
        (0, 0, LifecycleStage.INTRODUCTION),
        (200, 0, LifecycleStage.INTRODUCTION),
        (201, 0, LifecycleStage.CHURNED),
        (100, 1, LifecycleStage.GROWTH),
        (100, 2, LifecycleStage.MATURITY),
        (101, 1, LifecycleStage.SILENT),
        (200, 9, LifecycleStage.SILENT),
        (201, 9, LifecycleStage.CHURNED),
        (-5, 1, LifecycleStage.GROWTH),
    ],
)
def test_a_stage_follows_from_idle_time_and_orders(
    idle_s: int, orders: int, stage: LifecycleStage
) -> None:
    assert stage_code(idle_s, orders, CUTS) == stage


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 4)), min_size=1))
def test_stages_of_arrays_are_the_stages_one_by_one(people: list[tuple[int, int]]) -> None:
    packed = pack_columns(
        {
            "last_active_at": np.array([active for active, _ in people]),
            "orders": np.array([orders for _, orders in people]),
        }
    )

    stages = stages_at(packed, 1000, CUTS)

    assert stages.tolist() == [stage_at(unpack(row.tobytes()), 1000, CUTS) for row in packed]


def test_a_stage_passes_with_time_while_the_bytes_stay() -> None:
    record = GOLDEN._replace(last_active_at=1000, orders=1)

    stages = [stage_at(record, now, CUTS).label for now in (1050, 1150, 1250)]

    assert stages == ["growth", "silent", "churned"]


@pytest.mark.parametrize(
    ("recency_s", "orders", "cents", "segment"),
    [
        (50, 3, 900, RFMSegment.IMPORTANT_VALUE),
        (51, 3, 900, RFMSegment.IMPORTANT_KEEP),
        (50, 2, 900, RFMSegment.IMPORTANT_DEVELOP),
        (51, 2, 900, RFMSegment.IMPORTANT_WIN_BACK),
        (50, 3, 899, RFMSegment.GENERAL_VALUE),
        (51, 3, 899, RFMSegment.GENERAL_KEEP),
        (50, 2, 899, RFMSegment.GENERAL_DEVELOP),
        (51, 2, 899, RFMSegment.GENERAL_WIN_BACK),
        (0, 0, 9999, RFMSegment.NONE),
    ],
)
def test_a_segment_is_recent_at_or_below_and_big_at_or_above(
    recency_s: int, orders: int, cents: int, segment: RFMSegment
) -> None:
    codes = rfm_codes(np.array([recency_s]), np.array([orders]), np.array([cents]), CUTS)

    assert codes.tolist() == [segment]


@given(st.integers(0, 10**14))
def test_money_reads_back_to_within_half_a_percent(cents: int) -> None:
    code = int(money_code(np.array([cents]))[0])

    assert money_cents(code) == pytest.approx(cents, rel=0.005, abs=0.5)
    assert code <= limit_of("money_code")


def test_negative_money_is_none() -> None:
    assert money_code(np.array([-500, 0])).tolist() == [0, 0]


@given(st.text())
def test_a_category_has_a_code_that_is_never_none(name: str) -> None:
    assert 1 <= category_code(name) <= limit_of("category_1")


def test_the_code_of_a_category_never_changes() -> None:
    assert category_code("toys") == 18589


def test_the_documentation_shows_every_field_at_its_place() -> None:
    text = (Path(__file__).parents[1] / "docs" / "profiles.md").read_text(encoding="utf-8")
    shown = re.findall(r"^\| (\d+) \| (\S+) \| `(\w+)` \|", text, flags=re.MULTILINE)

    fields: Any = RECORD_DTYPE.fields
    assert shown == [
        (str(fields[name][1]), fields[name][0].name.replace("uint", "u"), name) for name in FIELDS
    ]
