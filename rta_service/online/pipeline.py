"""The life of a batch of requests. READ THIS FIRST.

    ids -> keys (identity) -> records, one round trip (profiles) -> stage, free checks (policy)
        -> one call per model for the rows still alive (score) -> bids (bid; under cost control
        steering) -> decisions
        -> tags on what platforms give back (tagging)

A batch is the requests of one event-loop tick. It takes the live release once at its start, so
no answer mixes two. It never raises: what goes wrong becomes a reason code and a safe answer.
All steps but the reading are plain functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rta_service.device_key import KeyRing
from rta_service.domain.clock import Clock
from rta_service.domain.decision import Arm, Decision
from rta_service.domain.device import IdKind
from rta_service.domain.errors import DeadlineExceeded, SnapshotMissing, StoreUnavailable
from rta_service.domain.reason import PARTICIPATING, ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.domain.tag import TagCodec
from rta_service.online import identity, policy
from rta_service.online.answers import decline_all, degrade_all, finish, refuse_unknown
from rta_service.online.control_desk import ControlDesk
from rta_service.online.identity import ResolvedId
from rta_service.online.live_release import LiveRelease, prediction
from rta_service.online.person import Person, find_person
from rta_service.online.pricing import Verdict, declined, price_strategy
from rta_service.online.profiles import ProfileReader, read_batch
from rta_service.online.score import Candidate, Scores, score
from rta_service.online.tagging import tagged


@dataclass(slots=True)
class BatchOutcome:
    """The decisions of a batch, in its order, and the facts that metrics want."""

    decisions: list[Decision]
    seen_kinds: list[list[IdKind]] = field(default_factory=list)
    """The kinds of each request's usable ids."""
    matched_kinds: list[list[IdKind]] = field(default_factory=list)
    """Those of them under which a record was found."""
    read_s: float = 0.0
    decide_s: float = 0.0
    failure: Exception | None = None
    """What went wrong, if anything did; some or all decisions are then degraded."""
    scored: "list[Scored]" = field(default_factory=list)
    """The rows that models were asked about, for whoever samples the traffic."""
    people: "list[Person | None]" = field(default_factory=list)
    """Who stands behind each request, for whoever records decisions; empty where none was sought."""
    live: LiveRelease | None = None
    """What decided."""
    desk: ControlDesk | None = None
    """What steered strategies under cost control."""


class Found(NamedTuple):
    """One request with its usable ids and the records under them."""

    request: AdRequest
    ids: list[ResolvedId]
    records: list[bytes | None]


class Scored(NamedTuple):
    """One person whom models were asked about, and what they said; references only."""

    candidate: Candidate
    person_key: int
    arm: Arm
    scores: Scores
    row: int = 0
    """Position of the request in its batch, where its decision and versions are."""


class Decided(NamedTuple):
    """The decisions of a batch and its people, in its order, and the rows that were scored."""

    decisions: list[Decision]
    people: list[Person | None]
    scored: list[Scored]


class Asked(NamedTuple):
    """One request, who stands behind it, and the judgements."""

    request: AdRequest
    person: Person | None
    verdicts: Sequence[Verdict]


