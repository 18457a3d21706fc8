"""One prediction of the service: a forest and the calibration that belongs to it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rta_service.scoring.calibration import calibrate
from rta_service.scoring.forest import Forest
from rta_service.scoring.manifest import ModelManifest


@dataclass(frozen=True, slots=True)
class Head:
    """P(goal within its window | given event), ready to score."""

    manifest: ModelManifest
    forest: Forest

    def probabilities(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give calibrated probabilities [n] in [0, 1] for features float64 [n, F]."""
        return calibrate(self.forest.predict(matrix), self.manifest.calibration)
