"""LightGBM's own scorer: the reference that any faster forest must agree with."""

import lightgbm
import numpy as np
from numpy.typing import NDArray


class LightGBMForest:
    """A booster that scores on the calling thread only.

    One thread a process: decision workers scale by processes, and OpenMP's start costs more than
    a batch of a few rows.
    """

    def __init__(self, text: str) -> None:
        try:
            self._booster = lightgbm.Booster(model_str=text)
        except lightgbm.basic.LightGBMError as error:
            raise ValueError(str(error)) from error
        self.feature_names = tuple(self._booster.feature_name())

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give raw probabilities [n] for features float64 [n, F], NaN where missing."""
        return np.asarray(self._booster.predict(matrix, num_threads=1), dtype=np.float64)
