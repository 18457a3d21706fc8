"""What is known of a trial so far: sums and counts of bounded size that can be merged in any order.

A trial is one candidate version against one live version of the same model. Both score the same
sampled rows, whoever decided, so that most of what is asked of the candidate is answered by pairs
before it decides for anybody.
"""

from math import sqrt
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

SCORE_BINS: Final = 64
"""Bins of scores, of equal width in the logarithm from LOWEST_SCORE to 1."""
LOWEST_SCORE: Final = 1e-5
LATENCY_BINS: Final = 192
"""Bins of times, eight an octave, from a microsecond to 16 seconds."""
RATIO_BINS: Final = 64
"""Bins of candidate's time over live's, eight an octave, from 1/16 to 16."""
BINS_AN_OCTAVE: Final = 8
MAX_SEGMENTS: Final = 64
REST: Final = "rest"
"""Segments that came after the first MAX_SEGMENTS."""


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Promised and come of the matured rows of one segment."""

    rows: int = 0
    positives: int = 0
    live: float = 0.0
    """Sum of the live model's predictions."""
    candidate: float = 0.0


class Moments(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A quantity of rows, enough for its mean and the mean's error."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    @property
    def mean(self) -> float:
        """Mean of the rows; 0 without any."""
        return self.total / self.count if self.count else 0.0

    @property
    def error(self) -> float:
        """Standard error of the mean; 0 without rows."""
        if not self.count:
            return 0.0
        variance = max(self.squares / self.count - self.mean**2, 0.0)
        return sqrt(variance / self.count)


def _no_scores() -> list[int]:
    return [0] * SCORE_BINS


def _no_pairs() -> list[int]:
    return [0] * SCORE_BINS**2


def _no_amounts() -> list[float]:
    return [0.0] * SCORE_BINS**2


def _no_promises() -> list[float]:
    return [0.0] * SCORE_BINS


def _no_times() -> list[int]:
    return [0] * LATENCY_BINS


def _no_ratios() -> list[int]:
    return [0] * RATIO_BINS


class ArmRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What came of the rows that one arm decided."""

    decided: int = 0
    participated: int = 0
    bid_micros: float = 0.0
    cost_micros: float = 0.0
    matured: int = 0
    positives: int = 0
    promised: float = 0.0
    """Sum of the deciding model's predictions over the matured rows."""
    surplus: Moments = Moments()
    """Value of conversions less cost, in units of money, a matured row each."""
    latency: list[int] = msgspec.field(default_factory=_no_times)
    """Counts of decision times in LATENCY_BINS."""


class Split(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """People met while one share was asked for, each counted once."""

    live: int = 0
    candidate: int = 0


class Evidence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is known of one candidate against one live version; versions never mix."""

    live: str
    candidate: str
    levels: dict[str, Level] = {}
    """Matured rows by segment; at most MAX_SEGMENTS and REST."""
    positive_pairs: list[int] = msgspec.field(default_factory=_no_pairs)
    """Matured positives by the two scores' bins: [live * SCORE_BINS + candidate]."""
    negative_pairs: list[int] = msgspec.field(default_factory=_no_pairs)
    positive_worth: list[float] = msgspec.field(default_factory=_no_amounts)
    """Sums of a conversion's squared value, in units of money, by the same bins."""
    negative_worth: list[float] = msgspec.field(default_factory=_no_amounts)
    worth_squares: float = 0.0
    """Sum of the fourth powers of the values."""
    live_promised: list[float] = msgspec.field(default_factory=_no_promises)
    """Sums of the matured rows' live scores, by their bin."""
    candidate_promised: list[float] = msgspec.field(default_factory=_no_promises)
    live_scores: list[int] = msgspec.field(default_factory=_no_scores)
    """Counts of the scores of all sampled rows, matured or not."""
    candidate_scores: list[int] = msgspec.field(default_factory=_no_scores)
    live_sum: float = 0.0
    candidate_sum: float = 0.0
    unsound: int = 0
    """Rows whose candidate score was no probability; they count nowhere else."""
    time_ratios: list[int] = msgspec.field(default_factory=_no_ratios)
    """Counts of timed calls by candidate's time over live's on the same rows."""
    arm_live: ArmRecord = ArmRecord()
    arm_candidate: ArmRecord = ArmRecord()
    people: dict[str, Split] = {}
    """By the share that was asked for, in millionths."""

    def merge(self, other: "Evidence") -> "Evidence":
        """Add what somebody else saw of the same trial; raises ValueError for another trial."""
        if (self.live, self.candidate) != (other.live, other.candidate):
            raise ValueError(
                f"evidence of {other.candidate} against {other.live} can't be added to"
                f" that of {self.candidate} against {self.live}"
            )
        parts = {
            name: _joined(getattr(self, name), getattr(other, name))
            for name in self.__struct_fields__
            if name not in {"live", "candidate"}
        }
        parts["levels"] = _bounded(parts["levels"])
        return Evidence(self.live, self.candidate, **parts)

    @property
    def level(self) -> Level:
        """The matured rows of all segments together."""
        total = Level()
        for one in self.levels.values():
            total = _joined(total, one)
        return total


def _joined(one: Any, other: Any) -> Any:
    """Add two of a kind: structs by field, dicts by key, lists by place, numbers."""
    if isinstance(one, msgspec.Struct):
        names = one.__struct_fields__
        return type(one)(*(_joined(getattr(one, name), getattr(other, name)) for name in names))
    if isinstance(one, dict):
        both = {key: _joined(one[key], other[key]) for key in one.keys() & other.keys()}
        return {**one, **other, **both}
    if isinstance(one, list):
        return (np.asarray(one) + np.asarray(other)).tolist()
    return one + other


def _bounded(levels: dict[str, Level]) -> dict[str, Level]:
    """Keep the first segments by name; what is beyond the bound goes to the rest."""
    if len(levels) <= MAX_SEGMENTS:
        return levels
    named = sorted(name for name in levels if name != REST)
    kept = {name: levels[name] for name in named[:MAX_SEGMENTS]}
    rest = levels.get(REST, Level())
    for name in named[MAX_SEGMENTS:]:
        rest = _joined(rest, levels[name])
    return {**kept, REST: rest}


def counts(histogram: list[int]) -> NDArray[np.int64]:
    """Give a histogram as an array, int64."""
    return np.asarray(histogram, dtype=np.int64)
