"""Recording decisions: which are drawn, what is kept of them, and that requests never feel it."""

import asyncio
import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.device_key import KeyRing
from rta_service.domain.control import Aim, CostGoal, Mode, Targets
from rta_service.domain.control_order import ControlSettings
from rta_service.domain.decision import Arm, Bid, Prediction
from rta_service.domain.decision_record import DecisionRecord
from rta_service.domain.device import DeviceId, IdForm, IdKind
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.domain.release import ModelRef, Release, SnapshotManifest
from rta_service.domain.request import AdRequest
from rta_service.domain.strategy import Audience, Goal, OptimisedEvent, Strategy
from rta_service.domain.tag import TagCodec
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.domain.user import LifecycleStage, RFMSegment, Role, ValueTier
from rta_service.experiments import in_holdout
from rta_service.online.control_desk import ControlDesk
from rta_service.online.live_release import LiveRelease, assemble, mean_name
from rta_service.online.pipeline import BatchOutcome, Pipeline
from rta_service.platforms.registry import load_adapters
from rta_service.record import pack_columns
from rta_service.scoring.model_set import ValueRule
from rta_service.telemetry import Telemetry, read_all
from rta_service.telemetry.decision_records import GHOSTS_PER_S, Counting, DecisionRecorder
from rta_service.telemetry.record_metrics import DECISION_RECORDS, GHOSTS

KEYS = KeyRing(b"pepper-of-16-bytes", b"experiment-of-16-b")
NOW_S = 1_717_286_400
INFOS = {name: adapter.info for name, adapter in load_adapters().items()}
HELD = [key for key in range(1, 2_000) if in_holdout(key, 0.5)]
FREE = [key for key in range(1, 2_000) if not in_holdout(key, 0.5)]


@dataclass
class FakeClock:
    second: float = NOW_S

    def now_ms(self) -> int:
        return round(self.second * 1000)

    def monotonic_s(self) -> float:
        return self.second


