"""Calibration of parts of the evaluation rows: by platform, placement, stage, tier, with intervals."""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from rta_service.domain.device import OperatingSystem, Placement
from rta_service.domain.platform import PLATFORM_CODES
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.features import FEATURE_NAMES
from rta_service.offline.training.dataset import HeadRows

FloatColumn = NDArray[np.float64]
Column = NDArray[np.int64]

SOLID_POSITIVES: Final = 1_000
"""Above this, the interval is narrower than 7 % either way, and a slice can be held to account."""

_TAIL: Final = 0.025
_Z: Final = 1.96
_NO_WORD: Final = "not told"

_PLATFORMS: Final = {code: name for name, code in PLATFORM_CODES.items()}


class Slice(NamedTuple):
    """Mean prediction over what came of it in some of the rows, with its 95 % interval."""

    name: str
    rows: int
    positives: int
    pcoc: float
    """Infinite without a positive."""
    low: float
    high: float

    @property
    def is_solid(self) -> bool:
        """Whether there are enough positives to judge by."""
        return self.positives >= SOLID_POSITIVES


def slices(rows: HeadRows, predictions: FloatColumn) -> Mapping[str, tuple[Slice, ...]]:
    """Cut the rows by each kind of slice; parts without rows are left out."""
    platforms = _codes(rows, "platform")
    stages = {int(stage): stage.label for stage in LifecycleStage}
    by = {
        "platform": (platforms, _PLATFORMS),
        "placement": (_codes(rows, "placement"), _words(Placement)),
        "os": (_codes(rows, "os"), _words(OperatingSystem)),
        "stage": (rows.stages, stages),
        "tier": (rows.tiers, {int(tier): tier.label for tier in ValueTier}),
        "stage x platform": (
            rows.stages * len(_PLATFORMS) + platforms,
            {
                stage * len(_PLATFORMS) + platform: f"{word} x {name}"
                for stage, word in stages.items()
                for platform, name in _PLATFORMS.items()
            },
        ),
    }
    return {
        kind: tuple(_cut(rows, predictions, codes, names)) for kind, (codes, names) in by.items()
    }


def _words(kinds: type[OperatingSystem] | type[Placement]) -> dict[int, str]:
    return {int(kind): kind.label if int(kind) else _NO_WORD for kind in kinds}


def _codes(rows: HeadRows, feature: str) -> Column:
    return rows.matrix[:, FEATURE_NAMES.index(feature)].astype(np.int64)


def _cut(
    rows: HeadRows, predictions: FloatColumn, codes: Column, names: Mapping[int, str]
) -> Iterable[Slice]:
    for code, name in names.items():
        chosen = codes == code
        if chosen.any():
            yield slice_of(name, rows.labels[chosen], predictions[chosen], is_value=rows.is_value)


def slice_of(name: str, labels: FloatColumn, predictions: FloatColumn, *, is_value: bool) -> Slice:
    """Judge some rows, labels and predictions [n].

    The count of positives is taken as Poisson's (Garwood's exact interval), the mean of amounts as
    normal on the log scale. Both take rows as independent: one person's rows are not, so true
    intervals are a little wider.
    """
    promised, found = float(np.sum(predictions)), float(np.sum(labels))
    rows, positives = len(labels), int(np.count_nonzero(labels))
    if found <= 0.0:
        return Slice(name, rows, 0, np.inf, promised / _poisson_high(0), np.inf)
    ratio = promised / found
    if is_value:
        error = float(np.std(labels) / np.mean(labels) / np.sqrt(rows))
        low, high = ratio * np.exp(-_Z * error), ratio * np.exp(_Z * error)
        return Slice(name, rows, positives, ratio, float(low), float(high))
    low, high = promised / _poisson_high(positives), promised / _poisson_low(positives)
    return Slice(name, rows, positives, ratio, low, high)


def _poisson_high(count: int) -> float:
    return float(gammaincinv(count + 1, 1.0 - _TAIL))


def _poisson_low(count: int) -> float:
    return float(gammaincinv(count, _TAIL))
