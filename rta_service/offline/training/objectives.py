"""Which loss a value head's trees should minimise: the one whose means come out best."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rta_service.offline.training.folds import Fold, Judgement, judge_recipe
from rta_service.offline.training.growing import Objective, Recipe

FloatColumn = NDArray[np.float64]

VALUE_OBJECTIVES: Final[tuple[Objective, ...]] = ("gamma", "tweedie", "regression")
_GROUPS: Final = 10


def choose_objective(
    folds: Sequence[Fold], recipe: Recipe, step: Callable[[], None] | None = None
) -> tuple[Recipe, Judgement, str]:
    """Try each objective in the folds and keep the best calibrated; also say how they did."""
    tried = {
        objective: judge_recipe(folds, replace(recipe, objective=objective), step)
        for objective in VALUE_OBJECTIVES
    }
    errors = {
        objective: calibration_error(found.labels, found.predictions)
        for objective, found in tried.items()
    }
    best = min(errors, key=lambda objective: errors[objective])
    told = ", ".join(f"{objective} {error:.1%}" for objective, error in errors.items())
    remark = f"Objective {best}, by the mean error of tenths in the folds: {told}."
    return replace(recipe, objective=best), tried[best], remark


def calibration_error(amounts: FloatColumn, predictions: FloatColumn) -> float:
    """Give how far the means of tenths, by prediction, lie from the amounts', over the mean."""
    order = np.argsort(predictions, kind="stable")
    groups = np.array_split(order, min(_GROUPS, len(order)))
    apart = [abs(float(np.sum(predictions[g]) - np.sum(amounts[g]))) for g in groups]
    return sum(apart) / float(np.sum(amounts))