class Pipeline:
    """Decides batches; holds the live release, which the watcher replaces as a whole."""

    def __init__(
        self,
        reader: ProfileReader,
        keys: KeyRing,
        clock: Clock,
        tags: TagCodec | None = None,
        desk: ControlDesk | None = None,
    ) -> None:
        self.live: LiveRelease | None = None
        self.absence = ReasonCode.NO_RELEASE
        """Why there is no live release: none was published, or the store could not be asked."""
        self._reader = reader
        self._keys = keys
        self._clock = clock
        self._tags = tags
        self._desk = desk

    async def decide(self, batch: Sequence[AdRequest], deadline_s: float) -> BatchOutcome:
        """Answer a batch before a deadline on the monotonic clock. Never raises."""
        live = self.live
        if live is None:
            return BatchOutcome([decline_all(r, self.absence) for r in batch])
        outcome = await self._answered(live, batch, deadline_s)
        if self._tags is not None:
            self._put_tags(self._tags, batch, outcome)
        return outcome

    def degrade(self, request: AdRequest, reason: ReasonCode) -> Decision:
        """Answer a request that can't be decided, as its strategies chose for such a moment.

        Without a tag: it is said to be given when there is no time for anything.
        """
        live = self.live
        return decline_all(request, reason) if live is None else degrade_all(live, request, reason)

    async def _answered(
        self, live: LiveRelease, batch: Sequence[AdRequest], deadline_s: float
    ) -> BatchOutcome:
        try:
            return await self._decide(live, batch, deadline_s)
        except SnapshotMissing as error:
            return _degraded(live, batch, ReasonCode.SNAPSHOT_MISSING, error)
        except StoreUnavailable as error:
            return _degraded(live, batch, ReasonCode.STORE_UNAVAILABLE, error)
        except DeadlineExceeded as error:
            return _degraded(live, batch, ReasonCode.DEADLINE_EXCEEDED, error)
        except Exception as error:  # noqa: BLE001 - the last resort of the request's way; counted
            return _degraded(live, batch, ReasonCode.INTERNAL_ERROR, error)

    def _put_tags(self, tags: TagCodec, batch: Sequence[AdRequest], outcome: BatchOutcome) -> None:
        """Tag a batch's answers; if that fails they go without, since a tag is no reason for a no."""
        try:
            outcome.decisions = tagged(tags, batch, outcome.decisions, self._clock.now_ms())
        except Exception as error:  # noqa: BLE001 - the last resort of the request's way; counted
            outcome.failure = outcome.failure or error

    async def _decide(
        self, live: LiveRelease, batch: Sequence[AdRequest], deadline_s: float
    ) -> BatchOutcome:
        started = self._clock.monotonic_s()
        _check(deadline_s, started)
        ids = [identity.resolve(request, self._keys) for request in batch]
        wanted = [[i.key for i in resolved] for resolved in ids]
        records = await read_batch(self._reader, live.snapshot, wanted)
        read = self._clock.monotonic_s()
        _check(deadline_s, read)
        outcome = self._decide_found(live, list(map(Found, batch, ids, records)))
        outcome.seen_kinds = [[i.kind for i in resolved] for resolved in ids]
        outcome.matched_kinds = [
            [i.kind for i, data in zip(resolved, found, strict=True) if data is not None]
            for resolved, found in zip(ids, records, strict=True)
        ]
        outcome.read_s = read - started
        outcome.decide_s = self._clock.monotonic_s() - read
        return outcome

    def _decide_found(self, live: LiveRelease, found: Sequence[Found]) -> BatchOutcome:
        """Decide a batch; if that fails, each request alone, so that a bad one costs itself."""
        now_s = self._clock.now_ms() // 1000
        if self._desk is not None:
            self._desk.begin()
        try:
            decided = decide_found(live, self._keys, found, now_s, self._desk)
            return BatchOutcome(
                decided.decisions,
                scored=decided.scored,
                people=decided.people,
                live=live,
                desk=self._desk,
            )
        except Exception as error:
            if len(found) == 1:
                raise
            alone = [self._decide_found_alone(live, one, now_s) for one in found]
            return BatchOutcome(alone, failure=error, live=live)

    def _decide_found_alone(self, live: LiveRelease, found: Found, now_s: int) -> Decision:
        try:
            return decide_found(live, self._keys, [found], now_s, self._desk).decisions[0]
        except Exception:  # noqa: BLE001 - counted by the caller, which met it first
            return degrade_all(live, found.request, ReasonCode.INTERNAL_ERROR)


def _check(deadline_s: float, now_s: float) -> None:
    if now_s > deadline_s:
        raise DeadlineExceeded


def _degraded(
    live: LiveRelease, batch: Sequence[AdRequest], reason: ReasonCode, error: Exception
) -> BatchOutcome:
    return BatchOutcome([degrade_all(live, r, reason) for r in batch], failure=error, live=live)


