"""A forest's numbers as long columns, and where each tree's part of them lies."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rta_service.scoring.text_columns import TreeNumbers, infinite_places
from rta_service.scoring.text_trees import TreeLines, count_of


@dataclass(frozen=True, slots=True)
class Segments:
    """T runs of entries, one after another."""

    sizes: NDArray[np.int64]
    """[T]."""
    start: NDArray[np.int64]
    """[T + 1]."""
    tree: NDArray[np.int64]
    """[entries], the run of each."""
    at: NDArray[np.int64]
    """[entries], from 0 in its run."""


def segments_of(sizes: list[int]) -> Segments:
    """Lay out runs of these sizes."""
    lengths = np.array(sizes, dtype=np.int64)
    start = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=start[1:])
    tree = np.repeat(np.arange(len(lengths)), lengths)
    return Segments(lengths, start, tree, np.arange(len(tree)) - start[tree])


@dataclass(frozen=True, slots=True)
class Table:
    """All nodes, leaves, categorical splits, bounds of bitsets and their words of the forest."""

    trees: list[TreeLines]
    columns: dict[str, NDArray[Any]]
    nodes: Segments
    leaves: Segments
    categories: Segments
    bounds: Segments
    """Of cat_boundaries: one more than categories where there are any."""
    words: Segments


def lay_out(numbers: TreeNumbers) -> Table:
    """Compute where each tree's part of the columns lies; thresholds of inf are put back."""
    trees = numbers.trees
    nodes = segments_of([tree.leaves - 1 for tree in trees])
    for place, tree in enumerate(trees):
        for node in infinite_places(tree.values["threshold"]):
            numbers.columns["threshold"][nodes.start[place] + node] = np.inf
    return Table(
        trees=trees,
        columns=numbers.columns,
        nodes=nodes,
        leaves=segments_of([tree.leaves for tree in trees]),
        categories=segments_of([tree.categories for tree in trees]),
        bounds=segments_of([tree.categories + 1 if tree.categories else 0 for tree in trees]),
        words=segments_of([count_of(tree.values.get("cat_threshold", b"")) for tree in trees]),
    )
