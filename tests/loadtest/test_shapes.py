"""The shapes of load: bounded by users and time, and shaped as named."""

import pytest
from hypothesis import given, strategies as st

from loadtest.shapes import SHAPES, Load, ramp, spike, step, users_at

LOADS = st.builds(Load, st.integers(1, 500), st.floats(1, 3_600))


@given(st.sampled_from(sorted(SHAPES)), LOADS, st.floats(0, 0.999))
def test_every_shape_stays_within_its_bounds(name: str, load: Load, part: float) -> None:
    users = users_at(name, load, part * load.seconds)

    assert users is not None
    assert 1 <= users <= load.users


@pytest.mark.parametrize("name", SHAPES)
def test_a_run_ends_by_time(name: str) -> None:
    assert users_at(name, Load(10, 30.0), 30.0) is None


def test_a_ramp_rises_and_then_holds() -> None:
    found = [ramp(Load(60, 90.0), second) for second in (0, 30, 60, 89)]

    assert found == [1, 30, 60, 60]


def test_steps_are_five_equal_levels() -> None:
    found = [step(Load(50, 100.0), second) for second in (0, 19, 20, 45, 99)]

    assert found == [10, 10, 20, 30, 50]


def test_a_spike_is_ten_times_the_rest_for_a_fifth_of_the_run() -> None:
    found = [spike(Load(50, 100.0), second) for second in (0, 39, 40, 59, 60)]

    assert found == [5, 5, 50, 50, 5]
