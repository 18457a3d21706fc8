"""Whether the decision workers of a host decide by one release."""

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

from rta_service.telemetry.cells import Cells
from rta_service.telemetry.registry import FIRST_CELL, RELEASE_AGE, RELEASE_TAKEN

DECISION: Final = "decision-"
"""What the names of decision workers begin with."""

_MADE: Final = FIRST_CELL[RELEASE_AGE.name]
_TAKEN: Final = FIRST_CELL[RELEASE_TAKEN.name]


class Skew(NamedTuple):
    """How many releases decide at once."""

    versions: int
    since_s: float
    """When the second one was taken up, seconds since 1970; not-a-number without a second."""

    def lasted_s(self, now_s: float) -> float:
        """Give how long there has been more than one; 0 when there is not."""
        return 0.0 if math.isnan(self.since_s) else max(now_s - self.since_s, 0.0)


def skew_of(gauges: Mapping[str, Cells]) -> Skew:
    """Compare what the running decision workers are on; one without a release is on none.

    Releases are told apart by the instant of their making, which also names them.
    """
    first_taken: dict[float, float] = {}
    for process, cells in gauges.items():
        made, taken = float(cells[_MADE]), float(cells[_TAKEN])
        if process.startswith(DECISION) and not math.isnan(made):
            first_taken[made] = min(taken, first_taken.get(made, math.inf))
    if len(first_taken) <= 1:
        return Skew(len(first_taken), math.nan)
    return Skew(len(first_taken), sorted(first_taken.values())[1])
