"""Growing trees: LightGBM's parameters, sampled negatives, constraints, early stopping."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import lightgbm
import numpy as np
from numpy.typing import NDArray

from rta_service.features import CATEGORICAL, FEATURE_NAMES
from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.funnel_file import Monotone

Objective = Literal["binary", "gamma", "tweedie", "regression"]
FloatColumn = NDArray[np.float64]

MAX_TREES: Final = 300
_PATIENCE: Final = 20
_LEAVES: Final = ((3_000, 7), (10_000, 15), (200_000, 31))
"""Leaves for up to so many rows, else 63: more overfit and score slower."""

_ONE_THREAD_ROWS: Final = 100_000
"""Up to this, two threads gain a tenth, and lose fivefold where another process has the cores."""

_METRICS: Final[Mapping[Objective, str]] = {
    "binary": "binary_logloss",
    "gamma": "gamma_deviance",
    "tweedie": "tweedie",
    "regression": "l2",
}


class Chance(NamedTuple):
    """What decides the outcome besides the data: equal seed and threads give equal trees."""

    seed: int
    num_threads: int
    """0 means one for few rows, else as many as OpenMP finds."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a head's trees are grown, whatever the rows."""

    chance: Chance
    objective: Objective = "binary"
    monotone: Monotone = field(default_factory=dict)
    tuned: Mapping[str, float | int] = field(default_factory=dict)
    """LightGBM parameters that replace the defaults of `parameters`."""
    max_rows: int = 400_000
    """Beyond this, negatives are sampled (of value heads, rows)."""


class Lesson(NamedTuple):
    """What trees learn from: features [n, F], labels [n], and each row's weight or None for 1."""

    matrix: NDArray[np.float64]
    labels: FloatColumn
    weights: FloatColumn | None
    negatives_kept: float
    """Share of the negatives that is here, while all positives are."""


class Grown(NamedTuple):
    """Trees that say what they were asked for: probabilities, or money in the labels' unit."""

    booster: lightgbm.Booster
    unit: float
    """The booster's predictions are multiples of this: 1, or the mean amount learned from."""
    curve: FloatColumn
    """The metric on the watched rows after each tree; empty when none were watched."""

    def predict(self, matrix: NDArray[np.float64], trees: int = -1) -> FloatColumn:
        """Give predictions [n] of the first `trees` trees (all: -1) for features [n, F]."""
        found = self.booster.predict(matrix, num_iteration=trees)
        return np.asarray(found, dtype=np.float64) * self.unit

    def text(self) -> bytes:
        """Write the trees in LightGBM's text form."""
        return str(self.booster.model_to_string()).encode()


def lesson(rows: HeadRows) -> Lesson:
    """Make a lesson of rows whose outcome is known."""
    return Lesson(rows.matrix, rows.labels, None, rows.negatives_kept)


def parameters(rows: int, recipe: Recipe) -> dict[str, Any]:
    """Choose LightGBM's parameters by the number of rows it learns from."""
    leaves = next((leaves for limit, leaves in _LEAVES if rows <= limit), 63)
    few = rows <= _ONE_THREAD_ROWS
    chosen: dict[str, Any] = {
        "objective": recipe.objective,
        "metric": _METRICS[recipe.objective],
        "num_leaves": leaves,
        "learning_rate": 0.08,
        "min_data_in_leaf": max(20, min(200, rows // 500)),
        "lambda_l2": 1.0,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "cat_smooth": 20.0,
        "seed": recipe.chance.seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": recipe.chance.num_threads or (1 if few else 0),
        "verbosity": -1,
    }
    if recipe.monotone:
        chosen["monotone_constraints"] = [recipe.monotone.get(name, 0) for name in FEATURE_NAMES]
        chosen["monotone_constraints_method"] = "intermediate"
    return chosen | dict(recipe.tuned)


def grow(
    taught: Lesson,
    recipe: Recipe,
    trees: int,
    watched: HeadRows | None = None,
    step: Callable[[], None] | None = None,
) -> Grown:
    """Grow up to `trees` trees; with watched rows, stop when these gain nothing for 20 trees.

    Where negatives were left out, every raw sum is shifted by the log of the share that was kept:
    sampled odds are the true odds over that share, so the shift makes them exact.
    """
    taught = thin(taught, recipe)
    probability = recipe.objective == "binary"
    shift = float(np.log(taught.negatives_kept)) if probability else 0.0
    unit = 1.0 if probability else float(np.mean(taught.labels))
    rows = lightgbm.Dataset(taught.matrix, taught.labels / unit, weight=taught.weights, **_names())
    callbacks: list[Any] = [] if step is None else [lambda _: step()]
    told: dict[str, dict[str, list[float]]] = {}
    valid = []
    if watched is not None:
        starts = np.full(len(watched), shift) if shift else None
        valid = [rows.create_valid(watched.matrix, watched.labels / unit, init_score=starts)]
        callbacks += [
            lightgbm.record_evaluation(told),
            lightgbm.early_stopping(_PATIENCE, verbose=False),
        ]
    booster = lightgbm.train(
        parameters(len(taught.labels), recipe), rows, trees, valid_sets=valid, callbacks=callbacks
    )
    _shift(booster, shift)
    curve = next(iter(next(iter(told.values())).values())) if told else []
    return Grown(booster, unit, np.array(curve))


def thin(taught: Lesson, recipe: Recipe) -> Lesson:
    """Leave negatives out at random so that the recipe's limit of rows holds, never positives.

    At least as many negatives as positives stay. Of a value head any row may go.
    """
    rows = len(taught.labels)
    if rows <= recipe.max_rows:
        return taught
    chance = np.random.default_rng(recipe.chance.seed).random(rows)
    if recipe.objective != "binary":
        return _only(taught, chance < recipe.max_rows / rows, 1.0)
    negatives = taught.labels == 0.0
    positives = rows - int(np.count_nonzero(negatives))
    share = max(recipe.max_rows - positives, positives) / max(rows - positives, 1)
    return taught if share >= 1.0 else _only(taught, ~negatives | (chance < share), share)


def _only(taught: Lesson, kept: NDArray[np.bool_], share: float) -> Lesson:
    weights = None if taught.weights is None else taught.weights[kept]
    left = taught.negatives_kept * share
    return Lesson(taught.matrix[kept], taught.labels[kept], weights, left)


def join(first: Lesson, second: Lesson) -> Lesson:
    """Put two lessons with the same share of negatives behind each other."""
    one, two = (
        np.ones(len(part.labels)) if part.weights is None else part.weights
        for part in (first, second)
    )
    return Lesson(
        np.concatenate((first.matrix, second.matrix)),
        np.concatenate((first.labels, second.labels)),
        np.concatenate((one, two)),
        first.negatives_kept,
    )


def _names() -> dict[str, Any]:
    return {"feature_name": list(FEATURE_NAMES), "categorical_feature": list(CATEGORICAL)}


def _shift(booster: lightgbm.Booster, shift: float) -> None:
    """Add a constant to every raw sum, by the leaves of the first tree."""
    if not shift:
        return
    leaves = booster.dump_model(num_iteration=1)["tree_info"][0]["num_leaves"]
    for leaf in range(leaves):
        booster.set_leaf_output(0, leaf, booster.get_leaf_output(0, leaf) + shift)


def gains(booster: lightgbm.Booster) -> dict[str, float]:
    """Give each feature's share of all gain, largest first."""
    gain = booster.feature_importance("gain")
    total = float(gain.sum()) or 1.0
    order = np.argsort(-gain, kind="stable")
    return {FEATURE_NAMES[i]: float(gain[i]) / total for i in order}
