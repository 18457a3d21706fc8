"""Evidence is the same in whatever order and pieces it came, small, and of one trial only."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.nearline.autopilot.evidence import (
    MAX_SEGMENTS,
    REST,
    SCORE_BINS,
    ArmRecord,
    Evidence,
    Level,
    Moments,
    Split,
)
from rta_service.nearline.autopilot.observing import (
    Observation,
    Outcomes,
    count_people,
    fresh_evidence,
    latency_bins,
    observe,
    score_bins,
    settle,
    time_calls,
)

EMPTY = Evidence("v1", "v2")


def cut(batch: Outcomes, part: slice) -> Outcomes:
    return Outcomes(
        *(np.asarray(getattr(batch, name))[part] for name in Outcomes.__dataclass_fields__)
    )


def numbers(evidence: Evidence) -> np.ndarray:
    found: list[float] = []

    def walk(value: object) -> None:
        if isinstance(value, dict):
            for key in sorted(value):
                walk(value[key])
        elif isinstance(value, list):
            found.extend(map(float, value))
        elif isinstance(value, int | float):
            found.append(value)

    walk(msgspec.to_builtins(evidence))
    return np.array(found)


@given(st.integers(0, 400), st.integers(0, 9))
def test_rows_in_two_pieces_are_the_same_evidence_as_in_one(split: int, seed: int) -> None:
    batch = _a_batch(np.random.default_rng(seed), 400)

    whole = settle(EMPTY, batch)
    first, second = (settle(EMPTY, cut(batch, part)) for part in (slice(split), slice(split, None)))

    assert np.allclose(numbers(first.merge(second)), numbers(whole))
    assert np.allclose(numbers(second.merge(first)), numbers(whole))


def _a_batch(rng: np.random.Generator, rows: int) -> Outcomes:
    live = rng.beta(1.0, 12.0, rows)
    return Outcomes(
        segments=rng.choice(["mature/json", "growth/json"], rows),
        live_scores=live,
        candidate_scores=np.clip(live * rng.lognormal(0.0, 0.2, rows), 0.0, 1.0),
        labels=rng.random(rows) < live,
        is_candidate=rng.random(rows) < 0.1,
        value_micros=np.full(rows, 30e6),
        cost_micros=live * 1e7,
    )


def test_sums_are_those_of_the_rows() -> None:
    batch = _a_batch(np.random.default_rng(3), 2_000)

    evidence = settle(EMPTY, batch)

    arm = batch.is_candidate
    assert evidence.level.rows == 2_000
    assert evidence.level.positives == np.count_nonzero(batch.labels)
    assert evidence.level.candidate == pytest.approx(batch.candidate_scores.sum(), rel=1e-4)
    assert evidence.arm_candidate.matured == np.count_nonzero(arm)
    assert evidence.arm_candidate.promised == pytest.approx(batch.candidate_scores[arm].sum())
    assert evidence.arm_live.promised == pytest.approx(batch.live_scores[~arm].sum())
    surplus = (batch.value_micros * batch.labels - batch.cost_micros)[arm] / 1e6
    assert evidence.arm_candidate.surplus.mean == pytest.approx(surplus.mean())
    error = surplus.std() / len(surplus) ** 0.5
    assert evidence.arm_candidate.surplus.error == pytest.approx(error)
    assert sum(evidence.positive_pairs) + sum(evidence.negative_pairs) == 2_000


def test_scores_that_are_no_probabilities_are_counted_and_left_out() -> None:
    batch = _a_batch(np.random.default_rng(4), 100)
    batch.candidate_scores[:3] = (np.nan, 1.5, -0.1)
    batch.live_scores[3] = np.nan

    evidence = settle(EMPTY, batch)

    assert evidence.unsound == 3
    assert evidence.level.rows == 96


def test_evidence_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="v3 against v1 can't be added to that of v2 against v1"):
        EMPTY.merge(Evidence("v1", "v3"))


def test_kept_evidence_comes_back_for_the_same_versions_only() -> None:
    evidence = settle(EMPTY, _a_batch(np.random.default_rng(5), 500))
    evidence = count_people(evidence, 1_000, Split(999, 1))
    kept = msgspec.json.encode(evidence)

    assert fresh_evidence("v1", "v2", kept) == evidence
    assert fresh_evidence("v1", "v3", kept) == Evidence("v1", "v3")
    assert fresh_evidence("v1", "v2", kept[:-9]) == EMPTY
    assert fresh_evidence("v1", "v2") == EMPTY


def test_evidence_stays_small_however_much_it_has_seen() -> None:
    rng = np.random.default_rng(6)
    evidence = EMPTY
    for number in range(30):
        batch = _a_batch(rng, 300)
        names = [f"segment-{(number * 300 + row) % 500:03}" for row in range(300)]
        evidence = settle(evidence, Outcomes(names, *_columns(batch)))

    assert len(evidence.levels) == MAX_SEGMENTS + 1
    assert sum(level.rows for level in evidence.levels.values()) == 9_000
    assert evidence.levels[REST].rows > 0
    assert len(msgspec.json.encode(evidence)) < 150_000


def _columns(batch: Outcomes) -> list[np.ndarray]:
    return [getattr(batch, name) for name in list(Outcomes.__dataclass_fields__)[1:]]


def test_people_of_one_share_add_up_and_shares_stay_apart() -> None:
    evidence = count_people(count_people(EMPTY, 1_000, Split(999, 1)), 1_000, Split(1_998, 2))
    evidence = count_people(evidence, 10_000, Split(99, 1))

    assert evidence.people == {"1000": Split(2_997, 3), "10000": Split(99, 1)}


def test_sampled_rows_count_scores_and_decisions_by_arm() -> None:
    batch = Observation(
        live_scores=np.array([0.01, 0.02, 0.03]),
        candidate_scores=np.array([0.02, 0.02, 2.0]),
        is_candidate=np.array([False, True, False]),
        participated=np.array([True, False, True]),
        bid_micros=np.array([5.0, 7.0, 1.0]),
        latency_us=np.array([1_000.0, np.nan, 20_000.0]),
    )

    evidence = observe(EMPTY, batch)

    assert (evidence.live_sum, evidence.candidate_sum) == pytest.approx((0.03, 0.04))
    assert evidence.unsound == 1
    assert sum(evidence.live_scores) == 2
    live, candidate = evidence.arm_live, evidence.arm_candidate
    assert (live.decided, live.participated, live.bid_micros, sum(live.latency)) == (2, 2, 6.0, 2)
    assert (candidate.decided, candidate.participated, sum(candidate.latency)) == (1, 0, 0)


def test_timed_calls_are_counted_by_their_ratio() -> None:
    evidence = time_calls(EMPTY, np.array([10.0, 10.0, 10.0]), np.array([10.5, 20.5, 1e9]))

    bins = np.flatnonzero(evidence.time_ratios).tolist()
    assert bins == [32, 40, 63]


def test_columns_of_different_lengths_are_refused() -> None:
    two = np.zeros(2)
    batch = Outcomes(["a"], two, two, two, np.zeros(2, np.bool_), two, two)

    with pytest.raises(ValueError, match=r"one length, not \{'segments': 1, 'live_scores': 2"):
        settle(EMPTY, batch)


@given(st.lists(st.floats(0.0, 1.0), min_size=2))
def test_a_higher_score_never_falls_into_a_lower_bin(scores: list[float]) -> None:
    bins = score_bins(np.sort(np.array(scores)))

    assert (np.diff(bins) >= 0).all()
    assert 0 <= bins[0] <= bins[-1] < SCORE_BINS


def test_times_beyond_the_ends_fall_into_the_outer_bins() -> None:
    assert latency_bins(np.array([0.1, 1.0, 2.0, 1e12])).tolist() == [0, 0, 8, 191]


def test_nothing_seen_has_neither_mean_nor_error() -> None:
    assert (Moments().mean, Moments().error) == (0.0, 0.0)
    assert EMPTY.level == Level()
    assert EMPTY.arm_live == ArmRecord()
