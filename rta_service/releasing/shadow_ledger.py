"""What shadow scoring leaves in the store: observations for the autopilot, pairs for outcomes."""

import struct
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.clock import Clock
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.platform import PLATFORM_CODES
from rta_service.domain.release import Release
from rta_service.domain.rollout import Phase
from rta_service.domain.user import LifecycleStage
from rta_service.nearline.autopilot.evidence import Evidence, Split
from rta_service.nearline.autopilot.observing import (
    Observation,
    count_people,
    observe,
    time_calls,
)
from rta_service.releasing.shadowing import ScoredPart
from rta_service.releasing.trials import Trial
from rta_service.stores.traffic_sample import (
    FLAG_CANARY,
    FLAG_FIRST_MET,
    FLAG_PARTICIPATED,
    TrafficSample,
)
from rta_service.stores.trial_store import DAY_MS, TrialStore

KEPT_EVERY_S: Final = 10.0
"""Observations are written this often; a kill loses those of the last seconds, which matters to
nobody: they are a sample."""

Flags = NDArray[np.bool_]

_HEAD: Final = struct.Struct("<BBBx")
_PAIR: Final = struct.Struct("<Iff")
_PLATFORMS: Final = {code: name for name, code in PLATFORM_CODES.items()}


class Observed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one place's sampled traffic says of a trial."""

    phase: str
    since_ms: int
    """When this place first looked at the trial in this phase."""
    until_ms: int
    """Instant of the newest row; after a restart no row is counted twice."""
    evidence: Evidence


class Pair(NamedTuple):
    """Both models' scores of one sampled request, and where it belongs."""

    live: float
    candidate: float
    is_candidate: bool
    """Whether the candidate's arm decided."""
    segment: str


@dataclass(slots=True)
class _Taking:
    """A trial that is being looked at."""

    phase: Phase
    since_ms: int
    skip_ms: int
    """Rows up to here were counted before this process began."""
    until_ms: int
    evidence: Evidence

    def as_bytes(self) -> bytes:
        kept = Observed(self.phase, self.since_ms, self.until_ms, self.evidence)
        return msgspec.json.encode(kept)


