"""One prediction of the service: a forest and the calibration that belongs to it."""

import numpy as np
from numpy.typing import NDArray

from rta_service.scoring.forest import Forest
from rta_service.scoring.manifest import ModelManifest


class Head:
    """P(goal within its window | given event), ready to score."""

    def __init__(self, manifest: ModelManifest, forest: Forest) -> None:
        self.manifest = manifest
        self.forest = forest
        # as arrays once: np.interp would make them of the tuples at every call
        self._x = np.array(manifest.calibration.x)
        self._y = np.array(manifest.calibration.y)

    def probabilities(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give calibrated probabilities [n] in [0, 1] for features float64 [n, F]."""
        calibrated: NDArray[np.float64] = np.interp(self.forest.predict(matrix), self._x, self._y)
        return calibrated
