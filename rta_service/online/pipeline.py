"""The life of a batch of requests. READ THIS FIRST.

    ids -> keys (identity) -> records, one round trip (profiles) -> stage, free checks (policy)
        -> one call per model for the rows still alive (score) -> bids (bid) -> decisions

A batch is the requests of one event-loop tick. It takes the live release once at its start, so
no answer mixes two. It never raises: what goes wrong becomes a reason code and a safe answer.
All steps but the reading are plain functions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rta_service.device_key import KeyRing
from rta_service.domain.clock import Clock
from rta_service.domain.decision import Decision, StrategyDecision
from rta_service.domain.device import IdKind
from rta_service.domain.errors import DeadlineExceeded, SnapshotMissing, StoreUnavailable
from rta_service.domain.reason import PARTICIPATING, ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.features import UNKNOWN_RECORD
from rta_service.online import bid, identity, policy
from rta_service.online.answers import decline_all, degrade_all, finish, refuse_asked
from rta_service.online.bid import AskedPrice
from rta_service.online.identity import ResolvedId
from rta_service.online.live_release import BoundStrategy, LiveRelease, prediction
from rta_service.online.profiles import ProfileReader, read_batch
from rta_service.online.score import Candidate, Scores, score
from rta_service.record import UserRecord, stage_at, unpack


@dataclass(slots=True)
class BatchOutcome:
    """The decisions of a batch, in its order, and the facts that metrics want."""

    decisions: list[Decision]
    seen_kinds: list[list[IdKind]] = field(default_factory=list)
    read_s: float = 0.0
    decide_s: float = 0.0
    failure: Exception | None = None


class Person(NamedTuple):
    """Who stands behind one request."""

    key: int
    data: bytes
    """The record's bytes; zeros for a stranger."""
    record: UserRecord | None
    stage: LifecycleStage
    tier: ValueTier
    matched: IdKind | None


Verdict = tuple[BoundStrategy, ReasonCode]
"""One strategy's judgement before any model is asked."""


class Pipeline:
    """Decides batches; holds the live release, which the watcher replaces as a whole."""

    def __init__(self, reader: ProfileReader, keys: KeyRing, clock: Clock) -> None:
        self.live: LiveRelease | None = None
        self._reader = reader
        self._keys = keys
        self._clock = clock

    async def decide(self, batch: Sequence[AdRequest], deadline_s: float) -> BatchOutcome:
        """Answer a batch before a deadline on the monotonic clock. Never raises."""
        live = self.live
        if live is None:
            return BatchOutcome([decline_all(r, ReasonCode.NO_RELEASE) for r in batch])
        try:
            return await self._decide(live, batch, deadline_s)
        except SnapshotMissing as error:
            return self._degraded(live, batch, ReasonCode.SNAPSHOT_MISSING, error)
        except StoreUnavailable as error:
            return self._degraded(live, batch, ReasonCode.STORE_UNAVAILABLE, error)
        except DeadlineExceeded as error:
            return self._degraded(live, batch, ReasonCode.DEADLINE_EXCEEDED, error)
        except Exception as error:  # noqa: BLE001 - the last resort of the request's way; counted
            return self._degraded(live, batch, ReasonCode.INTERNAL_ERROR, error)

    async def _decide(
        self, live: LiveRelease, batch: Sequence[AdRequest], deadline_s: float
    ) -> BatchOutcome:
        started = self._clock.monotonic_s()
        self._check(deadline_s, started)
        ids = [identity.resolve(request, self._keys) for request in batch]
        records = await read_batch(
            self._reader, live.snapshot, [[i.key for i in resolved] for resolved in ids]
        )
        read = self._clock.monotonic_s()
        self._check(deadline_s, read)
        now_s = self._clock.now_ms() // 1000
        people = [
            find_person(live, self._keys, resolved, found, now_s)
            for resolved, found in zip(ids, records, strict=True)
        ]
        decisions = decide_people(live, batch, people, now_s)
        return BatchOutcome(
            decisions,
            [[i.kind for i in resolved] for resolved in ids],
            read - started,
            self._clock.monotonic_s() - read,
        )

    @staticmethod
    def _check(deadline_s: float, now_s: float) -> None:
        if now_s > deadline_s:
            raise DeadlineExceeded

    @staticmethod
    def _degraded(
        live: LiveRelease, batch: Sequence[AdRequest], reason: ReasonCode, error: Exception
    ) -> BatchOutcome:
        return BatchOutcome([degrade_all(live, r, reason) for r in batch], failure=error)