class ShadowLedger:
    """Remembers what one place's board scored; the store being away costs only what was sampled."""

    def __init__(self, store: Callable[[], TrialStore], place: str, clock: Clock) -> None:
        """`place` names this board among all that share the store."""
        self._store = store
        self._place = place
        self._clock = clock
        self._takings: dict[str, _Taking] = {}
        self._pairs: defaultdict[int, dict[int, bytes]] = defaultdict(dict)
        self._kept_s = clock.monotonic_s()

    def scored(self, trial: Trial, release: Release, part: ScoredPart) -> None:
        """Take rows in; of heads that predict money nothing is judged yet. Never raises."""
        if part.kind != "probability":
            return
        taking = self._taking(trial)
        instants = part.sample.instants_ms
        new = instants > taking.skip_ms
        is_candidate = np.isfinite(part.sample.scores_of(trial.name, trial.candidate.version))
        if new.any():
            taking.evidence = _observed(taking.evidence, part, new, is_candidate)
            if trial.phase is Phase.CANARY and release.canary is not None:
                share = release.canary.share_millionths
                split = _people(part.sample, release.release_id, new)
                taking.evidence = count_people(taking.evidence, share, split)
        taking.until_ms = max(taking.until_ms, int(instants.max()))
        self._note_pairs(trial, part, is_candidate)

    def keep(self, trials: list[Trial]) -> None:
        """Write what was taken in and forget other trials; never raises."""
        gone = self._takings.keys() - {trial.key for trial in trials}
        now_s = self._clock.monotonic_s()
        if not gone and now_s - self._kept_s < KEPT_EVERY_S:
            return
        self._kept_s = now_s
        pairs, self._pairs = self._pairs, defaultdict(dict)
        try:
            for key, taking in self._takings.items():
                self._store().keep_observed(key, self._place, taking.as_bytes())
            for day, found in pairs.items():
                self._store().keep_pairs(day, found)
        except StoreUnavailable:
            return  # the next turn writes all observations again; these pairs are lost
        for key in gone:
            del self._takings[key]

    def _taking(self, trial: Trial) -> _Taking:
        """Give what is known of a trial, also from before this process began."""
        taking = self._takings.get(trial.key)
        if taking is None:
            taking = self._read(trial)
            self._takings[trial.key] = taking
        if taking.phase is not trial.phase:
            taking.phase, taking.since_ms = trial.phase, self._clock.now_ms()
        return taking

    def _read(self, trial: Trial) -> _Taking:
        try:
            kept = self._store().observed(trial.key).get(self._place, b"")
            found = msgspec.json.decode(kept, type=Observed)
        except (StoreUnavailable, msgspec.MsgspecError):
            fresh = Evidence(trial.live.version, trial.candidate.version)
            return _Taking(trial.phase, self._clock.now_ms(), 0, 0, fresh)
        until = found.until_ms
        return _Taking(Phase(found.phase), found.since_ms, until, until, found.evidence)

    def _note_pairs(self, trial: Trial, part: ScoredPart, is_candidate: Flags) -> None:
        """Remember the scores of rows that an outcome can come of: those answered yes."""
        sample = part.sample
        sound = (part.candidate >= 0.0) & (part.candidate <= 1.0) & np.isfinite(part.live)
        wanted = sample.has(FLAG_PARTICIPATED) & (sample.tags > 0) & sound
        for row in np.flatnonzero(wanted).tolist():
            pairs = self._pairs[int(sample.instants_ms[row]) // DAY_MS]
            tag = int(sample.tags[row])
            platform = int(sample.rows.platform[row])
            place = _HEAD.pack(int(is_candidate[row]), int(sample.stages[row]), platform)
            scores = _PAIR.pack(trial.code, part.live[row], part.candidate[row])
            pairs[tag] = pairs.get(tag, place) + scores


def read_pair(kept: bytes, trial: Trial) -> Pair | None:
    """Find a trial's scores in what was kept of a request; None when they are not there."""
    if len(kept) < _HEAD.size or (len(kept) - _HEAD.size) % _PAIR.size:
        return None
    is_candidate, stage, platform = _HEAD.unpack_from(kept)
    for code, live, candidate in _PAIR.iter_unpack(kept[_HEAD.size :]):
        if code == trial.code:
            name = _PLATFORMS.get(platform, "other")
            segment = segment_name(LifecycleStage(stage).label, name)
            return Pair(live, candidate, bool(is_candidate), segment)
    return None


def segment_name(stage: str, platform: str) -> str:
    """Name a segment of people that is judged by itself."""
    return f"{stage}/{platform}"


def _observed(evidence: Evidence, part: ScoredPart, new: Flags, is_candidate: Flags) -> Evidence:
    sample = part.sample
    batch = Observation(
        live_scores=part.live[new],
        candidate_scores=part.candidate[new],
        is_candidate=is_candidate[new],
        participated=sample.has(FLAG_PARTICIPATED)[new],
        bid_micros=np.zeros(int(new.sum())),
        latency_us=sample.latency_us[new].astype(np.float64),
    )
    times = (np.array([part.live_us]), np.array([part.candidate_us]))
    return time_calls(observe(evidence, batch), *times)


def _people(sample: TrafficSample, release_id: str, new: Flags) -> Split:
    """Count people met for the first time under a release, by the arm that decided for them."""
    ours = [line_up.release_id == release_id for line_up in sample.line_ups]
    here = np.array(ours, dtype=bool)[sample.line_up_of]
    first = sample.has(FLAG_FIRST_MET) & here & new
    candidate = int((first & sample.has(FLAG_CANARY)).sum())
    return Split(int(first.sum()) - candidate, candidate)
