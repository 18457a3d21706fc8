"""A forest as flat arrays: what the validator makes of a text, and all that is ever served.

The arrays hold only what decides scores (and the counts that explanations weigh by). A scorer
can walk them as they are; `canonical_text` writes them for LightGBM, which then gives the same raw
scores to the last bit.

How LightGBM 4 walks (include/LightGBM/tree.h, `NumericalDecision` and `CategoricalDecision`; what
it does to a row before is in src/c_api.cpp, `RowPairFunctionFromDenseMatric`):
- of a matrix, a value of size <= 1e-35 (as a float) counts as 0;
- numerical: NaN counts as 0 unless the missing type is NaN; a missing value (0 for type zero, NaN
  for type NaN) goes its default way; others go left if <= threshold;
- categorical: NaN goes right; others are cut to an integer towards 0 (so -0.5 is category 0);
  negative, beyond 31 bits or not in the bitset goes right.
"""

import hashlib
import struct
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

Objective = Literal["binary", "regression", "poisson", "gamma", "tweedie"]
"""What turns a raw sum into a prediction: a sigmoid, nothing, or (the last three) exp."""

CATEGORICAL_BIT: Final = 1
DEFAULT_LEFT_BIT: Final = 2
MISSING_SHIFT: Final = 2
"""decision_type is LightGBM's: bit 0 categorical, bit 1 default left, bits 2-3 missing type
(0 none, 1 zero, 2 NaN)."""

ZERO_SIZE: Final = float(np.float32(1e-35))
"""Values up to this size are zeros (LightGBM's kZeroThreshold, which is a float)."""

_MISSING_ZERO: Final = 1
_MISSING_NAN: Final = 2
_WORD_BITS: Final = 32
_CATEGORY_END: Final = 2.0**31
_CELLS: Final = 1 << 20
"""Rows times trees that are walked at once: 30 MB of intermediate arrays."""

