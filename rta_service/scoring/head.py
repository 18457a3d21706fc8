"""One prediction of the service: a forest and the calibration that belongs to it."""

import numpy as np
from numpy.typing import NDArray

from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.forest import Forest
from rta_service.scoring.manifest import ModelManifest


class Head:
    """P(goal within its window | given event), or the money of it, ready to score."""

    def __init__(self, manifest: ModelManifest, forest: Forest, flat: FlatForest) -> None:
        self.manifest = manifest
        self.forest = forest
        self.flat = flat
        """What `forest` was made of: views of the model's mapped file."""
        # as arrays once: np.interp would make them of the tuples at every call
        self._x = np.array(manifest.calibration.x)
        self._y = np.array(manifest.calibration.y)

    def probabilities(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give calibrated probabilities [n] in [0, 1] for features float64 [n, F].

        Of a value head, micros that are finite and not negative.
        """
        calibrated: NDArray[np.float64] = np.interp(self.forest.predict(matrix), self._x, self._y)
        return calibrated
