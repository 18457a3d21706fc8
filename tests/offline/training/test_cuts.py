"""Learning, calibration and evaluation follow one another in time."""

from itertools import pairwise

import numpy as np
import pytest

from rta_service.offline.training.cuts import choose_cuts, split
from rta_service.offline.training.dataset import HeadRows

DAY = 86_400


def _rows(days: int, per_day: int = 100, undrawn: int = 0) -> HeadRows:
    as_of_s = np.arange(days * per_day, dtype=np.int64) * (DAY // per_day)
    zeros = np.zeros(len(as_of_s), dtype=np.int64)
    return HeadRows(
        matrix=as_of_s[:, np.newaxis].astype(np.float64),
        labels=(np.arange(len(as_of_s)) % 2 == 0).astype(np.float64),
        as_of_s=as_of_s,
        t_s=as_of_s,
        known_s=as_of_s,
        delay_s=zeros,
        stages=zeros,
        tiers=zeros,
        drawn=np.arange(len(as_of_s)) >= undrawn,
        negatives_kept=1.0,
        is_value=False,
        dropped={},
    )


def test_the_last_week_evaluates_and_a_quarter_before_it_calibrates() -> None:
    cuts = choose_cuts(_rows(days=107))

    assert cuts.evaluate_s == pytest.approx(100 * DAY, abs=DAY / 50)
    assert cuts.calibrate_s == pytest.approx(75 * DAY, abs=DAY / 10)


def test_a_short_log_evaluates_on_a_fifth() -> None:
    assert choose_cuts(_rows(days=10)).evaluate_s == pytest.approx(8 * DAY, abs=DAY / 50)


def test_parts_are_apart_and_in_the_order_of_time() -> None:
    rows = _rows(days=100, per_day=400)

    parts = split(rows, choose_cuts(rows))

    stretches = [(part.matrix.min(), part.matrix.max()) for part in parts]
    assert all(a[1] < b[0] for a, b in pairwise(stretches))
    assert sum(len(part) for part in parts) == len(rows)


def test_only_a_fair_sample_calibrates_and_evaluates() -> None:
    rows = _rows(days=100, undrawn=9_900)

    parts = split(rows, choose_cuts(rows))

    assert len(parts.calibrate) == 0
    assert len(parts.evaluate) == 100
    assert len(parts.learn) > 5_000


def test_a_single_instant_leaves_nothing_to_learn_from() -> None:
    rows = _rows(days=1, per_day=1)

    parts = split(rows, choose_cuts(rows))

    assert len(parts.learn) == 0
