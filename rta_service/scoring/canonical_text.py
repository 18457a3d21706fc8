"""Writes a forest as LightGBM's text from its arrays alone: no line of an upload is in it.

Numbers are Python's shortest that read back as the same double, which LightGBM 4 reads exactly.
What only describes training (gains, weights, inner values) is 0: no score depends on it, nor on
feature_infos.
"""

from collections.abc import Sequence
from typing import Any, Final

from numpy.typing import NDArray

from rta_service.scoring.flat_forest import FlatForest

_NODE_FIELDS: Final = (
    ("split_feature", "split_feature"),
    ("split_gain", ""),
    ("threshold", "threshold"),
    ("decision_type", "decision_type"),
    ("left_child", "left"),
    ("right_child", "right"),
)
_INNER_FIELDS: Final = (
    ("internal_value", ""),
    ("internal_weight", ""),
    ("internal_count", "node_count"),
)


def canonical_text(forest: FlatForest) -> str:
    """Write a text that LightGBM loads and whose raw scores are the forest's to the last bit."""
    words = {name: _words(array) for name, array in forest.arrays.items()}
    trees = [_tree(forest, words, index) for index in range(forest.trees)]
    sigmoid = f" sigmoid:{_plain(forest.sigmoid)}" if forest.objective == "binary" else ""
    header = (
        "tree",
        "version=v4",
        "num_class=1",
        "num_tree_per_iteration=1",
        "label_index=0",
        f"max_feature_idx={len(forest.feature_names) - 1}",
        f"objective={forest.objective}{sigmoid}",
        f"feature_names={' '.join(forest.feature_names)}",
        f"feature_infos={' '.join(['none'] * len(forest.feature_names))}",
        f"tree_sizes={' '.join([str(len(tree)) for tree in trees])}",
    )
    return "\n".join(header) + "\n\n" + "".join(trees) + "end of trees\n"


def _words(array: NDArray[Any]) -> list[str]:
    return list(map(repr, array.tolist()))


def _plain(number: float) -> str:
    """Write 1, not 1.0, as LightGBM does."""
    return repr(number).removesuffix(".0")


def _tree(forest: FlatForest, words: dict[str, list[str]], index: int) -> str:
    nodes = slice(int(forest.node_start[index]), int(forest.node_start[index + 1]))
    leaves = slice(int(forest.leaf_start[index]), int(forest.leaf_start[index + 1]))
    bitsets = slice(int(forest.cat_start[index]), int(forest.cat_start[index + 1]))
    none = ["0"] * (nodes.stop - nodes.start)

    def node_lines(fields: Sequence[tuple[str, str]]) -> list[str]:
        return [f"{key}={' '.join(words[name][nodes] if name else none)}" for key, name in fields]

    lines = [
        f"Tree={index}",
        f"num_leaves={leaves.stop - leaves.start}",
        f"num_cat={bitsets.stop - bitsets.start}",
        *node_lines(_NODE_FIELDS),
        f"leaf_value={' '.join(words['leaf_value'][leaves])}",
        f"leaf_weight={' '.join(['0'] * (leaves.stop - leaves.start))}",
        f"leaf_count={' '.join(words['leaf_count'][leaves])}",
        *node_lines(_INNER_FIELDS),
        *_bitset_lines(forest, words, bitsets),
        "is_linear=0",
        "shrinkage=1",
    ]
    return "\n".join(lines) + "\n\n\n"


def _bitset_lines(forest: FlatForest, words: dict[str, list[str]], bitsets: slice) -> list[str]:
    """Give the bounds, counted from the tree's first word, and the words."""
    if bitsets.start == bitsets.stop:
        return []
    bounds = forest.cat_offset[bitsets.start : bitsets.stop + 1].tolist()
    first, last = bounds[0], bounds[-1]
    return [
        f"cat_boundaries={' '.join([str(bound - first) for bound in bounds])}",
        f"cat_threshold={' '.join(words['cat_words'][first:last])}",
    ]
