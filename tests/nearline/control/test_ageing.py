"""Sums by age: exact, the same for the same events, and good enough for any function of age."""

import numpy as np
from hypothesis import given, strategies as st

from rta_service.nearline.control.ageing import AgedSums, fading, over_slots, slot

DAY_MS = 86_400_000
happened = st.lists(st.tuples(st.integers(0, 3 * DAY_MS), st.integers(0, 10**12)), max_size=40)


def sums_of(rows: list[tuple[int, int]], looks: list[int]) -> AgedSums:
    """Add some rows before each look."""
    sums = AgedSums(1)
    parts = np.array_split(np.array(rows, np.int64).reshape(-1, 2), len(looks))
    for part, look in zip(parts, looks, strict=True):
        sums.add(part[:, 0], part[:, 1:])
        sums.roll(look)
    return sums


@given(happened, st.lists(st.integers(0, 3 * DAY_MS), min_size=1, max_size=5), st.randoms())
def test_sums_depend_on_the_events_and_the_clock_alone(
    rows: list[tuple[int, int]], looks: list[int], chance: object
) -> None:
    shuffled = sorted(rows, key=lambda row: (row[1] * 2_654_435_761) % 1_009)

    once = sums_of(rows, [max(looks)])
    often = sums_of(shuffled, looks)

    assert once.clock_ms == often.clock_ms
    assert np.array_equal(once.starts, often.starts)
    assert np.array_equal(once.sums, often.sums)


@given(happened, happened, st.integers(0, 3 * DAY_MS))
def test_merged_sums_are_those_of_all_events(
    ours: list[tuple[int, int]], theirs: list[tuple[int, int]], now: int
) -> None:
    both = sums_of(ours, [now]).merged(sums_of(theirs, [now]))
    whole = sums_of(ours + theirs, [now])

    assert np.array_equal(both.starts, whole.starts)
    assert np.array_equal(both.sums, whole.sums)


@given(st.integers(0, 3 * DAY_MS), st.integers(0, 3 * DAY_MS))
def test_a_slot_holds_its_moment_and_is_narrow_for_its_age(at: int, clock: int) -> None:
    starts, widths = slot(np.array([at]), clock)

    assert starts[0] <= at < starts[0] + widths[0]
    assert widths[0] == 15_000 or clock - starts[0] >= 3 * widths[0]


def test_a_day_takes_some_forty_slots() -> None:
    sums = AgedSums(1)
    at = np.arange(0, DAY_MS, 5_000)

    sums.add(at, np.ones((len(at), 1), np.int64))
    sums.roll(DAY_MS)

    assert 24 <= len(sums.starts) <= 48
    assert sums.totals()[0] == len(at)


def test_a_function_of_age_is_summed_within_a_hundredth() -> None:
    at = np.random.default_rng(1).integers(0, DAY_MS, 20_000)
    sums = AgedSums(1)
    sums.add(at, np.ones((len(at), 1), np.int64))
    sums.roll(DAY_MS)
    ages = (DAY_MS - at) / 1_000.0

    for mean_s in (600.0, 3_600.0, 30_000.0):
        plainly = (1.0 - np.exp(-ages / mean_s)).sum()
        slots = over_slots(1.0 - np.exp(-sums.ages() / mean_s))
        assert abs(float(sums.sums[:, 0] @ slots) / plainly - 1.0) < 0.01
    halves = float(sums.sums[:, 0] @ fading(sums.ages(), 3_600.0))
    assert abs(halves / (0.5 ** (ages / 3_600.0)).sum() - 1.0) < 0.01
