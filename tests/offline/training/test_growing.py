"""Trees keep their rates whatever was left out, and obey what they were told."""

from collections.abc import Callable

import numpy as np
import pytest

from rta_service.features import CATEGORICAL, FEATURE_NAMES
from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.growing import (
    Chance,
    Lesson,
    Recipe,
    gains,
    grow,
    join,
    lesson,
    parameters,
    thin,
)

MakeRows = Callable[..., HeadRows]

RECIPE = Recipe(Chance(seed=3, num_threads=1))


@pytest.mark.parametrize("max_rows", [8_000, 5_000])
def test_left_out_negatives_leave_the_rates_as_they_are(make_rows: MakeRows, max_rows: int) -> None:
    rows, later = make_rows(20_000, seed=1, rate=-3.0), make_rows(20_000, seed=2, rate=-3.0)
    recipe = Recipe(RECIPE.chance, max_rows=max_rows)

    few = grow(lesson(rows), recipe, 40).predict(later.matrix)
    every = grow(lesson(rows), RECIPE, 40).predict(later.matrix)

    level = np.sum(few) / later.positives
    assert np.sum(every) / later.positives == pytest.approx(1.0, abs=0.05)
    assert level == pytest.approx(np.sum(every) / later.positives, abs=0.04)
    order = np.argsort(few)
    for tenths in np.array_split(order, 5):
        if later.labels[tenths].sum() > 200:
            seen = later.labels[tenths].mean()
            assert few[tenths].mean() == pytest.approx(seen, rel=0.25)


def test_all_positives_stay_and_as_many_negatives_at_least(make_rows: MakeRows) -> None:
    rows = make_rows(4_000, rate=-2.0)

    some = thin(lesson(rows), Recipe(RECIPE.chance, max_rows=2_000))
    least = thin(lesson(rows), Recipe(RECIPE.chance, max_rows=10))

    assert some.labels.sum() == least.labels.sum() == rows.positives
    assert len(some.labels) == pytest.approx(2_000, rel=0.05)
    assert len(least.labels) == pytest.approx(2 * rows.positives, rel=0.1)
    negatives = len(some.labels) - rows.positives
    kept = negatives / (len(rows) - rows.positives)
    assert some.negatives_kept == pytest.approx(kept, rel=0.05)
    assert thin(lesson(rows), RECIPE).negatives_kept == 1.0


def test_the_shift_is_the_log_of_the_share_to_the_last_digits(make_rows: MakeRows) -> None:
    rows = make_rows(3_000)
    whole = lesson(rows)

    plain = grow(whole, RECIPE, 10)
    shifted = grow(whole._replace(negatives_kept=0.2), RECIPE, 10)

    raws = [
        np.asarray(grown.booster.predict(rows.matrix, raw_score=True)) for grown in (plain, shifted)
    ]
    assert np.allclose(raws[1] - raws[0], np.log(0.2), rtol=0, atol=1e-12)


def test_the_watched_loss_counts_the_shift(make_rows: MakeRows) -> None:
    rows, later = make_rows(8_000, rate=-3.0), make_rows(4_000, seed=2, rate=-3.0)
    recipe = Recipe(RECIPE.chance, max_rows=2_000)

    grown = grow(lesson(rows), recipe, 15, watched=later)

    chance = grown.predict(later.matrix, len(grown.curve))
    loss = -np.mean(np.where(later.labels > 0, np.log(chance), np.log1p(-chance)))
    assert grown.curve[-1] == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_monotone_constraint_holds_in_every_prediction(make_rows: MakeRows, sign: int) -> None:
    rows = make_rows(4_000)
    name = "idle_days"
    column = FEATURE_NAMES.index(name)
    free, bound = (
        grow(lesson(rows), Recipe(RECIPE.chance, monotone=told), 30) for told in ({}, {name: sign})
    )
    grid = np.linspace(-2.0, 12.0, 60)
    people = np.repeat(rows.matrix[:50, np.newaxis, :], len(grid), axis=1)
    people[:, :, column] = grid

    shape = people.shape[:2]
    plain = people.reshape(-1, people.shape[2])

    free_steps, bound_steps = (
        np.diff(grown.predict(plain).reshape(shape), axis=1) for grown in (free, bound)
    )

    assert (sign * bound_steps >= 0.0).all()
    assert not (sign * free_steps >= 0.0).all()


def test_a_value_head_speaks_in_the_unit_of_its_labels(make_rows: MakeRows) -> None:
    rows = make_rows(3_000, is_value=True)

    for objective in ("gamma", "tweedie", "regression"):
        grown = grow(lesson(rows), Recipe(RECIPE.chance, objective), 40)
        assert np.sum(grown.predict(rows.matrix)) / np.sum(rows.labels) == pytest.approx(
            1.0, abs=0.05
        )
        assert grown.unit == pytest.approx(np.mean(rows.labels))


def test_too_many_amounts_are_sampled_evenly(make_rows: MakeRows) -> None:
    rows = make_rows(3_000, is_value=True)

    some = thin(lesson(rows), Recipe(RECIPE.chance, "gamma", max_rows=1_000))

    assert len(some.labels) == pytest.approx(1_000, rel=0.1)
    assert some.negatives_kept == 1.0


def test_weights_go_with_their_rows(make_rows: MakeRows) -> None:
    rows = make_rows(2_000)
    weights = rows.matrix[:, 2] + 100.0
    weighed = Lesson(rows.matrix, rows.labels, weights, 1.0)

    both = join(lesson(rows), weighed)
    some = thin(both, Recipe(RECIPE.chance, max_rows=1_500))

    assert both.weights is not None
    assert both.weights[: len(rows)].tolist() == [1.0] * len(rows)
    assert some.weights is not None
    assert len(some.weights) == len(some.labels) < len(both.labels)
    weighty = some.weights > 1.0
    assert np.allclose(some.weights[weighty], some.matrix[weighty, 2] + 100.0)


def test_more_rows_get_more_leaves_and_threads_unless_told() -> None:
    few, many = parameters(2_000, Recipe(Chance(1, 0))), parameters(500_000, Recipe(Chance(1, 0)))
    told = parameters(2_000, Recipe(Chance(1, 5), tuned={"num_leaves": 9}))

    assert (few["num_leaves"], few["num_threads"]) == (7, 1)
    assert (many["num_leaves"], many["num_threads"]) == (63, 0)
    assert (told["num_leaves"], told["num_threads"]) == (9, 5)
    assert "monotone_constraints" not in few


def test_gains_are_shares_of_the_whole(make_rows: MakeRows) -> None:
    shares = gains(grow(lesson(make_rows(2_000)), RECIPE, 5).booster)

    assert sum(shares.values()) == pytest.approx(1.0)
    assert next(iter(shares)) == "idle_days"
    assert all(FEATURE_NAMES[i] in shares for i in CATEGORICAL)
