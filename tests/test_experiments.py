"""Buckets are permanent, even, and the same for one person and for many."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.experiments import (
    BUCKETS,
    HOLDOUT_SALT,
    bucket,
    buckets,
    in_holdout,
    layer_salt,
)

people = st.integers(0, 2**64 - 1)


def test_the_bucket_of_a_person_never_changes() -> None:
    assert bucket(0x0123456789ABCDEF, HOLDOUT_SALT) == 306385
    assert layer_salt("holdout") == HOLDOUT_SALT == 1212226611958562263


@given(st.lists(people, min_size=1), people)
def test_buckets_of_many_are_the_buckets_one_by_one(keys: list[int], salt: int) -> None:
    assert buckets(np.array(keys, dtype=np.uint64), salt).tolist() == [
        bucket(key, salt) for key in keys
    ]


@given(people, people)
def test_a_bucket_is_one_of_a_million(key: int, salt: int) -> None:
    assert 0 <= bucket(key, salt) < BUCKETS


@given(people, st.floats(0, 1), st.floats(0, 1))
def test_a_larger_holdout_contains_a_smaller_one(key: int, one: float, other: float) -> None:
    small, large = sorted((one, other))

    assert in_holdout(key, large) or not in_holdout(key, small)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 1.0])
def test_a_holdout_holds_its_share_of_consecutive_people(share: float) -> None:
    held = buckets(np.arange(200_000, dtype=np.uint64), HOLDOUT_SALT) < share * BUCKETS

    assert held.mean() == pytest.approx(share, abs=0.003)


def test_layers_are_independent() -> None:
    keys = np.arange(100_000, dtype=np.uint64)

    one, other = buckets(keys, layer_salt("one")), buckets(keys, layer_salt("other"))

    assert abs(np.corrcoef(one, other)[0, 1]) < 0.01
