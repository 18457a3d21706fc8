"""Exact sums by the age of what was bought: fine slots while young, coarse ones when old.

A slot's width depends on its place and on the clock alone, so the sums of the same events are the
same whatever batches they came in. Everything is counted in integers: addition commutes exactly.
"""

from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

FINEST_MS: Final = 15_000
_WIDTHS: Final = FINEST_MS << np.arange(1, 18, dtype=np.int64)
"""Of the coarser slots: 30 s to 23 days; about three of each, some 40 for a day."""
_YOUNGEST: Final = 2
"""A coarse slot's youngest part is at least so many widths old: ages are known to a third."""
_MIDDLE: Final = np.array([1.0, 4.0, 1.0]) / 6.0


class AgedSums:
    """Sums in columns, by when it happened."""

    def __init__(self, columns: int) -> None:
        self.clock_ms = 0
        self.starts: Ints = np.empty(0, np.int64)
        self.sums: Ints = np.empty((0, columns), np.int64)

    def add(self, at_ms: Ints, rows: Ints) -> None:
        """Add rows int64[n, columns] of things that happened at times int64[n]."""
        fine = at_ms // FINEST_MS * FINEST_MS
        self._merge(np.concatenate([self.starts, fine]), np.concatenate([self.sums, rows]))

    def roll(self, now_ms: int) -> None:
        """Let time pass; it never goes back."""
        self.clock_ms = max(self.clock_ms, now_ms)
        self._merge(self.starts, self.sums)

    def merged(self, other: Self) -> "AgedSums":
        """Give the sums of both."""
        both = AgedSums(self.sums.shape[1])
        both.clock_ms = max(self.clock_ms, other.clock_ms)
        both.starts, both.sums = self.starts, self.sums
        both.add(other.starts, other.sums)
        return both

    def _merge(self, starts: Ints, rows: Ints) -> None:
        at, place = np.unique(starts, return_inverse=True)
        self.starts, coarser = np.unique(slot(at, self.clock_ms)[0], return_inverse=True)
        self.sums = np.zeros((len(self.starts), rows.shape[1]), np.int64)
        np.add.at(self.sums, coarser[place], rows)

    def ages(self) -> Floats:
        """Give float64[3, slots]: seconds since each slot's end, middle and start, at least 0."""
        starts, widths = slot(self.starts, self.clock_ms)
        parts = np.stack([starts + widths, starts + widths // 2, starts])
        return np.asarray(np.maximum(self.clock_ms - parts, 0) / 1000.0)

    def totals(self) -> Ints:
        """Give the sums of the columns, all ages together."""
        return np.asarray(self.sums.sum(axis=0))


def slot(at_ms: Ints, clock_ms: int) -> tuple[Ints, Ints]:
    """Give start and width of the slot that holds each time, as seen at a clock."""
    ends = (at_ms[:, None] // _WIDTHS + 1) * _WIDTHS
    level = (clock_ms - ends >= _YOUNGEST * _WIDTHS).sum(axis=1)
    width = FINEST_MS << level
    return at_ms // width * width, width


def over_slots(values: Floats) -> Floats:
    """Average over each slot a function of age, given at `ages()` (Simpson's rule)."""
    return np.asarray(np.tensordot(_MIDDLE, values, axes=1))


def fading(ages: Floats, half_life_s: float) -> Floats:
    """Weigh each slot by a half for every half-life of its age."""
    return over_slots(np.exp2(-ages / half_life_s))
