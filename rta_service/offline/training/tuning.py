"""A search for better LightGBM parameters, with the default ones always kept as challenger."""

import importlib
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from rta_service.domain.errors import InvalidInput
from rta_service.offline.training.folds import Fold, Judgement, compare, judge_recipe
from rta_service.offline.training.growing import Recipe
from rta_service.offline.training.report import TuningMark

_BEYOND_NOISE: Final = 2.0
"""Standard errors by which the best of many trials must lead; the best is partly the luckiest."""


class Search(NamedTuple):
    """What is searched: folds to judge by, and the default recipe with how it did."""

    folds: Sequence[Fold]
    default: Recipe
    judged: Judgement
    seconds: float


def require_optuna() -> Any:
    """Load Optuna, which only tuning needs; raises InvalidInput saying how to install it."""
    try:
        return importlib.import_module("optuna")
    except ImportError as error:
        raise InvalidInput(
            "tuning needs Optuna: pip install rta-service[tune]", "--tune"
        ) from error


def tune(search: Search, step: Callable[[], None]) -> tuple[Recipe, Judgement, TuningMark]:
    """Search until the seconds are over (a trial begun is finished), and keep the better recipe.

    The found parameters win only if their loss, row by row, is less by two standard errors. The
    sampler is seeded, but how many trials fit into the time is not.
    """
    optuna = require_optuna()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found: dict[int, tuple[Recipe, Judgement]] = {}

    def loss(trial: Any) -> float:
        recipe = replace(search.default, tuned=_suggest(trial))
        found[trial.number] = recipe, judge_recipe(search.folds, recipe)
        return found[trial.number][1].loss

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=search.default.chance.seed))
    study.optimize(loss, timeout=search.seconds, callbacks=[_Seconds(step)])
    recipe, judged = found[study.best_trial.number]
    gain, error = compare(judged.losses, search.judged.losses)
    mark = TuningMark(
        trials=len(study.trials),
        default_loss=search.judged.loss,
        tuned_loss=judged.loss,
        error=error,
        won=gain > _BEYOND_NOISE * error,
        parameters=dict(recipe.tuned),
    )
    return (recipe, judged, mark) if mark.won else (search.default, search.judged, mark)


def _suggest(trial: Any) -> dict[str, float | int]:
    return {
        "num_leaves": trial.suggest_int("num_leaves", 4, 127, log=True),
        "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 10, 1_000, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 1e-2, 100.0, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.4, 1.0),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
        "cat_smooth": trial.suggest_float("cat_smooth", 1.0, 100.0, log=True),
    }


class _Seconds:
    """Moves a bar on by one for every second that has passed, after each trial."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step
        self._started = time.monotonic()
        self._shown = 0

    def __call__(self, _study: Any, _trial: Any) -> None:
        passed = int(time.monotonic() - self._started)
        for _ in range(self._shown, passed):
            self._step()
        self._shown = max(self._shown, passed)
