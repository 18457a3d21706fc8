"""The numbers of the trees' lines, field by field over the whole forest, converted at once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from numpy.typing import NDArray

from rta_service.scoring.text_limits import FaultList, Limits, shown
from rta_service.scoring.text_numbers import (
    DECIMALS,
    INTEGERS,
    NumberRule,
    first_wrong,
    read_numbers,
)
from rta_service.scoring.text_trees import TreeLines, count_of

_INFINITE: Final = b"inf"

_RULES: Final[Mapping[str, NumberRule]] = {
    "split_feature": INTEGERS,
    "split_gain": DECIMALS,
    "threshold": DECIMALS,
    "decision_type": INTEGERS,
    "left_child": INTEGERS,
    "right_child": INTEGERS,
    "leaf_value": DECIMALS,
    "leaf_weight": DECIMALS,
    "leaf_count": INTEGERS,
    "internal_value": DECIMALS,
    "internal_weight": DECIMALS,
    "internal_count": INTEGERS,
    "cat_boundaries": INTEGERS,
    "cat_threshold": INTEGERS,
}


@dataclass(slots=True)
class TreeNumbers:
    """The numbers of sound lines, trees one after another."""

    trees: list[TreeLines]
    columns: dict[str, NDArray[Any]] = field(default_factory=dict)


def read_columns(trees: list[TreeLines], limits: Limits, faults: FaultList) -> TreeNumbers:
    """Convert all fields of all trees; trees with a line that is not numbers are left out."""
    words = sum(count_of(tree.values.get("cat_threshold", b"")) for tree in trees)
    if words > limits.max_cat_words:
        reason = f"{words} words in all, the limit is {limits.max_cat_words}"
        faults.add(0, -1, "cat_threshold", reason)
        return TreeNumbers([])
    columns: dict[str, NDArray[Any]] = {}
    bad: set[int] = set()
    for name, rule in _RULES.items():
        values = [tree.values.get(name, b"") for tree in trees]
        if name == "threshold":
            values = [_without_infinite(value) for value in values]
        if name == "leaf_count":
            values = [value or b"0" for value in values]
        column = read_numbers(values, rule)
        if column is None:
            bad |= _name_wrong(trees, name, values, faults)
        else:
            columns[name] = column
    if not bad:
        return TreeNumbers(trees, columns)
    return read_columns([tree for tree in trees if tree.index not in bad], limits, faults)


def _without_infinite(threshold: bytes) -> bytes:
    """Write 0 for `inf`, LightGBM's threshold between all numbers and NaN; JSON has no word."""
    if _INFINITE not in threshold:
        return threshold
    return b" ".join(b"0" if token == _INFINITE else token for token in threshold.split(b" "))


def infinite_places(threshold: bytes) -> list[int]:
    """Give the nodes of a tree whose threshold is `inf`."""
    if _INFINITE not in threshold:
        return []
    return [i for i, token in enumerate(threshold.split(b" ")) if token == _INFINITE]


def _name_wrong(
    trees: list[TreeLines], name: str, values: list[bytes], faults: FaultList
) -> set[int]:
    """Note the first wrong number of each tree whose line has one."""
    rule, bad = _RULES[name], set()
    for tree, value in zip(trees, values, strict=True):
        if read_numbers([value], rule) is not None:
            continue
        place, token = first_wrong(value, rule)
        reason = f"number {place} is {shown(token)}, not {rule.kind}"
        faults.add(tree.line_of(name), tree.index, name, reason)
        bad.add(tree.index)
    return bad
