"""The models' inputs, from records at an instant."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.domain.thresholds import DAY_S
from rta_service.features import (
    CATEGORICAL,
    FEATURE_NAMES,
    FEATURE_SET_ID,
    UNKNOWN_RECORD,
    Rows,
    matrix,
    matrix_plainly,
)
from rta_service.record import (
    FLAG_COMPETITOR_ACTIVE,
    FLAG_INDUSTRY_ACTIVE,
    RECORD_DTYPE,
    Records,
    pack_columns,
)

NOW = 20_000 * DAY_S


def rows(records: Records, now_s: int = NOW) -> Rows:
    n = len(records)
    return Rows(records, np.full(n, now_s), np.full(n, 2), np.full(n, 1), np.full(n, 5))


def features_of(**fields: int) -> dict[str, float]:
    records = pack_columns({name: np.array([value]) for name, value in fields.items()})
    return dict(zip(FEATURE_NAMES, matrix(rows(records))[0].tolist(), strict=True))


def test_the_feature_set_id_changes_only_with_the_columns() -> None:
    assert FEATURE_SET_ID == "62a3cd278c20"
    assert len(FEATURE_NAMES) == len(set(FEATURE_NAMES)) == 24


def test_categorical_columns_are_the_coded_ones() -> None:
    assert [FEATURE_NAMES[at] for at in CATEGORICAL] == ["role", "platform", "os", "placement"]


def test_instants_become_days_and_never_becomes_missing() -> None:
    found = features_of(last_active_at=NOW - 3 * DAY_S, registered_at=NOW + 5, first_seen_at=0)

    assert found["idle_days"] == 3
    assert found["registered_days"] == 0
    assert np.isnan(found["first_seen_days"])


def test_flags_counts_and_context_are_passed_on() -> None:
    found = features_of(flags=FLAG_INDUSTRY_ACTIVE, orders=4, role=2)

    names = ("known", "industry_active", "competitor_active", "orders", "role", "platform", "os")
    assert [found[name] for name in names] == [1, 1, 0, 4, 2, 2, 1]
    assert features_of(flags=FLAG_COMPETITOR_ACTIVE)["competitor_active"] == 1


def test_an_unknown_device_is_a_row_without_history() -> None:
    unknown = np.frombuffer(UNKNOWN_RECORD, dtype=RECORD_DTYPE)

    found = dict(zip(FEATURE_NAMES, matrix(rows(unknown))[0].tolist(), strict=True))

    assert found["known"] == found["launches"] == 0
    assert np.isnan(found["idle_days"])


@pytest.mark.parametrize("seed", [1, 2])
def test_a_batch_is_its_rows_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = {
        name: rng.integers(0, np.iinfo(RECORD_DTYPE[name]).max, 50, dtype=np.uint64)
        for name in RECORD_DTYPE.names or ()
    }
    records = pack_columns(columns)

    single = [matrix(rows(records[n : n + 1], NOW + n)) for n in range(50)]
    many = matrix(rows(records)._replace(now_s=NOW + np.arange(50)))

    np.testing.assert_array_equal(many, np.concatenate(single))


@given(st.lists(st.binary(min_size=64, max_size=64), max_size=9), st.integers(0, 2**32))
def test_the_fast_matrix_is_the_plain_one(data: list[bytes], now_s: int) -> None:
    records = np.frombuffer(b"".join(data), dtype=RECORD_DTYPE)

    fast, plain = matrix(rows(records, now_s)), matrix_plainly(rows(records, now_s))

    assert fast.tobytes() == plain.tobytes()
