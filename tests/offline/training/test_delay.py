"""Fresh rows weigh what they are worth: in the mean as if their outcome were known."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.delay import (
    delay_law,
    doubt,
    fresh_lesson,
    try_fresh_rows,
    weigh,
)
from rta_service.offline.training.growing import Chance, Recipe, grow, lesson

MakeRows = Callable[..., HeadRows]
DAY_S = 86_400
RECIPE = Recipe(Chance(1, 1))


@given(seen=st.floats(0.05, 1.0), chance=st.floats(0.0, 0.95))
def test_in_the_mean_weights_are_those_of_the_final_labels(seen: float, chance: float) -> None:
    weights = weigh(np.array([1.0, 0.0]), np.array([seen, seen]), np.array([chance, chance]))

    shown = chance * seen
    assert shown * weights[0] == pytest.approx(chance)
    assert (1.0 - shown) * weights[1] == pytest.approx(1.0 - chance)


def test_the_law_is_the_share_of_goals_that_came_within_an_age(make_rows: MakeRows) -> None:
    rows = make_rows(4_000)
    delays = np.tile([10, 20, 30, 40], 1_000)
    past = np.arange(4_000) < 3_000
    rows = replace(rows, delay_s=np.where(past, 5, np.where(np.arange(4_000) % 8 < 4, delays, -1)))

    few, many = delay_law(rows.take(~past)), delay_law(rows)

    assert few.seen(np.array([5, 10, 25, 40, 99])).tolist() == [0.0, 0.25, 0.5, 1.0, 1.0]
    assert many.seen(np.array([4, 5])).tolist() == [0.0, pytest.approx(375 / 875)]


def test_a_fresh_row_is_seen_as_it_was_and_weighed(make_rows: MakeRows) -> None:
    rows = make_rows(20_000, days=30, delay_days=2.0)
    now_s = int(rows.as_of_s[-1])
    known = rows.take(rows.known_s <= now_s)
    fresh = rows.take(rows.known_s > now_s)
    grown = grow(lesson(known), RECIPE, 30)

    found = fresh_lesson(fresh, now_s, delay_law(known), grown)

    assert found.weights is not None
    rate = np.average(found.labels, weights=found.weights)
    assert found.labels.mean() < 0.9 * fresh.labels.mean()
    assert rate == pytest.approx(fresh.labels.mean(), rel=0.05)
    assert 0 < len(found.labels) < len(fresh)
    assert (
        found.weights[found.labels == 0.0].max() <= 1.0 <= found.weights[found.labels > 0.0].min()
    )


def test_fresh_rows_are_kept_where_the_market_moves(make_rows: MakeRows) -> None:
    rows = make_rows(20_000, days=40, drift=2.0, window_days=14.0)
    week_s = int(rows.as_of_s[-1]) - 7 * DAY_S
    evaluate = rows.take(rows.as_of_s >= week_s)

    mark = try_fresh_rows(rows, evaluate, RECIPE, 40)

    assert mark is not None
    assert mark.kept
    assert mark.log_loss_with < mark.log_loss_without - 2 * mark.error
    assert mark.known_rows + mark.fresh_rows < len(rows) - len(evaluate)


def test_labels_that_mislead_are_found_out(make_rows: MakeRows) -> None:
    rows = make_rows(12_000, days=40, window_days=10.0)
    now_s = int(rows.as_of_s[-1]) - 7 * DAY_S
    lost = (rows.known_s > now_s) & (rows.as_of_s < now_s)  # their postbacks never came
    rows = replace(rows, delay_s=np.where(lost, -1, rows.delay_s))

    mark = try_fresh_rows(rows, rows.take(rows.as_of_s >= now_s), RECIPE, 40)

    assert mark is not None
    assert not mark.kept


@pytest.mark.parametrize(("lost_share", "is_doubted"), [(0.0, False), (0.6, True)])
def test_an_incomplete_end_of_the_log_is_doubted(
    make_rows: MakeRows, lost_share: float, is_doubted: bool
) -> None:
    rows = make_rows(12_000, days=30)
    now_s = int(rows.as_of_s[-1])
    known, fresh = rows.take(rows.known_s <= now_s), rows.take(rows.known_s > now_s)
    lost = np.random.default_rng(1).random(len(fresh)) < lost_share
    fresh = replace(fresh, delay_s=np.where(lost, -1, fresh.delay_s))
    grown = grow(lesson(known), RECIPE, 30)

    told = doubt(fresh_lesson(fresh, now_s, delay_law(known), grown), grown)

    assert ("is the end of the log complete?" in told) == is_doubted


def test_a_log_without_fresh_rows_says_so(make_rows: MakeRows) -> None:
    rows = make_rows(2_000)
    grown = grow(lesson(rows), RECIPE, 5)

    none = fresh_lesson(rows.take(slice(0, 0)), 0, delay_law(rows), grown)

    assert doubt(none, grown) == "there are none"


@pytest.mark.parametrize(("rows", "window_days"), [(150, 7.0), (6_000, 0.01)])
def test_where_there_is_too_little_to_compare_nothing_is_said(
    make_rows: MakeRows, rows: int, window_days: float
) -> None:
    found = make_rows(rows, window_days=window_days)
    evaluate = found.take(slice(len(found) * 9 // 10, None))

    assert try_fresh_rows(found, evaluate, RECIPE, 10) is None
