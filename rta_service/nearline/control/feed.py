"""What a control unit learns from: wins and conversions, as columns of equal length."""

from dataclasses import dataclass, field
from typing import Final, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rta_service.domain.control import MICROS, CostGoal
from rta_service.domain.errors import InvalidInput

Ints = NDArray[np.int64]
_T = TypeVar("_T", bound=np.generic)

NANO: Final = 1_000_000_000
"""Predictions are added up in billionths of a conversion, exactly."""


@dataclass(frozen=True)
class Wins:
    """Impressions (or clicks) that were bought; `value` is predicted money in currency units."""

    won_at_ms: ArrayLike
    cost_micros: ArrayLike
    shallow: ArrayLike
    """Predicted conversions, uncorrected: the unit finds their scale."""
    deep: ArrayLike = 0.0
    value: ArrayLike = 0.0
    told: ArrayLike = 1
    """0 for rows of which nothing was predicted, such as a report's cost."""


@dataclass(frozen=True)
class Conversions:
    """Conversions of SHALLOW or DEEP that arrived; a deep one's money counts for VALUE too."""

    goal: CostGoal
    won_at_ms: ArrayLike
    """When the impression was won to which it is credited."""
    converted_at_ms: ArrayLike
    value_micros: ArrayLike = field(default=0)
    count: ArrayLike = 1
    """1, or -1 to take one back with its money, or 0 for money alone, such as a refund."""


@dataclass(frozen=True)
class Origin:
    """Who sent a batch, and its number in that sender's rising count."""

    sender: str
    number: int


def integers(column: ArrayLike, rows: int, name: str) -> Ints:
    """Read a column of whole numbers. Raises InvalidInput for another length."""
    read = np.asarray(column)
    if read.dtype.kind == "f" and not np.isfinite(read).all():
        raise InvalidInput(f"{name}: not a number in a column of whole numbers")
    return _same_length(np.rint(read).astype(np.int64), rows, name)


def predictions(column: ArrayLike, rows: int, name: str) -> tuple[Ints, Ints]:
    """Read predictions in billionths, and say which rows were no numbers; those count as 0."""
    read = _same_length(np.asarray(column, np.float64), rows, name)
    sound = (read >= 0.0) & (read < float(MICROS))
    return np.rint(np.where(sound, read, 0.0) * NANO).astype(np.int64), (~sound).astype(np.int64)


def _same_length(read: NDArray[_T], rows: int, name: str) -> NDArray[_T]:
    if read.ndim == 0:
        return np.full(rows, read)
    if read.shape != (rows,):
        raise InvalidInput(f"{name}: {read.shape} where the batch has {rows} rows")
    return read
