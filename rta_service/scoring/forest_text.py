"""Reads LightGBM's text form of a forest without trusting it: every rule it breaks is named.

No C++ parser is involved. What comes back holds only arrays that were checked. The parts, in the
order of the text: text_header, text_trees (lines), text_columns (numbers), tree_rules (structure), text_tail.
"""

from typing import Final

import numpy as np

from rta_service.domain.errors import ModelUnsound
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.text_columns import read_columns
from rta_service.scoring.text_header import Header, read_header
from rta_service.scoring.text_limits import FaultList, Limits, shown
from rta_service.scoring.text_tail import TailReader
from rta_service.scoring.text_trees import TreeReader, find_trees
from rta_service.scoring.tree_rules import RuleBook
from rta_service.scoring.tree_table import Table, lay_out

__all__ = ["DEFAULT_LIMITS", "Limits", "parse_forest"]

DEFAULT_LIMITS: Final = Limits()

_PLAIN_BYTES: Final = bytes(range(0x20, 0x7F)) + b"\n"
_NAMES: Final = b"feature_names="
"""Only here and after the trees may people's own words stand, which may be UTF-8."""


def parse_forest(data: bytes, place: str, limits: Limits = DEFAULT_LIMITS) -> FlatForest:
    """Read a model's text into flat arrays.

    Raises ModelUnsound naming up to `limits.max_faults` faults, in the order of the file; after a
    bad tree the others are still checked. Time and memory are linear in the bytes, whatever
    numbers the text claims.
    """
    faults = FaultList(limits.max_faults)
    forest = _parse(data, limits, faults)
    if forest is None or faults:
        raise ModelUnsound(place, faults.in_order())
    return forest


def _parse(data: bytes, limits: Limits, faults: FaultList) -> FlatForest | None:
    if not _has_sane_size(data, limits, faults):
        return None
    lines = data.split(b"\n")
    if not _has_sane_lines(lines, limits, faults):
        return None
    header = read_header(lines, limits, faults)
    blocks, end = find_trees(lines, header, faults)
    if data.translate(None, _PLAIN_BYTES):
        _check_characters(lines, end, faults)
    if end < len(lines):
        TailReader(lines, end, faults).check(header.feature_names)
    if len(blocks) > limits.max_trees:
        faults.add(0, -1, "Tree", f"{len(blocks)} trees, the limit is {limits.max_trees}")
        return None
    numbers = read_columns(TreeReader(lines, limits, faults).read(blocks), limits, faults)
    if not numbers.trees:
        return None
    table = lay_out(numbers)
    RuleBook(table, limits, faults).check(header.features, _raw_limit(header, limits))
    return None if faults else _flatten(table, header)


def _has_sane_size(data: bytes, limits: Limits, faults: FaultList) -> bool:
    """Check sizes before the text is cut up, which takes some 60 bytes a line."""
    if len(data) > limits.max_bytes:
        faults.add(0, -1, "file", f"{len(data)} bytes, the limit is {limits.max_bytes}")
    elif not data:
        faults.add(0, -1, "file", "is empty")
    elif data.count(b"\n") > limits.max_lines:
        faults.add(0, -1, "file", f"more than {limits.max_lines} lines")
    return not faults


def _has_sane_lines(lines: list[bytes], limits: Limits, faults: FaultList) -> bool:
    if max(map(len, lines)) <= limits.max_line_bytes:
        return True
    for number, line in enumerate(lines, start=1):
        if len(line) > limits.max_line_bytes:
            reason = f"{len(line)} bytes in a line, the limit is {limits.max_line_bytes}"
            faults.add(number, -1, _key_of(line), reason)
    return False


def _check_characters(lines: list[bytes], end: int, faults: FaultList) -> None:
    """Name lines that leave ASCII where no people's words stand."""
    for number, line in enumerate(lines, start=1):
        if line.translate(None, _PLAIN_BYTES):
            may_be_free = number > end or line.startswith(_NAMES)
            if not may_be_free or not _is_printable(line):
                faults.add(number, -1, _key_of(line), "has bytes that are not printable ASCII")


def _key_of(line: bytes) -> str:
    return shown(line.partition(b"=")[0])


def _is_printable(line: bytes) -> bool:
    try:
        return line.decode().isprintable()
    except UnicodeDecodeError:
        return False


def _raw_limit(header: Header, limits: Limits) -> float:
    if header.objective == "binary":
        return limits.max_logit
    return limits.max_value if header.objective == "regression" else limits.max_exponent


def _flatten(table: Table, header: Header) -> FlatForest:
    """Take the checked columns over; adding 0.0 makes -0 and 0 the same bits."""
    columns, bounds = table.columns, table.bounds
    begin = bounds.at < bounds.sizes[bounds.tree] - 1
    offsets = (columns["cat_boundaries"] + table.words.start[bounds.tree])[begin]
    return FlatForest(
        objective=header.objective,
        sigmoid=header.sigmoid,
        feature_names=header.feature_names,
        node_start=table.nodes.start,
        leaf_start=table.leaves.start,
        cat_start=table.categories.start,
        split_feature=columns["split_feature"].astype(np.int32),
        threshold=columns["threshold"] + 0.0,
        decision_type=columns["decision_type"].astype(np.uint8),
        left=columns["left_child"].astype(np.int32),
        right=columns["right_child"].astype(np.int32),
        leaf_value=columns["leaf_value"] + 0.0,
        node_count=columns["internal_count"],
        leaf_count=columns["leaf_count"],
        cat_offset=np.append(offsets, len(columns["cat_threshold"])).astype(np.int64),
        cat_words=columns["cat_threshold"].astype(np.uint32),
    )
