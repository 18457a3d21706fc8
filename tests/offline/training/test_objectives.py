"""A value head takes the loss whose means come out best."""

from collections.abc import Callable

import numpy as np
import pytest

from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.folds import rolling_folds
from rta_service.offline.training.growing import Chance, Recipe
from rta_service.offline.training.objectives import (
    VALUE_OBJECTIVES,
    calibration_error,
    choose_objective,
)

MakeRows = Callable[..., HeadRows]


def test_the_objective_with_the_least_error_of_tenths_is_kept(make_rows: MakeRows) -> None:
    folds = rolling_folds(make_rows(4_000, is_value=True), 3)

    recipe, judged, remark = choose_objective(folds, Recipe(Chance(1, 1)))

    assert recipe.objective in VALUE_OBJECTIVES
    assert f"Objective {recipe.objective}" in remark
    assert all(f"{objective} " in remark for objective in VALUE_OBJECTIVES)
    assert calibration_error(judged.labels, judged.predictions) < 0.2


def test_the_error_of_tenths_is_nought_where_each_tenth_is_met() -> None:
    amounts = np.repeat(np.arange(1.0, 11.0), 10)

    assert calibration_error(amounts, amounts) == 0.0
    assert calibration_error(amounts, amounts * 1.2) == pytest.approx(0.2)
    assert calibration_error(amounts, np.full(100, 5.5)) > 0.0