@dataclass
class FakeHead:
    p: float

    def probabilities(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(len(rows), self.p)


@dataclass
class FakeModels:
    heads: Mapping[str, FakeHead]

    def value_rule(self, goal: Goal, _event: OptimisedEvent) -> ValueRule:
        return ValueRule("head", goal.value)


@dataclass
class FakeReader:
    """Knows everybody whose OAID is a number: that is the person's key."""

    people: dict[bytes, bytes] = field(default_factory=dict)
    error: Exception | None = None

    async def read(self, _: SnapshotManifest, keys: Sequence[bytes]) -> list[bytes | None]:
        if self.error is not None:
            raise self.error
        return [self.people.get(key) for key in keys]


@dataclass
class FakeSink:
    """Keeps records; fails with `error`; waits for `may_go`."""

    records: list[DecisionRecord] = field(default_factory=list)
    error: Exception | None = None
    may_go: threading.Event | None = None

    def append(self, records: Sequence[DecisionRecord]) -> None:
        if self.may_go is not None:
            self.may_go.wait(10)
        if self.error is not None:
            raise self.error
        self.records += records


@dataclass
class FakeCounting:
    fates: Counter[str] = field(default_factory=Counter)

    def count_records(self, fate: str, records: int) -> None:
        self.fates[fate] += records

    def count_ghosts(self, *, scored: bool) -> None:
        self.fates["ghost" if scored else "no ghost"] += 1

    def count_internal_error(self, place: str) -> None:
        self.fates[f"error in {place}"] += 1


def a_strategy(strategy_id: str = "s", **changes: Any) -> Strategy:
    audience = Audience(
        stages=frozenset(LifecycleStage) - {LifecycleStage.UNKNOWN},
        segments=frozenset(RFMSegment),
        tiers=frozenset(ValueTier) - {ValueTier.X, ValueTier.UNKNOWN},
        roles=frozenset(Role) - {Role.PROFESSIONAL_SELLER},
        wake_tiers=frozenset(),
    )
    usual: dict[str, Any] = {
        "bindings": {"json": strategy_id, "tencent": strategy_id},
        "audience": audience,
        "optimises": OptimisedEvent.CLICK,
        "goal": Goal.TRADE,
        "target_cpa_micros": 30_000_000,
        "answer": BidKind.WEIGHT,
        "currency": "CNY",
        "min_bid": 0.2,
        "max_bid": 5.0,
    }
    return Strategy(strategy_id, **(usual | changes))


def a_live(*strategies: Strategy) -> LiveRelease:
    cuts = Thresholds(
        silent_s=18 * DAY_S,
        churned_s=27 * DAY_S,
        recency_s=18 * DAY_S,
        frequency=3,
        monetary_cents=250_000,
        tier_s_cents=500_000,
        tier_a_cents=250_000,
        tier_b_cents=50_000,
    )
    snapshot = SnapshotManifest(
        "snap", 1, NOW_S, 0, 1, 1, 8, cuts, {}, {}, {}, KEYS.pepper_id, "", ""
    )
    means = {mean_name(s.strategy_id, name): 0.01 for s in strategies for name in s.bindings}
    trade = ModelRef("trade", "v1", "0" * 64)
    release = Release("r1", "snap", (trade,), "st", 0, mean_values=means)
    models = FakeModels({"register": FakeHead(0.05), "trade": FakeHead(0.02)})
    return assemble(release, snapshot, models, strategies, INFOS.values())


def _md5(person: int) -> str:
    return hashlib.md5(str(person).encode(), usedforsecurity=False).hexdigest()


def _request(person: int, **changes: Any) -> AdRequest:
    ids = (DeviceId(IdKind.OAID, _md5(person), IdForm.MD5),)
    usual: dict[str, Any] = {"request_id": f"q{person}", "platform": INFOS["json"], "ids": ids}
    return AdRequest(**(usual | changes))


def _record_of(person: int) -> bytes:
    yesterday = NOW_S - DAY_S
    columns = {"version": 1, "tier": ValueTier.C, "role": Role.BUYER, "segment": RFMSegment.NONE}
    columns |= {"person_key": person, "last_active_at": yesterday, "activated_at": yesterday}
    return pack_columns({name: np.array([value]) for name, value in columns.items()}).tobytes()


@dataclass
class Worker:
    """A pipeline whose decisions are recorded."""

    sink: FakeSink = field(default_factory=FakeSink)
    counting: Counting = field(default_factory=FakeCounting)
    clock: FakeClock = field(default_factory=FakeClock)
    reader: FakeReader = field(default_factory=FakeReader)
    most_waiting: int = 10_000

    def __post_init__(self) -> None:
        self.opened = 0
        self.recorder = DecisionRecorder(
            self._open, self.counting, KEYS, self.clock, self.most_waiting
        )

    def _open(self) -> FakeSink:
        self.opened += 1
        return self.sink

    async def decide(self, live: LiveRelease, *requests: AdRequest) -> BatchOutcome:
        desk = ControlDesk(KEYS, self.clock)
        pipeline = Pipeline(self.reader, KEYS, self.clock, TagCodec(b"an event key"), desk)
        pipeline.live = live
        outcome = await pipeline.decide(list(requests), 2.0 * NOW_S)
        self.recorder.take(requests, outcome)
        return outcome

    async def decide_people(self, live: LiveRelease, people: Sequence[int]) -> BatchOutcome:
        self.reader.people = {KEYS.device_key(_md5(p)): _record_of(p) for p in people}
        return await self.decide(live, *map(_request, people))

    def records(self) -> list[DecisionRecord]:
        """All that was recorded, after the thread has written it."""
        self.recorder.close()
        return self.sink.records


@pytest.fixture
def a_worker() -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def build(**fields: Any) -> Worker:
        workers.append(Worker(**fields))
        return workers[-1]

    yield build
    for worker in workers:
        worker.recorder.close()


async def test_a_record_says_what_was_answered_and_by_what(a_worker: Any) -> None:
    worker = a_worker()

    outcome = await worker.decide_people(a_live(a_strategy(record_rate=1.0)), [7])

    (record,) = worker.records()
    (answer,) = outcome.decisions[0].strategies
    assert (record.ts_ms, record.platform) == (NOW_S * 1000, "json")
    assert record.request == KEYS.request_tag("json", "q7")
    assert record.person == 7
    assert (record.strategy_id, record.participate, record.reason) == (
        "s",
        True,
        ReasonCode.ACCEPTED,
    )
    assert record.bid == answer.bid == Bid(BidKind.WEIGHT, 2.0)
    assert record.pcvr == Prediction(0.05, 0.02)
    assert record.versions is outcome.decisions[0].versions
    assert (record.stage, record.tier, record.arm) == (
        LifecycleStage.INTRODUCTION,
        ValueTier.C,
        Arm.LIVE,
    )
    assert record.propensity == 1.0
    assert record.tag == answer.tag != ""
    assert record.ghost is None
    assert worker.counting.fates == {"kept": 1}


async def test_what_cost_control_did_is_recorded_with_its_chance(a_worker: Any) -> None:
    worker = a_worker()
    aim = Aim(Mode.TCPA, Targets(deep_micros=30_000_000), CostGoal.DEEP)
    control = ControlSettings(aim, explore_share=0.5, guarantee_until_ms=1000 * NOW_S + 1)
    people = range(1, 60)

    await worker.decide_people(
        a_live(a_strategy(record_rate=1.0, control=control, holdout_share=0.0)), people
    )

    found = [record.steered for record in worker.records()]
    moved = [one for one in found if one.factor != 1.0]
    assert 10 < len(moved) < 50
    assert {one.density for one in found if one.factor == 1.0} == {0.5}
    assert all(one.control_group and one.version == 0 for one in found)
    assert all(one.unsent == pytest.approx(2.0 * one.factor, abs=0.006) for one in found)
    assert all(record.bid == Bid(BidKind.WEIGHT, 1.0) for record in worker.records())


async def test_where_nothing_is_asked_for_nothing_happens(a_worker: Any) -> None:
    worker = a_worker()

    await worker.decide_people(a_live(a_strategy()), [1, 2])

    assert worker.records() == []
    assert worker.opened == 0
    assert "decision-records" not in {thread.name for thread in threading.enumerate()}


async def test_each_strategy_is_recorded_at_its_own_rate(a_worker: Any) -> None:
    worker = a_worker()
    live = a_live(
        a_strategy("often", record_rate=0.3),
        a_strategy("seldom", record_rate=0.05),
        a_strategy("never"),
    )

    await worker.decide_people(live, range(1, 4_001))

    records = worker.records()
    counts = Counter(record.strategy_id for record in records)
    assert counts.keys() == {"often", "seldom"}
    assert 1_120 <= counts["often"] <= 1_280
    assert 160 <= counts["seldom"] <= 240
    assert {r.propensity for r in records if r.strategy_id == "seldom"} == {0.05}
    requests = {name: {r.request for r in records if r.strategy_id == name} for name in counts}
    assert requests["seldom"] <= requests["often"]


async def test_a_request_is_drawn_alike_wherever_it_is_asked(a_worker: Any) -> None:
    live = a_live(a_strategy(record_rate=0.5))
    one, two = a_worker(), a_worker(clock=FakeClock(NOW_S + 999))

    await one.decide_people(live, range(1, 200))
    await two.decide_people(live, range(1, 200))

    assert [r.request for r in one.records()] == [r.request for r in two.records()]


async def test_requests_without_an_id_are_drawn_one_by_one(a_worker: Any) -> None:
    worker = a_worker()
    live = a_live(a_strategy(record_rate=0.5))
    people = range(1, 400)
    worker.reader.people = {KEYS.device_key(_md5(p)): _record_of(p) for p in people}

    await worker.decide(live, *(_request(person, request_id="") for person in people))

    records = worker.records()
    assert 150 <= len(records) <= 250
    assert {record.request for record in records} == {0}


async def test_probes_and_tests_are_not_recorded(a_worker: Any) -> None:
    worker = a_worker()
    live = a_live(a_strategy(record_rate=1.0))

    await worker.decide(live, _request(1, is_ping=True), _request(2, is_test=True))

    assert worker.records() == []


async def test_somebody_held_out_is_recorded_with_what_would_have_been_bid(a_worker: Any) -> None:
    worker = a_worker()
    live = a_live(
        a_strategy("held", record_rate=1.0, holdout_share=0.5),
        a_strategy("open", record_rate=1.0),
    )

    await worker.decide_people(live, [HELD[0], FREE[0]])

    held, beside, free, _ = worker.records()
    assert (held.person, held.reason, held.bid) == (HELD[0], ReasonCode.HOLDOUT, None)
    assert held.ghost is not None
    assert held.ghost.participate
    assert held.ghost.reason is ReasonCode.ACCEPTED
    assert held.ghost.bid == free.bid
    assert held.ghost.pcvr == free.pcvr
    assert beside.ghost is None
    assert free.reason is ReasonCode.ACCEPTED
    assert worker.counting.fates == {"kept": 4, "ghost": 1}


async def test_only_so_many_ghosts_are_scored_in_a_second(a_worker: Any) -> None:
    worker = a_worker()
    live = a_live(a_strategy(record_rate=1.0, holdout_share=0.5))

    await worker.decide_people(live, HELD[: GHOSTS_PER_S + 10])
    worker.clock.second += 1
    await worker.decide_people(live, HELD[-1:])

    records = worker.records()
    assert [record.ghost is None for record in records].count(True) == 10
    assert records[-1].ghost is not None
    assert worker.counting.fates["no ghost"] == 10


async def test_a_degraded_answer_is_recorded_without_a_person(a_worker: Any) -> None:
    worker = a_worker(reader=FakeReader(error=StoreUnavailable("gone")))

    await worker.decide(a_live(a_strategy(record_rate=1.0)), _request(1))

    (record,) = worker.records()
    assert (record.reason, record.person) == (ReasonCode.STORE_UNAVAILABLE, 0)
    assert record.pcvr is None


async def test_a_full_buffer_loses_and_counts_what_comes_then(a_worker: Any) -> None:
    sink = FakeSink(may_go=threading.Event())
    worker = a_worker(sink=sink, most_waiting=3)
    live = a_live(a_strategy("a", record_rate=1.0), a_strategy("b", record_rate=1.0))

    await worker.decide_people(live, range(1, 101))
    assert sink.may_go is not None
    sink.may_go.set()

    kept = len(worker.records())
    assert kept in (6, 12)  # the thread may have taken three while the others came
    assert worker.counting.fates == {"kept": kept, "buffer_full": 200 - kept}


async def test_a_store_that_is_away_loses_and_counts_and_is_used_again(a_worker: Any) -> None:
    worker = a_worker(sink=FakeSink(error=StoreUnavailable("gone")))
    live = a_live(a_strategy(record_rate=1.0))

    await worker.decide_people(live, [1, 2])
    _wait_for(lambda: worker.counting.fates["store_away"] == 2)
    worker.sink.error = None
    await worker.decide_people(live, [3])

    assert [record.person for record in worker.records()] == [3]
    assert worker.counting.fates == {"store_away": 2, "kept": 1}


async def test_an_error_nobody_expected_ends_nothing(a_worker: Any) -> None:
    worker = a_worker(sink=FakeSink(error=RuntimeError("odd")))
    live = a_live(a_strategy(record_rate=1.0))

    await worker.decide_people(live, [1])
    _wait_for(lambda: worker.counting.fates["failed"] == 1)
    worker.sink.error = None
    await worker.decide_people(live, [2])

    assert [record.person for record in worker.records()] == [2]


async def test_what_waits_at_the_end_of_a_store_that_is_away_is_counted(a_worker: Any) -> None:
    worker = a_worker(sink=FakeSink(error=StoreUnavailable("gone")))
    live = a_live(a_strategy(record_rate=1.0))

    await worker.decide_people(live, range(1, 701))
    worker.recorder.close()

    assert worker.counting.fates["store_away"] == 700


async def test_whatever_a_store_does_every_record_has_one_fate(a_worker: Any) -> None:
    chance = random.Random(7)

    class Moody(FakeSink):
        def append(self, records: Sequence[DecisionRecord]) -> None:
            if chance.random() < 0.1:
                raise chance.choice([StoreUnavailable("gone"), RuntimeError("odd")])
            super().append(records)

    worker = a_worker(sink=Moody(), most_waiting=150)
    live = a_live(a_strategy(record_rate=1.0), a_strategy("half", record_rate=0.5))
    drawn = 0
    for start in range(1, 2_001, 100):
        outcome = await worker.decide_people(live, range(start, start + 100))
        drawn += sum(len(d.strategies) for d in outcome.decisions)
        await asyncio.sleep(0.01)

    kept = worker.records()
    never = a_live(a_strategy("half", record_rate=0.5))
    halves = a_worker()
    await halves.decide_people(never, range(1, 2_001))
    unchosen = 2_000 - len(halves.records())
    assert drawn == 4_000
    assert worker.counting.fates["kept"] == len(kept) > 0
    assert worker.counting.fates.total() == drawn - unchosen


async def test_a_decision_that_can_not_be_recorded_costs_itself(a_worker: Any) -> None:
    worker = a_worker()
    live = a_live(a_strategy(record_rate=1.0, holdout_share=0.5))
    broken = SimpleNamespace(**{name: getattr(live, name) for name in LiveRelease.__slots__})
    broken.arm_of = lambda key: 1 // (key - HELD[0])

    outcome = await worker.decide_people(live, [FREE[0], HELD[0]])
    outcome.live = broken
    worker.recorder.take([_request(FREE[1]), _request(HELD[0])], outcome)

    assert [record.person for record in worker.records()] == [FREE[0], HELD[0], FREE[0]]
    assert worker.counting.fates["failed"] == 1


async def test_a_bug_of_the_drawing_never_reaches_the_requests(a_worker: Any) -> None:
    worker = a_worker()
    outcome = await worker.decide_people(a_live(a_strategy(record_rate=1.0)), [1])
    outcome.decisions = []

    worker.recorder.take([_request(1)], outcome)

    assert worker.counting.fates["error in record"] == 1


async def test_requests_never_wait_for_a_store_that_hangs(a_worker: Any) -> None:
    sink = FakeSink(may_go=threading.Event())
    worker = a_worker(sink=sink)
    live = a_live(a_strategy(record_rate=1.0))
    outcome = await worker.decide_people(live, range(1, 101))
    requests = [_request(person) for person in range(1, 101)]

    started = time.monotonic()
    for _ in range(20):
        worker.recorder.take(requests, outcome)
    took = time.monotonic() - started

    assert took < 1.0
    assert sink.may_go is not None
    sink.may_go.set()
    assert len(worker.records()) == 2_100


async def test_what_became_of_records_is_shown(tmp_path: Path, a_worker: Any) -> None:
    telemetry = Telemetry.open(tmp_path, "decision-0")
    worker = a_worker(counting=telemetry)
    live = a_live(a_strategy(record_rate=1.0, holdout_share=0.5))

    await worker.decide_people(live, [HELD[0], FREE[0], FREE[1]])
    worker.records()
    telemetry.count_records("buffer_full", 2)
    telemetry.count_ghosts(scored=False)

    totals = read_all(tmp_path)
    assert totals.counts(DECISION_RECORDS, "fate") == {("kept",): 3.0, ("buffer_full",): 2.0}
    assert totals.counts(GHOSTS, "ghost") == {("scored",): 1.0, ("skipped",): 1.0}


def _wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
