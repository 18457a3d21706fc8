import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
import pytest

from rta_service.domain.errors import ModelRefused, StoreUnavailable
from rta_service.domain.release import ModelRef, Release
from rta_service.nearline.autopilot.evidence import Split
from rta_service.releasing.autopilot_run import gather
from rta_service.releasing.shadow_ledger import KEPT_EVERY_S, ShadowLedger, read_pair
from rta_service.releasing.shadowing import (
    RETRY_LOOKS,
    ROWS_A_LOOK,
    ShadowBoard,
    ShadowReport,
    Surroundings,
)
from rta_service.releasing.trials import trials_of
from rta_service.scoring.head import Head
from rta_service.stores.traffic_sample import (
    FLAG_CANARY,
    FLAG_FIRST_MET,
    LineUp,
    SampledRow,
    SampleWriter,
    read_sample,
    ring_path,
)
from rta_service.stores.trial_store import DAY_MS, TrialStore


@dataclass(eq=False)
class Broken:
    """Stands for a head that gives or raises what it is told."""

    inner: Head
    answer: Callable[[np.ndarray], np.ndarray]

    @property
    def manifest(self) -> Any:
        return self.inner.manifest

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        return self.answer(rows) if len(rows) > 1 else self.inner.probabilities(rows)


@dataclass
class Place:
    """A board over a town, with what it showed."""

    town: Any
    shown: list[list[ShadowReport]] = field(default_factory=list)
    broken: dict[str, Callable[[np.ndarray], np.ndarray]] = field(default_factory=dict)
    name: str = "host-1"

    def __post_init__(self) -> None:
        shelf = self.town.shelf
        self.store = TrialStore(shelf.client, shelf.namespace)
        self.ledger = ShadowLedger(lambda: self.store, self.name, self.town.clock)
        self.board = ShadowBoard(self.around(self.load), self.ledger, self.shown.append)

    def around(self, load: Callable[[ModelRef], Any]) -> Surroundings:
        return Surroundings(
            release=self.release,
            load=load,
            sample=lambda limit, after_ms: read_sample(self.town.run_dir, limit, after_ms),
            now_ms=self.town.clock.now_ms,
            cpu_s=time.thread_time,
        )

    def release(self) -> Release | None:
        found: Release | None = self.town.shelf.releases.current()
        return found

    def load(self, ref: ModelRef) -> Any:
        head = self.town.shelf.heads.load(self.town.shelf.models_folder, ref)
        answer = self.broken.get(ref.version)
        return Broken(head, answer) if answer else head

    def look(self) -> list[ShadowReport]:
        self.board.look()
        return self.board.report()

    def kept(self) -> Any:
        """What the store knows after the next writing."""
        self.town.clock.pass_s(KEPT_EVERY_S)
        self.board.look()
        return gather(self.store, trials_of(self.town.release())[0])[0]


@pytest.fixture
def place(town: Any) -> Place:
    return Place(town)


def test_without_a_trial_nothing_is_scored(
    place: Place, sample_rows: Callable[..., list[str]]
) -> None:
    sample_rows(place.town, 50)

    assert place.look() == []
    assert place.town.shelf.heads.reads == 0


def test_a_shadow_is_compared_with_the_live_model_on_the_same_rows(
    place: Place, a_greedy_one: ModelRef, sample_rows: Callable[..., list[str]]
) -> None:
    place.town.shadow(a_greedy_one)
    sample_rows(place.town, 600)

    report = place.look()[0]

    assert (report.name, report.version, report.against) == ("register", "greedy", "v1")
    assert (report.phase, report.rows, report.stopped) == ("shadow", 600, "")
    assert report.drift.mean_ratio == pytest.approx(1.2, abs=0.02)
    assert report.drift.share_over > report.drift.live_share_over
    assert report.us_per_row > 0.0
    assert report.live_us_per_row > 0.0
    assert place.shown[-1] == [report]


def test_each_row_is_scored_once(
    place: Place, a_good_one: ModelRef, sample_rows: Callable[..., list[str]]
) -> None:
    place.town.shadow(a_good_one)
    for turn in range(3):
        sample_rows(place.town, 100, seed=turn + 1)
        place.look()

    assert place.look()[0].rows == 300
    assert sum(place.kept().live_scores) == 300


def test_a_look_takes_the_newest_rows_and_leaves_the_others_out(
    place: Place, a_good_one: ModelRef, sample_rows: Callable[..., list[str]]
) -> None:
    place.town.shadow(a_good_one)
    sample_rows(place.town, ROWS_A_LOOK + 500)

    assert place.look()[0].rows == ROWS_A_LOOK


def test_after_a_restart_no_row_is_counted_twice(
    place: Place, a_good_one: ModelRef, sample_rows: Callable[..., list[str]]
) -> None:
    place.town.shadow(a_good_one)
    sample_rows(place.town, 100)
    place.look()
    before = place.kept()

    again = Place(place.town)
    again.look()
    sample_rows(place.town, 30, seed=2)

    again.look()
    assert sum(again.kept().live_scores) == sum(before.live_scores) + 30


