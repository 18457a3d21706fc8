"""The rows of all heads, and which of them answer which head's question with what label."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.funnel import HeadSpec, Step
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.offline.training.impressions import STEP_CODES

_ALREADY: Final = {
    Step.DOWNLOAD: "already_downloaded",
    Step.ACTIVATE: "already_activated",
    Step.REGISTER: "already_registered",
}
"""Goals that a person reaches once, and how rows of those who had are counted."""

Column = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class HeadRows:
    """Rows of one head, in the order of their impressions; n rows."""

    matrix: NDArray[np.float64]
    """features.matrix [n, F], as of the impression."""
    labels: NDArray[np.float64]
    """0 or 1; of a value head micros. What is known when the log ends."""
    as_of_s: Column
    """The impression's instant, by which rows are split."""
    t_s: Column
    """The given event's instant."""
    known_s: Column
    """When the label is final: the end of its window."""
    delay_s: Column
    """From the given event to the goal, -1 where it was not (yet) reached."""
    stages: Column
    """LifecycleStage codes as of the impression."""
    tiers: Column
    """ValueTier codes as of the impression."""
    drawn: Flags
    """A fair sample; the other rows are positives that only trees may learn from."""
    negatives_kept: float
    """Share of the negatives that is here, while all positives are."""
    is_value: bool
    """Whether labels are money."""
    dropped: Mapping[str, int]
    """Rows left out: `unmatured` label windows, people who are `already_registered`."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def positives(self) -> int:
        """How many labels are not zero."""
        return int(np.count_nonzero(self.labels))

    def take(self, chosen: slice | NDArray[Any]) -> "HeadRows":
        """Give some of the rows, by a slice, by flags or by ascending numbers."""
        return replace(self, **{name: getattr(self, name)[chosen] for name in _COLUMNS})

    @property
    def fair(self) -> "HeadRows":
        """Give the fair sample: what may calibrate and evaluate."""
        return self if self.drawn.all() else self.take(self.drawn)


_COLUMNS: Final = (
    "matrix",
    "labels",
    "as_of_s",
    "t_s",
    "known_s",
    "delay_s",
    "stages",
    "tiers",
    "drawn",
)


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of all heads, computed once; columns of length n, in the order of impressions."""

    matrix: NDArray[np.float64]
    given: Column
    """STEP_CODES of the given event."""
    t_s: Column
    as_of_s: Column
    clicked_s: Column
    """The instant of the click that led there; of an exposure, its own."""
    amounts: Column
    """Micros paid by a trade, else 0."""
    drawn: Flags
    """Whether the row is part of a fair sample; False where it was kept for its outcome."""
    goal_s: Mapping[Step, Column]
    """When each goal was reached, 0 for never."""
    known_done: Mapping[Step, Flags]
    """Whether the record as of the impression says that a goal was reached; it may not know of
    other devices."""
    stages: Column
    tiers: Column
    end_s: int
    """Where the log ends: what happens later is not known."""
    unattributed: int
    """Downloads, activations and registrations without a click before them."""
    sampled_share: float
    exposures_share: float
    """Share of the exposures without a click that was kept; of those with one, all were."""
    thresholds: Thresholds | None
    """By which stages and tiers were cut; None where the log yields none."""

    def head_rows(self, spec: HeadSpec) -> HeadRows:
        """Select the rows of one head whose outcome is known, and label them."""
        return self._rows(spec, fresh=False)

    def fresh_rows(self, spec: HeadSpec) -> HeadRows:
        """Select the rows of one head whose window is not over: a 0 may yet become a 1."""
        return self._rows(spec, fresh=True)

    def _rows(self, spec: HeadSpec, *, fresh: bool) -> HeadRows:
        of_head = self.given == STEP_CODES[spec.given]
        window_s = round(spec.window_days * DAY_S)
        goal_s, wanted = self._goal(spec, of_head, window_s)
        known_s = (self.clicked_s if spec.kind == "value" else self.t_s) + window_s
        unknown = known_s > self.end_s
        hit = (goal_s >= self.t_s) & (goal_s > 0) & (goal_s <= self.t_s + window_s)
        if spec.goal is not Step.CLICK:  # kept for their click, which is not this outcome
            of_head = of_head & self.drawn
        kept = of_head & wanted & (unknown if fresh else ~unknown)
        dropped = {"unmatured": int(np.count_nonzero(of_head & unknown))}
        if spec.goal in _ALREADY:
            there_already = of_head & ~unknown & ~wanted
            dropped[_ALREADY[spec.goal]] = int(np.count_nonzero(there_already))
        return HeadRows(
            matrix=self.matrix[kept],
            labels=(self.amounts if spec.kind == "value" else hit)[kept].astype(np.float64),
            as_of_s=self.as_of_s[kept],
            t_s=self.t_s[kept],
            known_s=known_s[kept],
            delay_s=np.where(hit, goal_s - self.t_s, -1)[kept],
            stages=self.stages[kept],
            tiers=self.tiers[kept],
            drawn=self.drawn[kept],
            negatives_kept=self.exposures_share if spec.goal is Step.CLICK else 1.0,
            is_value=spec.kind == "value",
            dropped=dropped,
        )

    def _goal(self, spec: HeadSpec, of_head: Flags, window_s: int) -> tuple[Column, Flags]:
        """Give when the goal was reached, and which rows can be asked for it."""
        if spec.kind == "value":
            return self.t_s, of_head & (self.t_s <= self.clicked_s + window_s)
        goal_s = self.goal_s[spec.goal]
        if spec.goal not in _ALREADY:
            return goal_s, of_head
        between = (goal_s >= self.as_of_s) & (goal_s < self.t_s)
        return goal_s, of_head & ~(self.known_done[spec.goal] | between)
