"""Rolling-origin folds: learn on the past, judge on the stretch that follows, move on.

How many trees are grown, with which parameters and which objective is decided here, on rows older
than those that calibrate and evaluate. A fold learns only from impressions before its origin. Their
labels are those known when the log ends, as they are for the trees that are published; with those
known at the origin alone a fold of a young market had a tenth of the rows, and chose too few trees.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.growing import MAX_TREES, Recipe, grow, lesson
from rta_service.offline.training.report import FoldMark
from rta_service.scoring.metrics import gamma_losses, log_losses

FloatColumn = NDArray[np.float64]

_JUDGED_SHARE: Final = 0.45
"""Of the rows to learn from, the last so many are judged by folds, in equal parts."""

_MIN_LEARN_POSITIVES: Final = 50
_MIN_JUDGE_POSITIVES: Final = 20


class Fold(NamedTuple):
    """Rows to learn from, and rows of later impressions to be judged on."""

    learn: HeadRows
    judge: HeadRows


class Judgement(NamedTuple):
    """How a recipe did on the judged rows of all folds, with the best number of trees for all."""

    trees: int
    losses: FloatColumn
    """The loss of every judged row, fold after fold."""
    predictions: FloatColumn
    labels: FloatColumn
    marks: tuple[FoldMark, ...]
    curves: tuple[FloatColumn, ...]
    """The metric after each tree, a curve a fold."""

    @property
    def loss(self) -> float:
        """The mean loss: log loss, of value heads gamma loss."""
        return float(np.mean(self.losses))


def rolling_folds(rows: HeadRows, count: int) -> tuple[Fold, ...]:
    """Cut up to `count` folds, leaving out those with too few positives on either side."""
    starts = [1.0 - _JUDGED_SHARE * (count - place) / count for place in range(count + 1)]
    edges = [round(len(rows) * start) for start in starts]
    found = []
    for start, end in pairwise(edges):
        judge = rows.take(slice(start, end)).fair
        if len(judge) == 0:
            continue
        origin_s = int(judge.as_of_s[0])
        learn = rows.take(rows.as_of_s < origin_s)
        if _is_enough(learn, _MIN_LEARN_POSITIVES) and _is_enough(judge, _MIN_JUDGE_POSITIVES):
            found.append(Fold(learn, judge))
    return tuple(found)


def _is_enough(rows: HeadRows, positives: int) -> bool:
    return rows.positives >= positives and (rows.is_value or rows.positives < len(rows))


def judge_recipe(
    folds: Sequence[Fold], recipe: Recipe, step: Callable[[], None] | None = None
) -> Judgement:
    """Grow trees in each fold and choose the number of trees that is best over all of them."""
    grown = [grow(lesson(f.learn), recipe, MAX_TREES, f.judge, step) for f in folds]
    trees = best_trees([g.curve for g in grown], [len(f.judge) for f in folds])
    marks, losses, predictions = [], [], []
    for fold, trained in zip(folds, grown, strict=True):
        found = trained.predict(fold.judge.matrix, trees)
        predictions.append(found)
        losses.append(losses_of(fold.judge, found))
        marks.append(
            FoldMark(
                learn_rows=len(fold.learn),
                learn_until_s=int(fold.learn.as_of_s[-1]),
                judge_from_s=int(fold.judge.as_of_s[0]),
                judge_until_s=int(fold.judge.as_of_s[-1]),
                judge_rows=len(fold.judge),
                judge_positives=fold.judge.positives,
                trees=int(np.argmin(trained.curve)) + 1,
                loss=float(np.mean(losses[-1])),
            )
        )
    return Judgement(
        trees=trees,
        losses=np.concatenate(losses),
        predictions=np.concatenate(predictions),
        labels=np.concatenate([fold.judge.labels for fold in folds]),
        marks=tuple(marks),
        curves=tuple(trained.curve for trained in grown),
    )


def best_trees(curves: Sequence[FloatColumn], rows: Sequence[int]) -> int:
    """Choose the number of trees with the least mean metric, weighted by judged rows.

    A fold that stopped early counts with its last figure from there on.
    """
    longest = max(len(curve) for curve in curves)
    even = [np.pad(curve, (0, longest - len(curve)), mode="edge") for curve in curves]
    return int(np.argmin(np.average(even, axis=0, weights=rows))) + 1


def losses_of(rows: HeadRows, predictions: FloatColumn) -> FloatColumn:
    """Give each row's loss: surprise of a probability, gamma loss of an amount."""
    if rows.is_value:
        return gamma_losses(rows.labels, predictions)
    return log_losses(rows.labels, predictions)


def compare(challenger: FloatColumn, champion: FloatColumn) -> tuple[float, float]:
    """Compare losses of the same rows: how much less the challenger loses, and the error of that.

    The mean of the differences and its standard error.
    """
    gain = champion - challenger
    return float(np.mean(gain)), float(np.std(gain) / np.sqrt(len(gain)))
