"""What turns feature rows into raw probabilities: the port, and where its implementation is."""

import importlib
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Forest(Protocol):
    """Trees that are ready to score; safe to share between threads."""

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns the trees were grown on, in order."""

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give raw probabilities [n] for features float64 [n, F], NaN where missing."""


def read_forest(text: str) -> Forest:
    """Parse LightGBM's text form; raises ValueError where the library notices what is wrong.

    It notices little: a damaged text can end the process (`check.py`). Found by name, so that
    naming models does not load LightGBM (a second and 100 MB); only processes that score pay.
    """
    module = importlib.import_module("rta_service.scoring.lightgbm_forest")
    forest: Forest = module.LightGBMForest(text)
    return forest