_COUNTS: Final = frozenset({"node_count", "leaf_count"})


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
    """[N], finite, or +inf where all numbers part from NaN; of a categorical node, the number of its
    bitset in its tree."""
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

    def __post_init__(self) -> None:
        """Take views that can't be written through; raises ValueError for a wrong type or length.

        The arrays are served by many threads and mapped by many processes at once.
        """
        for name, dtype, wanted in self._layout():
            array = getattr(self, name)
            if array.dtype != dtype or array.shape != (wanted,):
                found = f"{array.dtype} {array.shape}"
                raise ValueError(f"{name} is {found}, must be {np.dtype(dtype)} ({wanted},)")
            view = np.ascontiguousarray(array).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    def _layout(self) -> list[tuple[str, type, int]]:
        """Name each array with its type and length."""
        trees, nodes = len(self.node_start), len(self.split_feature)
        leaves, bitsets = len(self.leaf_value), len(self.cat_offset)
        return [
            ("node_start", np.int64, trees),
            ("leaf_start", np.int64, trees),
            ("cat_start", np.int64, trees),
            ("split_feature", np.int32, nodes),
            ("threshold", np.float64, nodes),
            ("decision_type", np.uint8, nodes),
            ("left", np.int32, nodes),
            ("right", np.int32, nodes),
            ("leaf_value", np.float64, leaves),
            ("node_count", np.int64, nodes),
            ("leaf_count", np.int64, leaves),
            ("cat_offset", np.int64, bitsets),
            ("cat_words", np.uint32, len(self.cat_words)),
        ]

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """All arrays by name, in a fixed order: what a file of this forest holds."""
        return {name: getattr(self, name) for name, _, _ in self._layout()}

    def digest(self) -> str:
        """Give the SHA-256 (hex) of all that decides scores; equal digests score equally.

        That is all but the counts of training rows.
        """
        names = "\n".join(self.feature_names).encode()
        seen = hashlib.sha256(b"rta flat forest 1\0")
        seen.update(struct.pack("<16sd", self.objective.encode(), self.sigmoid))
        seen.update(struct.pack("<QQ", len(self.feature_names), len(names)) + names)
        for name, array in self.arrays.items():
            if name not in _COUNTS:
                seen.update(struct.pack("<16sQ", name.encode(), len(array)))
                seen.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
        return seen.hexdigest()

    def raw_plainly(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum the leaves [n] that features float64 [n, F], NaN where missing, reach.

        In the order of the trees: LightGBM's `raw_score` to the last bit. Raises ValueError for
        another shape.
        """
        leaves = self.leaf_value[self.leaves_plainly(matrix)]
        total = np.zeros(len(leaves))
        for tree in range(self.trees):  # one after another: the order decides the last bits
            total += leaves[:, tree]
        return total

    def leaves_plainly(self, matrix: NDArray[np.float64]) -> NDArray[np.int64]:
        """Give the leaf [n, T] of every row in every tree, a place in `leaf_value`."""
        if matrix.ndim != 2 or matrix.shape[1] != len(self.feature_names):  # noqa: PLR2004 - a matrix
            raise ValueError(
                f"features of shape {matrix.shape}, not [n, {len(self.feature_names)}]"
            )
        return _PlainWalk(self).leaves(np.asarray(matrix, dtype=np.float64))

    def predict_plainly(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Give predictions [n] after the objective's transform: the plain twin.

        Within a unit of the last place of LightGBM's, whose exp is another library's.
        """
        raw = self.raw_plainly(matrix)
        if self.objective == "regression":
            return raw
        with np.errstate(over="ignore"):
            if self.objective == "binary":
                return np.asarray(1.0 / (1.0 + np.exp(-self.sigmoid * raw)), dtype=np.float64)
            return np.asarray(np.exp(raw), dtype=np.float64)


class _PlainWalk:
    """Walks all rows down all trees together, one level at a time."""

    def __init__(self, forest: FlatForest) -> None:
        self._forest = forest
        node_tree = np.repeat(np.arange(forest.trees), np.diff(forest.node_start))
        node_base, leaf_base = forest.node_start[node_tree], forest.leaf_start[node_tree]
        # children as places in the whole forest, a leaf still as its complement
        sides = [
            np.where(c >= 0, c + node_base, c - leaf_base) for c in (forest.left, forest.right)
        ]
        self._children = np.stack(sides)
        self._bitset = np.zeros(len(forest.threshold), dtype=np.int64)
        self._is_categorical = (forest.decision_type & CATEGORICAL_BIT) > 0
        own = forest.threshold[self._is_categorical].astype(np.int64)
        self._bitset[self._is_categorical] = own + forest.cat_start[node_tree[self._is_categorical]]
        has_nodes = np.diff(forest.node_start) > 0
        self._roots = np.where(has_nodes, forest.node_start[:-1], ~forest.leaf_start[:-1])

    def leaves(self, matrix: NDArray[np.float64]) -> NDArray[np.int64]:
        """Give the leaf [n, T] that each row reaches in each tree."""
        step = max(_CELLS // max(self._forest.trees, 1), 1)
        parts = [self._leaves(matrix[i : i + step]) for i in range(0, max(len(matrix), 1), step)]
        return np.concatenate(parts)

    def _leaves(self, matrix: NDArray[np.float64]) -> NDArray[np.int64]:
        values = np.where(np.abs(matrix) <= ZERO_SIZE, 0.0, matrix)
        place = np.tile(self._roots, len(values))
        row = np.repeat(np.arange(len(values)), len(self._roots))
        walking = np.flatnonzero(place >= 0)
        while len(walking):
            node = place[walking]
            value = values[row[walking], self._forest.split_feature[node]]
            place[walking] = self._children[(~self._goes_left(value, node)).astype(np.int64), node]
            walking = walking[place[walking] >= 0]
        return (~place).reshape(len(values), len(self._roots))

    def _goes_left(self, value: NDArray[np.float64], node: NDArray[np.int64]) -> NDArray[np.bool_]:
        decision = self._forest.decision_type[node]
        missing = decision >> MISSING_SHIFT
        is_nan = np.isnan(value)
        number = np.where(is_nan & (missing != _MISSING_NAN), 0.0, value)
        is_missing = (missing == _MISSING_ZERO) & (np.abs(number) <= ZERO_SIZE)
        is_missing |= (missing == _MISSING_NAN) & is_nan
        by_default = (decision & DEFAULT_LEFT_BIT) > 0
        left = np.where(is_missing, by_default, number <= self._forest.threshold[node])
        at = np.flatnonzero(self._is_categorical[node])
        left[at] = self._is_in_bitset(value[at], self._bitset[node[at]])
        return left

    def _is_in_bitset(
        self, value: NDArray[np.float64], bitset: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        inside = (value > -1.0) & (value < _CATEGORY_END)  # false for NaN
        category = np.where(inside, value, 0.0).astype(np.int64)
        start, end = self._forest.cat_offset[bitset], self._forest.cat_offset[bitset + 1]
        word = start + category // _WORD_BITS
        inside &= word < end
        bits = self._forest.cat_words[np.where(inside, word, 0)] if len(value) else np.empty(0, int)
        return inside & ((bits >> (category % _WORD_BITS)) & 1).astype(np.bool_)
