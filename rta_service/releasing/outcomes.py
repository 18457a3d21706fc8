"""Matured labels in: each line once, folded into what is known of the models on trial.

Until events are followed by the service itself, a growth team brings the labels of decisions. A
line judges between two models only where both their scores of that row are known: they are found
under the request's tag if it was sampled, or had anew from the features that the line carries.
Otherwise it says how the deciding arm's own promises were kept, which is less but not nothing.
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from threading import Lock
from typing import Final, NamedTuple

import msgspec
import numpy as np

from rta_service.device_key import KeyRing
from rta_service.domain.clock import Clock
from rta_service.domain.errors import InvalidInput, ModelRefused, StoreUnavailable
from rta_service.nearline.autopilot.evidence import ArmRecord, Evidence, Moments
from rta_service.nearline.autopilot.observing import Outcomes as Settled, fresh_evidence, settle
from rta_service.releasing.outcome_lines import Fate, OutcomeLine, Window, feature_row, read_line
from rta_service.releasing.shadow_ledger import Pair, read_pair, segment_name
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.trials import Trial, trials_of
from rta_service.stores.trial_store import DAY_MS, Batch, TrialStore

LINES_A_BATCH: Final = 1_000
"""What is written at once; those before a failure stay taken, and sent again are duplicates."""
LINE_BYTES: Final = 16_384
_TRIES: Final = 50
_MICROS: Final = 1e6


@dataclass(slots=True)
class _Columns:
    """Rows of one trial that both models scored, on their way into arrays."""

    pairs: list[Pair] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    values: list[int] = field(default_factory=list)
    costs: list[int] = field(default_factory=list)

    def settled(self) -> Settled:
        segments, live, candidate, arms = (
            [getattr(pair, name) for pair in self.pairs]
            for name in ("segment", "live", "candidate", "is_candidate")
        )
        return Settled(
            segments=segments,
            live_scores=np.array(live),
            candidate_scores=np.array(candidate),
            labels=np.array(self.labels),
            is_candidate=np.array(arms, dtype=bool),
            value_micros=np.array(self.values, dtype=np.float64),
            cost_micros=np.array(self.costs, dtype=np.float64),
        )


class _New(NamedTuple):
    """A line that was not taken before."""

    number: int
    digest: bytes
    line: OutcomeLine


Pairs = Mapping[tuple[int, Trial], Pair]
"""Both scores by line number and trial."""


class Outcomes:
    """Takes outcomes in; may block."""

    def __init__(self, shelf: Callable[[], Shelf], keys: KeyRing, clock: Clock) -> None:
        self._shelf = shelf
        self._keys = keys
        self._clock = clock
        self._turn = Lock()

    def take(self, lines: Iterable[bytes], who: str) -> list[Fate]:
        """Take lines and say what became of each; empty lines are passed over.

        Accepted means written: sent again, a line is a duplicate, also after a kill at any
        moment. Raises StoreUnavailable when the store fails; then send all lines again.
        """
        numbered = ((n, text.strip()) for n, text in enumerate(lines, start=1))
        wanted = ((n, text) for n, text in numbered if text)
        return [fate for part in _parts(wanted) for fate in self._take_part(part, who)]

    def _take_part(self, part: Sequence[tuple[int, bytes]], who: str) -> Iterator[Fate]:
        shelf = self._shelf()
        window = Window(self._clock.now_ms(), [info.name for info in shelf.platforms])
        fates: dict[int, Fate] = {}
        read: list[_New] = []
        for number, text in part:
            found = _too_long(number) if len(text) > LINE_BYTES else read_line(number, text, window)
            if isinstance(found, Fate):
                fates[number] = found
            else:
                read.append(_New(number, _digest(found.id), found))
        with self._turn:  # only writers in other processes can then come between
            fates |= self._write(shelf, read, who)
        return (fates[number] for number, _ in part)

    def _write(self, shelf: Shelf, read: Sequence[_New], who: str) -> dict[int, Fate]:
        """Write what is new; worked out again if another batch came between."""
        store = TrialStore(shelf.client, shelf.namespace)
        today = self._clock.now_ms() // DAY_MS
        pairs: Pairs | None = None
        trials: list[Trial] = []
        for _ in range(_TRIES):
            after = store.batches()
            fates, new = _told_apart(store, read, today)
            if not new:
                return fates
            if pairs is None:  # they don't depend on what others write
                trials = trials_of(shelf.releases.current())
                pairs = self._pairs(shelf, store, trials, new)
            evidence = _folded(store, trials, new, pairs)
            if store.commit(after, Batch(who, today, _by_day(new), evidence)):
                return fates | {one.number: _accepted(one, trials, pairs) for one in new}
        raise StoreUnavailable("too many are writing outcomes at once; send them again")

    def _pairs(
        self, shelf: Shelf, store: TrialStore, trials: Sequence[Trial], new: Sequence[_New]
    ) -> Pairs:
        """Find both models' scores wherever they can be known."""
        found = self._kept_pairs(store, trials, new)
        for trial in trials:
            found |= _asked_anew(shelf, trial, new)
        return found

    def _kept_pairs(
        self, store: TrialStore, trials: Sequence[Trial], new: Sequence[_New]
    ) -> dict[tuple[int, Trial], Pair]:
        asked = [one for one in new if one.line.request_id and one.line.features is None]
        tags = [self._keys.request_tag(o.line.platform, o.line.request_id) for o in asked]
        days = [one.line.ts_ms // DAY_MS for one in asked]
        kept = store.pairs(zip(tags, days, strict=True))
        found = {
            (one.number, trial): read_pair(kept[tag], trial)
            for one, tag in zip(asked, tags, strict=True)
            if tag in kept
            for trial in trials
            if trial.name in one.line.labels
        }
        return {place: pair for place, pair in found.items() if pair is not None}


def _asked_anew(shelf: Shelf, trial: Trial, new: Sequence[_New]) -> dict[tuple[int, Trial], Pair]:
    """Score rows that bring their features with both models of a trial."""
    asked = [one for one in new if one.line.features is not None and trial.name in one.line.labels]
    if not asked:
        return {}
    rows = np.array([feature_row(one.line) for one in asked])
    try:
        heads = [shelf.heads.load(shelf.models_folder, r) for r in (trial.live, trial.candidate)]
    except ModelRefused:
        return {}  # a model this host can't load: its board says so, and the labels still count
    if any(head.manifest.kind != "probability" for head in heads):
        return {}
    live, candidate = (head.probabilities(rows).tolist() for head in heads)
    version = trial.candidate.version
    return {
        (one.number, trial): Pair(
            live_score,
            candidate_score,
            one.line.models.get(trial.name) == version,
            segment_name(one.line.stage, one.line.platform),
        )
        for one, live_score, candidate_score in zip(asked, live, candidate, strict=True)
    }


def _folded(
    store: TrialStore, trials: Sequence[Trial], new: Sequence[_New], pairs: Pairs
) -> dict[str, bytes]:
    """Add new lines to the evidence of every trial that they are about."""
    written: dict[str, bytes] = {}
    for trial in trials:
        about = [one for one in new if trial.name in one.line.labels]
        if not about:
            continue
        kept = store.evidence(trial.key)
        evidence = fresh_evidence(trial.live.version, trial.candidate.version, kept)
        written[trial.key] = msgspec.json.encode(_with_lines(evidence, trial, about, pairs))
    return written


def _with_lines(evidence: Evidence, trial: Trial, about: Sequence[_New], pairs: Pairs) -> Evidence:
    columns = _Columns()
    alone: defaultdict[str, list[OutcomeLine]] = defaultdict(list)
    for one in about:
        pair = pairs.get((one.number, trial))
        if pair is None:
            alone[one.line.models.get(trial.name, "")].append(one.line)
            continue
        columns.pairs.append(pair)
        columns.labels.append(one.line.labels[trial.name])
        columns.values.append(one.line.value_micros)
        columns.costs.append(one.line.cost_micros)
    if columns.pairs:
        evidence = settle(evidence, columns.settled())
    return evidence.merge(
        Evidence(
            evidence.live,
            evidence.candidate,
            arm_live=_arm(trial.name, alone[trial.live.version]),
            arm_candidate=_arm(trial.name, alone[trial.candidate.version]),
        )
    )


def _arm(head: str, lines: Sequence[OutcomeLine]) -> ArmRecord:
    """Say what came of lines of which only the deciding model's score is known."""
    told = [line for line in lines if head in line.scores]
    gains = [(line.value_micros * line.labels[head] - line.cost_micros) / _MICROS for line in told]
    return ArmRecord(
        cost_micros=float(sum(line.cost_micros for line in told)),
        matured=len(told),
        positives=sum(line.labels[head] for line in told),
        promised=sum(line.scores[head] for line in told),
        surplus=Moments(len(told), sum(gains), sum(gain * gain for gain in gains)),
    )


def _told_apart(
    store: TrialStore, read: Sequence[_New], today: int
) -> tuple[dict[int, Fate], list[_New]]:
    """Tell lines taken before, and repeated ones, from new ones."""
    known = store.known([one.digest for one in read], today)
    fates: dict[int, Fate] = {}
    new: dict[bytes, _New] = {}
    for one, is_known in zip(read, known, strict=True):
        if is_known or one.digest in new:
            fates[one.number] = Fate(one.number, "duplicate", one.line.id)
        else:
            new[one.digest] = one
    return fates, list(new.values())


def _accepted(one: _New, trials: Sequence[Trial], pairs: Pairs) -> Fate:
    count = sum((one.number, trial) in pairs for trial in trials)
    return Fate(one.number, "accepted", one.line.id, pairs=count)


def _by_day(new: Sequence[_New]) -> dict[int, list[bytes]]:
    days: defaultdict[int, list[bytes]] = defaultdict(list)
    for one in new:
        days[one.line.ts_ms // DAY_MS].append(one.digest)
    return days


def _digest(outcome_id: str) -> bytes:
    """Hash an id to 10 bytes: of a thousand million ids, none meets another by chance."""
    return hashlib.blake2b(outcome_id.encode(), digest_size=10).digest()


def _too_long(number: int) -> Fate:
    return Fate(number, "rejected", reason=f"is longer than {LINE_BYTES:,} bytes")


def _parts(
    lines: Iterator[tuple[int, bytes]],
) -> Iterator[list[tuple[int, bytes]]]:
    while part := list(islice(lines, LINES_A_BATCH)):
        yield part


def read_lines(body: bytes) -> list[bytes]:
    """Split a body into its lines; raises InvalidInput for one without any."""
    lines = body.split(b"\n")
    if not any(line.strip() for line in lines):
        raise InvalidInput("has no lines; send one JSON object a line", "outcomes")
    return lines
