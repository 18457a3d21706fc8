"""One head: folds choose how trees are grown, later rows calibrate them, the last week judges.

The steps in order: rolling-origin folds (number of trees, parameters, objective), trees on all
rows before calibration begins, fresh rows if they help, calibration, evaluation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.funnel import HeadSpec
from rta_service.offline.training.cuts import Parts, choose_cuts, split
from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.delay import delay_law, doubt, fresh_lesson, try_fresh_rows
from rta_service.offline.training.folds import Fold, Judgement, judge_recipe, rolling_folds
from rta_service.offline.training.growing import (
    MAX_TREES,
    Chance,
    Grown,
    Recipe,
    grow,
    join,
    lesson,
    thin,
)
from rta_service.offline.training.objectives import VALUE_OBJECTIVES, choose_objective
from rta_service.offline.training.report import Choices, DelayedMark, TuningMark
from rta_service.offline.training.tuning import Search, tune
from rta_service.scoring.calibration import (
    Calibration,
    calibrate,
    fit_calibration,
    fit_mean_calibration,
)
from rta_service.scoring.manifest import Evaluation
from rta_service.scoring.metrics import evaluate

FloatColumn = NDArray[np.float64]

_HASH: Final = 2_654_435_761


class Bars(Protocol):
    """Shows how far one head's training is."""

    def stage(self, name: str, steps: int) -> Callable[[], None]:
        """Begin a stage of so many steps and give what moves it on by one."""


@dataclass(frozen=True, slots=True)
class HeadOptions:
    """How heads are trained."""

    folds: int = 3
    delayed: bool = True
    """Learn from rows whose window is not over, where that does not lose."""
    tune_s: float = 0.0
    """Seconds to search for parameters, each head; 0 takes the default ones."""
    max_learn_rows: int = 400_000
    max_evaluation_rows: int = 200_000


@dataclass(frozen=True, slots=True)
class HeadTask:
    """One head to train and the rows to train it from."""

    spec: HeadSpec
    rows: HeadRows
    fresh: HeadRows
    """Rows whose window is not over."""
    end_s: int
    """Where the log ends."""
    monotone: dict[str, int]


class Fitted(NamedTuple):
    """A trained and calibrated head with its evaluation."""

    grown: Grown
    calibration: Calibration
    evaluation: Evaluation
    rows: HeadRows
    """The evaluation rows: neither trees nor calibration saw them."""
    predictions: FloatColumn
    """Calibrated, of the evaluation rows."""
    choices: Choices
    curves: tuple[FloatColumn, ...]
    """The folds' metric after each tree."""
    learned_to_s: int
    """The last impression that trees learned from."""

    def predict(self, matrix: NDArray[np.float64]) -> FloatColumn:
        """Give calibrated predictions [n] for features [n, F], as the service will."""
        return calibrate(raw_predictions(self.grown, matrix), self.calibration)


def raw_predictions(grown: Grown, matrix: NDArray[np.float64]) -> FloatColumn:
    """Give what calibration starts from: the booster's own predictions, without the unit."""
    return np.asarray(grown.booster.predict(matrix), dtype=np.float64)


def train_head(task: HeadTask, options: HeadOptions, chance: Chance, bars: Bars) -> Fitted:
    """Train, calibrate and evaluate one head; each part of its rows needs both labels."""
    parts = split(task.rows, choose_cuts(task.rows))
    parts = parts._replace(evaluate=_capped(parts.evaluate, options.max_evaluation_rows))
    recipe = Recipe(chance, monotone=task.monotone, max_rows=options.max_learn_rows)
    chosen = _choose(parts, recipe, options, bars)
    grown, delayed = _final(task, parts, chosen, options, bars)
    raw = raw_predictions(grown, parts.calibrate.matrix)
    fit = fit_mean_calibration if task.rows.is_value else fit_calibration
    calibration = fit(raw, parts.calibrate.labels)
    predictions = calibrate(raw_predictions(grown, parts.evaluate.matrix), calibration)
    choices = Choices(
        objective=chosen.recipe.objective,
        trees=grown.booster.num_trees(),
        folds=chosen.judgement.marks,
        negatives_kept=thin(lesson(parts.learn), chosen.recipe).negatives_kept,
        monotone=task.monotone,
        delayed=delayed,
        tuning=chosen.tuning,
        remarks=chosen.remarks,
    )
    found = evaluate(task.spec.kind, parts.evaluate.labels, predictions)
    learned = task.fresh if delayed and delayed.used_rows else parts.learn
    return Fitted(
        grown=grown,
        calibration=calibration,
        evaluation=found,
        rows=parts.evaluate,
        predictions=predictions,
        choices=choices,
        curves=chosen.judgement.curves,
        learned_to_s=int(learned.as_of_s[-1]),
    )


class _Chosen(NamedTuple):
    recipe: Recipe
    judgement: Judgement
    tuning: TuningMark | None
    remarks: tuple[str, ...]


def _choose(parts: Parts, recipe: Recipe, options: HeadOptions, bars: Bars) -> _Chosen:
    """Let folds choose; where rows are too few for any, the calibration rows choose the trees."""
    folds = rolling_folds(parts.learn, options.folds)
    remarks: tuple[str, ...] = ()
    if not folds:
        folds = (Fold(parts.learn, parts.calibrate),)
        remarks = ("Too few rows for folds: the calibration rows chose the number of trees.",)
    is_value = parts.learn.is_value
    tries = len(VALUE_OBJECTIVES) if is_value else 1
    step = bars.stage(f"{len(folds)} folds", tries * len(folds) * MAX_TREES)
    if is_value:
        recipe, judgement, remark = choose_objective(folds, recipe, step)
        remarks += (remark,)
    else:
        judgement = judge_recipe(folds, recipe, step)
    if options.tune_s <= 0.0:
        return _Chosen(recipe, judgement, None, remarks)
    search = Search(folds, recipe, judgement, options.tune_s)
    found, best, mark = tune(search, bars.stage("tuning, seconds", round(options.tune_s)))
    return _Chosen(found, best, mark, remarks)


def _final(
    task: HeadTask, parts: Parts, chosen: _Chosen, options: HeadOptions, bars: Bars
) -> tuple[Grown, DelayedMark | None]:
    """Grow the trees that are published, on fresh rows too where they help."""
    trees = chosen.judgement.trees
    known = lesson(parts.learn)
    step = bars.stage("trees", trees)
    grown = grow(known, chosen.recipe, trees, step=step)
    if not options.delayed or task.rows.is_value:
        return grown, None
    mark = try_fresh_rows(task.rows, parts.evaluate, chosen.recipe, trees)
    if mark is None or not mark.kept:
        return grown, mark
    before = task.rows.take(task.rows.as_of_s < parts.evaluate.as_of_s[0])
    more = fresh_lesson(task.fresh, task.end_s, delay_law(before), grown)
    if doubted := doubt(more, grown):
        return grown, msgspec.structs.replace(mark, kept=False, doubt=doubted)
    step = bars.stage("trees with fresh rows", trees)
    mark = msgspec.structs.replace(mark, used_rows=len(more.labels))
    return grow(join(known, more), chosen.recipe, trees, step=step), mark


def _capped(rows: HeadRows, limit: int) -> HeadRows:
    """Sample rows by a hash of their instants and order, so that the file stays small."""
    if len(rows) <= limit:
        return rows
    mixed = (rows.as_of_s * _HASH + rows.t_s * 40_503 + np.arange(len(rows)) * 7_919) % 1_000_003
    return rows.take(mixed < int(limit / len(rows) * 1_000_003))
