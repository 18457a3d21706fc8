import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.decision import Arm, Decision, Versions
from rta_service.domain.device import OperatingSystem, Placement
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.domain.user import LifecycleStage
from rta_service.online.pipeline import BatchOutcome, Scored
from rta_service.online.score import Candidate
from rta_service.platforms.registry import load_adapters
from rta_service.record import pack_columns
from rta_service.stores.traffic_sample import (
    FLAG_CANARY,
    FLAG_FIRST_MET,
    FLAG_PARTICIPATED,
    TrafficSample,
    read_sample,
)
from rta_service.telemetry.sampling import MOST_PER_S, Taking, TrafficSampler, open_ring

KEYS = KeyRing(b"pepper-of-16-bytes", b"experiment-of-16-b")
INFO = load_adapters()["json"].info
VERSIONS = {
    arm: Versions("r1", "s1", {"trade": f"t-{arm}", "register": "g", "click": "c"}, "st")
    for arm in Arm
}
RECORD = pack_columns({"orders": np.array([2])}).tobytes()


FAILED: list[str] = []


def taking(rate: float, worker: int = 0, workers: int = 1) -> Taking:
    return Taking(rate, worker, workers, FAILED.append)


@dataclass
class FakeClock:
    second: float = 5.0

    def now_ms(self) -> int:
        return 1_717_286_400_000 + round(self.second * 1000)

    def monotonic_s(self) -> float:
        return self.second


@dataclass
class Worker:
    """A sampler over a ring of its own."""

    folder: Path
    taking: Taking
    clock: FakeClock

    def __post_init__(self) -> None:
        writer = open_ring(self.folder, f"decision-{self.taking.worker}", self.taking)
        self.sampler = TrafficSampler(writer, self.taking, KEYS, self.clock)

    def decide(self, *people: int, arm: Arm = Arm.LIVE, release: str = "r1") -> None:
        versions = VERSIONS[arm]
        if release != versions.release:
            versions = Versions(release, "s1", versions.models, "st")
        requests = [
            AdRequest(f"q{person}", INFO, (), OperatingSystem.IOS, Placement.FEED)
            for person in people
        ]
        decision = Decision(
            "q", True, ReasonCode.ACCEPTED, (), 60, versions, LifecycleStage.SILENT, arm=arm
        )
        scores = {"click": 0.5, "register": 0.25, "trade": 0.125}
        scored = [
            Scored(Candidate(RECORD, INFO.code, 2, 5), person, arm, scores, row)
            for row, person in enumerate(people)
        ]
        outcome = BatchOutcome([decision] * len(people), read_s=0.001, decide_s=0.0005)
        outcome.scored = scored
        self.sampler.take(requests, outcome)

    def sample(self) -> TrafficSample:
        return read_sample(self.folder, 10_000)


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    return Worker(tmp_path, taking(1.0), FakeClock())


def test_a_kept_row_says_all_that_a_comparison_needs(worker: Worker) -> None:
    worker.decide(7, arm=Arm.CANARY)

    sample = worker.sample()

    assert sample.line_ups[0].release_id == "r1"
    assert sample.line_ups[0].models == (("register", "g"), ("trade", "t-canary"), ("click", "c"))
    assert sample.scores_of("trade", "t-canary").tolist() == [0.125]
    assert sample.tags.tolist() == [KEYS.request_tag("json", "q7")]
    assert sample.flags.tolist() == [FLAG_CANARY | FLAG_PARTICIPATED | FLAG_FIRST_MET]
    assert sample.stages.tolist() == [LifecycleStage.SILENT]
    assert sample.latency_us.tolist() == [1_500]
    assert [sample.rows.platform[0], sample.rows.os[0], sample.rows.placement[0]] == [1, 2, 5]


def test_every_nth_row_is_kept_whatever_the_batches(tmp_path: Path) -> None:
    worker = Worker(tmp_path, taking(1 / 4), FakeClock())
    for first, end in ((0, 1), (1, 3), (3, 3), (3, 12), (12, 13)):
        worker.decide(*range(first, end))

    tags = [KEYS.request_tag("json", f"q{person}") for person in (12, 8, 4, 0)]

    assert worker.sample().tags.tolist() == tags


def test_a_second_has_a_bound_and_a_rate_of_0_keeps_nothing(tmp_path: Path) -> None:
    busy, off = (
        Worker(tmp_path / name, taking(r), FakeClock()) for name, r in (("a", 1), ("b", 0))
    )
    for worker in (busy, off):
        worker.decide(*range(MOST_PER_S + 50))
        worker.clock.second += 1.0
        worker.decide(1, 2)

    assert len(busy.sample()) == MOST_PER_S + 2
    assert len(off.sample()) == 0


def test_a_person_is_met_once_in_a_release(worker: Worker) -> None:
    worker.decide(1, 1, 2)
    worker.decide(2, 3)
    worker.decide(1, release="r2")

    first = worker.sample().has(FLAG_FIRST_MET)[::-1]

    assert first.tolist() == [True, False, True, False, True, True]


def test_workers_share_the_people_out_so_that_none_is_counted_twice(tmp_path: Path) -> None:
    for index in range(3):
        Worker(tmp_path, taking(1.0, index, 3), FakeClock()).decide(*range(30))

    assert read_sample(tmp_path, 1_000).has(FLAG_FIRST_MET).sum() == 30


def test_a_ring_that_cannot_be_made_costs_the_sample_and_nothing_else(tmp_path: Path) -> None:
    FAILED.clear()
    (tmp_path / "file").write_text("in the way")
    worker = Worker(tmp_path / "file", taking(1.0), FakeClock())

    worker.decide(1, 2)

    assert FAILED == ["sample"]


def test_a_row_that_cannot_be_kept_is_counted_and_the_next_one_is_kept(worker: Worker) -> None:
    FAILED.clear()
    worker.decide(1, release="r" * 3_000)
    worker.decide(2)

    assert FAILED == ["sample"]
    assert len(worker.sample()) == 1


def test_a_request_without_a_name_has_no_tag(worker: Worker) -> None:
    worker.decide(1)
    request = AdRequest("", INFO, (), OperatingSystem.IOS, Placement.FEED)
    decision = Decision("", False, ReasonCode.ACCEPTED, (), 60, VERSIONS[Arm.LIVE])
    scores = {"register": 0.25, "trade": 0.125, "click": 0.5}
    scored = [Scored(Candidate(RECORD, 1, 1, 1), 5, Arm.LIVE, scores, 0)]
    worker.clock.second += 1.0

    worker.sampler.take([request], BatchOutcome([decision], scored=scored))

    assert worker.sample().tags[0] == 0


@pytest.mark.slow
def test_a_kept_row_costs_less_than_50_microseconds_and_another_almost_nothing(
    tmp_path: Path,
) -> None:
    cost = {}
    for name, rate in (("all", 1.0), ("some", 1 / 64)):
        worker = Worker(tmp_path / name, taking(rate), FakeClock())
        started = time.perf_counter()
        for second in range(50):
            worker.clock.second = float(second)
            worker.decide(*range(second * MOST_PER_S, (second + 1) * MOST_PER_S))
        cost[name] = (time.perf_counter() - started) / (50 * MOST_PER_S)

    assert cost["all"] - cost["some"] < 50e-6
