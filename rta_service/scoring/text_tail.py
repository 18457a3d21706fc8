"""The lines after the last tree: importances, training parameters, categories of pandas.

Nothing of them is kept; they are checked so that nothing else can hide there.
"""

import re
from typing import Final

from rta_service.scoring.text_limits import FaultList, shown

_PARAMETER: Final = re.compile(rb"\[[a-z0-9_]{1,64}: .*\]|")
_IMPORTANCE: Final = re.compile(rb"(.+)=([1-9][0-9]{0,9})")
_PANDAS: Final = re.compile(rb"pandas_categorical:(?:null|\[.*\])")


class TailReader:
    """Goes through the sections in LightGBM's order; each may be missing, none may be cut."""

    def __init__(self, lines: list[bytes], end: int, faults: FaultList) -> None:
        self._lines = lines
        self._at = end + 1
        self._faults = faults

    def check(self, names: tuple[str, ...]) -> None:
        """Check all after `end of trees`; names none where the header did not say."""
        if self._opens(b"feature_importances:"):
            self._importances(names)
        if self._opens(b"parameters:"):
            self._parameters()
        if self._at + 1 < len(self._lines) and _PANDAS.fullmatch(self._lines[self._at + 1]):
            self._at += 2
        rest = self._lines[self._at :]
        if rest == [b""]:
            return
        if not rest:
            self._faults.add(len(self._lines), -1, "file", "its last line is cut off")
            return
        at = next((i for i, line in enumerate(rest) if line), 0)
        self._add(self._at + at, "file", f"{shown(rest[at])} after the end of the model")

    def _opens(self, title: bytes) -> bool:
        """Step into a section, which a blank line precedes."""
        found = self._lines[self._at : self._at + 2] == [b"", title]
        self._at += 2 * found
        return found

    def _add(self, at: int, field: str, reason: str) -> None:
        self._faults.add(at + 1, -1, field, reason)

    def _importances(self, names: tuple[str, ...]) -> None:
        known = {name.encode() for name in names}
        while self._at < len(self._lines) and self._lines[self._at]:
            match = _IMPORTANCE.fullmatch(self._lines[self._at])
            if not match:
                reason = f"{shown(self._lines[self._at])} is not a feature and a count"
                self._add(self._at, "feature_importances", reason)
            elif names and match[1] not in known:
                reason = f"{shown(match[1])} is no feature, or there twice"
                self._add(self._at, "feature_importances", reason)
            else:
                known.discard(match[1])
            self._at += 1

    def _parameters(self) -> None:
        seen: set[bytes] = set()
        while self._at < len(self._lines):
            line = self._lines[self._at]
            self._at += 1
            if line == b"end of parameters":
                return
            key = line.partition(b":")[0]
            if not _PARAMETER.fullmatch(line):
                self._add(self._at - 1, "parameters", f"{shown(line)} is not a parameter")
            elif line and key in seen:
                self._add(self._at - 1, "parameters", f"{shown(key)} is there twice")
            seen.add(key)
        self._faults.add(len(self._lines), -1, "parameters", "the file is cut off within them")
