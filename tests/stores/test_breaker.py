from hypothesis import given, strategies as st

from rta_service.stores.breaker import Breaker


def an_open_breaker() -> Breaker:
    breaker = Breaker()
    for _ in range(5):
        breaker.failed(0.0)
    return breaker


def test_five_failures_in_a_row_open_it() -> None:
    breaker = Breaker()

    states = []
    for _ in range(5):
        states.append(breaker.is_open)
        breaker.failed(0.0)

    assert states == [False] * 5
    assert breaker.is_open
    assert not breaker.admits(0.2)


def test_a_success_between_failures_starts_the_count_again() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(0.0)

    assert breaker.admits(0.0)


def test_after_the_pause_one_probe_and_only_one_goes_out() -> None:
    breaker = an_open_breaker()

    assert breaker.admits(0.25)
    assert not breaker.admits(0.25)
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.admits(0.25)


def test_each_failed_probe_doubles_the_pause_up_to_two_seconds() -> None:
    breaker = an_open_breaker()
    now_s, pauses = 0.25, []

    for _ in range(6):
        assert breaker.admits(now_s)
        breaker.failed(now_s)
        pauses.append(breaker._open_until_s - now_s)
        now_s = breaker._open_until_s

    assert pauses == [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]


def test_failures_of_reads_from_before_the_opening_do_not_prolong_it() -> None:
    breaker = an_open_breaker()
    breaker.failed(0.2)

    assert breaker.admits(0.25)


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans()), max_size=60))
def test_a_store_that_answers_again_is_read_again_within_two_seconds(
    reads: list[tuple[float, bool]],
) -> None:
    breaker, now_s = Breaker(), 0.0
    for step_s, works in reads:
        now_s += step_s
        if breaker.admits(now_s):
            if works:
                breaker.succeeded()
            else:
                breaker.failed(now_s)

    assert breaker.admits(now_s + 2.0)


def test_reads_that_one_stall_failed_together_count_as_one_failure() -> None:
    breaker = Breaker()

    for number in range(9):
        breaker.failed(0.030 + number / 1000, started_s=0.010 + number / 1000)
    after_one_stall = breaker.is_open
    for number in range(4):
        breaker.failed(0.2 + number, started_s=0.1 + number)

    assert not after_one_stall
    assert breaker.is_open
