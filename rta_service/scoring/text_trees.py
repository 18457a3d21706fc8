"""The lines of the trees: all there, in LightGBM's order, each with as many numbers as it must.

Numbers are counted by their spaces here and converted by text_columns, for all trees at once: 10 MB
hold a million numbers but only some 10,000 lines.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rta_service.scoring.text_header import Header
from rta_service.scoring.text_limits import FaultList, Limits, shown
from rta_service.scoring.text_numbers import DECIMALS, read_integer

_TREE: Final = b"Tree="

LISTS: Final = (
    "split_feature",
    "split_gain",
    "threshold",
    "decision_type",
    "left_child",
    "right_child",
    "leaf_value",
    "leaf_weight",
    "leaf_count",
    "internal_value",
    "internal_weight",
    "internal_count",
)
"""The fields that hold lists, in LightGBM's order."""
CATEGORY_LISTS: Final = ("cat_boundaries", "cat_threshold")
"""After those, where there are categorical splits."""

_OF_LEAVES: Final = frozenset({"leaf_value", "leaf_weight", "leaf_count"})

_PLAIN_KEYS: Final = ("num_leaves", "num_cat", *LISTS, "is_linear", "shrinkage")
_CATEGORICAL_KEYS: Final = (
    "num_leaves",
    "num_cat",
    *LISTS,
    *CATEGORY_LISTS,
    "is_linear",
    "shrinkage",
)
_PLAIN: Final = tuple(f"{key}=".encode() for key in _PLAIN_KEYS)
_CATEGORICAL: Final = tuple(f"{key}=".encode() for key in _CATEGORICAL_KEYS)
_ALL_KEYS: Final = frozenset(key.encode() for key in _CATEGORICAL_KEYS)
_NO_CATEGORIES: Final = b"num_cat=0"


@dataclass(frozen=True, slots=True)
class TreeLines:
    """One tree whose lines are those that it must have, with as many numbers as it says."""

    index: int
    line: int
    """Of its Tree= line, from 1."""
    leaves: int
    categories: int
    values: Mapping[str, bytes]

    def line_of(self, name: str) -> int:
        """Give the line of a field, from 1."""
        return self.line + 1 + list(self.values).index(name)


def find_trees(
    lines: list[bytes], header: Header, faults: FaultList
) -> tuple[list[tuple[int, int]], int]:
    """Find where trees begin and end, and the index of the line `end of trees`.

    Each tree must have the number of its place and, byte for byte, the size that the header says.
    """
    start = header.end + 1
    try:
        end = lines.index(b"end of trees", header.end)
    except ValueError:
        end = len(lines)
        faults.add(end, -1, "end of trees", "missing: the file is cut off")
    heads = [i for i in range(header.end, end) if lines[i].startswith(_TREE)]
    if not heads:
        faults.add(start + 1, -1, "Tree", "there is no tree")
        return [], end
    if heads[0] != start:
        faults.add(start + 1, -1, "Tree", "does not follow the header's blank line")
    blocks = list(zip(heads, [*heads[1:], end], strict=True))
    _check_sizes(lines, blocks, header, faults)
    return blocks, end


def _check_sizes(
    lines: list[bytes],
    blocks: list[tuple[int, int]],
    header: Header,
    faults: FaultList,
) -> None:
    sizes = header.tree_sizes
    if sizes is None:
        return
    if len(sizes) != len(blocks):
        reason = f"names {len(sizes)} trees, the file holds {len(blocks)}"
        faults.add(header.lines[b"tree_sizes"], -1, "tree_sizes", reason)
    lengths = np.fromiter(map(len, lines), dtype=np.int64, count=len(lines)) + 1
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    for index, ((start, end), size) in enumerate(zip(blocks, sizes, strict=False)):
        found = int(offsets[end] - offsets[start])
        if found != size:
            faults.add(start + 1, index, "tree_sizes", f"says {size} bytes, the tree has {found}")


