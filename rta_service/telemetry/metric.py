"""What a metric is: its name, labels with their closed values, and the shape of its cells."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """How a metric's cells are merged over processes, and what it looks like when scraped."""

    COUNTER = "counter"
    GAUGE = "gauge"
    AGE = "age"
    """A gauge whose cell holds an instant; the scrape shows how long ago it was."""
    SUMMARY = "summary"
    HISTOGRAM = "histogram"
    DERIVED = "derived"
    """A gauge without cells, computed at the scrape."""


PER_PROCESS: Final = frozenset({Kind.GAUGE, Kind.AGE})
"""Kinds that are shown for each process instead of being summed."""


@dataclass(frozen=True, slots=True)
class Label:
    """A label and all the values it can ever have, in the order of their cells."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric and the shape of its cells: one axis a label, then the cells of a series."""

    name: str
    kind: Kind
    meaning: str
    unit: str
    labels: tuple[Label, ...] = ()
    bounds: tuple[float, ...] = ()
    """Inclusive upper bounds of a histogram's buckets; one more bucket holds the rest."""
    sparse: bool = False
    """Show only the series that ever counted something."""

    @property
    def width(self) -> int:
        """Cells of one series: a histogram has its buckets and the sum, a summary count and sum."""
        if self.kind is Kind.HISTOGRAM:
            return len(self.bounds) + 2
        return {Kind.SUMMARY: 2, Kind.DERIVED: 0}.get(self.kind, 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of values of each label, then the width of a series."""
        return (*(len(label.values) for label in self.labels), self.width)

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels in the order of the axes."""
        return tuple(label.name for label in self.labels)
