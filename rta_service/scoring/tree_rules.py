"""The rules that make a pile of numbers a forest, checked over all its nodes at once.

LightGBM numbers a node when it splits a leaf of the tree so far, so a child's number is always
above its parent's. With that, and every node and leaf named by exactly one parent, no cycle and no
unreachable part can be.
"""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rta_service.scoring.flat_forest import CATEGORICAL_BIT
from rta_service.scoring.text_limits import FaultList, Limits
from rta_service.scoring.tree_table import Segments, Table

_LEGAL_DECISIONS: Final = (0, 2, 4, 6, 8, 10, 1, 5, 9)
"""Numerical: three missing types, each way by default; categorical: missing always goes right."""
_NAN_RIGHT: Final = 8
"""Numerical, NaN is missing and goes right: the only split that a threshold of inf belongs to."""
_LARGEST_COUNT: Final = 2**31 - 1
_LARGEST_WORD: Final = 2**32 - 1
_WORD_BITS: Final = 32

Bad = NDArray[np.bool_]


class RuleBook:
    """Applies the rules one after another; those that build on a broken one are skipped."""

    def __init__(self, table: Table, limits: Limits, faults: FaultList) -> None:
        self._table = table
        self._limits = limits
        self._faults = faults

    def check(self, features: int, raw_limit: float) -> None:
        """Check all rules; `features` 0 if not known, `raw_limit` bounds the raw sum's size."""
        self._check_splits(features)
        self._check_bitsets()
        self._check_categorical_splits()
        if self._check_children() and self._check_reached():
            self._check_counts()
        self._check_leaves(raw_limit)

    def _note(self, field: str, bad: Bad, of: Segments, say: Callable[[int], str]) -> bool:
        """Name the first bad entry of each tree; gives whether all are good."""
        wrong = np.flatnonzero(bad)
        if not len(wrong):
            return True
        _, first = np.unique(of.tree[wrong], return_index=True)
        for entry in wrong[first[: self._limits.max_faults]].tolist():
            tree = self._table.trees[int(of.tree[entry])]
            self._faults.add(tree.line_of(field), tree.index, field, say(entry))
        return False

    def _note_value(self, field: str, bad: Bad, of: Segments, words: str) -> bool:
        """Name bad entries by place and value, with `words` on what is wrong with them."""
        values = self._table.columns[field]
        return self._note(field, bad, of, lambda i: f"number {of.at[i]} is {values[i]}, {words}")

    def _check_splits(self, features: int) -> None:
        nodes, columns = self._table.nodes, self._table.columns
        feature, decision = columns["split_feature"], columns["decision_type"]
        last = (features or self._limits.max_features) - 1
        outside = (feature < 0) | (feature > last)
        self._note_value("split_feature", outside, nodes, f"must be from 0 to {last}")
        legal = np.isin(decision, _LEGAL_DECISIONS)
        self._note_value("decision_type", ~legal, nodes, "which is no kind of split")
        infinite = np.isinf(columns["threshold"]) & (decision != _NAN_RIGHT)
        words = "which only a split of all numbers from NaN may have"
        self._note_value("threshold", infinite, nodes, words)

    def _check_bitsets(self) -> None:
        """Check that bounds rise from 0 to the number of words, and that no bitset is empty."""
        bounds, words = self._table.bounds, self._table.words
        if not len(bounds.tree):
            return
        value = self._table.columns["cat_boundaries"]
        most = self._limits.max_category // _WORD_BITS + 1
        is_first = bounds.at == 0
        is_last = bounds.at == bounds.sizes[bounds.tree] - 1
        step = np.diff(value, prepend=0)
        bad = np.where(is_first, value != 0, (step <= 0) | (step > most))
        bad |= is_last & (value != words.sizes[bounds.tree])

        def say(i: int) -> str:
            total = words.sizes[bounds.tree[i]]
            shape = f"they must rise from 0 to the {total} words of cat_threshold"
            return f"number {bounds.at[i]} is {value[i]}; {shape}, by at most {most} at a time"

        if not self._note("cat_boundaries", bad, bounds, say):
            return
        word = self._table.columns["cat_threshold"]
        outside = (word < 0) | (word > _LARGEST_WORD)
        self._note_value("cat_threshold", outside, words, "must be a 32-bit word")
        ends = (value + words.start[bounds.tree])[~is_first] - 1
        hollow = np.zeros(len(word), dtype=np.bool_)
        hollow[ends] = word[ends] == 0
        self._note_value("cat_threshold", hollow, words, "a bitset must not end in an empty word")

    def _check_categorical_splits(self) -> None:
        """Check that a tree's k-th categorical split has its k-th bitset."""
        table, nodes = self._table, self._table.nodes
        is_categorical = (table.columns["decision_type"] & CATEGORICAL_BIT) > 0
        splits = np.bincount(nodes.tree[is_categorical], minlength=len(table.trees))
        for place in np.flatnonzero(splits != table.categories.sizes).tolist():
            tree = table.trees[place]
            reason = f"says {tree.categories}, decision_type has {splits[place]}"
            self._faults.add(tree.line_of("num_cat"), tree.index, "num_cat", reason)
        before: NDArray[np.int64] = np.cumsum(is_categorical) - is_categorical
        rank = before - before[nodes.start[nodes.tree]]
        wrong = is_categorical & (table.columns["threshold"] != rank)
        words = "not the number of this categorical split in its tree"
        self._note_value("threshold", wrong, nodes, words)

    def _check_children(self) -> bool:
        """Check ranges, and that children come after their parents."""
        nodes = self._table.nodes
        last_node = nodes.sizes[nodes.tree] - 1
        sound = True
        for field in ("left_child", "right_child"):
            child = self._table.columns[field]
            outside = (child > last_node) | (child < -(last_node + 2))
            words = "which is no node or leaf of this tree"
            sound &= self._note_value(field, outside, nodes, words)
            early = (child >= 0) & (child <= nodes.at) & ~outside
            words = "a node at or above its parent: a cycle, or not LightGBM's order"
            sound &= self._note_value(field, early, nodes, words)
        return sound

    def _check_reached(self) -> bool:
        """Check that every node but the root, and every leaf, has exactly one parent."""
        nodes, leaves = self._table.nodes, self._table.leaves
        left, right = self._table.columns["left_child"], self._table.columns["right_child"]
        child = np.concatenate((left, right))
        tree = np.concatenate((nodes.tree, nodes.tree))
        inner = child >= 0
        times = np.bincount(child[inner] + nodes.start[tree[inner]], minlength=len(nodes.tree))
        times += nodes.at == 0
        self._note(
            "left_child",
            times != 1,
            nodes,
            lambda i: f"node {nodes.at[i]} is a child {times[i]} times, must be once",
        )
        hits = np.bincount(~child[~inner] + leaves.start[tree[~inner]], minlength=len(leaves.tree))
        hits += leaves.sizes[leaves.tree] == 1
        self._note(
            "left_child",
            hits != 1,
            leaves,
            lambda i: f"leaf {leaves.at[i]} is a child {hits[i]} times, must be once",
        )
        return bool((times == 1).all() and (hits == 1).all())

    def _check_counts(self) -> None:
        """Check that each node counts the rows of its children; the tree's shape is sound here."""
        nodes, leaves, columns = self._table.nodes, self._table.leaves, self._table.columns
        node_count, leaf_count = columns["internal_count"], columns["leaf_count"]
        for field, count, of in (
            ("leaf_count", leaf_count, leaves),
            ("internal_count", node_count, nodes),
        ):
            wrong = (count < 0) | (count > _LARGEST_COUNT)
            self._note_value(field, wrong, of, f"must be from 0 to {_LARGEST_COUNT}")
        below = self._count_below(columns["left_child"]) + self._count_below(columns["right_child"])
        words = "not the sum of its children's counts"
        self._note_value("internal_count", node_count != below, nodes, words)

    def _count_below(self, child: NDArray[Any]) -> NDArray[Any]:
        """Give the count [N] of one child of each node."""
        nodes, leaves, columns = self._table.nodes, self._table.leaves, self._table.columns
        inner = child >= 0
        result = np.zeros(len(child), dtype=np.int64)
        at = nodes.start[nodes.tree]
        result[inner] = columns["internal_count"][(child + at)[inner]]
        at = leaves.start[nodes.tree]
        result[~inner] = columns["leaf_count"][(~child + at)[~inner]]
        return result

    def _check_leaves(self, raw_limit: float) -> None:
        """Check that no sum of leaves, one a tree, is beyond what a raw score may sanely be."""
        leaves = self._table.leaves
        size = np.abs(self._table.columns["leaf_value"])
        words = f"beyond the limit of {raw_limit:g} for this objective"
        if not self._note_value("leaf_value", size > raw_limit, leaves, words) or not len(size):
            return
        total = float(np.maximum.reduceat(size, leaves.start[:-1]).sum())
        if total > raw_limit:
            reason = f"the largest leaves of all trees add up to {total:g}, {words}"
            self._faults.add(0, -1, "leaf_value", reason)
