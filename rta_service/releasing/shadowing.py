"""Models on trial score sampled traffic beside the live ones, off the request's way.

The control process does it, in a thread of its own that spends at most its share of one core.
Whatever a candidate does, only its own trial ends: the reason is shown, nothing else is touched.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.funnel import HeadKind
from rta_service.domain.release import ModelRef, Release
from rta_service.features import FEATURES, matrix
from rta_service.releasing.trials import Trial, trials_of
from rta_service.scoring.drift import Drift, compare
from rta_service.scoring.head import Head
from rta_service.stores.traffic_sample import TrafficSample

ROWS_A_LOOK: Final = 1_024
"""Newest rows taken at one look; the others are left out, not made up for."""
CHUNK: Final = 256
WINDOW: Final = 16_384
"""Newest rows that the figures are about."""
RETRY_LOOKS: Final = 30
"""A model that can't be loaded is tried again: its file may still be on its way to this host."""

Scores = NDArray[np.float64]


class ShadowReport(msgspec.Struct, frozen=True):
    """How one model on trial scores sampled traffic beside the live one, on this host."""

    name: str
    version: str
    against: str
    """The live version."""
    phase: str
    since_ms: int
    rows: int
    """Rows scored so far; `drift` is about the newest of them."""
    drift: Drift
    us_per_row: float
    """CPU time of one row in a call of up to CHUNK rows."""
    live_us_per_row: float
    stopped: str = ""
    """Why it is no longer scored."""


class ScoredPart(NamedTuple):
    """Rows that both models of a trial scored; arrays of length n."""

    sample: TrafficSample
    live: Scores
    candidate: Scores
    """NaN or beyond [0, 1] where the candidate failed."""
    live_us: float
    """CPU time of the call."""
    candidate_us: float
    kind: HeadKind


class Ledger(Protocol):
    """Who remembers what was scored: for the autopilot, and for outcomes to come."""

    def scored(self, trial: Trial, release: Release, part: ScoredPart) -> None:
        """Take rows in; never raises."""

    def keep(self, trials: list[Trial]) -> None:
        """Write what was taken in and forget other trials; never raises."""


class Surroundings(NamedTuple):
    """What the board lives on."""

    release: Callable[[], Release | None]
    """Gives the release that decides now; may raise StoreUnavailable."""
    load: Callable[[ModelRef], Head]
    """Makes a model ready; raises ModelRefused."""
    sample: Callable[[int, int], TrafficSample]
    """Gives at most so many rows later than an instant, newest first."""
    now_ms: Callable[[], int]
    cpu_s: Callable[[], float]
    """CPU time of this thread."""


@dataclass(slots=True)
class _Standing:
    """What is known of one trial."""

    trial: Trial
    since_ms: int
    live_head: Head | None = None
    head: Head | None = None
    rows: int = 0
    live_s: float = 0.0
    candidate_s: float = 0.0
    stopped: str = ""
    looks_left: int = 0
    """Before a model that could not be loaded is tried again."""
    window: Scores = field(default_factory=lambda: np.empty((2, 0)))

    def take(self, live: Scores, candidate: Scores) -> None:
        self.rows += len(live)
        self.window = np.hstack((self.window, (live, candidate)))[:, -WINDOW:]

    def report(self) -> ShadowReport:
        live, candidate = self.window
        per_row = 1e6 / max(self.rows, 1)
        return ShadowReport(
            name=self.trial.name,
            version=self.trial.candidate.version,
            against=self.trial.live.version,
            phase=self.trial.phase.value,
            since_ms=self.since_ms,
            rows=self.rows,
            drift=compare(live, candidate),
            us_per_row=self.candidate_s * per_row,
            live_us_per_row=self.live_s * per_row,
            stopped=self.stopped,
        )


