"""A forest as flat arrays: what the validator makes of a text, and all that is ever served.

The arrays hold only what decides scores (and the counts that explanations weigh by). A scorer
can walk them as they are; `text()` writes them as a canonical LightGBM text, which gives the same
raw scores to the last bit.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

Objective = Literal["binary", "regression", "poisson", "gamma", "tweedie"]
"""What turns a raw sum into a prediction: a sigmoid, nothing, or (the last three) exp."""

CATEGORICAL_BIT: Final = 1
DEFAULT_LEFT_BIT: Final = 2
MISSING_SHIFT: Final = 2
"""decision_type is LightGBM's: bit 0 categorical, bit 1 default left, bits 2-3 missing type
(0 none, 1 zero, 2 NaN)."""


@dataclass(frozen=True, slots=True, eq=False)
class FlatForest:
    """T trees with N inner nodes, L leaves, C categorical splits and W bitset words in all."""

    objective: Objective
    sigmoid: float
    """Steepness of binary's sigmoid, 1.0 for other objectives."""
    feature_names: tuple[str, ...]
    node_start: NDArray[np.int64]
    """[T + 1]: nodes of tree t are node_start[t] to node_start[t + 1]."""
    leaf_start: NDArray[np.int64]
    """[T + 1]."""
    cat_start: NDArray[np.int64]
    """[T + 1], into cat_offset; a categorical node's threshold counts from its tree's start."""
    split_feature: NDArray[np.int32]
    """[N], a column of the features."""
    threshold: NDArray[np.float64]
    """[N]; of a categorical node, the number of its bitset in its tree."""
    decision_type: NDArray[np.uint8]
    """[N]."""
    left: NDArray[np.int32]
    """[N], a node of the same tree from 0, or ~leaf."""
    right: NDArray[np.int32]
    """[N]."""
    leaf_value: NDArray[np.float64]
    """[L], finite."""
    node_count: NDArray[np.int64]
    """[N], training rows that passed."""
    leaf_count: NDArray[np.int64]
    """[L]."""
    cat_offset: NDArray[np.int64]
    """[C + 1], into cat_words."""
    cat_words: NDArray[np.uint32]
    """[W]; bit v % 32 of word v // 32 says that category v goes left."""

    @property
    def trees(self) -> int:
        """How many trees there are."""
        return len(self.node_start) - 1

    def digest(self) -> str:
        """Give the SHA-256 (hex) of all that decides scores; equal digests score equally."""
        raise NotImplementedError

    def raw_plainly(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum the leaves [n] that features float64 [n, F] reach, in the order of the trees."""
        raise NotImplementedError

    def predict_plainly(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give predictions [n], after the objective's transform: the plain twin."""
        raise NotImplementedError
