"""Money is held once, runs out in time, and is asked for by what is needed."""

from hypothesis import given, settings, strategies as st

from rta_service.online.purse import Purse

PIECES = st.lists(st.tuples(st.integers(0, 1_000), st.integers(1, 10)), max_size=8)


@given(PIECES, st.lists(st.tuples(st.integers(1, 400), st.integers(0, 3)), max_size=40))
@settings(max_examples=200, deadline=None)
def test_no_more_is_held_than_was_put_in_and_has_not_run_out(
    pieces: list[tuple[int, int]], asked: list[tuple[int, int]]
) -> None:
    purse, now_s, held = Purse(), 0.0, 0
    for micros, until_s in sorted(pieces, key=lambda piece: piece[1]):
        purse.put(micros, float(until_s))

    for micros, seconds in asked:
        now_s += seconds
        purse.expire(now_s)
        live = sum(piece for piece, until_s in pieces if until_s > now_s)
        assert 0 <= purse.left <= live
        if purse.hold(micros):
            held += micros

    assert held <= sum(piece for piece, _ in pieces)


def test_the_piece_that_runs_out_first_is_held_first() -> None:
    purse = Purse()
    purse.put(100, 1.0)
    purse.put(100, 5.0)

    assert purse.hold(150)
    purse.expire(1.0)

    assert purse.left == 50
    assert not purse.hold(51)
    purse.expire(5.0)
    assert purse.left == 0


def test_enough_is_wanted_for_two_seconds_of_what_was_asked_for_also_in_vain() -> None:
    purse = Purse()
    for _ in range(10):
        purse.hold(30)

    assert purse.wants(1.0, 0.5, least=5) == 1_200
    purse.put(1_000, 6.0)
    assert purse.wants(1.5, 0.5, least=5) < 200


def test_what_runs_out_soon_is_not_counted_on_and_a_quiet_unit_wants_the_least() -> None:
    purse = Purse()
    purse.put(50, 1.5)

    assert purse.wants(1.0, 0.5, least=40) == 40
    assert purse.wants(100.0, 99.0, least=0) == 0