class ShadowBoard:
    """Scores what is on trial, and says how it did."""

    def __init__(
        self, around: Surroundings, ledger: Ledger, show: Callable[[list[ShadowReport]], None]
    ) -> None:
        """`show` is called with all reports after every look."""
        self._around = around
        self._ledger = ledger
        self._show = show
        self._standings: dict[Trial, _Standing] = {}
        self._reports: list[ShadowReport] = []
        self._after_ms = 0
        self._looks = 0

    def report(self) -> list[ShadowReport]:
        """Give what the last look came to; from any thread."""
        return self._reports

    def look(self) -> None:
        """Score the rows that came since the last look.

        Raises StoreUnavailable when the release can't be read; a candidate's failures end in its
        report.
        """
        release = self._around.release()
        trials = trials_of(release)
        if release is not None and trials:
            self._compare(release, trials)
        if trials or self._standings:
            self._ledger.keep(trials)
        self._standings = {trial: self._standings[trial] for trial in trials}
        self._reports = [standing.report() for standing in self._standings.values()]
        self._show(self._reports)

    def _compare(self, release: Release, trials: list[Trial]) -> None:
        for trial in trials:
            self._prepare(trial)
        sample = self._around.sample(ROWS_A_LOOK, self._after_ms)
        if not len(sample):
            return
        self._after_ms = int(sample.instants_ms[0])
        self._looks += 1
        for start in range(0, len(sample), CHUNK):
            part = sample.part(slice(start, start + CHUNK))
            inputs = matrix(part.rows)
            for trial in trials:
                standing = self._standings[trial]
                if not standing.stopped:
                    self._score(release, standing, part, inputs)

    def _prepare(self, trial: Trial) -> None:
        """Load both models of a trial; what can't be loaded is tried again later."""
        standing = self._standings.get(trial)
        if standing is None:
            standing = _Standing(trial, self._around.now_ms())
            self._standings[trial] = standing
        if standing.head is not None:
            return
        standing.looks_left -= 1
        if standing.looks_left >= 0:
            return
        try:
            heads = [self._around.load(ref) for ref in (trial.live, trial.candidate)]
            for head in heads:
                head.probabilities(np.zeros((1, len(FEATURES))))  # the first call is the slow one
        except Exception as error:  # noqa: BLE001 - a broken candidate must not end the others' trials; it is shown
            standing.stopped = f"can't be loaded, is tried again: {error}"
            standing.looks_left = RETRY_LOOKS
            return
        standing.live_head, standing.head = heads
        standing.stopped = ""

    def _score(
        self, release: Release, standing: _Standing, part: TrafficSample, inputs: Scores
    ) -> None:
        live_head, head = standing.live_head, standing.head
        if live_head is None or head is None:
            return
        # in turn, or the second would always find the rows in the processor's cache
        in_order = (live_head, head) if self._looks % 2 else (head, live_head)
        try:
            answers = {one: self._timed(one, inputs) for one in in_order}
        except Exception as error:  # noqa: BLE001 - see above
            standing.stopped = f"failed while scoring: {type(error).__name__}: {error}"
            nothing = np.full(len(part), np.nan)
            answers = dict.fromkeys(in_order, (nothing, 0.0))
        (live, live_s), (candidate, candidate_s) = answers[live_head], answers[head]
        kind = head.manifest.kind
        scored = ScoredPart(part, live, candidate, 1e6 * live_s, 1e6 * candidate_s, kind)
        self._ledger.scored(standing.trial, release, scored)
        standing.stopped = standing.stopped or _wrong(head, candidate)
        if not standing.stopped:
            standing.take(live, candidate)
            standing.live_s += live_s
            standing.candidate_s += candidate_s

    def _timed(self, head: Head, inputs: Scores) -> tuple[Scores, float]:
        started = self._around.cpu_s()
        scores = head.probabilities(inputs)
        if scores.shape != (len(inputs),):
            raise ValueError(f"gave {scores.shape} scores for {len(inputs)} rows")
        return scores, self._around.cpu_s() - started


def _wrong(head: Head, scores: Scores) -> str:
    """Say what is wrong with a candidate's scores; empty when nothing is."""
    highest = 1.0 if head.manifest.kind == "probability" else np.inf
    wrong = scores[~((scores >= 0.0) & (scores <= highest) & np.isfinite(scores))]
    return f"gave {wrong[0]} for a row of real traffic" if len(wrong) else ""
