"""Whether the decision workers of a host decide by one release."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from rta_service.telemetry.cells import Cells
from rta_service.telemetry.registry import FIRST_CELL, RELEASE_AGE, RELEASE_TAKEN
from rta_service.telemetry.totals import read_all

DECISION: Final = "decision-"
"""What the names of decision workers begin with."""

ALARM_S: Final = 2.0
"""A switch takes a quarter of a second; after this long a worker was left behind."""

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


class SkewAlarm:
    """Says once that workers decide by different releases, and once that they agree again."""

    def __init__(self, run_dir: Path, now_ms: Callable[[], int], say: Callable[..., None]) -> None:
        self._run_dir = run_dir
        self._now_ms = now_ms
        self._say = say
        self._raised = False

    def look(self) -> None:
        """Compare the workers now."""
        skew = skew_of(read_all(self._run_dir).gauges)
        lasted_s = skew.lasted_s(self._now_ms() / 1000)
        if lasted_s > ALARM_S and not self._raised:
            self._say("version_skew", versions=str(skew.versions), lasted_s=f"{lasted_s:.1f}")
            self._raised = True
        elif lasted_s == 0 and self._raised:
            self._say("version_skew_over")
            self._raised = False
