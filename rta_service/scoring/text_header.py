"""The lines before the first tree: what the forest predicts, from what, in how many trees."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from rta_service.scoring.flat_forest import Objective
from rta_service.scoring.text_limits import FaultList, Limits, shown
from rta_service.scoring.text_numbers import INTEGERS, first_wrong, read_integer, read_numbers

_KEYS: Final = (
    b"version",
    b"num_class",
    b"num_tree_per_iteration",
    b"label_index",
    b"max_feature_idx",
    b"objective",
    b"feature_names",
    b"monotone_constraints",
    b"feature_infos",
    b"tree_sizes",
)
"""In LightGBM's own order."""
_OPTIONAL: Final = frozenset({b"monotone_constraints"})
_FIXED: Final = {b"version": b"v4", b"num_class": b"1", b"num_tree_per_iteration": b"1"}

_NUMBER: Final = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:e[+-]?[0-9]{1,3})?"
_OBJECTIVE: Final = re.compile(
    rf"(?P<name>regression|poisson|gamma|tweedie(?= |$)|binary(?= ))"
    rf"(?:(?<=binary) sigmoid:(?P<sigmoid>{_NUMBER}))?"
    rf"(?:(?<=tweedie) tweedie_variance_power:{_NUMBER})?".encode()
)
_RANGE: Final = rf"(?:{_NUMBER}|-?inf)"
_FEATURE_INFO: Final = re.compile(
    rf"none|\[{_RANGE}:{_RANGE}\]|-?[0-9]{{1,10}}(?::-?[0-9]{{1,10}})*+".encode()
)
_NOT_IN_NAMES: Final = re.compile(r'[\s",:\[\]{}]')
_LONGEST_NAME: Final = 255
_LARGEST_LABEL_INDEX: Final = 1_000_000
_STEEPEST: Final = 1_000.0
_MONOTONE: Final = frozenset({b"-1", b"0", b"1"})


@dataclass(slots=True)
class Header:
    """What was read; where a line is at fault its value keeps the default."""

    end: int
    """Index of the line after the header."""
    objective: Objective = "binary"
    sigmoid: float = 1.0
    features: int = 0
    """0 while not known."""
    feature_names: tuple[str, ...] = ()
    tree_sizes: tuple[int, ...] | None = None
    lines: dict[bytes, int] = field(default_factory=dict)
    """Line, from 1, of each key."""


