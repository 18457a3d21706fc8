"""Tuned parameters win only beyond noise, and Optuna is named where it is missing."""

import sys
from collections.abc import Callable

import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.folds import judge_recipe, rolling_folds
from rta_service.offline.training.growing import Chance, Recipe
from rta_service.offline.training.tuning import Search, require_optuna, tune

MakeRows = Callable[..., HeadRows]


def _search(make_rows: MakeRows, recipe: Recipe) -> Search:
    folds = rolling_folds(make_rows(3_000), 3)
    return Search(folds, recipe, judge_recipe(folds, recipe), seconds=1.2)


def test_a_poor_default_is_beaten_and_both_figures_are_told(make_rows: MakeRows) -> None:
    poor = Recipe(Chance(1, 1), tuned={"num_leaves": 2, "learning_rate": 0.0005})
    search = _search(make_rows, poor)
    shown: list[int] = []

    recipe, judged, mark = tune(search, lambda: shown.append(1))

    assert mark.won
    assert mark.trials >= 1
    assert mark.tuned_loss == judged.loss < mark.default_loss == search.judged.loss
    assert recipe.tuned == mark.parameters
    assert shown


def test_the_default_stays_where_the_lead_is_noise(make_rows: MakeRows) -> None:
    search = _search(make_rows, Recipe(Chance(1, 1)))

    recipe, judged, mark = tune(search, lambda: None)

    if not mark.won:
        assert (recipe, judged) == (search.default, search.judged)
    lead = mark.default_loss - mark.tuned_loss
    assert mark.won == (lead > 2 * mark.error)


def test_a_missing_optuna_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)

    with pytest.raises(InvalidInput, match=r"pip install rta-service\[tune\]"):
        require_optuna()
