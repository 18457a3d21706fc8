"""Slices are judged with intervals that hold what they promise."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from rta_service.features import FEATURE_NAMES
from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.slices import slice_of, slices

MakeRows = Callable[..., HeadRows]


def test_every_row_is_in_one_slice_of_each_kind(make_rows: MakeRows) -> None:
    rows = make_rows(3_000)
    rows.matrix[:, FEATURE_NAMES.index("platform")] = np.arange(3_000) % 2 + 1

    found = slices(rows, np.full(len(rows), 0.2))

    assert list(found) == ["platform", "placement", "os", "stage", "tier", "stage x platform"]
    for parts in found.values():
        assert sum(part.rows for part in parts) == len(rows)
        assert sum(part.positives for part in parts) == rows.positives
    assert [part.name for part in found["platform"]] == ["json", "tencent"]
    assert found["stage x platform"][0].name == "introduction x json"
    assert "not told" in {part.name for part in found["placement"]}


def test_the_interval_of_counts_is_garwoods() -> None:
    labels = np.array([1.0] * 10 + [0.0] * 90)

    part = slice_of("x", labels, np.full(100, 0.1), is_value=False)

    assert part.pcoc == pytest.approx(1.0)
    assert (10 / part.high, 10 / part.low) == pytest.approx((4.7954, 18.3904), abs=1e-3)
    assert not part.is_solid


@pytest.mark.parametrize("is_value", [False, True])
def test_95_of_100_intervals_hold_the_truth(is_value: bool) -> None:
    chance = np.random.default_rng(5)
    held = 0
    for _ in range(400):
        if is_value:
            labels, promised = chance.gamma(2.0, 5.0, 300), np.full(300, 10.0)
        else:
            labels, promised = (chance.random(600) < 0.1).astype(float), np.full(600, 0.1)
        part = slice_of("x", labels, promised, is_value=is_value)
        held += part.low <= 1.0 <= part.high

    assert 0.92 < held / 400 <= 1.0


def test_without_a_positive_only_the_lower_end_is_known() -> None:
    part = slice_of("x", np.zeros(50), np.full(50, 0.1), is_value=False)

    assert part.pcoc == part.high == np.inf
    assert part.low == pytest.approx(5.0 / 3.689, rel=1e-3)


def test_a_thousand_positives_make_a_slice_solid(make_rows: MakeRows) -> None:
    rows = make_rows(4_000)
    rows = replace(rows, labels=np.ones(4_000))

    assert slice_of("x", rows.labels, rows.labels, is_value=False).is_solid