class TreeReader:
    """Reads the lines of one tree after another; a bad tree is noted and left out."""

    def __init__(self, lines: list[bytes], limits: Limits, faults: FaultList) -> None:
        self._lines = lines
        self._limits = limits
        self._faults = faults
        self._nodes = 0

    def read(self, blocks: Sequence[tuple[int, int]]) -> list[TreeLines]:
        """Give the trees whose lines are all there and as long as they must be."""
        found = []
        for index, (start, end) in enumerate(blocks):
            if self._lines[start][len(_TREE) :] != str(index).encode():
                reason = f"{shown(self._lines[start])} is the tree of number {index}"
                self._faults.add(start + 1, index, "Tree", reason)
            tree = self._read_one(index, start, end)
            if tree is not None:
                found.append(tree)
        if self._nodes > self._limits.max_nodes:
            reason = f"{self._nodes} nodes in all, the limit is {self._limits.max_nodes}"
            self._faults.add(0, -1, "num_leaves", reason)
            return []
        return found

    def _read_one(self, index: int, start: int, end: int) -> TreeLines | None:
        block = self._lines[start + 1 : end]
        plain = len(block) > 1 and block[1] == _NO_CATEGORIES
        keys, names = (_PLAIN, _PLAIN_KEYS) if plain else (_CATEGORICAL, _CATEGORICAL_KEYS)
        wrong = _wrong_key(block, keys)
        if wrong is not None:
            place, name, reason = wrong
            self._faults.add(start + 2 + place, index, name, reason)
            return None
        values = {
            name: line[len(key) :] for name, line, key in zip(names, block, keys, strict=False)
        }
        leaves, categories = self._size(index, start, values)
        if leaves <= 0 or categories < 0:
            return None
        tree = TreeLines(index, start + 1, leaves, categories, values)
        self._nodes += leaves - 1
        return tree if self._fits(tree) else None

    def _size(self, index: int, start: int, values: Mapping[str, bytes]) -> tuple[int, int]:
        """Read how much the tree says it has; -1 for what it must not."""
        leaves, categories = read_integer(values["num_leaves"]), read_integer(values["num_cat"])
        if leaves is None or not 1 <= leaves <= self._limits.max_leaves:
            reason = f"{shown(values['num_leaves'])} is not from 1 to {self._limits.max_leaves}"
            self._faults.add(start + 2, index, "num_leaves", reason)
            leaves = -1
        if categories is None or not 0 <= categories < max(leaves, 1):
            reason = f"{shown(values['num_cat'])} is not from 0 to the number of splits"
            self._faults.add(start + 3, index, "num_cat", reason)
            categories = -1
        return leaves, categories

    def _fits(self, tree: TreeLines) -> bool:
        """Tell whether every list has the length that the tree says, before any is converted."""
        wrong = []
        for name in LISTS:
            found = count_of(tree.values[name])
            wanted = tree.leaves if name in _OF_LEAVES else tree.leaves - 1
            # a constant tree has no weights, and after a round trip no count
            if found != wanted and not (tree.leaves == 1 and not found and name != "leaf_value"):
                wrong.append((name, found, wanted))
        if tree.categories and count_of(tree.values["cat_boundaries"]) != tree.categories + 1:
            found = count_of(tree.values["cat_boundaries"])
            wrong.append(("cat_boundaries", found, tree.categories + 1))
        if len(wrong) >= len(LISTS):
            reason = f"says {tree.leaves}, leaf_value has {count_of(tree.values['leaf_value'])}"
            self._faults.add(tree.line + 1, tree.index, "num_leaves", reason)
            return False
        for name, found, wanted in wrong:
            reason = f"{found} numbers, must be {wanted}"
            self._faults.add(tree.line_of(name), tree.index, name, reason)
        return not wrong and self._is_plain(tree)

    def _is_plain(self, tree: TreeLines) -> bool:
        if tree.values["is_linear"] != b"0":
            line = tree.line_of("is_linear")
            self._faults.add(line, tree.index, "is_linear", "linear trees are not supported")
            return False
        value = tree.values["shrinkage"]
        plain = len(value) <= DECIMALS.longest and DECIMALS.pattern.fullmatch(value)
        if not plain or not 0.0 < float(value) < math.inf:
            reason = f"{shown(value)} is not a finite number above 0"
            self._faults.add(tree.line_of("shrinkage"), tree.index, "shrinkage", reason)
            return False
        return True


def _wrong_key(block: list[bytes], keys: tuple[bytes, ...]) -> tuple[int, str, str] | None:
    """Find the first line that is not the one LightGBM writes there: its place, key and fault."""
    whole = len(block) == len(keys) + 2 and not block[-1] and not block[-2]
    if whole and all(map(bytes.startswith, block, keys)):
        return None
    seen: set[bytes] = set()
    for place, key in enumerate((*keys, b"", b"")):
        name = key[:-1].decode() or "end of tree"
        if place >= len(block):
            return -1, name, "missing: the tree is cut off"
        line = block[place]
        found = line.partition(b"=")[0]
        if not (line.startswith(key) if key else not line):
            return place, name, f"missing; {_intruder(line, found, seen)}"
        seen.add(found)
    return len(keys) + 2, "end of tree", f"{shown(block[len(keys) + 2])} after its blank lines"


def _intruder(line: bytes, found: bytes, seen: set[bytes]) -> str:
    """Say what stands where another key was expected."""
    if found in seen:
        return f"{found.decode()} is there again"
    if found in _ALL_KEYS and found != line:
        return f"{found.decode()} is in its place, not in LightGBM's order"
    return f"{shown(line)} is in its place"


def count_of(value: bytes) -> int:
    """Count the numbers of a line."""
    return value.count(b" ") + 1 if value else 0