def decide_found(
    live: LiveRelease,
    keys: KeyRing,
    found: Sequence[Found],
    now_s: int,
    desk: ControlDesk | None = None,
) -> Decided:
    """Decide requests whose records are read, each by the one arm that its person belongs to.

    Without a desk, strategies under cost control are priced as if they were not.
    """
    thresholds = live.snapshot.thresholds
    people = [find_person(thresholds, keys, f.ids, f.records, now_s) for f in found]
    if not live.is_steered:
        desk = None
    if live.canary is None:
        return _decide_arm(live, found, people, now_s, desk)
    arms = [live if p is None else live.arm_of(p.key) for p in people]
    decisions: dict[int, Decision] = {}
    scored: list[Scored] = []
    for arm in (live, live.canary):
        rows = [row for row, chosen in enumerate(arms) if chosen is arm]
        part = _decide_arm(arm, [found[r] for r in rows], [people[r] for r in rows], now_s, desk)
        decisions.update(zip(rows, part.decisions, strict=True))
        scored += [one._replace(row=rows[one.row]) for one in part.scored]
    return Decided([decisions[row] for row in range(len(found))], people, scored)


def _decide_arm(
    live: LiveRelease,
    found: Sequence[Found],
    people: list[Person | None],
    now_s: int,
    desk: ControlDesk | None,
) -> Decided:
    """Decide for people of one arm: judge all, score those still wanted, price."""
    verdicts = [judge(live, f.request, p) for f, p in zip(found, people, strict=True)]
    asked = [
        (row, person.key, candidate(found[row].request, person))
        for row, person in enumerate(people)
        if person is not None and is_wanted(verdicts[row])
    ]
    scores = score(live.models, live.heads, [one for _, _, one in asked], now_s)
    by_row = {row: given for (row, _, _), given in zip(asked, scores, strict=True)}
    arm = live.arm
    scored = [Scored(one, key, arm, by_row[row], row) for row, key, one in asked]
    decisions = [
        answer(live, Asked(found[row].request, person, verdicts[row]), by_row.get(row), desk)
        for row, person in enumerate(people)
    ]
    return Decided(decisions, people, scored)


def judge(live: LiveRelease, request: AdRequest, person: Person | None) -> list[Verdict]:
    """Apply the free checks of every strategy that is asked about."""
    if person is None or request.is_ping:
        return []
    bound = live.asked(request)
    if person.record is None:
        return [(b, policy.admit_stranger(b.strategy, person.key)) for b in bound]
    return [(b, policy.admit(b.strategy, b.traits, person.record, person.stage)) for b in bound]


def is_wanted(verdicts: Sequence[Verdict]) -> bool:
    """Tell whether any strategy wants the person so far, so that models must be asked."""
    # a loop: any() over a generator takes three times as long
    for _, reason in verdicts:  # noqa: SIM110 - see above
        if reason in PARTICIPATING:
            return True
    return False


def candidate(request: AdRequest, person: Person) -> Candidate:
    """Lay a person in a request's context out as a row to score."""
    return Candidate(person.data, request.platform.code, int(request.os), int(request.placement))


def answer(
    live: LiveRelease, asked: Asked, scores: Scores | None, desk: ControlDesk | None
) -> Decision:
    """Turn judgements and scores into the answer to one request."""
    request, person, verdicts = asked
    if request.is_ping:
        return decline_all(request, ReasonCode.PING, live)
    if person is None:
        return decline_all(request, ReasonCode.NO_DEVICE_ID, live)
    if scores is None:
        answers = [declined(bound, reason) for bound, reason in verdicts]
    else:
        registered = person.record is not None and person.record.registered_at > 0
        pcvr = prediction(scores, registered=registered)
        sitting = None if desk is None else desk.sit(request, person)
        answers = [price_strategy(request, verdict, scores, pcvr, sitting) for verdict in verdicts]
    ttls = [
        bound.accept_ttl_s if a.participate else bound.reject_ttl_s
        for (bound, _), a in zip(verdicts, answers, strict=True)
    ]
    if request.asked_strategies:
        answers += refuse_unknown(live, request)
    return finish(live, request, answers, ttls, person)
