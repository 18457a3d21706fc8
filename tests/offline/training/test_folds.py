"""Folds learn from the past only, and what they choose is what the judged rows say."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.folds import (
    best_trees,
    compare,
    judge_recipe,
    losses_of,
    rolling_folds,
)
from rta_service.offline.training.growing import Chance, Recipe
from rta_service.scoring.metrics import gamma_loss, log_loss

MakeRows = Callable[..., HeadRows]
DAY_S = 86_400


@given(
    rows=st.integers(50, 3_000),
    days=st.integers(2, 120),
    count=st.integers(1, 6),
    seed=st.integers(0, 99),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_fold_never_learns_from_a_later_row_than_it_judges(
    make_rows: MakeRows, *, rows: int, days: int, count: int, seed: int
) -> None:
    found = make_rows(rows, seed=seed, days=days)

    folds = rolling_folds(found, count)

    assert len(folds) <= count
    for fold in folds:
        assert fold.learn.as_of_s.max() < fold.judge.as_of_s.min()
        assert fold.learn.positives >= 50
        assert 20 <= fold.judge.positives < len(fold.judge)
    starts = [fold.judge.as_of_s[0] for fold in folds]
    ends = [fold.judge.as_of_s[-1] for fold in folds]
    assert all(end <= start for end, start in zip(ends, starts[1:], strict=False))


def test_three_folds_judge_the_last_part_of_the_rows(make_rows: MakeRows) -> None:
    rows = make_rows(6_000)

    folds = rolling_folds(rows, 3)

    assert len(folds) == 3
    assert sum(len(fold.judge) for fold in folds) == pytest.approx(0.45 * len(rows), rel=0.01)
    assert folds[-1].judge.as_of_s[-1] == rows.as_of_s[-1]


def test_rows_kept_for_their_outcome_are_learned_from_and_not_judged(make_rows: MakeRows) -> None:
    rows = make_rows(6_000)
    object.__setattr__(rows, "drawn", np.arange(len(rows)) % 2 == 0)

    fold = rolling_folds(rows, 3)[0]

    assert not fold.learn.drawn.all()
    assert fold.judge.drawn.all()


def test_too_few_rows_make_no_fold(make_rows: MakeRows) -> None:
    assert rolling_folds(make_rows(60), 3) == ()
    assert rolling_folds(make_rows(600).take(slice(0, 0)), 3) == ()


def test_the_number_of_trees_is_the_best_over_all_folds() -> None:
    curves = [np.array([3.0, 2.0, 1.0, 2.0]), np.array([3.0, 2.0])]

    assert best_trees(curves, [10, 1]) == 3
    assert best_trees([np.array([3.0, 1.0, 5.0]), np.array([3.0, 2.0, 1.9])], [1, 1]) == 2


def test_a_recipe_is_judged_on_every_judged_row(make_rows: MakeRows) -> None:
    folds = rolling_folds(make_rows(6_000), 3)
    steps: list[int] = []

    found = judge_recipe(folds, Recipe(Chance(1, 1)), lambda: steps.append(1))

    rows = sum(len(fold.judge) for fold in folds)
    assert len(found.losses) == len(found.predictions) == len(found.labels) == rows
    assert found.loss == pytest.approx(log_loss(found.labels, found.predictions))
    assert found.loss < log_loss(found.labels, np.full(rows, found.labels.mean()))
    assert [mark.judge_rows for mark in found.marks] == [len(fold.judge) for fold in folds]
    assert len(steps) == sum(len(curve) for curve in found.curves)


def test_amounts_lose_by_the_gamma_loss(make_rows: MakeRows) -> None:
    rows = make_rows(100, is_value=True)
    guess = np.full(len(rows), 5e7)

    assert np.mean(losses_of(rows, guess)) == pytest.approx(gamma_loss(rows.labels, guess))


def test_a_gain_comes_with_its_error() -> None:
    champion = np.array([1.0, 2.0, 3.0, 4.0])

    gain, error = compare(champion - np.array([0.0, 1.0, 0.0, 1.0]), champion)

    assert gain == 0.5
    assert error == 0.25
