"""One head: trees, then calibration on later rows, then its mark on the rows after those."""

from typing import Any, Final, NamedTuple

import lightgbm
import numpy as np
from numpy.typing import NDArray

from rta_service.features import CATEGORICAL, FEATURE_NAMES
from rta_service.offline.training.cuts import Part, Parts
from rta_service.scoring.calibration import Calibration, calibrate, fit_calibration
from rta_service.scoring.manifest import Evaluation
from rta_service.scoring.metrics import auc, log_loss, pcoc

_MAX_TREES: Final = 300
_PATIENCE: Final = 20
_LEAVES: Final = ((3_000, 7), (10_000, 15), (200_000, 31))
"""Leaves for up to so many rows, else 63: more overfit and score slower."""


_ONE_THREAD_ROWS: Final = 100_000
"""Up to this, two threads gain a tenth, and lose fivefold where another process has the cores."""


class Chance(NamedTuple):
    """What decides the outcome besides the data: equal seed and threads give equal trees."""

    seed: int
    num_threads: int
    """0 means one for few rows, else as many as OpenMP finds."""


class Fitted(NamedTuple):
    """A trained and calibrated head with its predictions on the evaluation rows."""

    text: bytes
    calibration: Calibration
    evaluation: Evaluation
    predictions: NDArray[np.float64]
    trees: int
    gains: dict[str, float]
    """Feature name to its share of all gain, largest first."""
    booster: lightgbm.Booster

    def probabilities(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give calibrated probabilities [n] for features [n, F], as the service will."""
        return calibrate(np.asarray(self.booster.predict(matrix), np.float64), self.calibration)


def parameters(rows: int, chance: Chance) -> dict[str, Any]:
    """Choose LightGBM's parameters by the number of rows it learns from."""
    leaves = next((leaves for limit, leaves in _LEAVES if rows <= limit), 63)
    few = rows <= _ONE_THREAD_ROWS
    return {
        "objective": "binary",
        "metric": "binary_logloss",
        "num_leaves": leaves,
        "learning_rate": 0.08,
        "min_data_in_leaf": max(20, min(200, rows // 500)),
        "lambda_l2": 1.0,
        "feature_fraction": 0.8,
        "bagging_fraction": 0.8,
        "bagging_freq": 1,
        "cat_smooth": 20.0,
        "seed": chance.seed,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": chance.num_threads or (1 if few else 0),
        "verbosity": -1,
    }


def fit_head(parts: Parts, chance: Chance) -> Fitted:
    """Train, stop early, calibrate and evaluate one head; each part needs both labels."""
    columns: dict[str, Any] = {
        "feature_name": list(FEATURE_NAMES),
        "categorical_feature": list(CATEGORICAL),
    }
    learn = lightgbm.Dataset(parts.learn.matrix, parts.learn.labels, **columns)
    stop = lightgbm.Dataset(parts.stop.matrix, parts.stop.labels, reference=learn, **columns)
    trained = lightgbm.train(
        parameters(len(parts.learn.labels), chance),
        learn,
        num_boost_round=_MAX_TREES,
        valid_sets=[stop],
        callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
    )
    text = trained.model_to_string(num_iteration=trained.best_iteration)
    booster = lightgbm.Booster(model_str=text)
    raw = np.asarray(booster.predict(parts.calibrate.matrix), np.float64)
    calibration = fit_calibration(raw, parts.calibrate.labels)
    raw = np.asarray(booster.predict(parts.evaluate.matrix), np.float64)
    predictions = calibrate(raw, calibration)
    return Fitted(
        text=text.encode(),
        calibration=calibration,
        evaluation=_evaluate(parts.evaluate, predictions),
        predictions=predictions,
        trees=booster.num_trees(),
        gains=_gains(booster),
        booster=booster,
    )


def _evaluate(part: Part, predictions: NDArray[np.float64]) -> Evaluation:
    return Evaluation(
        rows=len(part.labels),
        positives=part.positives,
        auc=auc(part.labels, predictions),
        log_loss=log_loss(part.labels, predictions),
        pcoc=pcoc(part.labels, predictions),
    )


def _gains(booster: lightgbm.Booster) -> dict[str, float]:
    gain = booster.feature_importance("gain")
    total = float(gain.sum()) or 1.0
    order = np.argsort(-gain, kind="stable")
    return {FEATURE_NAMES[i]: float(gain[i]) / total for i in order}