def find_person(
    live: LiveRelease,
    keys: KeyRing,
    ids: Sequence[ResolvedId],
    records: Sequence[bytes | None],
    now_s: int,
) -> Person | None:
    """Find the person under the most trustworthy id that has a record; None without ids."""
    if not ids:
        return None
    for resolved, data in zip(ids, records, strict=True):
        if data is not None:
            record = unpack(data)
            stage = stage_at(record, now_s, live.snapshot.thresholds)
            tier = ValueTier(record.tier)
            return Person(record.person_key, data, record, stage, tier, resolved.kind)
    key = keys.person_key(None, ids[0].md5)
    return Person(key, UNKNOWN_RECORD, None, LifecycleStage.UNKNOWN, ValueTier.UNKNOWN, None)


def decide_people(
    live: LiveRelease, batch: Sequence[AdRequest], people: Sequence[Person | None], now_s: int
) -> list[Decision]:
    """Decide for people already found: judge all, score those still wanted, price, answer."""
    verdicts = [judge(live, request, person) for request, person in zip(batch, people, strict=True)]
    rows: dict[int, int] = {}
    candidates: list[Candidate] = []
    for index, (request, person, verdict) in enumerate(zip(batch, people, verdicts, strict=True)):
        if person is not None and any(reason in PARTICIPATING for _, reason in verdict):
            rows[index] = len(candidates)
            context = (request.platform.code, int(request.os), int(request.placement))
            candidates.append(Candidate(person.data, *context))
    scores = score(live.models, live.heads, candidates, now_s) if candidates else {}
    return [
        answer(live, batch[i], people[i], verdicts[i], (scores, rows.get(i)))
        for i in range(len(batch))
    ]


def judge(live: LiveRelease, request: AdRequest, person: Person | None) -> list[Verdict]:
    """Apply the free checks of every strategy that is asked about."""
    if person is None or request.is_ping:
        return []
    asked = request.asked_strategies
    by_id = live.by_id.get(request.platform.name, {})
    bound = (
        [by_id[i] for i in asked if i in by_id]
        if asked
        else live.bound.get(request.platform.name, ())
    )
    if person.record is None:
        return [(b, policy.admit_stranger(b.strategy, person.key)) for b in bound]
    return [(b, policy.admit(b.strategy, b.traits, person.record, person.stage)) for b in bound]


def answer(
    live: LiveRelease,
    request: AdRequest,
    person: Person | None,
    verdicts: Sequence[Verdict],
    scored: tuple[Scores, int | None],
) -> Decision:
    """Turn judgements and scores into the answer to one request."""
    if request.is_ping:
        return decline_all(request, ReasonCode.PING, live)
    if person is None:
        return decline_all(request, ReasonCode.NO_DEVICE_ID, live)
    priced = [price_strategy(request, person, verdict, scored) for verdict in verdicts]
    ttls = [
        b.accept_ttl_s if p.participate else b.reject_ttl_s
        for (b, _), p in zip(verdicts, priced, strict=True)
    ]
    refused = refuse_asked(live, request)
    decision = finish(live, request, [*priced, *refused], ttls)
    return Decision(
        decision.request_id,
        decision.participate,
        decision.reason,
        decision.strategies,
        decision.ttl_s,
        decision.versions,
        person.stage,
        person.tier,
        person.matched,
    )


def price_strategy(
    request: AdRequest, person: Person, verdict: Verdict, scored: tuple[Scores, int | None]
) -> StrategyDecision:
    """Price one wanted strategy, or pass its no on; predictions show wherever there are any."""
    bound, reason = verdict
    strategy = bound.strategy
    scores, row = scored
    if row is None:
        return StrategyDecision(strategy.strategy_id, bound.target_id, reason)
    registered = person.record is not None and person.record.registered_at > 0
    pcvr = prediction(scores, row, registered=registered)
    if reason not in PARTICIPATING:
        return StrategyDecision(strategy.strategy_id, bound.target_id, reason, pcvr=pcvr)
    offered = bid.price(
        strategy,
        bound.mean_value,
        bound.worth(scores, row),
        AskedPrice(request.pctr, request.bid_floor_micros),
        bound.bounds,
    )
    if isinstance(offered, ReasonCode):
        return StrategyDecision(strategy.strategy_id, bound.target_id, offered, pcvr=pcvr)
    return StrategyDecision(
        strategy.strategy_id, bound.target_id, reason, participate=True, bid=offered, pcvr=pcvr
    )