class _HeaderReader:
    """Goes through the keys in order; every value is checked even after a fault."""

    def __init__(self, header: Header, limits: Limits, faults: FaultList) -> None:
        self.header = header
        self.limits = limits
        self.faults = faults
        self._readers: dict[bytes, Callable[[bytes], str]] = {
            b"label_index": self._label_index,
            b"max_feature_idx": self._max_feature_idx,
            b"objective": self._objective,
            b"feature_names": self._feature_names,
            b"monotone_constraints": self._monotone_constraints,
            b"feature_infos": self._feature_infos,
            b"tree_sizes": self._tree_sizes,
        }

    def read(self, key: bytes, value: bytes) -> None:
        fixed = _FIXED.get(key)
        if fixed is None:
            reason = self._readers[key](value)
        else:
            reason = "" if value == fixed else f"is {shown(value)}, must be {fixed.decode()}"
        if reason:
            self.faults.add(self.header.lines[key], -1, key.decode(), reason)

    def _label_index(self, value: bytes) -> str:
        number = read_integer(value)
        if number is None or not 0 <= number <= _LARGEST_LABEL_INDEX:
            return f"{shown(value)} is not a column"
        return ""

    def _max_feature_idx(self, value: bytes) -> str:
        number = read_integer(value)
        if number is None or not 0 <= number < self.limits.max_features:
            return f"{shown(value)} is not from 0 to {self.limits.max_features - 1}"
        self.header.features = number + 1
        return ""

    def _objective(self, value: bytes) -> str:
        match = _OBJECTIVE.fullmatch(value)
        if not match:
            return f"{shown(value)} is not supported (binary, regression, poisson, gamma, tweedie)"
        self.header.objective = cast(Objective, match["name"].decode())
        if match["sigmoid"]:
            self.header.sigmoid = float(match["sigmoid"])
        if not 0.0 < self.header.sigmoid <= _STEEPEST:
            return f"sigmoid {self.header.sigmoid:g} is not above 0 and at most {_STEEPEST:g}"
        return ""

    def _parts(self, value: bytes) -> tuple[list[bytes], str]:
        """Split a line with one word a feature, or say what is wrong with their count."""
        count = value.count(b" ") + 1
        wanted = self.header.features or self.limits.max_features
        if count == wanted or (not self.header.features and count < wanted):
            return value.split(b" "), ""
        return [], f"{count} of them for {wanted} features"

    def _feature_names(self, value: bytes) -> str:
        parts, reason = self._parts(value)
        if reason:
            return reason
        try:
            names = tuple(part.decode() for part in parts)
        except UnicodeDecodeError:
            return "is not UTF-8"
        for name in names:
            if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
                return f"{shown(name.encode())} is not a feature name"
            if _NOT_IN_NAMES.search(name):
                return f"{shown(name.encode())} has a character that LightGBM forbids"
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            return f"{shown(twice.encode())} is there twice"
        self.header.feature_names = names
        return ""

    def _monotone_constraints(self, value: bytes) -> str:
        parts, reason = self._parts(value)
        wrong = next((part for part in parts if part not in _MONOTONE), None)
        return reason if wrong is None else f"{shown(wrong)} is not -1, 0 or 1"

    def _feature_infos(self, value: bytes) -> str:
        parts, reason = self._parts(value)
        wrong = next((part for part in parts if not _FEATURE_INFO.fullmatch(part)), None)
        return reason if wrong is None else f"{shown(wrong)} is not a range, categories or none"

    def _tree_sizes(self, value: bytes) -> str:
        count = value.count(b" ") + 1 if value else 0
        if not 1 <= count <= self.limits.max_trees:
            return f"{count} trees, must be 1 to {self.limits.max_trees}"
        sizes = read_numbers([value], INTEGERS)
        if sizes is None:
            place, token = first_wrong(value, INTEGERS)
            return f"number {place} is {shown(token)}"
        self.header.tree_sizes = tuple(sizes.tolist())
        return ""


def read_header(lines: list[bytes], limits: Limits, faults: FaultList) -> Header:
    """Read the lines up to the first blank one; what is wrong goes to `faults`."""
    end = next((i for i, line in enumerate(lines) if not line or line[:5] == b"Tree="), len(lines))
    header = Header(end)
    if lines[0] != b"tree":
        faults.add(
            1, -1, "file", f"begins with {shown(lines[0])}, not with 'tree': no LightGBM model"
        )
    reader = _HeaderReader(header, limits, faults)
    values = _by_key(lines[1:end], header, faults)
    for key in _KEYS:
        if key in values:
            reader.read(key, values[key])
        elif key not in _OPTIONAL:
            faults.add(0, -1, key.decode(), "missing")
    return header


def _by_key(lines: list[bytes], header: Header, faults: FaultList) -> dict[bytes, bytes]:
    """Collect the known keys; unknown, repeated and misplaced ones are faults."""
    values: dict[bytes, bytes] = {}
    last = -1
    for number, line in enumerate(lines, start=2):
        key, equals, value = line.partition(b"=")
        if key not in _KEYS or not equals:
            reason = "averaged forests are not supported" if key == b"average_output" else "unknown"
            faults.add(number, -1, shown(key), reason)
            continue
        if key in values:
            faults.add(number, -1, key.decode(), f"again, first in line {header.lines[key]}")
            continue
        if _KEYS.index(key) < last:
            faults.add(number, -1, key.decode(), "not in LightGBM's order")
        last = max(last, _KEYS.index(key))
        values[key] = value
        header.lines[key] = number
    return values