def test_every_host_adds_what_it_saw(
    place: Place, a_good_one: ModelRef, sample_rows: Callable[..., list[str]]
) -> None:
    place.town.shadow(a_good_one)
    sample_rows(place.town, 100)
    other = Place(place.town, name="host-2")
    place.look()
    other.look()
    place.kept()

    assert sum(other.kept().live_scores) == 200


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(lambda rows: np.full(len(rows), np.nan), "gave nan", id="nan"),
        pytest.param(lambda rows: np.full(len(rows), 1.5), "gave 1.5", id="beyond 1"),
        pytest.param(lambda rows: np.zeros(1), r"gave \(1,\) scores", id="too few"),
        pytest.param(lambda rows: rows[:, 99], "IndexError", id="raises"),
    ],
)
def test_a_broken_candidate_is_stopped_and_harms_nobody(
    place: Place,
    a_good_one: ModelRef,
    answer: Callable[[np.ndarray], np.ndarray],
    reason: str,
    sample_rows: Callable[..., list[str]],
) -> None:
    healthy = place.town.publish("trade", "v2")
    place.broken["good"] = answer
    place.town.shadow(a_good_one, healthy)
    sample_rows(place.town, 600)

    broken, other = place.look()

    assert re.search(reason, broken.stopped)
    assert (broken.rows, other.rows, other.stopped) == (0, 600, "")


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda rows: np.full(len(rows), np.nan), id="nan"),
        pytest.param(lambda rows: rows[:, 99], id="raises"),
    ],
)
def test_a_candidate_that_gives_nonsense_is_told_to_the_autopilot(
    place: Place,
    a_good_one: ModelRef,
    answer: Callable[[np.ndarray], np.ndarray],
    sample_rows: Callable[..., list[str]],
) -> None:
    place.broken["good"] = answer
    place.town.shadow(a_good_one)
    sample_rows(place.town, 20)
    place.look()

    assert place.kept().unsound == 20


def test_a_model_that_cannot_be_loaded_is_tried_again(
    place: Place, a_good_one: ModelRef, sample_rows: Callable[..., list[str]]
) -> None:
    tries = 0
    inner = place.load

    def load(ref: ModelRef) -> Any:
        nonlocal tries
        tries += ref.version == "good"
        if ref.version == "good" and tries == 1:
            raise ModelRefused("its file is not here yet")
        return inner(ref)

    board = ShadowBoard(place.around(load), place.ledger, place.shown.append)
    place.town.shadow(a_good_one)
    sample_rows(place.town, 10)

    board.look()
    assert "its file is not here yet" in board.report()[0].stopped
    for _ in range(RETRY_LOOKS):
        board.look()
    assert tries == 1
    board.look()
    sample_rows(place.town, 10, seed=2)
    board.look()

    assert (board.report()[0].rows, board.report()[0].stopped) == (10, "")


def test_a_trial_that_ended_is_forgotten(
    place: Place, a_good_one: ModelRef, sample_rows: Callable[..., list[str]]
) -> None:
    place.town.shadow(a_good_one)
    sample_rows(place.town, 10)
    place.look()

    place.town.move(msgspec.structs.replace(place.town.release(), shadow=()))

    assert place.look() == []


def test_what_was_seen_in_shadow_counts_for_the_canary_too(
    place: Place, a_good_one: ModelRef, sample_rows: Callable[..., list[str]]
) -> None:
    place.town.shadow(a_good_one)
    sample_rows(place.town, 40)
    place.look()
    place.town.canary(1_000, a_good_one)
    sample_rows(place.town, 60, seed=2)

    report = place.look()[0]

    assert (report.phase, report.rows) == ("canary", 60)
    assert sum(place.kept().live_scores) == 100


def test_people_of_both_arms_are_counted_once_and_by_their_share(
    place: Place, a_good_one: ModelRef
) -> None:
    place.town.shadow(a_good_one)
    release = place.town.canary(250_000, a_good_one)
    line_ups = [LineUp(release.release_id, (("register", version),)) for version in ("v1", "good")]
    with SampleWriter(ring_path(place.town.run_dir, "decision-0")) as writer:
        for row in range(80):
            arm = row % 4 == 0
            flags = FLAG_CANARY * arm | FLAG_FIRST_MET * (row < 40)
            writer.add(
                SampledRow(
                    place.town.clock.now_ms() + row,
                    0,
                    bytes(64),
                    1,
                    1,
                    1,
                    5,
                    flags,
                    700,
                    line_ups[arm],
                    (0.1,),
                )
            )
    place.town.clock.at_ms += 100
    place.look()

    evidence = place.kept()

    assert evidence.people == {"250000": Split(30, 10)}
    assert (evidence.arm_live.decided, evidence.arm_candidate.decided) == (60, 20)


def test_both_scores_of_a_sampled_request_can_be_found_by_its_name(
    place: Place, a_greedy_one: ModelRef, sample_rows: Callable[..., list[str]], keys: Any
) -> None:
    place.town.shadow(a_greedy_one)
    names = sample_rows(place.town, 30)
    place.look()
    place.kept()

    tag = keys.request_tag("json", names[7])
    kept = place.store.pairs([(tag, place.town.clock.now_ms() // DAY_MS)])[tag]
    pair = read_pair(kept, trials_of(place.town.release())[0])

    assert pair is not None
    assert pair.candidate == pytest.approx(min(pair.live * 1.2, 0.999), rel=1e-3)
    assert (pair.is_candidate, pair.segment) == (False, "churned/json")
    assert read_pair(kept[:-1], trials_of(place.town.release())[0]) is None
    other = trials_of(place.town.release())[0]._replace(live=a_greedy_one)
    assert read_pair(kept, other) is None


def test_while_the_store_is_away_scoring_goes_on(
    place: Place, a_good_one: ModelRef, sample_rows: Callable[..., list[str]]
) -> None:
    def away() -> TrialStore:
        raise StoreUnavailable("gone")

    place.town.shadow(a_good_one)
    sample_rows(place.town, 20)
    ledger = ShadowLedger(away, "host-1", place.town.clock)
    board = ShadowBoard(place.around(place.load), ledger, place.shown.append)

    board.look()
    place.town.clock.pass_s(KEPT_EVERY_S)
    board.look()

    assert board.report()[0].rows == 20
